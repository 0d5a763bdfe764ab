"""One request to several models: planned, run fair or fast, failures kept apart, events merged.

A comparison of the moment is a ``Running``; when it is over it is a ``Comparison``, a value. The module does not know
the screen, the database, or how a worker answers.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
import uuid
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from playground.config.settings import Settings
from playground.errors import PlaygroundError, UsageError
from playground.experiments.admission import check_request
from playground.experiments.base import tokenizer_words
from playground.experiments.memory_plan import batches, plan_of
from playground.experiments.progress import LiveRun, ModelProgress
from playground.records import (
    Artifact,
    Comparison,
    Event,
    EventKind,
    FinishReason,
    LoadSpec,
    Mode,
    ModelRun,
    Request,
    Timings,
    Variant,
)
from playground.system.environment import environment
from playground.workers.expected_memory import expected, refusal
from playground.workers.pool import Pool

if TYPE_CHECKING:
    from playground.catalog.entries import Catalog
    from playground.export import Preparer

WAITING = "waiting for its turn"

_log = logging.getLogger(__name__)


class Comparer:
    """Starts comparisons; those that share a pool share the machine through its queue."""

    def __init__(self, settings: Settings, catalog: Catalog, preparer: Preparer, pool: Pool) -> None:
        self._settings, self._catalog = settings, catalog
        self._machine = _Machine(preparer, pool, settings.threads)
        self._running: weakref.WeakSet[Running] = weakref.WeakSet()

    def start(self, request: Request, variants: Sequence[str | Variant], mode: Mode = "fair") -> Running:
        """Check everything, then begin in the background.

        Args:
            request: For every model alike.
            variants: ``MODEL`` or ``MODEL@RUNTIME-PRECISION``, in the order of the result.
            mode: ``fair``: one model at a time with all threads. ``fast``: all at once, threads divided.

        Raises:
            UsageError: The request, a model or the list is wrong; no work was begun.
        """
        limits = self._settings.limits
        if mode not in ("fair", "fast"):
            raise UsageError(f"Unknown mode {mode!r}", "Modes are fair and fast.")
        if not variants:
            raise UsageError("No model is chosen", "Choose at least one.")
        if len(variants) > limits.max_models:
            raise UsageError(
                f"{len(variants)} models are too many for one comparison", f"Choose at most {limits.max_models}."
            )
        check_request(request, limits.max_new_tokens, limits.max_prompt_chars)
        if request.reuse and self._settings.on_space:
            raise UsageError(
                "Visitors share the models here: what one skips would tell what another has asked",
                "Ask without reuse, or run the playground on your own machine.",
            )
        lanes: list[ModelProgress] = []
        for wanted in variants:
            spec, variant = self._catalog.resolve(str(wanted))
            if any(lane.variant == variant for lane in lanes):
                raise UsageError(f"{variant} is chosen twice", "Choose each variant once.")
            lanes.append(ModelProgress(variant, spec, LiveRun(variant)))
        together = self._plan(request, lanes)
        running = Running(request, lanes, mode, self._machine, together)
        self._running.add(running)
        running.begin()
        return running

    def _plan(self, request: Request, lanes: list[ModelProgress]) -> int:
        """Refuse what is too large before anything is fetched for it (what turns out larger when it is prepared, the
        pool refuses); returns how many models fast mode will run at the same time.
        """
        machine, wanted = self._machine, [lane.variant for lane in lanes]
        found = plan_of(self._catalog, machine.preparer, wanted, request, machine.pool.budget_mb)
        for lane, planned in zip(lanes, found.models, strict=True):
            lane.expected_mb = planned.expected_mb
            if planned.expected_mb is not None and not planned.alone:
                lane.refusal = refusal(lane.variant, planned.expected_mb, found.budget_mb)
        return max(map(len, found.groups()), default=1)

    def close(self) -> None:
        """Stop every comparison that is going on."""
        for running in tuple(self._running):
            running.stop()


@dataclass(frozen=True)
class _Machine:
    """What comparisons share."""

    preparer: Preparer
    pool: Pool
    threads: int


class Running:
    """A comparison that is going on. Every method may be called from any thread; made by ``Comparer.start``."""

    def __init__(
        self, request: Request, lanes: list[ModelProgress], mode: Mode, machine: _Machine, together: int
    ) -> None:
        self.request, self.mode = request, mode
        self.created_at = datetime.now(UTC)
        self.id = f"{self.created_at:%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:8]}"
        self._lanes, self._machine = lanes, machine
        self._together = together  # how many fast mode runs at the same time, by the memory plan
        self._lock = threading.Condition()
        self._stop = threading.Event()
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._ready: list[ModelProgress] = []

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

    def snapshot(self) -> tuple[LiveRun, ...]:
        """Where each model stands now, in the order asked for. Cheap enough for ten times a second."""
        with self._lock:
            return tuple(replace(lane.live, text=self._text(lane)) for lane in self._lanes)

    def stop(self) -> None:
        """End it: models that wait are stopped at once, one that answers within 2 s, with the text so far."""
        self._stop.set()
        with self._lock:
            for lane in self._lanes:
                if lane.live.started_at is None:
                    self._end(lane, "stopped", "stopped")
            self._lock.notify_all()

    @property
    def done(self) -> bool:
        with self._lock:
            return all(lane.live.run for lane in self._lanes)

    def result(self) -> Comparison:
        """Wait for the last model and return the comparison."""
        with self._lock:
            self._lock.wait_for(lambda: all(lane.live.run for lane in self._lanes))
            runs = tuple(lane.live.run for lane in self._lanes if lane.live.run)
        created_at = self.created_at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return Comparison(self.id, created_at, self.request, runs, environment(), self.mode)

    # -- the work -----------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start the threads; called once."""
        for lane in self._lanes:
            self._note(lane, Event("", "queued", at=time.monotonic()))
        threading.Thread(target=self._conduct, name=f"comparison {self.id}", daemon=True).start()

    def _conduct(self) -> None:
        """Take a turn whenever models are ready, until none is left. Others may go in between while models are
        prepared, and models that are ready go before those.
        """
        environment()  # read now, in this thread, and not when the result is wanted
        try:
            self._find_ready()
            while self._wait_for_ready():
                with self._machine.pool.turns.hold(self._stop.is_set, self._tell_wait) as mine:
                    if mine:
                        with self._machine.preparer.paused():
                            self._run_ready()
        except Exception as error:
            _log.exception("comparison %s", self.id)
            for lane in self._lanes:
                self._fail(lane, error)

    def _find_ready(self) -> None:
        """Sort the models into those that can run now and those that are prepared first, each by a thread of its own:
        a preparation may take minutes, and none waits for another one here.
        """
        for lane in self._lanes:
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
            else:
                threading.Thread(
                    target=self._prepare, args=(lane,), name=f"prepare {lane.variant}", daemon=True
                ).start()

    def _prepare(self, lane: ModelProgress) -> None:
        def tell(step: str, progress: float | None) -> None:
            if (step, progress) != (lane.live.message, lane.live.progress):
                self._note(lane, Event("", "preparing", text=step, progress=progress, at=time.monotonic()))

        try:
            self._set_ready(lane, self._machine.preparer.prepare(lane.variant, tell, self._stop.is_set))
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
            self._lock.wait_for(lambda: self._ready or all(lane.live.run for lane in self._lanes))
            self._ready = [lane for lane in self._ready if not lane.live.run]
            return not all(lane.live.run for lane in self._lanes)

    def _tell_wait(self, ahead: int) -> None:
        text = f"{ahead} comparison{'s' if ahead > 1 else ''} ahead" if ahead else WAITING
        with self._lock:
            for lane in self._ready:
                if lane.live.message != text:
                    self._note(lane, Event("", "queued", text=text, at=time.monotonic()))

    def _run_ready(self) -> None:
        """Run what is ready, and what becomes ready meanwhile, with the machine to ourselves."""
        self._tell_wait(0)
        while batch := self._next_batch():
            if len(batch) == 1:
                self._run(batch[0])
                continue
            threads = [
                threading.Thread(target=self._run, args=(lane,), name=f"run {lane.variant}", daemon=True)
                for lane in batch
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    def _next_batch(self) -> list[ModelProgress]:
        with self._lock:
            waiting = [lane for lane in self._lanes if lane in self._ready and not lane.live.run]
            batch = self._fitting(waiting) if self.mode == "fast" else waiting[:1]
            self._ready = [lane for lane in waiting if lane not in batch]
            for lane in batch:
                lane.live = replace(lane.live, started_at=time.monotonic())
            return batch

    def _fitting(self, waiting: list[ModelProgress]) -> list[ModelProgress]:
        """As many as fit into memory at once; the pool unloads them for those that come after."""
        peaks = [
            expected(LoadSpec(lane.spec, lane.artifact, 1), self.request).total_mb for lane in waiting if lane.artifact
        ]
        groups = batches(peaks, self._machine.pool.budget_mb)
        return [waiting[place] for place in groups[0]] if groups else []

    def _run(self, lane: ModelProgress) -> None:
        assert lane.artifact and lane.live.started_at is not None
        threads = self._machine.threads
        if self.mode == "fast":
            threads = max(1, threads // self._together)
        load = LoadSpec(lane.spec, lane.artifact, threads)
        try:
            for event in self._machine.pool.generate(load, self.request, self._stop.is_set):
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
                event = replace(event, run=self._complete(lane, event.run))
            event = replace(event, model=str(lane.variant))
            if event.kind == "token":
                lane.pieces.append(event.text)
                if live.first_token_at is None:
                    live = replace(live, first_token_at=event.at, first_tokens=event.n_tokens)
                live = replace(live, last_token_at=event.at)
            lane.live = replace(
                live,
                kind=event.kind,
                n_tokens=event.n_tokens,
                progress=event.progress,
                message="" if event.kind == "token" else event.text,
                run=event.run,
            )
            self._events.put(event)
            if all(other.live.run for other in self._lanes):
                self._events.put(None)
            if event.run:
                self._lock.notify_all()

    def _complete(self, lane: ModelProgress, run: ModelRun) -> ModelRun:
        """The run under the asked variant, with what the worker can't know. ``runtime`` and ``precision`` stay those
        that really ran; ``fallbacks`` says why they differ.
        """
        waited = None
        if lane.live.started_at is not None:
            waited = lane.live.started_at - lane.ready_at + (run.timings.queue_s or 0.0)
        timings = replace(run.timings, queue_s=waited, mode=self.mode)
        run = replace(run, variant=lane.variant, timings=timings)
        if lane.artifact:
            run = replace(
                run,
                fallbacks=tuple(dict.fromkeys(lane.artifact.fallbacks + run.fallbacks)),  # each reason once
                recipe=lane.artifact.recipe,
                fidelity=lane.artifact.fidelity,
                tokenizer=tokenizer_words(lane.spec, lane.artifact),
                revision=lane.artifact.revision or None,
                artifact_sha256=lane.artifact.sha256 or None,
            )
        return run

    def _fail(self, lane: ModelProgress, error: Exception) -> None:
        if self._stop.is_set():
            self._end(lane, "stopped", "stopped")
        elif isinstance(error, PlaygroundError):
            self._end(lane, "failed", "error", str(error))
        else:
            _log.error("%s", lane.variant, exc_info=error)
            what = f"{lane.variant}: {type(error).__name__}: {error}"
            self._end(lane, "failed", "error", f"{what}. This is a bug of the playground; please report it.")

    def _end(self, lane: ModelProgress, kind: EventKind, reason: FinishReason, error: str | None = None) -> None:
        """End a model that no worker ended."""
        variant = lane.artifact.variant if lane.artifact else lane.variant
        with self._lock:
            run = ModelRun(
                variant=lane.variant,
                runtime=variant.runtime,
                precision=variant.precision,
                text=self._text(lane),
                finish_reason=reason,
                timings=Timings(expected_memory_mb=lane.expected_mb if lane.refusal else None),
                error=error,
            )
            self._note(lane, Event("", kind, text=error or "", at=time.monotonic(), run=run))

    @staticmethod
    def _text(lane: ModelProgress) -> str:
        return lane.live.run.text if lane.live.run else "".join(lane.pieces)
