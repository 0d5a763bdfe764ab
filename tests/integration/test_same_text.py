"""SmolLM2 by the fused builder, from an ONNX folder that optimum exported, and in torch: one greedy text in fp32."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from playground.config.settings import load_settings
from playground.export.recipes.overlay import ensure_overlay
from playground.export.recipes.prebuilt import find_prebuilt, place_prebuilt
from playground.export.weights import SIDE_FILES
from playground.paths import ROOT
from playground.records import Artifact, LoadSpec, Request, Variant
from playground.runtimes import create_runtime
from playground.runtimes.onnx.engines import GrowingEngine, SharedEngine
from playground.service import Playground

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]

MODEL = "smollm2-135m-instruct"
PROMPTS = ("Hi", "Why is the sky blue? " * 12, "Write a haiku about the sea.")

EXPORT = "import sys; from pathlib import Path; from _contender import exported; exported(Path(sys.argv[1]))"


@pytest.fixture(scope="module")
def loads(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, LoadSpec]]:
    settings = load_settings()
    with Playground(settings) as playground:
        found = {}
        for name in ("onnx-fp32", "torch-fp32"):
            spec, variant = playground.catalog.resolve(f"{MODEL}@{name}")
            artifact = playground.preparer.prepare(variant, lambda *_: None, lambda: False)
            found[name] = LoadSpec(spec, artifact, threads=2)
        original = Path(found["torch-fp32"].artifact.path)
        repo = repository(tmp_path_factory.mktemp("repo"), exported(settings.home, original), original)
        prebuilt = find_prebuilt(repo, "fp32")
        assert prebuilt is not None and prebuilt.name == "onnx/model.onnx"
        folder = tmp_path_factory.mktemp("prebuilt")
        place_prebuilt(prebuilt, repo, folder)
        artifact = Artifact(Variant(MODEL, "onnx", "fp32"), str(folder), "prebuilt", "", "", 0)
        found["prebuilt"] = LoadSpec(found["onnx-fp32"].spec, artifact, threads=2)
        yield found


def exported(home: Path, original: Path) -> Path:
    """optimum's fp32 graph, made once; ``bench engine`` uses the same."""
    place = home / "bench"
    place.mkdir(parents=True, exist_ok=True)
    overlay = ensure_overlay(home, lambda *_: None, lambda: False)
    path = os.pathsep.join((str(overlay), str(ROOT / "benchmarks")))
    subprocess.run(
        [sys.executable, "-c", EXPORT, str(original)],
        check=True,
        env=os.environ | {"PYTHONPATH": path, "BENCH_EXPORTS": str(place)},
        stdout=subprocess.DEVNULL,
    )
    return place / original.name


def repository(folder: Path, graphs: Path, original: Path) -> Path:
    """As the Hub has them: the graph in ``onnx/``, tokenizer and config above it."""
    for name in SIDE_FILES:
        if (original / name).is_file():
            shutil.copy(original / name, folder / name)
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.onnx").symlink_to(graphs / "model.onnx")
    return folder


def test_three_ways_to_one_model_give_one_text(loads: dict[str, LoadSpec]) -> None:
    assert loads["onnx-fp32"].artifact.recipe == "fused"
    texts: dict[str, list[str]] = {}
    engines = {}
    for name, load in loads.items():
        runtime = create_runtime(load.artifact.variant.runtime)
        runtime.load(load)
        engines[name] = type(runtime._loaded.engine)  # type: ignore[attr-defined]
        texts[name] = []
        for prompt in PROMPTS:
            run = list(runtime.generate(Request(prompt, max_new_tokens=48), lambda: False))[-1].run
            assert run is not None
            texts[name].append(run.text)
        runtime.close()
    assert engines["onnx-fp32"] is SharedEngine and engines["prebuilt"] is GrowingEngine
    assert texts["prebuilt"] == texts["onnx-fp32"] == texts["torch-fp32"]
    assert all(len(text) > 20 for text in texts["prebuilt"])
