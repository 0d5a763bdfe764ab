"""An OpenAI-compatible server of known pace, in a process of its own: what replicas are, for tests and measurements.

    python -m tests.support.replica_server --delay 0.2 --at-once 1 --log FILE

It prints its address, answers each prompt after ``delay`` seconds with the prompt's own words turned round, at most
``at-once`` of them at a time (others wait, as in a real server), and notes each answer it has finished in FILE. Killing
it is what a lost machine looks like. ``fail`` refuses every answer with that status.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from playground.paths import ROOT

PIECES = 4


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        self._send("application/json", json.dumps({"data": [{"id": "paced"}]}).encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.server.fail:
            self._send("application/json", b'{"error": {"message": "no"}}', self.server.fail)
            return
        prompt = body["messages"][-1]["content"]
        words = turned(prompt).split(" ")
        with self.server.room:
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            for number in range(PIECES):
                time.sleep(self.server.delay / PIECES)
                piece = " ".join(words[number * len(words) // PIECES : (number + 1) * len(words) // PIECES])
                text = piece + (" " if piece and number < PIECES - 1 else "")
                self._event({"choices": [{"delta": {"content": text}}]})
            self._event({"choices": [{"delta": {}, "finish_reason": "stop"}]})
            self._event({"choices": [], "usage": {"prompt_tokens": len(words), "completion_tokens": PIECES}})
            self.wfile.write(b"data: [DONE]\n\n")
        with self.server.noting, self.server.log.open("a", encoding="utf-8") as log:
            log.write(json.dumps(prompt) + "\n")

    def _event(self, document: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(document)}\n\n".encode())
        self.wfile.flush()

    def _send(self, kind: str, body: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing on stderr."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, delay: float, at_once: int, log: Path, fail: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.delay, self.log, self.fail = delay, log, fail
        self.room = threading.Semaphore(at_once)
        self.noting = threading.Lock()


def turned(prompt: str) -> str:
    """What the server answers."""
    return " ".join(reversed(prompt.split()))


@dataclass
class Replica:
    """A server that runs; ``port`` stays its own when it is started again."""

    process: subprocess.Popen[str]
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def answered(self) -> list[str]:
        """The prompts of all answers that it has finished."""
        return [json.loads(line) for line in self.log.read_text(encoding="utf-8").splitlines()]

    def kill(self) -> None:
        """As a machine that is gone: no goodbye to anybody."""
        self.process.kill()
        self.process.wait()


def start(folder: Path, name: str, *, delay: float, at_once: int = 1, fail: int = 0, port: int = 0) -> Replica:
    """Start a server and wait until it listens."""
    log = folder / f"{name}.log"
    log.touch()
    command = [sys.executable, "-m", "tests.support.replica_server", "--delay", str(delay), "--at-once", str(at_once)]
    command += ["--log", str(log), "--fail", str(fail), "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ})
    assert process.stdout
    with process.stdout as out:
        return Replica(process, int(out.readline()), log)


@contextmanager
def replicas(folder: Path, number: int, *, delay: float, at_once: int = 1) -> Iterator[list[Replica]]:
    """Servers of one model; what is left of them ends with the context."""
    with ExitStack() as ends:
        started = []
        for place in range(number):
            started.append(start(folder, f"replica-{place}", delay=delay, at_once=at_once))
            ends.callback(started[-1].kill)
        yield started


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay", type=float, required=True)
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("--fail", type=int, default=0)
    parser.add_argument("--log", type=Path, required=True)
    asked = parser.parse_args()
    server = _Server(asked.port, asked.delay, asked.at_once, asked.log, asked.fail)
    print(server.server_address[1], flush=True)
    # Its parent may be killed: nothing is to be left behind.
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    server.serve_forever()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(0)


if __name__ == "__main__":
    main()
