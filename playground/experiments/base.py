"""The mechanism that every experiment rides on: check → prepare → hold the machine → run → result.

*Check* is the starter's part (``Comparer``, ``Measurer``, ``VariantDiffer``, ``Replayer``): it raises before any work,
then ``Machine.begin`` starts a ``Job`` in a thread of its own. The job *prepares* its models, *holds* the machine while
figures are taken, *runs*, and has a *result*; meanwhile it can be looked at and stopped from any thread. Front ends
know jobs as ``Experiment`` alone. The module knows neither what is run nor how anything is shown.
"""

from __future__ import annotations

import logging
import secrets
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from playground.config.settings import Settings
from playground.errors import OutOfMemory, PlaygroundError, RunError, Stopped, UsageError
from playground.experiments.admission import check_request
from playground.experiments.progress import Snapshot
from playground.messages import NOTHING, Translatable, foreign, msg, sentences
from playground.records import Artifact, Column, ModelSpec, Request, Variant
from playground.system.reserve import insist, is_shortage, out_of_memory, spend
from playground.workers.executor import Executor

if TYPE_CHECKING:
    from playground.catalog.entries import Catalog
    from playground.export import Preparer

Result = TypeVar("Result")
Part = TypeVar("Part")
Result_co = TypeVar("Result_co", covariant=True)

_log = logging.getLogger(__name__)
ASKING: ContextVar[str] = ContextVar("asking", default="")
"""For whom experiments are begun in this thread: they take turns by it. Empty where all are one's own."""
WANTED: ContextVar[frozenset[str]] = ContextVar("wanted", default=frozenset())
"""Models of the experiment that is begun in this thread: they stay on the disk until it has ended."""


class Experiment(Protocol[Result_co]):
    """Something that is going on and will have a result. Every method may be called from any thread."""

    def snapshot(self) -> Snapshot:
        """Where it stands now. Cheap enough for ten times a second."""

    def stop(self) -> None:
        """Tell it to end; it does within 2 s. After its end this changes nothing."""

    @property
    def done(self) -> bool:
        """Whether ``result`` returns at once."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for its end; False if it did not come within ``timeout`` seconds."""

    def result(self) -> Result_co:
        """Wait for its end.

        Raises:
            PlaygroundError: It has no result; says why.
        """


@dataclass(frozen=True)
class Machine:
    """What all experiments of an app share: models, the workers and the queue in front of them.

    Attributes:
        closing: Set when the app ends: what is stopped from then on was not stopped by its reader.
    """

    settings: Settings
    catalog: Catalog
    preparer: Preparer
    pool: Executor
    closing: threading.Event = field(default_factory=threading.Event, repr=False, compare=False)
    _jobs: weakref.WeakSet[Job[Any]] = field(default_factory=weakref.WeakSet, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def begin(self, job: Job[Any]) -> None:
        """Start a job that was checked; ``close`` reaches it from then on.

        Raises:
            OutOfMemory: There is no memory for a thread; nothing was begun.
        """
        with self._lock:
            self._jobs.add(job)
        _log.info("experiment begun", extra={"run": job.id, "kind": type(job).__name__})
        try:
            job.begin()
        except (RuntimeError, MemoryError) as error:
            with self._lock:
                self._jobs.discard(job)
            if not is_shortage(error):
                raise
            spend()
            raise out_of_memory() from error

    def in_use(self) -> set[str]:
        """The models of every experiment that has not ended."""
        with self._lock:
            jobs = tuple(self._jobs)
        return {model for job in jobs if not job.done for model in job.models}

    def close(self) -> None:
        """Stop every experiment that is going on."""
        self.closing.set()
        with self._lock:
            jobs = tuple(self._jobs)
        for job in jobs:
            job.stop()

    def check(
        self, request: Request, columns: Sequence[str | Variant | Column], experiment: Translatable
    ) -> list[tuple[ModelSpec, Variant]]:
        """The models that are asked for, in their order: none twice with the same request.

        Args:
            request: What is asked of all but the columns that have a request of their own.
            experiment: What they are too many for, in words.

        Raises:
            UsageError: The request, a model or the list is wrong.
        """
        limits = self.settings.limits
        if not columns:
            raise UsageError(msg("No model is chosen"), msg("Choose at least one."))
        self.check_number(len(columns), experiment)
        check_request(request, limits)
        found: list[tuple[ModelSpec, Variant]] = []
        seen: list[tuple[Variant, Request]] = []
        for column in columns:
            asked = (column.request if isinstance(column, Column) else None) or request
            check_request(asked, limits)
            spec, variant = self.catalog.resolve(str(column.variant if isinstance(column, Column) else column))
            if (variant, asked) in seen:
                raise UsageError(
                    msg("{variant} is chosen twice", variant=variant),
                    msg(
                        "Choose it once, or ask it otherwise the second time: other parameters, another system prompt."
                    ),
                )
            found.append((spec, variant))
            seen.append((variant, asked))
        return found

    def check_number(self, columns: int, experiment: Translatable) -> None:
        """Refuse more columns than there may be.

        Raises:
            UsageError: There are.
        """
        most = self.settings.limits.max_models
        if columns > most:
            raise UsageError(
                msg("{n} models are too many for one {experiment}", n=columns, experiment=experiment),
                msg("Choose at most {most}.", most=most),
            )


class Job(ABC, Generic[Result]):
    """An experiment that is going on: what all of them have in common. Made and begun by a starter.

    Attributes:
        subject: What is worked on, in words that can begin a sentence.
        created_at: UTC.
        id: Of the comparison or measurement that comes of it. Nobody can guess it: who knows it may read that.
        models: Names of those it asks, as far as whoever began it said (``WANTED``).
    """

    def __init__(self, machine: Machine, subject: str) -> None:
        self.subject = foreign(subject)
        self.created_at = datetime.now(UTC)
        self.id = f"{self.created_at:%Y%m%d-%H%M%S}-{secrets.token_hex(16)}"
        self._machine = machine
        self._owner = ASKING.get()
        self.models = WANTED.get()
        self._overran = False
        self._lock = threading.Condition()
        self._stop = threading.Event()
        self._done = threading.Event()
        self._at = Snapshot(msg("waiting for its turn"))
        self._part: Experiment[Any] | None = None
        self._outcome: list[Result] = []
        self._error: PlaygroundError | None = None
        self._afterwards: list[Callable[[], object]] = []

    # -- for the caller -----------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start the thread; called once, by ``Machine.begin``."""
        threading.Thread(target=self._work, name=str(self.subject), daemon=True).start()

    def snapshot(self) -> Snapshot:
        """Where it stands now. Cheap enough for ten times a second."""
        with self._lock:
            at, part = self._at, self._part
        return replace(at, lives=part.snapshot().lives) if part else at

    def stop(self) -> None:
        """Tell it to end; it does within 2 s. After its end this changes nothing."""
        with self._lock:
            self._stop.set()
            part = self._part
        if part:
            part.stop()

    @property
    def done(self) -> bool:
        """Whether ``result`` returns at once."""
        return self._done.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for its end; False if it did not come within ``timeout`` seconds."""
        return self._done.wait(timeout)

    def when_done(self, call: Callable[[], object]) -> None:
        """Call this as soon as it is over; at once if it is. Where memory fails it, it is called again."""
        with self._lock:
            if not self.done:
                self._afterwards.append(call)
                return
        call()

    def result(self) -> Result:
        """Wait for its end.

        Raises:
            Stopped: It was stopped and has no result for that.
            PlaygroundError: It has no result; says why.
        """
        self._done.wait()
        if self._error:
            raise self._error
        return self._outcome[0]

    # -- for the experiment, in the job's own thread ------------------------------------------------------------

    @abstractmethod
    def _run(self) -> Result:
        """Prepare, hold the machine, run; returns the result. What it raises is raised by ``result``."""

    def _work(self) -> None:
        try:
            self._outcome.append(self._run())
        except BaseException as error:  # a library's SystemExit too: whoever waits is to be told
            if isinstance(error, PlaygroundError) and self._stop.is_set():
                self._error = Stopped(msg("{subject} was stopped", subject=self.subject), self._why_stopped())
            else:
                self._error = OUT_OF_MEMORY  # made beforehand: whatever follows may fail for want of it
                self._error = failure(error, self.subject)
        finally:
            insist(self._say_done)
            with suppress(MemoryError):
                _log.info("experiment ended", extra={"run": self.id, "outcome": _outcome(self._error)})
            for call in self._afterwards:  # nobody adds any more
                insist(call)

    def _say_done(self) -> None:
        with self._lock:
            self._done.set()

    def _tell(self, step: Translatable, progress: float | None = None) -> None:
        with self._lock:
            self._at = Snapshot(step, progress)

    def _prepare(self, variant: Variant) -> Artifact:
        """The variant's artifact, which may have to be made first.

        Raises:
            Stopped: The job was stopped.
            PlaygroundError: It can't be prepared; says why and what to do.
        """

        def tell(step: str, progress: float | None) -> None:
            self._tell(msg("{model}: {step}", model=variant, step=step), progress)

        return self._machine.preparer.prepare(variant, tell, self._stop.is_set)

    @contextmanager
    def _hold(self) -> Iterator[bool]:
        """The machine for this job alone, as soon as it is this job's turn; preparations rest meanwhile.

        Yields:
            False if the job was stopped before.
        """
        with self._machine.pool.turns.hold(self._waits_in_vain, self._tell_wait, self._owner) as mine:
            if not mine:
                yield False
                return
            with self._machine.preparer.paused(), self._bounded():
                yield True

    @contextmanager
    def _bounded(self) -> Iterator[None]:
        """Strangers have the machine for so long and no longer: it is stopped then, with what it has."""
        settings = self._machine.settings
        if not settings.strangers or settings.limits.max_run_s is None:
            yield
            return
        clock = threading.Timer(settings.limits.max_run_s, self._overrun)
        clock.daemon = True
        clock.start()
        try:
            yield
        finally:
            clock.cancel()

    def _overrun(self) -> None:
        self._overran = True
        self.stop()

    def _why_stopped(self) -> Translatable:
        """Why it was stopped, where that was not whoever asked for it; empty otherwise."""
        if not self._overran:
            return NOTHING
        most = self._machine.settings.limits.max_run_s
        return msg("It was stopped after {most:.0f} s, as long as one run may take here.", most=most)

    def _waits_in_vain(self) -> bool:
        """Whether there is nothing left to have the machine for."""
        return self._stop.is_set()

    def _tell_wait(self, ahead: int) -> None:
        self._tell(sentences(msg("waiting for the machine: {n} ahead", n=ahead), self._expected_wait(ahead)))

    def _expected_wait(self, ahead: int) -> Translatable:
        """How long it may take until it is this job's turn, in words; empty where nothing is known."""
        seconds = self._machine.pool.turns.expected_s(ahead)
        if seconds is None:
            return NOTHING
        if seconds < 90:
            return msg("(some {seconds:.0f} s)", seconds=max(1.0, seconds))
        return msg("(some {minutes:.0f} min)", minutes=seconds / 60)

    def _wait_for(self, part: Experiment[Part]) -> Part:
        """The result of an experiment that is part of this one: its answers are shown and it is stopped with it."""
        with self._lock:
            self._part = part
        if self._stop.is_set():
            part.stop()
        return part.result()

    def _created_words(self) -> str:
        """``created_at`` as records have it."""
        return self.created_at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


OUT_OF_MEMORY: OutOfMemory = out_of_memory()


def _outcome(error: PlaygroundError | None) -> str:
    """How it ended, in a word for the log."""
    return type(error).__name__ if error else "result"


def failure(error: BaseException, subject: object) -> PlaygroundError:
    """What a reader is told of an error. One that nobody foresaw is ours: its traceback goes into the log."""
    if isinstance(error, PlaygroundError):
        return error
    if is_shortage(error):
        spend()
        return out_of_memory()
    _log.error("%s", subject, exc_info=error)
    return RunError(
        msg("{subject}: {kind}: {error}", subject=subject, kind=type(error).__name__, error=str(error)),
        msg("This is a bug of the playground; please report it."),
    )
