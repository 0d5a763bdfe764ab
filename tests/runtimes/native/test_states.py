"""Recurrences: by the kernels they are what ONNX Runtime computes of the same graph, however the tokens come in; a text
is gone on with where it stands and nowhere else; and what does not fit together is refused.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from playground.kernels import building
from playground.kernels.layout import Kind
from playground.kernels.library import Library
from playground.runtimes.generation.engine import EngineError
from playground.runtimes.generation.prefix_cache import PrefixCache
from playground.runtimes.native.cache import Cache
from playground.runtimes.native.checks import check
from playground.runtimes.native.engine import KernelEngine, open_kernels
from playground.runtimes.native.lowering import read_program
from playground.runtimes.native.program import Convolution, Heads, NotForKernels, Program, Recurrence, Step
from playground.runtimes.native.stored import stored_program, write_program
from playground.runtimes.onnx.runtime import open_engine
from tests.support import kernel_graphs, kernel_sets
from tests.support.kernel_runs import IDS, divergence, logits, nodes_of, out_of_step, read, set_attribute, set_constant

pytestmark = [
    pytest.mark.integration,
    pytest.mark.parallel,
    pytest.mark.xdist_group("states"),
    kernel_sets.needs_compiler,
]

Array = NDArray[Any]
Change = Callable[[Any], None]

VALUES = kernel_graphs.STATES * kernel_graphs.STATE


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> building.Built:
    """The kernels with a thread that can be made late, and meetings around recurrences that can be left out."""
    row = "row++) row_of(op, r, row, rows);"
    meeting = "by_rows(op[0].kind) && by_rows(op[1].kind)"
    changes = {
        row: row.replace("row_of", "usleep(pg_late && !thread && op->kind == CONCAT ? 300 : 0), row_of"),
        meeting: meeting.replace("by_rows", "KEEPS"),
    }
    keeps = "#define KEEPS(kind) (by_rows(kind) || (pg_apart && (kind) == LINEAR_ATTN))"
    return out_of_step(tmp_path_factory.mktemp("library"), changes, keeps)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kernel_graphs.write(kernel_graphs.recurrences(), tmp_path_factory.mktemp("graph")) / "model.onnx"


@pytest.fixture(scope="module")
def expected(graph: Path) -> Array:
    engine = open_engine(graph.parent, 1)
    assert engine.name == "onnxruntime"
    return logits(engine, [90])


@pytest.fixture(scope="module")
def ours(graph: Path, library: building.Built) -> Array:
    return logits(open_kernels(library, read_program(graph), 2), [90])


def test_logits_are_onnxruntimes_on_the_same_graph(expected: Array, ours: Array) -> None:
    assert divergence(expected, ours) < 0.02  # rounded activations alone make 0.034 in ONNX Runtime itself


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


def test_a_program_that_was_stored_computes_the_same(graph: Path, library: building.Built, ours: Array) -> None:
    write_program(read_program(graph), graph.parent)
    program = stored_program(graph.parent)
    assert program is not None and len(program.recurrences) == 2
    assert np.array_equal(ours, logits(open_kernels(library, program, 2), [90]))


def test_a_text_is_gone_on_with_where_it_stands_and_its_cache_may_grow(
    graph: Path, library: building.Built, ours: Array
) -> None:
    engine = open_kernels(library, read_program(graph), 2)
    for _ in range(2):  # a new text begins with nothing of the one before
        engine.reset(110)
        engine.prefill(IDS[:100])
        assert not any(engine.rewind(kept, 150) for kept in (0, 1, 99, 101))
        assert engine.rewind(100, 400)  # more than there was room for
        assert np.array_equal(engine.prefill(IDS[100:120]), ours[120 - 90])
        assert np.array_equal(engine.step(IDS[120]), ours[121 - 90])
    engine.close()


def test_a_text_that_begins_with_one_token_has_nothing_of_the_one_before(graph: Path, library: building.Built) -> None:
    engine = open_kernels(library, read_program(graph), 2)
    engine.reset(40)
    first = [engine.prefill(IDS[:1]).copy(), engine.step(IDS[1]).copy()]
    engine.prefill(IDS[2:30])
    engine.reset(40)
    assert np.array_equal([engine.prefill(IDS[:1]).copy(), engine.step(IDS[1]).copy()], first)
    engine.close()


def test_nobody_goes_on_behind_a_run_that_broke_off(
    graph: Path, library: building.Built, ours: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_kernels(library, read_program(graph), 2)
    read(engine, [90])
    assert engine.rewind(160, 200)
    with monkeypatch.context() as broken:
        broken.setattr(engine._library, "run", lambda *_: 3)
        with pytest.raises(EngineError, match="no numbers"):
            engine.step(1)
    assert not engine.rewind(160, 200)
    assert np.array_equal(read(engine, [90]), ours)
    engine.close()


def test_what_two_texts_share_is_read_again_unless_it_is_all(graph: Path, library: building.Built, ours: Array) -> None:
    behind = PrefixCache(open_kernels(library, read_program(graph), 2))
    assert behind.begin(IDS[:100], 160, True) == 0
    behind.prefill(IDS[:100])
    for token in IDS[100:120]:
        behind.step(token)
    assert behind.begin(IDS[:150], 160, True) == 120
    assert np.array_equal(behind.prefill(IDS[120:150]), ours[150 - 90])
    assert behind.begin(IDS[:130], 160, True) == 0 and behind.refused
    assert np.array_equal(behind.prefill(IDS[:130]), ours[130 - 90])
    behind.engine.close()


def test_where_nothing_is_gone_back_in_no_more_of_a_convolution_is_kept_than_it_reads() -> None:
    layers, short = [Heads(4, 2, 16, 0, 0.1)], [Convolution(1024, 4)]
    state = [Recurrence(2, 1, 16, 32, 1, False, 1.0)]
    cache = Cache(layers, 4096, convolutions=short, recurrences=state)
    assert [each.size for each in cache.states] == [2 * 16 * 32]
    assert cache.due == 4 + 64
    cache.forget(1000)
    assert (cache._gone, cache.due) == ([0, 960], 1064)
    cache.read = 1000
    assert cache.holds(1000) and not cache.holds(999)
    assert Cache(layers, 4096, convolutions=short).due > 1024


def without_decay(program: Program) -> None:
    for step in program.steps:
        if step.kind == Kind.MUL_ROW and step.tensors[0] is not None and (step.tensors[0] < 0).all():
            step.tensors = (np.zeros_like(step.tensors[0]),)


def without_the_skip(program: Program) -> None:
    for step in program.steps:
        if step.kind == Kind.MUL_ROW and step.width == VALUES:
            step.tensors = (np.zeros(VALUES, np.float32),)


def without_the_correction(program: Program) -> None:
    program.recurrences[1] = replace(program.recurrences[1], corrects=False)
    first, last = [step for step in program.steps if step.kind == Kind.LINEAR_ATTN]
    last.number = 0.0
    joined = next(step for step in program.steps if step.outputs == (last.inputs[2],))
    joined.inputs, joined.width = joined.inputs[:2], joined.width - kernel_graphs.STATES
    made = joined.outputs[0]
    assert made is not None and first.number == 0.0
    joined.outputs = (replace(made, width=joined.width),)
    last.inputs = (*last.inputs[:2], joined.outputs[0])


def without_steps(program: Program) -> None:
    """Each head's values as they are."""
    for step in program.steps:
        if step.kind == Kind.MUL_HEADS:
            step.kind, step.extra, step.inputs = Kind.SCALE, 0, step.inputs[:1]
            step.number = 1.0


@pytest.mark.parametrize("change", [without_decay, without_the_skip, without_the_correction, without_steps])
def test_without_one_of_its_parts_it_is_another_model(
    change: Callable[[Program], None], graph: Path, library: building.Built, expected: Array
) -> None:
    program = read_program(graph)
    change(program)
    assert divergence(expected, logits(open_kernels(library, program, 2), [90])) > 0.4


def test_threads_wait_for_each_other_around_a_state(graph: Path, library: building.Built, ours: Array) -> None:
    """With a thread that is late, and without the meetings to see that it would show."""
    late, apart = (ctypes.c_int.in_dll(Library(library)._dll, name) for name in ("pg_late", "pg_apart"))
    try:
        for late.value, apart.value in ((1, 0), (1, 1)):
            engine = open_kernels(library, read_program(graph), 2)
            engine.take_steps(alone=False)
            try:
                same = np.array_equal(logits(engine, [90]), ours)
            except EngineError:  # what a buffer held before may be no number
                same = False
            assert same is not bool(apart.value)
    finally:
        late.value = apart.value = 0


# -- what does not fit together ----------------------------------------------------------------------------------------


def other_rule(graph: Any) -> None:
    set_attribute(nodes_of(graph, "LinearAttention")[0], "update_rule", "linear")


def rule_without_its_numbers(graph: Any) -> None:
    set_attribute(nodes_of(graph, "LinearAttention")[0], "update_rule", "gated_delta")


def numbers_without_their_rule(graph: Any) -> None:
    set_attribute(nodes_of(graph, "LinearAttention")[1], "update_rule", "gated")


def scale_of_its_own(graph: Any) -> None:
    set_attribute(nodes_of(graph, "LinearAttention")[0], "scale", 0.0)


def unknown_setting(graph: Any) -> None:
    set_attribute(nodes_of(graph, "LinearAttention")[0], "chunk_size", 7)


def no_heads(graph: Any) -> None:
    set_attribute(nodes_of(graph, "LinearAttention")[0], "kv_num_heads", 0)


def other_heads(graph: Any) -> None:
    set_attribute(nodes_of(graph, "LinearAttention")[0], "kv_num_heads", kernel_graphs.STATES - 1)


def other_keys(graph: Any) -> None:
    set_attribute(nodes_of(graph, "LinearAttention")[0], "q_num_heads", 4)


def no_state(graph: Any) -> None:
    nodes_of(graph, "LinearAttention")[0].input[3] = ""


def state_that_was_made(graph: Any) -> None:
    node = nodes_of(graph, "LinearAttention")[0]
    node.input[3] = node.input[0]


def decay_of_values(graph: Any) -> None:
    node = nodes_of(graph, "LinearAttention")[0]
    node.input[4] = node.input[2]


def state_that_is_read(graph: Any) -> None:
    node = nodes_of(graph, "LinearAttention")[0]
    last = nodes_of(graph, "Gather")[-1]
    last.input[0] = node.output[1]


def heads_cut_otherwise(graph: Any) -> None:
    product = next(node for node in graph.node if node.op_type == "Mul" and "reshape" in node.input[1])
    cut = next(node for node in graph.node if node.output[0] == product.input[0])
    set_constant(graph, cut.input[1], np.array([-1, kernel_graphs.STATE // 2], np.int64))


def heads_that_are_not_cut(graph: Any) -> None:
    product = next(node for node in graph.node if node.op_type == "Mul" and "reshape" in node.input[1])
    product.input[0] = next(node for node in graph.node if node.output[0] == product.input[0]).input[0]


def row_of_tokens(graph: Any) -> None:
    """A constant for each of so many tokens."""
    product = nodes_of(graph, "Mul")[0]
    tensor = next(each for each in graph.initializer if each.name == product.input[1])
    set_constant(graph, product.input[1], numpy_helper.to_array(tensor).reshape(1, -1, 1))


def shorter_row(graph: Any) -> None:
    product = nodes_of(graph, "Mul")[0]
    tensor = next(each for each in graph.initializer if each.name == product.input[1])
    set_constant(graph, product.input[1], numpy_helper.to_array(tensor)[..., :-1])


def row_of_columns(graph: Any) -> None:
    """Of tokens that stand behind their columns."""
    convolution = nodes_of(graph, "CausalConvWithState")[0]
    width = kernel_graphs.STATES * kernel_graphs.STATE + 4 * kernel_graphs.KEY
    graph.initializer.append(numpy_helper.from_array(np.ones(width, np.float32), "factors"))
    place = list(graph.node).index(convolution)
    graph.node.insert(place, helper.make_node("Mul", [convolution.input[0], "factors"], ["multiplied"]))
    convolution.input[0] = "multiplied"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (other_rule, "a recurrence of something other"),
        (rule_without_its_numbers, "a recurrence of something other"),
        (numbers_without_their_rule, "a recurrence of something other"),
        (scale_of_its_own, "a recurrence of something other"),
        (unknown_setting, "LinearAttention with chunk_size 7"),
        (no_heads, "a recurrence whose heads is 0"),
        (other_heads, "a recurrence of something other"),
        (other_keys, "a recurrence of something other"),
        (no_state, "a recurrence of something other"),
        (state_that_was_made, "a recurrence of something other"),
        (decay_of_values, "a recurrence of something other"),
        (state_that_is_read, "made in no way known here"),
        (heads_cut_otherwise, "different widths in MUL"),
        (heads_that_are_not_cut, "different widths in MUL"),
        (row_of_tokens, "a product with a constant row"),
        (shorter_row, "a product with a constant row"),
        (row_of_columns, "a product with a constant row"),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_what_the_kernels_do_not_have_is_refused(change: Change, said: str, tmp_path: Path) -> None:
    model = kernel_graphs.recurrences()
    kernel_graphs.write(model, tmp_path)
    read_program(tmp_path / "model.onnx")  # it is the change that is refused
    change(model.graph)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(NotForKernels, match=said):
        read_program(tmp_path / "model.onnx")


def of(program: Program, kind: Kind) -> Step:
    return next(step for step in program.steps if step.kind == kind)


def fewer(program: Program) -> None:
    program.recurrences.pop()


def other_layer(program: Program) -> None:
    of(program, Kind.LINEAR_ATTN).layer = 1


def more_of(**sizes: Any) -> Callable[[Program], None]:
    def change(program: Program) -> None:
        program.recurrences[0] = replace(program.recurrences[0], **sizes)

    change.__name__ = " ".join(sizes)
    return change


def other_key(program: Program) -> None:
    of(program, Kind.LINEAR_ATTN).extra = 2 * kernel_graphs.KEY


def correction_that_is_not_there(program: Program) -> None:
    of(program, Kind.LINEAR_ATTN).number = 1.0


def queries_left_out(program: Program) -> None:
    step = of(program, Kind.LINEAR_ATTN)
    step.inputs = (None, *step.inputs[1:])


def keys_of_half_a_head(program: Program) -> None:
    step = of(program, Kind.LINEAR_ATTN)
    keys = step.inputs[1]
    assert keys is not None
    step.inputs = (step.inputs[0], keys.columns(0, keys.width // 2), step.inputs[2])


def values_without_decays(program: Program) -> None:
    step = of(program, Kind.LINEAR_ATTN)
    joined = step.inputs[2]
    assert joined is not None
    step.inputs = (*step.inputs[:2], joined.columns(0, VALUES))


def more_beside(program: Program) -> None:
    of(program, Kind.CONCAT).layer += 1


def more_than_all(program: Program) -> None:
    of(program, Kind.CONCAT).extra = 2**31


def no_head(program: Program) -> None:
    of(program, Kind.MUL_HEADS).extra = 0


def larger_heads(program: Program) -> None:
    of(program, Kind.MUL_HEADS).extra *= 2


def shorter_table(program: Program) -> None:
    step = of(program, Kind.MUL_ROW)
    assert step.tensors[0] is not None
    step.tensors = (step.tensors[0][:-1].copy(),)


@pytest.mark.parametrize(
    "change",
    [
        *(fewer, other_layer, other_key, correction_that_is_not_there, queries_left_out, keys_of_half_a_head),
        *(values_without_decays, more_beside, more_than_all, no_head, larger_heads, shorter_table),
        *(more_of(heads=2 * kernel_graphs.STATES), more_of(heads=0), more_of(groups=4), more_of(groups=0)),
        *(more_of(size=2048, decays=1), more_of(size=24), more_of(width=40), more_of(width=2**31)),
        *(more_of(decays=2), more_of(decays=kernel_graphs.KEY), more_of(corrects=True), more_of(corrects=1)),
        *(more_of(scale=float("inf")), more_of(scale=float("nan")), more_of(heads=2**20, width=1024, size=1024)),
    ],
)
def test_a_step_without_room_in_the_cache_or_with_other_numbers_is_refused(
    change: Callable[[Program], None], graph: Path
) -> None:
    program = read_program(graph)
    change(program)
    with pytest.raises(NotForKernels):
        check(program)


def op_of(engine: KernelEngine, kind: Kind) -> Any:
    return next(op for op in engine._ops if op.kind == kind)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (Kind.LINEAR_ATTN, lambda op: setattr(op, "layer", 1)),
        (Kind.LINEAR_ATTN, lambda op: setattr(op, "one", 1)),
        (Kind.LINEAR_ATTN, lambda op: setattr(op, "extra", 1040)),
        (Kind.LINEAR_ATTN, lambda op: setattr(op, "extra", 40)),
        (Kind.LINEAR_ATTN, lambda op: setattr(op, "number", 1.0)),
        (Kind.LINEAR_ATTN, lambda op: setattr(op, "width", op.width - 16)),
        (Kind.LINEAR_ATTN, lambda op: setattr(op.shape, "window", 1)),
        (Kind.LINEAR_ATTN, lambda op: setattr(op.shape, "window", 2)),
        (Kind.LINEAR_ATTN, lambda op: setattr(op.shape, "groups", 4)),
        (Kind.LINEAR_ATTN, lambda op: setattr(op.shape, "groups", 1)),
        (Kind.LINEAR_ATTN, lambda op: setattr(op.shape, "heads", 0)),
        (Kind.LINEAR_ATTN, lambda op: setattr(op.src[2], "offset", 1)),
        (Kind.CONCAT, lambda op: setattr(op, "extra", op.width)),
        (Kind.CONCAT, lambda op: setattr(op, "layer", 0)),
        (Kind.MUL_HEADS, lambda op: setattr(op, "extra", 5)),
        (Kind.MUL_HEADS, lambda op: setattr(op, "extra", 1)),
        (Kind.MUL_ROW, lambda op: op.data.__setitem__(0, None)),
    ],
)
def test_the_library_refuses_what_would_reach_beyond_its_buffers(
    kind: Kind, change: Change, graph: Path, library: building.Built
) -> None:
    engine: KernelEngine = open_kernels(library, read_program(graph), 1)
    change(op_of(engine, kind))
    with pytest.raises(ValueError, match="reaches beyond its buffers"):
        engine._library.open(engine._plan, engine._head, False)
    engine.close()
