"""Changed graphs under assertions and sanitizers (addresses, undefined behaviour): each is refused, or does no harm."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from playground.paths import ROOT
from tests.support import kernel_sets

SEED, COUNT, SECONDS = 7, 600, 30
"""With this seed the first 600 hold, and found, every fault that these kernels and their reader have had: windows
beyond 31 bits, rounding kept by a name, a product of -1 rows, splits below nothing, and some nobody had reported."""

AT_LEAST = 25
"""Graphs that must have been tried when time is up, on the slowest and busiest of machines."""

EVERY_SET = os.environ.get("KERNEL_TESTS") == "every set"
"""Whether each instruction set that this processor can run is tried (minutes of compiling), or the best alone."""

pytestmark = [
    pytest.mark.integration,
    pytest.mark.parallel,
    pytest.mark.xdist_group("sanitized"),
    kernel_sets.needs_compiler,
]


def tried() -> list[str]:
    found = kernel_sets.sets()
    return found if EVERY_SET else found[:1]


@pytest.fixture(scope="module", params=tried())
def sanitized(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The kernels with assertions and sanitizers, and what has to be loaded before Python for them."""
    return kernel_sets.compile_sanitized(request.param, tmp_path_factory.mktemp("sanitized"))


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
    environment = {**os.environ, **kernel_sets.ENVIRONMENT, "LD_PRELOAD": preload, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=240, check=False, cwd=ROOT, env=environment, errors="replace"
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    last = lines[-1] if lines else {}
    assert done.returncode == 0, f"{last}\n{done.stderr[-4000:]}"
    outcomes = Counter(line["outcome"] for line in lines if "outcome" in line)
    assert outcomes.total() >= AT_LEAST
    assert outcomes["refused"] and outcomes["ran"] >= 4, "right graphs run"


@pytest.mark.parametrize(
    ("wrong", "code_", "said"),
    [
        ("np.lib.stride_tricks.as_strided(np.ones(4, np.float32), (3, 4 * BLOCK))", 99, "AddressSanitizer"),
        ("np.ones((3, 1), np.float32)", -signal.SIGABRT, "Assertion"),
    ],
    ids=["fewer numbers than there should be", "fewer columns than the matrix has"],
)
def test_sanitizers_and_assertions_see_what_the_kernels_do(
    wrong: str, code_: int, said: str, sanitized: tuple[Path, str]
) -> None:
    """Without a report nothing here would mean anything."""
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
library.product(matrix, {wrong})
"""
    environment = {**os.environ, **kernel_sets.ENVIRONMENT, "LD_PRELOAD": preload, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False, env=environment
    )
    assert "right" in done.stdout
    assert (done.returncode, said in done.stderr) == (code_, True), done.stderr[-2000:]


@pytest.mark.parametrize("isa", tried())
def test_each_operation_stays_within_its_memory_and_within_what_c_defines(isa: str, tmp_path: Path) -> None:
    driver = Path(__file__).with_name("sets.c")
    options = [*kernel_sets.SANITIZED, "-std=gnu11", "-pthread", "-ffp-contract=off"]
    program = kernel_sets.compile_c(isa, options, driver, tmp_path / "driver")
    done = subprocess.run(
        [str(program)], capture_output=True, text=True, check=False, env={**os.environ, **kernel_sets.ENVIRONMENT}
    )
    assert (done.returncode, done.stderr) == (0, "")
