"""The Learn tab: the lesson on open models, with the facts of this catalogue and prompts to try on what runs here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gradio as gr

from playground.catalog.search import Filters, Listed
from playground.ui.html.learn import Lesson, lesson_html
from playground.ui.theme import html

if TYPE_CHECKING:
    from playground.service import Playground


def build(playground: Playground) -> gr.HTML:
    """Draw the tab. Its buttons are actions of the page: ``use`` fills the form, ``show-model`` opens a model."""
    return html(lambda: lesson_html(lesson(playground)), elem_id="learn")


def lesson(playground: Playground) -> Lesson:
    """What the lesson is drawn from, as things stand now."""

    def ready(item: Listed) -> bool:
        return playground.preparation(playground.resolve(item.entry.spec.id)[1]).status == "ready"

    models = playground.search(Filters())
    chosen = tuple(entry.spec.id for entry in playground.served())[:4]
    return Lesson(models, playground.model_sets(), ready, chosen)
