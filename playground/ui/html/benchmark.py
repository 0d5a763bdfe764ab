"""A measurement as HTML: bars of medians, every figure with its spread and rank, warnings first, receipts behind.

Knows measurements, not gradio.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from playground.messages import msg, plural, sentences
from playground.results.figures import ONE_LOAD, QUANTITIES, Figure, Measured, Measurement, Place, rank_note, ranks_of
from playground.ui.html import panel, receipts, tables
from playground.ui.html.charts import bars
from playground.ui.html.format import NOTHING, characters, esc, megabytes, rate, seconds
from playground.ui.html.panel import Label, Models
from playground.ui.html.receipts import ReceiptPopovers

if TYPE_CHECKING:
    pass

WORDS: dict[str, Callable[[float | None], str]] = {
    "s": seconds,
    "tokens/s": rate,
    "chunks/s": lambda value: rate(value, "chunk"),
    "characters/s": characters,
    "MB": megabytes,
}
CHARTED = ("ttft_s", "decode_char_s", "peak_memory_mb")
NO_DIFFERENCE = msg("no difference seen")


def measurement_html(measurement: Measurement, models: Models) -> str:
    """Everything of one measurement."""
    labels = panel.labels(models, [model.variant for model in measurement.models])
    popovers = receipts.popovers(measurement, "measure")
    charts = "".join(_bars(measurement, labels, popovers, name) for name in CHARTED)
    return (
        _warnings(measurement)
        + f'<div class="charts">{charts}</div>'
        + _table(measurement, labels, popovers)
        + _notes(measurement, labels)
        + popovers.html()
        + receipts.downloads(measurement)
    )


def state_html(step: str, share: float | None) -> str:
    """What a measurement is doing now."""
    bar = "" if share is None else f'<span class="progress"><span style="width:{share * 100:.1f}%"></span></span>'
    return f'<div class="measure-state"><span>{esc(step)}</span>{bar}</div>'


def _warnings(measurement: Measurement) -> str:
    return "".join(f'<p class="note warn" data-say="alert">{esc(warning)}</p>' for warning in measurement.warnings)


def _bars(measurement: Measurement, labels: tuple[Label, ...], popovers: ReceiptPopovers, name: str) -> str:
    known = QUANTITIES[name]
    rows = [
        (label, taken.median if (taken := model.figures.get(name)) else None)
        for label, model in zip(labels, measurement.models, strict=True)
    ]
    title = msg("{figure}, median", figure=known.title)
    return bars(title, known.direction, rows, WORDS[known.unit], lambda place, shown: popovers.wrap(place, name, shown))


def _table(measurement: Measurement, labels: tuple[Label, ...], popovers: ReceiptPopovers) -> str:
    rows = []
    for name, quantity in QUANTITIES.items():
        ranks = ranks_of(measurement, name)
        cells = [
            _cell(model.figures.get(name), ranks[place], place, popovers)
            for place, model in enumerate(measurement.models)
        ]
        if any(cell != NOTHING for cell in cells):
            rows.append((quantity.title, quantity.brief, cells))
    caption = plural(
        "Medians of {n} repeat, answers of {tokens} tokens",
        "Medians of {n} repeats, answers of {tokens} tokens",
        measurement.repeats,
        tokens=measurement.request.max_new_tokens,
    )
    how = msg(
        "In brackets the middle half of the values. A rank stands where the spreads do not overlap; where they do, no "
        "difference was seen."
    )
    told = sentences(how, ONE_LOAD, msg("Each figure opens its receipt."))
    engines = f'<p class="note">{esc(note)}</p>' if (note := rank_note(measurement)) else ""
    return tables.table(caption, rows, labels) + engines + f'<p class="note">{esc(told)}</p>'


def _cell(taken: Figure | None, rank: Place | None, model: int, popovers: ReceiptPopovers) -> str:
    if taken is None:
        return NOTHING
    words = WORDS[taken.unit]
    spread = ""
    if len(taken.values) > 1:
        low, high = words(taken.low), words(taken.high)
        unit = high.rpartition(" ")[2]  # said once where both ends have it
        spread = f"<small>({low.removesuffix(f' {unit}')} … {high})</small>"
    return popovers.wrap(model, taken.name, words(taken.median)) + _rank(rank) + spread


def _rank(place: Place | None) -> str:
    if place is None:
        return ""
    number = f"#{place.rank}{place.mark}"
    shown = f"{number}, {esc(NO_DIFFERENCE)}" if place.shared else number
    first = " is-first" if place.rank == 1 and not place.shared else ""
    return f' <span class="rank{first}" title="{esc(msg("rank"))}">{shown}</span>'


def _notes(measurement: Measurement, labels: tuple[Label, ...]) -> str:
    return "".join(
        f'<p class="note"><strong>{esc(label.name)} {esc(label.tail)}:</strong> {" ".join(told)}</p>'
        for label, model in zip(labels, measurement.models, strict=True)
        if (told := _told(model))
    )


def _told(model: Measured) -> list[str]:
    problem = [f'<span class="problem">{esc(model.error)}</span>'] if model.error else []
    return problem + [esc(note) for note in model.notes]
