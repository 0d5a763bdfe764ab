"""What promptfoo documents of its assertions, held against ours: https://promptfoo.dev/docs/configuration.

Each case is a statement of its documentation, in texts of our own. Where we differ on purpose, docs/suites.md says so,
and so does a test here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from playground.errors import UsageError
from playground.records import ModelRun, TokenLogprob
from playground.suites.judging import Judgement, judge
from playground.suites.kinds import KINDS, REFUSED
from playground.suites.reading import read_suite

PLACE = {"type": "object", "required": ["lat", "lon"], "properties": {"lat": {"type": "number", "minimum": -90}}}

Judged = Callable[..., Judgement]


@pytest.fixture
def judged(run: ModelRun) -> Judged:
    """Reads an assertion as a file of promptfoo has it, and holds an answer against it."""

    def hold(assertion: dict[str, Any], answer: str, **fields: Any) -> Judgement:
        variables = fields.pop("vars", {})
        text = json.dumps({"prompts": ["a"], "tests": [{"vars": variables, "assert": [assertion]}]})
        suite = read_suite(text, "suite.json")
        return judge(suite.checks[0], ModelRun.from_json({**run.to_json(), **fields}), answer)

    return hold


@pytest.mark.parametrize(
    ("assertion", "yes", "no"),
    [
        # "contains" and "icontains" take texts and numbers, and numbers become texts
        ({"type": "contains", "value": 0}, "10", "one"),
        ({"type": "icontains", "value": "Sea"}, "SEASIDE", "land"),
        # "contains-all": each of the listed; a text is a list with commas, quotes keep them
        ({"type": "contains-all", "value": ["1,000", "left"]}, "1,000 left", "1000 left"),
        ({"type": "contains-any", "value": '"1,000", none'}, "1,000 left", "1, 000"),
        # "regex" is searched for anywhere
        ({"type": "regex", "value": "\\d{4}"}, "in 1999.", "in 199."),
        # "is-json": the whole output; "contains-json": a part of it; both with a schema, as a block, or as text
        ({"type": "is-json"}, "3", "three"),
        ({"type": "is-json", "value": PLACE}, '{"lat": 1, "lon": 2}', '{"lat": -91, "lon": 2}'),
        ({"type": "is-json", "value": json.dumps(PLACE)}, '{"lat": 1, "lon": 2}', '{"lat": 1}'),
        ({"type": "is-json", "value": "type: array"}, "[1]", "{}"),
        ({"type": "contains-json", "value": PLACE}, 'It is {"lat": 1, "lon": 2}.', 'It is {"lat": 1}.'),
        # "equals" is exact, or compares JSON
        ({"type": "equals", "value": "Yes"}, "Yes", "yes"),
        ({"type": "equals", "value": {"a": [1]}}, ' {"a":[1]} ', '{"a":[1,2]}'),
        ({"type": "equals", "value": 4}, "4", "four"),
        ({"type": "starts-with", "value": "Dear"}, "Dear Ann", "My dear Ann"),
        # "levenshtein" is at most the threshold
        ({"type": "levenshtein", "value": "kitten", "threshold": 3}, "sitting", "fittings"),
        # "rouge-n" is recall, without regard to case, at least 0.75 by itself
        ({"type": "rouge-n", "value": "small red fox runs"}, "A RED small fox sleeps", "A red fox sleeps"),
        ({"type": "word-count", "value": {"min": 2, "max": 3}}, "one two three", "one"),
        ({"type": "finish-reason", "value": "STOP"}, "whatever", None),
    ],
)
def test_an_assertion_and_its_negation(judged: Judged, assertion: dict[str, Any], yes: str, no: str | None) -> None:
    turned = {**assertion, "type": f"not-{assertion['type']}"}
    assert judged(assertion, yes).passed is True
    assert judged(turned, yes).passed is False
    if no is not None:
        assert judged(assertion, no).passed is False
        assert judged(turned, no).passed is True


def test_values_are_templates_of_the_tests_variables(judged: Judged) -> None:
    assert judged({"type": "equals", "value": "{{ wanted }}!"}, "Oslo!", vars={"wanted": "Oslo"}).passed
    assert judged({"type": "contains-any", "value": ["{{wanted}}", "x"]}, "in Oslo", vars={"wanted": "Oslo"}).passed
    block = {"type": "equals", "value": {"city": "{{wanted}}"}}  # blocks are taken as they are
    assert not judged(block, '{"city": "Oslo"}', vars={"wanted": "Oslo"}).passed


def test_latency_is_milliseconds_and_the_limit_itself_is_met(judged: Judged, run: ModelRun) -> None:
    timings = {**run.timings.to_json(), "total_s": 0.2}
    assert judged({"type": "latency", "threshold": 200}, "x", timings=timings).passed
    assert not judged({"type": "latency", "threshold": 199}, "x", timings=timings).passed


def test_perplexity_is_below_its_limit_and_without_one_is_told(judged: Judged) -> None:
    logprobs = [TokenLogprob(0, -1.0).to_json(), TokenLogprob(1, -2.0).to_json()]  # e^1.5 = 4.48
    assert judged({"type": "perplexity", "threshold": 4.5}, "x", logprobs=logprobs).passed
    assert not judged({"type": "perplexity", "threshold": 4.4}, "x", logprobs=logprobs).passed
    assert judged({"type": "perplexity"}, "x", logprobs=logprobs).passed
    found = judged({"type": "perplexity-score", "threshold": 0.15}, "x", logprobs=logprobs)
    assert found.passed and found.score == pytest.approx(1 / 5.48, abs=1e-3)


def test_a_weight_of_zero_passes_by_itself(judged: Judged) -> None:
    told = judged({"type": "equals", "value": "x", "weight": 0}, "y")
    assert told.checks[0].passed and told.checks[0].score == 0


def test_a_set_passes_as_a_whole_or_by_its_threshold(judged: Judged) -> None:
    members = [{"type": "contains", "value": each} for each in "abcd"]
    assert not judged({"type": "assert-set", "assert": members}, "a").passed
    assert judged({"type": "assert-set", "assert": members, "threshold": 0.25}, "a").passed
    assert not judged({"type": "assert-set", "assert": members, "threshold": 0.5}, "a").passed
    assert judged({"type": "assert-set", "assert": members}, "abcd").passed


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_its_other_types_are_refused_by_name(name: str) -> None:
    text = json.dumps({"prompts": ["a"], "tests": [{"assert": [{"type": name, "value": "x"}]}]})
    with pytest.raises(UsageError, match=f"test 1, check 1: the check '{name}' is not supported: "):
        read_suite(text, "suite.json")
    assert name not in KINDS


def test_where_we_differ_a_limit_of_zero_edits_is_no_edit(judged: Judged) -> None:
    assert not judged({"type": "levenshtein", "value": "ab", "threshold": 0}, "abc").passed
    assert judged({"type": "not-levenshtein", "value": "ab", "threshold": 0}, "abc").passed


def test_where_we_differ_a_variable_without_a_value_is_an_error() -> None:
    with pytest.raises(UsageError, match="has no value"):
        read_suite("prompts: ['{{a}}']\ntests: [{vars: {b: 1}}]", "suite.yaml")
