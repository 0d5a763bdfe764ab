"""A suite run unattended: every row asked of every column, each cell kept when it is finished, resumed where it was.

**Order.** Column by column, the columns of one model next to each other; rows in their order, or by their texts where
the column asks for reuse; a row's samples one after the other. So each model is loaded once, whatever the memory; what
the rows of one template have in common stands in its cache; and models that are ready are not kept waiting by those
that are still prepared. One cell at a time has the machine, and it is given back between two cells: other people's
comparisons go in between, and preparations that wait get as much time as the suite has taken since.

**Crash.** Nothing is remembered here that is not in the store: after a crash, a restart or a pause, what is there is
skipped, and what had not been finished is asked again. A cell that can't be stored is kept in memory and tried again
with the next; where that goes on, the suite pauses instead of working for nothing.

It knows models and turns; how an answer is judged is a function that it is given, and the screen is not its business.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from playground.catalog.tokenizer_source import tokenizer_words
from playground.errors import PlaygroundError, Stopped
from playground.experiments.base import Job, Machine, failure
from playground.experiments.finishing import completed
from playground.experiments.keeping import CellKeeper
from playground.experiments.memory_plan import plan_of
from playground.experiments.progress import LiveRun, Snapshot
from playground.experiments.suite_lane import Lane, changed_machine, failed, in_order, length, texts
from playground.experiments.suite_plan import SuitePlan
from playground.experiments.suite_progress import ColumnProgress, Counter, State, SuiteProgress, left, where_words
from playground.messages import NOTHING, Translatable, foreign, msg
from playground.records import (
    Artifact,
    Cell,
    CheckResult,
    LoadSpec,
    ModelRun,
    Request,
    SuiteRun,
    Variant,
)
from playground.results.suites import Suites, asked, seeded
from playground.results.thinking import with_thinking_tokens
from playground.system.environment import environment
from playground.system.file_lock import FileLock
from playground.system.reserve import run_all
from playground.workers.expected_memory import refusal

DELETED = msg("The suite was deleted")
NAP_S = 0.05
FAILED_AT_ONCE = 500


class SuiteJob(Job[SuiteRun]):
    """A suite that is being run; made by ``SuiteRunner.start``.

    Its result is the suite as far as it has come: ``done``, or ``paused`` where it was stopped before its end.

    Args:
        plan: What ``run`` was made of; ``suites`` keeps the cells.
        claim: Held; given back at the end.
        fail_fast: Whether it pauses at the first answer that fails or is not passed.

    Attributes:
        notes: What a reader should know of a suite that is gone on with.
        failed_fast: Whether that is why it has paused.
    """

    def __init__(
        self, machine: Machine, run: SuiteRun, plan: SuitePlan, *, suites: Suites, claim: FileLock, fail_fast: bool
    ) -> None:
        super().__init__(machine, msg("The suite"))
        self.id, self.run = run.id, run
        self._plan, self._suite, self._suites, self._claim = plan, plan.suite, suites, claim
        self.notes = () if run.environment == environment() else (changed_machine(run.environment, environment()),)
        self._fail_fast, self.failed_fast, self._pausing = fail_fast, False, threading.Event()
        self._broken: PlaygroundError | None = None
        self._lanes = [
            Lane(
                place,
                column.variant,
                column.request or Request(),
                Counter(ColumnProgress(column.variant, len(run.rows) * run.repeats)),
            )
            for place, column in enumerate(run.columns)
        ]
        self._lives: dict[tuple[int, int, int], LiveRun] = {}
        self._keeping = CellKeeper(suites, run.id)
        self._owed_s = 0.0

    # -- for the caller -----------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Tell it to end after the answers that are being given; ``stop`` ends those too, and they are asked again."""
        self._pausing.set()

    def snapshot(self) -> Snapshot:
        """What is being done, and the answers of this moment."""
        with self._lock:
            return replace(self._at, lives=tuple(self._lives.values()), problem=self._keeping.problem)

    def progress(self) -> SuiteProgress:
        """How far each column has come."""
        with self._lock:
            counters = [lane.counter for lane in self._lanes]
            return SuiteProgress(tuple(counter.picture() for counter in counters), left(counters))

    # -- the work -----------------------------------------------------------------------------------------------

    def _run(self) -> SuiteRun:
        try:
            self._suites.set_status(self.id, "running")
            self._look_around()
            for lane in in_order(self._lanes, self._is_ready):
                if self._ends():
                    break
                self._column(lane)
            if self._broken:
                raise self._broken
            self._keeping.finish(self._ends)
            return self._end()
        finally:
            self._claim.release()

    def _end(self) -> SuiteRun:
        with self._lock:
            is_whole = all(lane.counter.at.done >= lane.counter.at.total for lane in self._lanes)
        finished_at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        run = replace(self.run, status="done" if is_whole else "paused", finished_at=finished_at if is_whole else "")
        if not self._suites.set_status(self.id, run.status, run.finished_at):
            raise Stopped(DELETED)
        return run

    def _ends(self) -> bool:
        return self._stop.is_set() or self._pausing.is_set() or self._broken is not None

    def _waits_in_vain(self) -> bool:
        return self._ends()

    def _look_around(self) -> None:
        """What is there of each column, and what it is expected to take."""
        counts = self._suites.counts(self.id)
        longest = max(range(len(self.run.rows)), key=lambda row: length(self.run.rows[row]))
        requests = [(lane.variant, asked(self.run, longest, lane.place)) for lane in self._lanes]
        budget_mb = self._machine.pool.budget_mb
        planned = {
            model.variant: model
            for model in plan_of(self._machine.catalog, self._machine.preparer, requests, budget_mb).models
        }
        for lane in self._lanes:
            lane.spec = self._machine.catalog.resolve(str(lane.variant))[0]
            known = planned[lane.variant]
            if known.expected_mb is not None and not known.alone:
                lane.refusal = refusal(lane.variant, known.expected_mb, budget_mb)
            with self._lock:
                lane.counter.expected_mb = known.expected_mb
                if lane.place in counts:
                    lane.counter.begin(counts[lane.place])

    def _is_ready(self, lane: Lane) -> bool:
        try:
            return self._machine.preparer.state(lane.variant).artifact is not None
        except Exception:  # its column tells
            return False

    def _column(self, lane: Lane) -> None:
        with self._lock:
            if lane.counter.at.done >= lane.counter.at.total:
                lane.counter.at = replace(lane.counter.at, state="done")
                return
        done = self._suites.done(self.id, lane.place)
        try:
            if lane.refusal:
                raise lane.refusal
            self._set_state(lane, "preparing")
            lane.artifact = self._prepared(lane.variant)
            assert lane.spec
            tokenizer_words(lane.spec, lane.artifact)  # reads a file once, which is better done before anything runs
        except Exception as error:
            if not self._ends():
                self._give_up(lane, failure(error, lane.variant).message, done)
            return
        self._set_state(lane, "running")
        self._rows(lane, done)
        if lane.gave_up and not self._ends():
            self._give_up(lane, lane.gave_up, self._suites.done(self.id, lane.place))
        elif not self._ends():
            self._set_state(lane, "done")

    def _prepared(self, variant: Variant) -> Artifact:
        def tell(step: str, progress: float | None) -> None:
            self._tell(msg("{model}: {step}", model=variant, step=step), progress)

        return self._machine.preparer.prepare(variant, tell, self._ends)

    def _rows(self, lane: Lane, done: set[tuple[int, int]]) -> None:
        """Every row that is not there yet, as many at once as the model may be asked."""
        wanted = iter(self._rows_of(lane))
        hand_out = threading.Lock()
        assert lane.spec
        at_once = max(1, self._machine.pool.lanes(lane.spec))

        def take() -> Iterator[int]:
            while not (self._ends() or lane.gave_up):
                with hand_out:
                    row = next(wanted, None)
                if row is None:
                    return
                yield row

        def work() -> None:
            for row in take():
                self._row(lane, row, done, alone=at_once == 1)

        if at_once == 1:
            work()
            return
        with self._lock:
            lane.counter.share()
        threads = [threading.Thread(target=work, name=f"suite {lane.variant}", daemon=True) for _ in range(at_once)]
        run_all(threads)

    def _rows_of(self, lane: Lane) -> Sequence[int]:
        """The rows in the order they are asked: as they stand, or, where the model may skip what a prompt has in common
        with the one before, by their texts, so that those of one template follow each other.
        """
        rows = range(len(self.run.rows))
        return sorted(rows, key=lambda row: texts(self.run.rows[row])) if lane.request.reuse else rows

    def _row(self, lane: Lane, row: int, done: set[tuple[int, int]], *, alone: bool) -> None:
        """The samples of a row that are not there yet; those that are count where samples are judged together."""
        missing = [sample for sample in range(self.run.repeats) if (row, sample) not in done]
        if not missing:
            return
        there = self._suites.answers(self.id, row, lane.place) if len(missing) < self.run.repeats else []
        answers = {cell.sample: cell.run for cell in there}
        for sample in missing:
            run = self._answer(lane, row, sample, alone=alone)
            if run is None:
                return
            answers[sample] = run
            so_far = [answers[place] for place in sorted(answers) if place != sample] + [run]
            self._finish(lane, self._judged(lane, row, sample, so_far))
            if self._ends() or lane.gave_up:
                return

    # -- one cell -----------------------------------------------------------------------------------------------

    def _asked(self, lane: Lane, row: int, sample: int) -> Request:
        return self._suite.request(row, seeded(lane.request, sample))

    def _load(self, lane: Lane) -> LoadSpec:
        assert lane.spec and lane.artifact
        return LoadSpec(lane.spec, lane.artifact, self._machine.settings.threads)

    def _answer(self, lane: Lane, row: int, sample: int, *, alone: bool) -> ModelRun | None:
        """One answer, with the machine for itself if it computes on it; None if it was called off."""
        if not alone:
            return self._ask(lane, row, sample)
        waits_since = time.monotonic()
        with self._hold() as mine:
            if not mine:
                return None
            began = time.monotonic()
            self._tell_where(lane)
            run = self._ask(lane, row, sample, began - waits_since)
            took_s = time.monotonic() - began
        self._let_prepare(took_s)
        return run

    def _ask(self, lane: Lane, row: int, sample: int, waited_s: float | None = None) -> ModelRun | None:
        """One answer; None if it was called off.

        Args:
            waited_s: For the machine, which it has for itself; None where it shares what computes it.
        """
        request, load = self._asked(lane, row, sample), self._load(lane)
        key = (lane.place, row, sample)
        pieces: list[str] = []
        run: ModelRun | None = None
        with self._lock:
            self._lives[key] = LiveRun(lane.variant, "loading", started_at=time.monotonic())
        try:
            ask = self._machine.pool.share if waited_s is None else self._machine.pool.generate
            for event in ask(load, request, self._stop.is_set):
                if event.kind == "token":
                    pieces.append(event.text)
                elif event.kind == "loading":
                    pieces.clear()
                run = event.run or run
                with self._lock:
                    live = replace(self._lives[key], kind=event.kind, n_tokens=event.n_tokens)
                    text = live.text + event.text if event.kind == "token" else live.text if pieces else ""
                    self._lives[key] = replace(live, text=text, message=NOTHING if pieces else foreign(event.text))
            error = None if run else msg("{model}: it ended without an answer.", model=lane.variant)
        except Exception as trouble:
            error = failure(trouble, lane.variant).message
        finally:
            with self._lock:
                del self._lives[key]
        if run is None:
            run = failed(lane, error or NOTHING)
        if self._stop.is_set() and (run.finish_reason == "stopped" or run.error):
            return None
        waits_s = (waited_s or 0.0) + (run.timings.queue_s or 0.0)
        timings = replace(run.timings, queue_s=waits_s, mode="fast" if waited_s is None else "fair")
        own = request if request != asked(self.run, row, lane.place, sample) else None
        run = completed(replace(run, timings=timings, request=own), lane.variant, lane.spec, lane.artifact)
        return with_thinking_tokens(run, pieces)

    def _judged(self, lane: Lane, row: int, sample: int, answers: Sequence[ModelRun]) -> Cell:
        run = answers[-1]
        try:
            found = self._plan.judge(row, answers)
        except Exception as error:  # a fault of ours must not pass for a met check, nor end the other cells
            reason = failure(error, self.subject).message
            return Cell(row, lane.place, sample, run, (CheckResult("judge", False, 0.0, reason),), False, 0.0)
        return Cell(row, lane.place, sample, run, found.checks, found.passed, found.score)

    def _finish(self, lane: Lane, cell: Cell) -> None:
        """Keep a cell, count it, and see whether it is worth going on."""
        with self._lock:
            lane.counter.add(cell)
            lane.look_at(cell.run)
        self._keep([cell])
        if self._fail_fast and (cell.passed is False or cell.run.error):
            self.failed_fast = True
            self.pause()

    def _give_up(self, lane: Lane, why: Translatable, done: set[tuple[int, int]]) -> None:
        """What is left of a column fails for one reason; the others are none the worse."""
        batch: list[Cell] = []
        for row in range(len(self.run.rows)):
            for sample in range(self.run.repeats):
                if (row, sample) in done:
                    continue
                batch.append(self._judged(lane, row, sample, [failed(lane, why)]))
                if len(batch) >= FAILED_AT_ONCE:
                    self._keep(batch)
                    self._count(lane, batch)
                    batch = []
                    if self._ends():
                        return
        self._keep(batch)
        self._count(lane, batch)
        self._set_state(lane, "failed", why)

    def _count(self, lane: Lane, cells: Sequence[Cell]) -> None:
        with self._lock:
            for cell in cells:
                lane.counter.add(cell)

    def _keep(self, cells: Sequence[Cell]) -> None:
        """Store cells; where that can't be done any more, everything ends."""
        try:
            if not self._keeping.put(cells):
                self._broken = Stopped(DELETED)
        except PlaygroundError as error:
            self._broken = error

    # -- what is told, and other people -------------------------------------------------------------------------

    def _set_state(self, lane: Lane, state: State, note: Translatable = NOTHING) -> None:
        with self._lock:
            lane.counter.at = replace(lane.counter.at, state=state, note=note)

    def _tell_where(self, lane: Lane) -> None:
        with self._lock:
            step, progress = where_words(lane.counter, [other.counter for other in self._lanes])
        self._tell(step, progress)

    def _tell_wait(self, ahead: int) -> None:
        self._tell(msg("waiting for the machine: {n} ahead", n=ahead), self._at.progress)

    def _let_prepare(self, took_s: float) -> None:
        """Preparations rest while figures are taken; a suite takes them for hours. Whoever waits for one gets as much
        time between two cells as the cells have taken since.
        """
        preparer = self._machine.preparer
        self._owed_s += took_s
        if not preparer.busy:
            self._owed_s = 0.0
            return
        self._tell(msg("another model is being prepared"), self._at.progress)
        until = time.monotonic() + self._owed_s
        while preparer.busy and not self._ends() and time.monotonic() < until:
            time.sleep(NAP_S)
        self._owed_s = 0.0
