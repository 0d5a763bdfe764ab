"""One request to several models: planned, run fair or fast, failures kept apart, events merged.

A comparison of the moment is a ``CompareJob``; when it is over it is a ``Comparison``, a value. The module does not
know the screen, the database, or how a worker answers.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from playground.errors import UsageError
from playground.experiments.base import Job, Machine, failure
from playground.experiments.columns import checked, plan_memory
from playground.experiments.finishing import completed
from playground.experiments.keeping import Keeper
from playground.experiments.memory_plan import batches
from playground.experiments.progress import ModelProgress, Snapshot, ended
from playground.messages import NOTHING, Translatable, foreign, msg, plural, sentences
from playground.records import (
    Artifact,
    Column,
    Comparison,
    Environment,
    Event,
    EventKind,
    FinishReason,
    LoadSpec,
    Mode,
    ModelRun,
    Request,
    Variant,
)
from playground.results.thinking import with_thinking_tokens
from playground.system import contention
from playground.system.environment import environment
from playground.system.reserve import insist, run_all
from playground.workers.expected_memory import expected

log = logging.getLogger(__name__)

WAITING = msg("waiting for its turn")
KEEP_EVERY_S = 2.0
"""How much of an answer that grows may be lost where the app is killed."""
LOOK_S = 1.0
"""Between two looks at whether models are ready, where nobody says so."""
BROKEN_OFF = msg("The playground ended before this answer was finished; it is kept as far as it was by then.")

Save = Callable[[Comparison], object]


class Comparer:
    """Starts comparisons; those that share a machine share it through its queue."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def start(
        self,
        request: Request,
        columns: Sequence[str | Variant | Column | ModelRun],
        mode: Mode = "fair",
        *,
        parent: str = "",
        save: Save | None = None,
    ) -> CompareJob:
        """Check everything, then begin in the background.

        Args:
            request: For every column that has none of its own.
            columns: In the order of the result: ``MODEL`` or ``MODEL@RUNTIME-PRECISION``; a column with a request of
                its own; a run that is carried over from an earlier comparison as it is.
            mode: ``fair``: one model at a time with all threads. ``fast``: all at once, threads divided.
            parent: Id of the comparison that this one goes on from.
            save: Stores the comparison; called when it begins, every ``KEEP_EVERY_S`` while an answer grows, at the end
                of each model, and at the end of all.

        Raises:
            UsageError: A request, a model or the list is wrong; no work was begun.
        """
        if mode not in ("fair", "fast"):
            raise UsageError(msg("Unknown mode {mode}", mode=repr(mode)), msg("Modes are fair and fast."))
        lanes = checked(self._machine, request, columns)
        together = plan_memory(self._machine, lanes)
        running = CompareJob(self._machine, request, lanes, mode, together, parent=parent, save=save)
        self._machine.begin(running)
        return running


class CompareJob(Job[Comparison]):
    """A comparison that is going on. Every method may be called from any thread; made by ``Comparer.start``.

    It always has a result: a model that fails or is stopped is a run that says so.
    """

    def __init__(
        self,
        machine: Machine,
        request: Request,
        lanes: list[ModelProgress],
        mode: Mode,
        together: int,
        *,
        parent: str = "",
        save: Save | None = None,
    ) -> None:
        super().__init__(machine, msg("The comparison"))
        self.request, self.mode, self.parent = request, mode, parent
        self._lanes = lanes
        self._together = together  # how many fast mode runs at the same time, by the memory plan
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._ready: list[ModelProgress] = []
        self._ahead = 0
        self._there: Environment | None = None
        self._keeper = Keeper(save, self._picture) if save else None
        self._kept_at = time.monotonic()

    # -- for the caller -----------------------------------------------------------------------------------------

    def events(self, timeout: float = 1.0) -> Iterator[Event | None]:
        """Every event of every model as it happens, until the last model has ended; for one reader.

        Yields:
            An event, or None after ``timeout`` seconds without one: the caller's chance to look around.
        """
        while True:
            try:
                event = self._events.get(timeout=timeout)
            except queue.Empty:
                yield None
                continue
            if event is None:
                self._events.put(None)
                return
            yield event

    @property
    def own_requests(self) -> tuple[Request | None, ...]:
        """What each column is asked, where that is not the request of all."""
        return tuple(lane.request if lane.own else None for lane in self._lanes)

    def snapshot(self) -> Snapshot:
        """Where each column stands now, in their order. Cheap enough for ten times a second."""
        with self._lock:
            lives = tuple(replace(lane.live, text=lane.text) for lane in self._lanes)
        problem = self._keeper.problem if self._keeper else NOTHING
        return Snapshot(lives=lives, problem=problem, ahead=self._ahead)

    def stop(self) -> None:
        """End it: models that wait are stopped at once, one that answers within 2 s, with the text so far."""
        super().stop()
        for lane in self._lanes:
            self._stop_lane(lane)

    def stop_column(self, place: int) -> None:
        """End one column alone, as ``stop`` does all; one that has ended stays as it is."""
        if 0 <= place < len(self._lanes):
            self._stop_lane(self._lanes[place])

    def _stop_lane(self, lane: ModelProgress) -> None:
        with self._lock:
            lane.stop.set()
            if lane.live.started_at is None:
                self._end(lane, "stopped", "stopped")
            self._lock.notify_all()

    # -- the work -----------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start the threads; called once."""
        for lane in self._lanes:
            self._note(lane, Event("", "queued", at=time.monotonic()))
        super().begin()

    def _picture(self) -> Comparison:
        """The comparison as far as it is: what has not ended is a stopped run that says so."""
        with self._lock:
            runs = tuple(lane.live.run or self._broken_off(lane) for lane in self._lanes)
        return self._comparison(runs)

    def _comparison(self, runs: tuple[ModelRun, ...]) -> Comparison:
        assert self._there
        return Comparison(self.id, self._created_words(), self.request, runs, self._there, self.mode, self.parent)

    def _run(self) -> Comparison:
        """Take a turn whenever models are ready, until none is left. Others may go in between while models are
        prepared, and models that are ready go before those.
        """
        self._there = environment()  # read before anything is measured: it asks git and the package metadata
        try:
            if self._keeper:
                self._keeper.start()
            self._find_ready()
            while self._wait_for_ready():
                with self._hold() as mine:
                    if mine:
                        self._run_ready()
        except Exception as error:
            for lane in self._lanes:
                self._fail(lane, error)
        with self._lock:
            runs = tuple(lane.live.run for lane in self._lanes if lane.live.run)
        whole = self._comparison(runs)
        if self._keeper:
            self._keeper.finish(whole)
        return whole

    def _find_ready(self) -> None:
        """Sort the models into those that can run now and those that are prepared first, each by a thread of its own:
        a preparation may take minutes, and none waits for another one here.
        """
        for lane in self._lanes:
            if lane.carried:
                continue
            if lane.refusal:
                self._fail(lane, lane.refusal)
                continue
            try:
                artifact = self._machine.preparer.state(lane.variant).artifact
            except Exception as error:
                self._fail(lane, error)
                continue
            if artifact:
                self._set_ready(lane, artifact)
                continue
            try:
                name = f"prepare {lane.variant}"
                threading.Thread(target=self._make_ready, args=(lane,), name=name, daemon=True).start()
            except RuntimeError as error:  # there is no memory for it
                self._fail(lane, error)

    def _make_ready(self, lane: ModelProgress) -> None:
        def tell(step: str, progress: float | None) -> None:
            if (step, progress) != (lane.live.message, lane.live.progress):
                self._note(lane, Event("", "preparing", text=step, progress=progress, at=time.monotonic()))

        try:
            self._set_ready(lane, self._machine.preparer.prepare(lane.variant, tell, lane.stop.is_set))
        except Exception as error:
            self._fail(lane, error)

    def _set_ready(self, lane: ModelProgress, artifact: Artifact) -> None:
        with self._lock:
            lane.artifact, lane.ready_at = artifact, time.monotonic()
            self._ready.append(lane)
            self._note(lane, Event("", "queued", text=WAITING, at=lane.ready_at))
            self._lock.notify_all()

    def _wait_for_ready(self) -> bool:
        """True when a model can run, False when none is left."""
        with self._lock:
            while not self._lock.wait_for(lambda: self._ready or all(lane.live.run for lane in self._lanes), LOOK_S):
                pass
            self._ready = [lane for lane in self._ready if not lane.live.run]
            return not all(lane.live.run for lane in self._lanes)

    def _waits_in_vain(self) -> bool:
        with self._lock:
            return all(lane.live.run for lane in self._lanes)

    def _tell_wait(self, ahead: int) -> None:
        ahead_words = plural("{n} comparison ahead", "{n} comparisons ahead", n=ahead)
        text = sentences(ahead_words, self._expected_wait(ahead)) if ahead else WAITING
        with self._lock:
            self._ahead = ahead
            for lane in self._ready:
                if lane.live.message != text:
                    self._note(lane, Event("", "queued", text=text, at=time.monotonic()))

    def _run_ready(self) -> None:
        """Run what is ready, and what becomes ready meanwhile, with the machine to ourselves."""
        self._tell_wait(0)
        while batch := self._next_batch():
            if len(batch) == 1:
                self._answer_all(batch[0])
                continue
            threads = [
                threading.Thread(target=self._answer_all, args=(lanes,), name=f"run {lanes[0].variant}", daemon=True)
                for lanes in batch
            ]
            run_all(threads)

    def _next_batch(self) -> list[list[ModelProgress]]:
        """What runs at the same time: the columns of one variant, one after the other, as they share a worker. In fast
        mode as many variants as fit.
        """
        with self._lock:
            waiting: dict[Variant, list[ModelProgress]] = {}
            for lane in self._lanes:
                if lane in self._ready and not lane.live.run:
                    waiting.setdefault(lane.variant, []).append(lane)
            groups = list(waiting.values())
            batch = self._fitting(groups) if self.mode == "fast" else groups[:1]
            self._ready = [lane for group in groups if group not in batch for lane in group]
            return batch

    def _fitting(self, waiting: list[list[ModelProgress]]) -> list[list[ModelProgress]]:
        """As many as fit into memory at once; the pool unloads them for those that come after."""
        peaks = [
            max(
                expected(LoadSpec(lane.spec, lane.artifact, 1), lane.request).total_mb
                for lane in lanes
                if lane.spec and lane.artifact
            )
            for lanes in waiting
        ]
        groups = batches(peaks, self._machine.pool.budget_mb)
        return [waiting[place] for place in groups[0]] if groups else []

    def _answer_all(self, lanes: list[ModelProgress]) -> None:
        for lane in lanes:
            with self._lock:
                if lane.live.run:
                    continue
                lane.live = replace(lane.live, started_at=time.monotonic())
            self._answer(lane)

    def _answer(self, lane: ModelProgress) -> None:
        assert lane.spec and lane.artifact
        threads = self._machine.settings.threads
        if self.mode == "fast":
            threads = max(1, threads // self._together)
        load = LoadSpec(lane.spec, lane.artifact, threads)
        try:
            events = self._machine.pool.generate(load, lane.request, lane.stop.is_set)
            for event in events if lane.spec.remote else _watched(events):
                self._note(lane, event)
        except Exception as error:
            self._fail(lane, error)

    # -- what happened ------------------------------------------------------------------------------------------

    def _note(self, lane: ModelProgress, event: Event) -> None:
        """Take an event into the picture and pass it on, under the name that was asked for. A run that has ended
        stays as it is: whatever a preparation or a stopped model still says comes too late.
        """
        with self._lock:
            live = lane.live
            if live.run:
                return
            if event.run:
                event = replace(event, run=with_thinking_tokens(self._complete(lane, event.run), lane.pieces))
            event = replace(event, model=str(lane.variant), column=lane.place)
            if event.kind == "token":
                lane.pieces.append(event.text)
                if live.first_token_at is None:
                    live = replace(live, first_token_at=event.at, first_tokens=event.n_tokens)
                live = replace(live, last_token_at=event.at)
                if self._keeper and event.at - self._kept_at > KEEP_EVERY_S:
                    self._kept_at = event.at
                    self._keeper.touch()
            elif event.kind == "loading":  # another server begins anew what one has broken off
                lane.pieces.clear()
                live = replace(live, first_token_at=None, last_token_at=None)
            lane.live = replace(
                live,
                kind=event.kind,
                n_tokens=event.n_tokens,
                progress=event.progress,
                message=NOTHING if event.kind == "token" else foreign(event.text),
                run=event.run,
            )
            self._events.put(event)
            if all(other.live.run for other in self._lanes):
                self._events.put(None)
            if event.run:
                end = {"outcome": event.run.finish_reason, "tokens": event.run.timings.output_tokens}
                log.info("answer ended", extra={"run": self.id, "model": str(lane.variant), **end})
                self._lock.notify_all()
                if self._keeper:
                    self._keeper.touch()

    def _complete(self, lane: ModelProgress, run: ModelRun) -> ModelRun:
        """The run with what the worker can't know."""
        waited = None
        if lane.live.started_at is not None:
            waited = lane.live.started_at - lane.ready_at + (run.timings.queue_s or 0.0)
        timings = replace(run.timings, queue_s=waited, mode=self.mode)
        run = replace(run, timings=timings, request=lane.request if lane.own else None)
        if run.finish_reason == "stopped" and self._machine.closing.is_set():
            run = replace(run, warnings=(*run.warnings, BROKEN_OFF))
        elif run.finish_reason == "stopped" and (why := self._why_stopped()):
            run = replace(run, warnings=(*run.warnings, why))
        return completed(run, lane.variant, lane.spec, lane.artifact)

    def _fail(self, lane: ModelProgress, error: Exception) -> None:
        if lane.stop.is_set():
            insist(self._end, lane, "stopped", "stopped")
        else:  # insisted on, as everything waits for all models
            insist(lambda: self._end(lane, "failed", "error", failure(error, lane.variant).message))

    def _end(
        self, lane: ModelProgress, kind: EventKind, reason: FinishReason, error: Translatable | None = None
    ) -> None:
        """End a model that no worker ended."""
        with self._lock:
            run = ended(lane, reason, error)
            self._note(lane, Event("", kind, text=error or NOTHING, at=time.monotonic(), run=run))

    def _broken_off(self, lane: ModelProgress) -> ModelRun:
        run = self._complete(lane, ended(lane, "stopped"))
        return run if BROKEN_OFF in run.warnings else replace(run, warnings=(*run.warnings, BROKEN_OFF))


def _watched(events: Iterator[Event]) -> Iterator[Event]:
    """The same events; the run at their end says what other programs used from the first question to it. Nothing is
    looked at between: that would take a core from whoever answers.
    """
    before = contention.read()
    for event in events:
        if event.run is None:
            yield event
            continue
        others = contention.between(before, contention.read()).cores
        timings = replace(event.run.timings, other_cpu_cores=others)
        yield replace(event, run=replace(event.run, timings=timings))
