"""Who has a page open: what was begun for somebody who left gives way to what others wait for.

It knows names and times; it does not know pages, nor what was begun.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict

REMEMBERED = 10_000


class Presence:
    """Counts the open pages of each visitor. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: Counter[str] = Counter()
        self._left: OrderedDict[str, float] = OrderedDict()

    @property
    def pages(self) -> int:
        """How many are open."""
        with self._lock:
            return self._open.total()

    def pages_of(self, visitor: str) -> int:
        """How many this visitor has open."""
        with self._lock:
            return self._open[visitor]

    def enter(self, visitor: str) -> None:
        """A page was opened."""
        with self._lock:
            self._open[visitor] += 1
            self._left.pop(visitor, None)

    def leave(self, visitor: str) -> bool:
        """A page was closed; returns whether it was the visitor's last."""
        with self._lock:
            self._open[visitor] -= 1
            if self._open[visitor] > 0:
                return False
            del self._open[visitor]
            self._left[visitor] = time.monotonic()
            if len(self._left) > REMEMBERED:
                self._left.popitem(last=False)
            return True

    def left(self, visitor: str, since_s: float) -> bool:
        """Whether a visitor had a page open and closed the last one so long ago, in seconds. A program, which never has
        one, has not left.
        """
        with self._lock:
            at = self._left.get(visitor)
        return at is not None and time.monotonic() - at >= since_s
