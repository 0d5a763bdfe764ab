"""Activations that become infinite or no numbers end a run with an error that says where, and leave nothing behind."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from playground.config.settings import Settings
from playground.kernels import building
from playground.kernels.building import Built
from playground.records import LoadSpec, ModelSpec, Request
from playground.runtimes.generation.engine import EngineError
from playground.runtimes.native.engine import KernelEngine, open_kernels
from playground.runtimes.native.lowering import read_program
from playground.runtimes.native.program import Program
from playground.workers.pool import Pool
from tests.support import kernel_graphs, tiny
from tests.support.tiny_bank import TinyBank, make

pytestmark = [
    pytest.mark.integration,
    pytest.mark.parallel,
    pytest.mark.xdist_group("no-numbers"),
    pytest.mark.skipif(building.obstacle() is not None, reason=building.obstacle() or ""),
]

Array = NDArray[Any]
IDS = [(7919 * place + 13) % (kernel_graphs.VOCAB - 1) for place in range(90)]
RARE = kernel_graphs.VOCAB - 1
"""A token that ``IDS`` don't have."""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return building.build(tmp_path_factory.mktemp("library"))


@pytest.fixture(scope="module", params=list(kernel_graphs.GRAPHS))
def graph(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kernel_graphs.write(kernel_graphs.GRAPHS[request.param](), tmp_path_factory.mktemp("graph")) / "model.onnx"


def changed(program: Program, kind: str, which: int, number: float) -> str:
    """Plant ``number`` into a constant of a step whose kind ends in ``kind``; what the graph calls its node."""
    step = [each for each in program.steps if each.kind.name.endswith(kind)][which]
    if step.weights is not None:
        scales = step.weights.scales.copy()
        scales[-1, 0] = number
        object.__setattr__(step.weights, "scales", scales)
    else:
        tensor = np.array(step.tensors[0])
        tensor.reshape(-1)[-1] = number
        step.tensors = (tensor, *step.tensors[1:])
    return step.node


Planted = tuple[str, int, float]
"""A kind of step, which of them, and the number in one of its constants."""

PLANTED: list[Planted] = [
    ("NORM", 0, np.nan),
    ("NORM", 0, np.inf),
    ("NORM", -1, np.nan),
    ("MUL_MAT", 0, np.nan),
    ("MUL_MAT", 1, np.inf),
    ("MUL_MAT", -1, np.nan),
    ("NORM", 0, 3e38),  # finite, and then too large
]


@pytest.mark.parametrize("planted", PLANTED)
@pytest.mark.parametrize("threads", [1, 3])
def test_a_weight_that_is_no_number_ends_a_prompt_and_a_step(
    planted: Planted, threads: int, graph: Path, library: Built
) -> None:
    program = read_program(graph)
    changed(program, *planted)
    engine = open_kernels(library, program, threads)
    engine.reset(len(IDS))
    for ids in (IDS, IDS[:1]):
        with pytest.raises(EngineError, match=r"infinite or no numbers \(NaN\), first met at .+ \([A-Z0-9_]+\)$"):
            engine.prefill(ids)
    with pytest.raises(EngineError, match="first met at"):
        engine.step(IDS[0])
    with pytest.raises(EngineError, match="first met at"):
        list(engine.rows(IDS, 5))
    engine.close()


def test_the_error_names_the_node_that_met_it_first(graph: Path, library: Built) -> None:
    program = read_program(graph)
    node = changed(program, "MUL_MAT", -1, np.nan)
    engine = open_kernels(library, program, 2)
    engine.reset(len(IDS))
    with pytest.raises(EngineError, match=rf"first met at {re.escape(node)} \(MUL_MAT\)"):
        engine.prefill(IDS)
    engine.close()


def test_behind_such_a_run_the_next_one_gives_the_bits_it_always_gave(library: Built, tmp_path: Path) -> None:
    graph = kernel_graphs.write(kernel_graphs.GRAPHS["eight bits"](), tmp_path) / "model.onnx"
    program = read_program(graph)
    (lookup,) = [step for step in program.steps if step.kind.name.startswith("GET_ROWS") and step.tensors]
    place = 1 if lookup.kind.name == "GET_ROWS_Q8" else 0
    table = np.array(lookup.tensors[place])
    table[RARE, 0] = np.nan
    lookup.tensors = (*lookup.tensors[:place], table, *lookup.tensors[place + 1 :])
    engine = open_kernels(library, program, 2)
    expected = read(engine, IDS)
    with pytest.raises(EngineError, match="no numbers"):
        read(engine, [*IDS[:70], RARE, *IDS[70:]])
    assert np.array_equal(read(engine, IDS), expected)
    with pytest.raises(EngineError, match="no numbers"):
        engine.step(RARE)
    assert np.array_equal(read(engine, IDS), expected)
    engine.close()


def read(engine: KernelEngine, ids: list[int]) -> Array:
    engine.reset(len(ids) + 10)
    return engine.prefill(ids).copy()


@pytest.mark.parametrize("factor", [1.0, 1e7])
def test_what_is_too_large_for_the_cache_is_counted_and_said(factor: float, library: Built, tmp_path: Path) -> None:
    graph = kernel_graphs.write(kernel_graphs.GRAPHS["eight bits"](), tmp_path) / "model.onnx"
    program = read_program(graph)
    kinds = [step.kind.name for step in program.steps]
    weights = program.steps[max(place for place in range(kinds.index("ROPE")) if kinds[place] == "MUL_MAT")].weights
    assert weights is not None
    object.__setattr__(weights, "scales", weights.scales * np.float32(factor))
    engine = open_kernels(library, program, 2)
    read(engine, IDS)
    if factor == 1.0:
        assert engine.warnings == ()
    else:
        (said,) = engine.warnings
        count = int(str(said).split()[0].replace(",", ""))
        assert 0 < count <= 2 * len(IDS) * kernel_graphs.KV_HEADS * kernel_graphs.SIZE
        engine.reset(10)
        assert engine.warnings == ()
    engine.close()


def test_a_run_in_a_worker_ends_with_the_models_name(tiny_bank: TinyBank, tmp_path: Path, settings: Settings) -> None:
    spec = ModelSpec("tiny", "Tiny", f"path:{tiny_bank.source}", "", "onnx", "int8", tiny.CONTEXT, "chat")
    artifact = make(tiny_bank.source, tiny_bank.home(tmp_path / "home", "int8"), "int8")
    assert artifact.engine.startswith("kernels")
    spoil(Path(artifact.path))
    pool = Pool(settings)
    try:
        *_, last = pool.generate(LoadSpec(spec, artifact, 2), Request("the fox", max_new_tokens=8), lambda: False)
        assert last.run is not None and last.run.error is not None
        assert last.run.error.startswith("tiny@onnx-int8: computing failed (activations became infinite or no numbers")
        assert "layers.1/input_layernorm" in last.run.error and last.run.text == ""
    finally:
        pool.close()


def spoil(folder: Path) -> None:
    """One scale of the first layer's last product becomes NaN, in the file."""
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    node = next(each for each in model.graph.node if "layers.0/mlp/down_proj" in each.output[0])
    (scales,) = [each for each in model.graph.initializer if each.name == node.input[2]]
    place = {entry.key: entry.value for entry in scales.external_data}
    file = np.memmap(folder / place["location"], np.float32, "r+", int(place.get("offset", 0)), (1,))
    file[0] = np.nan
    file.flush()
