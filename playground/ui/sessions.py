"""Which experiments belong to which browser tab, so that Stop and leaving reach them and no others. Comparisons of the
page are not among them: they are found by their id (``ui.watching``).

A tab is named by gradio's session hash. This file knows nothing of models and nothing of the page.
"""

from __future__ import annotations

import threading
import time
from typing import Protocol

JUST_LEFT_S = 2.0
"""What a tab asks for so soon after it left was sent before: the click was overtaken by the closing of the tab."""


class Stoppable(Protocol):
    """Work that ends when it is told to: a measurement, a comparison that a program asked for."""

    def stop(self) -> None: ...


class Sessions:
    """What is going on, by session. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[str, set[Stoppable]] = {}
        self._gone: dict[str, float] = {}
        self._stops: dict[str, int] = {}

    def add(self, session: str, running: Stoppable, stops: int | None = None) -> None:
        """Remember ``running``; it is stopped at once if its tab went away, or Stop was pressed, while it started.

        Args:
            stops: What ``begin`` returned.
        """
        with self._lock:
            gone = session in self._gone
            if not gone:
                self._running.setdefault(session, set()).add(running)
            stopped = stops is not None and self._stops.get(session, 0) != stops
        if gone or stopped:
            running.stop()

    def remove(self, session: str, running: Stoppable) -> None:
        """Forget ``running``, whether or not it was known."""
        with self._lock:
            mine = self._running.get(session, set())
            mine.discard(running)
            if not mine:
                self._running.pop(session, None)

    def begin(self, session: str) -> int:
        """A tab asks for something: one that had lost its connection for a while is back.

        Returns:
            How often Stop was pressed in it until now, for ``add``.
        """
        with self._lock:
            if time.monotonic() - self._gone.get(session, 0.0) > JUST_LEFT_S:
                self._gone.pop(session, None)
            return self._stops.get(session, 0)

    def stop(self, session: str) -> None:
        """Stop what this session started; the runs end by themselves and keep their text."""
        with self._lock:
            if len(self._stops) > 10_000 and session not in self._stops:
                del self._stops[next(iter(self._stops))]  # the oldest; long gone, or it has not pressed Stop lately
            self._stops[session] = self._stops.pop(session, 0) + 1
            mine = list(self._running.get(session, ()))
        for running in mine:
            running.stop()

    def leave(self, session: str) -> None:
        """The tab was closed or reloaded."""
        with self._lock:
            if len(self._gone) > 10_000:  # names of tabs long gone; far more than can be between start and add
                self._gone.clear()
            self._gone[session] = time.monotonic()
        self.stop(session)
