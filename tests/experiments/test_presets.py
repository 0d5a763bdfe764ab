"""Presets: every value from somebody who said so, and nothing where nobody did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from playground.catalog.entries import load_catalog
from playground.experiments.presets import CHOOSING, Preset, presets
from playground.paths import CATALOG
from playground.records import Request
from playground.service import Playground


def told(name: str, folder: Path | None = None) -> dict[str, Preset]:
    return {preset.id: preset for preset in presets(load_catalog(CATALOG).entry(name), folder)}


def test_every_model_has_the_two_of_ours_and_each_sets_all_that_chooses() -> None:
    found = told("gpt2")
    assert list(found) == ["deterministic", "creative"]
    for preset in found.values():
        assert tuple(preset.values) == CHOOSING
        assert preset.source
    warm = Request("Hi", temperature=0.5, top_k=3, min_p=0.1, repetition_penalty=1.3, seed=7)
    assert found["deterministic"].on(warm) == Request("Hi", seed=7)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("smollm2-135m-instruct", {"temperature": 0.2, "top_p": 0.9}),
        ("qwen3-0.6b", {"temperature": 0.6, "top_p": 0.95, "top_k": 20}),
        ("lfm2-350m", {"temperature": 0.3, "min_p": 0.15, "repetition_penalty": 1.05}),
    ],
)
def test_what_the_card_recommends_comes_with_its_address(name: str, values: dict[str, float]) -> None:
    preset = told(name)["card"]
    assert preset.on(Request("Hi")) == Request("Hi", **values)  # type: ignore[arg-type]
    assert preset.url.startswith("https://huggingface.co/")


@pytest.mark.parametrize(
    ("written", "values"),
    [
        ({"do_sample": True, "top_k": 64, "top_p": 0.95}, {"temperature": 1.0, "top_k": 64, "top_p": 0.95}),
        ({"temperature": 0.6, "top_p": 0.9}, {"temperature": 0.6, "top_p": 0.9}),
        ({"do_sample": False, "temperature": 0.6, "repetition_penalty": 1.1}, {"repetition_penalty": 1.1}),
        ({"do_sample": True, "temperature": "hot", "top_p": 7, "top_k": 5}, {"temperature": 1.0, "top_k": 5}),
        ({"eos_token_id": 2}, None),
        ({"repetition_penalty": 1.1}, None),
        (None, None),
    ],
)
def test_what_the_models_own_files_recommend(
    tmp_path: Path, written: dict[str, Any] | None, values: dict[str, Any] | None
) -> None:
    if written is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(written))
    preset = told("gpt2", tmp_path).get("files")
    assert (preset and preset.on(Request("Hi"))) == (values and Request("Hi", **values))


def test_the_service_knows_the_presets_of_a_variant_before_it_is_prepared(playground: Playground) -> None:
    (fast,) = playground.variants(["fast"])
    assert [preset.id for preset in playground.presets(fast)] == ["deterministic", "creative"]
