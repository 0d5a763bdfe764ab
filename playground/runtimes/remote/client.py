"""The OpenAI protocol as a client speaks it: requests out, a stream of pieces in, and all that can go wrong between.

Chat goes through huggingface_hub's ``AsyncInferenceClient``. Its ``text_generation`` speaks another protocol (that of
Text Generation Inference: ``inputs`` and ``parameters``) to any address of one's own, and can't stream
``/v1/completions`` from anybody; base models are therefore asked over huggingface_hub's own HTTP session, with the
same headers, hooks and time-outs. Nothing here knows events, timings or what a reader is told.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from functools import cache
from typing import Any

import httpx2
from huggingface_hub import AsyncInferenceClient, get_async_session, set_async_client_factory
from huggingface_hub.errors import InferenceTimeoutError, TextGenerationError
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

from playground import __version__
from playground.records import Remote
from playground.runtimes.remote.messages import Piece, error_in, piece_of, retry_after, words_of

CHAT = "/chat/completions"
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
STREAM_BYTES = 32_000_000
"""Far above any answer (a piece has about 300 bytes around its token): what sends more is no language model."""


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
    """No connection: refused, no such host, no time."""


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


class Wire:
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
            body: All of the request but ``stream``; ``extra_body`` holds what OpenAI's own protocol does not know.

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
        messages = self._chat(body) if path == CHAT else self._completion(path, body)
        limit = left = self._remote.timeout_s
        begun = finished = counted = False
        async with aclosing(messages):
            while not (finished and counted):
                asked = time.monotonic()
                try:
                    async with asyncio.timeout(left):
                        message = await _next(messages)
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

    async def _chat(self, body: dict[str, Any]) -> AsyncGenerator[Any]:
        client = AsyncInferenceClient(
            base_url=self._remote.url + CHAT,
            api_key=self._key or "none",  # without one, the client would look for a stored Hub token and send that
            headers=self._headers(),  # type: ignore[arg-type]
            timeout=self._timeout(),  # type: ignore[arg-type]
        )
        async with client:
            async for message in await client.chat_completion(stream=True, **body):
                yield message

    async def _completion(self, path: str, body: dict[str, Any]) -> AsyncGenerator[Any]:
        plain = {name: value for name, value in body.items() if name != "extra_body"}
        sent = plain | body.get("extra_body", {}) | {"stream": True}
        async with get_async_session() as session:
            url, headers = self._remote.url + path, self._headers()
            call = session.stream("POST", url, json=sent, headers=_present(headers), timeout=self._timeout())
            async with call as response:
                async for line in response.aiter_lines():
                    data = line.removeprefix("data:").strip()
                    if data == "[DONE]":
                        return
                    if line.startswith("data:"):
                        yield _parsed(data)

    async def _list(self) -> tuple[str, ...] | None:
        try:
            async with get_async_session() as session:
                url = self._remote.url + "/models"
                response = await session.get(url, headers=_present(self._headers()), timeout=self._timeout())
                document = response.json()
        except Exception as error:
            raise _known(error) from None
        models = document.get("data") if isinstance(document, dict) else None
        if not isinstance(models, list):
            return None
        return tuple(str(model["id"]) for model in models if isinstance(model, dict) and "id" in model)

    def _headers(self) -> dict[str, str | None]:
        """None takes a header out: huggingface_hub fills in a Hub token and a talkative user agent of its own."""
        return {
            "authorization": f"Bearer {self._key}" if self._key else None,
            "user-agent": f"open-model-playground/{__version__}",
        }

    def _timeout(self) -> httpx2.Timeout:
        """Of the connection alone; silence is watched in ``_attempt``, which tells an empty message from content."""
        return httpx2.Timeout(None, connect=min(CONNECT_S, self._remote.timeout_s))


def set_up() -> None:
    """Once in a process, before the first ``Wire``: huggingface_hub gets our sessions, and what is slow is done."""
    set_async_client_factory(_session)
    _certificates()
    build_hf_headers(token=False)  # looks about, once, for what to tell the Hub (in a worker it may not ask anybody)


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


class _OneLineAMessage(httpx2.AsyncByteStream):
    """The stream with U+0085, U+2028 and U+2029 written as JSON escapes.

    Servers send these characters as they are, and the HTTP client takes them for line ends as ``str.splitlines``
    does, in the middle of a message. An event stream ends its lines with CR and LF alone
    (https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream).
    """

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        held, size = b"", 0
        async for chunk in self._stream:
            size += len(chunk)
            if size > STREAM_BYTES:
                raise Garbage
            data = held + chunk
            cut = len(data) - next((len(part) for part in _BEGUN if data.endswith(part)), 0)
            held = data[cut:]
            data = data[:cut]
            for raw, escaped in _LINE_ENDS:
                data = data.replace(raw, escaped)
            yield data
        if held:
            yield held

    async def aclose(self) -> None:
        await self._stream.aclose()


_LINE_ENDS = ((b"\xc2\x85", rb"\u0085"), (b"\xe2\x80\xa8", rb"\u2028"), (b"\xe2\x80\xa9", rb"\u2029"))
_BEGUN = (b"\xe2\x80", b"\xe2", b"\xc2")


def _session() -> httpx2.AsyncClient:
    """huggingface_hub's sessions in this process: no redirects, which would take prompt and key elsewhere."""
    return httpx2.AsyncClient(
        follow_redirects=False,
        headers={"accept-encoding": "identity"},
        event_hooks={"response": [_check]},
        verify=_certificates(),
    )


@cache
def _certificates() -> ssl.SSLContext:
    """Reading them takes a tenth of a second, which is no part of an answer."""
    return httpx2.create_ssl_context()


async def _check(response: httpx2.Response) -> None:
    """Look at an answer before anybody reads it as a stream.

    Raises:
        Refused: It is none.
        Garbage: It is compressed.
    """
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    streams = response.request.method == "GET" or kind not in ("application/json", "text/html")
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    if response.headers.get("content-encoding", "identity") != "identity":
        raise Garbage  # none was accepted, and a compressed stream has no size one could watch
    if response.status_code == 200 and streams:
        response.encoding = "utf-8"  # event streams and JSON are, whatever the header says
        response.stream = _OneLineAMessage(response.stream)
        return
    body = b""
    try:
        async with asyncio.timeout(ERROR_S):
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > ERROR_BYTES:
                    body = b""  # not a part of it, which might end inside a key that is to be taken out
                    break
    except (TimeoutError, httpx2.HTTPError):
        pass  # the status says enough
    raise Refused(response, kind, body)


async def _next(messages: AsyncGenerator[Any]) -> Any:
    """The next message; what libraries raise becomes one of this module's errors."""
    try:
        return await anext(messages)
    except Exception as error:
        raise _known(error) from None


def _known(error: Exception) -> Exception:
    """The error as one of this module's. Nothing else of it is kept: libraries hang requests, with headers, on it."""
    if isinstance(error, (StopAsyncIteration, TimeoutError, Refused, Unreachable, Silent, Broken, Garbage)):
        return error
    if isinstance(error, (InferenceTimeoutError, httpx2.TimeoutException)):
        return Unreachable("no connection in time")
    if isinstance(error, (httpx2.ConnectError, httpx2.UnsupportedProtocol, httpx2.ProxyError)):
        return Unreachable(str(error) or "no connection")
    if isinstance(error, TextGenerationError):
        return Broken(words_of(error.args[0] if error.args else ""))
    if isinstance(error, httpx2.TransportError):
        return Broken()
    if isinstance(error, (httpx2.HTTPError, ValueError, TypeError, AttributeError, KeyError, RecursionError)):
        return Garbage()  # httpx2, json and huggingface_hub's parser each have their own
    return error


def _present(headers: dict[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if value is not None}


def _parsed(data: str) -> dict[str, Any]:
    message = json.loads(data)
    if not isinstance(message, dict):
        raise Garbage
    if message.get("error") is not None:
        raise Broken(words_of(message["error"]))
    return message
