"""An answer held against the checks of its row: what each check says, and whether the row is passed.

It knows answers and checks, and how scores are put together; what a type of check looks at stands in ``text_checks``,
``json_checks`` and ``figure_checks``. Scores are put together as promptfoo does (its ``AssertionsResult``).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from playground.messages import Translatable, clauses, msg
from playground.records import CheckResult, ModelRun
from playground.suites import figure_checks, json_checks, text_checks
from playground.suites.finding import CheckFunction, Finding, Given, Unjudged
from playground.suites.suite import Check

CHECKS: dict[str, CheckFunction] = {**text_checks.CHECKS, **json_checks.CHECKS, **figure_checks.CHECKS}
SET = "assert-set"
SHOWN = 200
"""Characters of a value that a result repeats."""
NEARLY = 1e-9
"""What a mean may miss a threshold by: thirds and tenths do not add up to the last bit."""


class Judgement(NamedTuple):
    """What the checks of a row say of one answer.

    Attributes:
        checks: A result each, those of an ``assert-set`` behind it with a weight of 0: the set's own score counts.
        passed: Whether the row is passed; None where no check counts.
        score: Weighted mean of the scores, 0 to 1; None where no check counts.
    """

    checks: tuple[CheckResult, ...]
    passed: bool | None
    score: float | None


def judge(
    checks: Sequence[Check],
    run: ModelRun,
    answer: str,
    *,
    samples: Sequence[str] = (),
    threshold: float | None = None,
    cost: float | None = None,
    shared: bool = False,
) -> Judgement:
    """Hold an answer against the checks of its row.

    Args:
        answer: The text of ``run`` without its thinking.
        samples: The answers before this one, of the same row and column, in order.
        threshold: The mean score that lets the row pass, whatever its single checks say; None: all must pass.
        cost: What the answer costs, in US dollars; None where nobody knows.
        shared: Whether the machine worked for others at the same time, so that timings are not comparable.
    """
    given = Given(run, answer, tuple(samples), cost, shared)
    told: list[CheckResult] = []
    mean = _Mean()
    for check in checks:
        results = _results(check, given)
        told += results
        mean.add(results[0])
    return Judgement(tuple(told), *mean.verdict(threshold))


class _Mean:
    """Weighted mean of scores, and whether all that count are passed."""

    def __init__(self) -> None:
        self._score = self._weight = 0.0
        self._passed = True

    def add(self, result: CheckResult) -> None:
        self._score += result.score * result.weight
        self._weight += result.weight
        self._passed = self._passed and result.passed

    def verdict(self, threshold: float | None) -> tuple[bool | None, float | None]:
        if self._weight == 0:
            return None, None
        score = self._score / self._weight
        return (self._passed if threshold is None else score >= threshold - NEARLY), score


def _results(check: Check, given: Given) -> list[CheckResult]:
    """The check's own result first."""
    if check.type == SET:
        return _results_of_set(check, given)
    score = 0.0
    weight = check.weight
    try:
        if given.run.error is not None:
            raise Unjudged(msg("there is no answer: {error}", error=given.run.error))
        finding = CHECKS[check.base](check, given)
        passed, score = _with_sign(finding, check.inverse)
        reason = finding.told
        weight = weight if finding.counts else 0.0
    except Unjudged as error:
        passed, reason = False, error.reason
    # A weight of 0 is promptfoo's way to tell a figure without judging by it.
    return [CheckResult(check.type, passed or weight == 0, score, reason, weight, shown(check), check.metric)]


def _with_sign(finding: Finding, inverse: bool) -> tuple[bool, float]:
    score = finding.score if finding.score is not None else float(finding.met)
    return (not finding.met, 1.0 - score) if inverse else (finding.met, score)


def _results_of_set(check: Check, given: Given) -> list[CheckResult]:
    members: list[CheckResult] = []
    mean = _Mean()
    for each in check.checks:
        results = _results(each, given)
        members += results
        mean.add(results[0])
    passed, score = mean.verdict(check.threshold)
    weight = check.weight if passed is not None else 0.0
    met, reason = passed is not False or weight == 0, _of_set(members, score, check.threshold)
    own = CheckResult(check.type, met, 1.0 if score is None else score, reason, weight, shown(check), check.metric)
    return [own, *(replace(each, weight=0.0) for each in members)]


def _of_set(members: Sequence[CheckResult], score: float | None, threshold: float | None) -> Translatable:
    if score is None:
        return msg("none of its checks counts here")
    if threshold is not None:
        return msg("its mean score is {score:.2f}, at least {least:.2f} is asked for", score=score, least=threshold)
    failed = [each for each in members if not each.passed and each.weight]
    if not failed:
        return msg("all of its checks are passed")
    return clauses(*(msg("{type}: {reason}", type=each.type, reason=each.reason) for each in failed))


def shown(check: Check) -> str:
    """What the answer is held against, for a reader."""
    if check.value is None or check.type == SET:
        limit = check.threshold
        return "" if limit is None else number_text(limit)
    text = check.value if isinstance(check.value, str) else json.dumps(check.value, ensure_ascii=False)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def number_text(value: Any) -> str:
    """A number as JSON's writers put it, without a fraction that is none: 5, not 5.0."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else str(value)
