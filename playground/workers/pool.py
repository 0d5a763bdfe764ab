"""The workers of this app: found or started, one request at a time each, stopped, replaced, evicted.

A variant has at most one worker; sessions share it. Reloading for another number of threads is a new process, so
that the load time shown is that of a whole load. The pool does not know comparisons, turns or the screen.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace

from playground.config.settings import Settings
from playground.errors import DoesNotFit, PlaygroundError, RunError, Stopped, WorkerDied, WorkerStalled
from playground.messages import msg
from playground.records import Cancelled, Event, LoadSpec, ModelSpec, PromptView, Record, Request
from playground.system import memory
from playground.system.reserve import is_shortage, out_of_memory, short, spend
from playground.workers import protocol
from playground.workers.answer import Answer
from playground.workers.expected_memory import check_alone, expected
from playground.workers.fair_lock import FairLock
from playground.workers.process import STOPPED, WorkerProcess
from playground.workers.zerogpu import GpuWorker, runs_there

log = logging.getLogger(__name__)

STOP_GRACE_S = 1.5
"""A worker that has not stopped by then is killed: the reader waits 2 s at most."""
LOOK_S = 0.05
"""Between two looks at Stop while a worker is silent."""
LIBRARIES_MB = 200.0
"""What the interpreter and libraries of a worker may take beside its model, where the budget is a small one."""
MEMORY_SHARE = 0.8
"""Of the memory limit that all workers together may take; the rest is the app's and the system's."""


AnyWorker = WorkerProcess | GpuWorker
LOST = {WorkerDied: "died", WorkerStalled: "stalled", DoesNotFit: "memory"}
"""Errors that end a worker, and how it is counted."""


@dataclass(frozen=True)
class LoadedModel(Record):
    """A warm worker. Memory in MB of 10^6 bytes, None when it is ending."""

    variant: str
    pid: int
    rss_mb: float | None
    threads: int
    busy: bool


@dataclass(frozen=True)
class _Worker:
    """A process that has its model loaded; ``load_s`` from the start of the process to a warmed-up model."""

    process: AnyWorker
    load: LoadSpec
    load_s: float


class _Slot:
    """The place of one variant. Whoever holds the lock uses its worker, or loads it.

    Attributes:
        expected_mb: What the worker may come to hold with what it does now.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.worker: _Worker | None = None
        self.used_at = 0.0
        self.expected_mb = 0.0

    def taken_mb(self) -> float:
        """What it takes of the budget: idle, what its process holds; at work or loading, what is expected if that is
        more.
        """
        worker = self.worker
        held = (memory.resident_mb(worker.process.pid) or 0.0) if worker else 0.0
        return max(held, self.expected_mb) if self.lock.locked() else held


class Pool:
    """All workers of this process; a context manager.

    Args:
        settings: Its ``limits.stall_timeout_s`` is how long a worker may load or answer without a sign of life;
            below ``home`` go the last words of workers that died.
        budget_mb: Memory for all workers together; by default the settings' ``memory_mb``, else ``MEMORY_SHARE`` of
            what this process may use.

    Attributes:
        turns: The queue in front of the machine; whoever takes figures holds a turn. ``generate`` leaves that to its
            caller, who knows what belongs together.
        started: Workers that were started.
        lost: Workers that ended otherwise than by our will, by how.
    """

    def __init__(self, settings: Settings, budget_mb: float | None = None) -> None:
        self._stall_s = settings.limits.stall_timeout_s
        self._logs = settings.home / "logs"
        self._kv_bits = settings.kv_bits
        self.budget_mb = budget_mb or settings.memory_mb or memory.limit_mb() * MEMORY_SHARE
        self.turns = FairLock()
        self.started, self.lost = 0, Counter[str]()
        self._lock = threading.Lock()
        self._slots: dict[str, _Slot] = {}
        self._processes: set[AnyWorker] = set()
        self._requests = 0
        self._closed = False
        # Linux ends a child together with the thread that started it (see main.py), hence one lasting thread for all.
        self._starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="worker-starter")
        self._starter.submit(_never)  # it is there from now on: later there may be no memory for it

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def lanes(self, spec: ModelSpec) -> int:
        """A variant has one worker, and that answers one request at a time."""
        return 1

    def generate(self, load: LoadSpec, request: Request, cancelled: Cancelled) -> Iterator[Event]:
        """One answer, from ``loading`` (if the model is not warm) to exactly one ``done``, ``stopped`` or ``failed``.

        Nothing is raised: what goes wrong is a ``failed`` event whose run keeps the text so far. The run's timings
        have ``load_s`` (from the start of the process to a warmed-up model; 0 with ``cold`` False when it was warm)
        and, as ``queue_s``, the wait for a worker that was busy. Closing the iterator early kills the worker.
        """
        load = replace(load, kv_bits=self._kv_bits)
        answer = Answer(load, expected(load, request))
        asked = time.monotonic()
        try:
            with self._slot(load, cancelled) as slot:
                answer.queue_s = time.monotonic() - asked
                worker = self._warm(slot, load)
                answer.cold, answer.load_s = worker is None, 0.0
                if worker is None:
                    answer.load_s = None
                    check_alone(load, request, self.budget_mb)
                self._make_room(slot, load, request)
                if worker is None:
                    yield answer.event("loading")
                    worker = self._load(slot, load, cancelled)
                    answer.load_s = worker.load_s
                yield from self._answer(slot, worker, request, cancelled, answer)
        except Stopped:
            yield answer.end("stopped")
        except PlaygroundError as error:
            # After Stop it does not matter how the worker ended, nor at the end of the app.
            told = _closing(answer.model) if self._closed else error
            yield answer.end("stopped") if cancelled() else answer.end("failed", told)
        except (MemoryError, RuntimeError, OSError) as error:
            if not is_shortage(error):
                raise
            spend()
            yield answer.end("failed", out_of_memory())

    def share(self, load: LoadSpec, request: Request, cancelled: Cancelled) -> Iterator[Event]:
        """A pool has nobody to share with."""
        return self.generate(load, request, cancelled)

    def inspect(self, load: LoadSpec, request: Request) -> PromptView:
        """What the model reads; waits while its worker answers somebody else. A model that is not warm is loaded in a
        turn of its own, since loading would spoil the figures of whoever has the machine.

        The caller must not hold the machine: it would wait for its own turn for ever. Whoever does asks by ``ask``
        with ``protocol.inspect``.

        Raises:
            PlaygroundError: The model can't be loaded, or refuses the messages.
        """
        with self._lock:
            slot = self._slots.get(str(load.artifact.variant))
        if slot and slot.worker:
            return self._inspect(load, request)
        # The turn first, then the slot: the other way round, two could wait for each other.
        with self.turns.hold(_never, lambda _: None):
            return self._inspect(load, request)

    def _inspect(self, load: LoadSpec, request: Request) -> PromptView:
        load = replace(load, kv_bits=self._kv_bits)
        with self._slot(load, _never) as slot:
            worker = self._warm(slot, load, any_threads=True) or self._load_alone(slot, load, _never)
            number = self._number()
            with self._kept_if_heard(slot) as heard:
                worker.process.tell(protocol.inspect(number, request), _never)
                for message in self._messages(worker.process, _never, None):
                    heard.set()
                    if message["say"] == "error":
                        raise protocol.error_of(message)
                    break
            return PromptView.from_json(message["view"])

    def ask(
        self,
        load: LoadSpec,
        question: Callable[[int], protocol.Message],
        cancelled: Cancelled,
        tell: Callable[[float], object] = lambda _: None,
    ) -> protocol.Message:
        """The worker's reply to a question that is no request for an answer; its model is loaded if it is not warm.
        The caller holds a turn.

        Args:
            question: Makes the message from its number.
            tell: Told the share that is done, 0 to 1, where the worker reports it.

        Raises:
            Stopped: ``cancelled`` said so.
            PlaygroundError: The model can't be loaded, or can't do what was asked.
        """
        load = replace(load, kv_bits=self._kv_bits)
        with self._slot(load, cancelled) as slot:
            worker = self._warm(slot, load) or self._load_alone(slot, load, cancelled)
            number = self._number()
            with self._kept_if_heard(slot) as heard:
                worker.process.tell(question(number), cancelled)
                for message in self._messages(worker.process, cancelled, number):
                    if message["say"] == "progress":
                        tell(message["share"])
                        continue
                    heard.set()
                    if message["say"] == "error":
                        raise protocol.error_of(message)
                    return message
        raise AssertionError("messages end with a message or an error")

    def loaded(self) -> list[LoadedModel]:
        """The warm workers, the most recently used one first."""
        with self._lock:
            slots = sorted(self._slots.items(), key=lambda item: -item[1].used_at)
        found = [(name, slot.worker, slot.lock.locked()) for name, slot in slots]
        return [
            LoadedModel(name, worker.process.pid, memory.resident_mb(worker.process.pid), worker.load.threads, busy)
            for name, worker, busy in found
            if worker and worker.process.alive
        ]

    def unload(self, variant: str) -> None:
        """Give the memory of a variant back, when its answer (if there is one) has ended."""
        with self._lock:
            slot = self._slots.get(variant)
        if slot:
            with slot.lock:
                self._discard(slot)

    def close(self) -> None:
        """End every worker, also those that answer; their readers get a ``failed`` event."""
        with self._lock:
            self._closed = True
            processes = tuple(self._processes)
        for process in processes:
            process.close()
        self._starter.shutdown()

    # -- slots --------------------------------------------------------------------------------------------------

    @contextmanager
    def _slot(self, load: LoadSpec, cancelled: Cancelled) -> Iterator[_Slot]:
        with self._lock:
            slot = self._slots.setdefault(str(load.artifact.variant), _Slot())
        while not slot.lock.acquire(timeout=LOOK_S):
            if cancelled():
                raise Stopped(STOPPED)
        try:
            slot.used_at = time.monotonic()
            yield slot
        finally:
            slot.lock.release()  # first: nothing may keep it from that
            slot.used_at = time.monotonic()

    def _warm(self, slot: _Slot, load: LoadSpec, any_threads: bool = False) -> _Worker | None:
        """The slot's worker if it is alive and has just this loaded; any other one is ended."""
        worker = slot.worker
        if worker and worker.process.alive:
            wanted = replace(load, threads=worker.load.threads) if any_threads else load
            if worker.load == wanted:
                return worker
        self._discard(slot)
        return None

    def _load_alone(self, slot: _Slot, load: LoadSpec, cancelled: Cancelled) -> _Worker:
        """Load for a question that is no request for an answer."""
        check_alone(load, None, self.budget_mb)
        self._make_room(slot, load, None)
        return self._load(slot, load, cancelled)

    def _load(self, slot: _Slot, load: LoadSpec, cancelled: Cancelled) -> _Worker:
        if cancelled():
            raise Stopped(STOPPED)
        process = self._start(load)
        try:
            process.tell(protocol.load(load), cancelled)
            for message in self._messages(process, cancelled, None):
                if message["say"] == "error":
                    raise protocol.error_of(message)
                slot.worker = _Worker(process, load, message["at"] - process.started_at)
                return slot.worker
            raise AssertionError("messages end with a message or an error")
        except BaseException as error:
            self._count_lost(error)
            self._end(process)
            raise

    def _start(self, load: LoadSpec) -> AnyWorker:
        model = str(load.artifact.variant)

        def start() -> AnyWorker:
            lent = runs_there(load.artifact.variant)
            return GpuWorker(load) if lent else WorkerProcess(load, self._logs, self._stall_s)

        if short():
            raise out_of_memory()
        try:
            process = self._starter.submit(start).result()
        except MemoryError as error:
            raise out_of_memory() from error
        except OSError as error:
            if is_shortage(error):
                raise out_of_memory() from error
            reason = error.strerror or str(error)
            what = msg("{model}: no process could be started for it ({reason})", model=model, reason=reason)
            raise RunError(what, msg("Try again.")) from error
        except RuntimeError:  # the starter's way to say that it was shut down
            raise _closing(model) from None
        try:
            with self._lock:
                self._processes.add(process)
                self.started += 1
                closed = self._closed
        except MemoryError:  # nobody would end it
            process.kill()
            raise
        if closed:
            self._end(process)
            raise _closing(model)
        return process

    def _make_room(self, mine: _Slot, load: LoadSpec, request: Request | None) -> None:
        """End idle workers, the longest unused first, until this one fits with what it is to do. Busy ones stay: if
        that is too much, the system decides, and a worker it kills is a failed run that says so.
        """
        with self._lock:
            # Noted before anything is counted: of two that load at the same time, each sees the other.
            found = expected(load, request)
            mine.expected_mb = found.total_mb + (0.0 if mine.worker else found.loading_mb)
            others = [slot for slot in self._slots.values() if slot is not mine]
        room = self.budget_mb - mine.taken_mb() - sum(slot.taken_mb() for slot in others)
        for slot in sorted(others, key=lambda other: other.used_at):
            if room >= 0:
                return
            if slot.worker and slot.lock.acquire(blocking=False):
                try:
                    held = memory.resident_mb(slot.worker.process.pid) if slot.worker else 0.0
                    self._discard(slot)
                    room += held or 0.0
                finally:
                    slot.lock.release()

    def _discard(self, slot: _Slot) -> None:
        worker, slot.worker = slot.worker, None
        if worker:
            self._end(worker.process)

    def _end(self, process: AnyWorker) -> None:
        process.kill()
        with self._lock:
            self._processes.discard(process)

    # -- messages -----------------------------------------------------------------------------------------------

    def _answer(
        self, slot: _Slot, worker: _Worker, request: Request, cancelled: Cancelled, answer: Answer
    ) -> Iterator[Event]:
        number = self._number()
        with self._kept_if_heard(slot) as heard:
            worker.process.tell(protocol.generate(number, request), cancelled)
            for message in self._messages(worker.process, cancelled, number):
                if message["say"] == "error":
                    heard.set()
                    raise protocol.error_of(message)
                event = Event.from_json(message["event"])
                if event.run:
                    heard.set()
                yield answer.take(event)
                if event.run:
                    return

    @contextmanager
    def _kept_if_heard(self, slot: _Slot) -> Iterator[threading.Event]:
        """A worker whose last word was not heard is in an unknown state: it is killed, the next prompt starts anew."""
        heard = threading.Event()
        try:
            yield heard
        except tuple(LOST) as error:
            self._count_lost(error)
            raise
        finally:
            if not heard.is_set():
                self._discard(slot)

    def _messages(self, process: AnyWorker, cancelled: Cancelled, number: int | None) -> Iterator[protocol.Message]:
        """Messages as they come.

        Args:
            number: The request to stop when ``cancelled``; None for what can't be stopped but by killing.

        Raises:
            Stopped: Stop was asked for, and the worker did not end the answer in time.
            WorkerStalled: Nothing was heard for too long.
            DoesNotFit: It took more memory than a model may.
            WorkerDied: The process ended.
        """
        stop_at = None
        while True:
            if stop_at is None and cancelled():
                if number is None:
                    raise Stopped(STOPPED)
                stop_at = time.monotonic()
                process.tell(protocol.stop(number), cancelled)
            message = process.receive(LOOK_S)
            if message is not None:
                yield message
            if stop_at is not None and time.monotonic() - stop_at > STOP_GRACE_S:
                raise Stopped(STOPPED)
            process.check_stall()
            if isinstance(process, WorkerProcess):  # on a GPU it is no process of ours
                process.check_memory(self.budget_mb + LIBRARIES_MB)

    def _count_lost(self, error: BaseException) -> None:
        how = next((how for kind, how in LOST.items() if isinstance(error, kind)), "")
        if how and not self._closed:
            with self._lock:
                self.lost[how] += 1
            log.warning("worker lost", extra={"outcome": how})

    def _number(self) -> int:
        with self._lock:
            self._requests += 1
            return self._requests


def _closing(model: str) -> RunError:
    return RunError(msg("{model}: the playground is closing", model=model), msg("Start it again."))


def _never() -> bool:
    return False
