"""The Outputs tab: a column a model. While an answer grows, its panel is ``ui.watching``'s to change."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import gradio as gr

from playground.records import Comparison
from playground.ui.html import panel as view
from playground.ui.html.panel import Label
from playground.ui.theme import html

HIDDEN = "hidden"
"""Drawn and not seen. What gradio takes out of the page while an event of it goes on asks for frames for good
(docs/gradio-status-tracker.md)."""


def build(first: Sequence[Label], most: int) -> tuple[gr.HTML, ...]:
    """Draw ``most`` panels, of which the chosen models' are visible."""
    with gr.Row(elem_id="outputs", elem_classes="columns"):
        return tuple(
            html(
                partial(view.waiting_panel, first[place]) if place < len(first) else "",
                visible=True if place < len(first) else HIDDEN,
                elem_classes="slot",
            )
            for place in range(most)
        )


def waiting(panels: Sequence[gr.HTML], labels: Sequence[Label]) -> dict[Any, Any]:
    """Empty panels for these models."""
    return _shown(panels, [view.waiting_panel(label) for label in labels])


def finished(
    panels: Sequence[gr.HTML], comparison: Comparison, labels: tuple[Label, ...], *, blind: bool = False
) -> list[tuple[gr.HTML, str]]:
    """Panels of a comparison that has ended: the figures open their receipts. Those of its columns, with their HTML."""
    letters = [label.name for label in labels] if blind else None
    drawn = view.finished_panels(comparison, labels, "outputs", blind=letters)
    return list(zip(panels, drawn, strict=False))


def _shown(panels: Sequence[gr.HTML], drawn: Sequence[str]) -> dict[Any, Any]:
    """As many panels as there are columns. All are told whether they are seen, every time: gradio's page loses that of
    one update when the next comes at once.
    """
    updates: dict[Any, Any] = {}
    for place, panel in enumerate(panels):
        used = place < len(drawn)
        updates[panel] = gr.update(value=drawn[place] if used else "", visible=True if used else HIDDEN)
    return updates
