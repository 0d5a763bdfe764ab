"""The Compare tab: the form above, the answers and what is to be said of them below, in tabs of their own.

It has the components; ``ui/running`` fills them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from playground.messages import msg
from playground.ui.html import panel
from playground.ui.tabs import cards, diff, form, outputs, timings
from playground.ui.tabs.cards import Cards
from playground.ui.tabs.diff import Diff
from playground.ui.tabs.form import Form
from playground.ui.theme import html

if TYPE_CHECKING:
    from playground.service import Playground


@dataclass(frozen=True)
class Compare:
    """The components.

    Attributes:
        tabs: The inner ones; Outputs is the first.
        asked: What the answers below are to.
    """

    form: Form
    tabs: gr.Tabs
    asked: gr.HTML
    panels: tuple[gr.HTML, ...]
    timings: gr.HTML
    cards: Cards
    diff: Diff

    def show(self, tab: str = "outputs") -> dict[Any, Any]:
        """Bring one of the inner tabs to the front."""
        return {self.tabs: gr.update(selected=tab)}


def build(playground: Playground) -> Compare:
    """Draw the tab."""
    most = playground.settings.limits.max_models
    made = form.build(playground)
    labels = panel.labels(playground, made.first)
    with gr.Tabs(elem_id="views", overflow_behavior="wrap") as tabs:
        with gr.Tab(msg("Outputs"), id="outputs"):
            asked = html("", elem_id="asked")
            panels = outputs.build(labels, most)
        with gr.Tab(msg("Timings"), id="timings"):
            figures = timings.build()
        with gr.Tab(msg("Model cards"), id="cards"):
            facts = cards.build(playground, playground.served(), made.first)
        with gr.Tab(msg("Differences"), id="differences"):
            differences = diff.build(playground)
    return Compare(made, tabs, asked, panels, figures, facts, differences)
