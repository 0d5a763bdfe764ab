"""What comes back when a page is opened: the form as it was, and the comparison that was on show, watched again while
it goes on. An address may ask for a comparison or fill the form; nothing here runs a prompt.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import gradio as gr

from playground.errors import PlaygroundError
from playground.messages import msg
from playground.ui import columns, draft, offered
from playground.ui.draft import Draft
from playground.ui.html import panel
from playground.ui.html.format import esc
from playground.ui.running import Changes, Running
from playground.ui.tabs import form, outputs
from playground.ui.visitors import visitor

if TYPE_CHECKING:
    from playground.service import Playground

READ_DRAFT = "() => [window.playground.draft.read()]"
KEEP_DRAFT = "(...values) => { window.playground.draft.keep(values); }"
EMPTY_UNLESS_SHOWN = "(shown, models) => [shown || window.playground.draft.restoring(), models]"
"""A page that is being restored has columns, which it does not know of yet."""
OPENED = "() => { window.playground.draft.opened(); }"


class Restore:
    """Fills the page with what its browser kept."""

    def __init__(self, playground: Playground, running: Running) -> None:
        self.playground = playground
        self.running = running

    @property
    def outputs(self) -> list[Any]:
        """The components that change."""
        mine = self.running.outputs
        return [*mine, *(part for part in self.running.compare.form.asked if part not in mine)]

    def fill(self, text: str) -> Changes:
        """The form as it was, and the tab that was at the front; by the id, what is to be shown."""
        kept = draft.read(text)
        shown = {self.running.parts.shown: kept.shown} if kept.shown else {}
        return {**self.filled(kept), **self._tab(kept), **shown, **self._columns(kept)} or self.running.same()

    async def show(self, request: gr.Request, text: str) -> AsyncIterator[Changes]:
        """Show what was on show, and watch it while it goes on."""
        async with aclosing(self.running.told(self._shown(request, draft.read(text)))) as changes:
            async for change in changes:
                yield change

    async def _shown(self, request: gr.Request, kept: Draft) -> AsyncGenerator[Changes]:
        if not kept.shown:
            yield self.running.same()
            return
        foreign = kept.linked and not self.playground.owns(kept.shown, visitor(request))
        words = msg("Somebody else’s comparison, to read only. Run its prompt yourself to go on from it.")
        note = f'<p class="banner">{esc(words)}</p>' if foreign else ""
        prompt = self._prompt(kept.shown) if kept.linked else {}
        async with aclosing(self.running.show(request, kept.shown, note=note)) as steps:
            async for step in steps:
                yield (
                    {**prompt, **step, **self._tab(kept)}
                    if self.running.parts.front.box in step
                    else {**prompt, **step}
                )

    def _prompt(self, id: str) -> Changes:
        """What a link's comparison was asked, for whoever wants to ask it too."""
        stored = self.playground.comparison(id)
        if stored is None:
            return {}
        return {self.running.compare.form.prompt: stored.request.prompts[0]}

    def filled(self, kept: Draft) -> Changes:
        """The form with what was kept of it."""
        form_ = self.running.compare.form
        changes: Changes = {
            part: gr.update(value=kept.values[name])
            for name, part in zip(draft.FIELDS, form_.asked, strict=True)
            if name in kept.values
        }
        most = self.playground.settings.limits.max_models
        if kept.models:
            names = offered.names([list(kept.models)])
            changes[form_.models] = form.with_models(self.playground, names, most)
        if kept.changes:
            changes[form_.changes] = columns.written(columns.read_changes(kept.changes))
        return changes

    def _columns(self, kept: Draft) -> Changes:
        """As many columns as are to be shown, or as there are models."""
        panels = self.running.compare.panels
        try:
            stored = self.playground.comparison(kept.shown) if kept.shown else None
        except PlaygroundError:
            stored = None
        if stored:
            variants = [run.variant for run in stored.runs]
        elif kept.models:
            variants = offered.known(self.playground, map(columns.variant_of, kept.models))[: len(panels)]
        else:
            return {}
        return outputs.waiting(panels, panel.labels(self.playground, variants))

    def _tab(self, kept: Draft) -> Changes:
        return self.running.parts.front.show(kept.tab) if kept.tab else {}
