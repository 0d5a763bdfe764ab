"""One limit against one model: what came of it, in words.

It knows figures and their intervals; which limits there are, ``constraints`` knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from playground.choose.answers import PassRate
from playground.choose.wording import number
from playground.messages import NOTHING, Translatable, msg
from playground.records import Record, Variant
from playground.results.scores import Evaluation
from playground.results.statistics import Rate, wilson

Answer = Literal["met", "conditions", "close", "unknown", "broken"]

MEASURE_IT = msg("Measure it.")
"""The next step where a figure is missing; each front end says how that is done there."""
RUN_IT = msg("Run the suite with it.")
"""The next step where answers to the suite are missing."""
MORE = tuple(round(10 * 1.25**step) for step in range(32))
"""Lengths of suites that are tried: 10 to 10,000 prompts."""


@dataclass(frozen=True)
class Check(Record):
    """One limit against one model.

    Attributes:
        limit: Which one, as the field of ``Constraints`` is called; ``refused`` for a model that never runs here.
        words: Value against limit, to be read by itself.
        source: Where the value comes from, in words; ``url`` is where to check it.
        next_step: How to learn what is not known, or what to take instead; empty where nothing is to be done.
    """

    limit: str
    answer: Answer
    words: Translatable
    source: Translatable = NOTHING
    url: str = ""
    next_step: Translatable = NOTHING


def pass_rate_check(least: float, taken: PassRate | None) -> Check:
    """Wilson's interval must lie above the limit, or below it; where it holds the limit, more prompts would tell."""
    if taken is None or taken.rate.share is None:
        return Check("min_pass_rate", "unknown", msg("It was not asked the suite's prompts."), next_step=RUN_IT)
    rate, interval = taken.rate, taken.rate.interval
    assert rate.share is not None
    answer: Answer = "met" if interval.low >= least else "broken" if interval.high < least else "close"
    words = msg(
        "pass rate {share:.0%} ({passed:g} of {n} prompts, 95 % interval {low:.0%} to {high:.0%}), limit at least "
        "{least:.3g} %",
        share=rate.share,
        passed=rate.passed,
        n=rate.prompts,
        low=interval.low,
        high=interval.high,
        least=least * 100,
    )
    step = NOTHING
    if not taken.whole:
        step = RUN_IT
    elif answer == "close":
        step = _more_prompts(rate, least)
    return Check("min_pass_rate", answer, words, taken.words, next_step=step)


def _more_prompts(rate: Rate, least: float) -> Translatable:
    """How many prompts would decide it, if it went on passing as many of them."""
    assert rate.share is not None
    for n in MORE:
        if n > rate.prompts:
            interval = wilson(rate.share * n, n)
            if interval.low >= least or interval.high < least:
                return msg("If it goes on like that, {n:,} prompts would decide it.", n=n)
    return msg("It is so close to the limit that no suite of a bearable length decides it.")


def score_check(task: str, least: float, taken: Evaluation | None, variant: Variant) -> Check:
    metric = taken.main if taken else None
    if taken is None or metric is None:
        step = msg("Take it: `playground eval -m {model} --tasks {task}`.", model=variant, task=task)
        return Check("min_scores", "unknown", msg("{task} was not taken of it.", task=task), next_step=step)
    told = {"task": task, "metric": metric.name, "value": number(metric.value, least), "least": f"{least:g}"}
    if metric.higher_is_better is False:
        words = msg("{task} ({metric}) {value}: lower is better there, so 'at least' says nothing", **told)
        return Check("min_scores", "unknown", words, taken.how, next_step=msg("Take that limit out."))
    interval = metric.interval
    if interval is None:
        answer: Answer = "met" if metric.value >= least else "broken"
        words = msg("{task} ({metric}) {value} without an interval, limit at least {least}", **told)
        return Check("min_scores", answer, words, taken.how)
    answer = "met" if interval.low >= least else "broken" if interval.high < least else "close"
    words = msg(
        "{task} ({metric}) {value} (95 % interval {low} to {high}), limit at least {least}",
        low=number(interval.low, least),
        high=number(interval.high, least),
        **told,
    )
    step = msg("Take it with more questions, or all: a larger --limit.") if answer == "close" else NOTHING
    return Check("min_scores", answer, words, taken.how, next_step=step)
