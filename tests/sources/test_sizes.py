"""Which sizes of a configuration are believed: those of every family that transformers knows, and none that would take
all memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from playground.errors import SourceError
from playground.sources import limits, sizes

LISTS = (
    "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES",
    "MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES",
)
"""transformers' own lists of what writes text."""


@cache
def families() -> tuple[str, ...]:
    from transformers.models.auto import modeling_auto

    return tuple(sorted({name for each in LISTS for name in getattr(modeling_auto, each)}))


def configurations(family: str) -> Iterator[Any]:
    """What transformers itself believes of a family: its default, and the same with other numbers of layers."""
    from transformers import CONFIG_MAPPING

    known = CONFIG_MAPPING[family]
    for changed in ({}, {"num_hidden_layers": 2}, {"num_hidden_layers": 96}):
        try:
            yield known(**changed)
        except Exception:  # a family may refuse a number of layers, or have no default at all
            continue


@pytest.mark.integration
def test_no_family_is_refused_by_its_own_defaults(tmp_path: Path) -> None:
    refused, tried = [], 0
    for family in families():
        for config in configurations(family):
            for whole in (True, False):
                path = tmp_path / "config.json"
                path.write_text(config.to_json_string(use_diff=not whole))
                tried += 1
                try:
                    limits.check_config(family, path)
                except SourceError as error:
                    refused.append(str(error))
    assert tried > 3 * len(families())
    assert not refused


LLAMA = {"model_type": "llama", "vocab_size": 128, "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128}
PARAMETERS = 2 * 128 * 64 + 2 * (4 * 64 * 64 + 3 * 64 * 128)


@pytest.mark.parametrize(
    "none",
    [
        {"num_experts": None},
        {"num_experts": 0, "num_local_experts": 0, "n_routed_experts": None},
        {"intermediate_size": None},
        {"intermediate_size": 0, "moe_intermediate_size": 0},
        {"head_dim": None},
        {"head_dim": 0},
        {"num_key_value_heads": [4, None, 0, 2]},
        {"max_position_embeddings": None},
        {"max_position_embeddings": 1200.0},
        {"vision_config": {"vocab_size": 0, "hidden_size": None, "num_hidden_layers": 0}},
        {"text_config": dict(LLAMA, num_experts=None), "vocab_size": 0},
    ],
)
def test_none_and_nought_say_that_a_family_has_no_such_part(none: dict[str, Any]) -> None:
    assert sizes.complaint(LLAMA | none) == ""


@pytest.mark.parametrize("place", ["text_config", "language_config", "llm_config", "decoder", "vision_config", "parts"])
def test_every_part_of_a_configuration_is_looked_into(place: str) -> None:
    said = sizes.complaint(LLAMA | {place: {"deeper": [{"num_hidden_layers": 10**9}]}})
    assert said.startswith(f"{place}.deeper.num_hidden_layers is 1000000000; ")
    assert "1,024" in said


@pytest.mark.parametrize("value", ["two", 4.5, True, -1, float("nan"), float("inf"), [2, "x"], [[1], [10**9]]])
def test_what_is_no_number_of_layers_is_named(value: Any) -> None:
    assert sizes.complaint(LLAMA | {"num_hidden_layers": value}).startswith("num_hidden_layers is ")


def test_a_refusal_names_field_value_and_reason_and_sends_nobody_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(LLAMA | {"num_attention_heads": 10**6}))
    with pytest.raises(SourceError) as caught:
        limits.check_config("Tiny", path)
    message = str(caught.value)
    assert "num_attention_heads is 1000000" in message
    assert "memory" in message
    assert "another place" not in message


@pytest.mark.parametrize(
    "true",
    [
        {},
        {"num_experts": 16, "moe_intermediate_size": 8},  # fewer, or smaller, experts than layers × width
        {"num_hidden_layers": 24},  # twelve times over the same layers
        {"hidden_size": 512, "embedding_size": 32},  # embeddings narrower than the layers
        {"text_config": LLAMA, "vision_config": {"hidden_size": 4096, "num_hidden_layers": 64}},
    ],
)
def test_true_networks_fit_their_weights(true: dict[str, Any]) -> None:
    assert sizes.more_than(LLAMA | true, PARAMETERS) == ""


@pytest.mark.parametrize(
    "place",
    [
        lambda inner: inner,
        lambda inner: {"text_config": inner},
        lambda inner: {"thinker_config": {"text_config": inner}},
    ],
)
def test_a_network_beyond_its_weights_is_told_with_both_figures(place: Any) -> None:
    said = sizes.more_than(place(LLAMA | {"vocab_size": 3_000_000}), PARAMETERS)
    assert "vocab_size 3,000,000" in said
    assert f"its weights hold {PARAMETERS:,}" in said
