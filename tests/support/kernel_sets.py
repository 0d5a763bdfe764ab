"""The instruction sets of the kernels that this processor can run, and the kernels compiled for one of them."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from playground.kernels import building

EMULATED = ("-mavx2", "-mfma", "-mf16c", "-mavx512f", "-mavx512vl", "-mavx512vnni")
"""Processors with AVX-512 VNNI can run the code for AVX-VNNI: its products mean the same and are spelt otherwise."""

SANITIZED = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
ENVIRONMENT = {
    "ASAN_OPTIONS": "detect_leaks=0:exitcode=99:allocator_may_return_null=1:max_allocation_size_mb=2000",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "PYTHONMALLOC": "malloc",
    "OMP_NUM_THREADS": "1",
}

needs_compiler = pytest.mark.skipif(building.compiler() is None, reason="there is no C compiler")


def flags(isa: str) -> tuple[str, ...] | None:
    """What a compiler is told for ``isa``; None where this processor can't run it."""
    has = building.runnable()
    if isa in has:
        return building.LEVELS[isa][1]
    return EMULATED if isa == "avx2_vnni" and "avx512_vnni" in has else None


def sets() -> list[str]:
    return [isa for isa in building.LEVELS if flags(isa) is not None]


def compile_c(isa: str, options: Sequence[str], unit: Path, target: Path) -> Path:
    """``unit`` for ``isa``; ``options`` overrule what the compiler is told for that."""
    compiler, more = building.compiler(), flags(isa)
    assert compiler is not None and more is not None
    command = [*compiler, *more, *options, "-I", str(building.SOURCE), str(unit), "-o", str(target), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return target


def compile_library(isa: str, folder: Path) -> building.Built:
    """The library as it is made for use."""
    unit = building.SOURCE / building.UNIT
    return building.Built.of(compile_c(isa, [*building.OPTIONS, *(flags(isa) or ())], unit, folder / building.LIBRARY))


def compile_sanitized(isa: str, folder: Path) -> tuple[Path, str]:
    """The library with assertions and sanitizers, and what has to be loaded before Python for them."""
    preload = ":".join(_runtimes(building.compiler() or ()))
    options = [each for each in building.OPTIONS if not each.startswith("-O") and each != "-DNDEBUG"]
    unit = building.SOURCE / building.UNIT
    return compile_c(isa, [*SANITIZED, *options], unit, folder / building.LIBRARY), preload


def _runtimes(compiler: tuple[str, ...]) -> list[str]:
    """The sanitizers' own libraries, which have to be loaded before all others."""
    found = []
    for name in ("libasan.so", "libubsan.so"):
        said = subprocess.run([*compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=False)
        path = Path(said.stdout.strip())
        if said.returncode or not path.is_absolute() or not path.is_file():
            pytest.skip(f"{Path(compiler[0]).name} has no {name}")
        found.append(str(path))
    return found
