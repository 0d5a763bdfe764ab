"""Changed graphs under address and undefined-behaviour sanitizers: each is refused, or does no harm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from playground.kernels import building
from playground.paths import ROOT

SEED, COUNT, SECONDS = 7, 600, 30
"""With this seed the first 600 hold, and found, every fault that these kernels and their reader have had: windows
beyond 31 bits, rounding kept by a name, a product of -1 rows, splits below nothing, and some nobody had reported."""

AT_LEAST = 25
"""Graphs that must have been tried when time is up, on the slowest and busiest of machines."""

SANITIZED = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
ENVIRONMENT = {
    "ASAN_OPTIONS": "detect_leaks=0:exitcode=99:allocator_may_return_null=1:max_allocation_size_mb=2000",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "PYTHONMALLOC": "malloc",
    "OMP_NUM_THREADS": "1",
}

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(building.obstacle() is not None, reason=building.obstacle() or ""),
]


def runtimes(compiler: tuple[str, ...]) -> list[str]:
    """The sanitizers' own libraries, which have to be loaded before all others."""
    found = []
    for name in ("libasan.so", "libubsan.so"):
        said = subprocess.run([*compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=False)
        path = Path(said.stdout.strip())
        if said.returncode or not path.is_absolute() or not path.is_file():
            pytest.skip(f"{Path(compiler[0]).name} has no {name}")
        found.append(str(path))
    return found


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The kernels with sanitizers, and what has to be loaded before Python for them."""
    compiler, level = building.compiler(), building.level()
    assert compiler is not None and level is not None
    preload = runtimes(compiler)
    target = tmp_path_factory.mktemp("sanitized") / building.LIBRARY
    options = [each for each in building.OPTIONS if not each.startswith("-O")]
    unit = str(building.SOURCE / building.UNIT)
    command = [*compiler, *SANITIZED, *options, *building.LEVELS[level][1], unit, "-o", str(target), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return target, ":".join(preload)


def test_a_changed_graph_is_refused_or_does_no_harm(sanitized: tuple[Path, str]) -> None:
    library, preload = sanitized
    command = [
        sys.executable,
        "-P",
        "-m",
        "tests.support.kernel_fuzz",
        str(library),
        str(SEED),
        "0",
        str(COUNT),
        str(SECONDS),
    ]
    environment = {**os.environ, **ENVIRONMENT, "LD_PRELOAD": preload, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=240, check=False, cwd=ROOT, env=environment, errors="replace"
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    last = lines[-1] if lines else {}
    assert done.returncode == 0, f"{last}\n{done.stderr[-4000:]}"
    outcomes = Counter(line["outcome"] for line in lines if "outcome" in line)
    assert outcomes.total() >= AT_LEAST
    assert outcomes["refused"] and outcomes["ran"] >= 4, "right graphs run"


def test_the_sanitizers_see_what_the_kernels_do(sanitized: tuple[Path, str]) -> None:
    """Activations of fewer columns than the matrix has: without a report nothing here would mean anything."""
    library, preload = sanitized
    code = f"""
import numpy as np
from pathlib import Path
from playground.kernels.building import Built
from playground.kernels.library import BLOCK, Library, Weights, large_pages
library = Library(Built.of(Path({str(library)!r})))
stored = Weights(8, np.full((32, 4, BLOCK), 128, np.uint8), np.ones((32, 4), np.float32), None)
panels = large_pages(stored.packed_bytes)
matrix = library.pack(stored, panels)
library.product(matrix, np.ones((3, 4 * BLOCK), np.float32))
print("right", flush=True)
library.product(matrix, np.ones((3, 1), np.float32))
"""
    environment = {**os.environ, **ENVIRONMENT, "LD_PRELOAD": preload, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False, env=environment
    )
    assert "right" in done.stdout
    assert done.returncode == 99
    assert "AddressSanitizer" in done.stderr
