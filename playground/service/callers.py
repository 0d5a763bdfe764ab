"""Who is answered next, where several programs ask at once: one of each in turn, of each its own in their order.

It knows callers by a word and how many wait; it knows neither models nor what is asked.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from playground.config.settings import Limits
from playground.errors import Busy, Stopped
from playground.messages import msg
from playground.records import Cancelled
from playground.service.limiter import wait_words
from playground.system.reserve import insist

LOOK_S = 0.1
"""Between two looks at ``cancelled`` while waiting."""


class Callers:
    """A queue in front of the machine's own: as a caller has one place in it at most, a hundred requests of one keep
    another's waiting for one of them and no longer.

    Args:
        most: Requests of one caller that may wait.
        most_of_all: Requests of all callers that may wait.
        expected_s: How long so many turns at the machine take, in seconds; None where that is not known yet.
    """

    def __init__(
        self,
        most: int = Limits.max_api_waiting,
        most_of_all: int = Limits.max_api_waiting_of_all,
        expected_s: Callable[[int], float | None] = lambda turns: None,
    ) -> None:
        self._most, self._most_of_all, self._expected_s = most, most_of_all, expected_s
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
            insist(self._give_back, owner, ticket)  # else nobody would be served any more

    def _give_back(self, owner: str, ticket: object) -> None:
        with self._changed:
            self._leave(owner, ticket)
            self._changed.notify_all()

    def busy(self, n: int, *, of_one: bool) -> Busy:
        """What is told where so many wait: with the time until one of them is answered, as far as it is known.

        Args:
            of_one: They are one caller's: everybody else has a turn meanwhile.
        """
        with self._changed:
            turns = max(1, len(self._lines)) if of_one else 1
        wait_s = max(1.0, self._expected_s(turns) or 1.0)
        return Busy(msg("{n} requests are waiting here already", n=n), wait_words(wait_s), retry_after_s=wait_s)

    def _enter(self, owner: str, ticket: object) -> None:
        line = self._lines.get(owner, deque())
        all_ = sum(map(len, self._lines.values()))
        if len(line) >= self._most or all_ >= self._most_of_all:
            raise self.busy(len(line) if len(line) >= self._most else all_, of_one=len(line) >= self._most)
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
            with suppress(ValueError):
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
