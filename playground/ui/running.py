"""From Run to the last figure: starts a comparison, shows how it goes on, stops it. A usage error is said in place and
loses nothing.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import gradio as gr

from playground.errors import PlaygroundError, StorageError, UsageError
from playground.messages import Translatable, msg, plural
from playground.records import Comparison, Mode, Request, Variant
from playground.ui import jobs, offered
from playground.ui.html import asked as view
from playground.ui.html import panel
from playground.ui.sessions import Sessions
from playground.ui.tabs import form, history, outputs, timings
from playground.ui.tabs.compare import Compare
from playground.ui.tabs.form import notice_html

if TYPE_CHECKING:
    from playground.service import Playground
    from playground.ui.tabs.history import History

Changes = dict[Any, Any]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parts:
    """The components that it changes: the page's tabs, those of Compare, the history, and whether anything ran yet."""

    tabs: gr.Tabs
    compare: Compare
    kept: History
    ran: gr.Textbox


class Running:
    """What Run, Stop and their kin do to the components of Compare. No visitor's data is kept here."""

    def __init__(self, playground: Playground, sessions: Sessions, parts: Parts) -> None:
        self.playground = playground
        self.sessions = sessions
        self.tabs, self.compare, self.kept, self.ran = parts.tabs, parts.compare, parts.kept, parts.ran

    @property
    def outputs(self) -> list[Any]:
        """The components that change."""
        shown = self.compare
        return [
            *(self.tabs, shown.tabs, shown.form.run, shown.form.stop, shown.form.notice, shown.form.examples),
            *(shown.asked, shown.timings, self.ran, self.kept.ids, *shown.panels),
        ]

    async def run(self, request: gr.Request, kept: Any, *values: Any) -> AsyncIterator[Changes]:
        """Run the prompt; yields the panels as they grow."""
        try:
            chosen, mode, asked = form.read_request(values, len(self.compare.form.choices))
            variants = tuple(offered.variants(self.playground, chosen))
            if not variants:
                raise UsageError(msg("No model is chosen"), msg("Choose at least one above."))
            async with aclosing(self._run(kept, request.session_hash or "", asked, variants, mode)) as updates:
                async for update in updates:
                    yield update
        except PlaygroundError as error:
            yield {**self._idle(), **self._told(error.message, "problem")}
        except Exception:
            log.exception("The comparison broke off")
            words = msg("Something broke in the app itself; its log says what. Your prompt is still here: try again.")
            yield {**self._idle(), **self._told(words, "problem")}

    async def _run(
        self, kept: Any, session: str, asked: Request, variants: tuple[Variant, ...], mode: Mode
    ) -> AsyncGenerator[Changes]:
        labels = panel.labels(self.playground, variants)
        begun = False
        shown = self.compare
        start = partial(self.playground.compare, asked, variants, mode)
        async with aclosing(jobs.follow(self.sessions, session, start)) as steps:
            async for step in steps:
                if not begun:
                    begun = True
                    yield {
                        **outputs.waiting(shown.panels, labels),
                        **self._busy(),
                        shown.asked: view.asked_html(asked, mode),
                    }
                update = outputs.growing(shown.panels, step.at.lives, labels)
                if step.result is None:
                    yield {**update, **self._told(running_words(step, mode))}
                    continue
                problem = await jobs.keep(partial(self.playground.keep, step.result))
                yield {
                    **outputs.finished(shown.panels, step.result, labels),
                    **self._idle(),
                    **(self._told(_not_stored(problem), "problem") if problem else self._told(done_words(step.result))),
                    shown.timings: timings.figures(step.result, labels, self.playground.tiers),
                    self.kept.ids: gr.skip() if problem else history.added(kept, step.result),
                }

    def _busy(self) -> Changes:
        shown = self.compare
        return {
            self.tabs: gr.update(selected="compare"),
            **shown.show("outputs"),
            shown.form.run: gr.update(visible="hidden"),
            shown.form.stop: gr.update(visible=True, interactive=True, value=msg("Stop")),
            shown.form.examples: gr.update(visible=False),
            shown.timings: timings.busy_html(),
            self.ran: "yes",
        }

    def _idle(self) -> Changes:
        shown = self.compare.form
        return {shown.run: gr.update(visible=True), shown.stop: gr.update(visible="hidden")}

    def _told(self, text: str, kind: str = "hint") -> Changes:
        return {self.compare.form.notice: notice_html(text, kind)}

    def stop(self, request: gr.Request) -> Any:
        """Stop this tab's comparison; ``run`` then sees it end and shows what there is."""
        self.sessions.stop(request.session_hash or "")
        return gr.update(interactive=False, value=msg("Stopping…"))


def _not_stored(error: StorageError) -> Translatable:
    return msg("The result is on this page only, it was not stored: {error}", error=error.message)


def running_words(step: jobs.Update[Comparison], mode: Mode) -> Translatable:
    """How far it is."""
    done, n = sum(live.run is not None for live in step.at.lives), len(step.at.lives)
    if mode == "fast":
        return plural(
            "Running all at once: {done} of {n} model done.",
            "Running all at once: {done} of {n} models done.",
            n=n,
            done=done,
        )
    return plural(
        "Running one at a time: {done} of {n} model done.",
        "Running one at a time: {done} of {n} models done.",
        n=n,
        done=done,
    )


def done_words(comparison: Comparison) -> Translatable:
    """How it ended: stopped, with failures, or well."""
    failed = [run for run in comparison.runs if run.error]
    stopped = [run for run in comparison.runs if run.finish_reason == "stopped"]
    if stopped:
        return plural("Stopped; {n} answer is cut short.", "Stopped; {n} answers are cut short.", n=len(stopped))
    if failed:
        return plural(
            "Done; {n} model failed, and its column says why.",
            "Done; {n} models failed, and their columns say why.",
            n=len(failed),
        )
    return msg("Done. The figures are in Timings.")
