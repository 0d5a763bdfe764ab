"""What the page does when nothing happens must not take the processor from the models."""

from __future__ import annotations

import gradio as gr

from playground.records import Variant
from playground.service import Playground
from playground.ui.page import LOOK_S, QUEUE_LOOK_S, REST_S, Page, build_ui


def test_the_queue_is_looked_at_some_thirty_times_a_second_and_not_a_thousand(playground: Playground) -> None:
    # gradio has no public name for the wait: a new version may move it.
    assert "sleep_when_free" in vars(gr.Blocks().queue()._queue)
    assert build_ui(playground)._queue.sleep_when_free == QUEUE_LOOK_S >= 0.02


def test_a_page_looks_often_while_a_model_is_prepared_and_seldom_otherwise(playground: Playground) -> None:
    with gr.Blocks():
        page = Page(playground)
        marked, timer, *_ = page.look("", [])
        assert timer.value == REST_S
        again, timer, *_ = page.look(marked, [])
        assert again == timer == gr.skip()
        playground.preparer.start(Variant("slow-to-prepare", "fake", "none"))
        _, timer, *_ = page.look(marked, [])
        assert timer.value == LOOK_S
