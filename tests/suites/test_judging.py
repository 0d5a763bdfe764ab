"""What each type of check says of an answer, and how a row's checks make its score."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playground.messages import msg
from playground.records import ModelRun, Timings, TokenLogprob, Variant
from playground.suites.judging import CHECKS, Judgement, judge
from playground.suites.kinds import KINDS
from playground.suites.suite import Check

Said = Callable[..., Judgement]


def test_every_type_that_a_file_may_have_can_be_judged() -> None:
    assert set(CHECKS) == set(KINDS)


@pytest.mark.parametrize(
    ("answer", "kind", "value", "passed"),
    [
        ("Paris", "equals", "Paris", True),
        ("Paris.", "equals", "Paris", False),
        ("Paris\n", "equals", "Paris", False),
        ('{"a": [1, 2.0]}', "equals", {"a": [1.0, 2]}, True),
        ('{"a": true}', "equals", {"a": 1}, False),
        ("It is {", "equals", {"a": 1}, False),
        ("The Paris of old", "contains", "Paris", True),
        ("paris", "contains", "Paris", False),
        ("paris", "icontains", "PARIS", True),
        ("STRASSE", "icontains", "strasse", True),
        ("a b", "contains-any", ["x", "b"], True),
        ("a b", "contains-any", ["x", "B"], False),
        ("a b", "icontains-any", ["x", "B"], True),
        ("a b", "contains-all", ["a", "b"], True),
        ("a b", "contains-all", ["a", "c"], False),
        ("a b", "icontains-all", ["A", "B"], True),
        ("Yes, it is", "starts-with", "Yes", True),
        (" Yes", "starts-with", "Yes", False),
        ("in 1969, that", "regex", r"\d{4}", True),
        ("one\ntwo", "regex", r"^two", False),
        ("one\ntwo", "regex", r"(?m)^two", True),
        ('{"a": 1}', "is-json", None, True),
        ('Here: {"a": 1}', "is-json", None, False),
        ('{"a": NaN}', "is-json", None, False),
        ("[" * 100_000, "is-json", None, False),
        ('{"a": 1}', "is-json", {"type": "object", "required": ["a"]}, True),
        ('{"a": "x"}', "is-json", {"properties": {"a": {"type": "number"}}}, False),
        ('Here: {"a": 1} and more', "contains-json", None, True),
        ("a {b} c", "contains-json", None, False),
        ('[0] {"a": 1}', "contains-json", {"type": "object"}, True),
        ('[0] {"a": 1}', "contains-json", {"type": "string"}, False),
        ("one two  three", "word-count", [3, 3], True),
        ("one two  three", "word-count", [None, 2], False),
        ("one", "finish-reason", "stop", True),
        ("It costs 1,234.50 euros", "numeric", "1234.5", True),
        ("4 of 5", "numeric", "4", False),
        ("none", "numeric", "4", False),
        ("Der schnelle braune Fuchs springt über den faulen Hund.", "language", "de", True),
        ("The quick brown fox jumps over the lazy dog today.", "language", "de", False),
        ("日本の首都は東京です。", "language", "ja", True),
        ("1234", "language", "en", False),
    ],
)
def test_a_check_and_its_opposite(said: Said, answer: str, kind: str, value: Any, passed: bool) -> None:
    plain, turned = said(answer, kind, value), said(answer, f"not-{kind}", value)
    assert (plain.passed, plain.score) == (passed, float(passed))
    assert (turned.passed, turned.score) == (not passed, float(not passed))
    assert plain.checks[0].reason == turned.checks[0].reason  # it says what was seen, wanted or not
    assert plain.checks[0].reason


def test_edits_are_counted_and_five_are_allowed_by_itself(said: Said) -> None:
    assert said("sitting", "levenshtein", "kitten", threshold=3.0).passed
    assert not said("sitting", "levenshtein", "kitten", threshold=2.0).passed
    assert said("abcde", "levenshtein", "x").passed
    assert not said("abcdef", "levenshtein", "x").passed
    assert not said("a", "levenshtein", "b", threshold=0.0).passed


def test_rouge_is_the_share_of_the_references_words_and_turns_around_with_its_score(said: Said) -> None:
    found = said("The Cat sat on a mat", "rouge-n", "the cat was on the mat")
    assert found.score == pytest.approx(4 / 6)  # the, cat, on, mat; a second "the" and "was" are not there
    assert not found.passed
    turned = said("The Cat sat on a mat", "not-rouge-n", "the cat was on the mat")
    assert turned.passed and turned.score == pytest.approx(2 / 6)


@pytest.mark.parametrize(("kind", "limit", "passed"), [("latency", 1500, True), ("latency", 1499, False),
                                                       ("first-token", 120, True), ("first-token", 119, False),
                                                       ("tokens-per-second", 24, True),
                                                       ("tokens-per-second", 24.1, False),
                                                       ("tokens", 30, True), ("tokens", 29, False)])  # fmt: skip
def test_figures_of_the_run_against_a_limit(said: Said, kind: str, limit: float, passed: bool) -> None:
    assert said("x", kind, threshold=limit).passed is passed
    assert said("x", f"not-{kind}", threshold=limit).passed is not passed
    assert "comparable" not in said("x", kind, threshold=limit).checks[0].reason


@pytest.mark.parametrize("kind", ["latency", "first-token", "tokens-per-second"])
def test_times_that_are_not_comparable_say_so(said: Said, run: ModelRun, kind: str) -> None:
    fast = {"timings": replace(run.timings, mode="fast")}
    assert "fast mode" in said("x", kind, threshold=1.0, run=fast).checks[0].reason
    assert "others" in said("x", kind, threshold=1.0, shared=True).checks[0].reason
    assert "network" in said("x", kind, threshold=1.0, run={"runtime": "remote"}).checks[0].reason


@pytest.mark.parametrize("kind", ["latency", "first-token", "tokens-per-second", "tokens", "perplexity", "cost"])
def test_what_was_not_taken_fails_either_way(said: Said, kind: str) -> None:
    empty = {"timings": Timings()}
    for name in (kind, f"not-{kind}"):
        found = said("x", name, threshold=1.0, run=empty)
        assert (found.passed, found.score) == (False, 0.0)
        assert found.checks[0].reason


def test_cost_is_held_against_dollars(said: Said) -> None:
    assert said("x", "cost", threshold=0.001, cost=0.001).passed
    assert not said("x", "cost", threshold=0.001, cost=0.0011).passed


def test_perplexity_is_that_of_the_tokens_the_model_chose(said: Said, run: ModelRun) -> None:
    logprobs = tuple(TokenLogprob(n, math.log(p)) for n, p in enumerate((0.5, 0.25, 0.125)))
    asked = {"logprobs": logprobs, "token_ids": (0, 1, 2), "timings": replace(run.timings, output_tokens=3)}
    assert said("x", "perplexity", threshold=4.0001, run=asked).passed  # the geometric mean of 2, 4 and 8
    assert not said("x", "perplexity", threshold=3.9999, run=asked).passed
    assert said("x", "perplexity-score", run=asked).score == pytest.approx(1 / 5)
    begun = {**asked, "timings": replace(run.timings, output_tokens=2)}  # the first token was given
    assert said("x", "perplexity", threshold=5.66, run=begun).passed
    assert not said("x", "perplexity", threshold=5.65, run=begun).passed


def test_a_number_may_be_off_by_its_tolerance(said: Said) -> None:
    assert said("about 1.1", "numeric", "1", options={"tolerance": "0.1"}).passed  # by binary floats it is not
    assert not said("about 1.11", "numeric", "1", options={"tolerance": "0.1"}).passed
    assert said("98", "numeric", "100", options={"tolerance": "2%"}).passed
    assert said("-98", "numeric", "-100", options={"tolerance": "2%"}).passed
    assert not said("97.9", "numeric", "100", options={"tolerance": "2%"}).passed


def test_the_same_answer_is_judged_when_there_are_samples_enough(said: Said) -> None:
    early = said("Paris", "same-answer", 3, samples=("Paris",))
    assert (early.passed, early.score) == (None, None)
    assert early.checks[0].passed and early.checks[0].weight == 0
    assert said("Paris ", "same-answer", 3, samples=("Paris", "Paris")).passed
    odd = said("Rome", "same-answer", 3, samples=("Paris", "Paris"))
    assert not odd.passed and odd.score == pytest.approx(2 / 3)
    assert said("Rome", "same-answer", 3, samples=("Paris", "Paris"), threshold=0.6).passed
    assert said("Rome", "not-same-answer", 3, samples=("Paris", "Paris")).passed


def test_a_run_that_failed_fails_its_checks_and_says_why(said: Said) -> None:
    for kind in ("contains", "not-contains"):
        found = said("", kind, "x", run={"error": msg("The worker died.")})
        assert found.passed is False and found.score == 0
        assert "The worker died." in found.checks[0].reason


def test_the_values_of_one_answer_share_the_steps_of_a_schema(said: Said) -> None:
    schema = {"items": {"anyOf": [{"required": [f"k{n}"]} for n in range(40)]}}
    long, right = json.dumps([{"k39": 1}] * 300 + [{}]), '[{"k39": 1}]'
    assert said(f"{long} {right}", "contains-json", schema).passed
    assert not said(f"{long} {long} {long} {right}", "contains-json", schema).passed


TEXTS = st.one_of(
    st.text(max_size=60),
    st.text('{}[]":,0123456789.-eE \\ud8a\u00a0', max_size=60),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=4), lambda inner: st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3), max_leaves=8).map(json.dumps),
    st.sampled_from(['{"\\ud800": "\\ud800"}', '"\\ud800"', "\ud800", "[" * 5000, '{"a":' * 3000, "9" * 4000, "1e999"]),
)  # fmt: skip
SCHEMA = {
    "type": ["object", "array"],
    "patternProperties": {"^[a-z]": {"pattern": "a"}},
    "additionalProperties": {"type": "number"},
    "uniqueItems": True,
}
OF_EACH: list[Check] = [
    *(Check(kind, "a.") for kind in ("equals", "contains", "icontains", "starts-with", "regex")),
    *(Check(kind, "a.") for kind in ("levenshtein", "rouge-n")),
    *(Check(kind, ["a", "1"]) for kind in ("contains-any", "contains-all", "icontains-any", "icontains-all")),
    *(Check(kind, threshold=1.0) for kind in ("latency", "first-token", "tokens-per-second", "tokens", "cost")),
    *(Check(kind, threshold=0.5) for kind in ("perplexity", "perplexity-score")),
    *(Check(kind, SCHEMA) for kind in ("is-json", "contains-json")),
    Check("equals", {"a": 1}),
    Check("is-json"),
    Check("contains-json"),
    Check("word-count", [1, None]),
    Check("finish-reason", "stop"),
    Check("numeric", "1", options={"tolerance": "1%"}),
    Check("language", "en"),
    Check("same-answer", 2),
]  # fmt: skip


def test_the_list_above_has_every_type() -> None:
    assert {check.type for check in OF_EACH} == set(KINDS)


@settings(max_examples=150, deadline=None)
@given(TEXTS, st.booleans())
def test_whatever_a_model_says_it_is_judged(answer: str, turned: bool) -> None:
    run = ModelRun(Variant("tiny"), "onnx", "int8", answer, "stop")
    checks = [replace(each, type=f"not-{each.type}") if turned else each for each in OF_EACH]
    found = judge(checks, run, answer, samples=(answer,), cost=0.1)
    assert len(found.checks) == len(checks)
    assert all(0 <= each.score <= 1 and each.reason for each in found.checks)
    if answer.isprintable():
        json.dumps([each.to_json() for each in found.checks], ensure_ascii=False).encode("utf-8")


# -- how scores are put together ----------------------------------------------------------------------------------

HERE, GONE = Check("contains", "world"), Check("equals", "Hello world")


def of(run: ModelRun, *checks: Check, threshold: float | None = None) -> Judgement:
    return judge(checks, run, "Goodbye world", threshold=threshold)


def test_promptfoos_example_of_weights_and_thresholds(run: ModelRun) -> None:
    checks = (replace(GONE, weight=2.0), HERE)
    found = of(run, *checks)
    assert found.score == pytest.approx(1 / 3) and found.passed is False
    assert of(run, *checks, threshold=0.5).passed is False
    assert of(run, *checks, threshold=0.2).passed is True
    assert of(run, *checks, threshold=0).passed is True


def test_a_threshold_is_met_by_tenths_that_do_not_add_up(run: ModelRun) -> None:
    assert of(run, *[replace(HERE, weight=0.7)] * 3, replace(GONE, weight=0.7), threshold=0.75).passed


def test_a_weight_of_zero_is_told_and_does_not_count(run: ModelRun) -> None:
    found = of(run, HERE, replace(GONE, weight=0.0))
    assert (found.passed, found.score) == (True, 1.0)
    assert found.checks[1].passed and found.checks[1].score == 0 and found.checks[1].reason
    assert of(run, replace(GONE, weight=0.0))[1:] == (None, None)


def test_without_checks_there_is_nothing_to_pass(run: ModelRun) -> None:
    assert of(run) == Judgement((), None, None)
    assert of(run, threshold=0.5) == Judgement((), None, None)


def test_a_set_counts_as_one_check_with_its_own_threshold(run: ModelRun) -> None:
    both = Check("assert-set", checks=(HERE, GONE))
    assert of(run, both).passed is False
    half = of(run, replace(both, threshold=0.5, weight=2.0, metric="set"), HERE)
    assert half.passed is True
    assert half.score == pytest.approx((0.5 * 2 + 1) / 3)
    assert [each.type for each in half.checks] == ["assert-set", "contains", "equals", "contains"]
    assert [each.weight for each in half.checks] == [2, 0, 0, 1]
    assert [each.passed for each in half.checks] == [True, True, False, True]
    assert half.checks[0].metric == "set"


def test_metrics_and_shortened_values_are_on_the_results(said: Said) -> None:
    found = said("x", "contains", "y" * 1000, metric="words", weight=3.0).checks[0]
    assert (found.metric, found.weight) == ("words", 3.0)
    assert len(found.value) == 201
