"""The two buttons of an experiment's tab: one starts it, the other one stops it; and what is said of trouble.

It knows buttons and sessions; it does not know what is run.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import gradio as gr

from playground.errors import PlaygroundError
from playground.messages import Translatable, msg
from playground.ui.blocks import Blocks
from playground.ui.failures import line_of
from playground.ui.html.format import esc
from playground.ui.sessions import Sessions

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
"""How the page's own events are registered."""

Changes = dict[Any, Any]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Buttons:
    """The components.

    Attributes:
        word: What the first one says while nothing runs.
    """

    word: Translatable
    start: gr.Button
    stop: gr.Button

    def busy(self, word: Translatable) -> Changes:
        """While it runs."""
        return {self.start: gr.update(interactive=False, value=word), self.stop: gr.update(interactive=True)}

    def idle(self) -> Changes:
        """When it has ended."""
        return {
            self.start: gr.update(interactive=True, value=self.word),
            self.stop: gr.update(interactive=False, value=msg("Stop")),
        }

    async def told(self, work: AsyncGenerator[Changes], place: gr.HTML) -> AsyncGenerator[Changes]:
        """What ``work`` yields; what it raises is said in ``place``, and the buttons are as before."""
        try:
            async with aclosing(work) as steps:
                async for changes in steps:
                    yield changes
        except PlaygroundError as error:
            yield {**self.idle(), place: problem_html(error.message)}
        except Exception as error:  # also of whoever sends what no page does
            log.error("%s broke off: %s", self.word, line_of(error))
            yield {**self.idle(), place: problem_html(msg("Something broke in the app itself; its log says what."))}

    def connect(self, sessions: Sessions, demo: Blocks) -> None:
        """Stop, and leaving the page, end what this session started."""

        def stop(request: gr.Request) -> Any:
            sessions.stop(request.session_hash or "")
            return gr.update(interactive=False, value=msg("Stopping…"))

        self.stop.click(stop, None, [self.stop], queue=False, **QUIET)
        demo.when_left(sessions.leave)


def build(word: Translatable, name: str, *, aside: bool = False) -> Buttons:
    """Draw them.

    Args:
        name: The id of the first one on the page; the other's is ``stop-`` and that.
        aside: Small, where they are not what the tab is there for.
    """
    start = gr.Button(
        word, variant="secondary" if aside else "primary", elem_id=name, min_width=140, scale=0 if aside else 2
    )
    stop = gr.Button(
        msg("Stop"), variant="stop", elem_id=f"stop-{name}", min_width=80, scale=0 if aside else 1, interactive=False
    )
    return Buttons(word, start, stop)


def problem_html(text: str) -> str:
    """What went wrong, for a reader and a screen reader."""
    return f'<p class="problem" data-say="alert">{esc(text)}</p>'
