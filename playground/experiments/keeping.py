"""Storing a result while it grows, without ever holding up or breaking what makes it.

It knows a function that stores and one that draws the picture of the moment; not where things are stored.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from playground.errors import PlaygroundError
from playground.messages import NOTHING, Translatable, foreign, msg

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

    def start(self) -> None:
        """Store what there is, and from now on whatever ``touch`` tells of."""
        self._changed.set()
        self._thread.start()

    def touch(self) -> None:
        """There is more to be stored than before."""
        self._changed.set()

    def finish(self, result: Result) -> None:
        """Store the whole, as the last thing; returns when that was tried."""
        self._over.set()
        self._changed.set()
        self._thread.join()
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
        except PlaygroundError as error:
            self.problem = error.message
        except Exception as error:  # whatever it is, the answers are not to suffer
            self.problem = msg("{kind}: {error}", kind=foreign(type(error).__name__), error=foreign(str(error)))
        else:
            self.problem = NOTHING
