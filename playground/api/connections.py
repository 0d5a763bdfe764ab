"""Connections that ask nothing are not kept: a request's head has arrived in time and in few bytes, or it is closed.

uvicorn waits without an end for the first line of a request, and by its faster parser takes a head of any size: a few
hundred silent connections, which need no key, would keep everybody else out. The module knows bytes and time; it does
not know what is asked.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

HEAD_S = 20.0
"""From its connection, or from its first byte where others came before it, to the end of a request's head."""
HEAD_BYTES = 65_536
REST_BYTES = 8_000_000
"""Of a body that was answered before it was read, and of the head behind it."""


class Connection(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """uvicorn's own, whichever of the two is installed."""

    _timer: asyncio.TimerHandle | None = None
    _unasked = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait()

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

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
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
