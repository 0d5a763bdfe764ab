"""Token by token: two columns that are variants of one model, compared by tokens and by what each held for likely.

A part of the Differences tab. ``VariantDiffer`` works, ``html.diff`` draws; this file has the components and events.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any

import gradio as gr

from playground.errors import PlaygroundError, UsageError
from playground.messages import msg
from playground.records import Variant
from playground.ui import jobs, offered
from playground.ui.blocks import Blocks
from playground.ui.html import diff, panel
from playground.ui.html.differences import name
from playground.ui.html.format import esc
from playground.ui.sessions import Sessions
from playground.ui.tabs import buttons
from playground.ui.tabs.buttons import QUIET, Buttons, Changes
from playground.ui.theme import html
from playground.ui.visitors import visitor

if TYPE_CHECKING:
    from playground.service import Playground
    from playground.ui.html.panel import Label
    from playground.ui.on_show import OnShow

PRECISE = ("fp32", "bf16", "fp16", "int8", "int4")
"""Of two variants the more precise one is the reference."""


@dataclass(frozen=True)
class TokenDiff:
    """The components.

    Attributes:
        ask: What is there only where two columns are variants of one model.
        why: When it is offered, where it is not.
    """

    why: gr.HTML
    ask: gr.Column
    pair: gr.Dropdown
    with_prompt: gr.Checkbox
    buttons: Buttons
    state: gr.HTML
    shown: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        """What ``offered_for`` changes."""
        return [self.why, self.ask, self.pair]


def build(most: int) -> TokenDiff:
    """Draw it.

    Args:
        most: Columns that a comparison may have.
    """
    with gr.Accordion(msg("Token by token"), open=False, elem_id="token-diff"):
        why = html(why_html, elem_id="token-diff-why")
        with gr.Column(visible=False, elem_id="token-diff-ask") as ask:
            html(head_html)
            # Every pair there can be: gradio checks a choice against the list that the page was built with.
            pairs = [(value, value) for value in (f"{i},{j}" for i in range(most) for j in range(most) if i != j)]
            pair = gr.Dropdown(
                pairs,
                value=None,
                label=msg("Reference → candidate"),
                elem_id="diff-pair",
                filterable=False,
            )
            with_prompt = gr.Checkbox(
                False, label=msg("Score the prompt’s own tokens too"), info=msg("reads it one token at a time")
            )
            with gr.Row():
                run = buttons.build(msg("Compare token by token"), "diff")
        state = html("", elem_id="diff-state")
        shown = html("", elem_id="diff-shown")
    return TokenDiff(why, ask, pair, with_prompt, run, state, shown)


def head_html() -> str:
    """What is done."""
    return _note(
        msg(
            "One model in two variants, on the prompt and the parameters of these answers. Both answer anew; then both "
            "are forced along the reference’s answer, and their next-token distributions are compared at each token, "
            "over the whole vocabulary, without penalties or filters."
        )
    )


def why_html() -> str:
    """When it is offered."""
    return _note(
        msg(
            "Two columns of one model in two precisions (such as int8 and fp32) can be compared token by token too: "
            "where they part, top-1 flips, KL divergence, perplexity. Choose a model in a second precision, and run."
        )
    )


def pairs_of(playground: Playground, labels: Sequence[Label]) -> list[tuple[Label, Label]]:
    """The pairs of columns that are two variants of one model, from one place or two, the more precise one first."""
    local = [label for label in labels if not label.variant.model.startswith("remote:")]
    model = {label.position: _model(playground, label.variant) for label in local}
    return [
        (one, other) if _precision(one.variant) <= _precision(other.variant) else (other, one)
        for one, other in combinations(local, 2)
        if model[one.position] == model[other.position] and one.variant != other.variant
    ]


def offered_for(playground: Playground, part: TokenDiff, labels: Sequence[Label], chosen: Any) -> Changes:
    """The pairs to choose from, or when there are some."""
    found = pairs_of(playground, labels)
    values = [f"{one.position},{other.position}" for one, other in found]
    named = [f"{name(one)} → {name(other)}" for one, other in found]
    return {
        part.why: gr.update(visible=not found),
        part.ask: gr.update(visible=bool(found)),
        part.pair: gr.update(
            choices=list(zip(named, values, strict=True)),
            value=chosen if chosen in values else next(iter(values), None),
        )
        if found
        else gr.skip(),
    }


def connect(playground: Playground, part: TokenDiff, opened: Any, read: Any, demo: Blocks) -> None:
    """Say which event does what.

    Args:
        opened: The component that holds the id of the comparison on show.
        read: What gives an ``OnShow`` for that id, or None.
    """
    sessions = Sessions()

    async def run(request: gr.Request, id: Any, pair: Any, with_prompt: Any) -> AsyncIterator[Changes]:
        work = steps(request, read(id), pair, bool(with_prompt))
        async with aclosing(part.buttons.told(work, part.state)) as changes:
            async for change in changes:
                yield change

    async def steps(request: gr.Request, there: OnShow | None, pair: Any, with_prompt: bool) -> AsyncGenerator[Changes]:
        labels = there.labels if there else ()
        for one, other in pairs_of(playground, labels):
            if there and pair == f"{one.position},{other.position}":
                async for changes in compared(request, there, (one, other), with_prompt):
                    yield changes
                return
        raise UsageError(msg("Two variants of one model are needed"), msg("Choose a pair of these columns."))

    async def compared(
        request: gr.Request, there: OnShow, pair: tuple[Label, Label], with_prompt: bool
    ) -> AsyncGenerator[Changes]:
        asked = replace(there.requests[pair[0].position], answer_ids=())
        variants = offered.variants(playground, [str(label.variant) for label in pair])
        labels = panel.labels(playground, variants)
        start = partial(playground.diff, asked, *variants, with_prompt=with_prompt, owner=visitor(request))
        yield {**part.buttons.busy(msg("Comparing…")), part.shown: ""}
        async with aclosing(jobs.follow(sessions, request.session_hash or "", start)) as updates:
            async for update in updates:
                if update.result is None:
                    yield {part.state: diff.progress_html(update.at), part.shown: diff.lives_html(update.at, labels)}
                    continue
                yield {
                    **part.buttons.idle(),
                    part.state: f'<p class="hint" data-say="status">{esc(msg("Done."))}</p>',
                    part.shown: diff.diff_html(update.result, labels),
                }

    part.buttons.start.click(
        run,
        [opened, part.pair, part.with_prompt],
        [part.buttons.start, part.buttons.stop, part.state, part.shown],
        trigger_mode="once",
        concurrency_limit=playground.settings.limits.max_sessions,
        concurrency_id="diff",
        **QUIET,
    )
    part.buttons.connect(sessions, demo)


def _model(playground: Playground, variant: Variant) -> str:
    """What is the same for variants of one model: its release on the Hub, or its id where there is none."""
    try:
        return playground.entry(variant.model).spec.upstream.lower() or variant.model
    except PlaygroundError:  # the catalogue has lost it, or it is hidden behind a letter
        return variant.model


def _precision(variant: Variant) -> int:
    return PRECISE.index(variant.precision) if variant.precision in PRECISE else len(PRECISE)


def _note(text: str) -> str:
    return f'<p class="note">{esc(text)}</p>'
