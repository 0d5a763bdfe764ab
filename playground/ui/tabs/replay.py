"""The button "Replay" of the History tab: runs the comparison that is open there once more.

``Replayer`` compares, ``html.diff`` draws; this file has the components and their events.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import gradio as gr

from playground.errors import UsageError
from playground.experiments.progress import Snapshot
from playground.messages import NOTHING, msg, plural, sentences
from playground.ui import jobs, offered
from playground.ui.blocks import Blocks
from playground.ui.html import diff, panel
from playground.ui.html.format import count, esc
from playground.ui.sessions import Sessions
from playground.ui.tabs import buttons
from playground.ui.tabs.buttons import QUIET, Buttons, Changes
from playground.ui.tabs.history import History
from playground.ui.theme import html
from playground.ui.visitors import visitor

if TYPE_CHECKING:
    from playground.service import Playground


@dataclass(frozen=True)
class Replay:
    """The components; they are hidden until a comparison is open."""

    row: gr.Row
    buttons: Buttons
    shown: gr.HTML


def build() -> Replay:
    """Draw the button, to stand between the list and what is open."""
    with gr.Row(visible=False) as row:
        run = buttons.build(msg("Replay"), "replay", aside=True)
    return Replay(row, run, html("", elem_id="replay-shown"))


def connect(playground: Playground, part: Replay, kept: History, demo: Blocks) -> None:
    """Say which event does what."""
    sessions = Sessions()

    async def replay(request: gr.Request, chosen: Any) -> AsyncIterator[Changes]:
        work = steps(request, chosen)
        async with aclosing(part.buttons.told(work, part.shown)) as changes:
            async for change in changes:
                yield change

    async def steps(request: gr.Request, chosen: Any) -> AsyncGenerator[Changes]:
        known = isinstance(chosen, str) and bool(chosen)
        stored = await asyncio.to_thread(playground.comparison, chosen) if known else None
        if stored is None:
            raise UsageError(msg("No comparison is open"), msg("Choose one of the list."))
        variants = [run.variant for run in stored.runs]
        offered.variants(playground, map(str, variants))
        labels = panel.labels(playground, variants)
        yield part.buttons.busy(msg("Running…"))
        start = partial(playground.replay, stored, owner=visitor(request))
        async with aclosing(jobs.follow(sessions, request.session_hash or "", start)) as updates:
            async for update in updates:
                if update.result is None:
                    yield {part.shown: _running_html(update.at)}
                else:
                    yield {**part.buttons.idle(), part.shown: diff.replay_html(update.result, labels)}

    def opened(chosen: Any) -> list[Any]:
        return [gr.update(visible=bool(chosen)), ""]

    part.buttons.start.click(
        replay,
        [kept.open],
        [part.buttons.start, part.buttons.stop, part.shown],
        trigger_mode="once",
        concurrency_limit=playground.settings.limits.max_sessions,
        concurrency_id="replay",
        preprocess=False,
        **QUIET,
    )
    part.buttons.connect(sessions, demo)
    kept.open.change(opened, [kept.open], [part.row, part.shown], preprocess=False, queue=False, **QUIET)


def _running_html(at: Snapshot) -> str:
    done = sum(live.run is not None for live in at.lives)
    now = next((live for live in at.lives if live.run is None and live.kind == "token"), None)
    said = plural("{done} of {n} model done.", "{done} of {n} models done.", n=len(at.lives), done=done)
    answering = msg("{model}: {tokens}.", model=now.variant, tokens=count(now.n_tokens, "token")) if now else NOTHING
    return f'<p class="hint" data-say="status">{esc(sentences(said, answering))}</p>'
