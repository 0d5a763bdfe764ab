"""What they read, inside Compare: the prompt as each model reads it, and an answer token by token.

``service.inspect`` and ``service.token_view`` work, ``html.prompt`` and ``html.tokens`` draw; this file has the
components and their events. The page says which comparison is shown by its id, and brings a column here by ``read`` and
``tokens``; everything the browser sends is looked up anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import gradio as gr

from playground.errors import PlaygroundError, UsageError
from playground.messages import Translatable, msg
from playground.ui import columns as chosen_columns
from playground.ui import jobs
from playground.ui.blocks import Blocks
from playground.ui.html import panel, prompt, tokens
from playground.ui.html.format import esc, percent
from playground.ui.sessions import Sessions
from playground.ui.tabs import buttons, form
from playground.ui.tabs.buttons import QUIET, Buttons, Changes
from playground.ui.theme import html
from playground.ui.visitors import visitor

if TYPE_CHECKING:
    from playground.experiments.progress import Snapshot
    from playground.experiments.token_view import TokenView
    from playground.records import Comparison, Request, Variant
    from playground.service import Playground
    from playground.ui.tabs.form import Form

FORM, SHOWN = "form", "shown"
NO_OTHER = -1
"""The choice of no second answer."""


def empty_html() -> str:
    """Before anything was asked for."""
    words = msg("Every model wraps your text in a format of its own before it reads it. See the very tokens.")
    return f'<div class="empty"><h3>{esc(msg("What does each model read?"))}</h3><p>{esc(words)}</p></div>'


def tokens_hint() -> str:
    """What a token view is, and what it costs."""
    words = msg(
        "How sure was a model of each token of its answer, and what else might it have said? The answer is read once "
        "more for that, at the speed it was written."
    )
    return f'<p class="note">{esc(words)}</p>'


@dataclass(frozen=True)
class WhatTheyRead:
    """The components.

    Attributes:
        source: Whether the prompts are those of the form or of the answers shown.
        read: Starts reading the prompts.
        prompts: The prompts as they are read.
        answer, beside: Columns of the comparison shown, by their position; ``beside`` may be ``NO_OTHER``.
        look: Starts the token view.
        state: Progress and trouble of the token view.
        view: The token view.
    """

    source: gr.Radio
    read: Buttons
    prompts: gr.HTML
    answer: gr.Dropdown
    beside: gr.Dropdown
    look: Buttons
    state: gr.HTML
    view: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        """All that any event of this tab changes."""
        return [*self.reading, *self.looking]

    @property
    def reading(self) -> list[Any]:
        """What reading the prompts changes."""
        return [self.read.start, self.read.stop, self.prompts]

    @property
    def looking(self) -> list[Any]:
        """What the token view changes."""
        return [self.look.start, self.look.stop, self.answer, self.beside, self.state, self.view]


def build(playground: Playground) -> WhatTheyRead:
    """Draw the tab, to be called inside its ``gr.Tab``."""
    with gr.Row(equal_height=True):
        source = gr.Radio(
            [(msg("the prompt above"), FORM), (msg("the answers shown"), SHOWN)],
            value=FORM,
            label=msg("What they read of"),
            elem_id="read-source",
        )
        read = buttons.build(msg("Show what they read"), "read-prompts", aside=True)
    prompts = html(empty_html, elem_id="prompts")
    html(tokens_hint, elem_id="tokens-hint")
    with gr.Row(equal_height=True):
        answer = gr.Dropdown([], label=msg("Answer, token by token"), elem_id="tokens-answer", min_width=220)
        beside = gr.Dropdown(
            [(msg("none"), NO_OTHER)],
            value=NO_OTHER,
            label=msg("Beside it, over the same characters"),
            elem_id="tokens-beside",
            min_width=220,
        )
        look = buttons.build(msg("Look at its tokens"), "look-at-tokens", aside=True)
    state = html("", elem_id="tokens-state")
    return WhatTheyRead(source, read, prompts, answer, beside, look, state, html("", elem_id="token-views"))


def column_choices(
    playground: Playground, tab: WhatTheyRead, shown: Comparison | None, column: int = 0, beside: int = NO_OTHER
) -> Changes:
    """The choices of answers for the comparison that is shown; None where there is none."""
    names = _names(playground, shown) if shown else []
    chosen = column if column < len(names) else None
    choices = [(name, place) for place, name in enumerate(names)]
    return {
        tab.answer: gr.update(choices=choices, value=chosen),
        tab.beside: gr.update(choices=[(msg("none"), NO_OTHER), *choices], value=beside),
    }


class _Reading:
    """Prompts that are being read: a model that is not loaded, or that is busy, may keep their reader waiting."""

    stopped = False

    def stop(self) -> None:
        self.stopped = True


class Events:
    """What the tab does; ``connect`` says when. No visitor's data is kept here: that is the session's."""

    def __init__(self, playground: Playground, tab: WhatTheyRead) -> None:
        self.playground, self.tab = playground, tab
        self.readers, self.lookers = Sessions(), Sessions()

    async def prompts_of_form(
        self, session: str, models: Any, own_parameters: Any, asked: Sequence[Any]
    ) -> AsyncGenerator[Changes]:
        """What the chosen models would read of the form as it stands.

        Args:
            models, own_parameters: The choices, and the columns' own parameters.
            asked: What ``Form.asked`` sent.
        """
        _, request = form.read_asked(asked)
        own = chosen_columns.read_changes(own_parameters)
        found, _ = await asyncio.to_thread(chosen_columns.columns, self.playground, models, own, request)
        most = self.playground.settings.limits.max_models
        pairs = [(column.variant, column.request or request) for column in found[:most]]
        async with aclosing(self._read(session, pairs)) as changes:
            async for change in changes:
                yield change

    async def prompts_of(self, session: str, comparison: Any, column: Any = None) -> AsyncGenerator[Changes]:
        """What the models of a stored comparison read, or one of its columns."""
        stored = await asyncio.to_thread(self._stored, comparison)
        if self.playground.blind(stored.id):
            raise UsageError(msg("A prompt’s format would tell which model it is"), msg("Vote, and look then."))
        places = range(len(stored.runs)) if column is None else [_place(stored, column)]
        pairs = [(stored.runs[place].variant, stored.asked(place)) for place in places]
        async with aclosing(self._read(session, pairs)) as changes:
            async for change in changes:
                yield change

    async def tokens_of(
        self, request: gr.Request, comparison: Any, column: Any, beside: Any = NO_OTHER
    ) -> AsyncGenerator[Changes]:
        """A stored answer token by token, or two of them over the same characters. It waits for its turn of the
        machine, can be stopped, and ends with the page that asked for it.
        """
        tab = self.tab
        stored = await asyncio.to_thread(self._stored, comparison)
        places = [_place(stored, column)]
        if beside not in (None, "", NO_OTHER) and (other := _place(stored, beside)) not in places:
            places.append(other)
        yield {
            **tab.look.busy(msg("Looking…")),
            **column_choices(self.playground, tab, stored, *places),
            tab.state: _state_html(msg("waiting for its turn")),
            tab.view: "",
        }
        views: list[TokenView] = []
        for place in places:
            start = partial(self.playground.token_view, stored, place, owner=visitor(request))
            async with aclosing(jobs.follow(self.lookers, request.session_hash or "", start)) as updates:
                async for update in updates:
                    if update.result is None:
                        yield {tab.state: _progress_html(update.at)}
                    else:
                        views.append(update.result)
        drawn = await asyncio.to_thread(self._drawn, stored, places, views)
        yield {**tab.look.idle(), tab.state: _state_html(msg("Done.")), tab.view: drawn}

    def _drawn(self, stored: Comparison, places: Sequence[int], views: Sequence[TokenView]) -> str:
        labels = panel.labels(self.playground, [run.variant for run in stored.runs])
        if len(views) == 2:
            return tokens.aligned_html(views[0], views[1], (labels[places[0]], labels[places[1]]))
        return tokens.view_html(views[0], labels[places[0]])

    async def _read(self, session: str, pairs: Sequence[tuple[Variant, Request]]) -> AsyncGenerator[Changes]:
        """Each prompt is shown when it is known; what one model says of it doesn't keep the others from theirs."""
        tab, reading = self.tab, _Reading()
        labels = panel.labels(self.playground, [variant for variant, _ in pairs])
        pieces = [_said_html(label, msg("loading and reading…")) for label in labels]
        self.readers.add(session, reading, self.readers.begin(session))
        try:
            yield {**tab.read.busy(msg("Reading…")), tab.prompts: "".join(pieces)}
            for number, (variant, request) in enumerate(pairs):
                work = asyncio.ensure_future(asyncio.to_thread(self._prompt, variant, request, labels[number]))
                try:
                    while not work.done() and not reading.stopped:
                        await asyncio.wait({work}, timeout=jobs.POLL_S)
                        yield {tab.prompts: gr.skip()}
                finally:
                    work.cancel()  # for nobody, if it still waits for a thread
                if reading.stopped:
                    pieces[number:] = [_said_html(label, msg("stopped by you")) for label in labels[number:]]
                    break
                pieces[number] = work.result()
                yield {tab.prompts: "".join(pieces)}
            yield {**tab.read.idle(), tab.prompts: "".join(pieces)}
        finally:
            self.readers.remove(session, reading)

    def _prompt(self, variant: Variant, request: Request, label: panel.Label) -> str:
        try:
            if self.playground.preparation(variant).status != "ready":
                return _said_html(
                    label, msg("Not prepared yet: its format comes with its files. Run it once, then look again.")
                )
            return prompt.prompt_html(self.playground.inspect(str(variant), request), label)
        except PlaygroundError as error:
            return _problem_html(label, error.message)

    def _stored(self, comparison: Any) -> Comparison:
        """
        Raises:
            UsageError: There is none of that id.
        """
        found = self.playground.comparison(comparison) if isinstance(comparison, str) and comparison else None
        if found is None:
            raise UsageError(
                msg("No answers are shown yet"), msg("Run a comparison, or open one of the history, then look again.")
            )
        return found


def connect(playground: Playground, tab: WhatTheyRead, chosen: Form, comparison: gr.Textbox, demo: Blocks) -> Events:
    """Say what the buttons of this tab do.

    Args:
        chosen: The form: what it holds is shown where no comparison is.
        comparison: A hidden box with the id of the comparison that is shown; empty where there is none.

    Returns:
        What the page calls for ``read`` and ``tokens`` of a column: ``prompts_of`` and ``tokens_of``. They raise
        ``PlaygroundError``; ``Buttons.told`` says it in place.
    """
    events = Events(playground, tab)

    async def read(
        request: gr.Request, source: Any, shown: Any, models: Any, own: Any, *asked: Any
    ) -> AsyncGenerator[Changes]:
        session = request.session_hash or ""
        of_form = source != SHOWN
        work = events.prompts_of_form(session, models, own, asked) if of_form else events.prompts_of(session, shown)
        async with aclosing(tab.read.told(work, tab.prompts)) as changes:
            async for change in changes:
                yield change

    async def look(request: gr.Request, shown: Any, column: Any, beside: Any) -> AsyncGenerator[Changes]:
        work = events.tokens_of(request, shown, column, beside)
        async with aclosing(tab.look.told(work, tab.state)) as changes:
            async for change in changes:
                yield change

    def list_columns(shown: Any) -> Changes:
        try:
            return column_choices(playground, tab, events._stored(shown))
        except PlaygroundError:
            return column_choices(playground, tab, None)

    limit: dict[str, Any] = {"concurrency_limit": playground.settings.limits.max_sessions, "preprocess": False}
    tab.read.start.click(
        read,
        [tab.source, comparison, chosen.models, chosen.changes, *chosen.asked],
        tab.reading,
        trigger_mode="once",
        concurrency_id="read",
        **limit,
        **QUIET,
    )
    tab.look.start.click(
        look,
        [comparison, tab.answer, tab.beside],
        tab.looking,
        trigger_mode="once",
        concurrency_id="tokens",
        **limit,
        **QUIET,
    )
    comparison.change(list_columns, [comparison], [tab.answer, tab.beside], queue=False, **QUIET)
    tab.read.connect(events.readers, demo)
    tab.look.connect(events.lookers, demo)
    return events


def _place(stored: Comparison, column: Any) -> int:
    """
    Raises:
        UsageError: There is no such column.
    """
    try:
        place = int(column)
    except (TypeError, ValueError):
        raise UsageError(msg("No answer is chosen"), msg("Choose one of the list.")) from None
    if not 0 <= place < len(stored.runs):
        raise UsageError(msg("The comparison has no column {number}", number=place + 1), msg("Choose one of the list."))
    return place


def _names(playground: Playground, stored: Comparison) -> list[str]:
    labels = panel.labels(playground, [run.variant for run in stored.runs])
    return [f"{number}. {label.name} · {label.tail}" for number, label in enumerate(labels, start=1)]


def _state_html(words: Translatable) -> str:
    return f'<p class="hint">{esc(words)}</p>'


def _progress_html(at: Snapshot) -> str:
    if at.progress is None:
        return _state_html(at.step)
    return (
        f'<p class="hint">{esc(at.step)} · {percent(at.progress)}</p><span class="progress" aria-hidden="true">'
        f'<span style="width:{at.progress * 100:.0f}%"></span></span>'
    )


def _head_html(label: panel.Label) -> str:
    return (
        f'<header class="series-{label.position}"><h3><i class="swatch"></i>{esc(label.name)} '
        f"<code>{esc(str(label.variant))}</code></h3></header>"
    )


def _said_html(label: panel.Label, words: Translatable) -> str:
    return f'<section class="prompt-view">{_head_html(label)}<p class="hint">{esc(words)}</p></section>'


def _problem_html(label: panel.Label, words: Translatable) -> str:
    return f'<section class="prompt-view">{_head_html(label)}{buttons.problem_html(words)}</section>'
