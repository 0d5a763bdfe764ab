"""NEON under an emulator gives the bits of this processor's plain C: every operation, and whole graphs.

zig compiles for ARM, qemu runs what it made: programs without a Python. Whole graphs are therefore read and laid out
here, and handed over as a file. An emulator says nothing of speed, and keeps this processor's order of memory.
"""

from __future__ import annotations

import ctypes
import shutil
import struct
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from playground.kernels import building
from playground.kernels.layout import Op, Room
from playground.runtimes.native.engine import CACHE_GROWTH, KernelEngine, open_kernels
from playground.runtimes.native.lowering import read_program
from tests.support import kernel_graphs, kernel_sets

QEMU = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.parallel,
    pytest.mark.xdist_group("neon"),
    pytest.mark.timeout(900),  # the first time zig compiles a C library
    kernel_sets.needs_compiler,
    pytest.mark.skipif(QEMU is None, reason="qemu-user is not installed"),
    pytest.mark.skipif(find_spec("ziglang") is None, reason="ziglang is not installed"),
]

HERE = Path(__file__).parent
OPTIONS = [each for each in building.OPTIONS if each not in ("-O3", "-shared", "-fPIC", "-DNDEBUG")] + ["-O1"]
SETS = ("neon", "scalar")
PARTS = (1, 2, 66, 111, *(1,) * 20)


def emulated(isa: str, unit: Path, folder: Path, given: bytes = b"") -> bytes:
    """What ``unit``, compiled for ARM with ``isa``, writes."""
    program = folder / f"{unit.stem}-{isa}"
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-linux-musl", "-static"]
    command += [*building.LEVELS[isa][1], *OPTIONS, "-I", str(building.SOURCE), str(unit), "-o", str(program), "-lm"]
    if not program.exists():
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
    assert QEMU is not None
    ran = subprocess.run([QEMU, "-cpu", "max", str(program)], input=given, capture_output=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    return ran.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("emulated")


@pytest.mark.parametrize("isa", SETS)
def test_each_operation_gives_the_bits_of_plain_c_here(isa: str, folder: Path) -> None:
    here = kernel_sets.compile_c("scalar", OPTIONS, HERE / "sets.c", folder / "here")
    expected = subprocess.run([str(here)], check=True, capture_output=True, text=True).stdout.splitlines()
    found = emulated(isa, HERE / "sets.c", folder).decode().splitlines()
    assert found[0].split()[0] == isa
    assert len(expected) > 20
    assert found[1:] == expected[1:]


@pytest.mark.parametrize("graph", list(kernel_graphs.GRAPHS))
def test_whole_graphs_give_the_bits_they_give_here(graph: str, folder: Path, tmp_path: Path) -> None:
    path = kernel_graphs.write(kernel_graphs.GRAPHS[graph](), tmp_path) / "model.onnx"
    ids = [(7919 * place + 13) % kernel_graphs.VOCAB for place in range(sum(PARTS))]
    # Weights are signed with NEON and in plain C, with VNNI they are not.
    plain = open_kernels(kernel_sets.compile_library("scalar", tmp_path), read_program(path), 2)
    written = plan_of(plain, ids)
    plain.close()
    engine = open_kernels(kernel_sets.compile_library(kernel_sets.sets()[0], tmp_path), read_program(path), 2)
    engine.reset(len(ids))
    expected, start = b"", 0
    for count in PARTS:
        expected += engine.prefill(ids[start : start + count]).tobytes()
        start += count
    engine.close()
    assert emulated("neon", HERE / "emulated.c", folder, written) == expected


def plan_of(engine: KernelEngine, ids: list[int]) -> bytes:
    """The plan of ``engine``, the constants it reads and a text, as emulated.c has them."""
    engine._wait()
    program, plan = engine._program, engine._plan
    body = bytearray()

    def put(content: Any) -> int:
        body.extend(bytes(-len(body) % 64))
        place = len(body)
        body.extend(memoryview(content).cast("B"))
        return place

    ops = (Op * len(program.steps)).from_buffer_copy(engine._ops)
    for op, step in zip(ops, program.steps, strict=True):
        for place, tensor in enumerate(step.tensors):
            op.data[place] = None if tensor is None else put(tensor.copy(order="C").reshape(-1)) + 1
        if step.weights is not None:
            panels = (ctypes.c_uint8 * step.weights.packed_bytes).from_address(op.matrix.panels)
            op.matrix.panels = put(panels) + 1
    assert program.logits is not None
    shapes = [number for each in program.layers for number in (each.kv_heads, each.size)]
    places = [
        put(ops),
        put((Room * plan.places).from_buffer_copy(engine._rooms)),
        put(struct.pack(f"<{len(shapes)}i", *shapes)),
        put(struct.pack(f"<{len(ids)}q", *ids)),
        put(struct.pack(f"<{len(PARTS)}i", *PARTS)),
    ]
    numbers = [plan.ops, plan.threads, plan.places, plan.layers, plan.tokens, plan.blocks, engine._head]
    numbers += [max(each.heads for each in program.layers), -(-len(ids) // CACHE_GROWTH) * CACHE_GROWTH]
    numbers += [engine._places[program.logits.buffer], program.logits.offset, program.vocab, len(PARTS)]
    header = struct.pack(f"<6q{len(numbers)}i", len(body), *places, *numbers)
    return header + bytes(-len(header) % 8) + bytes(body)
