"""Which answers were under way at the same time, and what a reader is told of those: their figures rank nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from playground.messages import Translatable, msg
from playground.records import ModelRun

TRIES = 4
"""Times that an answer may be lost (its server fails, its process dies): then the request is taken to be the reason."""


@dataclass(eq=False)
class UnderWay:
    """An answer that is being given.

    Attributes:
        shared: Whether another one was, at any time of it.
    """

    shared: bool = False


class Together:
    """The answers of this moment."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: set[UnderWay] = set()

    @contextmanager
    def one_more(self) -> Iterator[UnderWay]:
        """Count an answer while it is given."""
        mine = UnderWay()
        with self._lock:
            self._answers.add(mine)
            if len(self._answers) > 1:
                for each in self._answers:
                    each.shared = True
        try:
            yield mine
        finally:
            with self._lock:
                self._answers.discard(mine)


def labelled(run: ModelRun, by: Translatable, lost: Sequence[Translatable], *, shared: bool) -> ModelRun:
    """A run with who gave it, why it was asked for again, and whether its figures may be held against others.

    Args:
        by: Who gave it, a sentence.
        lost: Why it was asked for again.
        shared: Whether others were under way.
    """
    notes = [by, *(msg("Asked again: {reason}.", reason=reason) for reason in lost)]
    timings = run.timings
    if shared:
        notes.append(msg("Other answers were under way at the same time: its figures rank nothing."))
        timings = replace(timings, mode="fast")
    return replace(run, timings=timings, warnings=(*run.warnings, *notes))
