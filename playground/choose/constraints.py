"""Which models meet the limits a reader states: each one eligible or not, and the figure or fact that decided.

Pure: figures come from ``evidence``, facts from ``catalog.facts``. What is not known is never counted as met, and a
limit that lies within a figure's interquartile range decides nothing. It does not know how good a model's answers are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Literal

from playground.catalog.cards import OPENNESS
from playground.catalog.licenses import commercial_use, forbids_commercial_use
from playground.choose.answers import PassRate
from playground.choose.checks import (
    MEASURE_IT,
    Answer,
    Check,
    pass_rate_check,
    score_check,
)
from playground.choose.evidence import Taken
from playground.choose.wording import spread_words
from playground.errors import UsageError
from playground.messages import NOTHING, Translatable, foreign, msg
from playground.records import Fact, ModelFacts, Record, Variant
from playground.results.figures import Figure
from playground.results.scores import Evaluation

State = Literal["eligible", "close", "undecided", "out"]

STATES: tuple[State, ...] = ("eligible", "close", "undecided", "out")
"""In the order a reader wants them."""


@dataclass(frozen=True)
class Constraints(Record):
    """What a model must keep to; None (and False) asks for nothing.

    Attributes:
        max_memory_mb: Peak of the model's process, in MB (10^6 bytes).
        max_ttft_s: Time to first token, in seconds.
        min_tok_s: Decode rate, in tokens per second.
        commercial: The licence must allow commercial use.
        min_openness: So many of the five items of openness must be a plain yes.
        min_context: Tokens of prompt and answer together.
        min_pass_rate: Share of a suite's prompts that must be passed, 0 to 1.
        min_scores: By task of an evaluation harness, the least value of its main metric.
    """

    max_memory_mb: float | None = None
    max_ttft_s: float | None = None
    min_tok_s: float | None = None
    commercial: bool = False
    min_openness: int | None = None
    min_context: int | None = None
    min_pass_rate: float | None = None
    min_scores: dict[str, float] = field(default_factory=dict)

    @property
    def stated(self) -> bool:
        """Whether anything is asked for at all."""
        return self != Constraints()


@dataclass(frozen=True)
class Candidate:
    """A model as it is judged.

    Attributes:
        figures: By name as in ``Timings``; what is absent was not measured.
        context_length: What its own configuration allows, for a model that no card describes; 0 where unknown.
        served: Whether somebody else runs it, so that its memory is not this machine's.
        refused: Why it never runs here, whatever the machine; None where it may.
        passed: Its pass rate on the suite that the limits speak of; None where it was not asked.
        scores: By task, its newest score.
    """

    variant: Variant
    name: str
    facts: ModelFacts
    figures: dict[str, Taken] = field(default_factory=dict)
    context_length: int = 0
    served: bool = False
    refused: Check | None = None
    passed: PassRate | None = None
    scores: dict[str, Evaluation] = field(default_factory=dict)


@dataclass(frozen=True)
class Eligibility(Record):
    """What became of one model: its checks in the order of ``Constraints``, one for each limit that was stated; of a
    model that is refused, the reason alone.
    """

    variant: Variant
    name: str
    state: State
    checks: tuple[Check, ...] = ()

    @property
    def deciding(self) -> tuple[Check, ...]:
        """The checks that made it what it is: all of them for a model that is eligible."""
        if self.state == "eligible":
            return self.checks
        wanted = {"out": "broken", "undecided": "unknown", "close": "close"}[self.state]
        return tuple(check for check in self.checks if check.answer == wanted)

    @property
    def words(self) -> Translatable:
        """The state for a reader."""
        if self.state == "eligible" and any(check.answer == "conditions" for check in self.checks):
            return msg("eligible, with conditions")
        return _STATE_WORDS[self.state]


def check_limits(limits: Constraints) -> None:
    """Refuse limits that mean nothing.

    Raises:
        UsageError: A limit is not a number above 0, or openness is not from 0 to 5.
    """
    for part in fields(limits):
        value = getattr(limits, part.name)
        if value is None or isinstance(value, (bool, dict)):
            continue
        least = 0 if part.name == "min_openness" else math.ulp(0.0)
        if not math.isfinite(value) or value < least:
            raise UsageError(
                msg("The limit for {figure} is {value:g}", figure=NAMES[part.name], value=value),
                msg("It must be a number above 0."),
            )
    if limits.min_pass_rate is not None and limits.min_pass_rate > 1:
        raise UsageError(
            msg("The limit for the pass rate is {value:g}", value=limits.min_pass_rate),
            msg("It is a share: at most 1."),
        )
    for task, least in limits.min_scores.items():
        if not math.isfinite(least):
            raise UsageError(
                msg("The limit for {figure} is {value:g}", figure=task, value=least), msg("It must be a number.")
            )
    if limits.min_openness is not None and limits.min_openness > len(OPENNESS):
        raise UsageError(
            msg("The limit for openness is {value}", value=limits.min_openness),
            msg("There are {n} items: 0 to 5.", n=len(OPENNESS)),
        )


def judge(limits: Constraints, candidate: Candidate) -> Eligibility:
    """One model against the limits.

    A single limit that is broken puts it out, whatever else is unknown; else anything unknown leaves it undecided, and
    anything too close to call leaves it at that. A model that never runs here is out by that alone.
    """
    if candidate.refused:
        return Eligibility(candidate.variant, candidate.name, "out", (candidate.refused,))
    found = []
    for part in fields(limits):
        wanted = getattr(limits, part.name)
        if isinstance(wanted, dict):
            found += [
                score_check(task, least, candidate.scores.get(task), candidate.variant)
                for task, least in wanted.items()
            ]
        elif wanted is not None and wanted is not False:
            found.append(_CHECKS[part.name](wanted, candidate))
    answers = {check.answer for check in found}
    state: State = "eligible"
    if "broken" in answers:
        state = "out"
    elif "unknown" in answers:
        state = "undecided"
    elif "close" in answers:
        state = "close"
    return Eligibility(candidate.variant, candidate.name, state, tuple(found))


def _memory(limit: float, candidate: Candidate) -> Check:
    if candidate.served:
        words = msg("Its memory is on the server that runs it, and not measured here.")
        return Check("max_memory_mb", "unknown", words, next_step=msg("Ask whoever serves it."))
    return _measured("max_memory_mb", "peak_memory_mb", limit, "at most", candidate)


def _ttft(limit: float, candidate: Candidate) -> Check:
    return _measured("max_ttft_s", "ttft_s", limit, "at most", candidate)


def _speed(limit: float, candidate: Candidate) -> Check:
    return _measured("min_tok_s", "decode_tok_s", limit, "at least", candidate)


def _measured(
    name: str, figure_name: str, limit: float, side: Literal["at most", "at least"], candidate: Candidate
) -> Check:
    taken = candidate.figures.get(figure_name)
    if taken is None:
        return Check(name, "unknown", _NOT_MEASURED[name], next_step=MEASURE_IT)
    figure = taken.figure
    answer = _place(figure, limit, side)
    values = {"figure": NAMES[name], "value": spread_words(figure, limit), "limit": f"{limit:,.10g}"}
    if side == "at most":
        words = msg("{figure} {value}, limit at most {limit} {unit}", unit=figure.unit, **values)
    else:
        words = msg("{figure} {value}, limit at least {limit} {unit}", unit=figure.unit, **values)
    again = msg("Measure it again with more repeats, on an idle machine.") if answer == "close" else NOTHING
    return Check(name, answer, words, taken.words, next_step=again)


def _place(figure: Figure, limit: float, side: Literal["at most", "at least"]) -> Answer:
    """The whole interquartile range must be on the right side of the limit, or on the wrong one."""
    if side == "at most":
        return "met" if figure.high <= limit else "broken" if figure.low > limit else "close"
    return "met" if figure.low >= limit else "broken" if figure.high < limit else "close"


def _commercial(_: bool, candidate: Candidate) -> Check:
    facts = candidate.facts
    told = facts.extra.get("commercial_use")
    value, url = (str(told.value), told.url) if told else commercial_use(str(facts.license.value or ""))
    licence = foreign(str(facts.license.value)) if facts.license.value else msg("no licence that was read")
    url, source = url or facts.license.url, foreign(told.source if told else facts.license.source)
    cautions = [fact for key, fact in facts.extra.items() if key.startswith("licence_caution")]
    against = next((fact for fact in cautions if forbids_commercial_use(fact)), None)
    if value == "no":
        return Check("commercial", "broken", msg("{licence}: no commercial use", licence=licence), source, url)
    if value == "unknown":
        words = msg("{licence}: whether it allows commercial use is unknown", licence=licence)
        step = msg("Read its card and licence: `playground card {model}`.", model=candidate.variant.model)
        return Check("commercial", "unknown", words, source, url, step)
    if against:
        words = msg("{licence} allows it, but: {caution}", licence=licence, caution=against.value)
        return Check("commercial", "unknown", words, foreign(against.source), against.url, msg("Read both licences."))
    if value == "conditional" or cautions:
        words = msg("{licence}: commercial use with conditions", licence=licence)
        if not cautions:
            return Check("commercial", "conditions", words, source, url)
        words = msg("{conditions}; {caution}", conditions=words, caution=cautions[0].value)
        return Check("commercial", "conditions", words, source, url or cautions[0].url)
    return Check("commercial", "met", msg("{licence}: commercial use allowed", licence=licence), source, url)


def _openness(least: int, candidate: Candidate) -> Check:
    items = {item: getattr(candidate.facts.openness, item) for item in OPENNESS}
    yes = [item for item, fact in items.items() if fact.value == "yes"]
    unknown = [item for item, fact in items.items() if fact.value in (None, "unknown")]
    words = msg("{n} of {of} items a plain yes, limit at least {least}", n=len(yes), of=len(OPENNESS), least=least)
    evidence: Fact | None = next((items[item] for item in (*yes, *items) if items[item].url), None)
    source, url = (foreign(evidence.source), evidence.url) if evidence else (NOTHING, "")
    if len(yes) >= least:
        return Check("min_openness", "met", words, source, url)
    if len(yes) + len(unknown) < least:
        return Check("min_openness", "broken", words, source, url)
    step = msg("Find out about: {items}.", items=[item.replace("_", " ") for item in unknown])
    words = msg("{items}; {n} unknown", items=words, n=len(unknown))
    return Check("min_openness", "unknown", words, source, url, step)


def _context(least: int, candidate: Candidate) -> Check:
    fact = candidate.facts.context_length
    value, source = fact.value, foreign(fact.source)
    if not isinstance(value, int) and candidate.context_length:
        value, source = candidate.context_length, msg("Its own configuration")
    if not isinstance(value, int):
        step = msg("Read its configuration: `playground card {model}`.", model=candidate.variant.model)
        return Check("min_context", "unknown", msg("Its context length is unknown."), next_step=step)
    words = msg("context of {n:,} tokens, limit at least {least:,}", n=value, least=least)
    return Check("min_context", "met" if value >= least else "broken", words, source, fact.url)


NAMES = {
    "max_memory_mb": msg("peak memory"),
    "max_ttft_s": msg("time to first token"),
    "min_tok_s": msg("decode rate"),
    "commercial": msg("commercial use"),
    "min_openness": msg("openness"),
    "min_context": msg("context length"),
    "min_pass_rate": msg("the pass rate"),
}
"""The limits as sentences call them."""

_NOT_MEASURED = {
    "max_memory_mb": msg("Peak memory is not measured here."),
    "max_ttft_s": msg("Time to first token is not measured here."),
    "min_tok_s": msg("Decode rate is not measured here."),
}

_STATE_WORDS: dict[State, Translatable] = {
    "eligible": msg("eligible"),
    "close": msg("too close to call"),
    "undecided": msg("undecided"),
    "out": msg("out"),
}

_CHECKS: dict[str, Callable[..., Check]] = {
    "max_memory_mb": _memory,
    "max_ttft_s": _ttft,
    "min_tok_s": _speed,
    "commercial": _commercial,
    "min_openness": _openness,
    "min_context": _context,
    "min_pass_rate": lambda least, candidate: pass_rate_check(least, candidate.passed),
}
