"""Which tabs are at the front, said by events through a box out of sight; scripts/front.js presses them.

A tab that is an event's output costs the page much: with each message of an event gradio reads anew all that lies in
its outputs, and in the outermost tabs lies the whole page. While answers streamed, it took a third of a core.
"""

from __future__ import annotations

import itertools
from typing import Any

import gradio as gr

SHOW = "(text) => { window.playground.front(text); }"


class Front:
    """The box. ``box`` belongs among the outputs of the events that bring tabs to the front."""

    def __init__(self) -> None:
        self.box = gr.Textbox("", elem_id="front", elem_classes="unseen", container=False, show_label=False)
        self._count = itertools.count(1)

    def show(self, *tabs: str) -> dict[Any, Any]:
        """Bring tabs to the front by their ids, an outer one before one inside of it."""
        return {self.box: f"{' '.join(tabs)} {next(self._count)}"}  # twice the same tab is two changes

    def connect(self) -> None:
        """Listen to the box, in the browser alone."""
        quiet: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        self.box.change(None, [self.box], None, js=SHOW, **quiet)
