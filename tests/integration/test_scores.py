"""Log-probabilities of the real starter models are torch's, and their answers are held to schemas."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from playground.config.settings import load_settings
from playground.records import LoadSpec, Request
from playground.runtimes import create_runtime
from playground.runtimes.base import Runtime
from playground.runtimes.generation.token_scores import ScoreIds
from playground.service import Playground

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

SMOLLM2, GEMMA = "smollm2-135m-instruct", "gemma-3-270m"
CONTEXT = "Question: What is the capital of France?\nAnswer:"
CHOICES = (" Paris", " London, of course", " a city in Germany", " Rome")
FIDELITY = {"onnx-fp32": 1e-3, "torch-fp32": 1e-3, "onnx-int8": 0.25, "onnx-int4": 0.35}
"""How far a mean log-probability may be from torch's in fp32, in nats; of fp32, each of them."""

SCHEMAS: dict[str, Any] = {
    "an object": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 20},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "languages": {"type": "array", "items": {"type": "string", "maxLength": 12}, "minItems": 1, "maxItems": 3},
        },
        "required": ["name", "age", "languages"],
        "additionalProperties": False,
    },
    "a choice": {"enum": ["yes", "no", "höchstens 🙂"]},
    "a pattern": {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}$"},
    "parts": {
        "$defs": {"point": {"type": "array", "items": {"type": "integer", "minimum": -9, "maximum": 9}, "maxItems": 2}},
        "type": "object",
        "properties": {"from": {"$ref": "#/$defs/point"}, "to": {"$ref": "#/$defs/point"}, "ok": {"type": "boolean"}},
        "required": ["from", "to"],
        "additionalProperties": False,
    },
}

Load = Callable[[str], LoadSpec]


@pytest.fixture(scope="module")
def load() -> Iterator[Load]:
    with Playground(load_settings()) as playground:

        @cache
        def prepared(name: str) -> LoadSpec:
            spec, variant = playground.catalog.resolve(name)
            artifact = playground.preparer.prepare(variant, lambda *_: None, lambda: False)
            return LoadSpec(spec, artifact, threads=2)

        yield prepared


def opened(load: LoadSpec) -> Runtime:
    runtime = create_runtime(load.artifact.variant.runtime)
    runtime.load(load)
    return runtime


@pytest.fixture(scope="module")
def expected(load: Load) -> Callable[[str, tuple[int, ...]], list[float]]:
    """What transformers' network in fp32 gives for each token of a text but the first."""
    import torch
    from transformers import AutoModelForCausalLM

    @cache
    def network(model: str) -> Any:
        folder = Path(load(f"{model}@torch-fp32").artifact.path)
        packed = {"gguf_file": "model.gguf"} if (folder / "model.gguf").is_file() else {}
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **packed)

    @lru_cache
    def scored(model: str, ids: tuple[int, ...]) -> list[float]:
        with torch.inference_mode():
            rows = torch.log_softmax(network(model)(torch.tensor([ids])).logits[0], dim=-1)
        return [float(rows[place - 1, token]) for place, token in enumerate(ids) if place]

    return scored


@pytest.mark.parametrize("variant", FIDELITY)
def test_a_text_scored_at_once_has_torchs_log_probabilities(
    load: Load, expected: Callable[[str, tuple[int, ...]], list[float]], variant: str
) -> None:
    runtime = opened(load(f"{SMOLLM2}@{variant}"))
    texts = [runtime.encode(CONTEXT + choice, special=True) for choice in CHOICES]
    start = len(runtime.encode(CONTEXT, special=True))
    scored = runtime.score_ids(ScoreIds(tuple(texts), top=1), lambda: False, lambda _: None)
    again = runtime.score_ids(ScoreIds(tuple(texts), starts=(start,) * 4), lambda: False, lambda _: None)
    runtime.close()
    best = []
    for ids, found, tail in zip(texts, scored.logprobs, again.logprobs, strict=True):
        assert found[0] is None
        true = np.asarray(expected(SMOLLM2, ids))
        gaps = np.abs(np.asarray(found[1:], float) - true)
        assert (gaps.max() if "fp32" in variant else gaps.mean()) < FIDELITY[variant]
        assert np.allclose(np.asarray(found[start:], float), np.asarray(tail, float), atol=1e-4)
        best.append((sum(tail), sum(true[start - 1 :])))  # type: ignore[arg-type]
    assert max(range(4), key=lambda place: best[place][0]) == max(range(4), key=lambda place: best[place][1])
    # What the four have in common is read once.
    assert scored.read < start + sum(len(ids) - start for ids in texts)


@pytest.mark.parametrize("model", [SMOLLM2, GEMMA])
def test_an_answers_log_probabilities_are_those_of_its_text_scored_to_the_last_bit(load: Load, model: str) -> None:
    runtime = opened(load(f"{model}@onnx-int8"))
    request = Request("The sea is", max_new_tokens=30, logprobs=3)
    run = list(runtime.generate(request, lambda: False))[-1].run
    assert run is not None and run.token_ids and run.engine and run.engine.startswith("kernels")
    prompt = runtime.inspect(request).token_ids
    task = ScoreIds(((*prompt, *run.token_ids),), top=3, starts=(len(prompt),))
    scored = runtime.score_ids(task, lambda: False, lambda _: None).tokens(task)[0]
    runtime.close()
    assert scored == run.logprobs
    # Greedy takes the likeliest.
    assert all(each.id == each.top_ids[0] and each.logprob == each.top_logprobs[0] for each in scored)


@pytest.mark.parametrize("model", [SMOLLM2, GEMMA])
def test_answers_parse_and_fit_their_schemas(load: Load, model: str) -> None:
    runtime = opened(load(f"{model}@onnx-int8"))
    for name, schema in SCHEMAS.items():
        for how in ({}, {"temperature": 1.0, "seed": 1}, {"temperature": 1.5, "seed": 2, "top_p": 0.9}):
            request = Request("A person, as JSON:", max_new_tokens=200, json_schema=json.dumps(schema), **how)  # type: ignore[arg-type]
            run = list(runtime.generate(request, lambda: False))[-1].run
            assert run is not None and run.finish_reason == "stop", (name, run)
            jsonschema.validate(json.loads(run.text), schema)
    runtime.close()


def test_a_worker_scores_encodes_and_spells(load: Load, tmp_path: Path) -> None:
    with Playground(load_settings()) as playground:
        ids = playground.encode(SMOLLM2, CONTEXT + CHOICES[0], special=True)
        found = playground.score_tokens(SMOLLM2, [ids, ids[:4], ids[:1]], top=2, starts=[3, 0, 0])
        assert [len(each) for each in found] == [len(ids) - 3, 4, 1]
        assert found[1][1:] and found[2][0].logprob is None and found[1][3] == found[0][0]
        assert "".join(playground.decode(SMOLLM2, ids)) == CONTEXT + CHOICES[0]
