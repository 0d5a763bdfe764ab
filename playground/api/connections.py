"""Connections that ask nothing are not kept: a request's head has arrived in time and in few bytes, or it is closed.

uvicorn waits without an end for the first line of a request, and by its faster parser takes a head of any size: a few
hundred silent connections, which need no key, would keep everybody else out. So would those of one address that ask,
which leaves half of them to others; proxies that uvicorn believes have no such bound, for behind them is everybody. The
module knows bytes, time and addresses; it does not know what is asked.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, ClassVar

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from playground.messages import msg
from playground.service.addresses import network_of

HEAD_S = 20.0
"""From its connection, or from its first byte where others came before it, to the end of a request's head."""
HEAD_BYTES = 65_536
REST_BYTES = 8_000_000
"""Of a body that was answered before it was read, and of the head behind it."""
CROWDED = (
    b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 5\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"content-length: %d\r\nconnection: close\r\n\r\n%s"
)
CROWDED_WORDS = msg("As many connections of your address are open here as may be. Try again in a moment.")


class Connection(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """uvicorn's own, whichever of the two is installed."""

    _timer: asyncio.TimerHandle | None = None
    _unasked = 0
    _most: ClassVar[int | None] = None
    _near: ClassVar[Counter[str]] = Counter()
    _peer = ""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if self._crowded():
            words = f"{CROWDED_WORDS}\n".encode()
            transport.write(CROWDED % (len(words), words))
            transport.close()
            return
        self._wait()

    def _crowded(self) -> bool:
        """Whether the address that this comes from has as many as it may; else it is counted."""
        found = self.client[0] if self.client else ""
        if self._most is None or not found or found in getattr(self.app, "trusted_hosts", ()):
            return False
        peer = network_of(found)
        if self._near[peer] >= self._most:
            return True
        self._peer = peer
        self._near[peer] += 1
        return False

    def _uncount(self) -> None:
        if self._peer:
            self._near[self._peer] -= 1
            if self._near[self._peer] <= 0:
                del self._near[self._peer]
            self._peer = ""

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


def bounded(most: int | None) -> type[Connection]:
    """``Connection`` of one server, which keeps so many of one address; None for any number of them, where a proxy that
    uvicorn does not know stands before it.
    """

    class Bounded(Connection):
        _most: ClassVar[int | None] = most
        _near: ClassVar[Counter[str]] = Counter()

    return Bounded
