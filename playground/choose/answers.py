"""Measured quality: what stored runs of a suite, and scores of a benchmark's harness, say of each model.

A suite is known by what it asks and checks (``digest``), not by its file's name: answers to other prompts, or held
against other checks, are no evidence for it. The newest run that has every prompt of a model counts; of a model that no
run finished, the newest one as far as it came. It knows records and figures; it runs nothing and draws nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from playground.choose.evidence import Taken, same_machine
from playground.errors import UsageError
from playground.messages import Translatable, msg
from playground.records import Environment, Record, SuiteRun, Variant
from playground.results.figures import CHOICE, Figure, figure
from playground.results.scores import Evaluation
from playground.results.statistics import Paired, Rate
from playground.results.suite_summary import ColumnSummary, SuiteSummary
from playground.system.environment import environment

if TYPE_CHECKING:
    from playground.service import Playground

NEWEST = 50
"""So many of the newest suites are looked through."""


_DIGESTS: dict[tuple[str, str], str] = {}
"""Of suites that were looked at, by database and id, the oldest first."""


@dataclass(frozen=True)
class PassRate(Record):
    """How many of a suite's prompts one model passed.

    Attributes:
        suite: Its name.
        run: Id of the run it was taken in.
        prompts: How many there are, of which ``rate.prompts`` have an outcome.
        repeats: Answers to each.
    """

    suite: str
    run: str
    created_at: str
    rate: Rate
    prompts: int
    repeats: int = 1
    cautions: tuple[Translatable, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether every prompt that has checks has its outcome."""
        return self.rate.prompts >= self.prompts

    @property
    def words(self) -> Translatable:
        """Where it comes from."""
        when = self.created_at[:16].replace("T", " ")
        told = msg("suite {suite}, run {when}", suite=self.suite, when=when)
        if self.whole:
            return told
        return msg("{told}, {n} of {all} prompts so far", told=told, n=self.rate.prompts, all=self.prompts)


@dataclass(frozen=True)
class Difference(Record):
    """Two models on the same prompts, told from the first one's side."""

    first: Variant
    second: Variant
    test: Paired


@dataclass(frozen=True)
class SuiteAnswers:
    """What is stored of one suite, of the variants that were asked about.

    Attributes:
        digest: Of what it asks and checks.
        figures: Speed, first token and memory over its answers, where they were taken on this machine one at a time.
        differences: Of pairs that one run has both of.
    """

    name: str
    digest: str
    rates: dict[Variant, PassRate] = field(default_factory=dict)
    figures: dict[Variant, dict[str, Taken]] = field(default_factory=dict)
    differences: tuple[Difference, ...] = ()


@dataclass(frozen=True)
class _Kept:
    run: SuiteRun
    summary: SuiteSummary


def digest(suite: Mapping[str, Any]) -> str:
    """What makes two suites one: prompts, checks, thresholds and schemas; not names, labels and places.

    Args:
        suite: As JSON.
    """
    rows = [
        {name: value for name, value in row.items() if name in ("prompt", "messages", "system")}
        for row in suite.get("rows") or ()
    ]
    asked = [rows, *(suite.get(name) for name in ("checks", "thresholds", "schemas"))]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def suite_answers(
    playground: Playground, suite: tuple[str, str], variants: Sequence[Variant], owner: str = ""
) -> SuiteAnswers:
    """What is stored of a suite.

    Args:
        suite: Its digest, and its name for a reader.
        owner: Whose suites count where strangers come.

    Raises:
        StorageError: The database can't be read.
    """
    (wanted, name), here = suite, environment()
    kept = [_Kept(run, playground.suite_summary(run.id)) for run in _runs(playground, wanted, variants, owner)]
    rates: dict[Variant, PassRate] = {}
    figures: dict[Variant, dict[str, Taken]] = {}
    for each in kept:
        for place, column in enumerate(each.run.columns):
            variant = column.variant
            if variant not in variants or not each.summary.columns[place].rate.prompts:
                continue
            found = _rate(playground, each, place)
            if variant in rates and (rates[variant].whole or not found.whole):
                continue
            rates[variant] = found
            figures[variant] = _figures(each, place, here)
    return SuiteAnswers(name, wanted, rates, figures, tuple(_differences(kept, variants)))


def stored_suites(playground: Playground, owner: str = "") -> dict[str, tuple[str, str, str]]:
    """The suites that have answers: by digest, the id of the newest run, its name and when it was.

    Raises:
        StorageError: The database can't be read.
    """
    found: dict[str, tuple[str, str, str]] = {}
    for entry in playground.suites(owner, limit=NEWEST):
        if entry.judged:
            found.setdefault(digest_of(playground, entry.id), (entry.id, entry.name, entry.created_at))
    found.pop("", None)
    return found


def digest_of(playground: Playground, id: str) -> str:
    """The digest of a stored suite; "" where it is not whole. What it asks never changes and may be megabytes: it is
    read once.
    """
    key = (str(playground.settings.database), id)
    found = _DIGESTS.get(key) or _digest_of(playground, id)
    if found:
        while len(_DIGESTS) >= 4 * NEWEST:
            _DIGESTS.pop(next(iter(_DIGESTS)), None)
        _DIGESTS[key] = found
    return found


def _digest_of(playground: Playground, id: str) -> str:
    plan, run = playground.suites_kept.plan(id) or {}, playground.suite_run(id)
    suite = plan.get("suite")
    if not isinstance(suite, dict) or run is None:
        return ""
    return digest({**suite, "rows": [row.to_json() for row in run.rows]})  # the header has the rows


def _runs(playground: Playground, wanted: str, variants: Sequence[Variant], owner: str) -> Iterator[SuiteRun]:
    """The newest first."""
    asked = set(variants)
    for entry in playground.suites(owner, limit=NEWEST):
        if entry.judged and asked & set(entry.variants) and digest_of(playground, entry.id) == wanted:
            run = playground.suite_run(entry.id)
            if run is not None:
                yield run


def _rate(playground: Playground, kept: _Kept, place: int) -> PassRate:
    run, column = kept.run, kept.run.columns[place]
    judged = max(each.rate.prompts for each in kept.summary.columns)
    cautions = []
    if column.request and column.request.temperature > 0:
        cautions.append(msg("{variant} was asked with a temperature above 0: another run may differ.",
                            variant=column.variant))  # fmt: skip
    artifact = playground.preparation(column.variant).artifact
    first = playground.suites_kept.answers(run.id, 0, place)[:1]
    answered = first[0].run.artifact_sha256 if first else None
    if artifact and artifact.sha256 and answered and artifact.sha256 != answered:
        cautions.append(
            msg("{variant} was prepared anew since the suite was run: these are answers of other files.",
                variant=column.variant)
        )  # fmt: skip
    if kept.summary.columns[place].failed:
        cautions.append(
            msg("{n} answers of {variant} ended with an error and count as failed.",
                n=kept.summary.columns[place].failed, variant=column.variant)
        )  # fmt: skip
    rate = kept.summary.columns[place].rate
    # A run that goes on, or was paused, may lack prompts of every column.
    prompts = len(run.rows) if kept.summary.cells < kept.summary.total else judged
    return PassRate(run.name, run.id, run.created_at, rate, prompts, run.repeats, tuple(cautions))


def _figures(kept: _Kept, place: int, here: Environment) -> dict[str, Taken]:
    column: ColumnSummary = kept.summary.columns[place]
    run = kept.run
    if column.shared or not same_machine(run.environment, here):
        return {}
    found = {name: column.figures.get(name) for name in ("decode_tok_s", "ttft_s")}
    if column.reused:
        found["ttft_s"] = None  # what was in the cache from the prompt before was not read again
    found["peak_memory_mb"] = column.peak_memory_mb
    n = column.cells - column.failed
    return {
        name: Taken(
            _figure(name, value, column.spread.get(name)),
            "suite",
            run.id,
            run.created_at,
            answers=n,
            engine="" if "" in column.engines else ", ".join(column.engines),
        )
        for name, value in found.items()
        if value is not None
    }


def _figure(name: str, median: float, spread: tuple[float, ...] | None) -> Figure:
    made = figure(name, CHOICE[name].unit, [median])
    return replace(made, values=(spread[0], spread[1]), low=spread[0], high=spread[1]) if spread else made


def _differences(kept: Iterable[_Kept], variants: Sequence[Variant]) -> Iterator[Difference]:
    """Of each pair the test of the newest run that has both."""
    seen = set()
    for each in kept:
        for difference in each.summary.differences:
            one, other = (each.run.columns[place].variant for place in (difference.first, difference.second))
            pair = frozenset((one, other))
            if len(pair) == 2 and one in variants and other in variants and pair not in seen:
                seen.add(pair)
                yield Difference(one, other, difference.test)


# -- scores of a harness ---------------------------------------------------------------------------------------------


def newest_scores(
    evaluations: Iterable[Evaluation], variants: Sequence[Variant]
) -> dict[Variant, dict[str, Evaluation]]:
    """By variant and task, its newest score.

    Args:
        evaluations: The newest first.
    """
    found: dict[Variant, dict[str, Evaluation]] = {variant: {} for variant in variants}
    for each in evaluations:
        if each.variant in found and each.main:
            found[each.variant].setdefault(each.task, each)
    return found


def share(value: Any, where: Translatable) -> float:
    """``0.8`` or ``80 %`` as a share.

    Raises:
        UsageError: It is none; ``where`` names the place.
    """
    number: float | None = None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        number = float(value)
    elif isinstance(value, str):
        text = value.strip()
        try:
            number = float(text.removesuffix("%").strip()) / 100 if text.endswith("%") else float(text)
        except ValueError:
            number = None
    if number is None or not 0 < number <= 1:
        raise UsageError(
            msg("{where} is {value}", where=where, value=str(value)[:40]),
            msg("Write a share above 0 and at most 1, such as 0.8, or in per cent: 80 %."),
        )
    return number
