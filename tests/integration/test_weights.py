"""The two starter models: from the package index to checked artifacts, token for token and logit for logit.

Uses PLAYGROUND_HOME, so a home that has them already makes this quick.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from playground.catalog.entries import load_catalog
from playground.config.settings import load_settings
from playground.export import Preparer
from playground.records import Artifact, Variant

pytestmark = pytest.mark.integration

DATA = Path(__file__).parents[1] / "data"
SMOLLM2, GEMMA = "smollm2-135m-instruct", "gemma-3-270m"
MODELS = [SMOLLM2, GEMMA]


@pytest.fixture(scope="module")
def preparer():  # type: ignore[no-untyped-def]
    settings = load_settings()
    made = Preparer(settings, load_catalog(settings.catalog_file))
    yield made
    made.close()


def prepare(preparer: Preparer, text: str) -> Artifact:
    return preparer.prepare(Variant.parse(text), lambda step, share: None, lambda: False)


def read(artifact: Artifact, name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((Path(artifact.path) / name).read_text(encoding="utf-8"))
    return document


@pytest.mark.timeout(900)
@pytest.mark.parametrize("model", MODELS)
def test_the_default_artifact_is_a_faithful_int8_export(preparer: Preparer, model: str) -> None:
    artifact = prepare(preparer, model)
    assert artifact.variant == Variant(model, "onnx", "int8")
    assert (artifact.recipe, artifact.fallbacks) == ("fused", ())
    assert artifact.fidelity is not None
    assert artifact.fidelity.verdict == "faithful", artifact.fidelity.reason
    assert artifact.fidelity.positions >= 512
    assert set(artifact.tool_versions) >= {"transformers", "torch", "onnxruntime", "onnxruntime-genai"}
    assert preparer.state(Variant.parse(model)).status == "ready"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("model", MODELS)
def test_token_ids_are_those_of_the_reference_for_every_string(preparer: Preparer, model: str) -> None:
    tokenizer = Tokenizer.from_file(str(Path(prepare(preparer, model).path) / "tokenizer.json"))
    golden = json.loads((DATA / f"golden-{model}.json").read_text(encoding="utf-8"))
    assert golden["rows"]
    for row in golden["rows"]:
        assert tokenizer.encode(row["text"], add_special_tokens=False).ids == row["ids_special"], row["text"]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("model", "bos", "eos", "adds_bos"),
    [(SMOLLM2, "<|im_start|>", "<|im_end|>", False), (GEMMA, "<bos>", "<eos>", True)],
)
def test_begin_and_end_tokens_are_the_models_own(
    preparer: Preparer, model: str, bos: str, eos: str, adds_bos: bool
) -> None:
    artifact = prepare(preparer, model)
    config, tokens = read(artifact, "config.json"), read(artifact, "tokenizer_config.json")
    tokenizer = Tokenizer.from_file(str(Path(artifact.path) / "tokenizer.json"))
    assert (tokens["bos_token"], tokens["eos_token"]) == (bos, eos)
    assert (config["bos_token_id"], config["eos_token_id"]) == (tokenizer.token_to_id(bos), tokenizer.token_to_id(eos))
    assert read(artifact, "generation_config.json")["eos_token_id"] == config["eos_token_id"]
    assert (tokenizer.encode("hi").ids[0] == tokenizer.token_to_id(bos)) is adds_bos
    assert (Path(artifact.path) / "chat_template.jinja").exists() is (model == SMOLLM2)


@pytest.mark.timeout(900)
def test_the_original_is_shared_and_judged_as_torch_runs_it(preparer: Preparer) -> None:
    artifact = prepare(preparer, f"{SMOLLM2}@torch-fp32")
    assert artifact.recipe == "none"
    assert artifact.fidelity is not None
    assert artifact.fidelity.verdict == "exact"
    assert "GGUF" in artifact.fidelity.reference
    # An import that was made before GGUF files were kept as they came holds safetensors, and is used as it is.
    assert any((Path(artifact.path) / name).is_file() for name in ("model.gguf", "model.safetensors"))


@pytest.mark.timeout(900)
def test_fp32_is_exact_and_int4_is_smaller_and_as_close_as_its_engine_allows(preparer: Preparer) -> None:
    int8 = prepare(preparer, SMOLLM2)
    fp32, int4 = (prepare(preparer, f"{SMOLLM2}@onnx-{precision}") for precision in ("fp32", "int4"))
    assert fp32.fidelity is not None
    assert int4.fidelity is not None
    assert (fp32.fidelity.verdict, fp32.fidelity.top1_agreement) == ("exact", 1.0)
    # Sums of blocks in every product make up for whole zero points, where the kernels compute and get them for nothing.
    verdict, worst = ("faithful", 0.008) if int4.engine.startswith("kernels") else ("lossy", 0.03)
    assert int4.fidelity.verdict == verdict, int4.fidelity.reason
    assert int4.fidelity.mean_kl < worst
    assert int4.size_bytes < int8.size_bytes < fp32.size_bytes


@pytest.mark.timeout(900)
def test_a_second_preparer_finds_everything_without_a_process(
    preparer: Preparer, monkeypatch: pytest.MonkeyPatch
) -> None:
    import subprocess

    artifact = prepare(preparer, SMOLLM2)

    def refuse(*args: object, **named: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    settings = load_settings()
    assert prepare(Preparer(replace(settings), load_catalog(settings.catalog_file)), SMOLLM2) == artifact
