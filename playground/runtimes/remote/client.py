"""The OpenAI protocol as a client speaks it: requests out, a stream of pieces in, and all that can go wrong between.

Both ways of asking, ``/chat/completions`` and ``/completions``, answer with one kind of event stream, which httpx2
decodes by its standard (https://html.spec.whatwg.org/multipage/server-sent-events.html) and within bounds. Nothing
here knows events, timings or what a reader is told.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from functools import cache
from typing import Any

import httpx2

from playground import __version__
from playground.messages import Translatable, foreign, msg
from playground.records import Remote
from playground.runtimes.remote.addresses import PublicTransport
from playground.runtimes.remote.payload import Piece, error_in, piece_of, retry_after, words_of

CHAT = "/chat/completions"
COMPLETION = "/completions"
CONNECT_S = 10.0
"""A server that does not accept a connection by then is not there."""
BETWEEN_S = 30.0
"""Longest silence inside an answer; less where the remote's ``timeout_s`` is less."""
MODELS_S = 10.0
"""For the list of models."""
COUNT_S = 3.0
"""For the token counts, which come behind the end of the answer or not at all."""
ERROR_S = 3.0
"""For the words of an error behind its status."""
NOT_THERE = (401, 403, 502, 503, 504)
"""What the list of models may not be answered with; a server without that list is none the worse for it."""
RETRIED = (429, 503)
RETRIES = 3
BACKOFF_S = 0.5
"""Before the first repetition; twice as long before each further one, unless the server says how long."""
MAX_WAIT_S = 20.0
"""A server that asks for more is asked again by the reader, not by the program."""
ERROR_BYTES = 64_000
EVENT_BYTES = 1_000_000
"""Of one event; a piece has about 300 bytes around its token."""
STREAM_BYTES = 32_000_000
"""Of one answer, far above any: what sends more is no language model. And of the list of models."""
END = "[DONE]"
"""The protocol's last event."""


class Refused(Exception):
    """The server answered, but not with a stream.

    Attributes:
        status: HTTP status.
        said: The server's own message, as it came; it may hold anything, a key too.
        code: The protocol's machine-readable reason, if there is one.
        retry_after: Seconds the server asks to wait.
        content_type: Of the answer; location: where a redirect points.
    """

    def __init__(self, response: httpx2.Response, kind: str, body: bytes) -> None:
        super().__init__(response.status_code)
        self.status = response.status_code
        self.content_type = kind
        self.location = response.headers.get("location", "")
        self.retry_after = retry_after(response.headers.get("retry-after", ""))
        self.said, self.code = error_in(body)


class Unreachable(Exception):
    """No connection: refused, no such host, no time. ``reason`` says which."""

    def __init__(self, reason: Translatable) -> None:
        super().__init__(reason)
        self.reason = reason


class Silent(Exception):
    """The server sent nothing for ``seconds``; ``begun`` tells whether a part of the answer had come."""

    def __init__(self, seconds: float, begun: bool) -> None:
        super().__init__(seconds, begun)
        self.seconds, self.begun = seconds, begun


class Broken(Exception):
    """The stream ended without an end; or ``said``: the server reported an error inside it."""

    def __init__(self, said: str = "") -> None:
        super().__init__(said)
        self.said = said


class Garbage(Exception):
    """What came is no part of the protocol."""


@dataclass(frozen=True)
class Retry:
    """The server has no room; the same request goes out again in ``seconds``."""

    status: int
    seconds: float


class Client:
    """One server.

    Args:
        remote: Where it is and how long to wait for it.
        key: Sent to it and to nobody else; empty where it wants none.

    Attributes:
        began: When the request went out that is being answered; what was spent on refused ones lies before it.
    """

    def __init__(self, remote: Remote, key: str) -> None:
        self._remote = remote
        self._key = key
        self.began = 0.0

    async def models(self) -> tuple[str, ...] | None:
        """The models it lists; None if it answers but has no such list.

        Raises:
            Refused: It wants another key, has no room, or a gateway has no server behind it.
            Unreachable, Silent: It does not answer.
        """
        patience = _Patience()
        while True:
            try:
                async with asyncio.timeout(min(MODELS_S, self._remote.timeout_s)):
                    return await self._list()
            except TimeoutError:
                raise Silent(min(MODELS_S, self._remote.timeout_s), begun=False) from None
            except Refused as refused:
                wait = patience.wait(refused)
                if wait is None and refused.status in NOT_THERE:
                    raise
                if wait is None:
                    return None
            except (Broken, Garbage):
                return None
            await asyncio.sleep(wait)

    async def answer(self, path: str, body: dict[str, Any]) -> AsyncGenerator[Piece | Retry]:
        """Ask, again where the server has no room, and pass on what it sends until it says that the answer is over.

        Args:
            path: ``/chat/completions`` or ``/completions``.
            body: The request.

        Raises:
            Refused, Unreachable, Silent, Broken, Garbage: As their docstrings say.
        """
        patience = _Patience()
        while True:
            self.began = time.monotonic()
            try:
                async with aclosing(self._attempt(path, body)) as pieces:
                    async for piece in pieces:
                        yield piece
                return
            except Refused as refused:
                wait = patience.wait(refused)
                if wait is None:
                    raise
                status = refused.status
            yield Retry(status, wait)
            await asyncio.sleep(wait)

    async def _attempt(self, path: str, body: dict[str, Any]) -> AsyncGenerator[Piece]:
        """One request and its stream, with a time limit on every silence."""
        events = self._events(path, body)
        limit = left = self._remote.timeout_s
        begun = finished = counted = False
        async with aclosing(events):
            while not (finished and counted):
                asked = time.monotonic()
                try:
                    async with asyncio.timeout(left):
                        message = await anext(events)
                except StopAsyncIteration:
                    break
                except TimeoutError:
                    if finished:  # only the count was still to come
                        break
                    raise Silent(limit, begun) from None
                piece = piece_of(time.monotonic(), message)
                left -= piece.at - asked  # empty messages are no sign of life
                if piece.finish and not finished:
                    finished, left = True, COUNT_S
                elif not finished and (piece.text or piece.reasoning):
                    begun = True
                    limit = left = min(BETWEEN_S, self._remote.timeout_s)
                counted = counted or piece.usage is not None
                yield piece
        if not finished:
            raise Broken

    async def _events(self, path: str, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        """The JSON of each event of one answer, up to the protocol's end mark."""
        try:
            async with (
                self._session() as session,
                session.sse(self._remote.url + path, method="POST", json=body, max_event_size=EVENT_BYTES) as events,
            ):
                await _check(events.response, streams=True)
                async for event in events:
                    if events.response.num_bytes_downloaded > STREAM_BYTES:
                        raise Garbage
                    if event.data.strip() == END:
                        return
                    if event.data:
                        yield _parsed(event)
        except Exception as error:
            raise _known(error) from None

    async def _list(self) -> tuple[str, ...] | None:
        try:
            async with self._session() as session, session.stream("GET", self._remote.url + "/models") as response:
                await _check(response, streams=False)
                document = json.loads(await _body(response, STREAM_BYTES))
        except Exception as error:
            raise _known(error) from None
        models = document.get("data") if isinstance(document, dict) else None
        if not isinstance(models, list):
            return None
        return tuple(str(model["id"]) for model in models if isinstance(model, dict) and "id" in model)

    def _session(self) -> httpx2.AsyncClient:
        """No redirects, which would take prompt and key elsewhere. The time limit is of the connection alone: silence
        is watched in ``_attempt``, which tells an empty message from content.
        """
        headers = {"accept-encoding": "identity", "user-agent": f"open-model-playground/{__version__}"}
        if self._key:
            headers["authorization"] = f"Bearer {self._key}"
        return httpx2.AsyncClient(
            headers=headers,
            timeout=httpx2.Timeout(None, connect=min(CONNECT_S, self._remote.timeout_s)),
            follow_redirects=False,
            verify=_certificates(),
            transport=PublicTransport(_certificates()) if self._remote.public else None,
        )


class _Patience:
    """How often and how long one request is repeated."""

    def __init__(self) -> None:
        self._tries = 0

    def wait(self, refused: Refused) -> float | None:
        """Seconds before the next try; None if there should be none."""
        if refused.status not in RETRIED or self._tries == RETRIES:
            return None
        seconds = refused.retry_after
        if seconds is None:
            seconds = BACKOFF_S * 2**self._tries
        self._tries += 1
        return seconds if seconds <= MAX_WAIT_S else None


@cache
def _certificates() -> ssl.SSLContext:
    """Reading them takes a tenth of a second, which is no part of an answer."""
    return httpx2.create_ssl_context()


async def _check(response: httpx2.Response, *, streams: bool) -> None:
    """Look at an answer before anybody reads it.

    Args:
        streams: Whether a stream of events is wanted, or a document.

    Raises:
        Refused: It is none.
        Garbage: It is compressed.
    """
    if response.headers.get("content-encoding", "identity") != "identity":
        raise Garbage  # none was accepted, and a compressed stream has no size one could watch
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if response.status_code != 200 or (streams and kind in ("application/json", "text/html")):
        try:
            async with asyncio.timeout(ERROR_S):
                body = await _body(response, ERROR_BYTES)
        except (TimeoutError, httpx2.HTTPError, Garbage):
            body = b""  # the status says enough, and a part of the words might end inside a key that is to be taken out
        raise Refused(response, kind, body)
    if streams:  # whatever the header says: some servers name another kind, or another charset
        response.headers["content-type"] = "text/event-stream"
        response.encoding = "utf-8-sig"


async def _body(response: httpx2.Response, most: int) -> bytes:
    """All of a body.

    Raises:
        Garbage: It has more than ``most`` bytes.
    """
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > most:
            raise Garbage
    return bytes(body)


def _known(error: Exception) -> Exception:
    """The error as one of this module's. Nothing else of it is kept: libraries hang requests, with headers, on it."""
    match error:
        case httpx2.TimeoutException():
            return Unreachable(msg("no connection in time"))
        case httpx2.ConnectError() | httpx2.UnsupportedProtocol() | httpx2.ProxyError():
            return Unreachable(foreign(str(error)) or msg("no connection"))
        case httpx2.SSEError():  # an event beyond its bound
            return Garbage()
        case httpx2.TransportError():
            return Broken()
        case httpx2.HTTPError() | ValueError() | RecursionError():  # httpx2 and json each have their own
            return Garbage()
        case _:
            return error


def _parsed(event: httpx2.ServerSentEvent) -> dict[str, Any]:
    """
    Raises:
        Broken: The server reports an error.
        Garbage: It is no JSON object.
    """
    message = json.loads(event.data)
    if not isinstance(message, dict):
        raise Garbage
    if message.get("error") is not None or event.event == "error":
        raise Broken(words_of(message.get("error") or message))
    return message
