"""Connections that ask nothing are not kept: a request's head has arrived in time and in few bytes, or it is closed.

uvicorn waits without an end for the first line of a request, and by its faster parser takes a head of any size: a few
hundred silent connections, which need no key, would keep everybody else out. So would those of one address that ask,
which leaves half of them to others; proxies that uvicorn believes have no such bound, for behind them is everybody.

What is beyond the bounds is answered in a word and closed, but for what whoever runs the server asks: uvicorn's own
bound refuses that as well, and a server that is full is taken for a dead one and ended. The module knows bytes, time,
addresses and such paths; it does not know what else is asked.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any, ClassVar

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from playground.api.crowd import RETRY_S
from playground.api.headers import with_headers
from playground.messages import Translatable, msg
from playground.service.addresses import network_of

HEAD_S = 20.0
"""From its connection, or from its first byte where others came before it, to the end of a request's head."""
HEAD_BYTES = 65_536
REST_BYTES = 8_000_000
"""Of a body that was answered before it was read, and of the head behind it."""
SPARE = 16
"""Connections beyond all that are kept, for a word each. With one more the one that has been there longest goes."""
FULL = 503, msg("As many connections as may be are open here. Try again in a moment.")
CROWDED = 429, msg("As many connections of your address are open here as may be. Try again in a moment.")


class Connection(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """uvicorn's own, whichever of the two is installed."""

    app: Any
    _timer: asyncio.TimerHandle | None = None
    _unasked = 0
    _most: ClassVar[int | None] = None
    _each: ClassVar[int | None] = None
    _free: ClassVar[Collection[str]] = ()
    _refused: ClassVar[Callable[..., object]]
    _near: ClassVar[Counter[str]] = Counter()
    _beyond: ClassVar[dict[Connection, None]] = {}
    _peer = ""
    _refusal: tuple[int, Translatable] | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._asked, self.app = self.app, self._answer
        if self._is_full():
            self._refusal = FULL
        elif self._is_crowded():
            self._refusal = CROWDED
        if self._refusal:
            self._beyond[self] = None
            if len(self._beyond) > SPARE:
                eldest = next(iter(self._beyond))
                del self._beyond[eldest]
                eldest.transport.close()
        self._wait()

    def _is_full(self) -> bool:
        return self._most is not None and len(self.connections) - len(self._beyond) > self._most

    def _is_crowded(self) -> bool:
        """Whether the address that this comes from has as many as it may; else it is counted."""
        found = self.client[0] if self.client else ""
        if self._each is None or not found or found in getattr(self._asked, "trusted_hosts", ()):
            return False
        peer = network_of(found)
        if self._near[peer] >= self._each:
            return True
        self._peer = peer
        self._near[peer] += 1
        return False

    def _uncount(self) -> None:
        self._beyond.pop(self, None)
        if self._peer:
            self._near[self._peer] -= 1
            if self._near[self._peer] <= 0:
                del self._near[self._peer]
            self._peer = ""

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        """In the app's place: what is within the bounds is the app's, and what is always answered."""
        refusal = self._refusal
        if refusal is None and self._most is not None and len(self.tasks) > self._most:
            refusal = FULL  # connections are gone whose requests are still being worked on
        if refusal is None:
            await self._asked(scope, receive, send)
        elif scope["path"] in self._free:
            await self._asked(scope, receive, _closing(send))
        else:
            self._refused("connections")
            await _say(_closing(with_headers(send)), *refusal)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:  # a request, which has times of its own
            self._stop()
            return
        self._unasked += len(data)
        left_over = self.cycle is not None and self.cycle.more_body
        if self._unasked > (REST_BYTES if left_over else HEAD_BYTES):
            self.transport.close()
        elif self._timer is None:
            self._wait()

    def handle_websocket_upgrade(self, *event: Any) -> None:
        self._uncount()  # another protocol has the connection from now on
        super().handle_websocket_upgrade(*event)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        self._uncount()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._timer = self.loop.call_later(HEAD_S, self._late)

    def _late(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()

    def _stop(self) -> None:
        self._unasked = 0
        if self._timer:
            self._timer.cancel()
            self._timer = None


def _closing(send: Any) -> Any:
    """An ASGI ``send`` of the last answer on its connection."""

    async def sent(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
        await send(message)

    return sent


async def _say(send: Any, status: int, words: Translatable) -> None:
    body = f"{words}\n".encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"retry-after", str(math.ceil(RETRY_S)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def bounded(
    most: int | None,
    each: int | None = None,
    free: Collection[str] = (),
    refused: Callable[[str], object] = lambda limit: None,
) -> type[Connection]:
    """``Connection`` of one server.

    Args:
        most: Connections that it keeps, and requests that it works on.
        each: Those of one address; None for any number of them, where a proxy that uvicorn does not know stands before
            it.
        free: Paths that are answered beyond that, too.
        refused: Told the name of the limit whenever somebody reached it.
    """

    class Bounded(Connection):
        _most: ClassVar[int | None] = most
        _each: ClassVar[int | None] = each
        _free: ClassVar[Collection[str]] = frozenset(free)
        _refused = staticmethod(refused)
        _near: ClassVar[Counter[str]] = Counter()
        _beyond: ClassVar[dict[Connection, None]] = {}

    return Bounded
