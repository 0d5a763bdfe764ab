"""The Diff tab: two variants of one model on the prompt above, compared token by token.

``VariantDiffer`` works, ``html.diff`` draws; this file has the components and their events.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import gradio as gr

from playground.errors import StorageError, UsageError
from playground.messages import Translatable, msg
from playground.ui import jobs, offered
from playground.ui.html import diff, panel
from playground.ui.sessions import Sessions
from playground.ui.tabs import buttons, form
from playground.ui.tabs.buttons import QUIET, Buttons, Changes, problem_html
from playground.ui.tabs.form import Form
from playground.ui.theme import html
from playground.ui.visitors import visitor

if TYPE_CHECKING:
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
DONE = '<p class="hint" role="status">Done.</p>'


@dataclass(frozen=True)
class Diff:
    """The components."""

    reference: gr.Dropdown
    candidate: gr.Dropdown
    with_prompt: gr.Checkbox
    buttons: Buttons
    state: gr.HTML
    shown: gr.HTML


def build(playground: Playground) -> Diff:
    """Draw the tab. On a Space only variants of the served models can be chosen."""
    own = not playground.settings.on_space
    entries = [entry for entry in playground.served() if entry.spec.remote is None]
    names = [str(variant) for entry in entries for variant in entry.variants]
    first, second = _first_pair(names)
    html(HEAD)
    with gr.Row(equal_height=True):
        reference = gr.Dropdown(
            names, value=first, label="Reference", allow_custom_value=own, elem_id="diff-reference", min_width=240
        )
        candidate = gr.Dropdown(
            names, value=second, label="Candidate", allow_custom_value=own, elem_id="diff-candidate", min_width=240
        )
    with_prompt = gr.Checkbox(False, label="Score the prompt’s own tokens too", info="reads it one token at a time")
    with gr.Row():
        run = buttons.build("Compare variants", "diff")
    state = html("", elem_id="diff-state")
    return Diff(reference, candidate, with_prompt, run, state, html(EMPTY, elem_id="diff-shown"))


def connect(playground: Playground, tab: Diff, chosen: Form, demo: gr.Blocks) -> None:
    """Say which event does what. The two answers join the history of this visitor."""
    sessions = Sessions()

    async def run(
        request: gr.Request, reference: str, candidate: str, with_prompt: bool, *values: Any
    ) -> AsyncIterator[Changes]:
        work = steps(request, (reference, candidate), bool(with_prompt), values)
        async with aclosing(tab.buttons.told(work, tab.state)) as changes:
            async for change in changes:
                yield change

    async def steps(
        request: gr.Request, names: tuple[str, str], with_prompt: bool, values: tuple[Any, ...]
    ) -> AsyncGenerator[Changes]:
        asked = form.read_request(values, len(chosen.choices))[2]
        if not all(names):
            raise UsageError(msg("Two variants are needed"), msg("Choose a reference and a candidate."))
        pair = offered.variants(playground, names)
        labels = panel.labels(playground, pair)
        start = partial(playground.diff, asked, *pair, with_prompt=with_prompt)
        yield {**tab.buttons.busy("Comparing…"), tab.shown: ""}
        async with aclosing(jobs.follow(sessions, request.session_hash or "", start)) as updates:
            async for update in updates:
                if update.result is None:
                    yield {tab.state: diff.progress_html(update.at), tab.shown: diff.lives_html(update.at, labels)}
                    continue
                answers = update.result.answers()
                problem = await jobs.keep(partial(playground.keep, answers, visitor(request)))
                yield {
                    **tab.buttons.idle(),
                    tab.state: problem_html(_not_stored(problem)) if problem else DONE,
                    tab.shown: diff.diff_html(update.result, labels),
                }

    tab.buttons.start.click(
        run,
        [tab.reference, tab.candidate, tab.with_prompt, *chosen.inputs],
        [tab.buttons.start, tab.buttons.stop, tab.state, tab.shown],
        trigger_mode="once",
        concurrency_limit=playground.settings.limits.max_sessions,
        concurrency_id="diff",
        **QUIET,
    )
    tab.buttons.connect(sessions, demo)


def _not_stored(error: StorageError) -> Translatable:
    return msg("The result is on this page only, the answers were not stored: {error}", error=error.message)


def _first_pair(names: list[str]) -> tuple[str | None, str | None]:
    """The default variant of the first model with several, behind its most precise one."""
    for candidate in names:
        model = candidate.rpartition("@")[0]
        precise = [name for name in names if name.startswith(f"{model}@") and name != candidate]
        if precise:
            return next((name for name in precise if name.endswith("onnx-fp32")), precise[-1]), candidate
    return (names[0] if names else None), (names[1] if len(names) > 1 else None)
