"""Schemas of strangers: what they may ask for, and that nothing of theirs is fetched or runs long."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from playground.errors import Reason
from playground.suites import schema

TREE = {
    "$ref": "#/$defs/node",
    "$defs": {"node": {"type": "object", "properties": {"children": {"items": {"$ref": "#/$defs/node"}}}}},
}


def mistake(given: Any, value: Any) -> Any:
    return schema.compiled(json.dumps(given)).mistake(value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "block of keys"),
        ({"type": "objekt"}, "#/type"),
        ({"$ref": "#"}, "comes back to itself"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}}, "comes back to itself"),
        ({"properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"allOf": [{"not": {"$ref": "#/$defs/a"}}]}}},
         "comes back to itself"),
        ({"$ref": "https://json-schema.org/draft/2020-12/schema"}, "nothing is fetched"),
        ({"$ref": "other.json"}, "nothing is fetched"),
        ({"$ref": "#anchor"}, "begin with #/"),
        ({"$ref": "#/$defs/a"}, "there is no #/$defs/a"),
        ({"$ref": "#/allOf/²", "allOf": [{}]}, "there is no #/allOf/²"),
        ({"$ref": "#/allOf/" + "1" * 5000, "allOf": [{}]}, "there is no #/allOf/1"),
        ({"$ref": 3}, "must be a text"),
        ({"properties": {"a": {"$id": "http://x/", "type": "string"}}}, "$id"),
        ({"$dynamicRef": "#"}, "not supported"),
        ({"unevaluatedProperties": False}, "not supported"),
        ({"format": "iri"}, "'iri' is not checked"),
        ({"pattern": "(?=a)b"}, "look-around"),
        ({"patternProperties": {"(a)\\1": {}}}, "back-references"),
        ({"$schema": "http://json-schema.org/draft-03/schema#"}, "not known"),
        ({"description": "x" * 60_000}, "at most 50,000"),
    ],
)  # fmt: skip
def test_what_is_refused(given: Any, words: str) -> None:
    with pytest.raises(Reason, match=words.replace("$", r"\$")):
        schema.compiled(json.dumps(given))


def test_a_schema_that_is_nested_too_deeply_is_refused() -> None:
    deep: Any = {}
    for _ in range(100):
        deep = {"not": deep}
    with pytest.raises(Reason, match="levels"):
        schema.compiled(json.dumps(deep))


def test_a_long_chain_of_references_is_refused() -> None:
    chain = {f"a{n}": {"$ref": f"#/$defs/a{n + 1}"} for n in range(1300)}
    with pytest.raises(Reason, match="nested too deeply"):
        schema.compiled(json.dumps({"$ref": "#/$defs/a0", "$defs": {**chain, "a1300": {}}}))


def test_a_schema_may_recurse_through_the_value() -> None:
    assert mistake(TREE, {"children": [{"children": []}, {}]}) is None
    assert "children[1]" in mistake(TREE, {"children": [{}, 3]})
    deep: Any = {}
    for _ in range(2000):
        deep = {"children": [deep]}
    assert "deeply" in mistake(TREE, deep)


def test_branches_that_multiply_end_after_a_number_of_steps() -> None:
    doubling = {f"a{n}": {"anyOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 4} for n in range(20)}
    began = time.monotonic()
    said = mistake({"$ref": "#/$defs/a0", "$defs": {**doubling, "a20": {"type": "string"}}}, 3)
    assert "too long" in said
    assert time.monotonic() - began < 10


def test_patterns_take_a_time_that_is_linear_in_the_text() -> None:
    bomb = "a" * 20_000 + "!"
    given = {"pattern": "^(a+)+$", "patternProperties": {"^(a+)+$": False}, "additionalProperties": {"type": "null"}}
    began = time.monotonic()
    assert mistake(given, bomb)
    assert mistake(given, {bomb: None}) is None
    assert mistake(given, {"aaa": None})
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("items", "unique"),
    [([1, True], True), ([1, 1.0], False), ([{"a": 1}, {"a": 1.0}], False), ([[1], [True]], True), (["1", 1], True)],
)
def test_items_that_are_the_same(items: list[Any], unique: bool) -> None:
    assert (mistake({"uniqueItems": True}, items) is None) is unique
    assert Draft202012Validator({"uniqueItems": True}).is_valid(items) is unique


def test_many_blocks_are_compared_in_little_time() -> None:
    began = time.monotonic()
    assert mistake({"uniqueItems": True}, [{"a": n} for n in range(20_000)]) is None
    assert time.monotonic() - began < 5


def test_lists_of_schemas_for_items_are_of_draft_7_and_of_its_name() -> None:
    assert mistake({"items": [{"type": "string"}, {"type": "number"}]}, ["a", "b"])
    assert mistake({"prefixItems": [{"type": "string"}]}, [3])


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("date", "2026-02-28", "2026-02-30"),
        ("time", "12:30:00Z", "25:00:00Z"),
        ("date-time", "2026-02-28T12:30:00+01:00", "2026-02-28"),
        ("email", "a@b.org", "a b@c"),
        ("uri", "https://a.org/x", "a.org"),
        ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123"),
        ("ipv4", "127.0.0.1", "300.0.0.1"),
        ("ipv6", "::1", "127.0.0.1"),
    ],
)
def test_formats_that_are_known_are_checked(name: str, right: str, wrong: str) -> None:
    assert mistake({"format": name}, right) is None
    assert mistake({"format": name}, wrong)
    assert mistake({"format": name}, 3) is None


PLAIN: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
    max_leaves=6,
)
SCHEMAS: st.SearchStrategy[Any] = st.recursive(
    st.booleans()
    | st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["string", "object", "array", "number", "null", "boolean"]),
            "enum": st.lists(PLAIN, min_size=1, max_size=3),
            "minLength": st.integers(0, 3),
            "pattern": st.sampled_from(["^a", "b$", "a+b"]),
            "required": st.lists(st.sampled_from(["a", "b", "ab"]), unique=True),
        },
    ),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "properties": st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2),
            "patternProperties": st.dictionaries(st.sampled_from(["^a", "b$"]), inner, max_size=2),
            "additionalProperties": inner,
            "uniqueItems": st.booleans(),
            "items": inner,
            "anyOf": st.lists(inner, min_size=1, max_size=2),
            "oneOf": st.lists(inner, min_size=1, max_size=2),
            "not": inner,
        },
    ),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None)
@given(SCHEMAS, PLAIN)
def test_a_value_is_judged_as_the_library_judges_it(given: Any, value: Any) -> None:
    assert (mistake(given, value) is None) == Draft202012Validator(given).is_valid(value)
