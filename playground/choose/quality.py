"""A quality figure for each of several models: measured answers to a suite or to a harness's questions; or from their
cards, from a file of the reader's own, their fidelity, or the reader's own votes.

Only the first two are answers of the files that run here: a card's figure is its publisher's, a file's is its writer's,
fidelity says how close an export is to its model, not how good the model is, and votes are one reader's on that
reader's prompts. Higher is better in all of them. ``pareto_front`` says which models nobody beats. The module knows
facts and numbers, not where files lie or how a picture is drawn.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from playground.choose.answers import SuiteAnswers
from playground.errors import UsageError, either
from playground.messages import NOTHING, Translatable, clauses, foreign, msg
from playground.records import Fact, Fidelity, ModelFacts, Record, Variant
from playground.results.figures import Figure, iqr_disjoint
from playground.results.ratings import LEAST_VOTES, Ratings
from playground.results.scores import Evaluation

MAX_BYTES = 1_000_000
MAX_ROWS = 1_000

Row = tuple[Translatable, str, Any]
"""Of a score file: the place, the model's name and what stands for its score."""


@dataclass(frozen=True)
class Quality(Record):
    """One quality figure over the chosen models.

    Attributes:
        key: Names it for a choice: ``suite:NAME``, ``harness:TASK``, ``card:HellaSwag``, ``file:scores.csv``,
            ``fidelity:MODEL``, ``votes``.
        title: For an axis.
        values: By variant as text; a model without the figure is not in it.
        cautions: Why the values may not be comparable; to be shown with them.
        intervals: Likewise, where the value is uncertain: from where to where it may lie.
    """

    key: str
    title: Translatable
    kind: Literal["suite", "harness", "card", "file", "fidelity", "votes"]
    values: dict[str, Fact]
    cautions: tuple[Translatable, ...] = ()
    intervals: dict[str, tuple[float, ...]] = field(default_factory=dict)

    def lacking(self, variants: Iterable[Variant]) -> tuple[Variant, ...]:
        """Those of ``variants`` that have no such figure."""
        return tuple(variant for variant in variants if str(variant) not in self.values)


def suite_scores(suite: SuiteAnswers | None) -> tuple[Quality, ...]:
    """The pass rates of a suite, where two variants have one."""
    if suite is None:
        return ()
    values: dict[str, Fact] = {}
    intervals: dict[str, tuple[float, ...]] = {}
    for variant, taken in suite.rates.items():
        if taken.rate.share is not None:
            low, high = taken.rate.interval.low * 100, taken.rate.interval.high * 100
            note = msg("95 % interval {low:.0f} to {high:.0f}, {n:,} prompts", low=low, high=high, n=taken.rate.prompts)
            values[str(variant)] = Fact(taken.rate.share * 100, taken.words, status="measured", note=note)
            intervals[str(variant)] = (low, high)
    if len(values) < 2:
        return ()
    cautions = [
        msg("It says how the models do on the prompts of this suite, by its checks, and nothing of other prompts."),
        msg("The intervals treat its prompts as a sample of those you will have: choose them so."),
    ]
    title = msg("Pass rate, % ({suite})", suite=suite.name)
    return (Quality(f"suite:{suite.name}", title, "suite", values, tuple(cautions), intervals),)


def harness_scores(scores: Mapping[Variant, Mapping[str, Evaluation]]) -> tuple[Quality, ...]:
    """For each task and setting that two variants or more were scored in: its main metric, where higher is better."""
    found: dict[tuple[object, ...], dict[Variant, Evaluation]] = {}
    for variant, by_task in scores.items():
        for taken in by_task.values():
            if taken.main and taken.main.higher_is_better is not False and math.isfinite(taken.main.value):
                found.setdefault((*taken.setting, taken.main.name), {})[variant] = taken
    made = []
    for by in found.values():
        if len(by) < 2:
            continue
        first = next(iter(by.values()))
        assert first.main
        unit = 100.0 if first.main.is_share else 1.0
        values: dict[str, Fact] = {}
        intervals: dict[str, tuple[float, ...]] = {}
        for variant, taken in by.items():
            assert taken.main
            values[str(variant)] = Fact(taken.main.value * unit, taken.how, status="measured")
            if interval := taken.main.interval:
                intervals[str(variant)] = (interval.low * unit, interval.high * unit)
        words = {"task": first.task, "metric": first.main.name}
        title = msg("{task}, {metric}, %", **words) if first.main.is_share else msg("{task}, {metric}", **words)
        caution = msg("Measured on the files that run here, all in one setting; docs/quality.md says what it means.")
        made.append(Quality(f"harness:{first.task}", title, "harness", values, (caution,), intervals))
    return tuple(sorted(made, key=lambda quality: -len(quality.values)))


def card_scores(facts: Mapping[Variant, ModelFacts]) -> tuple[Quality, ...]:
    """The benchmarks that the cards of at least two of the models have, those of most models first."""
    found: dict[str, dict[Variant, Fact]] = {}
    for variant, known in facts.items():
        for benchmark, fact in known.quality.items():
            if isinstance(fact.value, (int, float)) and not isinstance(fact.value, bool) and math.isfinite(fact.value):
                found.setdefault(benchmark, {})[variant] = fact
    shared = {name: by for name, by in found.items() if len({variant.model for variant in by}) > 1}
    made = [
        Quality(
            f"card:{name}", foreign(name), "card", {str(v): fact for v, fact in by.items()}, _card_cautions(name, by)
        )
        for name, by in shared.items()
    ]
    return tuple(sorted(made, key=lambda quality: -len(quality.values)))


def _card_cautions(benchmark: str, by: Mapping[Variant, Fact]) -> tuple[Translatable, ...]:
    """What the sources say of how each figure came about: rarely enough to compare them."""
    settings = {fact.note.removeprefix(benchmark).removeprefix(", ") for fact in by.values()}
    owners = {_publisher(fact.url) for fact in by.values()}
    cautions = []
    if len(owners) > 1:
        cautions.append(
            msg("Published by {n} different sources: the figures are not comparable as they stand.", n=len(owners))
        )
    if len(settings) > 1:
        stated = [foreign(setting) if setting else msg("setting not stated") for setting in settings]
        cautions.append(msg("Taken in different settings ({settings}).", settings=clauses(*sorted(stated))))
    elif settings == {""}:
        cautions.append(msg("No setting is stated (shots, prompt, harness)."))
    cautions.append(
        msg("They are figures of the publisher's release; weights and precision that run here may do worse.")
    )
    if len({variant.model for variant in by}) < len(by):
        cautions.append(msg("Variants of one model share its card's figure: this picture can't tell them apart."))
    return tuple(cautions)


def _publisher(url: str) -> str:
    """Whose page it is: the owner of a repository on the Hub or GitHub, else the host."""
    parts = url.partition("://")[2].split("/")
    return "/".join(parts[:2]) if parts[0] in ("huggingface.co", "github.com") else parts[0]


def fidelity_scores(fidelity: Mapping[Variant, Fidelity | None]) -> tuple[Quality, ...]:
    """For each model with two variants or more of known fidelity: how often the top token is the reference's."""
    made = []
    for model in dict.fromkeys(variant.model for variant in fidelity):
        mine = {variant: known for variant, known in fidelity.items() if variant.model == model}
        values = {str(variant): _agreement(known) for variant, known in mine.items() if known}
        references = {known.reference for known in mine.values() if known}
        for variant in mine:
            if f"{variant.runtime}-{variant.precision}" in references:
                words = msg("It is what the others are compared with")
                values[str(variant)] = Fact(100.0, words, status="measured", note=msg("100 % by definition"))
        if len(values) > 1:
            cautions = [msg("It says how close an export is to its model, not how good the model is.")]
            if len(references) > 1:
                cautions.append(msg("Against different references ({references}).", references=sorted(references)))
            title = msg("Same top token as the reference, % ({model})", model=model)
            made.append(Quality(f"fidelity:{model}", title, "fidelity", values, tuple(cautions)))
    return tuple(made)


def _agreement(fidelity: Fidelity) -> Fact:
    verdict = fidelity.verdict
    note = msg("teacher-forced on {n:,} positions: {verdict}", n=fidelity.positions, verdict=verdict)
    source = msg("Measured here against {reference}", reference=fidelity.reference)
    return Fact(fidelity.top1_agreement * 100, source, status="measured", note=note)


def vote_scores(ratings: Ratings, variants: Iterable[Variant]) -> tuple[Quality, ...]:
    """The reader's own blind votes: none where too few of them were cast to tell any two models apart, or they are of
    fewer than two of ``variants``. Of groups that were never compared it is the one of most votes.

    Args:
        ratings: By variant.
    """
    wanted = {str(variant) for variant in variants}
    if not ratings.models or ratings.models[0].win_rate is None or ratings.models[0].group != 0:
        return ()
    group = ratings.groups[0]
    if max(rating.votes for rating in group) < LEAST_VOTES:
        return ()
    values: dict[str, Fact] = {}
    intervals: dict[str, tuple[float, ...]] = {}
    for rating in group:
        if rating.name in wanted and rating.win_rate is not None and rating.low is not None and rating.high is not None:
            low, high = rating.low * 100, rating.high * 100
            note = msg("95 % interval {low:.0f} to {high:.0f}, {n:,} votes", low=low, high=high, n=rating.votes)
            values[rating.name] = Fact(rating.win_rate * 100, msg("Your own blind votes"), status="measured", note=note)
            intervals[rating.name] = (low, high)
    if len(values) < 2:
        return ()
    cautions = [
        msg("Your own votes on your own prompts, no benchmark: not to be held against published figures."),
        msg("The share of votes it is expected to win against another model you have compared, ties as half."),
    ]
    if len(ratings.groups) > 1:
        cautions.append(msg("Models that no chain of votes joins with these are left out."))
    title = msg("Your votes: would win, %")
    return (Quality("votes", title, "votes", values, tuple(cautions), intervals),)


def file_scores(content: bytes, file: str, variants: Sequence[Variant], known: Iterable[str] = ()) -> Quality:
    """A score file of the reader's own: CSV with the columns ``model,score``, or JSON.

    JSON is ``{"MODEL": 1.5}`` or ``[{"model": "MODEL", "score": 1.5}]``. A line for ``MODEL@RUNTIME-PRECISION`` counts
    for that variant, one for ``MODEL`` for all the others of it.

    Args:
        variants: Those to find scores for.
        known: Other names that may stand in the file, of models that are not chosen now.

    Raises:
        UsageError: The file is too large, can't be read, or a line of it is wrong; with the place.
    """
    if len(content) > MAX_BYTES:
        raise UsageError(
            msg("{file} has {n:,} bytes", file=file, n=len(content)),
            msg("A score file has at most {most:,}: one line a model.", most=MAX_BYTES),
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            msg("{file} is not UTF-8 (byte {byte})", file=file, byte=error.start), msg("Save it as UTF-8.")
        ) from None
    rows = _json_rows(text, file) if text.lstrip()[:1] in ("{", "[") else _csv_rows(text, file)
    if not rows:
        raise UsageError(msg("{file} has no scores", file=file), msg("Write a line for each model: MODEL,SCORE."))
    if len(rows) > MAX_ROWS:
        raise UsageError(
            msg("{file} has {n:,} scores", file=file, n=len(rows)), msg("At most {most:,} are read.", most=MAX_ROWS)
        )
    names = {*map(str, variants), *(variant.model for variant in variants), *known}
    scores: dict[str, float] = {}
    for place, name, value in rows:
        if name not in names:
            unknown = msg("{file}, {place}: unknown model '{name}'", file=file, place=place, name=name)
            raise UsageError(unknown, _hint(name, names))
        where = msg("{file}, {place}: {name}", file=file, place=place, name=name)
        if name in scores:
            raise UsageError(msg("{where} stands twice", where=where), msg("Leave one score for each model."))
        scores[name] = _score(value, where)
    return _file_quality(scores, file, variants)


def _file_quality(scores: Mapping[str, float], file: str, variants: Sequence[Variant]) -> Quality:
    values = {}
    shared = False
    for variant in variants:
        own = str(variant) in scores
        if own or variant.model in scores:
            value = scores[str(variant)] if own else scores[variant.model]
            note = NOTHING if own else msg("given for the model, whatever variant runs")
            values[str(variant)] = Fact(value, msg("Your own: {file}", file=file), note=note, status="catalogue")
            shared = shared or (not own and sum(other.model == variant.model for other in variants) > 1)
    cautions = [msg("Scores of your own file; nothing about them was checked. Higher is taken to be better.")]
    if shared:
        cautions.append(msg("Variants of one model share the score that the file gives for the model."))
    return Quality(f"file:{file}", msg("Score ({file})", file=file), "file", values, tuple(cautions))


def _csv_rows(text: str, file: str) -> list[Row]:
    first = text.lstrip("\n\r").partition("\n")[0]
    delimiter = next((mark for mark in ("\t", ";", ",") if mark in first), ",")
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    found: list[Row] = []
    columns: list[str] | None = None
    try:
        for row in rows:
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            place = msg("line {n}", n=rows.line_num)
            if columns is None:
                columns = [cell.lower() for cell in cells]
                if sorted(columns) != ["model", "score"]:
                    shown = first.strip()[:80]
                    said = msg("{file}, {place}: the columns are '{columns}'", file=file, place=place, columns=shown)
                    raise UsageError(said, FORMAT)
                continue
            if len(cells) != 2:
                raise UsageError(msg("{file}, {place} has {n} fields", file=file, place=place, n=len(cells)), FORMAT)
            by_name = dict(zip(columns, cells, strict=True))
            found.append((place, by_name["model"], by_name["score"]))
    except csv.Error as error:
        why = {"file": file, "n": rows.line_num, "reason": foreign(str(error))}
        raise UsageError(msg("{file}, line {n} can't be read as CSV ({reason})", **why), FORMAT) from None
    return found


FORMAT = msg(
    "The first line must be model,score and each other line a model and its number, e.g. smollm2-135m-instruct,41."
)


def _json_rows(text: str, file: str) -> list[Row]:
    shape = msg('Write {{"MODEL": SCORE}} or [{{"model": "MODEL", "score": SCORE}}].')
    try:
        document = json.loads(text, object_pairs_hook=_Pairs)
    except ValueError as error:
        reason = foreign(str(error))
        raise UsageError(msg("{file} can't be read as JSON ({reason})", file=file, reason=reason), shape) from None
    except RecursionError:
        raise UsageError(msg("{file} can't be read as JSON: it is nested too deeply", file=file), shape) from None
    if isinstance(document, _Pairs):
        return [(msg("entry {n}", n=place), name, value) for place, (name, value) in enumerate(document, start=1)]
    rows = []
    for place, item in enumerate(document, start=1):
        pairs = dict(item) if isinstance(item, _Pairs) else {}
        if not isinstance(item, _Pairs) or sorted(pairs) != ["model", "score"] or not isinstance(pairs["model"], str):
            raise UsageError(msg("{file}, entry {n} is not a model and its score", file=file, n=place), shape)
        rows.append((msg("entry {n}", n=place), pairs["model"].strip(), pairs["score"]))
    return rows


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as it was written, so that a name that stands twice is seen."""


def _score(value: Any, where: Translatable) -> float:
    number: float | None = None
    if not isinstance(value, bool) and isinstance(value, (int, float, str)) and "_" not in str(value):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = None
    if number is None or not math.isfinite(number):
        shown = foreign(str(value)[:40]) or msg("nothing")
        raise UsageError(
            msg("{where} has {value} for a score", where=where, value=shown),
            msg("A score is a finite number, with a point for decimals."),
        )
    return number


def _hint(name: str, names: Iterable[str]) -> Translatable:
    close = difflib.get_close_matches(name, sorted(names), n=2, cutoff=0.5)
    if close:
        return msg("Did you mean {names}?", names=either(close))
    return msg("`playground models` lists the names.")


@dataclass(frozen=True)
class Axis:
    """What counts in a comparison of models, and which way is better."""

    name: str
    higher: bool


def pareto_front(axes: Sequence[Axis], points: Mapping[str, Mapping[str, Figure]]) -> frozenset[str]:
    """The Pareto front: those that nobody beats.

    One beats another if its median is at least as good on every axis, and better on one of them by more than chance:
    there the interquartile ranges do not touch. Where spreads overlap no difference was seen, and both stay.

    Args:
        points: By model, a figure for each axis.
    """
    return frozenset(
        name
        for name, mine in points.items()
        if not any(_beats(axes, other, mine) for rival, other in points.items() if rival != name)
    )


def _beats(axes: Sequence[Axis], one: Mapping[str, Figure], other: Mapping[str, Figure]) -> bool:
    def better(axis: Axis) -> bool:
        mine, its = one[axis.name], other[axis.name]
        return iqr_disjoint(mine, its) and _ahead(axis, mine, its)

    def at_least(axis: Axis) -> bool:
        return not _ahead(axis, other[axis.name], one[axis.name])

    return all(map(at_least, axes)) and any(map(better, axes))


def _ahead(axis: Axis, one: Figure, other: Figure) -> bool:
    return one.median > other.median if axis.higher else one.median < other.median
