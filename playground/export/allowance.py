"""The disk that visitors' preparations may take, and what goes where the next one would pass it.

What no account names (``accounts``) was there before, or is of whoever runs the app, and is never touched. The module
knows sizes, and models by name; it does not know visitors.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

from playground.errors import DoesNotFit, StorageError
from playground.export import places
from playground.export.accounts import Account, Accounts, Left
from playground.messages import msg
from playground.records import Artifact, ModelSpec, Variant
from playground.sources.files import discard, storage_errors

log = logging.getLogger(__name__)

GRACE_S = 60.0
"""What was asked for so lately is about to be loaded."""
GB = 1e9


class Expected(Protocol):
    """Bytes that preparing a variant is going to take, given whether its weights and its import are there."""

    def __call__(self, spec: ModelSpec, variant: Variant, *, weights: bool, imported: bool) -> int: ...


class Allowance:
    """What visitors' preparations took, and may take. Safe to use from several threads and processes.

    Args:
        home: PLAYGROUND_HOME.
        most_bytes: Of all of them together; None for no bound. What is taken is counted all the same.
        public: Whether visitors use this app. Where they don't, whatever is prepared is of whoever runs it.
        expected: Asked before each preparation.
        served: Variants that the app was told to serve: never counted, and never removed.
        in_use: Names of models that are loaded or waited for: never removed meanwhile.

    Attributes:
        evicted: How many variants were removed.
        evicted_bytes: And their bytes.
    """

    def __init__(
        self,
        home: Path,
        most_bytes: float | None,
        *,
        public: bool,
        expected: Expected,
        served: Callable[[], Collection[Variant]],
        in_use: Callable[[], Collection[str]],
    ) -> None:
        self._home, self._accounts = home, Accounts(home)
        self._most, self._public = most_bytes, public
        self._expected, self._served, self._in_use = expected, served, in_use
        self._noted: dict[str, float] = {}
        self.evicted = self.evicted_bytes = 0

    @property
    def bytes(self) -> int:
        """What visitors' preparations hold of the disk; reads a few small files."""
        return sum(account.bytes for account in self._accounts.told().values())

    def begin(self, spec: ModelSpec, variant: Variant) -> None:
        """Make room for what is about to be prepared, and note what lies there already.

        Raises:
            DoesNotFit: There is not enough to remove; nothing was removed then.
            StorageError: The account can't be written.
        """
        if not self._counts(variant):
            self._claim(spec, variant)
            return
        with storage_errors(self._home), self._accounts.all() as accounts:
            account = accounts.setdefault(spec.id, Account(spec.id, spec.source, spec.revision))
            account.source, account.revision = spec.source, spec.revision
            there = account.lies(self._home)
            imported = any(name.startswith("imports/") for name in there)
            weights = imported or any(name.startswith(("hub/", "sources/")) for name in there)
            need = self._expected(spec, variant, weights=weights, imported=imported)
            held = sum(each.bytes + each.expected for each in accounts.values())
            if self._most is not None and held + need > self._most:
                self._evict(accounts, held + need - self._most, account, variant, need, began=False)
            left = account.variants.setdefault(str(variant), Left(0.0))
            left.used, left.expected, left.process, left.before = time.time(), need, self._accounts.me, tuple(there)
            self._accounts.write(account)

    def end(self, spec: ModelSpec, variant: Variant, *, ready: bool) -> None:
        """Measure what a preparation left, and remove others, and it at last, where that is more than there may be.

        Args:
            ready: Whether it ended well; else what it left (a download, say) is kept where it fits.

        Raises:
            DoesNotFit: It was ready, and is gone again: it does not fit, whatever else is removed.
            StorageError: The account can't be written.
        """
        if not self._counts(variant):
            self._claim(spec, variant)
            return
        with storage_errors(self._home), self._accounts.all() as accounts:
            account = accounts.get(spec.id)
            left = account.variants.get(str(variant)) if account else None
            if account is None or left is None:  # claimed meanwhile by whoever runs the app
                return
            took = self._accounts.settle(account, str(variant))
            over = 0.0 if self._most is None else sum(each.bytes for each in accounts.values()) - self._most
            try:
                if over > 0 and took:
                    self._evict(accounts, over, account, variant, took, began=True)
            except DoesNotFit:
                self._remove(account, str(variant))
                if ready:
                    raise
            finally:
                self._accounts.save(account)

    def used(self, spec: ModelSpec, variant: Variant, artifact: Callable[[], Artifact | None]) -> None:
        """A variant that is ready is asked for. It is the last one to go then; where whoever runs the app asks, or
        serves it, it never goes.

        Args:
            artifact: Looks where it is.
        """
        name, now = str(variant), time.monotonic()
        if now - self._noted.get(name, -math.inf) < GRACE_S / 2 or not self._accounts.begun:
            return
        self._noted[name] = now
        try:
            if not self._counts(variant):
                self._claim(spec, variant, artifact(), timeout_s=1.0)
                return
            with self._accounts.all(timeout_s=1.0) as accounts:
                account = accounts.get(spec.id)
                if account and name in account.variants:
                    account.variants[name].used = time.time()
                    self._accounts.write(account)
        except (OSError, StorageError) as error:  # a run must not end for this, nor wait long
            log.warning("what was used can't be noted (%s)", type(error).__name__)

    def _counts(self, variant: Variant) -> bool:
        """Whether it is a visitor's."""
        return self._public and variant not in self._served()

    def _claim(
        self, spec: ModelSpec, variant: Variant, artifact: Artifact | None = None, timeout_s: float = -1
    ) -> None:
        """Whoever runs the app wants this variant: it, what it stands on, and what it shares are no visitor's."""
        if not self._accounts.begun:  # no visitor ever prepared anything
            return
        with storage_errors(self._home), self._accounts.all(timeout_s) as accounts:
            account = accounts.setdefault(spec.id, Account(spec.id, spec.source, spec.revision))
            stands_on = f"artifacts/{Path(artifact.path).name}" if artifact else ""
            theirs = str(variant) in account.variants or account.shared
            if account.own and not theirs and not any(stands_on in left.places for left in account.variants.values()):
                return
            account.own, account.shared = True, {}
            account.variants.pop(str(variant), None)
            for left in account.variants.values():
                left.places.pop(stands_on, None)
            self._accounts.write(account)

    # -- what goes ------------------------------------------------------------------------------------------------

    def _evict(
        self, accounts: Mapping[str, Account], over: float, mine: Account, variant: Variant, took: int, *, began: bool
    ) -> None:
        """Remove what was used the longest ago, until so many bytes are free.

        Args:
            over: Bytes.
            mine, variant: For which room is made, of ``took`` bytes, expected ones or, where it ``began``, measured.

        Raises:
            DoesNotFit: They can't be; nothing was removed then.
        """
        now, held, served = time.time(), {*self._in_use(), mine.model}, set(map(str, self._served()))
        queue: list[tuple[float, Account, str]] = []
        free = 0
        for account in accounts.values():
            if account.model in held or any(left.process for left in account.variants.values()):
                continue
            idle = [
                (left.used, account, name)
                for name, left in account.variants.items()
                if name not in served and not 0 <= now - left.used < GRACE_S
            ]
            queue += idle
            free += sum(sum(account.variants[name].places.values()) for _, _, name in idle)
            free += sum(account.shared.values()) if len(idle) == len(account.variants) else 0
        for _, account, name in sorted(queue, key=lambda each: each[0]) if free >= over else ():
            freed = self._remove(account, name)
            self._accounts.save(account)
            self.evicted, self.evicted_bytes = self.evicted + 1, self.evicted_bytes + freed
            log.info("evicted", extra={"model": name, "bytes": freed})
            over -= freed
            if over <= 0:
                return
        held_bytes = sum(each.bytes + each.expected for each in accounts.values()) - (took if began else 0) - free
        raise self._refusal(variant, took, max(0, held_bytes), began=began)

    def _refusal(self, variant: Variant, took: int, held: int, *, began: bool) -> DoesNotFit:
        assert self._most is not None
        values = {"model": variant, "need_gb": took / GB, "most_gb": self._most / GB, "held_gb": held / GB}
        if began:
            what = msg(
                "{model} took {need_gb:,.2f} GB of the disk and was removed; what visitors add may take "
                "{most_gb:,.2f} GB here, of which models in use have {held_gb:,.2f} GB",
                **values,
            )
        else:
            what = msg(
                "{model} is expected to take {need_gb:,.2f} GB of the disk; what visitors add may take "
                "{most_gb:,.2f} GB here, of which models in use have {held_gb:,.2f} GB",
                **values,
            )
        return DoesNotFit(what, msg("Choose a smaller model or precision, or one that is ready."))

    def _remove(self, account: Account, name: str) -> int:
        """Remove what a variant left, and with the last one of a model what they shared; returns the bytes."""
        left, before = account.variants[name], account.bytes
        leaned_on = places.leaned_on(self._home, but=left.places)
        for place in [place for place in left.places if place not in leaned_on]:
            if self._discard(place):
                del left.places[place]
        if not left.places:
            del account.variants[name]
        others = places.models_of(self._home)
        if not account.variants and account.model not in others:
            needed = places.needed_by_others(self._home, account.shared)
            for place in [place for place in account.shared if place not in needed]:
                if self._discard(place):
                    del account.shared[place]
        return before - account.bytes

    def _discard(self, place: str) -> bool:
        """Remove a folder or a file, unless another process is at it."""
        path = places.path_of(self._home, place)
        try:
            if place.startswith("hub/"):
                places.unlink_cached(path)
                return True
            with FileLock(self._home / "locks" / f"{path.name}.lock", timeout=0):
                discard(path)
                return True
        except (Timeout, OSError) as error:
            log.warning("%s can't be removed (%s)", path.name, type(error).__name__)
            return False
