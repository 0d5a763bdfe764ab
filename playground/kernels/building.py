"""Compiles the kernels for this processor: which instruction set, by which compiler, and whether the result is right.

One translation unit, two seconds, no library but C's own. What was compiled is run on numbers whose result is known,
in a process of its own, before anybody uses it: compilers have bugs, and a crash must cost nobody an answer. Where
there is no compiler, or no instruction set the kernels are written for, ONNX Runtime's operators do the work.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from playground.paths import ROOT

SOURCE = Path(__file__).with_name("source")
UNIT = "program.c"
LIBRARY = "kernels.so"
"""The library's name beside the graph it was made for."""

OFF = "PLAYGROUND_KERNELS"
"""Set to ``off``, this variable leaves everything to ONNX Runtime."""

OPTIONS = ("-O3", "-std=gnu11", "-shared", "-fPIC", "-pthread", "-ffp-contract=off", "-fno-math-errno")
"""Sums are fused only where the source says so: one token must give the same bits alone and in company."""

LEVELS: Mapping[str, tuple[frozenset[str], tuple[str, ...]]] = {
    "avx512_vnni": (
        frozenset(("avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512_vnni")),
        ("-mavx2", "-mfma", "-mf16c", "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512vnni"),
    ),
    "avx2_vnni": (
        frozenset(("avx2", "fma", "f16c", "avx_vnni")),
        ("-mavx2", "-mfma", "-mf16c", "-mavxvnni"),
    ),
    "avx2": (frozenset(("avx2", "fma", "f16c")), ("-mavx2", "-mfma", "-mf16c")),
}
"""Instruction sets from the best: what /proc/cpuinfo must name, and how a compiler is told."""

COMPILE_S, CHECK_S = 120, 60


class KernelsUnavailable(RuntimeError):
    """The kernels can't be used here; the message says why."""


@dataclass(frozen=True)
class Built:
    """A library that we compiled. Nothing is executed by its name alone: what is loaded are bytes with this checksum.

    Attributes:
        path: Where it lies.
        sha256: Of what the compiler wrote, in hexadecimal.
    """

    path: Path
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Built:
        """What lies at ``path`` now: only for what this process has just compiled."""
        return cls(path, hashlib.sha256(path.read_bytes()).hexdigest())


@functools.cache
def level(cpuinfo: Path = Path("/proc/cpuinfo")) -> str | None:
    """The best instruction set this processor has of those the kernels know."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    flags = next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), set())
    return next((name for name, (wanted, _) in LEVELS.items() if wanted <= flags), None)


@functools.cache
def compiler() -> tuple[str, ...] | None:
    """The command of a C compiler: ``CC``, the system's, or the one that the package ziglang brings."""
    named = os.environ.get("CC", "").split()
    for command in (named, ["cc"], ["gcc"], ["clang"]):
        if command and (found := shutil.which(command[0])):
            return (found, *command[1:])
    if _has_zig():
        return (sys.executable, "-m", "ziglang", "cc")
    return None


def _has_zig() -> bool:
    from importlib.util import find_spec

    return find_spec("ziglang") is not None


def obstacle() -> str | None:
    """Why the kernels can't be used here, as far as that is known without compiling; None where they can."""
    if os.environ.get(OFF, "").lower() == "off":
        return f"{OFF} is off"
    if platform.system() != "Linux" or level() is None:
        return "there are none for this processor and system"
    if compiler() is None:
        return "there is no C compiler (install gcc or clang, or: pip install ziglang)"
    return None


@functools.cache
def identity() -> str:
    """What an artifact checked with the kernels depends on: their source and the instruction set; or ``none``."""
    if obstacle():
        return "none"
    digest = hashlib.sha256(" ".join(OPTIONS).encode())
    for path in sorted(SOURCE.iterdir()):
        digest.update(path.read_bytes())
    return f"{level()}-{digest.hexdigest()[:12]}"


def build(folder: Path, isa: str | None = None) -> Built:
    """Compile into ``folder`` and try the result out. Whatever had the library's name there is gone.

    Args:
        isa: A key of ``LEVELS``; the processor's best if None.

    Raises:
        KernelsUnavailable: There is no compiler, it failed, or what it made does not compute what it should.
        OSError: The disk.
    """
    if reason := obstacle():
        raise KernelsUnavailable(reason)
    command = compiler()
    assert command is not None
    target = folder / LIBRARY
    target.unlink(missing_ok=True)  # a compiler may write through a link to somebody else's file
    arguments = [*OPTIONS, *LEVELS[isa or level() or "avx2"][1], str(SOURCE / UNIT), "-o", str(target), "-lm"]
    said = _run([*command, *arguments], COMPILE_S, f"{Path(command[0]).name} failed")
    if not target.is_file():
        raise KernelsUnavailable(f"{Path(command[0]).name} made no library ({said or 'it said nothing'})")
    built = Built.of(target)
    trial = [sys.executable, "-P", "-m", "playground.kernels.trial", str(built.path), built.sha256]
    try:
        _run(trial, CHECK_S, "the trial failed")
    except KernelsUnavailable:
        target.unlink(missing_ok=True)
        raise
    return built


def _run(command: list[str], seconds: float, what: str) -> str:
    """The last line it said.

    Raises:
        KernelsUnavailable: It ended otherwise than well.
    """
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False, env=env)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KernelsUnavailable(f"{what} ({type(error).__name__})") from error
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    said = next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "")
    if done.returncode:
        said = said.replace(str(SOURCE), "source")[-200:]
        raise KernelsUnavailable(f"{what} (exit code {done.returncode}{': ' + said if said else ''})")
    return said
