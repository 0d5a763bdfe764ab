"""Several servers of one model, as the configuration names them."""

from __future__ import annotations

from typing import Any

import pytest

from playground.config.endpoints import load_remotes
from playground.errors import ConfigError

BLOCK = {"name": "big", "url": "http://a.example:8000", "model": "m"}


def test_replicas_are_base_addresses_of_the_same_model() -> None:
    block = BLOCK | {"replicas": ["http://b.example:8000/v1/chat/completions", "http://c.example/own"], "at_once": 4}
    [remote] = load_remotes([block], {}, "spaces.yaml")
    assert remote.addresses == ("http://a.example:8000/v1", "http://b.example:8000/v1", "http://c.example/own")
    assert remote.at_once == 4
    [plain] = load_remotes([BLOCK], {}, "spaces.yaml")
    assert plain.addresses == (plain.url,) and plain.at_once == 1
    assert type(remote).from_json(remote.to_json()) == remote


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"replicas": "http://b.example"}, "replicas must be a list"),
        ({"replicas": ["b.example"]}, r"replicas\[0\] is not an http\(s\) address"),
        ({"replicas": ["http://user:secret@b.example"]}, r"replicas\[0\] holds a user name"),
        ({"replicas": ["http://b.example", "http://a.example:8000/v1/"]}, "the address .* stands twice"),
        ({"at_once": 0}, "at_once"),
        ({"at_once": 1000}, "at_once"),
        ({"url": "", "provider": "auto", "key_env": "HF_TOKEN", "replicas": ["http://b.example"]}, "both provider and"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(fields: dict[str, Any], said: str) -> None:
    block = {name: value for name, value in (BLOCK | fields).items() if value != ""}
    with pytest.raises(ConfigError, match=said) as refused:
        load_remotes([block], {}, "spaces.yaml")
    assert "spaces.yaml: app.remotes[0]" in str(refused.value) and "secret" not in str(refused.value)
    assert refused.value.next_step
