"""What a graph must not make the kernels do: each way out of their buffers is refused before they see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from playground.kernels import building
from playground.kernels.library import Kind, Library, Op, Plan
from playground.runtimes.generation.divergence import kl_divergence
from playground.runtimes.native import lowering
from playground.runtimes.native.checks import check
from playground.runtimes.native.engine import KernelEngine
from playground.runtimes.native.lowering import read_program
from playground.runtimes.native.program import Heads, NotForKernels, Program, Step, Value
from playground.runtimes.onnx.runtime import open_engine
from tests.support import kernel_graphs
from tests.support.kernel_runs import nodes_of, set_attribute, set_constant

Array = NDArray[Any]
Change = Callable[[Any], None]

needs_kernels = pytest.mark.skipif(building.obstacle() is not None, reason=building.obstacle() or "")


def rename(graph: Any, old: str, new: str) -> None:
    for node in graph.node:
        node.output[:] = [new if each == old else each for each in node.output]
        node.input[:] = [new if each == old else each for each in node.input]


def refused(base: str, change: Change, folder: Path) -> str:
    model = kernel_graphs.GRAPHS[base]()
    kernel_graphs.write(model, folder)
    read_program(folder / "model.onnx")  # it is the change that is refused
    change(model.graph)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(NotForKernels) as caught:
        read_program(folder / "model.onnx")
    return str(caught.value)


# -- attributes and sizes ---------------------------------------------------------------------------------------------

BEYOND = (2**31, 2**31 + 5, 2**32, 2**32 + 64, 2**63 - 1, -(2**31), -(2**63))


@pytest.mark.parametrize("value", [*BEYOND, 0, -2])
def test_a_window_is_a_positive_number_of_31_bits(value: int, tmp_path: Path) -> None:
    def change(graph: Any) -> None:
        set_attribute(nodes_of(graph, "GroupQueryAttention")[0], "local_window_size", value)

    assert "local_window_size" in refused("four bits", change, tmp_path)


@pytest.mark.parametrize("name", ["num_heads", "kv_num_heads"])
@pytest.mark.parametrize("value", [*BEYOND, 0, -1, -2])
def test_heads_are_a_positive_number_of_31_bits(name: str, value: int, tmp_path: Path) -> None:
    def change(graph: Any) -> None:
        set_attribute(nodes_of(graph, "GroupQueryAttention")[0], name, value)

    assert name in refused("four bits", change, tmp_path)


@pytest.mark.parametrize("base", list(kernel_graphs.GRAPHS))
@pytest.mark.parametrize("name", ["K", "N"])
@pytest.mark.parametrize("value", [*BEYOND, -1, 0])
def test_the_sizes_of_a_product_are_positive_numbers_of_31_bits(
    base: str, name: str, value: int, tmp_path: Path
) -> None:
    """numpy takes a size of -1 for what is left, and the last product's rows were written before their buffer."""

    def change(graph: Any) -> None:
        set_attribute(nodes_of(graph, "MatMulNBits")[-1], name, value)

    assert "a product of" in refused(base, change, tmp_path)


@pytest.mark.parametrize(
    "sizes",
    [
        (-1000, kernel_graphs.INNER, kernel_graphs.INNER),
        (kernel_graphs.INNER, -kernel_graphs.INNER, 2 * kernel_graphs.INNER),
        (kernel_graphs.INNER, 0, kernel_graphs.INNER),
        (64, kernel_graphs.INNER, kernel_graphs.INNER),
        (2**31, kernel_graphs.INNER, kernel_graphs.INNER),
        (2**63 - 1, kernel_graphs.INNER, kernel_graphs.INNER),
    ],
)
def test_a_split_gives_all_of_what_there_is_and_no_more(sizes: tuple[int, int, int], tmp_path: Path) -> None:
    def change(graph: Any) -> None:
        node = nodes_of(graph, "Split")[0]
        node.output.insert(0, "unused")
        set_constant(graph, node.input[1], np.array(sizes, np.int64))

    assert "a Split" in refused("eight bits", change, tmp_path)


@pytest.mark.parametrize("sizes", [(kernel_graphs.INNER,), (2 * kernel_graphs.INNER,), (1, 95, 96)])
def test_a_split_has_a_size_for_each_output(sizes: tuple[int, ...], tmp_path: Path) -> None:
    def change(graph: Any) -> None:
        set_constant(graph, nodes_of(graph, "Split")[0].input[1], np.array(sizes, np.int64))

    assert "a Split of 192 columns" in refused("eight bits", change, tmp_path)


def test_attention_over_the_last_position_alone_is_refused(tmp_path: Path) -> None:
    """Its rows would be looked for in a buffer of one row."""

    def change(graph: Any) -> None:
        graph.initializer.append(numpy_helper.from_array(np.array([-1], np.int64), "last"))
        index, node = next(pair for pair in enumerate(graph.node) if pair[1].op_type == "GroupQueryAttention")
        graph.node.insert(index, helper.make_node("Gather", [node.input[0], "last"], ["only"], axis=1))
        graph.node[index + 1].input[0] = "only"

    assert "queries, keys and values" in refused("four bits", change, tmp_path)


@pytest.mark.parametrize("shape", [(0, 8), (320, 0), (320, 9), (2560,), (0,)])
def test_angles_are_there_for_positions_and_fit_a_head(shape: tuple[int, ...], tmp_path: Path) -> None:
    """Tables without a row once stood for any number of positions."""

    def change(graph: Any) -> None:
        for name in nodes_of(graph, "GroupQueryAttention")[0].input[7:9]:
            set_constant(graph, name, np.zeros(shape, np.float32))

    assert "rotary tables" in refused("four bits", change, tmp_path)


def test_fewer_positions_in_one_layer_are_the_positions_of_the_model(tmp_path: Path) -> None:
    model = kernel_graphs.eight_bits()
    for name in nodes_of(model.graph, "GroupQueryAttention")[1].input[7:9]:
        set_constant(model.graph, name, np.zeros((5, kernel_graphs.SIZE // 2), np.float32))
    assert read_program(kernel_graphs.write(model, tmp_path) / "model.onnx").longest == 5


@pytest.mark.parametrize("kind", [np.int8, np.float16, np.float64])
def test_an_embedding_that_stands_transposed_has_the_type_that_is_read(kind: Any, tmp_path: Path) -> None:
    def change(graph: Any) -> None:
        name = nodes_of(graph, "Transpose")[0].input[0]
        set_constant(graph, name, np.zeros((kernel_graphs.WIDTH, kernel_graphs.VOCAB), kind))

    assert np.dtype(kind).name in refused("four bits", change, tmp_path)


def test_an_embedding_is_a_table(tmp_path: Path) -> None:
    def change(graph: Any) -> None:
        graph.initializer.append(numpy_helper.from_array(np.ones(64, np.float32), "row"))
        nodes_of(graph, "Gather")[0].input[0] = "row"

    assert "no table" in refused("four bits", change, tmp_path)


# -- names ------------------------------------------------------------------------------------------------------------


def test_a_product_is_of_what_it_reads_whatever_that_is_called(tmp_path: Path) -> None:
    """The name that our own exports give to activations with their means, on something else."""
    plain = read_program(kernel_graphs.write(kernel_graphs.eight_bits(), tmp_path / "plain") / "model.onnx")
    model = kernel_graphs.eight_bits()
    first, second = (node.input[0] for node in nodes_of(model.graph, "MatMulNBits")[2:4])
    rename(model.graph, second, f"{first}.with_means")
    renamed = read_program(kernel_graphs.write(model, tmp_path / "renamed") / "model.onnx")
    assert [step.kind for step in renamed.steps] == [step.kind for step in plain.steps]
    assert [step.inputs for step in renamed.steps] == [step.inputs for step in plain.steps]


@pytest.mark.parametrize("name", ["input_ids", "attention_mask", "weight0", "attended0"])
def test_a_name_stands_for_one_value(name: str, tmp_path: Path) -> None:
    def change(graph: Any) -> None:
        rename(graph, nodes_of(graph, "MatMulNBits")[5].output[0], name)

    assert f"two values that are called {name}" in refused("eight bits", change, tmp_path)


def test_a_value_without_a_name_is_refused(tmp_path: Path) -> None:
    """No name stands for an input that is left out."""

    def change(graph: Any) -> None:
        rename(graph, nodes_of(graph, "MatMulNBits")[0].output[0], "")

    assert "has no name" in refused("eight bits", change, tmp_path)


@pytest.mark.parametrize("name", ["kernels.so", "artifact.json", "model.onnx", "KERNELS.SO", "../model.onnx.data"])
def test_weights_are_read_from_data_files_alone(name: str, tmp_path: Path) -> None:
    model = kernel_graphs.eight_bits()
    kernel_graphs.write(model, tmp_path, beside=True)
    read_program(tmp_path / "model.onnx")
    stored = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    (tmp_path / "other").mkdir()
    for tensor in stored.graph.initializer:
        for entry in tensor.external_data:
            entry.value = name if entry.key == "location" else entry.value
    for place in (tmp_path / name, tmp_path / "other" / name):
        place.write_bytes((tmp_path / "model.onnx.data").read_bytes())
    (tmp_path / "other" / "model.onnx").write_bytes(stored.SerializeToString())
    with pytest.raises(NotForKernels, match="no data file"):
        read_program(tmp_path / "other" / "model.onnx")


# -- the check of a program -------------------------------------------------------------------------------------------


def programs(folder: Path) -> list[Program]:
    return [
        read_program(kernel_graphs.write(make(), folder / name.replace(" ", "-")) / "model.onnx")
        for name, make in kernel_graphs.GRAPHS.items()
    ]


def fresh(program: Program, **changed: Any) -> Program:
    return Program(**({each.name: getattr(program, each.name) for each in fields(Program)} | changed))


def wrong_values(value: Value, widths: list[int]) -> list[Value]:
    """Columns and rows that are not there."""
    room = widths[value.buffer]
    return [
        replace(value, buffer=-1),
        replace(value, buffer=len(widths)),
        replace(value, offset=-1),
        replace(value, offset=room - value.width + 1),
        replace(value, offset=2**31),
        replace(value, width=value.width + room),
        replace(value, width=-value.width),
        replace(value, one=not value.one),
    ]


def wrong_arrays(array: Array) -> list[Array]:
    return [array[..., :-1], array[:-1], array.astype(np.float16), np.asfortranarray(array)[::1].T[..., :0]]


def wrong_steps(step: Step, widths: list[int]) -> list[Step]:
    found = []
    for part in ("inputs", "outputs"):
        values = getattr(step, part)
        for place, value in enumerate(values):
            if value is not None:
                for wrong in wrong_values(value, widths):
                    found.append(replace(step, **{part: (*values[:place], wrong, *values[place + 1 :])}))
        if values:
            found.append(replace(step, **{part: ()}))
    for place, tensor in enumerate(step.tensors):
        if tensor is not None:
            for wrong in wrong_arrays(tensor):
                found.append(replace(step, tensors=(*step.tensors[:place], wrong, *step.tensors[place + 1 :])))
    if step.weights is not None:
        weights = step.weights
        found += [replace(step, weights=replace(weights, values=wrong)) for wrong in wrong_arrays(weights.values)]
        found += [replace(step, weights=replace(weights, scales=wrong)) for wrong in wrong_arrays(weights.scales)]
        found += [
            replace(step, weights=None),
            replace(step, weights=replace(weights, mean_blocks=weights.mean_blocks + 1)),
        ]
        found.append(replace(step, weights=replace(weights, bits=12 - weights.bits)))
    if step.heads is not None:
        found += [replace(step, layer=step.layer + 1), replace(step, layer=-1), replace(step, heads=None)]
    limits = (0.0, -1.0, float("nan"), float("inf")) if step.kind in (Kind.SOFTCAP, Kind.CLAMP) else ()
    found += [replace(step, number=limit) for limit in limits]
    if step.kind in (Kind.RMS_NORM, Kind.QUANTISE, Kind.ROTATE):
        found += [replace(step, extra=extra) for extra in (-1, 0, step.extra + 1, 2**31 + step.extra)]
    if step.kind not in (Kind.FLASH_ATTN, Kind.ATTN_REDUCE):  # whose widths are their heads'
        found += [replace(step, width=width) for width in (-1, step.width + 1, 2 * step.width + 1, 2**32 + step.width)]
    return [*found, replace(step, one=not step.one)]


def test_a_step_that_reaches_beyond_what_it_has_is_refused_whichever_it_is(tmp_path: Path) -> None:
    tried = set()
    for program in programs(tmp_path):
        check(program)
        for place, step in enumerate(program.steps):
            for wrong in wrong_steps(step, program.widths):
                steps = [*program.steps[:place], wrong, *program.steps[place + 1 :]]
                with pytest.raises(NotForKernels):
                    check(fresh(program, steps=steps))
            tried.add(step.kind)
    assert tried >= {
        Kind.GET_ROWS_Q8,
        Kind.GET_ROWS_F32,
        Kind.RMS_NORM,
        Kind.QUANTISE,
        Kind.MUL_MAT,
        Kind.ROPE,
        Kind.FLASH_ATTN,
    }
    assert tried >= {
        Kind.ATTN_REDUCE,
        Kind.ADD,
        Kind.ADD_ROW,
        Kind.SCALE,
        Kind.MUL,
        Kind.SILU,
        Kind.GELU,
        Kind.GET_ROWS_LAST,
    }
    assert tried >= {Kind.SOFTCAP, Kind.LAYER_NORM, Kind.ROTATE, Kind.CLAMP}


def test_a_program_is_looked_at_as_soon_as_it_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a graph is refused while it is prepared, and not first where it is to answer."""
    seen: list[Program] = []
    monkeypatch.setattr(lowering, "check", seen.append)
    for number, program in enumerate(programs(tmp_path)):
        assert seen[number] is program


def test_steps_in_another_order_are_refused(tmp_path: Path) -> None:
    """Nothing is read that was not written."""
    for program in programs(tmp_path):
        for place, step in enumerate(program.steps):
            left_out = [*program.steps[:place], *program.steps[place + 1 :]]
            if step.kind not in (
                Kind.ATTN_REDUCE,
                Kind.QUANTISE,
            ):  # without these, numbers are wrong, no more
                with pytest.raises(NotForKernels):
                    check(fresh(program, steps=left_out))


@pytest.mark.parametrize(
    "changed",
    [
        {"tokens": 0},
        {"tokens": kernel_graphs.VOCAB + 1},
        {"tokens": 2**32 + 1},
        {"longest": 0},
        {"longest": None},
        {"longest": kernel_graphs.CONTEXT + 1},
        {"vocab": kernel_graphs.VOCAB + 1},
        {"logits": None},
        {"layers": []},
        {"singles": set()},
        {"widths": [2**31] * 400},
    ],
)
def test_what_stands_around_the_steps_is_looked_at_as_well(changed: dict[str, Any], tmp_path: Path) -> None:
    for program in programs(tmp_path):
        with pytest.raises(NotForKernels):
            check(fresh(program, **changed))


@pytest.mark.parametrize(
    "heads",
    [
        Heads(4, 2, 24, 0, 1.0),
        Heads(4, 2, 1040, 0, 1.0),
        Heads(5, 2, 16, 0, 1.0),
        Heads(98, 2, 16, 0, 1.0),
        Heads(-4, -2, 16, 0, 1.0),
        Heads(4, 0, 16, 0, 1.0),
        Heads(4, 2, 16, -1, 1.0),
        Heads(4, 2, 16, 2**31, 1.0),
        Heads(4, 2, 16, 0, 1.0, -1.0),
        Heads(4, 2, 16, 0, 1.0, float("nan")),
        Heads(4, 2, 16, 0, 1.0, float("inf")),
    ],
)
def test_heads_that_the_kernels_have_no_room_for_are_refused(heads: Heads, tmp_path: Path) -> None:
    for program in programs(tmp_path):
        with pytest.raises(NotForKernels):
            check(fresh(program, layers=[heads] * len(program.layers)))


# -- the kernels themselves -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> building.Built:
    return building.build(tmp_path_factory.mktemp("built"))


@pytest.mark.integration
@needs_kernels
@pytest.mark.parametrize("base", list(kernel_graphs.GRAPHS))
@pytest.mark.parametrize("beside", [False, True])
def test_the_graphs_of_these_tests_are_right_and_run(
    base: str, beside: bool, built: building.Built, tmp_path: Path
) -> None:
    folder = kernel_graphs.write(kernel_graphs.GRAPHS[base](), tmp_path, beside=beside)
    ours, theirs = open_engine(folder, 2, library=built), open_engine(folder, 1)
    assert (ours.name.split()[0], theirs.name) == ("kernels", "onnxruntime")
    far = []
    for length in (1, 7, 66, 100):
        ids = [(11 * place + length) % kernel_graphs.VOCAB for place in range(length)]
        rows = []
        for engine in (ours, theirs):
            engine.reset(length + 1)
            rows.append((engine.prefill(ids).astype(np.float64), engine.step(5).astype(np.float64)))
        far += [kl_divergence(one, other) for one, other in zip(rows[1], rows[0], strict=True)]
    assert np.mean(far) < 0.02
    ours.close()


@pytest.mark.integration
@needs_kernels
def test_a_plan_that_is_not_sound_is_not_opened_even_if_nobody_looked_before(
    built: building.Built, tmp_path: Path
) -> None:
    library = Library(built)
    for program in programs(tmp_path):
        engine = KernelEngine(library, program, 1)
        plan, most = engine._plan, engine._head
        library.close(library.open(plan, most, False))
        for place in range(plan.ops):
            kept = Op.from_buffer_copy(plan.list[place])
            for change in changes_of(kept):
                change(plan.list[place])
                with pytest.raises(ValueError, match=f"step {place} "):
                    library.open(plan, most, False)
                plan.list[place] = kept
        for field in ("places", "layers", "tokens", "blocks"):
            whole = Plan.from_buffer_copy(plan)
            setattr(whole, field, getattr(plan, field) + 1 if field == "tokens" else 0)
            with pytest.raises(ValueError, match="reaches beyond"):
                library.open(whole, most, False)
        with pytest.raises(ValueError, match="reaches beyond"):
            library.open(plan, most - 16, False)
        engine.close()


def changes_of(op: Any) -> list[Callable[[Any], None]]:
    """Ways to make this step reach too far."""

    def put(*path: str | int, value: int) -> Callable[[Any], None]:
        def change(target: Any) -> None:
            for each in path[:-1]:
                target = target[each] if isinstance(each, int) else getattr(target, each)
            setattr(target, str(path[-1]), value)

        return change

    found = [put("kind", value=99), put("kind", value=-1)]
    for part in ("src", "dst"):
        for place, ref in enumerate(getattr(op, part)):
            if ref.buffer >= 0:
                found += [put(part, place, "buffer", value=value) for value in (-2, 10**6)]
                found += [put(part, place, "offset", value=value) for value in (-1, 2**31 - 1)]
                found += [put(part, place, "stride", value=value) for value in (ref.stride - 1, ref.stride + 1, -1)]
    if op.kind == Kind.MUL_MAT:
        found += [put("matrix", "blocks", value=op.matrix.blocks + 1), put("matrix", "outputs", value=2**31 - 32)]
        found += [put("matrix", "outputs", value=op.matrix.outputs - 1), put("matrix", "bits", value=5)]
    elif op.kind in (Kind.ROPE, Kind.FLASH_ATTN, Kind.ATTN_REDUCE):
        for name in ("heads", "groups", "size"):
            found += [put("shape", name, value=value) for value in (0, -16, 2**31 - 16)]
        found += [put("shape", "window", value=-5), put("layer", value=-1), put("layer", value=10**6)]
    else:
        found += [put("width", value=value) for value in (0, -1, 2**31 - 1)]
    if op.kind in (Kind.RMS_NORM, Kind.QUANTISE, Kind.ROTATE):
        found += [put("extra", value=value) for value in (0, -1, op.extra + 1)]
    return found
