"""What config.json calls a size is listed once, and every reader of it reads by that list."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from playground.catalog.config_names import ALL, ATTENTION_HEADS, HIDDEN_SIZE, LAYERS, size, whole
from playground.catalog.weight_files import PICKLED, REFUSED, is_pickled, is_refused
from playground.paths import PACKAGE

HOMES = {"config_names.py": ALL, "weight_files.py": (REFUSED,)}


def lists_of_words(path: Path) -> Iterator[tuple[int, set[str]]]:
    """The words in each tuple, list or set that is written down in a file, also those unpacked into another."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Tuple | ast.List | ast.Set):
            words = {each.value for each in node.elts if isinstance(each, ast.Constant) and isinstance(each.value, str)}
            yield node.lineno, words


@pytest.mark.parametrize("home", HOMES)
def test_no_other_list_holds_two_names_of_one_thing(home: str) -> None:
    second = [
        f"{path.relative_to(PACKAGE)}:{line} {sorted(words & set(names))}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.name != home
        for line, words in lists_of_words(path)
        for names in HOMES[home]
        if len(words & set(names)) > 1
    ]
    assert not second


@pytest.mark.parametrize(
    ("config", "layers"),
    [
        ({"num_hidden_layers": 12}, 12),
        ({"n_layer": 6, "model_type": "gpt2"}, 6),
        ({"num_hidden_layers": None, "n_layers": 3}, 3),
        ({"num_hidden_layers": True, "num_layers": 2}, 2),
        ({"num_hidden_layers": -1}, 0),
        ({"num_hidden_layers": "12"}, 0),
        ({"num_hidden_layers": 10**30}, 0),
        ({}, 0),
    ],
)
def test_the_first_name_that_holds_a_size_counts(config: dict[str, Any], layers: int) -> None:
    assert whole(config, *LAYERS) == layers


def test_a_familys_own_name_is_found_by_its_type() -> None:
    bart = {"model_type": "bart", "d_model": 16, "encoder_attention_heads": 4, "encoder_layers": 2}
    assert size(bart, HIDDEN_SIZE) == 16
    assert size(bart, ATTENTION_HEADS) == 4
    assert size(bart | {"model_type": "nobody-knows-it"}, ATTENTION_HEADS) == 0


def test_transformers_own_synonyms_are_on_the_lists() -> None:
    from transformers import BloomConfig, GPT2Config, T5Config

    for kind in (GPT2Config, BloomConfig, T5Config):
        for name, own in kind.attribute_map.items():
            listed = [names for names in ALL if names[0] == name]
            assert all(own in names for names in listed), (kind, name, own)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "a/MODEL.PT", "x.ckpt", "weights.pickle"])
def test_what_runs_code_when_it_is_read_is_known_by_its_name(name: str) -> None:
    assert is_pickled(name)
    assert is_refused(name)


@pytest.mark.parametrize("name", ["tf_model.h5", "flax_model.msgpack", "modeling_own.py"])
def test_what_is_refused_is_not_always_a_pickle(name: str) -> None:
    assert is_refused(name)
    assert not is_pickled(name)
    assert set(PICKLED) < set(REFUSED)


@pytest.mark.parametrize("name", ["model.safetensors", "a.gguf", "onnx/model.onnx", "config.json"])
def test_what_is_read_is_not_refused(name: str) -> None:
    assert not is_refused(name)
