"""Verdicts, the picture's points and the table beside it as HTML. Knows the board of models, not gradio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from playground.choose.constraints import MEASURE_IT, Candidate, Check, Constraints, Eligibility, number, spread_words
from playground.choose.quality import Quality
from playground.results.figures import CHOICE
from playground.ui.html import scatter
from playground.ui.html.format import NOTHING, count, esc, link
from playground.ui.i18n import say

if TYPE_CHECKING:
    from playground.choose.board import Board

MARKS = {"met": "✓", "conditions": "✓", "close": "≈", "unknown": "?", "broken": "✕"}
LIMITS = {"decode_tok_s": "min_tok_s", "ttft_s": "max_ttft_s", "peak_memory_mb": "max_memory_mb"}
MAX_POINTS = 24
"""More marks than these are a cloud, and their labels a thicket."""

FRONT = (
    "On the Pareto front: no other model is at least as good in {axes} and better in one of them, by more than the "
    "spread of the figures."
)


def verdicts_html(verdicts: Sequence[Eligibility], limits: Constraints) -> str:
    """How many models are eligible, then each with what decided it."""
    if not verdicts:
        return '<p class="note">No model is chosen, and none has figures here yet.</p>'
    if not limits.stated:
        words = "No limit is stated, so every model is eligible that is not refused here. State some above."
        return f'<p class="note">{words}</p>'
    tally = {state: sum(v.state == state for v in verdicts) for state in ("eligible", "close", "undecided", "out")}
    other = {"close": "too close to call"}
    told = ", ".join(f"{tally[s]} {other.get(s, s)}" for s in tally if tally[s] or s == "eligible")
    rows = "".join(_verdict_row(verdict) for verdict in verdicts)
    return (
        f'<p class="note" role="status"><strong>Of {count(len(verdicts), "model")}: {told}.</strong> One broken limit '
        "puts a model out; what is not known is never counted as met.</p>"
        '<div class="scroll"><table class="facts listing verdicts"><caption>Verdicts</caption><thead><tr>'
        '<th scope="col">Model</th><th scope="col">Verdict</th><th scope="col">What decided it</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{_how_to_measure(verdicts)}"
    )


def _how_to_measure(verdicts: Sequence[Eligibility]) -> str:
    if not any(check.next_step == MEASURE_IT for verdict in verdicts for check in verdict.checks):
        return ""
    return (
        '<p class="note"><strong>To measure models:</strong> choose them above and open the Measure tab, or '
        "<code>playground bench models -m MODEL</code>; open this tab again after that.</p>"
    )


def _verdict_row(verdict: Eligibility) -> str:
    checks = "".join(_check(check) for check in verdict.deciding)
    return (
        f'<tr class="is-{verdict.state}"><th scope="row">{esc(verdict.name)}<small>{esc(str(verdict.variant))}</small>'
        f'</th><td data-model="Verdict"><span class="badge is-{verdict.state}">{esc(verdict.words)}</span></td>'
        f'<td data-model="What decided it"><ul class="checks">{checks}</ul></td></tr>'
    )


def _check(check: Check) -> str:
    where = link(check.url, "source") if check.url else esc(check.source)
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
        return (
            '<p class="note">No picture yet: it needs a quality figure that at least two of these models have. Choose '
            "models whose cards share a benchmark, or bring scores of your own.</p>"
        )
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
    caption = f"{say(quality.title)} against {say(CHOICE[below].title).lower()}"
    picture = scatter.scatter(marks, axis, side, caption, staircase=len(axes) == 1)
    if not marks:
        words = "None of these models has both a quality figure and measured figures: measure those you are asking for."
        picture = f'<p class="note">{words}</p>'
    return picture + _cautions(quality, axes, below) + _table(drawn, quality, first) + _left_out(board, quality, drawn)


def _size(item: Candidate, below: str) -> float | None:
    taken = item.figures.get("peak_memory_mb")
    return taken.figure.median if taken and below != "peak_memory_mb" else None


def _told(place: int, item: Candidate, quality: Quality, state: str, *, first: bool) -> str:
    value = number(float(quality.values[str(item.variant)].value))
    told = [
        f"{say(CHOICE[name].title).lower()} {say(spread_words(item.figures[name].figure))}"
        for name in CHOICE
        if name in item.figures
    ]
    pareto_front = ["on the Pareto front"] if first else []
    return f"{place}: {item.name}: {say(quality.title)} {value}, {', '.join([*told, *pareto_front])}, {state}"


def _cautions(quality: Quality, axes: Sequence[str], below: str) -> str:
    named = " and ".join(["quality", *(say(CHOICE[axis].title).lower() for axis in axes)])
    size = "" if below == "peak_memory_mb" else " The area of a mark is the peak memory."
    start = " The quality axis does not start at 0."
    told = "".join(f"<li>{esc(caution)}</li>" for caution in quality.cautions)
    return (
        f'<p class="note">{esc(FRONT.format(axes=named))}{size}{start}</p>'
        f'<p class="note"><strong>About this quality figure</strong></p><ul class="note cautions">{told}</ul>'
    )


def _table(drawn: Sequence[Candidate], quality: Quality, first: frozenset[str]) -> str:
    if not drawn:
        return ""
    heads = "".join(
        f'<th scope="col">{esc(title)}</th>'
        for title in ("Model", quality.title, *(quantity.title for quantity in CHOICE.values()))
    )
    rows = "".join(_row(place, item, quality, first) for place, item in enumerate(drawn, start=1))
    return (
        '<div class="scroll"><table class="facts listing"><caption>The same figures</caption>'
        f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _row(place: int, item: Candidate, quality: Quality, first: frozenset[str]) -> str:
    fact = quality.values[str(item.variant)]
    where = link(fact.url, "source") if fact.url else esc(fact.source)
    note = f" · {esc(fact.note)}" if fact.note else ""
    mark = '<small class="front-mark">◆ on the Pareto front</small>' if str(item.variant) in first else ""
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
        reasons = [] if str(item.variant) in quality.values else [f"no {say(quality.title)}"]
        reasons += [] if item.figures else ["not measured here"]
        missing.setdefault(" and ".join(reasons) or "a figure of this picture is missing", []).append(item.name)
    rows = "".join(
        f"<li><strong>{esc(reason[:1].upper() + reason[1:])}:</strong> {esc(', '.join(names))}</li>"
        for reason, names in missing.items()
    )
    return (
        f'<p class="note"><strong>Not in the picture</strong></p><ul class="note cautions">{rows}</ul>' if rows else ""
    )
