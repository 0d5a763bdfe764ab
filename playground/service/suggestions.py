"""Better small models, for whoever begins with the starters: what each would cost, and one call that prepares it.

The Hub is asked by a thread of its own, once it is wanted to know and never at import: whoever asks gets what is known
so far. What the Hub says of a model is remembered on the disk. Nothing is downloaded here but small files.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from playground.catalog import hub, hub_cards
from playground.catalog.entries import Catalog, CatalogEntry
from playground.catalog.hub_names import tag_in
from playground.catalog.search import Listed
from playground.catalog.sets import download_bytes
from playground.config.settings import Settings
from playground.errors import SourceError, UsageError
from playground.export import Preparation, Preparer
from playground.messages import msg
from playground.records import Variant
from playground.service.audience import Admitting

SUGGESTED = ("gemma-3-270m-it", "smollm2-360m-instruct", "qwen3-0.6b", "lfm2-350m", "granite-4.0-350m")
"""Instruct models that follow a request better than the two starters and are still quick on two cores."""
TIMEOUT_S = 3.0
ASK_AGAIN_S = 300.0
"""After the Hub could not be reached."""
MEASURED_S = 2.0
"""Shorter downloads say nothing of a line's speed."""


@dataclass(frozen=True)
class Suggestion:
    """A model to prepare.

    Attributes:
        listed: Its facts, and what it would need in memory.
        variant: What would be prepared.
        bytes: To download; None where unknown.
        estimated: Whether ``bytes`` is an estimate from the number of parameters, and not what the Hub says.
        gated: Whether its licence has to be accepted on the Hub before.
        seconds: How long the download takes at the speed that was measured here; None before one was.
    """

    listed: Listed
    variant: Variant
    bytes: int | None
    estimated: bool
    gated: bool
    seconds: float | None
    preparation: Preparation


@dataclass(frozen=True)
class Suggestions:
    """What there is to suggest.

    Attributes:
        state: ``asking`` while it is not known whether the Hub can be reached.
        models: Those that fit this machine and are not served already; empty unless the state is ``reachable``.
        bytes_per_s: Speed of the last download that was watched.
    """

    state: Literal["asking", "reachable", "unreachable"]
    models: tuple[Suggestion, ...] = ()
    bytes_per_s: float | None = None


@dataclass
class _Watched:
    """A download: since when, and how far it was then."""

    since: float
    share: float


class Suggesting(Admitting):
    """A part of ``Playground``: what else there is to try."""

    settings: Settings
    catalog: Catalog
    preparer: Preparer
    listed: Callable[[CatalogEntry], Listed]
    served: Callable[[], tuple[CatalogEntry, ...]]

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asking: threading.Thread | None = None
        self._answered: float | None = None
        self._reachable = False
        self._space_set = False
        self._downloads: dict[str, _Watched] = {}
        self._speed: float | None = None

    @property
    def served_names(self) -> tuple[str, ...]:
        """What the app serves, as spaces.yaml names it; see ``settle_served``."""
        return self.settings.space_models if self._space_set else self.settings.models

    def settle_served(self) -> None:
        """Decide once, before the page is drawn, which set a Space serves: that of its own where the Hub answers within
        ``TIMEOUT_S``, else the one that needs no Hub. Anywhere else there is but one.
        """
        if self.settings.on_space and self.settings.space_models:
            self._space_set = hub.reachable(TIMEOUT_S)

    def suggestions(self) -> Suggestions:
        """What is known now; the first call has the Hub asked in the background."""
        with self._lock:
            stale = self._answered is not None and not self._reachable
            stale = stale and time.monotonic() - (self._answered or 0.0) > ASK_AGAIN_S
            if self._asking is None or (stale and not self._asking.is_alive()):
                self._answered = None
                self._asking = threading.Thread(target=self._ask, name="suggestions", daemon=True)
                self._asking.start()
            answered, reachable = self._answered is not None, self._reachable
        if not answered:
            return Suggestions("asking")
        if not reachable:
            return Suggestions("unreachable")
        made = tuple(self._suggestion(entry) for entry in self._candidates())
        return Suggestions("reachable", tuple(each for each in made if each.listed.fits is not False), self._speed)

    def prepare_suggested(self, model: str, *, owner: str = "") -> Variant:
        """Begin to prepare one of them in the background; what is chosen with it.

        Raises:
            UsageError: It is none of them, or this visitor may not add models.
        """
        for entry in self._candidates():
            if entry.spec.id == model:
                self.check_may_run([entry.variants[0]], owner)
                self.preparer.start(entry.variants[0])
                return entry.variants[0]
        raise UsageError(msg("'{model}' is not suggested here", model=model), msg("Choose one of the list."))

    def _candidates(self) -> list[CatalogEntry]:
        known, served = self.catalog.ids(), {entry.spec.id for entry in self.served()}
        return [self.catalog.entry(id) for id in SUGGESTED if id in known and id not in served]

    def _ask(self) -> None:
        reachable = hub.reachable(TIMEOUT_S)
        for entry in self._candidates() if reachable else ():
            tag = tag_in(entry.spec.source)
            if hub_cards.remembered(entry.spec.upstream, self.settings.home, tag) is None:
                try:
                    hub_cards.read(entry.spec.upstream, "", self.settings.home, online=True, tag=tag)
                except (SourceError, UsageError):
                    continue  # its size is then an estimate
        with self._lock:
            self._reachable, self._answered = reachable, time.monotonic()

    def _suggestion(self, entry: CatalogEntry) -> Suggestion:
        listed, variant = self.listed(entry), entry.variants[0]
        told = hub_cards.remembered(entry.spec.upstream, self.settings.home, tag_in(entry.spec.source))
        size = told.download_bytes if told else 0
        known = size or download_bytes(listed) or None
        prepared = self.preparer.state(variant)
        self._watch(str(variant), prepared, known)
        return Suggestion(
            listed=listed,
            variant=variant,
            bytes=known,
            estimated=not size,
            gated=bool(told.gated) if told else str(entry.card.gated) == "yes",
            seconds=known / self._speed if known and self._speed else None,
            preparation=prepared,
        )

    def _watch(self, name: str, prepared: Preparation, size: int | None) -> None:
        """Take the speed of a download from how far it is each time somebody looks."""
        share = prepared.progress
        with self._lock:
            if not size or share is None or getattr(prepared.step, "template", "") != "downloading":
                self._downloads.pop(name, None)
                return
            now = time.monotonic()
            begun = self._downloads.setdefault(name, _Watched(now, share))
            if now - begun.since >= MEASURED_S and share > begun.share:
                self._speed = (share - begun.share) * size / (now - begun.since)
