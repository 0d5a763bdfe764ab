"""pydantic's errors in the product's words: the place, the wrong value, the next step."""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from playground.config.schema import Amount, Block, Count, Text, Url
from playground.config.validation import checked, problems
from playground.errors import ConfigError
from playground.messages import Translatable


class Part(Block):
    name: Text
    link: Url = ""


class Whole(Block):
    title: Text
    part: Part | None = None
    parts: Annotated[list[Part], Field(min_length=1)] = Field(default_factory=list)
    answer: Literal["yes", "no"] = "no"
    size: Count | None = None
    share: Amount = 1.0
    price: Annotated[float, Field(ge=0)] = 0.0
    on: bool = False
    day: datetime.date | None = None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"part": {"name": "a", "nam": 1}}, "f.yaml: x: part: unknown key 'nam'. Did you mean name?"),
        ({"parts": [{"name": "a"}, {}]}, "f.yaml: x: parts[1]: the key 'name' is missing. Add name."),
        ({"parts": [{"name": "a", "link": "ftp:x"}]}, "x: parts[0].link must be an http(s) address, not 'ftp:x'."),
        ({"parts": ["a"]}, "f.yaml: x: parts[0] must be a block of keys, not 'a'. Known keys: name, link."),
        ({"parts": []}, "f.yaml: x: parts must be a list of at least 1. Write [a, b]."),
        ({"title": " "}, "f.yaml: x: title must be text, not ' '. Write it in quotes."),
        ({"title": 3}, "f.yaml: x: title must be text, not 3."),
        ({"answer": True}, "f.yaml: x: answer is True (quote it: YAML reads yes and no as true and false)."),
        ({"answer": "yess"}, "f.yaml: x: answer is 'yess'. Did you mean yes?"),
        ({"size": 2.5}, "x: size must be a whole number above 0, not 2.5. Leave it out where it is unknown."),
        ({"size": "2"}, "x: size must be a whole number above 0, not '2'."),
        ({"share": 0}, "x: share must be a number above 0, not 0."),
        ({"price": -1}, "x: price must be a number of at least 0, not -1."),
        ({"on": "no"}, "x: on must be true or false, not 'no'. Write it without quotes."),
        ({"day": "2026-99-99"}, "x: day must be a date like 2026-07-21, not '2026-99-99'."),
    ],
)
def test_a_mistake_is_told_with_place_value_and_next_step(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        checked(Whole, {"title": "t"} | change, "f.yaml: x: ")
    assert message in str(caught.value)
    assert isinstance(caught.value.what, Translatable) and caught.value.what.template


def test_a_misspelt_key_is_told_before_the_one_that_is_missing_because_of_it() -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'titel'\. Did you mean title"):
        checked(Whole, {"titel": "t"}, "f.yaml: x: ")


def test_every_mistake_is_found_where_all_are_asked_for() -> None:
    found = [str(error) for error in problems(Whole, {"titel": "t", "size": 0, "on": 1}, "f.yaml: x")]
    assert len(found) == 4
    assert problems(Whole, {"title": "t"}, "f.yaml: x") == []


def test_the_error_does_not_drag_pydantics_own_along() -> None:
    """Its text repeats values, and one of them could be a key."""
    with pytest.raises(ConfigError) as caught:
        checked(Whole, {"title": 3}, "f.yaml: x: ")
    assert caught.value.__cause__ is None and caught.value.__context__ is None
