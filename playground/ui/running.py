"""What goes on in Compare: begins comparisons, shows by their id how they go on, stops them.

A comparison belongs to nobody's page: it goes on when its page is left, and whoever comes back watches it again. A page
shows one at a time. While it goes on, ``watching`` sends the page what grows, and scripts/watch.js asks for the rest by
an action when it has ended; the events here begin it and end it. A usage error is said in place and loses nothing.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import gradio as gr

from playground.errors import PlaygroundError, UsageError
from playground.experiments.blind import BlindJob
from playground.messages import NOTHING, Translatable, msg, plural, sentences
from playground.records import Comparison
from playground.system.reserve import is_shortage, out_of_memory, spend
from playground.ui import columns, jobs
from playground.ui.failures import line_of
from playground.ui.front import Front
from playground.ui.html import asked as view
from playground.ui.html import panel, receipts
from playground.ui.html.format import esc
from playground.ui.pages import Pages
from playground.ui.sessions import Sessions
from playground.ui.tabs import form, outputs, reply, timings, votes
from playground.ui.tabs.compare import Compare
from playground.ui.tabs.form import notice_html
from playground.ui.visitors import visitor
from playground.ui.watching import running_words

if TYPE_CHECKING:
    from playground.experiments.compare import CompareJob
    from playground.service import Playground

Changes = dict[Any, Any]
QUEUE = "compare"
"""The line of gradio's queue that Run and its kin wait in."""
KEPT = 64
"""Comparisons begun here whose ends a page may still ask for, although they could not be stored."""
TOGETHER = 2
"""Finished panels that a page draws at once without standing still."""
PORTION_S = 0.03
"""Between two panels that are finished: the page draws one of them in the meantime, and stays at hand."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parts:
    """The components that it changes.

    Attributes:
        front: Which tabs are at the front.
        shown: Out of sight: the id of the comparison on show.
        watching: Out of sight: the id of the one that goes on, and a number; empty where none does.
        ended: Out of sight: changes whenever a comparison of this page has ended, so that lists look again.
    """

    front: Front
    compare: Compare
    shown: gr.Textbox
    watching: gr.Textbox
    ended: gr.Textbox


@dataclass(frozen=True)
class _Begun:
    """A comparison that was begun here, and what is to be said of models that do not take part."""

    job: CompareJob | BlindJob
    problem: Translatable


class Running:
    """What Run, Stop and their kin do to the components of Compare."""

    def __init__(self, playground: Playground, parts: Parts) -> None:
        self.playground = playground
        self.parts = parts
        self.compare = parts.compare
        self.pages: Pages | None = None
        self._beginning = Sessions()
        self._begun: OrderedDict[str, _Begun] = OrderedDict()
        self._count = itertools.count(1)

    @property
    def outputs(self) -> list[Any]:
        """The components that change."""
        shown, form_, reply_ = self.compare, self.compare.form, self.compare.reply
        return [
            *(self.parts.front.box, self.parts.shown, self.parts.watching, self.parts.ended),
            *(shown.asked, shown.timings),
            *(form_.run, form_.stop, form_.notice, form_.examples, form_.models, form_.changes),
            *(reply_.row, reply_.text, reply_.to, reply_.told, shown.files, shown.voting.bar, *shown.panels),
        ]

    # -- what begins ----------------------------------------------------------------------------------------------

    async def run(self, request: gr.Request, *values: Any) -> AsyncIterator[Changes]:
        """Run the prompt with what is chosen."""
        async with aclosing(self.told(self._run(request, values))) as changes:
            async for change in changes:
                yield change

    async def _run(self, request: gr.Request, values: tuple[Any, ...]) -> AsyncGenerator[Changes]:
        chosen, changed, blind, *rest = values
        mode, asked = form.read_asked(rest)
        found, problem = columns.columns(self.playground, chosen or [], columns.read_changes(changed), asked)
        begin = self.playground.compare_blind if blind is True else self.playground.compare
        start = partial(begin, asked, found, mode, owner=visitor(request))
        async with aclosing(self.begun(request, start, problem)) as steps:
            async for step in steps:
                yield step

    async def send(self, request: gr.Request, shown: str, text: str, to: str) -> AsyncIterator[Changes]:
        """Reply to what is on show."""
        async with aclosing(self.told(self._send(request, shown, text, to))) as changes:
            async for change in changes:
                yield change

    async def _send(self, request: gr.Request, shown: str, text: str, to: str) -> AsyncGenerator[Changes]:
        stored = await self.own(shown, request)
        if not (text or "").strip():
            raise UsageError(msg("The reply is empty"), msg("Write what the models should answer."))
        target, owner = reply.target(to), visitor(request)
        if target.turn is None:
            start = partial(self.playground.reply, stored, text, target.columns, owner=owner)
        else:
            start = partial(self.playground.resend, stored, target.turn, text, target.columns, owner=owner)
        async with aclosing(self.begun(request, start)) as steps:
            async for step in steps:
                yield {**step, **self._emptied()} if self.parts.shown in step else step

    def _emptied(self) -> Changes:
        return reply.aimed(self.compare.reply, reply.Target(), "", "")

    async def begun(
        self, request: gr.Request, start: Callable[[], CompareJob | BlindJob], problem: Translatable = NOTHING
    ) -> AsyncGenerator[Changes]:
        """Begin a comparison and show how it goes on.

        Args:
            problem: What is to be said of models that do not take part.

        Raises:
            UsageError: It can't be begun.
        """
        session = request.session_hash or ""
        stops = self._beginning.begin(session)
        job = await asyncio.to_thread(start)
        self._beginning.add(session, job, stops)  # stopped at once where Stop was pressed meanwhile
        self._beginning.remove(session, job)
        self._begun[job.id] = _Begun(job, problem)
        if len(self._begun) > KEPT:
            self._begun.popitem(last=False)
        yield {**self._busy(), **self._going_on(request, job, problem)}

    # -- what is on show ------------------------------------------------------------------------------------------

    async def show(self, request: gr.Request, id: str, *, note: str = "") -> AsyncGenerator[Changes]:
        """Show a comparison by its id: watch it while it goes on, or draw what was stored.

        Args:
            note: A remark that stands with what was asked, as HTML.

        Raises:
            UsageError: There is none.
        """
        job = self.playground.running(id)
        if job:
            yield {**self._busy(), **self._going_on(request, job)}
            return
        stored = await asyncio.to_thread(self.playground.comparison, id)
        if stored is None:
            raise jobs.unknown()
        panels = outputs.waiting(self.compare.panels, self._labels(stored))
        for panel_, drawn in self._finished(stored):
            panels[panel_] = gr.update(value=drawn, visible=True)
        yield {
            **panels,
            **self.ended(stored, request, note=note),
            self.compare.form.notice: notice_html(),
            self.parts.shown: id,
            self.parts.watching: "",
        }

    def _going_on(self, request: gr.Request, job: CompareJob | BlindJob, problem: Translatable = NOTHING) -> Changes:
        """Columns that wait for their answers, which the page is sent from now on."""
        shown = self.compare
        at = job.snapshot()
        labels = panel.labels(self.playground, [live.variant for live in at.lives])
        blind = isinstance(job, BlindJob)
        own = () if isinstance(job, BlindJob) else job.own_requests
        words = sentences(running_words(at, job.mode, blind=blind), problem)
        return {
            **outputs.waiting(shown.panels, labels),
            shown.asked: view.asked_html(job.request, job.mode, own=own),
            shown.voting.bar: self._bar(job.id, request),
            shown.form.notice: notice_html(words),
            self.parts.shown: job.id,
            self.parts.watching: f"{job.id} {next(self._count)}",
        }

    async def over(self, request: gr.Request, text: str, shown: str) -> AsyncIterator[Changes]:
        """What the page shows of a comparison that it has watched to its end.

        Args:
            text: Its id, and a number.
            shown: The id of the comparison on show; a page that shows another by now changes nothing.
        """
        id = str(text or "").partition(" ")[0]
        if not id or id != shown:
            yield self.same()
            return
        async with aclosing(self.told(self._over(request, id))) as changes:
            async for change in changes:
                yield change

    async def _over(self, request: gr.Request, id: str) -> AsyncGenerator[Changes]:
        """The finished panels, several of them one after the other, then what is around them.

        Raises:
            UsageError: There is no such comparison.
        """
        begun = self._begun.pop(id, None)
        if self.playground.running(id):
            yield {self.parts.watching: f"{id} {next(self._count)}"}
            return
        stored = await asyncio.to_thread(self.playground.comparison, id)
        not_stored = begun.job.snapshot().problem if begun else NOTHING
        if stored is None and begun:
            stored = await asyncio.to_thread(begun.job.result)
        if stored is None:
            raise jobs.unknown()
        told = self._told(stored, not_stored, begun.problem if begun else NOTHING)
        drawn = self._finished(stored)
        for panel_, html in drawn[TOGETHER:]:
            # Without a word on whether they are seen: gradio loses that of an update when the next comes at once.
            yield {panel_: html}
            await asyncio.sleep(PORTION_S)
        yield {
            **dict(drawn[:TOGETHER]),
            **self.ended(stored, request),
            **told,
            self.parts.watching: "",
            self.parts.ended: id,
        }

    def _told(self, stored: Comparison, not_stored: Translatable, problem: Translatable) -> Changes:
        kept = _not_stored(not_stored) if not_stored else NOTHING
        blind = self.playground.blind(stored.id)
        done = msg("Done. Vote below, and you see who is who.") if blind else done_words(stored)
        words = sentences(done, kept, problem)
        return {self.compare.form.notice: notice_html(words, "problem" if kept or problem else "hint")}

    def whole(self, stored: Comparison, request: gr.Request) -> Changes:
        """All that the page shows of a comparison that has ended."""
        panels = {panel_: gr.update(value=drawn) for panel_, drawn in self._finished(stored)}
        # What the line above said of a vote that was still to come is done with.
        return {**panels, **self.ended(stored, request), self.compare.form.notice: notice_html(done_words(stored))}

    def _finished(self, stored: Comparison) -> list[tuple[gr.HTML, str]]:
        blind = self.playground.blind(stored.id)
        return outputs.finished(self.compare.panels, stored, self._labels(stored), blind=blind)

    def _bar(self, id: str, request: gr.Request) -> str:
        """The question of a blind comparison, or the vote on it."""
        return votes.bar(self.playground, self.playground.comparison(id), visitor(request))

    def _labels(self, stored: Comparison) -> tuple[panel.Label, ...]:
        return panel.labels(self.playground, [run.variant for run in stored.runs])

    def ended(self, stored: Comparison, request: gr.Request, *, note: str = "") -> Changes:
        """What the page shows around the answers of a comparison that has ended."""
        shown, labels = self.compare, self._labels(stored)
        blind = self.playground.blind(stored.id)
        figures = timings.blind_html() if blind else timings.figures(stored, labels, self.playground.tiers)
        return {
            **self.idle(),
            shown.asked: view.asked_html(
                stored.request, stored.mode, note=note, own=[run.request for run in stored.runs]
            ),
            shown.timings: figures,
            shown.files: "" if blind else files_html(stored.id),
            shown.voting.bar: self._bar(stored.id, request),
            shown.form.examples: gr.update(visible=False),
            shown.reply.row: gr.update(visible=not blind),
        }

    def _busy(self) -> Changes:
        shown = self.compare
        return {
            **self.parts.front.show("compare", "outputs"),
            shown.form.run: gr.update(visible="hidden"),
            shown.form.stop: gr.update(visible=True, interactive=True, value=msg("Stop")),
            shown.form.examples: gr.update(visible=False),
            shown.timings: timings.busy_html(),
            shown.reply.row: gr.update(visible=False),
        }

    def idle(self) -> Changes:
        """Nothing goes on here: Run instead of Stop."""
        shown = self.compare.form
        return {shown.run: gr.update(visible=True), shown.stop: gr.update(visible="hidden")}

    # -- what else ------------------------------------------------------------------------------------------------

    async def stop(self, request: gr.Request, shown: str) -> Any:
        """Stop what is on show, if it is this visitor's, and what this page asked for that has not begun; whoever
        watches it sees it end.
        """
        session = request.session_hash or ""
        self._beginning.stop(session)
        if self.pages:
            await self.pages.drop(session, QUEUE)
        with suppress(UsageError):  # somebody else's goes on
            jobs.stop(self.playground, shown or "", visitor(request))
        return gr.update(interactive=False, value=msg("Stopping…"))

    async def own(self, shown: str, request: gr.Request) -> Comparison:
        """The comparison on show, if this visitor may go on from it.

        Raises:
            UsageError: There is none, it goes on still, or it is somebody else's.
        """
        if self.playground.running(shown or ""):
            raise UsageError(msg("The models are still answering"), msg("Wait for the end, or press Stop."))
        stored = await asyncio.to_thread(self.playground.comparison, shown) if shown else None
        if stored is None:
            raise UsageError(msg("There is nothing to go on from"), msg("Run a prompt first."))
        if not self.playground.owns(shown, visitor(request)):
            raise UsageError(
                msg("This comparison is somebody else's, to read only"),
                msg("Run its prompt yourself to go on from it."),
            )
        if self.playground.blind(shown):
            raise awaited()
        return stored

    def same(self) -> Changes:
        """Nothing changes; gradio refuses an empty answer."""
        return {self.parts.shown: gr.skip()}

    async def told(self, work: AsyncGenerator[Changes]) -> AsyncGenerator[Changes]:
        """What ``work`` yields; what it raises is said above the answers, which stay."""
        notice = self.compare.form.notice
        try:
            async with aclosing(work) as steps:
                async for changes in steps:
                    yield changes or self.same()
        except PlaygroundError as error:
            yield {**self.idle(), notice: notice_html(error.message, "problem")}
        except Exception as error:  # also of whoever sends what no page does
            if is_shortage(error):
                spend()
                yield {**self.idle(), notice: notice_html(out_of_memory().message, "problem")}
                return
            log.error("The comparison broke off: %s", line_of(error))
            words = msg("Something broke in the app itself; its log says what. Your prompt is still here: try again.")
            yield {**self.idle(), notice: notice_html(words, "problem")}


def awaited() -> UsageError:
    """What is said of answers whose columns are letters still."""
    return UsageError(msg("These answers wait for your vote"), msg("Vote, and go on from there."))


def _not_stored(why: Translatable) -> Translatable:
    return msg("The result is on this page only, it was not stored: {error}", error=why)


def files_html(id: str) -> str:
    """The address of a comparison, and its files."""
    link = f'<a href="?c={quote(id)}" data-link="{esc(msg("Copied"))}">{esc(msg("Link"))}</a>'
    return f'<div class="tools">{link}{receipts.save_menu_html(id)}</div>'


def done_words(comparison: Comparison) -> Translatable:
    """How it ended: stopped, with failures, or well."""
    fresh = [run for run in comparison.runs if not run.taken_in]
    failed = [run for run in fresh if run.error]
    stopped = [run for run in fresh if run.finish_reason == "stopped"]
    if stopped:
        return plural("Stopped; {n} answer is cut short.", "Stopped; {n} answers are cut short.", n=len(stopped))
    if failed:
        return plural(
            "Done; {n} model failed, and its column says why.",
            "Done; {n} models failed, and their columns say why.",
            n=len(failed),
        )
    return msg("Done. The figures are in Timings.")
