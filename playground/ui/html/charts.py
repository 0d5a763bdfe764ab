"""Bars and timelines as HTML: they follow the theme's colours, wrap on a phone and read without a script.

A chart library would bring its own colours, fonts and a fixed width; four bars do not need one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from playground.messages import msg
from playground.records import ModelRun, Timings
from playground.results.figures import FIGURES, engine_of, engines_note
from playground.ui.html.format import NOTHING, esc, megabytes, rate, seconds
from playground.ui.html.panel import Label
from playground.ui.html.receipts import ReceiptPopovers
from playground.ui.i18n import say

Row = tuple[Label, float | None]
Span = tuple[str, float, float]
"""A phase's name, and where it starts and ends, in seconds since the model was prepared and could have run."""

PHASES = {
    "wait": msg("waiting for its turn"),
    "load": msg("loading"),
    "prefill": msg("to the first token"),
    "decode": msg("decoding"),
}


def charts(runs: Sequence[ModelRun], labels: Sequence[Label], popovers: ReceiptPopovers) -> str:
    """The three bar charts and the timeline of one comparison; each figure opens its receipt."""
    taken = [run.timings for run in runs]
    unit = "token" if all(t.unit == "token" for t in taken) else "chunk"

    def drawn(name: str, words: Callable[[float | None], str]) -> str:
        rows: list[Row] = [(label, getattr(t, name)) for label, t in zip(labels, taken, strict=True)]
        known = FIGURES[name]
        return bars(known.title, known.direction, rows, words, lambda place, shown: popovers.wrap(place, name, shown))

    note = engines_note(engine_of(run.engine, run.runtime) for run in runs if run.error is None)
    return (
        '<div class="charts">'
        + drawn("ttft_s", seconds)
        + drawn("decode_tok_s", lambda v: rate(v, unit))
        + drawn("peak_memory_mb", megabytes)
        + "</div>"
        + (f'<p class="note">{esc(note)}</p>' if note else "")
        + timeline([(label, phases(t)) for label, t in zip(labels, taken, strict=True)])
    )


def bars(
    title: str,
    hint: str,
    rows: Sequence[Row],
    words: Callable[[float | None], str],
    wrap: Callable[[int, str], str] = lambda place, shown: shown,
) -> str:
    """Horizontal bars from zero, one a model, in the order of the columns (never ranked).

    Args:
        wrap: Makes of a row's place and its figure in words what is shown.
    """
    most = max((value for _, value in rows if value is not None), default=0.0)
    drawn = []
    for place, (label, value) in enumerate(rows):
        width = 0.0 if value is None or most <= 0 else value / most * 100
        drawn.append(
            f'<li class="series-{label.position}">{_who(label)}<span class="track">'
            f'<span class="bar" style="width:{width:.2f}%"></span></span>'
            f'<span class="figure">{wrap(place, words(value))}</span></li>'
        )
    return (
        f'<figure class="chart"><figcaption>{esc(title)}<small>{esc(hint)}</small></figcaption>'
        f"<ul>{''.join(drawn)}</ul></figure>"
    )


def phases(taken: Timings) -> list[Span]:
    """A run's phases one after the other. What was not measured is left out; nothing is guessed."""
    spans: list[Span] = []
    at = 0.0
    lengths = {"wait": taken.queue_s, "load": taken.load_s, "prefill": taken.ttft_s}
    if taken.ttft_s is not None and taken.total_s is not None:
        lengths["decode"] = max(0.0, taken.total_s - taken.ttft_s)
    for phase, length in lengths.items():
        if length:
            spans.append((phase, at, at + length))
            at += length
    return spans


def timeline(rows: Sequence[tuple[Label, list[Span]]]) -> str:
    """Where each run's time went, on one axis."""
    end = max((stop for _, spans in rows for _, _, stop in spans), default=0.0)
    if end <= 0:
        return ""
    step = tick_step(end)
    ticks = "".join(
        f'<span style="left:{index * step / end * 100:.3f}%">{index * step:g} s</span>'
        for index in range(int(end / step + 1e-9) + 1)
        if index * step / end < 0.97
    )
    drawn = "".join(_lane(label, spans, end) for label, spans in rows)
    legend = "".join(f'<span><i class="phase-{name}"></i>{esc(words)}</span>' for name, words in PHASES.items())
    return (
        f'<figure class="chart timeline"><figcaption>{esc(msg("Where the time went"))}'
        f"<small>{esc(msg('seconds since the model could have run'))}</small></figcaption>"
        f'<div class="legend">{legend}</div><ul>{drawn}</ul>'
        f'<div class="axis" aria-hidden="true">{ticks}</div></figure>'
    )


def _lane(label: Label, spans: list[Span], end: float) -> str:
    pieces = "".join(
        f'<span class="phase phase-{name}" '
        f'style="left:{start / end * 100:.3f}%;width:{(stop - start) / end * 100:.3f}%" '
        f'title="{esc(PHASES[name])}: {seconds(stop - start)}"></span>'
        for name, start, stop in spans
    )
    told = ", ".join(f"{say(PHASES[name])} {seconds(stop - start)}" for name, start, stop in spans) or NOTHING
    return (
        f'<li class="series-{label.position}">{_who(label)}'
        f'<span class="lane" role="img" aria-label="{esc(told)}">{pieces}</span></li>'
    )


def _who(label: Label) -> str:
    return f'<span class="who">{esc(label.name)} <code>{esc(label.tail)}</code></span>'


def tick_step(end: float) -> float:
    """A step of 1, 2 or 5 times a power of ten that gives four to eight ticks up to ``end`` seconds."""
    raw = end / 6
    power = 10 ** math.floor(math.log10(raw))
    return float(next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999))
