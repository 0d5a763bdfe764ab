"""Who is answered next, where several programs ask at once: one of each in turn, of each its own in their order.

It knows callers by a word and how many wait; it knows neither models nor what is asked.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from playground.errors import Busy, Stopped
from playground.messages import msg
from playground.records import Cancelled

LOOK_S = 0.1
"""Between two looks at ``cancelled`` while waiting."""
MOST_WAITING = 64
"""Requests of one caller that may wait."""
MOST_WAITING_OF_ALL = 256


class Callers:
    """A queue in front of the machine's own: as a caller has one place in it at most, a hundred requests of one keep
    another's waiting for one of them and no longer.

    Args:
        most: Requests of one caller that may wait.
        most_of_all: Requests of all callers that may wait.
    """

    def __init__(self, most: int = MOST_WAITING, most_of_all: int = MOST_WAITING_OF_ALL) -> None:
        self._most, self._most_of_all = most, most_of_all
        self._changed = threading.Condition()
        self._lines: dict[str, deque[object]] = {}  # in the order in which their owners are next
        self._served: object | None = None

    @property
    def waiting(self) -> int:
        """How many requests wait or are answered."""
        with self._changed:
            return sum(map(len, self._lines.values())) + (self._served is not None)

    @contextmanager
    def turn(self, owner: str, cancelled: Cancelled) -> Iterator[None]:
        """Wait for this caller's turn, and have it inside the ``with``.

        Raises:
            Busy: Too many requests wait already.
            Stopped: ``cancelled`` came first.
        """
        ticket = object()
        with self._changed:
            self._enter(owner, ticket)
        try:
            self._wait(ticket, cancelled)
            yield
        finally:
            with self._changed:
                self._leave(owner, ticket)
                self._changed.notify_all()

    def _enter(self, owner: str, ticket: object) -> None:
        line = self._lines.get(owner, deque())
        if len(line) >= self._most or sum(map(len, self._lines.values())) >= self._most_of_all:
            raise Busy(
                msg("{n} requests are waiting here already", n=len(line) or self._most_of_all),
                msg("Try again when some of them are answered."),
            )
        self._lines.setdefault(owner, line).append(ticket)
        self._next()

    def _wait(self, ticket: object, cancelled: Cancelled) -> None:
        while not cancelled():
            with self._changed:
                if self._served is ticket:
                    return
                self._changed.wait(LOOK_S)
        raise Stopped(msg("The request was taken back before its turn"))

    def _leave(self, owner: str, ticket: object) -> None:
        if self._served is ticket:
            self._served = None
            if owner in self._lines:  # who came while this caller was served is before them
                self._lines[owner] = self._lines.pop(owner)
        elif owner in self._lines:
            self._lines[owner].remove(ticket)
            if not self._lines[owner]:
                del self._lines[owner]
        self._next()

    def _next(self) -> None:
        """Serve the first of the caller whose turn it is; with more to ask, they are last then."""
        if self._served is not None or not self._lines:
            return
        owner = next(iter(self._lines))
        line = self._lines.pop(owner)
        self._served = line.popleft()
        if line:
            self._lines[owner] = line
