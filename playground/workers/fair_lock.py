"""Whose turn it is to have the machine, within this process: first come, first served among what one owner asks for,
and owners by turns (start-time fair queueing): a hundred requests of one hold up another's by one.

It knows tickets and their order; it does not know who owners are, nor what is done with a turn.
"""

from __future__ import annotations

import threading
import time
from bisect import insort
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from playground.system.reserve import insist

LOOK_S = 0.1
"""Between two looks at ``cancelled`` while waiting."""
TELL_S = 2.0
"""Between two times that somebody who waits is told of it."""
ROUND = 64
WEIGHT = 0.3
"""Of the last turn in ``mean_s``."""


@dataclass(order=True)
class _Ticket:
    """A place in the line.

    Attributes:
        place: What the line is sorted by.
        start: How many of its owner's turns are before it: each lets ``ROUND`` others go first who come later, and no
            more, so that names made up one after the other keep nobody waiting for ever.
    """

    place: int = field(init=False)
    start: int = field(compare=False)
    number: int
    owner: str = field(compare=False)

    def __post_init__(self) -> None:
        self.place = self.start * ROUND + self.number


class FairLock:
    """A queue in front of the machine.

    Attributes:
        turns: How often it was had.
        waited_s: How long it was waited for until then, all turns together, in seconds.
        mean_s: How long a turn takes, in seconds, the last ones counting most; None before the first one.
    """

    def __init__(self) -> None:
        self.turns, self.waited_s = 0, 0.0
        self._changed = threading.Condition()
        self.mean_s: float | None = None
        self._held_since: float | None = None
        self._line: list[_Ticket] = []  # sorted, but for the first one: it has the machine
        self._now, self._numbers = 0, 0

    @property
    def waiting(self) -> int:
        """How many wait, without whoever holds the machine."""
        with self._changed:
            return max(0, len(self._line) - 1)

    @contextmanager
    def hold(self, cancelled: Callable[[], bool], on_wait: Callable[[int], object], owner: str = "") -> Iterator[bool]:
        """Wait in line, hold the machine inside the ``with``, and give it back.

        Args:
            cancelled: Asked while waiting.
            on_wait: Told how many are ahead, first when the waiting begins, whenever the number changes, and every
                ``TELL_S`` seconds, as the time that it may take changes too.
            owner: Whose turn it is; those of one owner are had in their order, and owners have theirs by turns.

        Yields:
            True with the machine held; False when ``cancelled`` came first.
        """
        begun: float | None = None
        with self._changed:
            ticket = self._enter(owner)
        try:
            mine = self._wait(ticket, cancelled, on_wait)
            if mine:
                self._held_since = begun = time.monotonic()
            yield mine
        finally:
            insist(self._give_back, ticket, begun)  # else nobody would have the machine any more

    def _give_back(self, ticket: _Ticket, begun: float | None) -> None:
        with self._changed:
            if any(each is ticket for each in self._line):
                self._leave(ticket)
                if begun is not None:
                    self._held_since = None
                    took = time.monotonic() - begun
                    self.mean_s = took if self.mean_s is None else self.mean_s + WEIGHT * (took - self.mean_s)
            self._changed.notify_all()

    def expected_s(self, ahead: int) -> float | None:
        """How long it takes, in seconds, until so many have had their turns; None where nothing is known yet. Whoever
        has the machine takes what is left of a usual turn, and beyond half of one as long again as until now.
        """
        mean_s, since = self.mean_s, self._held_since
        if mean_s is None:
            return None
        held_s = 0.0 if since is None else time.monotonic() - since
        return max(0.0, ahead * max(mean_s, 2 * held_s) - held_s)

    def _enter(self, owner: str) -> _Ticket:
        before = [each.start for each in self._line if each.owner == owner]
        self._numbers += 1
        ticket = _Ticket(max([self._now, *(start + 1 for start in before)]), self._numbers, owner)
        if self._line:
            insort(self._line, ticket, lo=1)
        else:
            self._line.append(ticket)
            self._now = ticket.start
        return ticket

    def _leave(self, ticket: _Ticket) -> None:
        place = self._line.index(ticket)
        del self._line[place]
        if place:  # those of the same owner move up: what was taken back costs nobody a turn
            mine = [each for each in self._line[1:] if each.owner == ticket.owner and each > ticket]
            for each in mine:
                self._line.remove(each)
                each.start -= 1
                each.place -= ROUND
                insort(self._line, each, lo=1)
        elif self._line:
            self._now = self._line[0].start

    def _wait(self, ticket: _Ticket, cancelled: Callable[[], bool], on_wait: Callable[[int], object]) -> bool:
        told, told_at, asked = 0, 0.0, time.monotonic()
        while not cancelled():
            with self._changed:
                ahead = self._line.index(ticket)
                if ahead and ahead == told and time.monotonic() - told_at < TELL_S:
                    self._changed.wait(LOOK_S)
                    continue
            if not ahead:
                self.turns, self.waited_s = self.turns + 1, self.waited_s + time.monotonic() - asked
                return True
            on_wait(ahead)
            told, told_at = ahead, time.monotonic()
        return False
