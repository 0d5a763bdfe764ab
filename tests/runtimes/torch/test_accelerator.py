"""``torch-bf16``: on an accelerator or not at all, and in no order with figures of processors.

There is no accelerator where these tests were written: the CPU stands for one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from playground.catalog.entries import load_catalog
from playground.choose import evidence
from playground.errors import ExportError, RunError, UsageError
from playground.export import cache, pipeline
from playground.paths import PACKAGE
from playground.records import (
    ON_ACCELERATOR,
    Artifact,
    Environment,
    LoadSpec,
    ModelRun,
    ModelSpec,
    Request,
    Timings,
    Variant,
)
from playground.results.figures import Measured, Measurement, figure, ranks_of
from playground.runtimes.torch import accelerator, runtime
from playground.runtimes.torch.accelerator import Accelerator, find_accelerator
from playground.runtimes.torch.runtime import TorchRuntime
from tests.support import tiny

BF16, FP32 = Variant("tiny", "torch", "bf16"), Variant("tiny", "torch", "fp32")
PRETEND = Accelerator("cpu", "Pretended")


def spec(source: Path) -> ModelSpec:
    return ModelSpec("tiny", "Tiny", f"path:{source}", "", "torch", "fp32", tiny.CONTEXT, "chat")


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "find_accelerator", lambda: PRETEND)
    monkeypatch.setattr(runtime, "find_accelerator", lambda: PRETEND)


@pytest.fixture
def none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def test_cuda_is_taken_before_mps_and_named(none: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_accelerator() is None
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    found = find_accelerator()
    assert found is not None and found.engine == "torch bf16 on Apple GPU (mps)"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"NVIDIA L4 no. {index}")
    found = find_accelerator()
    assert found is not None and found.engine == "torch bf16 on NVIDIA L4 no. 0 (cuda)"


def test_without_an_accelerator_it_is_refused_before_anything_is_fetched(none: None, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="torch finds no accelerator here") as raised:
        pipeline.make(spec(tmp_path / "nowhere"), BF16, tmp_path / "home", lambda *_: None, lambda: False)
    assert "tiny@torch-fp32" in str(raised.value.next_step)
    assert not (tmp_path / "home").exists()
    load = LoadSpec(spec(tmp_path), Artifact(BF16, str(tmp_path), "none", "", "", 0), 1)
    with pytest.raises(RunError, match="torch finds no accelerator here"):
        TorchRuntime().open_engine(load)


def test_it_is_judged_and_runs_in_bf16_under_the_name_of_the_device(pretended: None, tmp_path: Path) -> None:
    source = tiny.write_model(tmp_path / "source")
    made = pipeline.make(spec(source), BF16, tmp_path / "home", lambda *_: None, lambda: False)
    assert made.variant == BF16
    assert made.fidelity is not None and made.fidelity.verdict in ("faithful", "lossy")
    folder = cache.artifact_folder(tmp_path / "home", spec(source), BF16, made.revision)
    assert folder != cache.artifact_folder(tmp_path / "home", spec(source), FP32, made.revision)
    assert cache.read(folder, tmp_path / "home") == made
    engines = [
        TorchRuntime().open_engine(LoadSpec(spec(source), Artifact(each, made.path, "none", "", "", 0), 1))
        for each in (BF16, FP32)
    ]
    assert [each.name for each in engines] == ["torch bf16 on Pretended (cpu)", "torch"]
    rows = []
    for engine in engines:
        engine.reset(8)
        rows.append([engine.prefill([1, 2, 3]).copy(), engine.step(4).copy()])
        engine.close()
    for bf16, fp32 in zip(*rows, strict=True):
        assert bf16.dtype == np.float32
        assert 0 < np.abs(bf16 - fp32).max() < fp32.std() / 2


def measured(name: str, engine: str, rate: float) -> Measured:
    rates = figure("decode_tok_s", "tokens/s", [rate, rate, rate])
    variant = Variant(name, "torch", "fp32")
    return Measured(variant, "torch", "fp32", engine=engine, output_tokens=8, figures={"decode_tok_s": rates})


@pytest.mark.parametrize(
    ("engines", "expected"),
    [
        (("torch", f"{ON_ACCELERATOR}L4 (cuda)", "onnxruntime"), [2, None, 1]),
        (("torch", f"{ON_ACCELERATOR}L4 (cuda)"), [None, None]),
        ((f"{ON_ACCELERATOR}L4 (cuda)", f"{ON_ACCELERATOR}L4 (cuda)"), [2, 1]),
        ((f"{ON_ACCELERATOR}L4 (cuda)", f"{ON_ACCELERATOR}T4 (cuda)"), [None, None]),
    ],
)
def test_figures_of_an_accelerator_stand_in_no_order_with_others(
    engines: tuple[str, ...], expected: list[int | None]
) -> None:
    models = tuple(measured(f"m{place}", engine, 10.0 + 10 * place) for place, engine in enumerate(engines))
    request = Request("x", max_new_tokens=8)
    found = ranks_of(Measurement("1", "", request, 3, models, Environment("a processor", 2, None)), "decode_tok_s")
    assert [place and place.rank for place in found] == expected


def test_they_are_no_evidence_for_a_choice() -> None:
    assert evidence._usable(measured("m", "torch", 10.0))
    assert not evidence._usable(measured("m", f"{ON_ACCELERATOR}L4 (cuda)", 10.0))
    run = ModelRun(FP32, "torch", "fp32", "text", "stop", Timings(decode_tok_s=10.0, unit="token"), engine="torch")
    assert evidence._run_figures(run)
    on_it = ModelRun(BF16, "torch", "bf16", "text", "stop", run.timings, engine=f"{ON_ACCELERATOR}L4 (cuda)")
    assert evidence._run_figures(on_it) == {}


def test_whoever_asks_for_it_is_understood_and_it_is_offered_nowhere() -> None:
    catalog = load_catalog(PACKAGE / "catalog" / "catalog.yaml")
    _, variant = catalog.resolve("smollm2-135m-instruct@torch-bf16")
    assert (variant.runtime, variant.precision) == ("torch", "bf16")
    assert variant not in catalog.entry("smollm2-135m-instruct").variants
    with pytest.raises(UsageError):
        catalog.resolve("smollm2-135m-instruct@onnx-bf16")
