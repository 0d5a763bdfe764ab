"""What the page does when nothing happens must not take the processor from the models."""

from __future__ import annotations

import gradio as gr

from playground.core import Playground
from playground.ui.page import QUEUE_LOOK_S, build_ui


def test_the_queue_is_looked_at_some_thirty_times_a_second_and_not_a_thousand(playground: Playground) -> None:
    # gradio has no public name for the wait: a new version may move it.
    assert "sleep_when_free" in vars(gr.Blocks().queue()._queue)
    assert build_ui(playground)._queue.sleep_when_free == QUEUE_LOOK_S >= 0.02
