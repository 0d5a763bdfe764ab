"""The app's view of preparation: what state each model is in, and the queue of those being made.

Preparations run one at a time (each takes gigabytes), in processes of their own. A model that somebody waits for goes
before those prepared in the background. This module imports neither torch nor transformers.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol

from playground import sources
from playground.config.endpoints import remote_artifact
from playground.errors import ExportError, PlaygroundError, Stopped, reason_of
from playground.export import cache, fake, prepared
from playground.export.process import ExportProcess
from playground.messages import NOTHING, Translatable, msg
from playground.records import Artifact, ModelSpec, Record, Variant
from playground.sources.files import Cancelled, Progress, clean
from playground.system.reserve import insist, is_shortage, out_of_memory, spend

log = logging.getLogger(__name__)

Status = Literal["missing", "preparing", "ready", "failed"]
QUEUED = msg("waiting for its turn")
REMEMBERED_S = 60.0
"""Where strangers ask, a preparation that failed is not tried again before: each try is a process and a log."""


class Catalogue(Protocol):
    """What the preparer needs of a catalogue."""

    def resolve(self, text: str) -> tuple[ModelSpec, Variant]: ...


class HasHome(Protocol):
    """What the preparer needs of the settings."""

    @property
    def home(self) -> Path: ...

    @property
    def prepared_from(self) -> str: ...

    @property
    def strangers(self) -> bool: ...


class Disk(Protocol):
    """Who keeps account of the disk that preparations take (``allowance``)."""

    def begin(self, spec: ModelSpec, variant: Variant) -> None:
        """Make room, or raise a ``PlaygroundError``: then it is not prepared."""

    def end(self, spec: ModelSpec, variant: Variant, *, ready: bool) -> None:
        """Take account of what it left; raises a ``PlaygroundError`` where it was too much."""


@dataclass(frozen=True)
class Preparation(Record):
    """Where one variant stands. ``progress`` is 0 to 1 within ``step``, None where unknown."""

    status: Status
    step: Translatable = NOTHING
    progress: float | None = None
    error: Translatable | None = None
    artifact: Artifact | None = None


@dataclass
class _Job:
    spec: ModelSpec
    variant: Variant
    state: Preparation
    background: bool = False
    waiting: int = 0
    called_off: bool = False
    failed_at: float = -math.inf
    done: threading.Event = field(default_factory=threading.Event)
    result: Artifact | PlaygroundError | None = None
    steps: list[Translatable] = field(default_factory=list)


class Preparer:
    """Makes artifacts and says how far they are. Safe to use from many threads.

    Args:
        settings: ``home``; ``prepared_from``, a repository with artifacts that somebody prepared; ``strangers``,
            whether a failure is remembered for ``REMEMBERED_S`` instead of tried again.
        catalog: Anything with ``resolve``.
        disk: Asked before each preparation and told its end.

    Attributes:
        ended: How many preparations ended ``ready``, ``failed`` or ``stopped``.
    """

    def __init__(self, settings: HasHome, catalog: Catalogue, disk: Disk | None = None) -> None:
        self._home = Path(settings.home)
        self._disk = disk
        self._origin = settings.prepared_from
        self._remembered_s = REMEMBERED_S if settings.strangers else 0.0
        self._catalog = catalog
        self.ended: Counter[str] = Counter()
        self._change = threading.Condition()
        self._queue: list[_Job] = []
        self._jobs: dict[str, _Job] = {}
        self._running: ExportProcess | None = None
        self._pauses = 0
        self._closed = False
        self._thread: threading.Thread | None = None

    def state(self, variant: Variant) -> Preparation:
        """Where ``variant`` stands now. Cheap: asked for every model at every refresh.

        Raises:
            UsageError: No such model or variant.
        """
        spec, variant = self._catalog.resolve(str(variant))
        with self._change:
            job = self._jobs.get(str(variant))
            if job and not job.done.is_set():
                return job.state
        artifact = self._artifact(spec, variant)
        if artifact:
            return Preparation("ready", progress=1.0, artifact=artifact)
        if job and isinstance(job.result, PlaygroundError) and not isinstance(job.result, Stopped):
            return job.state
        return Preparation("missing")

    @property
    def busy(self) -> bool:
        """Whether anything is being prepared, or waits for its turn."""
        with self._change:
            return not all(job.done.is_set() for job in self._jobs.values())

    @property
    def waiting(self) -> int:
        """How many preparations are under way or wait for their turn."""
        with self._change:
            return sum(not job.done.is_set() for job in self._jobs.values())

    def start(self, variant: Variant) -> None:
        """Prepare in the background. Does nothing if that is done or under way; tries again what failed, where
        strangers ask once it is some time ago.

        Raises:
            UsageError: No such model or variant.
            Stopped: The preparer was closed.
        """
        spec, variant = self._catalog.resolve(str(variant))
        if self._artifact(spec, variant) is None:
            with self._change:
                if not self._failed_lately(variant):
                    self._job(spec, variant).background = True

    def prepare(self, variant: Variant, progress: Progress, cancelled: Cancelled) -> Artifact:
        """Wait until ``variant`` is ready.

        The artifact's own ``variant`` names the runtime to use: torch, where no export was good enough.
        Calling off ends the work only if nobody else waits for it. While ``paused`` nothing proceeds, so do not wait
        here inside that block.

        Raises:
            UsageError: No such model or variant.
            Stopped: ``cancelled`` said so, or the preparer was closed.
            PlaygroundError: It can't be prepared; says why and what to do.
        """
        spec, variant = self._catalog.resolve(str(variant))
        if artifact := self._artifact(spec, variant):
            return artifact
        with self._change:
            if failure := self._failed_lately(variant):
                raise failure.with_traceback(None)
            job = self._job(spec, variant)
            job.waiting += 1
            if job in self._queue:
                self._queue.remove(job)
                self._queue.insert(0, job)
        told = 0
        try:
            while True:
                done = job.done.wait(0.1)
                known = len(job.steps)
                for step in job.steps[told:known]:  # one that was over within the wait is told all the same
                    progress(step, None)
                told = known
                if done:
                    break
                progress(job.state.step, job.state.progress)
                if cancelled():
                    raise Stopped(msg("Preparing {model} was called off", model=spec.name))
        finally:
            with self._change:
                job.waiting -= 1
                job.called_off |= not (job.waiting or job.background or job.done.is_set())
        if isinstance(job.result, PlaygroundError):
            raise job.result
        assert job.result is not None
        return job.result

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Suspend what is running, and start nothing new, while figures are taken. May be nested."""
        with self._change:
            self._pauses += 1
            if self._pauses == 1 and self._running:
                self._running.suspend()
        try:
            yield
        finally:
            with self._change:
                self._pauses -= 1
                if self._pauses == 0:
                    if self._running:
                        self._running.resume()
                    self._change.notify_all()

    def clean(self) -> None:
        """Remove what processes that were killed left behind, in the background: it may be gigabytes."""
        threading.Thread(target=clean, args=(self._home,), name="clean", daemon=True).start()

    def close(self) -> None:
        """End what is running and whatever waits for it. The preparer can't be used afterwards."""
        with self._change:
            self._closed = True
            for job in self._jobs.values():
                job.called_off = True
            self._change.notify_all()
            thread = self._thread
        if thread:
            thread.join(timeout=10)

    def _artifact(self, spec: ModelSpec, variant: Variant) -> Artifact | None:
        if spec.remote:
            return remote_artifact(variant)
        if variant.runtime == "fake":
            job = self._jobs.get(str(variant))
            if fake.script(spec) == (0.0, ""):
                return fake.artifact(spec, variant, self._home)
            there = fake.is_there(spec, variant, self._home)
            return job.result if job and isinstance(job.result, Artifact) and there else None
        fetched = sources.present(spec, self._home, onnx=variant.precision if variant.runtime == "onnx" else "")
        made = cache.artifact_folder(self._home, spec, variant, fetched.revision) if fetched else None
        if made and (artifact := cache.read(made, self._home)):
            return artifact
        if self._origin and prepared.can_be_taken(spec, variant):
            return cache.read(prepared.folder_of(self._home, spec, variant, self._origin), self._home)
        return None

    def _failed_lately(self, variant: Variant) -> PlaygroundError | None:
        """Why a process that prepared it failed, where that is not to be tried again yet. Needs the lock."""
        job = self._jobs.get(str(variant))
        if job and isinstance(job.result, PlaygroundError) and time.monotonic() < job.failed_at + self._remembered_s:
            return job.result
        return None

    def _job(self, spec: ModelSpec, variant: Variant) -> _Job:
        """The job under way for this variant, or a new one. Needs the lock."""
        if self._closed:
            raise Stopped(msg("Preparing {model} was called off: the app is closing", model=spec.name))
        job = self._jobs.get(str(variant))
        if job is None or job.done.is_set() or job.called_off:
            if self._thread is None:  # first, as there may be no memory for it: who waits for a job waits for its end
                thread = threading.Thread(target=self._run, name="preparer", daemon=True)
                thread.start()
                self._thread = thread
            job = _Job(spec, variant, Preparation("preparing", QUEUED))
            self._jobs[str(variant)] = job
            self._queue.append(job)
            self._change.notify_all()
        return job

    def _run(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._closed or (self._queue and not self._pauses))
                if self._closed:
                    break
                job = self._queue.pop(0)
            insist(self._finish, job, self._outcome(job))
        with self._change:
            left, self._queue = self._queue, []
        for job in left:
            called_off = msg("Preparing {model} was called off: the app is closing", model=job.spec.name)
            self._finish(job, Stopped(called_off))

    def _outcome(self, job: _Job) -> Artifact | PlaygroundError:
        try:
            return self._make(job)
        except PlaygroundError as error:
            return error
        except Exception as error:  # a fault here must end this job, not the queue
            if is_shortage(error):
                spend()
                return out_of_memory()
            log.exception("preparing %s failed", job.variant)
            return ExportError(
                msg(
                    "Preparing {model} failed ({kind}: {reason})",
                    model=job.spec.name,
                    kind=type(error).__name__,
                    reason=reason_of(error),
                )
            )

    def _make(self, job: _Job) -> Artifact:
        def progress(step: Translatable, share: float | None) -> None:
            if step not in job.steps[-1:]:
                job.steps.append(step)
            job.state = Preparation("preparing", step, share)

        if job.called_off:
            raise Stopped(msg("Preparing {model} was called off", model=job.spec.name))
        if not self._disk:
            return self._made(job, progress)
        self._disk.begin(job.spec, job.variant)
        try:
            artifact = self._made(job, progress)
        except BaseException:
            self._disk.end(job.spec, job.variant, ready=False)
            raise
        self._disk.end(job.spec, job.variant, ready=True)
        return artifact

    def _made(self, job: _Job, progress: Progress) -> Artifact:
        try:
            return self._by_process(job, progress)
        except PlaygroundError as error:
            if not isinstance(error, Stopped):
                job.failed_at = time.monotonic()
            raise

    def _by_process(self, job: _Job, progress: Progress) -> Artifact:
        if job.variant.runtime == "fake":
            return fake.prepare(job.spec, job.variant, self._home, progress, lambda: job.called_off)
        progress(msg("starting"), None)
        process = ExportProcess(job.spec, job.variant, self._home, self._origin)
        try:
            with self._change:
                self._running = process
                if self._pauses:
                    process.suspend()
            return process.follow(progress, lambda: job.called_off)
        finally:
            with self._change:
                self._running = None
            process.kill()
            clean(self._home)  # one that was killed can't take its staging folder away

    def _finish(self, job: _Job, result: Artifact | PlaygroundError) -> None:
        with self._change:
            job.result = result
            if isinstance(result, Stopped):
                job.state = Preparation("missing")
            elif isinstance(result, PlaygroundError):
                job.state = replace(job.state, status="failed", error=result.message)
            else:
                job.state = Preparation("ready", progress=1.0, artifact=result)
            outcome = "stopped" if isinstance(result, Stopped) else job.state.status
            self.ended[outcome] += 1
            job.done.set()
        log.info("preparation ended", extra={"model": str(job.variant), "outcome": outcome})
