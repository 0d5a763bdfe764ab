"""An OpenAI-compatible server on loopback that does what a test tells it: answer well, refuse, stall, break off, lie.

It speaks plain ``http.server``, so that every byte and every silence is the test's own.
"""

from __future__ import annotations

import json
import select
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

STALL_S = 8.0
"""No test waits for a stall to end; the server does not keep threads for ever."""

Reply = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """One connection; HTTP/1.0, so the end of the body is the end of the connection."""

    server: Server

    def do_GET(self) -> None:
        self._note({})
        self.server.models(self)

    def do_POST(self) -> None:
        self._note(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        with self.server.lock:
            replies = self.server.replies
            reply = replies.pop(0) if len(replies) > 1 else replies[0]
        reply(self)

    def start(self, status: int = 200, kind: str = "text/event-stream", **headers: str) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.flush()

    def send(self, data: bytes) -> None:
        self.wfile.write(data)
        self.wfile.flush()

    def stall(self, seconds: float = STALL_S) -> None:
        """Say nothing until the client goes away or the time is over; notes when it went."""
        readable, _, _ = select.select([self.connection], [], [], seconds)
        if readable and self._left():
            self.server.seen[-1].left_at = time.monotonic()
            self.server.someone_left.set()

    def _left(self) -> bool:
        """Whether the client is gone: who closes with something unread is heard of as a reset, not as an end."""
        try:
            return self.connection.recv(1) == b""
        except ConnectionResetError:
            return True

    def _note(self, body: dict[str, Any]) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.seen.append(Seen(self.command, self.path, headers, body, time.monotonic()))

    def log_message(self, *_: Any) -> None:
        pass


@dataclass
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    at: float
    left_at: float | None = None


@dataclass
class Server(ThreadingHTTPServer):
    """Attributes:
    replies: One for each POST; the last one serves all that follow.
    models: The answer to GET.
    """

    replies: list[Reply]
    models: Reply
    seen: list[Seen] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    someone_left: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.daemon_threads = True
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    @property
    def posts(self) -> list[Seen]:
        return [seen for seen in self.seen if seen.method == "POST"]

    def handle_error(self, *_: Any) -> None:
        """A client that closed the connection is what half of the tests are about."""


@contextmanager
def serving(*replies: Reply, models: Reply | None = None) -> Iterator[Server]:
    with Server(list(replies), models or listing("tiny")) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


# -- replies ----------------------------------------------------------------------------------------------------------


def listing(*names: str) -> Reply:
    return document({"object": "list", "data": [{"id": name} for name in names]})


def document(value: Any, status: int = 200, **headers: str) -> Reply:
    return raw(json.dumps(value).encode(), status, "application/json", **headers)


def raw(body: bytes, status: int = 200, kind: str = "text/event-stream", **headers: str) -> Reply:
    def reply(handler: Handler) -> None:
        handler.start(status, kind, **headers)
        handler.send(body)

    return reply


def refusal(status: int, message: str = "no", **headers: str) -> Reply:
    return document({"error": {"message": message, "code": None}}, status, **headers)


def chat(
    *texts: str, finish: str | None = "stop", usage: tuple[int, int] | None = None, reasoning: Sequence[str] = ()
) -> list[bytes]:
    """The events of a good chat answer: a role, the reasoning and the texts, the end, the count, the end mark."""
    deltas = [{"role": "assistant", "content": ""}, *({"reasoning_content": text} for text in reasoning)]
    deltas += [{"content": text} for text in texts]
    messages: list[dict[str, Any]] = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    return _events(messages, {"delta": {}}, finish, usage)


def completion(*texts: str, finish: str | None = "stop", usage: tuple[int, int] | None = None) -> list[bytes]:
    """The events of a good answer of ``/v1/completions``."""
    messages: list[dict[str, Any]] = [{"choices": [{"index": 0, "text": text}]} for text in texts]
    return _events(messages, {"text": ""}, finish, usage)


def _events(
    messages: list[dict[str, Any]], end: dict[str, Any], finish: str | None, usage: tuple[int, int] | None
) -> list[bytes]:
    if finish:
        messages.append({"choices": [{"index": 0, "finish_reason": finish} | end]})
    if usage:
        counts = dict(zip(("prompt_tokens", "completion_tokens", "total_tokens"), (*usage, sum(usage)), strict=True))
        messages.append({"choices": [], "usage": counts})
    events = [event(message) for message in messages]
    return [*events, b"data: [DONE]\n\n"] if finish else events


def event(message: Any) -> bytes:
    return b"data: " + json.dumps(message, ensure_ascii=False).encode() + b"\n\n"


def stream(events: Sequence[bytes], gap_s: float = 0.0, first_s: float = 0.0, kind: str = "text/event-stream") -> Reply:
    def reply(handler: Handler) -> None:
        handler.start(kind=kind)
        time.sleep(first_s)
        for data in events:
            handler.send(data)
            time.sleep(gap_s)

    return reply


def then_stall(*events: bytes) -> Reply:
    """Some of an answer, then silence with the connection open."""

    def reply(handler: Handler) -> None:
        handler.start()
        for data in events:
            handler.send(data)
        handler.stall()

    return reply


def silence(handler: Handler) -> None:
    """Not even a status."""
    handler.stall()


def hang_up(handler: Handler) -> None:
    """Close without a word."""


def cut_off(*events: bytes) -> Reply:
    """A body shorter than it was announced."""

    def reply(handler: Handler) -> None:
        handler.start(content_length="100000")
        for data in events:
            handler.send(data)

    return reply


def byte_by_byte(events: Sequence[bytes]) -> Reply:
    """Every byte a packet of its own, so that characters and lines arrive in parts."""

    def reply(handler: Handler) -> None:
        handler.start()
        for value in b"".join(events):
            handler.send(bytes([value]))

    return reply


def endless(text: str = "x") -> Reply:
    """The same piece until the client goes away."""

    def reply(handler: Handler) -> None:
        handler.start()
        try:
            for _ in range(100_000):
                handler.send(event({"choices": [{"index": 0, "delta": {"content": text}}]}))
        except OSError:
            handler.server.someone_left.set()

    return reply
