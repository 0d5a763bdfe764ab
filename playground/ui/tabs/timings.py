"""The Timings tab: charts and every figure of the last comparison in this tab."""

from __future__ import annotations

from collections.abc import Sequence

import gradio as gr

from playground.records import Comparison
from playground.results.costs import Tier
from playground.ui.html import costs, receipts, tables
from playground.ui.html.panel import Label
from playground.ui.theme import html

EMPTY = (
    '<div class="empty"><h3>No figures yet</h3><p>Run a prompt. Time to first token, tokens a second, memory and where '
    "the time went appear here, with how each was taken.</p></div>"
)
BUSY = '<div class="empty"><h3>Being measured</h3><p>The figures appear when every model has ended.</p></div>'


def build() -> gr.HTML:
    """Draw the tab."""
    return html(EMPTY, elem_id="timings")


def figures(comparison: Comparison, labels: tuple[Label, ...], tiers: Sequence[Tier], place: str = "timings") -> str:
    """The finished comparison's figures, each with its receipt, and the machine they were taken on.

    Args:
        tiers: Hardware to say the price of.
        place: See ``receipts.ReceiptPopovers``.
    """
    there = comparison.environment
    versions = ", ".join(f"{name} {version}" for name, version in there.versions.items())
    machine = f"{there.cpu}, {there.cores} cores, {there.memory_limit_mb / 1000:.1f} GB of memory. {versions}"
    return (
        tables.timings_html(comparison.runs, labels, comparison.mode, receipts.popovers(comparison, place))
        + '<p class="note">Each figure is a button: it opens its receipt.</p>'
        + costs.costs_html(comparison.runs, labels, tiers)
        + receipts.downloads(comparison)
        + tables.small_print("Taken on", machine)
    )
