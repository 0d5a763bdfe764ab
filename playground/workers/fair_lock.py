"""Whose turn it is to have the machine: first come, first served, within this process.

It knows tickets and their order; it does not know what is done with a turn.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LOOK_S = 0.1
"""Between two looks at ``cancelled`` while waiting."""


class FairLock:
    """A queue in front of the machine."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._line: deque[object] = deque()

    @contextmanager
    def hold(self, cancelled: Callable[[], bool], on_wait: Callable[[int], object]) -> Iterator[bool]:
        """Wait in line, hold the machine inside the ``with``, and give it back.

        Args:
            cancelled: Asked while waiting.
            on_wait: Told how many are ahead, first when the waiting begins and whenever the number changes.

        Yields:
            True with the machine held; False when ``cancelled`` came first.
        """
        ticket = object()
        with self._changed:
            self._line.append(ticket)
        try:
            yield self._wait(ticket, cancelled, on_wait)
        finally:
            with self._changed:
                self._line.remove(ticket)
                self._changed.notify_all()

    def _wait(self, ticket: object, cancelled: Callable[[], bool], on_wait: Callable[[int], object]) -> bool:
        told = 0
        while not cancelled():
            with self._changed:
                ahead = self._line.index(ticket)
                if ahead and ahead == told:
                    self._changed.wait(LOOK_S)
                    continue
            if not ahead:
                return True
            on_wait(ahead)
            told = ahead
        return False
