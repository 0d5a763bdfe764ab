"""From threads to connections: what a thread makes of a model's events is awaited here, by the handful.

Whoever leaves is noticed and told to the thread, which asks between two steps. The module knows iterators and the two
ends of a connection; it does not know what flows.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

from playground.system.reserve import insist

Item = TypeVar("Item")
Receive = Callable[[], Any]


class Gone(Exception):
    """The client left; there is nobody to answer."""


@asynccontextmanager
async def leaving(receive: Receive) -> AsyncIterator[threading.Event]:
    """An event that is set as soon as the client has left, and when the block ends: nobody waits for more then.

    Args:
        receive: Of ASGI, after the body was read.
    """
    left = threading.Event()

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        left.set()

    watcher = asyncio.create_task(watch())
    try:
        yield left
    finally:
        left.set()
        watcher.cancel()


class Flow(Generic[Item]):
    """What an iterator yields in a thread of its own, for one reader in the event loop.

    Args:
        items: Makes the iterator; called in the thread.
    """

    def __init__(self, threads: ThreadPoolExecutor, items: Callable[[], Iterator[Item]]) -> None:
        self._loop = asyncio.get_running_loop()
        self._items: deque[Item] = deque()
        self._lock = threading.Lock()
        self._there = asyncio.Event()
        self._told = self._ended = False
        self._error: BaseException | None = None
        threads.submit(self._work, items)

    async def next(self, timeout: float | None = None) -> list[Item]:
        """What has come since the last call, waiting for something; empty at the end.

        Raises:
            TimeoutError: Nothing came for so many seconds.
            BaseException: What the iterator raised, behind all that it yielded.
        """
        while True:
            with self._lock:
                found = list(self._items)
                self._items.clear()
                self._told = False
                self._there.clear()
                if found:
                    return found
                if self._error:
                    raise self._error
                if self._ended:
                    return []
            async with asyncio.timeout(timeout):
                await self._there.wait()

    async def all(self) -> list[Item]:
        """Everything, once it has ended."""
        found: list[Item] = []
        while new := await self.next():
            found += new
        return found

    def _work(self, items: Callable[[], Iterator[Item]]) -> None:
        try:
            for item in items():
                self._tell(item)
        except BaseException as error:
            self._error = error
        insist(self._end)  # somebody may wait for it without end

    def _end(self) -> None:
        with self._lock:
            self._ended, self._told = True, False
            self._wake()

    def _tell(self, item: Item) -> None:
        with self._lock:
            self._items.append(item)
            self._wake()

    def _wake(self) -> None:
        """Once for a handful: waking the loop costs more than what it then does."""
        if self._told:
            return
        try:
            self._loop.call_soon_threadsafe(self._there.set)
        except RuntimeError:  # the loop was closed: nobody reads any more
            pass
        self._told = True
