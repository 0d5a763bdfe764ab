"""Apps that are forked from a process which has read their libraries: a fresh ``python app.py`` imports gradio for some
eight seconds of processor time before it opens a page, and most tests ask nothing about that.

Each app is still a process of its own, with an environment, a working directory, signals, children and an end of its
own; what one does to its memory, no other sees. Only what libraries read of the environment when they are imported is
the nursery's, so an app with variables of others than `OWN` is not forked (`Nursery.suits`).

Run as a program, this is the nursery: it forks an app for each message on the socket that is its standard input, and
tells the ends of apps there. It goes when nobody listens any more, and takes its apps along.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[2]
OWN = ("PLAYGROUND_", "SPACE_", "HOST", "PORT", "TMPDIR", "PYTEST_", "OAUTH_", "OPENID_")
"""How variables begin that nothing reads before an app starts."""
START_S = 240
"""So long it may import, on a machine where others compute."""
LARGEST = 1 << 18
"""A message: a command and its environment."""


class ForkedApp:
    """As much of `subprocess.Popen` as tests use."""

    def __init__(self, nursery: Nursery, pid: int, stdout: IO[str]) -> None:
        self.pid = pid
        self.stdout = stdout
        self.returncode: int | None = None
        self._nursery = nursery

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._nursery.code_of(self.pid, 0)
        return self.returncode

    def wait(self, timeout: float) -> int:
        """Its exit code; minus the signal if one ended it.

        Raises:
            subprocess.TimeoutExpired: It still runs after ``timeout`` seconds.
        """
        if self.returncode is None:
            self.returncode = self._nursery.code_of(self.pid, timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("app.py", timeout)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Nursery:
    """The other end: asks for apps and hears of their ends."""

    def __init__(self) -> None:
        self._env = os.environ | {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"}
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__],
                cwd=ROOT,
                env=self._env,
                stdin=theirs,
            )
        self._codes: dict[int, int] = {}

    def suits(self, env: Mapping[str, str]) -> bool:
        """Whether an app in this environment is the same forked as started."""
        return not any(
            not name.startswith(OWN) and name != "GRADIO_ANALYTICS_ENABLED" and env.get(name) != self._env.get(name)
            for name in {*env, *self._env}
        )

    def fork(self, arguments: Sequence[str], env: Mapping[str, str]) -> ForkedApp:
        """``python`` with ``arguments``, ``app.py`` the first, in ``env`` and nothing else."""
        reads, writes = os.pipe()
        asked = json.dumps({"arguments": list(arguments), "env": dict(env)}).encode()
        try:
            socket.send_fds(self._socket, [asked], [writes])
        finally:
            os.close(writes)
        while True:
            heard = self._hear(START_S)
            if heard is not None and "forked" in heard:
                return ForkedApp(self, heard["forked"], os.fdopen(reads, encoding="utf-8"))
            assert heard is not None, "the nursery does not answer"

    def code_of(self, pid: int, seconds: float) -> int | None:
        """The exit code of an app, as soon as it has one or ``seconds`` are over."""
        deadline = time.monotonic() + seconds
        while pid not in self._codes:
            if self._hear(max(deadline - time.monotonic(), 0)) is None and time.monotonic() >= deadline:
                return None
        return self._codes[pid]

    def close(self) -> None:
        self._socket.close()
        self._process.wait(30)

    def _hear(self, seconds: float) -> dict[str, Any] | None:
        """The next message, None if there is none within ``seconds``; exit codes are kept."""
        if not select.select([self._socket], [], [], seconds)[0]:
            return None
        said = self._socket.recv(LARGEST)
        assert said, f"the nursery ended with {self._process.wait(30)}"
        heard: dict[str, Any] = json.loads(said)
        if "ended" in heard:
            self._codes[heard["ended"]] = heard["code"]
        return heard


@cache
def nursery() -> Nursery:
    """This process's own, opened at first use and closed at its end."""
    opened = Nursery()
    atexit.register(opened.close)
    return opened


def _serve() -> None:
    from playground.ui.quick_import import import_gradio

    import_gradio()
    import playground.api.app
    import playground.api.beside
    import playground.service
    import playground.ui.app
    import playground.ui.early
    import playground.ui.files
    import playground.ui.middleware
    import playground.ui.page
    import playground.ui.suite_views
    import playground.ui.watching  # noqa: F401  # all that `playground.ui.app.serve` reads

    gc.freeze()
    asks = socket.socket(fileno=os.dup(0))
    apps: set[int] = set()

    def tell(**what: int) -> None:
        with suppress(ConnectionError):  # nobody listens any more: the next read says so
            asks.send(json.dumps(what).encode())

    # A signal to the whole group (Ctrl-C) is for pytest, which ends this by closing the socket.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    wakes, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    while True:
        ready, _, _ = select.select([asks, wakes], [], [])
        if wakes in ready:
            os.read(wakes, 4096)
            for pid in list(apps):
                found, status = os.waitpid(pid, os.WNOHANG)
                if found:
                    apps.discard(pid)
                    tell(ended=pid, code=os.waitstatus_to_exitcode(status))
        if asks in ready:
            said, given, _, _ = socket.recv_fds(asks, LARGEST, 1)
            if not said:
                break
            pid = os.fork()
            if not pid:
                signal.set_wakeup_fd(-1)
                for each in (asks.fileno(), wakes, woken):
                    os.close(each)
                _be(json.loads(said), given[0])
            os.close(given[0])
            apps.add(pid)
            tell(forked=pid)
    for pid in apps:
        os.kill(pid, signal.SIGKILL)


def _be(asked: dict[str, Any], stdout: int) -> None:
    """Become the app. Never returns."""
    for number in (signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.dup2(stdout, 1)
    os.close(nowhere)
    os.close(stdout)
    os.environ.clear()
    os.environ.update(asked["env"])
    tempfile.tempdir = None  # TMPDIR may be another one
    sys.argv = asked["arguments"]
    sys.path[0] = str(ROOT)
    code: object = 1
    try:
        runpy.run_path(str(ROOT / "app.py"), run_name="__main__")
    except SystemExit as ended:
        code = ended.code
    except BaseException:  # as the interpreter does at the end of a program
        sys.excepthook(*sys.exc_info())
    finally:
        # Threads that are no daemons are waited for and handlers of the end run, as at the end of a program.
        from threading import _shutdown

        _shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)


if __name__ == "__main__":
    _serve()
