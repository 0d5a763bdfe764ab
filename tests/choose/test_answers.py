"""Measured quality: an interval decides, not the rate; another suite's answers are no evidence."""

from __future__ import annotations

from dataclasses import replace

import pytest

from playground.choose.answers import Difference, PassRate, SuiteAnswers, digest, newest_scores, share
from playground.choose.checks import MORE, RUN_IT, pass_rate_check, score_check
from playground.choose.deciding import difference_words
from playground.choose.quality import harness_scores, suite_scores
from playground.errors import UsageError
from playground.messages import msg
from playground.records import Environment, SuiteRow, Variant
from playground.results.scores import Evaluation, Metric
from playground.results.statistics import Interval, Paired, mcnemar, rate, wilson
from playground.suites.suite import Check, Suite

FAST, SLOW = Variant("fast", "fake", "none"), Variant("slow", "fake", "none")
HERE = Environment("cpu", 2, 1000.0)


def passed(k: int, n: int, prompts: int | None = None) -> PassRate:
    found = rate({row: float(row < k) for row in range(n)})
    return PassRate("mail", "s1", "2026-11-24T09:30:00Z", found, n if prompts is None else prompts)


def score(right: int, of: int, variant: Variant = FAST, **more: object) -> Evaluation:
    metric = Metric("acc", "none", right / of, outcomes="1" * right + "0" * (of - right), higher_is_better=True)
    made = Evaluation("e", "2026", variant, "arc", "1", (metric,), of, of, "lm-eval 1", HERE, data_sha256="d")
    return replace(made, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("k", "n", "least", "answer"),
    [
        (40, 40, 0.9, "met"),
        (40, 40, 0.95, "close"),
        (30, 40, 0.9, "broken"),
        (36, 40, 0.9, "close"),
        (5, 5, 0.5, "met"),
        (5, 5, 0.9, "close"),
        (0, 40, 0.5, "broken"),
        (1, 2, 0.9, "close"),
    ],
)
def test_the_interval_decides(k: int, n: int, least: float, answer: str) -> None:
    interval = wilson(k, n)
    check = pass_rate_check(least, passed(k, n))
    assert check.answer == answer
    assert (interval.low >= least, interval.high < least) == (answer == "met", answer == "broken")
    assert f"{k} of {n} prompts" in check.words and "interval" in check.words


def test_a_close_one_is_told_how_many_prompts_would_decide() -> None:
    check = pass_rate_check(0.8, passed(36, 40))
    assert check.answer == "close"
    n = next(n for n in MORE if n > 40 and wilson(0.9 * n, n).low >= 0.8)
    assert f"{n:,} prompts would decide it" in check.next_step
    assert "no suite of a bearable length" in pass_rate_check(0.5, passed(20, 40)).next_step


def test_what_was_not_asked_and_what_is_not_finished_is_to_be_run() -> None:
    assert (pass_rate_check(0.5, None).answer, pass_rate_check(0.5, None).next_step) == ("unknown", RUN_IT)
    half = pass_rate_check(0.5, passed(20, 20, prompts=40))
    assert half.next_step == RUN_IT
    assert "20 of 40 prompts so far" in half.source


def test_a_harness_score_is_judged_by_its_interval_too() -> None:
    assert score_check("arc", 0.5, score(90, 100), FAST).answer == "met"
    assert score_check("arc", 0.9, score(90, 100), FAST).answer == "close"
    assert score_check("arc", 0.99, score(90, 100), FAST).answer == "broken"
    missing = score_check("arc", 0.5, None, FAST)
    assert missing.answer == "unknown" and "playground eval -m fast@fake-none --tasks arc" in missing.next_step


def test_at_least_says_nothing_where_lower_is_better_and_no_interval_is_no_doubt() -> None:
    perplexity = Metric("word_perplexity", "none", 12.0, higher_is_better=False)
    check = score_check("wiki", 10, score(1, 2, metrics=(perplexity,), task="wiki"), FAST)
    assert check.answer == "unknown" and "lower is better" in check.words
    plain = Metric("f1", "none", 0.4, higher_is_better=True)
    assert score_check("qa", 0.5, score(1, 2, metrics=(plain,), task="qa"), FAST).answer == "broken"


def test_a_suite_is_known_by_what_it_asks_and_checks() -> None:
    row = SuiteRow("r1", "one", prompt="Hi?")
    made = Suite("a", (row,), ((Check("contains", value="x"),),), (None,), ("",))
    same = replace(made, name="b", rows=(replace(row, id="other", label="two", place="row 9", metadata={"k": "v"}),))
    assert digest(made.to_json()) == digest(same.to_json())
    for other in (
        replace(made, rows=(replace(row, prompt="Ho?"),)),
        replace(made, rows=(replace(row, system="Be brief."),)),
        replace(made, checks=((Check("contains", value="y"),),)),
        replace(made, thresholds=(0.5,)),
        replace(made, schemas=("{}",)),
    ):
        assert digest(other.to_json()) != digest(made.to_json())


@pytest.mark.parametrize("value", [0, 1.1, "80", "x %", True, None, [], "nan", "-5 %", "101 %"])
def test_what_is_no_share_is_refused(value: object) -> None:
    with pytest.raises(UsageError, match="80 %"):
        share(value, msg("limit"))


def test_pass_rates_and_scores_are_quality_figures_with_their_intervals() -> None:
    answers = SuiteAnswers("mail", "d", {FAST: passed(9, 10), SLOW: passed(5, 10)})
    (quality,) = suite_scores(answers)
    assert quality.key == "suite:mail"
    assert [fact.value for fact in quality.values.values()] == [90.0, 50.0]
    assert quality.intervals[str(FAST)][0] == pytest.approx(100 * wilson(9, 10).low)
    assert not suite_scores(replace(answers, rates={FAST: passed(9, 10)}))
    (taken,) = harness_scores({FAST: {"arc": score(9, 10)}, SLOW: {"arc": score(5, 10, SLOW)}})
    assert taken.key == "harness:arc" and taken.values[str(FAST)].value == 90.0


def test_scores_of_other_questions_are_not_set_beside_each_other() -> None:
    other = score(5, 10, SLOW, data_sha256="others")
    assert not harness_scores({FAST: {"arc": score(9, 10)}, SLOW: {"arc": other}})


def test_of_several_scores_of_a_task_the_newest_counts() -> None:
    found = newest_scores([score(9, 10, id="new"), score(1, 10, id="old"), score(1, 10, SLOW)], [FAST])
    assert found[FAST]["arc"].id == "new" and list(found) == [FAST]


def test_a_difference_that_is_not_seen_is_said_not_to_be() -> None:
    none = Paired(10, 3, 2, 0.1, Interval(-0.3, 0.5), mcnemar(3, 2))
    assert "no difference seen on 10 prompts" in difference_words(Difference(FAST, SLOW, none))
    clear = Paired(40, 12, 1, 0.3, Interval(0.1, 0.4), mcnemar(12, 1))
    assert f"{FAST} passes more than {SLOW}" in difference_words(Difference(FAST, SLOW, clear))
    turned = Paired(40, 1, 12, -0.3, Interval(-0.4, -0.1), mcnemar(1, 12))
    assert f"{FAST} passes fewer than {SLOW}" in difference_words(Difference(FAST, SLOW, turned))
