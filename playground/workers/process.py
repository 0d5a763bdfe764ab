"""One worker process as the app sees it: its environment, its last words, and how it ended.

It knows what a worker may have of our environment; it does not know requests, runs or other workers.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

from playground.errors import DoesNotFit, Stopped, WorkerDied, WorkerStalled
from playground.messages import NOTHING, Translatable, foreign, msg, sentences
from playground.records import Cancelled, LoadSpec
from playground.system.child import MAX_LINE_BYTES, Ending, JsonChild
from playground.system.child_environment import LIBRARIES, NETWORK, passed
from playground.workers import protocol

MODULE = "playground.workers.main"
STOPPED = msg("Stopped before the model had answered")
_HUGE_PAGES = "glibc.malloc.hugetlb=1"
"""Where the system leaves it to the program (Debian, Ubuntu), weights in memory get pages of 2 MB: a token reads all of
them, and finding 60,000 small pages takes 8 to 10 % of that time. Other C libraries and kernels ignore it."""


def worker_environment(load: LoadSpec, env: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a worker: what the interpreter and its libraries need, no guesses about threads, and neither
    secrets nor network unless somebody else serves the model.
    """
    env = os.environ if env is None else env
    remote = load.spec.remote
    known = passed(LIBRARIES, *((NETWORK, re.escape(remote.key_env)) if remote else ()), env=env)
    if not remote:
        known["HF_HUB_OFFLINE"] = "1"
    return known | {
        "OMP_NUM_THREADS": str(load.threads),
        "TOKENIZERS_PARALLELISM": "false",
        "GLIBC_TUNABLES": ":".join(filter(None, (env.get("GLIBC_TUNABLES"), _HUGE_PAGES))),
    }


class WorkerProcess(JsonChild):
    """A running ``playground.workers.main``.

    Args:
        load: What will be loaded; it decides the environment. Loading itself is a command.
        logs: Folder where the last words of a worker that died are written.
        stall_s: How long it may neither say nor read anything, in seconds.

    Raises:
        OSError: No process could be started.
    """

    def __init__(self, load: LoadSpec, logs: Path, stall_s: float) -> None:
        self.model = str(load.artifact.variant)
        self._logs, self._stall_s = logs, stall_s
        super().__init__(MODULE, worker_environment(load))

    def tell(self, message: protocol.Message, cancelled: Cancelled) -> None:
        """Send; a worker that reads nothing is waited for until Stop or the stall timeout, and then to be killed.

        Raises:
            Stopped: ``cancelled`` said so.
            WorkerStalled: It read nothing for too long.
            WorkerDied: The process ended.
        """

        def waiting() -> None:
            if cancelled():
                raise Stopped(STOPPED)
            self.check_stall()

        self.send(message, waiting)

    def check_stall(self) -> None:
        """Make sure that it is not silent for too long.

        Raises:
            WorkerStalled: It neither said nor read anything for ``stall_s``.
        """
        if self.silent_s > self._stall_s:
            what = msg(
                "{model}: its worker reported nothing for {s:g} s and was ended", model=self.model, s=self._stall_s
            )
            raise WorkerStalled(what, msg("The next prompt starts it again."))

    def check_memory(self, limit_mb: float) -> None:
        """Make sure that it has not written more to memory than it may.

        Raises:
            DoesNotFit: It has.
        """
        taken = self.excess_mb(limit_mb)
        if taken is not None:
            what = msg(
                "{model}: its worker took {taken:,.0f} MB of memory, more than the {limit:,.0f} MB that a model may "
                "take here, and was ended",
                model=self.model,
                taken=taken,
                limit=limit_mb,
            )
            raise DoesNotFit(what, msg("Choose a smaller model or precision, or ask for less at once."))

    def close(self) -> None:
        """End the process: by its own will, or by SIGKILL when it does not answer within a second."""

        def no_room() -> None:
            raise TimeoutError

        with contextlib.suppress(WorkerDied, TimeoutError):
            self.send(protocol.leave(), no_room)
        self.finish()
        self.kill()

    def more_follows(self, heard: bytes) -> bool:
        """Behind a token come others. Whatever else it says, somebody waits for: the first token is heard at once."""
        return b'"kind":"token"' in heard[heard.rfind(b"\n", 0, -1) + 1 :]

    def died(self, ending: Ending) -> WorkerDied:
        """Why the process ended, in words; its last words go into a log file."""
        what = self._ended(ending)
        if self.tail and not ending.killed:
            what = msg("{what} ({last_words})", what=what, last_words=foreign(self._last_words()))
        hint = msg("The next prompt starts it again.")
        log = self._write_log()
        return WorkerDied(
            what,
            sentences(
                msg("Perhaps the machine ran out of memory: try a smaller model or precision.")
                if ending.killed
                else NOTHING,
                hint,
                msg("Its last words are in {log}.", log=log) if log else NOTHING,
            ),
        )

    def _ended(self, ending: Ending) -> Translatable:
        if ending.flooded:
            mb = MAX_LINE_BYTES / 1e6
            return msg("{model}: its worker process sent a line of {mb:.0f} MB and was ended", model=self.model, mb=mb)
        if ending.signal:
            return msg(
                "{model}: its worker process was killed by {signal} ({number})",
                model=self.model,
                signal=ending.signal,
                number=-ending.code,
            )
        return msg("{model}: its worker process ended with exit code {code}", model=self.model, code=ending.code)

    def _last_words(self) -> str:
        """The line of stderr that tells most: Python's headline of a crash, whose stack follows it, or the last."""
        return next((line for line in self.tail if line.startswith("Fatal Python error")), self.tail[-1])

    def _write_log(self) -> Path | None:
        if not self.tail:
            return None
        path = self._logs / f"worker-{re.sub(r'[^A-Za-z0-9.@-]+', '_', self.model)[:80]}.log"
        try:
            self._logs.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(self.tail) + "\n", encoding="utf-8")
        except OSError:
            return None
        return path
