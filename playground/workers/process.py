"""One worker process as the app sees it: its pipes, its last words, and how it ended.

It knows ``subprocess`` and the messages' outer shape; it does not know requests, runs or other workers.
"""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path

from playground.errors import WorkerDied
from playground.paths import python_path
from playground.records import LoadSpec
from playground.workers import protocol

TAIL_LINES = 200
_LINE_BYTES = 4000
_EXIT_GRACE_S = 1.0
_PIPE_BYTES = 65_536
_HANDFUL_S = 0.05
_PASSED = re.compile(
    r"PATH|HOME|USER|LANG|LC_.*|TZ|TMPDIR|TEMP|TMP|SYSTEMROOT|VIRTUAL_ENV|PYTHON.*|(DY)?LD_.*"
    r"|(OMP|GOMP|KMP|MKL|OPENBLAS|MALLOC|ORT)_.*|XDG_.*"
)
"""Environment a worker gets. Everything else stays behind: a Space keeps its secrets in variables of any name."""


_HUGE_PAGES = "glibc.malloc.hugetlb=1"
"""Where the system leaves it to the program (Debian, Ubuntu), weights in memory get pages of 2 MB: a token reads all of
them, and finding 60,000 small pages takes 8 to 10 % of that time. Other C libraries and kernels ignore it."""
_NETWORK = re.compile(r"(HTTPS?|ALL|NO)_PROXY|SSL_CERT_(FILE|DIR)", re.IGNORECASE)
"""What else the worker of a model served elsewhere needs, beside the one variable that holds its key."""


def worker_environment(load: LoadSpec, env: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a worker: what the interpreter and its libraries need, no guesses about threads, and neither
    secrets nor network unless somebody else serves the model.
    """
    env = os.environ if env is None else env
    remote = load.spec.remote
    passed = {name: value for name, value in env.items() if _PASSED.fullmatch(name)}
    if remote:
        passed |= {name: value for name, value in env.items() if _NETWORK.fullmatch(name) or name == remote.key_env}
    else:
        passed["HF_HUB_OFFLINE"] = "1"
    return passed | {
        "OMP_NUM_THREADS": str(load.threads),
        "TOKENIZERS_PARALLELISM": "false",
        "GLIBC_TUNABLES": ":".join(filter(None, (env.get("GLIBC_TUNABLES"), _HUGE_PAGES))),
        "PYTHONPATH": python_path(env),
    }


class WorkerProcess:
    """A running ``playground.workers.main``.

    Args:
        load: What will be loaded; it decides the environment. Loading itself is a command.
        logs: Folder where the last words of a worker that died are written.

    Attributes:
        started_at: Before the process was made, on the clock of ``time.monotonic()``.
    """

    def __init__(self, load: LoadSpec, logs: Path) -> None:
        self.model = model = str(load.artifact.variant)
        self._logs = logs
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._inbox: queue.SimpleQueue[list[bytes] | None] = queue.SimpleQueue()
        self._received: deque[bytes] = deque()
        self._sending = threading.Lock()
        self.started_at = time.monotonic()
        # A session of its own: Ctrl-C in the terminal reaches the app alone, which then tears down in order.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "playground.workers.main"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=worker_environment(load),
            start_new_session=True,
        )
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._stdin = self._process.stdin
        self._ears = (
            (threading.Thread(target=self._hear, name=f"hear {model}", daemon=True), self._process.stdout),
            (threading.Thread(target=self._keep_tail, name=f"log {model}", daemon=True), self._process.stderr),
        )
        for thread, _ in self._ears:
            thread.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def send(self, message: protocol.Message) -> None:
        """Pass a command on.

        Raises:
            WorkerDied: The process ended.
        """
        try:
            with self._sending:
                self._stdin.write(protocol.encode(message))
                self._stdin.flush()
        except (OSError, ValueError):
            raise self.death() from None

    def receive(self, timeout: float) -> protocol.Message | None:
        """The next message, or None after ``timeout`` seconds without one; for one reader at a time.

        Raises:
            WorkerDied: The process ended, and every message it had sent was received.
        """
        while True:
            while self._received:
                line = self._received.popleft()
                try:
                    return protocol.decode(line)
                except ValueError:
                    self._tail.append(f"not a message: {line[:200]!r}")
            try:
                handful = self._inbox.get(timeout=timeout)
            except queue.Empty:
                return None
            if handful is None:
                self._inbox.put(None)
                raise self.death()
            self._received.extend(handful)

    def close(self) -> None:
        """End the process: by its own will, or by SIGKILL when it does not answer within a second."""
        try:
            if self.alive:
                self.send(protocol.leave())
            self._process.wait(_EXIT_GRACE_S)
        except (WorkerDied, subprocess.TimeoutExpired):
            pass
        self.kill()

    def kill(self) -> None:
        """SIGKILL for the process and whatever it started; returns when it is gone and its pipes are closed."""
        if self.alive:
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                self._process.kill()
        self._process.wait()
        for thread, pipe in self._ears:
            thread.join(_EXIT_GRACE_S)
            if not thread.is_alive():
                pipe.close()
        with self._sending:
            try:
                self._stdin.close()
            except OSError:
                pass  # what was still to be written has no reader any more

    def death(self) -> WorkerDied:
        """Why the process ended, in words; its last words go into a log file. Kills it if it only closed its pipes."""
        try:
            self._process.wait(_EXIT_GRACE_S)
        except subprocess.TimeoutExpired:
            pass
        self.kill()
        what = f"{self.model}: its worker process {_ending(self._process.returncode)}"
        if self._process.returncode != -signal.SIGKILL and self._tail:
            what += f" ({self._last_words()})"
        hint = "The next prompt starts it again."
        if self._process.returncode == -signal.SIGKILL:
            hint = f"Perhaps the machine ran out of memory: try a smaller model or precision. {hint}"
        log = self._write_log()
        return WorkerDied(what, f"{hint} Its last words are in {log}." if log else hint)

    def _last_words(self) -> str:
        """The line of stderr that tells most: Python's headline of a crash, whose stack follows it, or the last."""
        return next((line for line in self._tail if line.startswith("Fatal Python error")), self._tail[-1])

    def _hear(self) -> None:
        """Take messages in by the handful, and pass a handful on at once. The model's threads want every core; waking
        two threads here for every token cost it 5 % of its speed, though they computed for 1.4 % of the time. What
        comes meanwhile waits in the pipe and outlives even the worker.
        """
        pipe, rest = self._ears[0][1], b""
        while heard := os.read(pipe.fileno(), _PIPE_BYTES):
            *lines, rest = (rest + heard).split(b"\n")
            if lines:
                self._inbox.put(lines)
            time.sleep(_HANDFUL_S)
        self._inbox.put(None)

    def _keep_tail(self) -> None:
        while line := self._ears[1][1].readline(_LINE_BYTES):
            text = line.decode("utf-8", "backslashreplace").rstrip()
            if text:
                self._tail.append(text)

    def _write_log(self) -> Path | None:
        if not self._tail:
            return None
        path = self._logs / f"worker-{re.sub(r'[^A-Za-z0-9.@-]+', '_', self.model)[:80]}.log"
        try:
            self._logs.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(self._tail) + "\n", encoding="utf-8")
        except OSError:
            return None
        return path


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name} ({-code})"
    except ValueError:
        return f"was killed by signal {-code}"
