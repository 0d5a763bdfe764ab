"""One preparation's process, seen from the app: start, follow, suspend, end.

It leads a process group of its own; signals go to the group, so pip is met as well. Knows the worker's lines, not what
is prepared.
"""

from __future__ import annotations

import contextlib
import re
import signal
import time
from pathlib import Path

from playground.errors import ExportError, PlaygroundError, Stopped
from playground.messages import NOTHING, Translatable, msg, sentences
from playground.records import Artifact, ModelSpec, Variant
from playground.sources.files import Cancelled, Progress, ensure_home, storage_errors
from playground.system import child_environment, memory
from playground.system.child import MAX_LINE_BYTES, Ending, JsonChild
from playground.system.zerogpu import on_zero_gpu

MODULE = "playground.export.worker"
MEMORY_SHARE = 0.95
"""Of the memory that there is: what takes more is ended before the system ends something else."""


def preparation_environment() -> dict[str, str]:
    """The environment of a preparation: it reads files and computes. What is needed to fetch comes with its job, for
    those of its children that do.
    """
    passed = child_environment.passed(
        child_environment.LIBRARIES, child_environment.CACHES, child_environment.COMPILERS
    )
    return passed | {"PYTHONUNBUFFERED": "1"}


def _limit_mb() -> float:
    return memory.limit_mb() * MEMORY_SHARE


class ExportProcess(JsonChild):
    """A running ``playground.export.worker``.

    Args:
        spec: What is prepared.
        variant: As what.
        home: PLAYGROUND_HOME; the log goes to its folder ``logs``.
        prepared_from: A repository with artifacts that somebody prepared; empty for none.

    Raises:
        StorageError: ``home`` can't be written.
        ExportError: No process could be started.
    """

    def __init__(self, spec: ModelSpec, variant: Variant, home: Path, prepared_from: str = "") -> None:
        self._spec = spec
        self._excess_mb: float | None = None
        ensure_home(home)
        with storage_errors(home):
            (home / "logs").mkdir(exist_ok=True)
            stamp = time.strftime("%Y%m%d-%H%M%S")
            self.log = home / "logs" / f"prepare-{re.sub('[^A-Za-z0-9._-]+', '-', spec.id)[-60:]}-{stamp}.log"
            log = self.log.open("ab")
        with log:
            try:
                super().__init__(MODULE, preparation_environment(), stderr=log)
            except OSError as error:
                raise ExportError(
                    msg(
                        "No process could be started to prepare {model} ({reason})",
                        model=spec.name,
                        reason=error.strerror,
                    ),
                    msg("Try again."),
                ) from error
        with contextlib.suppress(ExportError):  # ``follow`` raises it
            job = {"spec": spec.to_json(), "variant": variant.to_json(), "home": str(home.absolute())}
            self.send({**job, "prepared_from": prepared_from, "lent": on_zero_gpu(), "keys": child_environment.keys()})

    def follow(self, progress: Progress, cancelled: Cancelled) -> Artifact:
        """Wait for the result.

        Raises:
            PlaygroundError: What the worker reported, or that it died.
            Stopped: ``cancelled`` said so; the process still runs, until ``kill``.
        """
        for message in self.messages(lambda: cancelled() or self._too_large()):
            if "artifact" in message:
                return Artifact.from_json(message["artifact"])
            if "error" in message:
                raise PlaygroundError.from_json(message["error"], ExportError)
            progress(Translatable.from_json(message["step"]), message["progress"])
        if self._excess_mb is not None:
            raise ExportError(
                msg(
                    "Preparing {model} took {taken:,.0f} MB of memory, more than {limit:,.0f} MB, and was ended",
                    model=self._spec.name,
                    taken=self._excess_mb,
                    limit=_limit_mb(),
                ),
                msg("Choose a smaller model, or prepare it on a machine with more memory."),
            )
        raise Stopped(msg("Preparing {model} was called off", model=self._spec.name))

    def _too_large(self) -> bool:
        self._excess_mb = self.excess_mb(_limit_mb())
        return self._excess_mb is not None

    def suspend(self) -> None:
        """Take the processor away until ``resume``."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def died(self, ending: Ending) -> ExportError:
        """How the process ended, and where its log is."""
        if ending.flooded:
            how = msg("it sent a line of {mb:.0f} MB", mb=MAX_LINE_BYTES / 1e6)
        elif ending.signal:
            how = msg("signal {signal}", signal=ending.signal)
        else:
            how = msg("exit code {code}", code=ending.code)
        return ExportError(
            msg("The process that prepared {model} ended early ({how})", model=self._spec.name, how=how),
            sentences(
                msg("The log is {log}.", log=self.log),
                msg("Signal SIGKILL often means that memory ran out.") if ending.killed else NOTHING,
            ),
        )
