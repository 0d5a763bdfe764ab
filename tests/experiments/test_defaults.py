"""What is proposed to somebody who has changed nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from playground.experiments.defaults import BASE_PENALTY, BASE_REASON, EXAMPLES, own_request, with_defaults
from playground.records import Column, Request, Variant

PLAIN = Request("Plants", max_new_tokens=64, system="Short.", seed=4, stop=("x",))
CHAT, BASE = Variant("chat", "onnx", "int8"), Variant("base", "onnx", "int8")


def test_a_base_model_is_kept_from_repeating_itself_and_a_chat_model_is_asked_as_all() -> None:
    columns = with_defaults(PLAIN, [(CHAT, "chat"), (BASE, "base")])
    assert columns == [Column(CHAT), Column(BASE, replace(PLAIN, repetition_penalty=BASE_PENALTY))]
    assert own_request("text2text", PLAIN) is None


@pytest.mark.parametrize(
    "changed", [{"temperature": 0.7}, {"top_k": 5}, {"top_p": 0.9}, {"min_p": 0.1}, {"repetition_penalty": 1.05}]
)
def test_who_has_set_how_tokens_are_chosen_is_obeyed(changed: dict[str, Any]) -> None:
    assert own_request("base", replace(PLAIN, **changed)) is None


def test_a_column_with_parameters_of_its_own_keeps_them() -> None:
    own = Column(BASE, PLAIN)
    assert with_defaults(PLAIN, [(own, "base")]) == [own]


def test_the_reason_names_the_figure() -> None:
    assert str(BASE_PENALTY) in BASE_REASON


def test_the_first_example_can_be_continued() -> None:
    assert not EXAMPLES[0].text.endswith((".", "?", "!", "。"))
    assert len({example.text for example in EXAMPLES}) == len(EXAMPLES)
