"""Starting a suite: what is asked of which column, checked whole before any work.

How a suite is run, ``suite_job`` knows; how its file is read and its answers judged, ``playground.suites``.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime

from playground.errors import BadRequest, UsageError
from playground.experiments.admission import check_request
from playground.experiments.base import Machine
from playground.experiments.suite_job import SuiteJob
from playground.experiments.suite_plan import SuitePlan
from playground.messages import msg
from playground.records import Column, Request, SuiteRun
from playground.results.suites import Suites, asked
from playground.system.environment import environment
from playground.system.file_lock import FileLock

MAX_REPEATS = 100
MOST_COLUMNS = 100


class SuiteRunner:
    """Starts suites, and goes on with them; those that share a machine share it through its queue."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def plan(self, plan: SuitePlan, columns: Sequence[Column], *, repeats: int = 1, file: str = "") -> SuiteRun:
        """A suite that may be started, checked whole before any work.

        Args:
            columns: Each with the request that the rows' prompts are put into.
            repeats: Samples of each cell.
            file: The suite as it was written.

        Raises:
            UsageError: A row, a column or the number of repeats is wrong; names the place.
        """
        if isinstance(repeats, bool) or not 1 <= repeats <= MAX_REPEATS:
            raise UsageError(
                msg("{repeats} repeats are asked for", repeats=repeats),
                msg("Choose from 1 to {most}.", most=MAX_REPEATS),
            )
        found = self._check_columns(columns)
        suite = plan.suite
        if suite.needs_cost and plan.price_per_hour is None:
            raise UsageError(
                msg("A check asks what an answer costs, and nobody said what an hour of this machine costs"),
                msg("Give its price in US dollars (--price-per-hour), or take the check out."),
            )
        if repeats < suite.samples:
            raise UsageError(
                msg("A check compares {n} answers to one prompt, and each is asked {repeats} times", n=suite.samples,
                    repeats=repeats),
                msg("Ask for {n} repeats (--repeat {n}), or take the check out.", n=suite.samples),
            )  # fmt: skip
        if not suite.rows:
            raise UsageError(msg("The suite has no prompt"), msg("Write at least one."))
        created_at = datetime.now(UTC)
        run = SuiteRun(
            id=f"{created_at:%Y%m%d-%H%M%S}-{secrets.token_hex(16)}",
            created_at=created_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            name=suite.name,
            rows=suite.rows,
            columns=tuple(found),
            environment=environment(),
            repeats=repeats,
            file=file,
        )
        self._check_requests(run)
        return run

    def start(
        self, run: SuiteRun, plan: SuitePlan, *, suites: Suites, claim: FileLock, fail_fast: bool = False
    ) -> SuiteJob:
        """Run what is not there yet of a suite that is kept, in the background.

        Args:
            plan: What ``run`` was made of.
            claim: Held; the job gives it back when it ends.
            fail_fast: Pause at the first answer that fails or is not passed.
        """
        job = SuiteJob(self._machine, run, plan, suites=suites, claim=claim, fail_fast=fail_fast)
        self._machine.begin(job)
        return job

    def _check_columns(self, columns: Sequence[Column]) -> list[Column]:
        if not columns:
            raise UsageError(msg("No model is chosen"), msg("Choose at least one."))
        most = self._machine.settings.limits.max_models if self._machine.settings.strangers else MOST_COLUMNS
        if len(columns) > most:
            raise UsageError(
                msg("{n} columns are too many for one suite", n=len(columns)),
                msg("Choose at most {most}.", most=most),
            )
        found: list[Column] = []
        for column in columns:
            _, variant = self._machine.catalog.resolve(str(column.variant))
            whole = Column(variant, column.request or Request())
            if whole in found:
                raise UsageError(
                    msg("{variant} is chosen twice", variant=variant),
                    msg("Choose it once, or with other parameters the second time."),
                )
            if whole.request and whole.request.reuse and self._machine.settings.strangers:
                raise UsageError(
                    msg("Visitors share the models here: what one skips would tell what another has asked"),
                    msg("Ask without reuse, or run the playground on your own machine."),
                )
            found.append(whole)
        return found

    def _check_requests(self, run: SuiteRun) -> None:
        """Every column's parameters with the first prompt, and every prompt with the first column's parameters."""
        limits = self._machine.settings.limits
        for row, column in [(0, column) for column in range(len(run.columns))] + [
            (row, 0) for row in range(1, len(run.rows))
        ]:
            try:
                check_request(asked(run, row, column), limits)
            except BadRequest as error:
                place = run.rows[row].place or run.rows[row].id
                where = msg("{model}, {row}", model=run.columns[column].variant, row=place) if not row else None
                raise BadRequest(
                    msg("{place}: {problem}", place=where or place, problem=error.what), error.next_step
                ) from error
