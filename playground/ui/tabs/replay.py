"""The button "Same again?" of the History tab: runs the comparison that is open there once more.

``Replayer`` compares, ``twin_view`` draws; this file has the components and their events.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from playground.errors import PlaygroundError, UsageError
from playground.experiments.compare import Running
from playground.ui import offered
from playground.ui.html import diff, panel
from playground.ui.html.format import count, esc
from playground.ui.jobs import HEARTBEAT_S, POLL_S
from playground.ui.sessions import Sessions
from playground.ui.tabs import history
from playground.ui.tabs.history import History
from playground.ui.theme import html

if TYPE_CHECKING:
    from playground.service import Playground

WORDS = "Same again?"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SameAgain:
    """The components; they are hidden until a comparison is open."""

    row: gr.Row
    start: gr.Button
    stop: gr.Button
    shown: gr.HTML


def build() -> SameAgain:
    """Draw the button, to stand between the list and what is open."""
    with gr.Row(visible=False) as row:
        start = gr.Button(WORDS, elem_id="again", min_width=140, scale=0)
        stop = gr.Button("Stop", variant="stop", elem_id="stop-again", min_width=80, scale=0, interactive=False)
    return SameAgain(row, start, stop, html("", elem_id="again-shown"))


def connect(playground: Playground, part: SameAgain, kept: History, demo: gr.Blocks) -> None:
    """Say which event does what."""
    sessions = Sessions()
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

    async def run(request: gr.Request, chosen: Any, ids: Any) -> AsyncIterator[dict[Any, Any]]:
        session = request.session_hash or ""
        running: Running | None = None
        try:
            stored = await asyncio.to_thread(playground.store.get, chosen) if chosen in history.known_ids(ids) else None
            if stored is None:
                raise UsageError("No comparison is open", "Choose one of the list.")
            offered.variants(playground, [str(run.variant) for run in stored.runs])
            running = await asyncio.to_thread(playground.repeater.start, stored)
            sessions.begin(session)
            sessions.add(session, running)
            yield {part.start: gr.update(interactive=False, value="Running…"), part.stop: gr.update(interactive=True)}
            shown, told = "", 0.0
            while not running.done:
                words = _running_words(running)
                if words != shown or time.monotonic() - told >= HEARTBEAT_S:
                    shown, told = words, time.monotonic()
                    yield {part.shown: words}
                await asyncio.sleep(POLL_S)
            rerun = await asyncio.to_thread(running.result)
            report = await asyncio.to_thread(playground.repeater.report, stored, rerun)
            labels = panel.labels(playground.catalog, [run.variant for run in stored.runs])
            yield {**_idle(part), part.shown: diff.again_html(report, labels)}
        except PlaygroundError as error:
            yield {**_idle(part), part.shown: _problem(str(error))}
        except Exception:
            log.exception("A rerun broke off")
            yield {**_idle(part), part.shown: _problem("Something broke in the app itself; its log says what.")}
        finally:
            if running:
                sessions.remove(session, running)
                running.stop()

    def stop(request: gr.Request) -> Any:
        sessions.stop(request.session_hash or "")
        return gr.update(interactive=False, value="Stopping…")

    def opened(chosen: Any, ids: Any) -> list[Any]:
        return [gr.update(visible=bool(chosen) and chosen in history.known_ids(ids)), ""]

    def leave(request: gr.Request) -> None:
        sessions.leave(request.session_hash or "")

    names = [kept.entries, kept.ids]
    # Not preprocessed: gradio would check the choice against the empty list the page was built with.
    part.start.click(
        run,
        names,
        [part.start, part.stop, part.shown],
        trigger_mode="once",
        concurrency_limit=playground.settings.limits.max_sessions,
        concurrency_id="again",
        preprocess=False,
        **quiet,
    )
    part.stop.click(stop, None, [part.stop], queue=False, **quiet)
    # ``change`` also hears when a new comparison empties the choice.
    kept.entries.change(opened, names, [part.row, part.shown], preprocess=False, queue=False, **quiet)
    demo.unload(leave)


def _running_words(running: Running) -> str:
    lives = running.snapshot()
    done = sum(live.run is not None for live in lives)
    now = next((live for live in lives if live.run is None and live.kind == "token"), None)
    answering = f" {now.variant}: {count(now.n_tokens, 'token')}." if now else ""
    return f'<p class="hint" role="status">{done} of {count(len(lives), "model")} done.{esc(answering)}</p>'


def _idle(part: SameAgain) -> dict[Any, Any]:
    return {
        part.start: gr.update(interactive=True, value=WORDS),
        part.stop: gr.update(interactive=False, value="Stop"),
    }


def _problem(text: str) -> str:
    return f'<p class="problem" role="alert">{esc(text)}</p>'
