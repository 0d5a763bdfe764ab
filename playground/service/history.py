"""What was kept: comparisons and measurements, found again by whoever they belong to.

On one's own machine everything is everybody's. Where strangers come, each sees a list of their own; whoever knows the
id of a comparison, which nobody can guess, may read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from playground.config.settings import Settings
from playground.errors import UsageError
from playground.experiments.admission import check_search
from playground.experiments.compare import CompareJob
from playground.messages import msg
from playground.records import Comparison, Variant, as_id
from playground.results.entries import Entry
from playground.results.figures import Measurement
from playground.results.store import EVERYTHING, Retention, Store
from playground.service.audience import Admitting

CLAIMED = 200
"""Ids that one visitor may claim at once: more than a browser ever kept."""


class History(Admitting):
    """A part of ``Playground``: what it keeps. Everything here raises StorageError if the file can't be read, or
    written.
    """

    settings: Settings
    store: Store

    def running(self, id: str) -> CompareJob | None:
        """The comparison of that id while it goes on; ``Experiments`` knows."""
        return None

    def begun_by(self, id: str) -> str | None:
        """The visitor who began a comparison that is going on; ``Experiments`` knows."""
        return None

    def keep(self, result: Comparison | Measurement, owner: str = "") -> None:
        """Store a result.

        Args:
            owner: The visitor it belongs to.
        """
        if isinstance(result, Comparison):
            self.store.save(result, owner)
        else:
            self.store.save_measurement(result)

    # -- the list -------------------------------------------------------------------------------------------------

    def history(
        self,
        owner: str,
        *,
        search: str = "",
        model: str = "",
        favourites: bool = False,
        limit: int = 50,
        offset: int = 0,
    ) -> list[Entry]:
        """A visitor's comparisons, the newest first; see ``Store.entries``.

        Raises:
            BadRequest: What is searched for is too long.
        """
        check_search(search, self.settings.limits)
        if self._nobody(owner):
            return []
        found = self.store.entries(
            self._whose(owner), search=search, model=model, favourites=favourites, limit=limit, offset=offset
        )
        return [self._at_work(entry) for entry in found]

    def history_models(self, owner: str) -> list[Variant]:
        """What a visitor's comparisons were run with."""
        return [] if self._nobody(owner) else self.store.asked_models(self._whose(owner))

    def history_entry(self, id: str) -> Entry | None:
        """One line of the list, whoever it belongs to."""
        found = self.store.entry(id)
        return self._at_work(found) if found else None

    def owns(self, id: str, owner: str) -> bool:
        """Whether a comparison is that visitor's, to change it or to stop it."""
        if not self.settings.strangers:
            return True
        begun_by = self.begun_by(id)  # of one that goes on, even where nothing can be stored
        return bool(owner) and owner == (begun_by if begun_by is not None else self.store.owner(id))

    def rename(self, id: str, owner: str, title: str) -> None:
        """Give a comparison a title; an empty one takes it away.

        Raises:
            UsageError: It is not in that visitor's list.
        """
        self._changed(not self._nobody(owner) and self.store.rename(id, title, self._whose(owner)))

    def set_favourite(self, id: str, owner: str, on: bool) -> None:
        """Give a comparison a star, or take it away.

        Raises:
            UsageError: It is not in that visitor's list.
        """
        self._changed(not self._nobody(owner) and self.store.set_favourite(id, on, self._whose(owner)))

    def delete(self, id: str, owner: str) -> None:
        """Delete a comparison and the earlier steps of its conversation for good; one that goes on is stopped.

        Raises:
            UsageError: It is not in that visitor's list.
        """
        self._changed(not self._nobody(owner) and self.store.delete(id, self._whose(owner)))
        job = self.running(id)
        if job:
            job.stop()

    def claim(self, ids: Sequence[str], owner: str) -> None:
        """Comparisons of the time when the browser kept the list: those that are nobody's become this visitor's."""
        if self.settings.strangers and owner and ids:
            self.store.claim(list(dict.fromkeys(map(as_id, ids)))[:CLAIMED], owner)

    def _whose(self, owner: str) -> str | None:
        return owner if self.settings.strangers else None

    def _nobody(self, owner: str) -> bool:
        """Whether it is not known who asks, where that decides what may be seen."""
        return self.settings.strangers and not owner

    @staticmethod
    def _changed(done: bool) -> None:
        if not done:
            raise UsageError(
                msg("This comparison is not in your history"), msg("It may have been deleted. Load the list again.")
            )

    def _at_work(self, entry: Entry) -> Entry:
        return replace(entry, running=self.running(entry.id) is not None)

    # -- by id ----------------------------------------------------------------------------------------------------

    def comparison(self, id: str) -> Comparison | None:
        """The stored comparison of that id."""
        return self.store.get(id)

    def comparisons(self, limit: int) -> list[Comparison]:
        """The newest comparisons."""
        return self.store.list(limit)

    def measurement(self, id: str) -> Measurement | None:
        """The stored measurement of that id."""
        return self.store.measurement(id)

    def measurements(self, limit: int) -> list[Measurement]:
        """The newest measurements."""
        return self.store.measurements(limit)

    def back_up(self, file: Path) -> int:
        """Copy all that is kept to a file, while others use it; see ``Database.back_up``."""
        return self.store.back_up(file)


def retention(settings: Settings) -> Retention:
    """Visitors must not fill the disk; where the audience is one's own, nothing goes by itself
    unless ``PLAYGROUND_KEEP_DAYS`` says so.
    """
    limits, days = settings.limits, settings.keep_days
    if not settings.strangers:
        return EVERYTHING if days is None else Retention(days=days, doubts_clock=True)
    least = limits.max_stored_days if days is None else min(days, limits.max_stored_days)
    return Retention(limits.max_stored, limits.max_stored_each, least)
