"""The Timings tab: charts and every figure of the last comparison in this tab."""

from __future__ import annotations

from collections.abc import Sequence

import gradio as gr

from playground.messages import msg
from playground.records import Comparison
from playground.results.costs import Tier
from playground.ui.html import costs, receipts, tables
from playground.ui.html.format import esc
from playground.ui.html.panel import Label
from playground.ui.theme import html


def empty_html() -> str:
    """Before the first run."""
    title = msg("No figures yet")
    words = msg(
        "Run a prompt. Time to first token, tokens a second, memory and where the time went appear here, with how each "
        "was taken."
    )
    return f'<div class="empty"><h3>{esc(title)}</h3><p>{esc(words)}</p></div>'


def busy_html() -> str:
    """While models answer."""
    title, words = msg("Being measured"), msg("The figures appear when every model has ended.")
    return f'<div class="empty"><h3>{esc(title)}</h3><p>{esc(words)}</p></div>'


def blind_html() -> str:
    """While a blind comparison waits for its vote."""
    title, words = msg("Hidden until the vote"), msg("Speed would tell which model is which.")
    return f'<div class="empty"><h3>{esc(title)}</h3><p>{esc(words)}</p></div>'


def build() -> gr.HTML:
    """Draw the tab."""
    return html(empty_html, elem_id="timings")


def figures(comparison: Comparison, labels: tuple[Label, ...], tiers: Sequence[Tier], place: str = "timings") -> str:
    """The finished comparison's figures, each with its receipt, and the machine they were taken on.

    Args:
        tiers: Hardware to say the price of.
        place: See ``receipts.ReceiptPopovers``.
    """
    there = comparison.environment
    versions = ", ".join(f"{name} {version}" for name, version in there.versions.items())
    machine = msg(
        "{cpu}, {cores} cores, {memory:.1f} GB of memory. {versions}",
        cpu=there.cpu,
        cores=there.cores,
        memory=there.memory_limit_mb / 1000,
        versions=versions,
    )
    repeat = (
        f'<button type="button" class="repeat" data-do="measure">{esc(msg("Repeat 5×"))}</button>'
        if place == "timings"
        else ""
    )
    return (
        repeat
        + tables.timings_html(comparison.runs, labels, comparison.mode, receipts.popovers(comparison, place))
        + f'<p class="note">{esc(msg("Each figure is a button: it opens its receipt."))}</p>'
        + costs.costs_html(comparison.runs, labels, tiers)
        + receipts.downloads(comparison)
        + tables.small_print(msg("Taken on"), machine)
    )
