"""Verdicts: what is eligible, what is out, and that nothing unknown or too close ever counts as met."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from playground.catalog.licenses import RULES
from playground.choose.checks import MEASURE_IT
from playground.choose.constraints import Candidate, Constraints, Eligibility, check_limits, judge
from playground.choose.evidence import Taken
from playground.choose.wording import number, spread_words
from playground.errors import UsageError
from playground.records import Fact, ModelFacts, Openness, Variant
from playground.results.figures import figure

YES, NO, UNKNOWN = Fact("yes", "card", "https://x/yes", "card"), Fact("no", "card", "", "card"), Fact("unknown")


def taken(name: str, unit: str, *values: float) -> Taken:
    return Taken(figure(name, unit, values), "measurement", "m1", "2026-11-24T09:30:00.000Z", prompt_tokens=40)


def candidate(*figures: Taken, served: bool = False, context: int = 0, **facts: object) -> Candidate:
    known = replace(ModelFacts("m"), **facts)  # type: ignore[arg-type]
    return Candidate(
        Variant("m", "onnx", "int8"), "M", known, {t.figure.name: t for t in figures}, context, served=served
    )


def licensed(use: str, **extra: Fact) -> Candidate:
    facts = {"commercial_use": Fact(use, "The licence", "https://x/licence", "card"), **extra}
    return candidate(license=Fact("Some License", "card", "https://x", "card"), extra=facts)


def only(verdict: Eligibility) -> tuple[str, str]:
    (check,) = verdict.checks
    return verdict.state, check.answer


SPEED = ("decode_tok_s", "tokens/s")


@pytest.mark.parametrize(
    ("values", "state"),
    [
        ((30, 31, 32), "eligible"),
        ((20, 20, 20), "eligible"),
        ((19.9,), "out"),
        ((10, 11, 12), "out"),
        ((18, 20, 22), "close"),
        ((19.5, 21, 22, 23), "eligible"),  # its slowest repeat is below the limit, its quartiles are not
        ((15, 19, 21, 30), "close"),
    ],
)
def test_a_lowest_speed_is_met_only_by_the_whole_interquartile_range(values: tuple[float, ...], state: str) -> None:
    assert judge(Constraints(min_tok_s=20), candidate(taken(*SPEED, *values))).state == state


@pytest.mark.parametrize(("values", "state"), [((500,), "eligible"), ((500.1,), "out"), ((490, 500, 520), "close")])
def test_a_highest_memory_is_met_only_by_the_whole_interquartile_range(values: tuple[float, ...], state: str) -> None:
    verdict = judge(Constraints(max_memory_mb=500), candidate(taken("peak_memory_mb", "MB", *values)))
    assert verdict.state == state


def test_the_first_token_has_a_limit_of_its_own() -> None:
    verdict = judge(Constraints(max_ttft_s=0.2), candidate(taken("ttft_s", "s", 0.3, 0.32)))
    assert only(verdict) == ("out", "broken")
    assert verdict.deciding[0].words == "time to first token 0.310 s (0.305 to 0.315), limit at most 0.2 s"
    assert verdict.deciding[0].source == "measured 2026-11-24 09:30, n = 2, prompt of 40 tokens"


def test_what_is_not_measured_is_undecided_and_the_next_step_is_to_measure_it() -> None:
    verdict = judge(Constraints(min_tok_s=1, max_memory_mb=1e6, max_ttft_s=1e6), candidate())
    assert verdict.state == "undecided"
    assert [check.next_step for check in verdict.deciding] == [MEASURE_IT] * 3


def test_memory_of_a_model_served_elsewhere_is_never_known_here() -> None:
    model = candidate(taken("peak_memory_mb", "MB", 1.0), served=True)
    assert only(judge(Constraints(max_memory_mb=500), model)) == ("undecided", "unknown")


def test_one_broken_limit_puts_a_model_out_whatever_else_is_unknown_or_close() -> None:
    model = candidate(taken(*SPEED, 18, 20, 22), context_length=Fact(512, "config", "https://x", "card"))
    verdict = judge(Constraints(min_tok_s=20, max_ttft_s=1, min_context=4096), model)
    assert verdict.state == "out"
    assert [check.limit for check in verdict.deciding] == ["min_context"]
    assert verdict.deciding[0].words == "context of 512 tokens, limit at least 4,096"


def test_unknown_comes_before_too_close_to_call() -> None:
    verdict = judge(Constraints(min_tok_s=20, max_ttft_s=1), candidate(taken(*SPEED, 18, 20, 22)))
    assert verdict.state == "undecided"


@pytest.mark.parametrize(
    ("use", "state", "words"),
    [
        ("yes", "eligible", "eligible"),
        ("conditional", "eligible", "eligible, with conditions"),
        ("no", "out", "out"),
        ("unknown", "undecided", "undecided"),
    ],
)
def test_commercial_use_follows_the_licence(use: str, state: str, words: str) -> None:
    verdict = judge(Constraints(commercial=True), licensed(use))
    assert (verdict.state, verdict.words) == (state, words)
    assert verdict.checks[0].url == "https://x/licence"


def test_a_base_model_that_forbids_commercial_use_undoes_a_plain_yes() -> None:
    forbidding = next(rule.source for rule in RULES if not rule.commercial)
    caution = Fact("It descends from facebook/opt-125m.", "rule", forbidding, "catalogue")
    assert judge(Constraints(commercial=True), licensed("yes", licence_caution=caution)).state == "undecided"
    assert judge(Constraints(commercial=True), licensed("no", licence_caution=caution)).state == "out"


def test_a_base_model_with_terms_of_its_own_makes_a_plain_yes_conditional() -> None:
    terms = next(rule.source for rule in RULES if rule.commercial)
    caution = Fact("It descends from google/gemma-2b.", "rule", terms, "catalogue")
    verdict = judge(Constraints(commercial=True), licensed("yes", licence_caution=caution))
    assert verdict.words == "eligible, with conditions"
    assert "google/gemma-2b" in verdict.checks[0].words


@pytest.mark.parametrize(
    ("licence", "state"),
    [
        ("apache-2.0", "eligible"),
        ("gemma", "eligible"),
        ("cc-by-nc-4.0", "out"),
        ("my-own-licence", "undecided"),
        (None, "undecided"),
    ],
)
def test_a_model_nobody_researched_is_judged_by_its_licence_id(licence: str | None, state: str) -> None:
    model = candidate(license=Fact(licence, "card", "https://x", "card" if licence else "unknown"))
    assert judge(Constraints(commercial=True), model).state == state


@pytest.mark.parametrize(
    ("items", "state"),
    [
        ((YES, YES, YES, NO, NO), "eligible"),
        ((YES, YES, NO, NO, NO), "out"),
        ((YES, YES, UNKNOWN, NO, NO), "undecided"),
        ((YES, YES, replace(YES, value="partial"), NO, NO), "out"),
        ((UNKNOWN,) * 5, "undecided"),
    ],
)
def test_openness_counts_plain_yeses_and_what_is_unknown_may_yet_be_one(items: tuple[Fact, ...], state: str) -> None:
    assert judge(Constraints(min_openness=3), candidate(openness=Openness(*items))).state == state


def test_context_comes_from_a_fact_or_from_the_models_own_configuration() -> None:
    limits = Constraints(min_context=1000)
    assert only(judge(limits, candidate(context=4096))) == ("eligible", "met")
    assert only(judge(limits, candidate())) == ("undecided", "unknown")
    known = Fact(512, "card", "", "card")
    assert only(judge(limits, candidate(context=4096, context_length=known))) == ("out", "broken")


def test_without_limits_everything_is_eligible_and_nothing_is_checked() -> None:
    verdict = judge(Constraints(), candidate())
    assert (verdict.state, verdict.checks) == ("eligible", ())
    assert not Constraints().stated
    assert Constraints(min_openness=0).stated


@pytest.mark.parametrize(
    "limits",
    [
        Constraints(max_memory_mb=0),
        Constraints(min_tok_s=-1),
        Constraints(max_ttft_s=math.nan),
        Constraints(max_ttft_s=math.inf),
        Constraints(min_openness=6),
        Constraints(min_openness=-1),
        Constraints(min_context=0),
    ],
)
def test_limits_that_mean_nothing_are_refused(limits: Constraints) -> None:
    with pytest.raises(UsageError):
        check_limits(limits)


def test_numbers_have_three_digits_or_enough_to_differ_from_the_limit() -> None:
    assert [number(v) for v in (0.01234, 1.5, 23.456, 1234.5, 0)] == ["0.0123", "1.50", "23.5", "1,234", "0"]
    assert number(20.0004, beside=20) == "20.0004"
    assert spread_words(figure("x", "s", [1.0])) == "1.00 s"


def test_a_verdict_survives_json() -> None:
    verdict = judge(Constraints(min_tok_s=20, commercial=True), licensed("conditional"))
    assert Eligibility.from_json(verdict.to_json()) == verdict
