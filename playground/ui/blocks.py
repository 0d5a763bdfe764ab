"""Gradio's page in the language of whoever reads it: what it is built of, and what its events send.

Components are built once, with messages for labels, for all readers. A page's configuration is asked for with every
opening, and each event's answer passes here, so both are said in the reader's language at that moment: the first words
on the screen are right already, and no catalogue is sent to the browser. (Gradio's own ``gr.I18n`` sends all languages
to everybody and puts words in place after the page was drawn; it knows neither values nor plurals, nor pieces of HTML.)
It knows components and messages, not what they are for.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import TYPE_CHECKING, Any

import gradio as gr

from playground.messages import Translatable
from playground.ui import i18n

if TYPE_CHECKING:
    from playground.ui.pages import Pages

WORDED = "button"
"""The component whose value is its label. Gradio makes a plain text of it, which is looked up as it stands."""

SKIPPED: dict[str, Any] = gr.skip()
"""What gradio takes for no change of a component."""


class Blocks(gr.Blocks):  # type: ignore[misc]  # gradio tells mypy nothing
    """A page whose labels, pieces of HTML and events speak the reader's language.

    Attributes:
        open_pages: Who has it open; set when it was built.
        visitors: Whether its readers are visitors of somebody else's app (``i18n.Reader``).
    """

    open_pages: Pages
    visitors = False

    @property
    def left(self) -> list[Callable[[str], object]]:
        """What is called with the name of each session that is gone."""
        return self.__dict__.setdefault("_when_left", [])  # type: ignore[no-any-return]  # before gradio's own fields

    def when_left(self, call: Callable[[str], object]) -> None:
        """Call this with a session's name when its page was closed, or its program is gone."""
        self.left.append(call)

    @property
    def config(self) -> Any:
        """What a browser builds the page from, in the reader's language."""
        language, source = i18n.language(), self._source
        if i18n.as_written() or not isinstance(source, dict):
            return source
        if language not in self._translated:
            self._translated[language] = {**source, "components": [self._said(part) for part in source["components"]]}
        return self._translated[language]

    @config.setter
    def config(self, made: Any) -> None:
        if isinstance(made, dict):
            made["connect_heartbeat"] = True  # ``pages`` answers it; gradio would want an event of its own for that
        self._source = made
        self._translated: dict[str, Any] = {}

    def _said(self, part: dict[str, Any]) -> dict[str, Any]:
        props = {name: said(value) for name, value in part["props"].items()}
        draw: Callable[[], str] | None = getattr(self.blocks.get(part["id"]), "draw", None)
        if draw is not None:
            props["value"] = draw()
        elif part["type"] == WORDED and isinstance(props.get("value"), str):
            props["value"] = i18n.look_up(props["value"])
        return {**part, "props": props}

    async def process_api(self, block_fn: Any, *args: Any, request: Any = None, **options: Any) -> dict[str, Any]:
        """Gradio's way through every event and every call of the API, those that waited in the queue too."""
        with i18n.reading(i18n.wanted(getattr(request, "headers", None) or {}), visitor=self.visitors):
            done: dict[str, Any] = await super().process_api(block_fn, *args, request=request, **options)
            if not i18n.as_written() and isinstance(done.get("data"), list):
                outputs = (self.fns[block_fn] if isinstance(block_fn, int) else block_fn).outputs
                done["data"] = [self._answered(value, place, outputs) for place, value in enumerate(done["data"])]
        return done

    async def postprocess_data(self, block_fn: Any, predictions: Any, state: Any) -> list[Any]:
        """What an event sends, gradio's way, but for what does not change: gradio makes each such component anew,
        twice, which was two thirds of the processor time of an event.
        """
        if _skipped(predictions) and len(block_fn.outputs) > 1:
            predictions = [SKIPPED] * len(block_fn.outputs)
        elif isinstance(predictions, dict) and predictions and set(predictions) <= set(block_fn.outputs):
            predictions = [predictions.get(part, SKIPPED) for part in block_fn.outputs]
        if not isinstance(predictions, list) or len(predictions) != len(block_fn.outputs) or len(predictions) < 2:
            sent: list[Any] = await super().postprocess_data(block_fn, predictions, state)
            return sent
        changed = [place for place, value in enumerate(predictions) if not _skipped(value)]
        answer: list[Any] = [dict(SKIPPED) for _ in predictions]
        if changed:
            part = copy(block_fn)
            part.outputs = [block_fn.outputs[place] for place in changed]
            values = [predictions[place] for place in changed]
            sent = await super().postprocess_data(part, values if len(values) > 1 else values[0], state)
            for place, value in zip(changed, sent, strict=True):
                answer[place] = value
        return answer

    @staticmethod
    def _answered(value: Any, place: int, outputs: Any) -> Any:
        block = outputs[place] if place < len(outputs) else None
        value = said(value)
        if getattr(block, "get_block_name", str)() == WORDED:
            if isinstance(value, str):
                return i18n.look_up(value)
            if isinstance(value, dict) and isinstance(value.get("value"), str):
                return {**value, "value": i18n.look_up(value["value"])}
        return value


def _skipped(value: Any) -> bool:
    return isinstance(value, dict) and value == SKIPPED


def said(value: Any) -> Any:
    """A value of a component with its messages in the reader's language."""
    if isinstance(value, Translatable):
        return i18n.say(value)
    if isinstance(value, dict):
        return {name: said(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(said(item) for item in value)
    return value
