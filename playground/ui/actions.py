"""What the buttons in the columns do: scripts/actions.js writes into a box out of sight which one was pressed.

What is in it comes from a browser and is not believed: an action is one of a list, a column one of those on show, and
who may change a comparison is asked of the service. It knows the page's components by ``Running`` and ``Form``.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import gradio as gr

from playground.errors import UsageError
from playground.experiments.blind import BlindJob
from playground.messages import msg
from playground.records import Comparison
from playground.ui import columns, offered
from playground.ui.html import panel
from playground.ui.running import Changes, Running, awaited
from playground.ui.tabs import form, reply
from playground.ui.visitors import visitor

if TYPE_CHECKING:
    from playground.service import Playground
    from playground.ui.tabs.catalog import Catalogue
    from playground.ui.tabs.what_they_read import Events, WhatTheyRead

MAX_CHARS = 50_000
_WHOLE = re.compile(r"-?\d{1,11}", re.ASCII)


@dataclass(frozen=True)
class Action:
    """What was pressed.

    Attributes:
        given: All that was sent with it.
    """

    do: str
    column: int | None
    given: dict[str, Any]

    def text(self, name: str, most: int = 20_000) -> str:
        """A text that was sent with it, empty where there is none."""
        value = self.given.get(name)
        # Half a character, which JSON can say, would end the stream of everything the page is told.
        return value[:most].encode("utf-8", "replace").decode() if isinstance(value, str) else ""

    def number(self, name: str) -> int | None:
        """A whole number that was sent with it; data attributes send their text."""
        value = self.given.get(name)
        if isinstance(value, str) and _WHOLE.fullmatch(value):
            return int(value)
        return value if type(value) is int else None


def read(text: Any) -> Action | None:
    """The action in what a browser sent; None where there is none."""
    if not isinstance(text, str) or not text or len(text) > MAX_CHARS:
        return None
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(given, dict) or not isinstance(given.get("do"), str):
        return None
    action = Action("", None, given)
    return Action(action.text("do", 40), action.number("column"), given)


@dataclass(frozen=True)
class Seams:
    """Where actions reach into other tabs.

    Attributes:
        read: What they read, and what it does.
    """

    read: WhatTheyRead
    events: Events


class Actions:
    """Answers each action with what it changes on the page."""

    def __init__(self, playground: Playground, running: Running, catalogue: Catalogue, seams: Seams) -> None:
        self.playground = playground
        self.running = running
        self.catalogue = catalogue
        self.seams = seams
        self.compare = running.compare
        self.own = running.compare.own

    @property
    def outputs(self) -> list[Any]:
        """The components that change."""
        more = [self.compare.form.prompt, *self.own.outputs, self.catalogue.pick]
        return [*self.running.outputs, *more, *self.seams.read.outputs]

    async def act(self, request: gr.Request, text: str, shown: str, *chosen: Any) -> AsyncIterator[Changes]:
        """Do what was pressed.

        Args:
            shown: The id of the comparison on show.
            chosen: The form's choice of models, the columns' own parameters, and the shown prompt.
        """
        action = read(text)
        if action is None:
            yield self.running.same()
            return
        work = self._work(request, action, shown if isinstance(shown, str) else "", chosen)
        async with aclosing(self.running.told(work)) as changes:
            async for change in changes:
                yield change

    async def _work(
        self, request: gr.Request, action: Action, shown: str, chosen: tuple[Any, ...]
    ) -> AsyncGenerator[Changes]:
        known: dict[str, Callable[[], AsyncGenerator[Changes]]] = {
            "again": partial(self._begun, request, action, shown),
            "go-on": partial(self._begun, request, action, shown),
            "stop": partial(self._stop, request, action, shown),
            "reply": partial(self._reply, request, action, shown),
            "reply-all": partial(self._reply_all),
            "resend": partial(self._resend, request, action, shown),
            "remove": partial(self._remove, action, shown, chosen),
            "add-again": partial(self._add_again, action, shown, chosen),
            "parameters": partial(self._parameters, action, shown, chosen),
            "use": partial(self._use, action, chosen),
            "show-model": partial(self._show_model, action),
            "measure": partial(self._measure, shown),
            "open-comparison": partial(self._open, request, action),
        }
        for name in ("read", "tokens"):
            known[name] = partial(self._read, request, action, shown)
        found = known.get(action.do)
        if found is None:
            raise UsageError(msg("The page asks for '{what}', which there is not", what=action.do), msg("Reload it."))
        async with aclosing(found()) as changes:
            async for change in changes:
                yield change

    # -- work ----------------------------------------------------------------------------------------------------

    async def _begun(self, request: gr.Request, action: Action, shown: str) -> AsyncGenerator[Changes]:
        stored = await self.running.own(shown, request)
        column, owner = _column(action, stored), visitor(request)
        if action.do == "again":
            start = partial(self.playground.again, stored, column, owner=owner)
        else:
            at, token = action.number("at"), action.number("token")
            start = partial(self.playground.go_on, stored, column, at=at, token=token, owner=owner)
        async with aclosing(self.running.begun(request, start)) as steps:
            async for step in steps:
                yield step

    async def _stop(self, request: gr.Request, action: Action, shown: str) -> AsyncGenerator[Changes]:
        job = self.playground.running(shown)
        if isinstance(job, BlindJob):
            raise UsageError(msg("Columns of a blind comparison end together"), msg("Stop them all, or wait."))
        if job and action.column is not None and self.playground.owns(job.id, visitor(request)):
            job.stop_column(action.column)
        yield {}

    async def _reply(self, request: gr.Request, action: Action, shown: str) -> AsyncGenerator[Changes]:
        stored = await self.running.own(shown, request)
        column = _column(action, stored)
        why_not = self.playground.cannot_reply(stored.runs[column].variant)
        name = panel.labels(self.playground, [stored.runs[column].variant])[0].name
        if why_not:
            raise UsageError(
                msg("{model} can't be replied to: {reason}", model=name, reason=why_not), msg("Ask another.")
            )
        yield reply.aimed(self.compare.reply, reply.Target((column,)), name)

    async def _reply_all(self) -> AsyncGenerator[Changes]:
        yield reply.aimed(self.compare.reply, reply.Target(), "")

    async def _resend(self, request: gr.Request, action: Action, shown: str) -> AsyncGenerator[Changes]:
        stored = await self.running.own(shown, request)
        column, turn = _column(action, stored), action.number("turn") or 0
        asked = stored.asked(column)
        turns = asked.prompts
        if not 0 <= turn < len(turns):
            raise UsageError(msg("There is no such turn"), msg("Reload the page."))
        yield reply.aimed(self.compare.reply, reply.Target(None, turn), "", turns[turn])

    async def _read(self, request: gr.Request, action: Action, shown: str) -> AsyncGenerator[Changes]:
        """What a column read, or its answer token by token, in the tab for that."""
        yield self.running.parts.front.show("compare", "read")
        column = action.column or 0
        events, part = self.seams.events, self.seams.read
        session = request.session_hash or ""
        if action.do == "read":
            work, buttons, place = events.prompts_of(session, shown, column), part.read, part.prompts
        else:
            work, buttons, place = events.tokens_of(request, shown, column), part.look, part.state
        async with aclosing(buttons.told(work, place)) as changes:
            async for change in changes:
                yield change

    # -- the form ------------------------------------------------------------------------------------------------

    async def _remove(self, action: Action, shown: str, chosen: tuple[Any, ...]) -> AsyncGenerator[Changes]:
        models, changed = offered.names([chosen[0]]), columns.read_changes(chosen[1])
        name = self._choice(action, shown, models)
        changed.pop(name, None)
        left = [model for model in models if model != name]
        panels = self.compare.panels
        hidden = {panels[action.column]: gr.update(visible="hidden")} if action.column is not None and shown else {}
        yield {
            **hidden,
            self.compare.form.models: self._with(left),
            self.compare.form.changes: columns.written(changed),
        }

    async def _add_again(self, action: Action, shown: str, chosen: tuple[Any, ...]) -> AsyncGenerator[Changes]:
        models, changed = offered.names([chosen[0]]), columns.read_changes(chosen[1])
        name = self._choice(action, shown, models)
        if len(models) >= self.playground.settings.limits.max_models:
            raise UsageError(msg("All {n} columns are taken", n=len(models)), msg("Remove one of them first."))
        new = columns.another(models, columns.variant_of(name))
        yield {
            self.compare.form.models: self._with([*models, new]),
            **self.own.opened(self.playground, new, changed, chosen[2:]),
        }

    async def _parameters(self, action: Action, shown: str, chosen: tuple[Any, ...]) -> AsyncGenerator[Changes]:
        models = offered.names([chosen[0]])
        name = self._choice(action, shown, models)
        yield self.own.opened(self.playground, name, columns.read_changes(chosen[1]), chosen[2:])

    async def _use(self, action: Action, chosen: tuple[Any, ...]) -> AsyncGenerator[Changes]:
        """A prompt and models to try: into the form, and no further."""
        form_, changes = self.compare.form, self.running.parts.front.show("compare")
        if prompt := action.text("prompt"):
            changes[form_.prompt] = prompt
        if names := [name for name in action.text("models").split(",") if name]:
            changes[form_.models] = self._with(names)
        yield changes

    async def _open(self, request: gr.Request, action: Action) -> AsyncGenerator[Changes]:
        """Bring a stored comparison into Compare, with its prompt and models in the form."""
        id = action.text("id", 100)
        stored = self.playground.comparison(id)
        filled = self._form_of(stored) if stored else {}
        filled |= self.running.parts.front.show("compare", "outputs")
        async with aclosing(self.running.show(request, id)) as steps:
            async for step in steps:
                yield {**filled, **step}
                filled = {}

    async def _measure(self, shown: str) -> AsyncGenerator[Changes]:
        """Measure with what is on show: its prompt and its models, for as many repeats as Measure proposes."""
        stored = self.playground.comparison(shown) if shown else None
        filled = self._form_of(stored) if stored else {}
        yield {**self.running.parts.front.show("measure"), **filled}

    def _form_of(self, stored: Comparison) -> Changes:
        form_, first = self.compare.form, stored.request.prompts[0]
        if self.playground.blind(stored.id):  # its columns are letters
            return {form_.prompt: first}
        return {
            form_.prompt: first,
            form_.models: self._with(list(columns.choices_of(stored))),
            form_.changes: columns.written(columns.changes_of(stored)),
        }

    async def _show_model(self, action: Action) -> AsyncGenerator[Changes]:
        yield {
            **self.running.parts.front.show("models", "catalogue"),
            self.catalogue.pick: action.text("model", 500),
        }

    def _with(self, names: list[Any]) -> Any:
        return form.with_models(self.playground, names, self.playground.settings.limits.max_models)

    def _choice(self, action: Action, shown: str, models: list[Any]) -> str:
        """The choice of the column that was pressed: of the comparison on show, or before there is one of the form."""
        stored = self.playground.comparison(shown) if shown else None
        if stored and self.playground.blind(stored.id):
            raise awaited()
        names = columns.choices_of(stored) if stored else [str(model) for model in models]
        if action.column is None or not 0 <= action.column < len(names):
            raise UsageError(msg("There is no such column"), msg("Reload the page."))
        return names[action.column]


def _column(action: Action, stored: Comparison) -> int:
    """The column that was pressed.

    Raises:
        UsageError: There is no such column.
    """
    if action.column is None or not 0 <= action.column < len(stored.runs):
        raise UsageError(msg("There is no such column"), msg("Reload the page."))
    return action.column
