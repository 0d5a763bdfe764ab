"""The Outputs tab: a column a model. Each panel is one component, so that only the growing one is sent."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import gradio as gr

from playground.experiments.progress import LiveRun
from playground.records import Comparison, Request
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


def growing(
    panels: Sequence[gr.HTML],
    lives: Sequence[LiveRun],
    labels: Sequence[Label],
    *,
    shared: Request | None = None,
    own: Sequence[Request | None] = (),
    blind: bool = False,
) -> dict[Any, Any]:
    """Panels of a comparison that is going on; what did not change costs nothing, as gradio sends differences.

    Args:
        own: What each model was asked, where that is not the request of all.
        blind: Whether the labels are letters.
    """
    drawn = []
    for place, (live, label) in enumerate(zip(lives, labels, strict=True)):
        letter = label.name if blind else None
        asked = own[place] if place < len(own) else None
        drawn.append(view.live_panel(live, label, blind=letter, own=asked, shared=shared))
    return _shown(panels, drawn)


def finished(
    panels: Sequence[gr.HTML], comparison: Comparison, labels: tuple[Label, ...], *, blind: bool = False
) -> dict[Any, Any]:
    """Panels of a comparison that has ended: the figures open their receipts."""
    letters = [label.name for label in labels] if blind else None
    return _shown(panels, view.finished_panels(comparison, labels, "outputs", blind=letters))


def _shown(panels: Sequence[gr.HTML], drawn: Sequence[str]) -> dict[Any, Any]:
    """As many panels as there are columns. All are told whether they are seen, every time: gradio's page loses that of
    one update when the next comes at once.
    """
    updates: dict[Any, Any] = {}
    for place, panel in enumerate(panels):
        used = place < len(drawn)
        updates[panel] = gr.update(value=drawn[place] if used else "", visible=True if used else HIDDEN)
    return updates
