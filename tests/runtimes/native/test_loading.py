"""Weights are packed while others load; nothing runs on them, and nobody gives them back, before they all are."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from playground.kernels import building
from playground.kernels.library import Library
from playground.records import Artifact, LoadSpec, ModelSpec, Variant
from playground.runtimes.generation.decoding import DecodingRuntime
from playground.runtimes.native.engine import KernelEngine
from playground.runtimes.native.lowering import read_program
from tests.support import kernel_graphs, kernel_sets

pytestmark = [pytest.mark.integration, pytest.mark.parallel]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> building.Built:
    if reason := building.obstacle():
        pytest.skip(str(reason))
    return kernel_sets.compile_library(kernel_sets.sets()[-1], tmp_path_factory.mktemp("library"))


@pytest.fixture(params=["four bits", "eight bits"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return kernel_graphs.write(kernel_graphs.GRAPHS[request.param](), tmp_path, beside=True) / "model.onnx"


def held_up(library: Library, until: threading.Event) -> None:
    """Its packing begins when ``until`` is set."""
    described: Any = library.packing

    def packing(*given: Any) -> Any:
        matrices, pack = described(*given)

        def later() -> None:
            assert until.wait(30)
            pack()

        return matrices, later

    library.packing = packing  # type: ignore[method-assign]


def logits(engine: KernelEngine) -> Any:
    engine.reset(60)
    return engine.prefill(range(1, 50)).copy()


def in_a_moment(until: threading.Event, work: Callable[[], Any]) -> Any:
    timer = threading.Timer(0.2, until.set)
    timer.start()
    try:
        return work()
    finally:
        timer.join()


def test_a_run_waits_for_the_weights(path: Path, built: building.Built) -> None:
    plain = KernelEngine(Library(built), read_program(path), 2)
    expected = logits(plain)
    plain.close()
    library, until = Library(built), threading.Event()
    held_up(library, until)
    engine = KernelEngine(library, read_program(path), 2)
    assert not engine._panels.any()
    assert np.array_equal(in_a_moment(until, lambda: logits(engine)), expected)
    engine.close()


def test_memory_is_not_given_back_under_the_packing(path: Path, built: building.Built) -> None:
    library, until = Library(built), threading.Event()
    held_up(library, until)
    engine = KernelEngine(library, read_program(path), 2)
    panels = engine._panels
    in_a_moment(until, engine.close)
    assert panels.any(), "it was waited for"


def test_an_engine_that_is_given_up_unused_takes_no_memory_from_under_the_packing(
    path: Path, built: building.Built
) -> None:
    library, until = Library(built), threading.Event()
    held_up(library, until)
    engine = KernelEngine(library, read_program(path), 2)
    packing, panels = engine._packing, weakref.ref(engine._panels.base)
    assert packing
    del engine
    gc.collect()
    assert panels() is not None
    until.set()
    packing.result()
    del packing
    gc.collect()
    assert panels() is None


def test_an_older_library_packs_one_by_one(path: Path, built: building.Built) -> None:
    plain = KernelEngine(Library(built), read_program(path), 2)
    library = Library(built)
    library.packs_all = False
    engine = KernelEngine(library, read_program(path), 2)
    assert engine._packing is None
    assert np.array_equal(logits(engine), logits(plain))
    assert np.array_equal(engine._panels, plain._panels)
    engine.close()
    plain.close()


def test_a_model_without_a_tokenizer_leaves_no_engine_behind(path: Path, built: building.Built) -> None:
    engine = KernelEngine(Library(built), read_program(path), 2)

    class Runtime(DecodingRuntime):
        def open_engine(self, load: LoadSpec) -> KernelEngine:
            return engine

    spec = ModelSpec("m", "M", "x", "0", "onnx", "int8", 2048, "chat")
    artifact = Artifact(Variant("m", "onnx", "int8"), str(path.parent), "fused", "r", "s", 1)
    with pytest.raises(Exception, match="tokenizer"):
        Runtime().load(LoadSpec(spec, artifact, 2))
    assert engine._handle is None
