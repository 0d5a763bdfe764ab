"""Means of activations by block, beside the activations once or in copies: what products make of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from playground.kernels import building
from playground.kernels.building import Built
from playground.kernels.library import BLOCK, mean_copies
from playground.runtimes.native.engine import open_kernels
from playground.runtimes.native.lowering import read_program
from playground.runtimes.native.program import NotForKernels
from playground.runtimes.onnx.runtime import open_engine
from tests.support import kernel_graphs, kernel_sets

pytestmark = pytest.mark.parallel
IDS = [(7919 * place + 13) % kernel_graphs.VOCAB for place in range(60)]


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every product of four bits has all means in copies, random numbers in all of their columns and behind them."""
    return kernel_graphs.write(kernel_graphs.four_bits(mean_copies), tmp_path_factory.mktemp("graph")) / "model.onnx"


def logits(engine: Any) -> Any:
    engine.reset(len(IDS) + 1)
    return np.stack([engine.prefill(IDS[:40]).copy(), *(engine.step(each).copy() for each in IDS[40:])])


def test_a_program_knows_the_copies(graph: Path) -> None:
    weights = [step.weights for step in read_program(graph).steps if step.weights and step.weights.mean_blocks]
    expected = [-(-mean_copies(width // BLOCK) * (width // BLOCK) // BLOCK) for width in (64, 64, 64, 96)]
    assert [each.mean_blocks for each in weights] == expected
    assert [each.blocks for each in weights] == [2, 2, 2, 3]


@pytest.mark.parametrize("copies", [2, 16, 18])
def test_another_number_of_copies_is_refused(copies: int, tmp_path: Path) -> None:
    folder = kernel_graphs.write(kernel_graphs.four_bits(lambda _: copies), tmp_path)
    with pytest.raises(NotForKernels):
        read_program(folder / "model.onnx")


def test_a_product_of_fewer_columns_than_there_are_copies_is_refused(tmp_path: Path) -> None:
    model = kernel_graphs.four_bits(mean_copies)
    product = next(node for node in model.graph.node if node.op_type == "MatMulNBits")
    next(each for each in product.attribute if each.name == "K").i -= 2
    with pytest.raises(NotForKernels, match="columns"):
        read_program(kernel_graphs.write(model, tmp_path) / "model.onnx")


@pytest.mark.integration
@kernel_sets.needs_compiler
def test_logits_are_onnxruntimes(graph: Path, tmp_path: Path) -> None:
    ours, theirs = open_kernels(compiled(tmp_path), read_program(graph), 1), open_engine(graph.parent, 1)
    assert theirs.name == "onnxruntime"
    expected, found = logits(theirs), logits(ours)
    ours.close()
    # Both round activations to eight bits, ONNX Runtime means as well.
    assert np.abs(found - expected).std() < 0.03 * expected.std()


@pytest.mark.integration
@kernel_sets.needs_compiler
def test_a_library_that_knows_one_copy_alone_is_refused(graph: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="an older version's: it has no mean_copies"):
        open_kernels(compiled(tmp_path, "-Dpg_mean_copies=pg_unknown"), read_program(graph), 1)


def compiled(folder: Path, *more: str) -> Built:
    options = [each for each in building.OPTIONS if each != "-O3"]
    unit = building.SOURCE / building.UNIT
    return Built.of(
        kernel_sets.compile_c(kernel_sets.sets()[0], [*options, "-O1", *more], unit, folder / building.LIBRARY)
    )
