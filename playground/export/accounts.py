"""The account of what visitors' preparations left: a file for each model under ``PLAYGROUND_HOME/visitors``.

It names folders and files that were not there before a preparation began, their sizes, and when a variant was last
used. Each file has a copy, written before it; where neither can be read they are set aside. A preparation that was
killed is settled by whoever reads its file next.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock

from playground.export import cache, places
from playground.sources.files import write_text

log = logging.getLogger(__name__)

FOLDER = "visitors"


@dataclass
class Left:
    """What preparations of one variant left that was not there before.

    Attributes:
        used: When it was last asked for, in seconds since 1970.
        places: Artifacts and their sizes in bytes.
        expected: Bytes that the preparation under way is expected to take; 0 where none is.
        process: Id and time of start of the process at it.
        before: What lay there when it began.
    """

    used: float
    places: dict[str, int] = field(default_factory=dict)
    expected: int = 0
    process: tuple[int, float] | None = None
    before: tuple[str, ...] = ()


@dataclass
class Account:
    """Of one model.

    Attributes:
        source, revision: Its spec's.
        own: Whether a variant of it is of whoever runs the app: what variants share is theirs then.
        shared: Import and downloads and their sizes in bytes.
    """

    model: str
    source: str
    revision: str
    own: bool = False
    shared: dict[str, int] = field(default_factory=dict)
    variants: dict[str, Left] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        return sum(self.shared.values()) + sum(sum(left.places.values()) for left in self.variants.values())

    def lies(self, home: Path) -> dict[str, int]:
        """What there is of it, and its bytes, whoever's it is."""
        return places.sizes(home, self.model, self.source, self.revision)

    @property
    def expected(self) -> int:
        return sum(left.expected for left in self.variants.values())

    @classmethod
    def read(cls, text: str) -> Account:
        """
        Raises:
            ValueError, KeyError, TypeError, AttributeError, RecursionError: It is not as it was written.
        """
        told = json.loads(text)
        variants = {str(name): _left(left) for name, left in told["variants"].items()}
        own, model, source, revision = told["own"], told["model"], told["source"], told["revision"]
        if not (isinstance(own, bool) and all(isinstance(each, str) for each in (model, source, revision))):
            raise TypeError(model)
        return cls(model, source, revision, own, _sizes(told["shared"]), variants)


def _left(told: Mapping[str, Any]) -> Left:
    at = told["process"]
    used = float(told["used"])
    if not math.isfinite(used):
        raise ValueError(used)
    process = None if at is None else (int(at[0]), float(at[1]))
    return Left(used, _sizes(told["places"]), int(told["expected"]), process, tuple(map(str, told["before"])))


def _sizes(told: Mapping[str, Any]) -> dict[str, int]:
    for name in told:
        if not places.is_place(name):
            raise ValueError(name)
    return {name: int(size) for name, size in told.items()}


class Accounts:
    """The accounts of one home. Safe to use from several threads and processes.

    Attributes:
        me: Id and time of start of this process.
    """

    def __init__(self, home: Path) -> None:
        self._home, self._folder = home, home / FOLDER
        self.me = (os.getpid(), _began(os.getpid()))

    @property
    def begun(self) -> bool:
        """Whether a visitor ever prepared anything."""
        return self._folder.is_dir()

    @contextlib.contextmanager
    def all(self, timeout_s: float = -1) -> Iterator[dict[str, Account]]:
        """Every account, while nobody else changes one; what dead processes began is settled."""
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._home / "locks").mkdir(exist_ok=True)
        with FileLock(self._home / "locks" / f"{FOLDER}.lock", timeout=timeout_s):
            accounts = self.told(set_aside=True)
            for account in accounts.values():
                for name, left in list(account.variants.items()):
                    if left.process and not _alive(left.process):
                        self.settle(account, name)
                        self.save(account)
                self._forget_gone(account)
            yield accounts

    def told(self, *, set_aside: bool = False) -> dict[str, Account]:
        found = {}
        for path in sorted(self._folder.glob("*.json")):
            account = _read(path) or _read(_copy_of(path))
            if account:
                found[account.model] = account
            elif set_aside and path.exists():
                log.warning("%s is damaged: what it told of is kept, and no longer counted.", path.name)
                path.replace(path.with_name(f"{path.name}.damaged"))
                _copy_of(path).unlink(missing_ok=True)
        return found

    def write(self, account: Account) -> None:
        path = self._folder / _file_name(account.model)
        if account.variants or account.shared or account.own:
            text = json.dumps(asdict(account), indent=1)
            write_text(_copy_of(path), text)
            write_text(path, text)
        else:
            path.unlink(missing_ok=True)
            _copy_of(path).unlink(missing_ok=True)

    def save(self, account: Account) -> None:
        """Write what was measured; on a full disk it is measured again by whoever reads the account next."""
        try:
            self.write(account)
        except OSError as error:
            log.warning("what %s took can't be noted: %s", account.model, error.strerror)

    def settle(self, account: Account, name: str) -> int:
        """Measure what the preparation of a variant left; returns the bytes that are new."""
        left, before = account.variants[name], account.bytes
        others = {place for each in account.variants.values() for place in each.places}
        for place, size in account.lies(self._home).items():
            if place in left.before and place not in left.places and place not in account.shared:
                continue
            if place in left.places or (place.startswith("artifacts/") and place not in others):
                left.places[place] = size
            elif not place.startswith("artifacts/") and not account.own:
                account.shared[place] = size
        left.expected, left.process, left.before = 0, None, ()
        self._forget_gone(account)
        if not left.places and not account.shared:
            account.variants.pop(name)
        return max(0, account.bytes - before)

    def _forget_gone(self, account: Account) -> None:
        for kept in (account.shared, *(left.places for left in account.variants.values())):
            for place in [place for place in kept if not places.path_of(self._home, place).exists()]:
                del kept[place]


def _read(path: Path) -> Account | None:
    try:
        return Account.read(path.read_text(encoding="utf-8"))
    except cache.DAMAGED:
        return None


def _copy_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.copy")


def _file_name(model: str) -> str:
    return f"{cache.slug(model)}-{hashlib.sha256(model.encode()).hexdigest()[:8]}.json"


def _began(pid: int) -> float:
    return float(psutil.Process(pid).create_time())


def _alive(process: tuple[int, float]) -> bool:
    try:
        return abs(_began(process[0]) - process[1]) < 2.0
    except psutil.Error:
        return False
