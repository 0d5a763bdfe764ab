"""Tables of positions, sinks of attention, mixtures of experts: by the kernels they are what ONNX Runtime computes of
the same graph, however the tokens come in, and what does not fit together is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from playground.kernels import building
from playground.kernels.library import Kind
from playground.runtimes.generation.engine import EngineError
from playground.runtimes.native.engine import KernelEngine, open_kernels
from playground.runtimes.native.lowering import read_program
from playground.runtimes.native.program import NotForKernels, Program
from playground.runtimes.onnx.runtime import open_engine
from tests.support import kernel_graphs
from tests.support.kernel_runs import IDS, divergence, logits, nodes_of, set_attribute

pytestmark = [
    pytest.mark.integration,
    pytest.mark.parallel,
    pytest.mark.xdist_group("mixtures"),
    pytest.mark.skipif(building.obstacle() is not None, reason=building.obstacle() or ""),
]

Array = NDArray[Any]
Change = Callable[[Any], None]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> building.Built:
    return building.build(tmp_path_factory.mktemp("library"))


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kernel_graphs.write(kernel_graphs.mixtures(), tmp_path_factory.mktemp("graph")) / "model.onnx"


@pytest.fixture(scope="module")
def expected(graph: Path) -> Array:
    return logits(open_engine(graph.parent, 1), [90])


def test_logits_are_onnxruntimes_on_the_same_graph(graph: Path, library: building.Built, expected: Array) -> None:
    engine = open_kernels(library, read_program(graph), 2)
    assert divergence(expected, logits(engine, [90])) < 0.01


@pytest.mark.parametrize(("parts", "threads"), [([1] * 90, 1), ([64, 26], 3), ([7] * 12 + [6], 2)])
def test_the_bits_are_the_same_however_a_prompt_is_cut_and_by_any_threads(
    parts: list[int], threads: int, graph: Path, library: building.Built
) -> None:
    one, other = open_kernels(library, read_program(graph), 2), open_kernels(library, read_program(graph), threads)
    assert np.array_equal(logits(one, [90]), logits(other, parts))


def test_rows_of_many_positions_are_those_of_one_after_the_other(graph: Path, library: building.Built) -> None:
    engine = open_kernels(library, read_program(graph), 2)
    engine.reset(len(IDS))
    rows = np.stack([row.copy() for row in engine.rows(IDS, 71)])
    engine.close()
    assert np.array_equal(rows, logits(open_kernels(library, read_program(graph), 2), [90]))


def no_sinks(program: Program) -> None:
    for step in program.steps:
        if step.kind in (Kind.FLASH_ATTN, Kind.ATTN_REDUCE):
            step.tensors = ()


def other_positions(program: Program) -> None:
    for step in program.steps:
        if step.kind == Kind.GET_ROWS_POS and step.tensors[0] is not None:
            step.tensors = (np.roll(step.tensors[0], 1, axis=0),)


def no_biases(program: Program) -> None:
    for step in program.steps:
        if step.kind == Kind.ADD_ID and step.tensors[0] is not None:
            step.tensors = (np.zeros_like(step.tensors[0]),)


def no_limit(program: Program) -> None:
    for step in program.steps:
        if step.kind == Kind.SWIGLU:
            step.tensors = (np.array([1.702, 1.0, np.inf], np.float32),)


@pytest.mark.parametrize("change", [no_sinks, other_positions, no_biases, no_limit])
def test_without_one_of_its_parts_it_is_another_model(
    change: Callable[[Program], None], graph: Path, library: building.Built, expected: Array
) -> None:
    program = read_program(graph)
    change(program)
    assert divergence(expected, logits(open_kernels(library, program, 2), [90])) > 0.02


def test_there_is_no_position_beyond_the_table(graph: Path, library: building.Built) -> None:
    program = read_program(graph)
    assert program.longest == kernel_graphs.CONTEXT
    engine: KernelEngine = open_kernels(library, program, 1)
    engine.reset(kernel_graphs.CONTEXT + 1)
    engine.prefill([3] * kernel_graphs.CONTEXT)
    with pytest.raises(EngineError, match="no room"):
        engine.step(3)
    engine.close()


def shorter(graph: Any, name: str, axis: int) -> None:
    tensor = next(each for each in graph.initializer if each.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.delete(numpy_helper.to_array(tensor), -1, axis), name))


REFUSED: dict[str, tuple[Change, str]] = {
    "more than there are": (lambda graph: set_attribute(nodes_of(graph, "QMoE")[0], "k", 6), "TOP_K"),
    "none": (lambda graph: set_attribute(nodes_of(graph, "QMoE")[0], "k", 0), "0 experts for each token"),
    "others than the router's": (
        lambda graph: set_attribute(nodes_of(graph, "QMoE")[1], "k", 3),
        "experts for each token",
    ),
    "of three bits": (
        lambda graph: set_attribute(nodes_of(graph, "QMoE")[0], "expert_weight_bits", 3),
        "another shape",
    ),
    "a short scale": (lambda graph: shorter(graph, nodes_of(graph, "QMoE")[0].input[3], 2), "another shape"),
    "a short expert": (lambda graph: shorter(graph, nodes_of(graph, "QMoE")[0].input[2], 0), "another shape"),
    "one bias too few": (lambda graph: shorter(graph, nodes_of(graph, "QMoE")[0].input[4], 0), "another shape"),
    "zero points too few": (lambda graph: shorter(graph, nodes_of(graph, "QMoE")[1].input[11], 1), "another shape"),
    "gates side by side": (lambda graph: set_attribute(nodes_of(graph, "QMoE")[0], "swiglu_fusion", 2), "by turns"),
    "something unknown": (lambda graph: set_attribute(nodes_of(graph, "QMoE")[0], "later", 1), "later"),
    "weights of all": (
        lambda graph: set_attribute(nodes_of(graph, "QMoE")[0], "normalize_routing_weights", 0),
        "those of the chosen ones alone",
    ),
    "a sink too few": (
        lambda graph: shorter(graph, nodes_of(graph, "GroupQueryAttention")[0].input[11], 0),
        "sinks of its own",
    ),
    "a narrow router": (lambda graph: shorter(graph, nodes_of(graph, "MatMul")[0].input[1], 0), "not rounded"),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_does_not_fit_together_is_refused(name: str, tmp_path: Path) -> None:
    change, said = REFUSED[name]
    model = kernel_graphs.mixtures()
    change(model.graph)
    path = kernel_graphs.write(model, tmp_path) / "model.onnx"
    with pytest.raises(NotForKernels, match=said):
        read_program(path)


@pytest.mark.parametrize(("power", "known"), [(2, True), (3, False)])
def test_a_square_is_a_product_of_a_number_with_itself(
    power: int, known: bool, library: building.Built, tmp_path: Path
) -> None:
    """Behind a rectifier, as in Arcee."""
    model = kernel_graphs.eight_bits()
    graph = model.graph
    place = next(place for place, node in enumerate(graph.node) if "up0" in node.input)
    user = graph.node[place]
    user.input[:] = ["squared" if each == "up0" else each for each in user.input]
    graph.initializer.append(numpy_helper.from_array(np.array(power, np.float32), "power"))
    graph.node.insert(place, helper.make_node("Pow", ["rectified", "power"], ["squared"], "square"))
    graph.node.insert(place, helper.make_node("Relu", ["up0"], ["rectified"], "rectifier"))
    path = kernel_graphs.write(model, tmp_path) / "model.onnx"
    if not known:
        with pytest.raises(NotForKernels, match="other than a square"):
            read_program(path)
        return
    theirs = logits(open_engine(path.parent, 1), [90])
    assert divergence(theirs, logits(open_kernels(library, read_program(path), 2), [90])) < 0.01
