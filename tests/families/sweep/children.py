"""Processes that are given one architecture after another, and replaced when they die or take too long."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

COMMAND = (sys.executable, "-m", "tests.families.sweep.child")
ROOT = Path(__file__).resolve().parents[3]

Job = dict[str, Any]
Reply = dict[str, Any]


@dataclass
class Child:
    """One process, started when it is first needed.

    Attributes:
        command: Reads a job a line, writes replies a line, the last of each job with the key ``done``.
        log: Where its stderr goes.
    """

    command: Sequence[str]
    log: IO[bytes]
    env: dict[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[str] | None = None
    _lines: queue.Queue[str | None] = field(default_factory=queue.Queue)

    def replies(self, job: Job, timeout: float) -> Iterator[Reply]:
        """What comes of ``job``; the last has the key ``died`` with a sentence where the process was lost.

        Args:
            timeout: Seconds for each reply.
        """
        process = self._running()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(job) + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            yield {"died": self._loss()}
            return
        while True:
            try:
                line = self._lines.get(timeout=timeout)
            except queue.Empty:
                self.end()
                yield {"died": f"took longer than {timeout:g} s"}
                return
            if line is None:
                yield {"died": self._loss()}
                return
            reply = json.loads(line)
            if "done" in reply:
                return
            yield reply

    def end(self) -> None:
        """Kill it and whatever it started."""
        if self._process is not None:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    try:
                        pipe.close()
                    except BrokenPipeError:  # what it never read
                        pass
            self._process = None

    def _loss(self) -> str:
        assert self._process is not None
        code = self._process.wait()
        self.end()
        return (
            f"the process was ended by {signal.Signals(-code).name}" if code < 0 else f"the process ended with {code}"
        )

    def _running(self) -> subprocess.Popen[str]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.end()
        process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env={**os.environ, **self.env},
            cwd=ROOT,
            start_new_session=True,
        )
        self._process, self._lines = process, queue.Queue()
        threading.Thread(target=_read, args=(process.stdout, self._lines), daemon=True).start()
        return process


def _read(stream: IO[str], lines: queue.Queue[str | None]) -> None:
    try:
        for line in stream:
            lines.put(line)
    except ValueError:  # closed from the other side
        pass
    lines.put(None)


def work_through(
    jobs: Iterable[Job], children: Sequence[Child], timeout: float, take: Callable[[Job, Reply], None]
) -> None:
    """Let the children share the jobs; ``take`` is called with one reply at a time."""
    waiting = iter(jobs)
    lock = threading.Lock()

    def serve(child: Child) -> None:
        try:
            while True:
                with lock:
                    job = next(waiting, None)
                if job is None:
                    return
                for reply in child.replies(job, timeout):
                    with lock:
                        take(job, reply)
        finally:
            child.end()

    threads = [threading.Thread(target=serve, args=(child,)) for child in children]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
