"""The Measure tab: the models chosen above, repeated in rotated order; medians, spreads, and ranks where they show.

``Measurer`` measures, ``html.benchmark`` draws; this file has the components and their events. The browser remembers
the ids of its own measurements, as it does for comparisons.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import gradio as gr

from playground.errors import PlaygroundError, UsageError
from playground.messages import msg, plural
from playground.results.figures import Measurement
from playground.ui import jobs, offered
from playground.ui.blocks import Blocks
from playground.ui.html import benchmark
from playground.ui.html.format import esc
from playground.ui.i18n import say
from playground.ui.sessions import Sessions
from playground.ui.tabs import buttons, form, history
from playground.ui.tabs.buttons import QUIET, Buttons, Changes, problem_html
from playground.ui.tabs.form import Form
from playground.ui.theme import html
from playground.ui.visitors import visitor

if TYPE_CHECKING:
    from playground.service import Playground

STORAGE_KEY = "open-model-playground-measurements"
MAX_REPEATS, MAX_TOKENS = 15, 256
HEAD = msg(
    "The models and the prompt chosen in Compare. Each model answers once to warm up, then in rounds that begin with "
    "another model each time; all answers have the same length. Others wait until it is over."
)
NOT_YET = msg("Nothing measured yet")
WHY = msg("One run says how fast a model was once. Measure says how much that varies, and whether a difference is one.")


@dataclass(frozen=True)
class Measure:
    """The components."""

    ids: gr.BrowserState
    repeats: gr.Slider
    tokens: gr.Slider
    buttons: Buttons
    state: gr.HTML
    entries: gr.Dropdown
    shown: gr.HTML


def remembered() -> gr.BrowserState:
    """What the browser keeps. To be made outside the tab: a tab's parts come to life when it is first opened."""
    return gr.BrowserState([], storage_key=STORAGE_KEY, secret=history.SECRET)


def build(playground: Playground, ids: gr.BrowserState) -> Measure:
    """Draw the tab."""
    most = min(MAX_TOKENS, playground.settings.limits.max_new_tokens)
    html(lambda: f'<p class="note">{esc(HEAD)}</p>')
    with gr.Row(equal_height=True):
        repeats = gr.Slider(
            1, MAX_REPEATS, 5, step=1, label=msg("Repeats"), info=msg("below 3 nothing is ranked"), min_width=200
        )
        tokens = gr.Slider(
            2,
            max(2, most),
            min(64, most),
            step=1,
            label=msg("Tokens of each answer"),
            info=msg("the same for all"),
            min_width=200,
        )
    with gr.Row():
        run = buttons.build(msg("Measure"), "measure")
    state = html("", elem_id="measure-state")
    entries = gr.Dropdown([], label=msg("Measurements of this browser"), visible=False, elem_id="measurements")
    return Measure(ids, repeats, tokens, run, state, entries, html(_empty_html, elem_id="measured"))


def connect(playground: Playground, tab: Measure, chosen: Form, demo: Blocks) -> None:
    """Say which event does what."""
    sessions = Sessions()

    async def measure(
        request: gr.Request, kept: Any, repeats: float | None, tokens: float | None, *values: Any
    ) -> AsyncIterator[Changes]:
        work = steps(request, kept, repeats, tokens, values)
        async with aclosing(tab.buttons.told(work, tab.state)) as changes:
            async for change in changes:
                yield change

    async def steps(
        request: gr.Request, kept: Any, repeats: float | None, tokens: float | None, values: tuple[Any, ...]
    ) -> AsyncGenerator[Changes]:
        names, _, asked = form.read_request(values, len(chosen.choices))
        variants = offered.variants(playground, names)
        if not variants:
            raise UsageError(msg("No model is chosen"), msg("Choose at least one in Compare."))
        times = form.whole(msg("Repeats"), repeats or 0)  # a slider's box can be emptied
        if times > MAX_REPEATS:
            raise UsageError(
                msg("{repeats} repeats are too many here", repeats=times),
                msg("Choose at most {most}.", most=MAX_REPEATS),
            )
        timed = replace(asked, max_new_tokens=form.whole(msg("Tokens of each answer"), tokens or 0))
        start = partial(playground.benchmark, timed, variants, times, owner=visitor(request))
        yield tab.buttons.busy(msg("Measuring…"))
        async with aclosing(jobs.follow(sessions, request.session_hash or "", start)) as updates:
            async for update in updates:
                if update.result is None:
                    yield {tab.state: benchmark.state_html(update.at.step, update.at.progress)}
                    continue
                problem = await jobs.keep(partial(playground.keep, update.result))
                words = (
                    msg("It was measured, but can't be kept and shown: {error}", error=problem.message)
                    if problem
                    else ""
                )
                yield {
                    **tab.buttons.idle(),
                    tab.state: problem_html(words) if words else _done_words(update.result),
                    tab.ids: gr.skip()
                    if problem
                    else [update.result.id, *history.known_ids(kept)][: history.MAX_ENTRIES],
                }

    def listed(kept: Any) -> dict[Any, Any]:
        choices = [(_line(found), found.id) for found in _found(playground, history.known_ids(kept))]
        first = choices[0][1] if choices else None
        return {
            tab.entries: gr.update(choices=choices, value=first, visible=bool(choices)),
            tab.shown: opened(first, kept),
        }

    def opened(wanted: Any, kept: Any) -> str:
        found = _found(playground, [wanted]) if wanted in history.known_ids(kept) else []
        return benchmark.measurement_html(found[0], playground) if found else _empty_html()

    tab.buttons.start.click(
        measure,
        [tab.ids, tab.repeats, tab.tokens, *chosen.inputs],
        [tab.buttons.start, tab.buttons.stop, tab.state, tab.ids],
        trigger_mode="once",
        preprocess=False,  # a name that was typed wrong is refused by us, and not with gradio's list of all there are
        concurrency_limit=playground.settings.limits.max_sessions,
        concurrency_id="measure",
        **QUIET,
    )
    gr.on([demo.load, tab.ids.change], listed, tab.ids, [tab.entries, tab.shown], queue=False, **QUIET)
    # Not preprocessed: gradio would check the choice against the empty list the page was built with.
    tab.entries.input(opened, [tab.entries, tab.ids], tab.shown, preprocess=False, queue=False, **QUIET)
    tab.buttons.connect(sessions, demo)


def _empty_html() -> str:
    return f'<div class="empty"><h3>{esc(NOT_YET)}</h3><p>{esc(WHY)}</p></div>'


def _done_words(measurement: Measurement) -> str:
    failed = sum(model.error is not None for model in measurement.models)
    words = msg("Done.")
    if failed:
        words = plural("Done; {n} model not measured, see below.", "Done; {n} models not measured, see below.", failed)
    return f'<p class="hint">{esc(words)}</p>'


def _found(playground: Playground, ids: Sequence[str]) -> list[Measurement]:
    found = []
    for measurement_id in ids:
        try:
            measurement = playground.measurement(measurement_id)
        except PlaygroundError:
            continue
        if measurement is not None:
            found.append(measurement)
    return found


def _line(measurement: Measurement) -> str:
    when = measurement.created_at[:16].replace("T", " ")
    names = ", ".join(str(model.variant) for model in measurement.models)
    how = plural(
        "{n} repeat of {tokens} tokens",
        "{n} repeats of {tokens} tokens",
        measurement.repeats,
        tokens=measurement.request.max_new_tokens,
    )
    return f"{when} · {say(how)} · {names}"
