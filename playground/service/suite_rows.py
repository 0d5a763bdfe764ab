"""A row of a suite as a comparison: the answers of its models side by side, kept so that it can be opened, replied to
and gone on from as any other.

It knows suites and comparisons that are kept; it runs nothing.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import replace
from datetime import UTC, datetime

from playground.errors import UsageError
from playground.messages import msg
from playground.records import Comparison, ModelRun, Request, SuiteRun
from playground.results.store import Store
from playground.results.suites import Suites, asked

ID_DATE = slice(0, 15)
"""Of a suite's id: the time it was begun at, as in a comparison's."""


class SuiteRows:
    """A part of ``Playground``: rows of suites. All raise StorageError if the file can't be read, or written."""

    store: Store
    suites_kept: Suites

    def has_suite(self, id: str) -> bool:
        """Whether there is a suite of that id."""
        return self.suites_kept.owner(id) is not None

    def suite_comparison(self, id: str, row: int, owner: str = "", *, sample: int = 0) -> Comparison:
        """The answers of a row as a comparison, kept for whoever asks; the same one when it is asked for again.

        Args:
            row, sample: Places from 0; a model that has not answered there yet is left out.

        Raises:
            UsageError: There is no such suite or row, or no answer to it yet.
        """
        run = self.suites_kept.get(id)
        if run is None or not 0 <= row < len(run.rows):
            raise UsageError(msg("There is no such prompt in a suite"), msg("Load the suite again."))
        request = asked(run, row, 0, sample)
        found = [
            (column, _own(cell.run, run, (row, column, sample), request))
            for column in range(len(run.columns))
            for cell in self.suites_kept.answers(id, row, column)
            if cell.sample == sample
        ]
        if not found:
            raise UsageError(msg("No model has answered this prompt yet"), msg("Wait for the first answer."))
        name = f"{id}/{row}/{sample}/{owner}/{[column for column, _ in found]}"
        same = f"{id[ID_DATE]}-{hashlib.sha256(name.encode()).hexdigest()[:32]}"
        kept = self.store.get(same)
        if kept is not None:
            return kept
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        made = Comparison(same, now, request, tuple(each for _, each in found), run.environment, run.mode)
        self.store.save(made, owner)
        if self.store.get(same) is None:  # one of that name was deleted, and stays so
            made = Comparison(
                f"{id[ID_DATE]}-{secrets.token_hex(16)}", now, request, made.runs, run.environment, run.mode
            )
            self.store.save(made, owner)
        return made


def _own(taken: ModelRun, run: SuiteRun, place: tuple[int, int, int], shared: Request) -> ModelRun:
    """A run of a comparison, which has a request of its own where it was asked otherwise than the first."""
    row, column, sample = place
    request = taken.request or asked(run, row, column, sample)
    return replace(taken, request=None if request == shared else request)
