"""A process of ours that speaks JSON: one object a line, commands down its stdin, replies up its stdout.

Its stdin is one end of a socket pair: the way back carries nothing but a byte that asks for being heard at once.

Both ends are here. ``JsonChild`` is a child as its parent sees it: started, written to, heard, suspended, ended;
``take_streams`` is the first thing the child does. JSON is ASCII, so neither a line break nor a lone surrogate in a
text can break a line. What is said, and what it means that a child is gone, its users know: they inherit and say it in
``died``. Every child is to end when its stdin closes, so none outlives whoever started it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import queue
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO

from playground.paths import python_path
from playground.system import memory
from playground.system.reserve import insist, is_shortage, spend

Message = dict[str, Any]

MAX_LINE_BYTES = 64_000_000
"""The longest message there is, the ids and texts of a long prompt, has a few MB. What sends more has lost its mind."""
TAIL_LINES = 200
TAIL_LINE_BYTES = 4000
EXIT_GRACE_S = 1.0
LOOK_S = 0.1
"""Between two looks at whether the work was called off."""
MEMORY_LOOK_S = 0.25
"""Between two looks at a child's memory."""
FIRST_TO_GO = b"500"
"""What a child adds to its badness in the eyes of Linux, of 1000: where memory runs out, a child goes, and
not the app."""
FULL_PIPE_S = 60.0
"""How long a child may read nothing of a message before it counts as dead, where its user sets no limit of its own."""
_PR_SET_PDEATHSIG = 1
_PIPE_BYTES = 65_536
_HANDFUL_S = 0.05
_ENCODER = json.JSONEncoder(separators=(",", ":"))


def encode(message: Mapping[str, Any]) -> bytes:
    """The message as a line."""
    return _ENCODER.encode(message).encode("ascii") + b"\n"


def decode(line: bytes) -> Message:
    """The message in a line.

    Raises:
        ValueError: It is no JSON object.
    """
    try:
        message = json.loads(line)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(message, dict):
        raise ValueError("not an object")
    return message


@dataclass(frozen=True)
class Ending:
    """How a process ended.

    Attributes:
        code: Its exit code; below zero the signal that ended it, as ``subprocess`` has it.
        flooded: Whether it was ended by its parent, because it sent more than ``MAX_LINE_BYTES`` in one line.
    """

    code: int
    flooded: bool = False

    @property
    def signal(self) -> str:
        """The name of the signal that ended it, "" where it ended by itself."""
        if self.code >= 0:
            return ""
        try:
            return signal.Signals(-self.code).name
        except ValueError:
            return f"signal {-self.code}"  # real-time signals have no names

    @property
    def killed(self) -> bool:
        """Whether somebody else sent SIGKILL, as Linux does when memory runs out."""
        return self.code == -signal.SIGKILL and not self.flooded


class ChildDied(Exception):
    """The process ended before it had said all."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending)
        self.ending = ending


class JsonChild:
    """A running program of ours.

    Args:
        program: A module of this package, as for ``python -m``: it is found wherever the app was started and from what
            folder, out of a checkout as out of an installed wheel. Or a file, which has to do without this package.
        env: Its environment; for a module, the way to this package is added.
        stderr: Where its stderr goes: an open file, None for that of this process. By default it is read, and ``tail``
            keeps its last lines.
        own_group: Whether it leads a session and a process group of its own. Signals then go to the group, so whatever
            it started is met as well, and Ctrl-C in the terminal reaches the app alone, which tears down in order.

    Attributes:
        started_at: Before the process was made, on the clock of ``time.monotonic()``.
        tail: Last lines of its stderr, and of its stdout what was no message.

    Raises:
        OSError: No process could be started, or none heard.
    """

    def __init__(
        self,
        program: str | Path,
        env: Mapping[str, str],
        *,
        stderr: IO[bytes] | int | None = subprocess.PIPE,
        own_group: bool = True,
    ) -> None:
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._own_group, self._swept, self._flooded = own_group, False, False
        self._inbox: queue.SimpleQueue[list[bytes] | None] = queue.SimpleQueue()
        self._received: deque[bytes] = deque()
        self._sending = threading.Lock()  # never needed to kill: a sender may wait for a child that reads nothing
        self._killed = threading.Event()
        self._looked_at = 0.0
        self.started_at = self._sign_at = time.monotonic()
        if isinstance(program, Path):
            command = [str(program)]
        else:
            command, env = ["-m", program], {**env, "PYTHONPATH": python_path(env)}
        self._stdin, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", *command],
                stdin=theirs.fileno(),
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=env,
                start_new_session=own_group,
            )
        except BaseException:
            self._stdin.close()
            raise
        finally:
            theirs.close()
        assert self._process.stdout
        self._stdout = self._process.stdout
        self._stdin.setblocking(False)  # our end alone; the child's reads still wait
        self._ears: tuple[tuple[threading.Thread, IO[bytes]], ...] = ()
        try:
            self._ears = self._listeners(str(program))
            for thread, _ in self._ears:
                thread.start()
        except (RuntimeError, MemoryError) as error:  # nobody would hear it, nor know that it is there
            spend()
            self.kill()
            if is_shortage(error):
                raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)) from error
            raise

    def _listeners(self, program: str) -> tuple[tuple[threading.Thread, IO[bytes]], ...]:
        """Threads that are to hear it, each with its pipe."""
        ears = [(threading.Thread(target=self._hear, name=f"hear {program}", daemon=True), self._stdout)]
        if self._process.stderr:
            keep = threading.Thread(
                target=self._keep_tail, args=(self._process.stderr,), name=f"log {program}", daemon=True
            )
            ears.append((keep, self._process.stderr))
        return tuple(ears)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return not self._reap()

    @property
    def silent_s(self) -> float:
        """Seconds since it was last heard, or told something."""
        return time.monotonic() - self._sign_at

    def excess_mb(self, limit_mb: float) -> float | None:
        """What it and its children have written to memory, in MB, where that is more than ``limit_mb``; else None.
        Cheap enough for every turn of a loop: it looks ``MEMORY_LOOK_S`` apart.
        """
        now = time.monotonic()
        if now - self._looked_at < MEMORY_LOOK_S:
            return None
        self._looked_at = now
        taken = sum(memory.own_mb(pid) or 0.0 for pid in (self.pid, *memory.children(self.pid)))
        return taken if taken > limit_mb else None

    def send(self, message: Mapping[str, Any], waiting: Callable[[], object] | None = None) -> None:
        """Pass a message on. Where the pipe is full, wait until the child reads on.

        Args:
            waiting: Called ten times a second while the child reads nothing. What it raises ends the sending; part of
                the message may be in the pipe then, so the child can only be killed. By default a child that reads
                nothing for ``FULL_PIPE_S`` counts as dead.

        Raises:
            Exception: What ``died`` says; the process ended.
        """
        line = encode(message)
        self._sign_at = time.monotonic()
        while not self._sending.acquire(timeout=LOOK_S):
            if not self._may_wait(waiting):
                raise self.death()
        try:
            written = self._write(memoryview(line), waiting)
        finally:
            self._sending.release()
        if not written:
            raise self.death()

    def _may_wait(self, waiting: Callable[[], object] | None) -> bool:
        """Whether it may still read on. What it left behind may hold the pipe open; then no write fails."""
        if self._killed.is_set() or not self.alive:
            return False
        if waiting is None:
            return self.silent_s < FULL_PIPE_S
        waiting()
        return True

    def _write(self, rest: memoryview, waiting: Callable[[], object] | None) -> bool:
        """Whether all was written: False where the process has ended, or has to."""
        room = select.poll()
        try:
            room.register(self._stdin, select.POLLOUT)
        except ValueError:  # closed
            return False
        while rest and not self._killed.is_set():
            try:
                rest = rest[self._stdin.send(rest) :]
                self._sign_at = time.monotonic()
            except BlockingIOError:
                if not room.poll(LOOK_S * 1000) and not self._may_wait(waiting):
                    return False
            except OSError:
                return False
        return not rest

    def receive(self, timeout: float) -> Message | None:
        """The next message, or None after ``timeout`` seconds without one; for one reader at a time.

        Raises:
            Exception: What ``died`` says; the process ended, and every message it had sent was received.
        """
        while True:
            while self._received:
                line = self._received.popleft()
                try:
                    return decode(line)
                except ValueError:
                    self.tail.append(f"not a message: {line[:200]!r}")
            try:
                handful = self._inbox.get(timeout=timeout)
            except queue.Empty:
                self._reap()  # what a dead one left behind may hold the pipe open, and the end would not be heard
                return None
            if handful is None:
                self._inbox.put(None)
                raise self.death()
            self._received.extend(handful)

    def messages(self, cancelled: Callable[[], bool]) -> Iterator[Message]:
        """Messages as they come, until ``cancelled`` says that nobody waits for more.

        Raises:
            Exception: What ``died`` says; the process ended.
        """
        while not cancelled():
            message = self.receive(LOOK_S)
            if message is not None:
                yield message

    def signal(self, number: int) -> None:
        """Send a signal to its group, or to it alone where it has none of its own; nothing where it is gone."""
        # A process that was not waited for keeps its number, so the group can't be somebody else's.
        if not self.alive:
            return
        try:
            if self._own_group:
                os.killpg(self.pid, number)
            else:
                self._process.send_signal(number)
        except (ProcessLookupError, PermissionError):
            self._process.send_signal(number)

    def finish(self) -> None:
        """Tell it by closing its stdin that nothing more comes, and wait a second for it to end."""
        self._close_stdin()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(EXIT_GRACE_S)

    def _close_stdin(self) -> None:
        """Close it, unless somebody is just sending: who has to end the process does not wait for that."""
        if self._sending.acquire(timeout=2 * LOOK_S):
            try:
                self._stdin.close()
            finally:
                self._sending.release()

    def kill(self) -> None:
        """SIGKILL for the process and whatever it started; returns when it is gone and its pipes are closed."""
        self._killed.set()
        self.signal(signal.SIGKILL)
        self._process.wait()
        self._reap()
        for thread, pipe in self._ears:
            if thread.ident is not None:  # there may have been no room for it
                thread.join(EXIT_GRACE_S)
            if not thread.is_alive():
                pipe.close()
        self._close_stdin()

    def death(self) -> Exception:
        """What is raised where the process has ended. Kills it if it only closed its pipes, or never ends a line."""
        if not self._flooded:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(EXIT_GRACE_S)
        self.kill()
        return self.died(Ending(self._process.returncode, self._flooded))

    def more_follows(self, heard: bytes) -> bool:
        """Whether what was heard is one of many, so that the next one can wait for more of its kind. Asked by the
        thread that hears.
        """
        return True

    def died(self, ending: Ending) -> Exception:
        """The error that tells a reader of its death."""
        return ChildDied(ending)

    def _reap(self) -> bool:
        """Whether it has ended. Then what it started and left in its group is ended too, and at once: later, the number
        of the group may be another's.
        """
        if self._process.poll() is None:
            return False
        if self._own_group and not self._swept:
            self._swept = True
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        return True

    def _hear(self) -> None:
        """Take messages in by the handful where many follow each other, and pass a handful on at once. A model's
        threads want every core; waking two threads here for every token cost it 5 % of its speed, though they computed
        for 1.4 % of the time. What comes meanwhile waits in the pipe and outlives even the child, which asks for being
        heard at once when it has said all.
        """
        try:
            self._take_in()
        except MemoryError:  # ours has run out: what was not taken in is lost, and the child can only be ended
            spend()
        finally:
            insist(self._inbox.put, None)

    def _take_in(self) -> None:
        rest = bytearray()
        while heard := os.read(self._stdout.fileno(), _PIPE_BYTES):
            self._sign_at = time.monotonic()
            rest += heard
            if b"\n" in heard:
                *lines, begun = bytes(rest).split(b"\n")
                self._inbox.put(lines)
                rest = bytearray(begun)
            elif len(rest) > MAX_LINE_BYTES:
                self._flooded = True
                break
            if len(heard) < _PIPE_BYTES and self.more_follows(heard):
                self._wait_for_more()

    def _wait_for_more(self) -> None:
        """Until a handful has come, or the child asks for being heard."""
        asked = select.poll()
        try:
            asked.register(self._stdin, select.POLLIN)
            if asked.poll(_HANDFUL_S * 1000):
                self._stdin.recv(_PIPE_BYTES)
        except (OSError, ValueError):  # it was closed: the child is to end
            time.sleep(_HANDFUL_S)

    def _keep_tail(self, pipe: IO[bytes]) -> None:
        while True:
            try:
                if not (line := pipe.readline(TAIL_LINE_BYTES)):
                    return
                if text := line.decode("utf-8", "backslashreplace").rstrip():
                    self.tail.append(text)
            except MemoryError:  # a line less: a child whose stderr nobody reads would wait for ever
                spend()


def take_streams() -> tuple[BinaryIO, Callable[[bytes], None], Callable[[], None]]:
    """The child's end: lines from the parent, what takes an encoded line to it, and what asks it to hear at once: a
    parent that waits for a handful of messages does not wait then.

    The pipes are kept to ourselves: whatever a library prints, from C++ too, goes to stderr, whatever it reads is
    empty. The process ends at once where nobody reads what it sends.
    """
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_bytes(FIRST_TO_GO)
    commands, replies = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)

    def send(line: bytes) -> None:
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[os.write(replies, rest) :]
        except BrokenPipeError:
            os._exit(0)

    def hear_now() -> None:
        with contextlib.suppress(OSError):  # started by hand, or the parent is gone
            asking.send(b"!", socket.MSG_DONTWAIT)

    asking = socket.socket(fileno=os.dup(commands), family=socket.AF_UNIX, type=socket.SOCK_STREAM)
    return os.fdopen(commands, "rb"), send, hear_now


def end_with_parent() -> None:
    """The child's end, called first: ask Linux to kill this process when the thread that started it ends, so whoever
    starts one does so from a thread that lasts as long. A second rope beside ``end_with_stdin``: neither a process that
    is suspended nor native code that never lets go of the interpreter can see stdin close.
    """
    if sys.platform != "linux":
        return
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def end_with_stdin(commands: BinaryIO) -> None:
    """The child's end, where no further command is expected: when the parent is gone, so is this process with all it
    has started. Starts a thread.
    """

    def watch() -> None:
        with contextlib.suppress(OSError):  # it ended without hearing that we asked for it
            while commands.read(4096):
                pass
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()
