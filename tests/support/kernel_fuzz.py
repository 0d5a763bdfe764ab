"""Changed graphs, each read and run by the kernels, under the sanitizers that the library was built with:
``python -m tests.support.kernel_fuzz LIBRARY SEED FIRST COUNT SECONDS``.

Two lines of JSON for each graph: what was changed, and what became of it, ``refused`` or ``ran``. Where the second is
missing this process ended there. Arrays that the kernels read are copied to memory that ends where they end, or nobody
would see them read beyond.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from playground.kernels.building import Built
from playground.kernels.library import Library
from playground.runtimes.generation.engine import EngineError
from playground.runtimes.native import constants
from playground.runtimes.native import engine as kernel_engine
from playground.runtimes.native.lowering import read_program
from playground.runtimes.native.program import NotForKernels
from tests.support import graph_mutations, kernel_graphs

GRAPH_S = 20
BEYOND = "activations became infinite or no numbers"


def main(arguments: list[str]) -> int:
    built, seed = Built.of(Path(arguments[0])), arguments[1]
    first, count, until = int(arguments[2]), int(arguments[3]), time.monotonic() + float(arguments[4])
    read_exactly()
    library = Library(built)
    bases = [(beside, make()) for make in kernel_graphs.GRAPHS.values() for beside in (False, True)]
    for number in range(first, first + count):
        if time.monotonic() > until:
            break
        with tempfile.TemporaryDirectory() as place:
            one(library, bases, f"{seed}-{number}", Path(place))
    return 0


def read_exactly() -> None:
    """Give what is read and not made here a bound that the sanitizer knows."""
    memory = ctypes.CDLL(None)
    memory.aligned_alloc.restype = ctypes.c_void_p
    memory.aligned_alloc.argtypes = [ctypes.c_size_t, ctypes.c_size_t]

    def pages(size: int) -> Any:
        address = memory.aligned_alloc(64, max(64, size))
        if not address:
            raise MemoryError
        return np.frombuffer((ctypes.c_uint8 * size).from_address(address), np.uint8)

    mapped = constants.Constants.array

    def array(self: Any, name: str, wanted: type | None = None) -> Any:
        return mapped(self, name, wanted).copy()

    kernel_engine.large_pages = pages  # type: ignore[assignment]
    constants.Constants.array = array  # type: ignore[method-assign]


def one(library: Library, bases: list[tuple[bool, Any]], name: str, place: Path) -> None:
    """One graph: the first few of a seed are right ones, the others changed."""
    draw = random.Random(name)
    number = int(name.rpartition("-")[2])
    beside, base = bases[number % len(bases)]
    model = type(base)()
    model.CopyFrom(base)
    kernel_graphs.write(model, place, beside=beside)
    changed = graph_mutations.mutate(model, draw) if number >= len(bases) else []
    (place / "model.onnx").write_bytes(model.SerializeToString())
    print(json.dumps({"name": name, "changed": changed}), flush=True)
    signal.alarm(GRAPH_S)
    why = run(library, place / "model.onnx", draw, bool(changed))
    signal.alarm(0)
    print(json.dumps({"name": name, "outcome": "refused" if why else "ran", "why": why}), flush=True)


def run(library: Library, path: Path, draw: random.Random, changed: bool) -> str:
    """Read and run the graph at ``path``; why it was refused, or nothing. Whatever else it raises is a fault.

    Args:
        changed: What such a graph computes may be beyond what floats hold, which ends that text and no more.
    """
    try:
        program = read_program(path)
        engine = kernel_engine.KernelEngine(library, program, 2, False)
    except (NotForKernels, MemoryError, FileNotFoundError) as error:
        return str(error) or type(error).__name__
    except ValueError as error:  # said by the library, which alone sees all weights
        if "around the middle" not in str(error):
            raise
        return str(error)
    longest = program.longest or 300
    for parts, steps in (((1,), 1), ((7, 66), 2), ((130, 5), 3), ((longest - 2,), 2)):
        if min(parts) < 1 or sum(parts) + steps > longest:
            continue
        engine.reset(sum(parts) + steps)
        try:
            for part in parts:
                engine.prefill([draw.randrange(program.tokens) for _ in range(part)])
            for _ in range(steps):
                engine.step(draw.randrange(program.tokens)).copy()
        except EngineError as error:
            if not changed or BEYOND not in str(error):
                raise
    engine.reset(longest)
    with contextlib.suppress(RuntimeError):  # there is no room for one more
        engine.prefill([0] * (longest + 1))
    engine.close()
    return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
