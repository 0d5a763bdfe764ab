"""Storing a result while it grows, without breaking what makes it: a whole picture again and again by a thread of its
own (``Keeper``), or cells one by one (``CellKeeper``).

It knows who stores and what the moment's picture is; not where things are stored.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

from playground.errors import PlaygroundError, StorageError
from playground.messages import NOTHING, Translatable, foreign, msg
from playground.records import Cell
from playground.results.suites import Suites
from playground.system.reserve import is_shortage, out_of_memory, spend

MOST_UNSAVED, MOST_UNSAVED_S = 50, 60.0
"""Cells that wait to be stored, and how long the first of them may, before a suite ends instead of working for nothing.
"""
AGAIN_S = 1.0
WHOLE_S = 5.0
"""So long the whole of a result is tried to be stored where memory fails it."""

Result = TypeVar("Result")


class Keeper(Generic[Result]):
    """Stores by a thread of its own, as another process may have the database for seconds.

    Args:
        save: Stores a result; one of the same id is replaced.
        picture: The result as far as it is.

    Attributes:
        problem: Why the last attempt to store failed; empty where it did not.
    """

    def __init__(self, save: Callable[[Result], object], picture: Callable[[], Result]) -> None:
        self._save, self._picture = save, picture
        self._changed, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="keeper", daemon=True)
        self.problem: Translatable = NOTHING
        self._lacked_memory = False

    def start(self) -> None:
        """Store what there is, and from now on whatever ``touch`` tells of; the whole alone where there is no memory
        for a thread.
        """
        self._changed.set()
        with suppress(RuntimeError):
            self._thread.start()

    def touch(self) -> None:
        """There is more to be stored than before."""
        self._changed.set()

    def finish(self, result: Result) -> None:
        """Store the whole, as the last thing; returns when that was tried."""
        self._over.set()
        self._changed.set()
        if self._thread.ident is not None:  # there may have been no room for a thread
            self._thread.join()
        until = time.monotonic() + WHOLE_S
        self._store(lambda: result)
        while self._lacked_memory and time.monotonic() < until:
            time.sleep(AGAIN_S)
            self._store(lambda: result)

    def _work(self) -> None:
        while True:
            self._changed.wait()
            self._changed.clear()
            if self._over.is_set():
                return
            self._store(self._picture)

    def _store(self, picture: Callable[[], Result]) -> None:
        try:
            self._save(picture())
            self._lacked_memory, self.problem = False, NOTHING
        except Exception as error:  # whatever it is, the answers are not to suffer
            self._lacked_memory = is_shortage(error) or is_shortage(error.__cause__)
            if self._lacked_memory:
                spend()
            self.problem = _problem(error)


def _problem(error: Exception) -> Translatable:
    if is_shortage(error):
        return out_of_memory().message
    if isinstance(error, PlaygroundError):
        return error.message
    return msg("{kind}: {error}", kind=foreign(type(error).__name__), error=foreign(str(error)))


class CellKeeper:
    """Stores the cells of a suite between two answers, and again where it failed.

    Attributes:
        problem: Why the last attempt failed; empty where it did not.
    """

    def __init__(self, suites: Suites, id: str) -> None:
        self._suites, self._id = suites, id
        self._lock = threading.Lock()
        self._waiting: list[Cell] = []
        self._since: float | None = None
        self.problem: Translatable = NOTHING

    def put(self, cells: Sequence[Cell]) -> bool:
        """Store these and what waits. Returns False where the suite was deleted.

        Raises:
            StorageError: It has failed for too long.
        """
        with self._lock:
            self._waiting += cells
            if not self._waiting:
                return True
            try:
                is_there = self._suites.put(self._id, self._waiting)
            except StorageError as error:
                self.problem = error.message
                now = time.monotonic()
                self._since = now if self._since is None else self._since
                if len(self._waiting) > max(MOST_UNSAVED, len(cells)) or now - self._since > MOST_UNSAVED_S:
                    raise
                return True
            self._waiting, self._since, self.problem = [], None, NOTHING
            return is_there

    def finish(self, ends: Callable[[], bool]) -> None:
        """Store what waits, trying for a while unless somebody wants an end.

        Raises:
            StorageError: It can't be stored.
        """
        until = time.monotonic() + MOST_UNSAVED_S
        while True:
            try:
                self.put([])
            except StorageError:
                if ends() or time.monotonic() > until:
                    raise
            if not self._waiting:
                return
            if ends() or time.monotonic() > until:
                raise StorageError(
                    self.problem, msg("Answers that could not be kept are asked again when the suite is resumed.")
                )
            time.sleep(AGAIN_S)
