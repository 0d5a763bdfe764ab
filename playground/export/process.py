"""One preparation's process, seen from the app: start, follow, suspend, end.

The child is the leader of a process group of its own; signals go to the group, so pip is met as well. It ends by
itself when our end of its stdin closes. Knows the worker's lines, not what is prepared.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playground import errors
from playground.errors import ExportError, PlaygroundError, Stopped
from playground.paths import python_path
from playground.records import Artifact, ModelSpec, Variant
from playground.sources.files import Cancelled, Progress, ensure_home, storage_errors

MODULE = "playground.export.worker"


class ExportProcess:
    """A running ``playground.export.worker``.

    Args:
        spec: What is prepared.
        variant: As what.
        home: PLAYGROUND_HOME; the log goes to its folder ``logs``.
    """

    def __init__(self, spec: ModelSpec, variant: Variant, home: Path) -> None:
        self._spec = spec
        ensure_home(home)
        with storage_errors(home):
            (home / "logs").mkdir(exist_ok=True)
            stamp = time.strftime("%Y%m%d-%H%M%S")
            self.log = home / "logs" / f"prepare-{spec.id.replace('/', '-')[-60:]}-{stamp}.log"
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", MODULE],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env={**os.environ, "PYTHONPATH": python_path(os.environ), "PYTHONUNBUFFERED": "1"},
                    start_new_session=True,
                )
        job = {"spec": spec.to_json(), "variant": variant.to_json(), "home": str(home.absolute())}
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(job).encode() + b"\n")
            self._process.stdin.flush()

    def follow(self, progress: Progress, cancelled: Cancelled) -> Artifact:
        """Wait for the result.

        Raises:
            PlaygroundError: What the worker reported, or that it died.
            Stopped: ``cancelled`` said so; the process is gone by then.
        """
        lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=self._read, args=(lines.put,), daemon=True).start()
        while True:
            if cancelled():
                raise Stopped(f"Preparing {self._spec.name} was called off")
            try:
                line = lines.get(timeout=0.1)
            except queue.Empty:
                continue
            if not line:
                raise self._died()
            message = json.loads(line)
            if "artifact" in message:
                return Artifact.from_json(message["artifact"])
            if "error" in message:
                raise _error(message["error"])
            progress(message["step"], message["progress"])

    def suspend(self) -> None:
        """Take the processor away until ``resume``."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def end(self) -> None:
        """Kill the group, if it still lives, and wait for it."""
        self._signal(signal.SIGKILL)
        self._process.wait()
        # Of a worker that died by itself, pip may have been left in the group.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _read(self, put: Callable[[bytes], None]) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(ValueError, OSError):  # closed by end()
            for line in self._process.stdout:
                put(line)
        put(b"")

    def _signal(self, number: int) -> None:
        # A process that was not waited for keeps its number, so the group cannot be somebody else's.
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def _died(self) -> ExportError:
        code = self._process.wait()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        memory = " Signal SIGKILL often means that memory ran out." if code == -signal.SIGKILL else ""
        return ExportError(
            f"The process that prepared {self._spec.name} ended early ({how})", f"The log is {self.log}.{memory}"
        )


def _error(said: dict[str, Any]) -> PlaygroundError:
    """The worker's error as it was raised there."""
    kind = getattr(errors, str(said["type"]), ExportError)
    error: PlaygroundError = kind(said["what"], said["next_step"])
    return error
