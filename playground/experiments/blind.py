"""A comparison that is going on, for eyes that must not know which column is which model before they have voted.

While it runs nothing is to be seen of it but that it runs: not which column is prepared, reads or answers, nor how many
are done, as each takes its own time. All answers appear at once, under letters (``results.blind``).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from playground.experiments.compare import CompareJob
from playground.experiments.progress import LiveRun, Snapshot
from playground.messages import msg
from playground.records import Comparison, Mode, Request
from playground.results.blind import answered, blinded, letter

Item = TypeVar("Item")

WAITING = msg("All answers appear at once, when the last model is done, so that their speed tells nothing.")


def shuffled(columns: Sequence[Item]) -> list[Item]:
    """In an order that nobody can foretell, by the system's source of randomness."""
    order = list(columns)
    random.SystemRandom().shuffle(order)
    return order


class BlindJob:
    """A ``CompareJob`` seen blind: it can be watched, waited for and stopped as one."""

    def __init__(self, job: CompareJob) -> None:
        self._job = job

    @property
    def id(self) -> str:
        """Of the comparison."""
        return self._job.id

    @property
    def request(self) -> Request:
        """What all columns are asked."""
        return self._job.request

    @property
    def mode(self) -> Mode:
        """How they run."""
        return self._job.mode

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self._job.done

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for its end; False if it did not come within ``timeout`` seconds."""
        return self._job.wait(timeout)

    def snapshot(self) -> Snapshot:
        """The same for every column until all have ended; then the answers."""
        at = self._job.snapshot()
        if not self._job.done:
            waiting = [LiveRun(letter(place), message=WAITING) for place in range(len(at.lives))]
            return Snapshot(lives=tuple(waiting), problem=at.problem, ahead=at.ahead)
        ended = [
            replace(LiveRun(run.variant), kind="failed" if run.error else "done", text=run.text, run=run)
            for run in self.result().runs
        ]
        return Snapshot(lives=tuple(ended), problem=at.problem)

    def stop(self) -> None:
        """End all of it; one column alone can't be stopped, as one can't see which still answers."""
        self._job.stop()

    def result(self) -> Comparison:
        """Wait for the end; the comparison with letters for names, unless fewer than two answers leave nothing to vote
        on.
        """
        result = self._job.result()
        return blinded(result) if sum(map(answered, result.runs)) > 1 else result
