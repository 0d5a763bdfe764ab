"""Verdicts, the picture's points and the table beside it as HTML. Knows the board of models, not gradio."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from playground.choose.checks import MEASURE_IT, Check
from playground.choose.constraints import Candidate, Constraints, Eligibility
from playground.choose.quality import Quality
from playground.choose.wording import number, spread_words
from playground.messages import NOTHING as NOTHING_MORE
from playground.messages import Translatable, msg, plural, sentences
from playground.results.figures import CHOICE
from playground.ui.html import scatter
from playground.ui.html.format import NOTHING, esc, link, rich
from playground.ui.i18n import say

if TYPE_CHECKING:
    from playground.choose.board import Board

MARKS = {"met": "✓", "conditions": "✓", "close": "≈", "unknown": "?", "broken": "✕"}
LIMITS = {"decode_tok_s": "min_tok_s", "ttft_s": "max_ttft_s", "peak_memory_mb": "max_memory_mb"}
VERDICTS = {
    "eligible": msg("eligible"),
    "close": msg("too close to call"),
    "undecided": msg("undecided"),
    "out": msg("out"),
}
STATES: dict[str, Callable[[int], Translatable]] = {
    "eligible": lambda n: msg("{n:,} eligible", n=n),
    "close": lambda n: msg("{n:,} too close to call", n=n),
    "undecided": lambda n: msg("{n:,} undecided", n=n),
    "out": lambda n: msg("{n:,} out", n=n),
}
MAX_POINTS = 24
"""More marks than these are a cloud, and their labels a thicket."""


def verdicts_html(verdicts: Sequence[Eligibility], limits: Constraints) -> str:
    """How many models are eligible, then each with what decided it."""
    if not verdicts:
        return f'<p class="note">{esc(msg("No model is chosen, and none has figures here yet."))}</p>'
    if not limits.stated:
        words = msg("No limit is stated, so every model is eligible that is not refused here. State some above.")
        return f'<p class="note">{esc(words)}</p>'
    tally = {state: sum(v.state == state for v in verdicts) for state in ("eligible", "close", "undecided", "out")}
    told = [STATES[s](tally[s]) for s in tally if tally[s] or s == "eligible"]
    head = plural("**Of {n:,} model: {states}.**", "**Of {n:,} models: {states}.**", len(verdicts), states=told)
    rule = msg("One broken limit puts a model out; what is not known is never counted as met.")
    rows = "".join(_verdict_row(verdict) for verdict in verdicts)
    return (
        f'<p class="note">{rich(head)} {esc(rule)}</p>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{esc(msg("Verdicts"))}">'
        f'<table class="facts listing verdicts"><caption>{esc(msg("Verdicts"))}</caption><thead><tr>'
        f'<th scope="col">{esc(msg("Model"))}</th><th scope="col">{esc(msg("Verdict"))}</th>'
        f'<th scope="col">{esc(msg("What decided it"))}</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{_how_to_measure(verdicts)}"
    )


def _how_to_measure(verdicts: Sequence[Eligibility]) -> str:
    if not any(check.next_step == MEASURE_IT for verdict in verdicts for check in verdict.checks):
        return ""
    words = msg(
        "**To measure models:** choose them in Compare and open Measure, or `playground bench models -m MODEL`; open "
        "this tab again after that."
    )
    return f'<p class="note">{rich(words)}</p>'


def _verdict_row(verdict: Eligibility) -> str:
    checks = "".join(_check(check) for check in verdict.deciding)
    return (
        f'<tr class="is-{verdict.state}"><th scope="row">{esc(verdict.name)}<small>{esc(str(verdict.variant))}</small>'
        f'</th><td data-model="{esc(msg("Verdict"))}"><span class="badge is-{verdict.state}">'
        f"{esc(verdict.words)}</span></td>"
        f'<td data-model="{esc(msg("What decided it"))}"><ul class="checks">{checks}</ul></td></tr>'
    )


def _check(check: Check) -> str:
    where = link(check.url, msg("source")) if check.url else esc(check.source)
    step = f" <strong>{esc(check.next_step)}</strong>" if check.next_step else ""
    mark = f'<span class="answer-mark" aria-hidden="true">{MARKS[check.answer]}</span>'
    small = f"<small>{where}</small>" if where else ""
    return f'<li class="is-{check.answer}">{mark}{esc(check.words)}{step}{small}</li>'


def picture_html(
    board: Board,
    quality: Quality | None,
    verdicts: Sequence[Eligibility],
    limits: Constraints,
    below: str,
    *,
    memory: bool,
) -> str:
    """The scatter, the table with the same figures, and who is in neither.

    Args:
        below: Name of the figure on the axis below.
        memory: Whether memory counts for the front as well.
    """
    if quality is None:
        words = msg(
            "No picture yet: it needs a quality figure that at least two of these models have. Choose models whose "
            "cards share a benchmark, or bring scores of your own."
        )
        return f'<p class="note">{esc(words)}</p>'
    axes = list(dict.fromkeys([below, *(["peak_memory_mb"] if memory else [])]))
    states = {str(verdict.variant): verdict.state for verdict in verdicts}
    points = board.points(quality, axes)
    first = board.pareto_front(quality, axes)
    drawn = [item for item in board.candidates if str(item.variant) in points][:MAX_POINTS]
    marks = [
        scatter.Point(
            number=place,
            name=item.name,
            x=item.figures[below].figure,
            y=float(quality.values[str(item.variant)].value),
            state=states[str(item.variant)],
            size=_size(item, below),
            first=str(item.variant) in first,
            told=_told(place, item, quality, states[str(item.variant)], first=str(item.variant) in first),
        )
        for place, item in enumerate(drawn, start=1)
    ]
    limit = getattr(limits, LIMITS[below])
    axis = scatter.Axis(
        f"{say(CHOICE[below].title)}, {say(CHOICE[below].unit)}",
        lambda v: f"{v:,g}",
        "right" if CHOICE[below].best == "high" else "left",
        limit,
    )
    side = scatter.Axis(quality.title, lambda v: f"{v:,g}")
    caption = say(msg("{quality} against {figure}", quality=quality.title, figure=CHOICE[below].title))
    picture = scatter.scatter(marks, axis, side, caption, staircase=len(axes) == 1)
    if not marks:
        words = msg(
            "None of these models has both a quality figure and measured figures: measure those you are asking for."
        )
        picture = f'<p class="note">{esc(words)}</p>'
    return picture + _cautions(quality, axes, below) + _table(drawn, quality, first) + _left_out(board, quality, drawn)


def _size(item: Candidate, below: str) -> float | None:
    taken = item.figures.get("peak_memory_mb")
    return taken.figure.median if taken and below != "peak_memory_mb" else None


def _told(place: int, item: Candidate, quality: Quality, state: str, *, first: bool) -> str:
    value = number(float(quality.values[str(item.variant)].value))
    told = [
        f"{say(CHOICE[name].title)} {say(spread_words(item.figures[name].figure))}"
        for name in CHOICE
        if name in item.figures
    ]
    pareto_front = [say(msg("on the Pareto front"))] if first else []
    verdict = say(VERDICTS.get(state, state))
    return f"{place}: {item.name}: {say(quality.title)} {value}, {', '.join([*told, *pareto_front, verdict])}"


def _cautions(quality: Quality, axes: Sequence[str], below: str) -> str:
    front = msg(
        "On the Pareto front: no other model is at least as good in all of these and better in one of them, by more "
        "than the spread of the figures: {axes}.",
        axes=[msg("quality"), *(CHOICE[axis].title for axis in axes)],
    )
    size = NOTHING_MORE if below == "peak_memory_mb" else msg("The area of a mark is the peak memory.")
    words = sentences(front, size, msg("The quality axis does not start at 0."))
    told = "".join(f"<li>{esc(caution)}</li>" for caution in quality.cautions)
    return (
        f'<p class="note">{esc(words)}</p>'
        f'<p class="note"><strong>{esc(msg("About this quality figure"))}</strong></p>'
        f'<ul class="note cautions">{told}</ul>'
    )


def _table(drawn: Sequence[Candidate], quality: Quality, first: frozenset[str]) -> str:
    if not drawn:
        return ""
    heads = "".join(
        f'<th scope="col">{esc(title)}</th>'
        for title in (msg("Model"), quality.title, *(quantity.title for quantity in CHOICE.values()))
    )
    rows = "".join(_row(place, item, quality, first) for place, item in enumerate(drawn, start=1))
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{esc(msg("The same figures"))}">'
        f'<table class="facts listing"><caption>{esc(msg("The same figures"))}</caption>'
        f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _row(place: int, item: Candidate, quality: Quality, first: frozenset[str]) -> str:
    fact = quality.values[str(item.variant)]
    where = link(fact.url, msg("source")) if fact.url else esc(fact.source)
    note = f" · {esc(fact.note)}" if fact.note else ""
    on_front = f'<small class="front-mark">◆ {esc(msg("on the Pareto front"))}</small>'
    mark = on_front if str(item.variant) in first else ""
    cells = [f"{number(float(fact.value))}<small>{where}{note}</small>"]
    ways = {taken.words for name, taken in item.figures.items() if name in CHOICE}
    for name in CHOICE:
        taken = item.figures.get(name)
        how = f"<small>{esc(taken.words)}</small>" if taken and len(ways) > 1 else ""
        cells.append(f"{esc(spread_words(taken.figure))}{how}" if taken else NOTHING)
    if len(ways) == 1:
        mark += f"<small>{esc(*ways)}</small>"
    titles = (quality.title, *(quantity.title for quantity in CHOICE.values()))
    drawn = "".join(f'<td data-model="{esc(t)}">{cell}</td>' for t, cell in zip(titles, cells, strict=True))
    return f'<tr><th scope="row">{place} {esc(item.name)}{mark}</th>{drawn}</tr>'


def _left_out(board: Board, quality: Quality, drawn: Sequence[Candidate]) -> str:
    """Models that are not in the picture, and for want of what."""
    missing: dict[str, list[str]] = {}
    for item in board.candidates:
        if item in drawn:
            continue
        scored = str(item.variant) in quality.values
        if scored:
            reason = msg("A figure of this picture is missing") if item.figures else msg("Not measured here")
        elif item.figures:
            reason = msg("No {quality}", quality=quality.title)
        else:
            reason = msg("No {quality}, and not measured here", quality=quality.title)
        missing.setdefault(say(reason), []).append(item.name)
    rows = "".join(
        f"<li><strong>{esc(reason)}:</strong> {esc(', '.join(names))}</li>" for reason, names in missing.items()
    )
    if not rows:
        return ""
    title = esc(msg("Not in the picture"))
    return f'<p class="note"><strong>{title}</strong></p><ul class="note cautions">{rows}</ul>'
