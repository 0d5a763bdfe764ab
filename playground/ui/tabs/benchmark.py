"""The Measure tab: the models chosen above, repeated in rotated order; medians, spreads, and ranks where they show.

``Measurer`` measures, ``measure_tables`` draws; this file has the components, their events, and the thread that a
measurement runs in. The browser remembers the ids of its own measurements, as it does for comparisons.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import gradio as gr

from playground.errors import PlaygroundError, StorageError, UsageError
from playground.records import Request, Variant
from playground.results.figures import Measurement
from playground.ui import offered
from playground.ui.html import benchmark
from playground.ui.html.format import count, esc
from playground.ui.jobs import HEARTBEAT_S, POLL_S
from playground.ui.sessions import Sessions
from playground.ui.tabs import form, history
from playground.ui.tabs.form import Form
from playground.ui.theme import html

if TYPE_CHECKING:
    from playground.service import Playground

STORAGE_KEY = "open-model-playground-measurements"
MAX_REPEATS, MAX_TOKENS = 15, 256
HEAD = (
    '<p class="note">The models and the prompt chosen above. Each model answers once to warm up, then in rounds that '
    "begin with another model each time; all answers have the same length. Others wait until it is over.</p>"
)
EMPTY = (
    '<div class="empty"><h3>Nothing measured yet</h3><p>One run says how fast a model was once. Measure says how much '
    "that varies, and whether a difference is one.</p></div>"
)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measure:
    """The components."""

    ids: gr.BrowserState
    repeats: gr.Slider
    tokens: gr.Slider
    start: gr.Button
    stop: gr.Button
    state: gr.HTML
    entries: gr.Dropdown
    shown: gr.HTML


def remembered() -> gr.BrowserState:
    """What the browser keeps. To be made outside the tab: a tab's parts come to life when it is first opened."""
    return gr.BrowserState([], storage_key=STORAGE_KEY, secret=history.SECRET)


def build(playground: Playground, ids: gr.BrowserState) -> Measure:
    """Draw the tab."""
    most = min(MAX_TOKENS, playground.settings.limits.max_new_tokens)
    html(HEAD)
    with gr.Row(equal_height=True):
        repeats = gr.Slider(1, MAX_REPEATS, 5, step=1, label="Repeats", info="below 3 nothing is ranked", min_width=200)
        tokens = gr.Slider(
            2,
            max(2, most),
            min(64, most),
            step=1,
            label="Tokens of each answer",
            info="the same for all",
            min_width=200,
        )
    with gr.Row():
        start = gr.Button("Measure", variant="primary", elem_id="measure", min_width=120, scale=2)
        stop = gr.Button("Stop", variant="stop", elem_id="stop-measure", min_width=80, interactive=False)
    state = html("", elem_id="measure-state")
    entries = gr.Dropdown([], label="Measurements of this browser", visible=False, elem_id="measurements")
    return Measure(ids, repeats, tokens, start, stop, state, entries, html(EMPTY, elem_id="measured"))


def connect(playground: Playground, tab: Measure, chosen: Form, demo: gr.Blocks) -> None:
    """Say which event does what."""
    sessions: Sessions = Sessions()
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

    async def run(
        request: gr.Request, kept: Any, repeats: float | None, tokens: float | None, *values: Any
    ) -> AsyncIterator[dict[Any, Any]]:
        try:
            names, _, asked = form.read_request(values, len(chosen.choices))
            variants = offered.variants(playground, names)
            if not variants:
                raise UsageError("No model is chosen", "Choose at least one above.")
            times = form.whole("Repeats", repeats or 0)  # a slider's box can be emptied
            if times > MAX_REPEATS:
                raise UsageError(f"{times} repeats are too many here", f"Choose at most {MAX_REPEATS}.")
            job = Job(playground, replace(asked, max_new_tokens=form.whole("Tokens", tokens or 0)), variants, times)
            yield {tab.start: gr.update(interactive=False, value="Measuring…"), tab.stop: gr.update(interactive=True)}
            async with aclosing(_follow(job, sessions, request.session_hash or "")) as states:
                async for state in states:
                    yield {tab.state: state}
            assert job.result
            problem = await asyncio.to_thread(_keep, playground, job.result)
            yield {
                **_idle(tab),
                tab.state: _problem(problem) if problem else _done_words(job.result),
                tab.ids: gr.skip() if problem else [job.result.id, *history.known_ids(kept)][: history.MOST],
            }
        except PlaygroundError as error:
            yield {**_idle(tab), tab.state: _problem(str(error))}
        except Exception:
            log.exception("The measurement broke off")
            yield {**_idle(tab), tab.state: _problem("Something broke in the app itself; its log says what.")}

    def stop(request: gr.Request) -> Any:
        sessions.stop(request.session_hash or "")
        return gr.update(interactive=False, value="Stopping…")

    def listed(kept: Any) -> dict[Any, Any]:
        choices = [(_line(found), found.id) for found in _found(playground, history.known_ids(kept))]
        first = choices[0][1] if choices else None
        return {
            tab.entries: gr.update(choices=choices, value=first, visible=bool(choices)),
            tab.shown: opened(first, kept),
        }

    def opened(wanted: Any, kept: Any) -> str:
        found = _found(playground, [wanted]) if wanted in history.known_ids(kept) else []
        return benchmark.measurement_html(found[0], playground.catalog) if found else EMPTY

    def leave(request: gr.Request) -> None:
        sessions.leave(request.session_hash or "")

    tab.start.click(
        run,
        [tab.ids, tab.repeats, tab.tokens, *chosen.inputs],
        [tab.start, tab.stop, tab.state, tab.ids],
        trigger_mode="once",
        concurrency_limit=playground.settings.limits.max_sessions,
        concurrency_id="measure",
        **quiet,
    )
    tab.stop.click(stop, None, [tab.stop], queue=False, **quiet)
    gr.on([demo.load, tab.ids.change], listed, tab.ids, [tab.entries, tab.shown], queue=False, **quiet)
    # Not preprocessed: gradio would check the choice against the empty list the page was built with.
    tab.entries.input(opened, [tab.entries, tab.ids], tab.shown, preprocess=False, queue=False, **quiet)
    demo.unload(leave)


@dataclass(eq=False)
class Job:
    """A measurement that is going on, in a thread of its own."""

    playground: Playground
    request: Request
    variants: Sequence[Variant]
    repeats: int
    state: tuple[str, float | None] = ("waiting for the machine", None)
    result: Measurement | None = None
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> Measurement:
        """Measure; blocks.

        Raises:
            UsageError: The request can't be measured.
        """
        return self.playground.measurer.run(self.request, self.variants, self.repeats, self._tell, self._stop.is_set)

    def stop(self) -> None:
        self._stop.set()

    def _tell(self, step: str, share: float | None) -> None:
        self.state = (step, share)


async def _follow(job: Job, sessions: Sessions, session: str) -> AsyncGenerator[str]:
    """Run the job and tell how it goes, at least once a second: a client that left is noticed at a yield."""
    sessions.begin(session)
    sessions.add(session, job)
    working = asyncio.ensure_future(asyncio.to_thread(job.run))
    try:
        shown, told = None, 0.0
        while not working.done():
            if job.state != shown or time.monotonic() - told >= HEARTBEAT_S:
                shown, told = job.state, time.monotonic()
                yield benchmark.state_html(*shown)
            await asyncio.wait([working], timeout=POLL_S)
        job.result = working.result()
    finally:
        sessions.remove(session, job)
        job.stop()


def _done_words(measurement: Measurement) -> str:
    failed = sum(model.error is not None for model in measurement.models)
    words = f"Done; {count(failed, 'model')} not measured, see below." if failed else "Done."
    return f'<p class="hint" role="status">{words}</p>'


def _keep(playground: Playground, measurement: Measurement) -> str:
    """Store it; returns what to tell the reader if it could not be stored."""
    try:
        playground.store.save_measurement(measurement)
    except StorageError as error:
        return f"It was measured, but can't be kept and shown: {error}"
    return ""


def _idle(tab: Measure) -> dict[Any, Any]:
    return {
        tab.start: gr.update(interactive=True, value="Measure"),
        tab.stop: gr.update(interactive=False, value="Stop"),
    }


def _problem(text: str) -> str:
    return f'<p class="problem" role="alert">{esc(text)}</p>'


def _found(playground: Playground, ids: Sequence[str]) -> list[Measurement]:
    found = []
    for measurement_id in ids:
        try:
            measurement = playground.store.measurement(measurement_id)
        except PlaygroundError:
            continue
        if measurement is not None:
            found.append(measurement)
    return found


def _line(measurement: Measurement) -> str:
    when = measurement.created_at[:16].replace("T", " ")
    names = ", ".join(str(model.variant) for model in measurement.models)
    return f"{when} · {count(measurement.repeats, 'repeat')} of {measurement.request.max_new_tokens} tokens · {names}"
