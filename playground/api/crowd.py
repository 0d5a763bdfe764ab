"""Requests that are under way: those of one address leave half of what the server answers at the same time to others.

Streams, bodies that arrive slowly and answers that are read slowly take a place each for as long as they last. Behind a
proxy all of them come by a few connections of one peer, so the address is what the proxy says (``whence``), where it is
believed. The module knows addresses; it does not know what is asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from playground.messages import Translatable, msg

RETRY_S = 5.0
WORDS = msg("As many requests of your address are being answered here as may be. Try again in a moment.")

Refuse = Callable[[dict[str, Any], Any, Any, Translatable], Awaitable[None]]
"""Answers a request, by scope, receive and send, with the words."""


class Crowd:
    """ASGI middleware.

    Args:
        most: Requests of one address that may be under way.
        whence: The address that a request came from.
        refuse: Tells those beyond, with ``RETRY_S``.
        refused: Told the name of the limit whenever somebody reached it.
        free: Paths that are neither counted nor refused: what whoever runs the server asks.
    """

    def __init__(
        self,
        app: Any,
        most: int,
        whence: Callable[[dict[str, Any]], str],
        refuse: Refuse,
        refused: Callable[[str], object] = lambda limit: None,
        *,
        free: Collection[str] = (),
    ) -> None:
        self._app, self._most, self._whence, self._free = app, most, whence, free
        self._refuse, self._refused = refuse, refused
        self._near: Counter[str] = Counter()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] in self._free:
            await self._app(scope, receive, send)
            return
        address = self._whence(scope)
        if address and self._near[address] >= self._most:
            self._refused("connections")
            await self._refuse(scope, receive, send, WORDS)
            return
        self._near[address] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._near[address] -= 1
            if self._near[address] <= 0:
                del self._near[address]
