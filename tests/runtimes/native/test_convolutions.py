"""Short convolutions: by the kernels they are what ONNX Runtime computes of the same graph, however the tokens come in
and wherever a text is gone back to, and what does not fit together is refused.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from playground.kernels import building
from playground.kernels.layout import Kind
from playground.kernels.library import Library
from playground.runtimes.generation.prefix_cache import PrefixCache
from playground.runtimes.native import cache as cache_module
from playground.runtimes.native.checks import check
from playground.runtimes.native.engine import KernelEngine, open_kernels
from playground.runtimes.native.lowering import read_program
from playground.runtimes.native.program import Convolution, NotForKernels, Program
from playground.runtimes.onnx.runtime import open_engine
from tests.support import kernel_graphs, kernel_sets
from tests.support.kernel_runs import IDS, divergence, logits, nodes_of, out_of_step, read, set_attribute, set_constant

pytestmark = [
    pytest.mark.integration,
    pytest.mark.parallel,
    pytest.mark.xdist_group("convolutions"),
    kernel_sets.needs_compiler,
]

Array = NDArray[Any]
Change = Callable[[Any], None]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> building.Built:
    """The kernels with a thread that can be made late, and a meeting that can be left out."""
    right = "row < to && row < rows; row++) keep_input(op, r, row);\n                if (r->working > 1)"
    late = right.replace("keep_input", "usleep(pg_late && !thread ? 300 : 0), keep_input").replace(
        "> 1", "> 1 && !pg_apart"
    )
    return out_of_step(tmp_path_factory.mktemp("library"), {right: late})


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kernel_graphs.write(kernel_graphs.convolutions(), tmp_path_factory.mktemp("graph")) / "model.onnx"


@pytest.fixture(scope="module")
def expected(graph: Path) -> Array:
    engine = open_engine(graph.parent, 1)
    assert engine.name == "onnxruntime"
    return logits(engine, [90])


@pytest.fixture(scope="module")
def ours(graph: Path, library: building.Built) -> Array:
    return logits(open_kernels(library, read_program(graph), 2), [90])


def test_logits_are_onnxruntimes_on_the_same_graph(expected: Array, ours: Array) -> None:
    assert divergence(expected, ours) < 0.002


@pytest.mark.parametrize(("parts", "threads"), [([1] * 90, 1), ([64, 26], 3), ([7] * 12 + [6], 2), ([2, 1, 87], 4)])
def test_the_bits_are_the_same_however_a_prompt_is_cut_and_by_any_threads(
    parts: list[int], threads: int, graph: Path, library: building.Built, ours: Array
) -> None:
    assert np.array_equal(ours, logits(open_kernels(library, read_program(graph), threads), parts))


def test_rows_of_many_positions_are_those_of_one_after_the_other(
    graph: Path, library: building.Built, ours: Array
) -> None:
    engine = open_kernels(library, read_program(graph), 2)
    engine.reset(len(IDS))
    rows = np.stack([row.copy() for row in engine.rows(IDS, 71)])
    engine.close()
    assert np.array_equal(rows, ours)


@pytest.mark.parametrize("kept", [1, 2, 3, 40, 100])
def test_a_text_can_be_gone_back_in_and_its_cache_may_grow(
    kept: int, graph: Path, library: building.Built, ours: Array
) -> None:
    engine = open_kernels(library, read_program(graph), 2)
    read(engine, [90])
    assert engine.rewind(kept, 150)
    engine.prefill(IDS[60:100])  # another text behind what is kept
    assert engine.rewind(kept, 300)  # more than there was room for
    row = engine.prefill(IDS[kept:120])
    assert np.array_equal(row, ours[120 - 90])
    assert np.array_equal(engine.step(IDS[120]), ours[121 - 90])
    engine.close()


def test_what_lies_well_before_is_given_back_and_then_can_not_be_gone_back_to(
    graph: Path, library: building.Built, ours: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "BEHIND", 0)
    monkeypatch.setattr(cache_module, "STRIDE", 16)
    engine = open_kernels(library, read_program(graph), 2)
    behind = PrefixCache(engine)
    for shared, kept in ((140, 140), (50, 0)):
        assert np.array_equal(read(engine, [90]), ours)
        assert engine._cache._gone == [0, 0, 128, 128, 128, 128]
        held = engine._cache.inputs[0].reshape(-1).view(np.uint8)
        gone = 128 * 4 * kernel_graphs.WIDTH // mmap.PAGESIZE * mmap.PAGESIZE
        assert not held[:gone].any() and held[gone:].any()
        behind.forget()
        assert behind.begin(IDS, 160, True) == 0
        behind.prefill(IDS)
        assert behind.begin([*IDS[:shared], 1, 2, 3], 160, True) == kept
    engine.close()


def no_bias(program: Program) -> None:
    for step in program.steps:
        if step.kind == Kind.CAUSAL_CONV and step.tensors[1] is not None:
            step.tensors = (step.tensors[0], None)


def without_the_oldest(program: Program) -> None:
    for step in program.steps:
        if step.kind == Kind.CAUSAL_CONV:
            table = np.array(step.tensors[0])
            table[0] = 0
            step.tensors = (table, *step.tensors[1:])


def without_activation(program: Program) -> None:
    """The one that follows convolutions."""
    for step in program.steps:
        if step.kind == Kind.SILU:
            step.kind = Kind.SIGMOID


@pytest.mark.parametrize("change", [no_bias, without_the_oldest, without_activation])
def test_without_one_of_its_parts_it_is_another_model(
    change: Callable[[Program], None], graph: Path, library: building.Built, expected: Array
) -> None:
    program = read_program(graph)
    change(program)
    assert divergence(expected, logits(open_kernels(library, program, 2), [90])) > 0.01


def test_threads_wait_for_the_rows_of_others(graph: Path, library: building.Built, ours: Array) -> None:
    """With a thread that is late, and without the meeting to see that it would show."""
    late, apart = (ctypes.c_int.in_dll(Library(library)._dll, name) for name in ("pg_late", "pg_apart"))
    try:
        for late.value, apart.value in ((1, 0), (1, 1)):
            engine = open_kernels(library, read_program(graph), 2)
            engine.take_steps(alone=False)
            assert np.array_equal(logits(engine, [90]), ours) is not bool(apart.value)
    finally:
        late.value = apart.value = 0


# -- what does not fit together ----------------------------------------------------------------------------------------


def other_axes(graph: Any) -> None:
    set_attribute(nodes_of(graph, "Transpose")[0], "perm", [0, 1, 2])


def no_axes(graph: Any) -> None:
    del nodes_of(graph, "Transpose")[0].attribute[:]


def split_of_tokens(graph: Any) -> None:
    set_attribute(nodes_of(graph, "Split")[0], "axis", 2)


def rows_convolved(graph: Any) -> None:
    """What was not turned before it."""
    turn = nodes_of(graph, "Transpose")[2]
    nodes_of(graph, "CausalConvWithState")[1].input[0] = turn.input[0]


def product_of_columns(graph: Any) -> None:
    """Without turning them back."""
    turn = nodes_of(graph, "Transpose")[1]
    next(node for node in graph.node if turn.output[0] in node.input).input[0] = turn.input[0]


def no_state(graph: Any) -> None:
    nodes_of(graph, "CausalConvWithState")[0].input[3] = ""


def state_that_was_made(graph: Any) -> None:
    nodes_of(graph, "CausalConvWithState")[0].input[3] = nodes_of(graph, "Split")[0].output[0]


def fewer_columns(graph: Any) -> None:
    name = nodes_of(graph, "CausalConvWithState")[0].input[1]
    set_constant(graph, name, np.ones((kernel_graphs.WIDTH - 1, 1, 3), np.float32))


def no_taps(graph: Any) -> None:
    name = nodes_of(graph, "CausalConvWithState")[0].input[1]
    set_constant(graph, name, np.ones((kernel_graphs.WIDTH, 1, 0), np.float32))


def unknown_activation(graph: Any) -> None:
    set_attribute(nodes_of(graph, "CausalConvWithState")[0], "activation", "relu")


def two_dimensions(graph: Any) -> None:
    set_attribute(nodes_of(graph, "CausalConvWithState")[0], "ndim", 2)


def several_states(graph: Any) -> None:
    set_attribute(nodes_of(graph, "CausalConvWithState")[0], "state_window", 2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (other_axes, "Transpose of what was computed"),
        (no_axes, "Transpose of what was computed"),
        (split_of_tokens, "a Split"),
        (rows_convolved, "CausalConvWithState of tokens and columns that changed places"),
        (product_of_columns, "MatMulNBits of tokens and columns that changed places"),
        (no_state, "a convolution of something other"),
        (state_that_was_made, "CausalConvWithState of tokens and columns that changed places|a convolution of"),
        (fewer_columns, "a convolution of something other"),
        (no_taps, "a convolution of something other"),
        (unknown_activation, "a convolution of something other"),
        (two_dimensions, "CausalConvWithState with ndim 2"),
        (several_states, "CausalConvWithState with state_window 2"),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_what_the_kernels_do_not_have_is_refused(change: Change, said: str, tmp_path: Path) -> None:
    model = kernel_graphs.convolutions()
    kernel_graphs.write(model, tmp_path)
    read_program(tmp_path / "model.onnx")  # it is the change that is refused
    change(model.graph)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(NotForKernels, match=said):
        read_program(tmp_path / "model.onnx")


def fewer(program: Program) -> None:
    program.convolutions.pop()


def narrower(program: Program) -> None:
    program.convolutions[0] = replace(program.convolutions[0], width=kernel_graphs.WIDTH - 16)


def other_layer(program: Program) -> None:
    next(step for step in program.steps if step.kind == Kind.CAUSAL_CONV).layer = 1


def more_taps(program: Program) -> None:
    step = next(step for step in program.steps if step.kind == Kind.CAUSAL_CONV)
    step.extra += 1
    program.convolutions[0] = Convolution(kernel_graphs.WIDTH, step.extra)


def too_wide(program: Program) -> None:
    program.convolutions[0] = replace(program.convolutions[0], width=2**31)


def unaligned(program: Program) -> None:
    step = next(step for step in program.steps if step.kind == Kind.CAUSAL_CONV)
    step.tensors = (np.ones((kernel_graphs.WIDTH, 3), np.float32).T, *step.tensors[1:])


@pytest.mark.parametrize("change", [fewer, narrower, other_layer, more_taps, too_wide, unaligned])
def test_a_step_without_room_in_the_cache_or_with_other_weights_is_refused(
    change: Callable[[Program], None], graph: Path
) -> None:
    program = read_program(graph)
    change(program)
    with pytest.raises(NotForKernels):
        check(program)


def test_the_library_refuses_convolutions_that_are_out_of_order(graph: Path, library: building.Built) -> None:
    engine: KernelEngine = open_kernels(library, read_program(graph), 1)
    steps = [place for place, op in enumerate(engine._ops) if op.kind == Kind.CAUSAL_CONV]
    assert len(steps) == 4
    engine._ops[steps[0]].layer = 1
    with pytest.raises(ValueError, match="reaches beyond its buffers"):
        engine._library.open(engine._plan, engine._head, False)
    engine.close()
