"""A quality figure for each of several models: from their cards, from a file of the reader's own, or their fidelity.

None of them is measured answers: a card's figure is its publisher's, a file's is its writer's, and fidelity says how
close an export is to its model, not how good the model is. Higher is better in all of them. ``pareto_front`` says
which models nobody beats. The module knows facts and numbers, not where files lie or how a picture is drawn.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from playground.errors import UsageError
from playground.records import Fact, Fidelity, ModelFacts, Record, Variant
from playground.results.figures import Figure, iqr_disjoint

MAX_BYTES = 1_000_000
MAX_ROWS = 1_000


@dataclass(frozen=True)
class Quality(Record):
    """One quality figure over the chosen models.

    Attributes:
        key: Names it for a choice: ``card:HellaSwag``, ``file:scores.csv``, ``fidelity:MODEL``.
        title: For an axis.
        values: By variant as text; a model without the figure is not in it.
        cautions: Why the values may not be comparable; to be shown with them.
    """

    key: str
    title: str
    kind: Literal["card", "file", "fidelity"]
    values: dict[str, Fact]
    cautions: tuple[str, ...] = ()

    def lacking(self, variants: Iterable[Variant]) -> tuple[Variant, ...]:
        """Those of ``variants`` that have no such figure."""
        return tuple(variant for variant in variants if str(variant) not in self.values)


def card_scores(facts: Mapping[Variant, ModelFacts]) -> tuple[Quality, ...]:
    """The benchmarks that the cards of at least two of the models have, those of most models first."""
    found: dict[str, dict[Variant, Fact]] = {}
    for variant, known in facts.items():
        for benchmark, fact in known.quality.items():
            if isinstance(fact.value, (int, float)) and not isinstance(fact.value, bool) and math.isfinite(fact.value):
                found.setdefault(benchmark, {})[variant] = fact
    shared = {name: by for name, by in found.items() if len({variant.model for variant in by}) > 1}
    made = [
        Quality(f"card:{name}", name, "card", {str(v): fact for v, fact in by.items()}, _card_cautions(name, by))
        for name, by in shared.items()
    ]
    return tuple(sorted(made, key=lambda quality: -len(quality.values)))


def _card_cautions(benchmark: str, by: Mapping[Variant, Fact]) -> tuple[str, ...]:
    """What the sources say of how each figure came about: rarely enough to compare them."""
    settings = {fact.note.removeprefix(benchmark).removeprefix(", ") for fact in by.values()}
    owners = {_publisher(fact.url) for fact in by.values()}
    cautions = []
    if len(owners) > 1:
        cautions.append(f"Published by {len(owners)} different sources: the figures are not comparable as they stand.")
    if len(settings) > 1:
        told = "; ".join(sorted(setting or "setting not stated" for setting in settings))
        cautions.append(f"Taken in different settings ({told}).")
    elif settings == {""}:
        cautions.append("No setting is stated (shots, prompt, harness).")
    cautions.append("They are figures of the publisher's release; weights and precision that run here may do worse.")
    if len({variant.model for variant in by}) < len(by):
        cautions.append("Variants of one model share its card's figure: this picture can't tell them apart.")
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
                words = "It is what the others are compared with"
                values[str(variant)] = Fact(100.0, words, status="measured", note="100 % by definition")
        if len(values) > 1:
            cautions = ["It says how close an export is to its model, not how good the model is."]
            if len(references) > 1:
                cautions.append(f"Against different references ({', '.join(sorted(references))}).")
            title = f"Same top token as the reference, % ({model})"
            made.append(Quality(f"fidelity:{model}", title, "fidelity", values, tuple(cautions)))
    return tuple(made)


def _agreement(fidelity: Fidelity) -> Fact:
    note = f"teacher-forced on {fidelity.positions:,} positions: {fidelity.verdict}"
    source = f"Measured here against {fidelity.reference}"
    return Fact(fidelity.top1_agreement * 100, source, status="measured", note=note)


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
            f"{file} has {len(content):,} bytes", f"A score file has at most {MAX_BYTES:,}: one line a model."
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not UTF-8 (byte {error.start})", "Save it as UTF-8.") from None
    rows = _json_rows(text, file) if text.lstrip()[:1] in ("{", "[") else _csv_rows(text, file)
    if not rows:
        raise UsageError(f"{file} has no scores", "Write a line for each model: MODEL,SCORE.")
    if len(rows) > MAX_ROWS:
        raise UsageError(f"{file} has {len(rows):,} scores", f"At most {MAX_ROWS:,} are read.")
    names = {*map(str, variants), *(variant.model for variant in variants), *known}
    scores: dict[str, float] = {}
    for place, name, value in rows:
        if name not in names:
            raise UsageError(f"{file}, {place}: unknown model '{name}'", _hint(name, names))
        if name in scores:
            raise UsageError(f"{file}, {place}: {name} stands twice", "Leave one score for each model.")
        scores[name] = _score(value, f"{file}, {place}: {name}")
    return _file_quality(scores, file, variants)


def _file_quality(scores: Mapping[str, float], file: str, variants: Sequence[Variant]) -> Quality:
    values = {}
    shared = False
    for variant in variants:
        own = str(variant) in scores
        if own or variant.model in scores:
            value = scores[str(variant)] if own else scores[variant.model]
            note = "" if own else "given for the model, whatever variant runs"
            values[str(variant)] = Fact(value, f"Your own: {file}", note=note, status="catalogue")
            shared = shared or (not own and sum(other.model == variant.model for other in variants) > 1)
    cautions = ["Scores of your own file; nothing about them was checked. Higher is taken to be better."]
    if shared:
        cautions.append("Variants of one model share the score that the file gives for the model.")
    return Quality(f"file:{file}", f"Score ({file})", "file", values, tuple(cautions))


def _csv_rows(text: str, file: str) -> list[tuple[str, str, Any]]:
    first = text.lstrip("\n\r").partition("\n")[0]
    delimiter = next((mark for mark in ("\t", ";", ",") if mark in first), ",")
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    found: list[tuple[str, str, Any]] = []
    columns: list[str] | None = None
    try:
        for row in rows:
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            place = f"line {rows.line_num}"
            if columns is None:
                columns = [cell.lower() for cell in cells]
                if sorted(columns) != ["model", "score"]:
                    raise UsageError(f"{file}, {place}: the columns are '{first.strip()[:80]}'", FORMAT)
                continue
            if len(cells) != 2:
                raise UsageError(f"{file}, {place} has {len(cells)} fields", FORMAT)
            by_name = dict(zip(columns, cells, strict=True))
            found.append((place, by_name["model"], by_name["score"]))
    except csv.Error as error:
        raise UsageError(f"{file}, line {rows.line_num} can't be read as CSV ({error})", FORMAT) from None
    return found


FORMAT = "The first line must be model,score and each other line a model and its number, e.g. smollm2-135m-instruct,41."


def _json_rows(text: str, file: str) -> list[tuple[str, str, Any]]:
    shape = 'Write {"MODEL": SCORE} or [{"model": "MODEL", "score": SCORE}].'
    try:
        document = json.loads(text, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError) as error:
        where = f" ({error})" if isinstance(error, ValueError) else ": it is nested too deeply"
        raise UsageError(f"{file} can't be read as JSON{where}", shape) from None
    if isinstance(document, _Pairs):
        return [(f"entry {place}", name, value) for place, (name, value) in enumerate(document, start=1)]
    rows = []
    for place, item in enumerate(document, start=1):
        pairs = dict(item) if isinstance(item, _Pairs) else {}
        if not isinstance(item, _Pairs) or sorted(pairs) != ["model", "score"] or not isinstance(pairs["model"], str):
            raise UsageError(f"{file}, entry {place} is not a model and its score", shape)
        rows.append((f"entry {place}", pairs["model"].strip(), pairs["score"]))
    return rows


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as it was written, so that a name that stands twice is seen."""


def _score(value: Any, where: str) -> float:
    number: float | None = None
    if not isinstance(value, bool) and isinstance(value, (int, float, str)) and "_" not in str(value):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = None
    if number is None or not math.isfinite(number):
        shown = str(value)[:40] or "nothing"
        raise UsageError(f"{where} has {shown} for a score", "A score is a finite number, with a point for decimals.")
    return number


def _hint(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, sorted(names), n=2, cutoff=0.5)
    return f"Did you mean {' or '.join(close)}?" if close else "python -m playground models lists the names."


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
