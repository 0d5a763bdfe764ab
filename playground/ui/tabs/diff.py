"""The Twins tab: two variants of one model on the prompt above, compared token by token.

``VariantDiffer`` works, ``twin_view`` draws; this file has the components and their events.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from playground.errors import PlaygroundError, StorageError, UsageError
from playground.ui import offered
from playground.ui.html import diff as twin_view
from playground.ui.html import panel
from playground.ui.html.format import esc
from playground.ui.jobs import HEARTBEAT_S, POLL_S
from playground.ui.sessions import Sessions
from playground.ui.tabs import form, history
from playground.ui.tabs.form import Form
from playground.ui.tabs.history import History
from playground.ui.theme import html

if TYPE_CHECKING:
    from playground.experiments.diff import DiffJob, Progress
    from playground.service import Playground

HEAD = (
    '<p class="note">One model in two variants, on the prompt and the parameters above. Both answer; then both are '
    "forced along the reference’s answer, and their next-token distributions are compared at each token, over the "
    "whole vocabulary, without penalties or filters.</p>"
)
EMPTY = (
    '<div class="empty"><h3>Nothing compared yet</h3><p>What does int8 change in the answer to your own prompt? Choose '
    "two variants of one model to see where they part.</p></div>"
)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Twins:
    """The components."""

    reference: gr.Dropdown
    twin: gr.Dropdown
    with_prompt: gr.Checkbox
    start: gr.Button
    stop: gr.Button
    state: gr.HTML
    shown: gr.HTML


def build(playground: Playground) -> Twins:
    """Draw the tab. On a Space only variants of the served models can be chosen."""
    own = not playground.settings.on_space
    entries = [entry for entry in form.served(playground) if entry.spec.remote is None]
    names = [str(variant) for entry in entries for variant in entry.variants]
    first, second = _first_pair(names)
    html(HEAD)
    with gr.Row(equal_height=True):
        reference = gr.Dropdown(
            names, value=first, label="Reference", allow_custom_value=own, elem_id="twin-reference", min_width=240
        )
        twin = gr.Dropdown(
            names, value=second, label="Twin", allow_custom_value=own, elem_id="twin-other", min_width=240
        )
    with_prompt = gr.Checkbox(False, label="Score the prompt’s own tokens too", info="reads it one token at a time")
    with gr.Row():
        start = gr.Button("Compare twins", variant="primary", elem_id="twins", min_width=140, scale=2)
        stop = gr.Button("Stop", variant="stop", elem_id="stop-twins", min_width=80, interactive=False)
    state = html("", elem_id="twins-state")
    return Twins(reference, twin, with_prompt, start, stop, state, html(EMPTY, elem_id="twins-shown"))


def connect(playground: Playground, tab: Twins, chosen: Form, kept: History, demo: gr.Blocks) -> None:
    """Say which event does what. The two answers join the history of this browser."""
    sessions = Sessions()
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

    async def run(
        request: gr.Request, ids: Any, reference: str, twin: str, with_prompt: bool, *values: Any
    ) -> AsyncIterator[dict[Any, Any]]:
        try:
            asked = form.read_request(values, len(chosen.choices))[2]
            if not (reference and twin):
                raise UsageError("Two variants are needed", "Choose a reference and its twin.")
            pair = offered.variants(playground, (reference, twin))
            labels = panel.labels(playground.catalog, pair)
            diffing = await asyncio.to_thread(playground.twins.start, asked, *pair, with_prompt=bool(with_prompt))
            yield {
                tab.start: gr.update(interactive=False, value="Comparing…"),
                tab.stop: gr.update(interactive=True),
                tab.shown: "",
            }
            async with aclosing(_follow(diffing, sessions, request.session_hash or "")) as steps:
                async for at in steps:
                    yield {tab.state: twin_view.progress_html(at), tab.shown: twin_view.lives_html(at, labels)}
            diff = await asyncio.to_thread(diffing.result)
            problem = await asyncio.to_thread(_keep, playground, diffing)
            assert diffing.comparison
            yield {
                **_idle(tab),
                tab.state: _problem(problem) if problem else '<p class="hint" role="status">Done.</p>',
                tab.shown: twin_view.diff_html(diff, labels),
                kept.ids: gr.skip() if problem else history.added(ids, diffing.comparison),
            }
        except PlaygroundError as error:
            yield {**_idle(tab), tab.state: _problem(str(error))}
        except Exception:
            log.exception("A twin diff broke off")
            yield {**_idle(tab), tab.state: _problem("Something broke in the app itself; its log says what.")}

    def stop(request: gr.Request) -> Any:
        sessions.stop(request.session_hash or "")
        return gr.update(interactive=False, value="Stopping…")

    def leave(request: gr.Request) -> None:
        sessions.leave(request.session_hash or "")

    tab.start.click(
        run,
        [kept.ids, tab.reference, tab.twin, tab.with_prompt, *chosen.inputs],
        [tab.start, tab.stop, tab.state, tab.shown, kept.ids],
        trigger_mode="once",
        concurrency_limit=playground.settings.limits.max_sessions,
        concurrency_id="twins",
        **quiet,
    )
    tab.stop.click(stop, None, [tab.stop], queue=False, **quiet)
    demo.unload(leave)


async def _follow(diffing: DiffJob, sessions: Sessions, session: str) -> AsyncGenerator[Progress]:
    """Where it stands, at least once a second: a client that left is noticed at a yield."""
    sessions.begin(session)
    sessions.add(session, diffing)
    try:
        shown, told = None, 0.0
        while not diffing.done:
            at = diffing.snapshot()
            if at != shown or time.monotonic() - told >= HEARTBEAT_S:
                shown, told = at, time.monotonic()
                yield at
            await asyncio.sleep(POLL_S)
    finally:
        sessions.remove(session, diffing)
        if not diffing.done:
            diffing.stop()


def _first_pair(names: list[str]) -> tuple[str | None, str | None]:
    """The default variant of the first model with several, behind its most precise one."""
    for twin in names:
        model = twin.rpartition("@")[0]
        precise = [name for name in names if name.startswith(f"{model}@") and name != twin]
        if precise:
            return next((name for name in precise if name.endswith("onnx-fp32")), precise[-1]), twin
    return (names[0] if names else None), (names[1] if len(names) > 1 else None)


def _keep(playground: Playground, diffing: DiffJob) -> str:
    assert diffing.comparison
    try:
        playground.store.save(diffing.comparison)
    except StorageError as error:
        return f"The result is on this page only, the answers were not stored: {error}"
    return ""


def _idle(tab: Twins) -> dict[Any, Any]:
    return {
        tab.start: gr.update(interactive=True, value="Compare twins"),
        tab.stop: gr.update(interactive=False, value="Stop"),
    }


def _problem(text: str) -> str:
    return f'<p class="problem" role="alert">{esc(text)}</p>'
