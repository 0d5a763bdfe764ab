"""Suites: begun, paused, gone on with, found again by their id, and what their cells come to.

It knows which suites there are, who began them and which of them run here; it knows nothing of how a suite is run, how
its file is read, or where its cells lie.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TextIO

from playground.catalog.entries import Catalog
from playground.config.settings import Settings
from playground.errors import UsageError
from playground.experiments.suite import SuiteRunner
from playground.experiments.suite_job import SuiteJob
from playground.experiments.suite_plan import SuitePlan
from playground.messages import msg
from playground.records import Cell, Column, Request, SuiteRun, as_id
from playground.results.export_files import Say
from playground.results.suite_export import SuiteDocument, write
from playground.results.suite_summary import Outcomes, Regression, SuiteSummary, Tally, outcomes, regression
from playground.results.suites import PART, CellPart, Order, SuiteEntry, Suites
from playground.service.audience import Admitting
from playground.suites.reading import read_suite, read_suite_file
from playground.suites.suite import Suite
from playground.system.file_lock import FileLock

UNFINISHED_EACH = 1
END_WAIT_S = 3.0
TALLIES = 8
"""Suites whose cells are counted on from where they were counted last."""


@dataclass(frozen=True)
class SuitesGoingOn:
    """The suites that run in this process, by id, each with its owner; and what was counted of some of all."""

    jobs: dict[str, tuple[SuiteJob, str]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    beginning: threading.Lock = field(default_factory=threading.Lock)
    tallies: OrderedDict[str, tuple[Tally, int]] = field(default_factory=OrderedDict)
    counting: threading.Lock = field(default_factory=threading.Lock)


class Suiting(Admitting):
    """A part of ``Playground``: suites. All raise StorageError if the file can't be read, or written."""

    settings: Settings
    catalog: Catalog
    suite_runner: SuiteRunner
    suites_kept: Suites
    suites_going_on: SuitesGoingOn

    # -- beginning ------------------------------------------------------------------------------------------------

    def read_suite(self, text: str | bytes, name: str, folder: Path | None = None) -> Suite:
        """A suite's file, checked whole; nothing is run.

        Args:
            name: Its file's name, whose ending says what it is.
            folder: Where files it names lie; None where it may name none.

        Raises:
            UsageError: It is wrong; names the place.
        """
        return read_suite(text, name, folder, strangers=self.settings.strangers)

    def read_suite_file(self, path: Path, prompts: Sequence[str] = ()) -> Suite:
        """As ``read_suite``, of a file on this machine and what it names beside it.

        Args:
            prompts: Templates that each of its rows is put into, instead of its own prompts.
        """
        return read_suite_file(path, prompts=prompts)

    def suite_columns(self, suite: Suite, base: Request | None = None) -> list[Column]:
        """The models that a suite's file names, asked as it says; elsewhere as ``base`` says.

        Raises:
            UsageError: One of them is unknown.
        """
        found = []
        for column in suite.columns:
            try:
                _, variant = self.catalog.resolve(column.model)
            except UsageError as error:
                place = column.place or suite.name
                raise UsageError(msg("{place}: {problem}", place=place, problem=error.what), error.next_step) from error
            found.append(Column(variant, column.request(base or Request())))
        return found

    def begin_suite(
        self,
        suite: Suite,
        columns: Sequence[Column],
        *,
        repeats: int | None = None,
        limit: int | None = None,
        file: str = "",
        owner: str = "",
        price_per_hour: float | None = None,
        fail_fast: bool = False,
    ) -> SuiteJob:
        """Begin a suite. It goes on to its end whoever leaves meanwhile; ``running_suite`` finds it.

        Args:
            columns: Models, each with the request that the rows' prompts are put into.
            repeats: Samples of each cell; None for as many as the file asks for.
            limit: So many of its prompts, the first; None for all.
            file: The suite as it was written.
            owner: The visitor it is kept for.
            price_per_hour: What an hour of this machine costs, in US dollars, where a check asks what an answer costs.
            fail_fast: Pause at the first answer that fails or is not passed.

        Raises:
            UsageError: Something is wrong with it, or the owner has too many going on; no work was begun.
        """
        plan = SuitePlan(suite if limit is None else _first(suite, limit), price_per_hour)
        repeats = max(suite.repeats, suite.samples) if repeats is None else repeats
        run = self.suite_runner.plan(plan, columns, repeats=repeats, file=file)
        with self.suites_going_on.beginning:  # one of two that are pressed at once is too many for a stranger
            self._check_strangers(run, owner)
            claim = self.suites_kept.claim(run.id)
            claim.take()
            try:
                with self.admitted(owner, [each.variant for each in run.columns], _tokens(run)):
                    self.suites_kept.begin(run, plan.without_rows(), owner)
                    return self._start_suite(run, plan, owner, claim, fail_fast=fail_fast)
            except BaseException:
                claim.release()
                raise

    def suite(
        self,
        text: str | bytes,
        name: str,
        models: Sequence[str | Column] = (),
        *,
        request: Request | None = None,
        repeats: int | None = None,
        owner: str = "",
    ) -> SuiteJob:
        """``read_suite`` and ``begin_suite`` in one.

        Args:
            models: Instead of those that the file names.
            request: How models are asked where neither the file nor a column says otherwise.

        Raises:
            UsageError: The file, a model or the number of repeats is wrong; no work was begun.
        """
        read = self.read_suite(text, name)
        columns = [
            each if isinstance(each, Column) else Column(self.catalog.resolve(each)[1], request or Request())
            for each in models
        ] or self.suite_columns(read, request)
        written = text if isinstance(text, str) else text.decode("utf-8", "replace")
        return self.begin_suite(read, columns, repeats=repeats, file=written, owner=owner)

    def resume_suite(self, id: str, owner: str = "", *, retry: bool = False) -> SuiteJob:
        """Go on with a suite that was paused, or whose process ended; what is there is not run again.

        Args:
            retry: Ask again where an answer ended with an error.

        Raises:
            UsageError: There is none of that visitor, it is done, or a process runs it already.
        """
        run = self._mine(id, owner)
        with self.suites_going_on.beginning:
            return self._resume(run, owner, retry=retry)

    def _resume(self, run: SuiteRun, owner: str, *, retry: bool) -> SuiteJob:
        id = run.id
        self._check_strangers(run, owner)
        plan = SuitePlan.from_json(self.suites_kept.plan(id) or {}).with_rows(run)
        claim = self.suites_kept.claim(id)
        if not claim.take():
            raise UsageError(
                msg("The suite {id} is being run already", id=id),
                msg("Look on, or pause it where it was begun: one process runs a suite at a time."),
            )
        try:
            failed = self.suites_kept.forget_failed(id) if retry else 0
            if run.status == "done" and not failed:
                raise UsageError(
                    msg("The suite {id} is done", id=id),
                    msg("Begin a new one with the same file, or ask again for what failed (--retry)."),
                )
            if failed:
                self._count_anew(id)
            with self.admitted(owner, [each.variant for each in run.columns]):
                return self._start_suite(run, plan, self.suites_kept.owner(id) or "", claim)
        except BaseException:
            claim.release()
            raise

    def _start_suite(
        self, run: SuiteRun, plan: SuitePlan, owner: str, claim: FileLock, *, fail_fast: bool = False
    ) -> SuiteJob:
        job = self.suite_runner.start(run, plan, suites=self.suites_kept, claim=claim, fail_fast=fail_fast)
        with self.suites_going_on.lock:
            self.suites_going_on.jobs[job.id] = job, owner
        job.when_done(lambda: self._forget_suite(job.id))
        return job

    def _forget_suite(self, id: str) -> None:
        with self.suites_going_on.lock:
            self.suites_going_on.jobs.pop(id, None)

    def _check_strangers(self, run: SuiteRun, owner: str) -> None:
        """Strangers must not fill the queue, nor the disk."""
        if not self.settings.strangers:
            return
        most = self.settings.limits.max_suite_answers
        if run.cells > most:
            raise UsageError(
                msg("{n:,} answers are too many for one suite here", n=run.cells),
                msg("Take fewer prompts or models, at most {most:,} together; on your own machine there is no limit.",
                    most=most),
            )  # fmt: skip
        with self.suites_going_on.lock:
            owners = [other for _, other in self.suites_going_on.jobs.values()]
        if len(owners) >= self.settings.limits.max_sessions:
            raise UsageError(
                msg("{n} suites of all visitors are going on here already", n=len(owners)),
                msg("Try again in a few minutes."),
            )
        if owners.count(owner) >= UNFINISHED_EACH:
            raise UsageError(msg("A suite of yours is still going on"), msg("Wait for its end, or pause it."))

    # -- while it goes on -----------------------------------------------------------------------------------------

    def running_suite(self, id: str) -> SuiteJob | None:
        """The suite of that id while this process runs it."""
        with self.suites_going_on.lock:
            return self.suites_going_on.jobs.get(as_id(id), (None, ""))[0]

    def pause_suite(self, id: str, owner: str = "", *, at_once: bool = False) -> None:
        """Pause a suite after the answer that is being given; ``at_once`` drops that one, to be asked again.

        Raises:
            UsageError: There is none of that visitor, or another process runs it.
        """
        run = self._mine(id, owner)
        job = self.running_suite(id)
        if job:
            job.stop() if at_once else job.pause()
        elif run.status == "running":
            raise UsageError(
                msg("Another process runs the suite {id}", id=id), msg("Pause it there, with Ctrl-C in a terminal.")
            )

    def delete_suite(self, id: str, owner: str = "") -> None:
        """Delete a suite and its cells for good; one that goes on ends.

        Raises:
            UsageError: There is none of that visitor.
        """
        if self.suites_kept.owner(id) is None or not self.owns_suite(id, owner):  # its header may be damaged
            self._mine(id, owner)
        self.suites_kept.delete(id)
        self._count_anew(id)
        if job := self.running_suite(id):
            job.stop()

    def _wait_for_suites(self) -> None:
        """Give suites that were told to end the time to say in the store that they are paused."""
        with self.suites_going_on.lock:
            jobs = [job for job, _ in self.suites_going_on.jobs.values()]
        for job in jobs:
            job.wait(END_WAIT_S)

    # -- what is kept ---------------------------------------------------------------------------------------------

    def suite_run(self, id: str) -> SuiteRun | None:
        """The header of a suite: whoever knows its id, which nobody can guess, may read it."""
        return self.suites_kept.get(id)

    def owns_suite(self, id: str, owner: str) -> bool:
        """Whether a suite is that visitor's, to pause, go on with or delete it."""
        found = self.suites_kept.owner(id)
        return found is not None and (not self.settings.strangers or (bool(owner) and owner == found))

    def suites(self, owner: str = "", *, limit: int = 50, offset: int = 0) -> list[SuiteEntry]:
        """A visitor's suites, the newest first; on one's own machine everybody's."""
        if self.settings.strangers and not owner:
            return []
        return self.suites_kept.entries(owner if self.settings.strangers else None, limit=limit, offset=offset)

    def suite_cells(self, id: str, after: int = 0, limit: int = PART) -> CellPart:
        """The next finished cells of a suite, in the order in which they were finished; see ``Suites.cells``."""
        return self.suites_kept.cells(id, after, limit)

    def suite_cells_in_order(self, id: str, order: Order = "rows") -> Iterator[Cell]:
        """All finished cells of a suite by their places, a part at a time."""
        return self.suites_kept.in_order(id, order)

    def suite_summary(self, id: str) -> SuiteSummary:
        """What the cells of a suite come to as far as they are there: rates, differences, figures.

        Raises:
            UsageError: There is no such suite.
        """
        with self.suites_going_on.counting:
            return self._tally(id)[0].summary()

    def suite_outcomes(self, id: str) -> Outcomes:
        """What another suite is held against.

        Raises:
            UsageError: There is no such suite.
        """
        with self.suites_going_on.counting:
            tally, run = self._tally(id)
            return outcomes(run, tally)

    def suite_regression(self, id: str, before: Outcomes) -> Regression:
        """What changed in a suite since an earlier one.

        Raises:
            UsageError: There is no such suite.
        """
        return regression(before, self.suite_outcomes(id))

    def export_suite(self, id: str, ending: str, file: TextIO, say: Say = str) -> None:
        """Write a suite as a file of that ending, a part at a time, as whoever asks is told it; see ``SUITE_MEDIA``.

        Raises:
            UsageError: There is no such suite, or no such format.
        """
        document = SuiteDocument(
            self._known(id),
            self.all_told(self.suite_summary(id)),
            lambda order: map(self.all_told, self.suites_kept.in_order(id, order)),
        )
        write(document, ending, file, say)

    def _tally(self, id: str) -> tuple[Tally, SuiteRun]:
        """What was counted, brought up to date; the caller holds ``counting``."""
        run = self._known(id)
        tallies = self.suites_going_on.tallies
        tally, last = tallies.pop(id) if id in tallies else (Tally(run), 0)
        while (part := self.suites_kept.cells(id, last)).cells:
            for cell in part.cells:
                tally.add(cell)
            last = part.last
        tallies[id] = tally, last
        while len(tallies) > TALLIES:
            tallies.popitem(last=False)
        return tally, run

    def _count_anew(self, id: str) -> None:
        with self.suites_going_on.counting:
            self.suites_going_on.tallies.pop(id, None)

    def _known(self, id: str) -> SuiteRun:
        found = self.suites_kept.get(id)
        if found is None:
            raise UsageError(msg("No suite has the id '{id}'", id=id), msg("`playground suite --list` lists them."))
        return found

    def _mine(self, id: str, owner: str) -> SuiteRun:
        """
        Raises:
            UsageError: There is none of that visitor.
        """
        run = self._known(id)
        if not self.owns_suite(id, owner):
            raise UsageError(msg("This suite is not yours"), msg("Load the list again."))
        return run


def _first(suite: Suite, most: int) -> Suite:
    """A suite with so many of its prompts."""
    return replace(
        suite,
        rows=suite.rows[:most],
        checks=suite.checks[:most],
        thresholds=suite.thresholds[:most],
        schemas=suite.schemas[:most],
    )


def _tokens(run: SuiteRun) -> int:
    """How many tokens its answers may have at most."""
    each = sum((column.request or Request()).max_new_tokens for column in run.columns)
    return run.cells // max(1, len(run.columns)) * each
