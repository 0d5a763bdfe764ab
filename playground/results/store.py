"""Comparisons and measurements that are kept, in one SQLite file: each a JSON document, found by its id or its time.

A comparison has a line in the list beside it (``entries``), which says whose it is. Owners are names that the front
ends give; that somebody may read a comparison whose id they know is theirs to decide, too.

Safe for several threads and several processes at once. The file is opened at the first use, so an app whose home
can't be written starts and works; it only can't keep. The module knows records and SQL; how the file is
opened, ``database`` knows.
"""

from __future__ import annotations

import builtins
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Generic, TypeVar

from playground.errors import StorageError
from playground.messages import Translatable, msg
from playground.records import Comparison, Variant, as_id
from playground.results import documents
from playground.results.database import Database
from playground.results.entries import (
    TITLE_CHARS,
    Entry,
    Outline,
    as_text,
    folded,
    one_line,
    outline,
    storable,
    variants_of,
)
from playground.results.figures import Measurement

EXPIRE_S = 3600.0
"""Between two looks for what is too old; it also goes whenever something is kept."""
SETTLED = timedelta(days=1)
"""Between something that was kept and the newest of all, for the date of the former to be believed."""
DATED = ("comparison", "measurement", "suite")
"""Tables whose rows go when they are too old."""
FIELDS = "e.id, e.created_at, e.title, e.prompt, e.variants, e.favourite, e.turns, e.parent"
HEAD = "NOT EXISTS (SELECT 1 FROM entry AS next WHERE next.parent = e.id AND next.owner = e.owner)"
"""Nothing of the same owner goes on from it."""


Kept = TypeVar("Kept", Comparison, Measurement)


@dataclass(frozen=True)
class Table(Generic[Kept]):
    """A table of documents: its name, what its documents are, and how one is named to a reader."""

    name: str
    kind: type[Kept]
    named: documents.Named

    def sql(self, statement: str) -> str:
        """``statement`` about this table; names of tables are constants of this module."""
        return statement.replace("{table}", self.name)


def _comparison(id: str) -> Translatable:
    return msg("Comparison {id}", id=id)


def _measurement(id: str) -> Translatable:
    return msg("Measurement {id}", id=id)


COMPARISONS = Table("comparison", Comparison, _comparison)
MEASUREMENTS = Table("measurement", Measurement, _measurement)


@dataclass(frozen=True)
class Retention:
    """What is kept where strangers fill the disk; of a favourite too, as everybody could have favourites without end.

    Attributes:
        most: So many comparisons, and so many measurements: the oldest go. None for all.
        each: So many comparisons of one owner, so that nobody pushes out what others have. None for all.
        days: So long. None for ever.
        doubts_clock: Whether a clock that is far ahead is not believed at once. What strangers wrote goes in time, also
            where that is too early.
    """

    most: int | None = None
    each: int | None = None
    days: float | None = None
    doubts_clock: bool = False


EVERYTHING = Retention()


class Store(Database):
    """The kept comparisons and measurements.

    Args:
        path: The database; its folder is made when it is first used.
        retention: How much is kept, and how long.
    """

    def __init__(self, path: Path, retention: Retention = EVERYTHING) -> None:
        super().__init__(path)
        self.retention = retention
        self._expired_at: float | None = None
        self._looked: tuple[datetime, float] | None = None
        self._deleted: set[str] = set()

    def save(self, comparison: Comparison, owner: str = "") -> None:
        """Keep a comparison; one with the same id is replaced, and keeps its owner, its title and its star.

        One that was deleted while it was going on stays deleted.

        Args:
            owner: Whose it is; empty for nobody's, which is everybody's on one's own machine.

        Raises:
            StorageError: It can't be written, or holds a figure that is no number; the comparison itself is none the
                worse.
        """
        listed = outline(comparison)
        document = documents.written(comparison)
        with self.writing() as connection:
            if comparison.id in self._deleted:
                return
            self._put(connection, COMPARISONS, comparison, document)
            self._put_entry(connection, comparison, listed, owner)
            self._drop_beyond(connection, COMPARISONS)
            if self.retention.each is not None and owner:
                connection.execute(
                    "DELETE FROM comparison WHERE id IN (SELECT id FROM entry WHERE owner = ? "
                    "ORDER BY created_at DESC, id DESC LIMIT -1 OFFSET ?)",
                    (owner, self.retention.each),
                )

    def entries(
        self,
        owner: str | None = None,
        *,
        search: str = "",
        model: str = "",
        favourites: bool = False,
        limit: int = 50,
        offset: int = 0,
    ) -> builtins.list[Entry]:
        """A part of the list, the newest first; a conversation is one entry.

        Args:
            owner: Whose; None for everybody's.
            search: Words that all stand somewhere in the title, in what was asked or in the answers, in any case and
                width, in any language: whole words or parts of them.
            model: ``MODEL`` or a whole variant that was asked.
            favourites: Those with a star alone.

        Raises:
            StorageError: The database can't be read.
        """
        where, values = _where(owner, search, model, favourites=favourites)
        select = _sql(
            "SELECT {fields} FROM entry AS e WHERE {where} ORDER BY e.created_at DESC, e.id DESC LIMIT ? OFFSET ?",
            where,
        )
        with self.reading() as connection:
            return [_entry(row) for row in connection.execute(select, (*values, limit, offset)).fetchall()]

    def entry(self, id: str) -> Entry | None:
        """The entry of one comparison, whoever's it is.

        Raises:
            StorageError: The database can't be read.
        """
        with self.reading() as connection:
            row = connection.execute(_sql("SELECT {fields} FROM entry AS e WHERE e.id = ?"), (as_id(id),)).fetchone()
            return _entry(row) if row else None

    def owner(self, id: str) -> str | None:
        """Whose a comparison is; None if there is none.

        Raises:
            StorageError: The database can't be read.
        """
        with self.reading() as connection:
            row = connection.execute("SELECT owner FROM entry WHERE id = ?", (as_id(id),)).fetchone()
            return str(row[0]) if row else None

    def asked_models(self, owner: str | None = None) -> builtins.list[Variant]:
        """Every variant in the list, by name.

        Raises:
            StorageError: The database can't be read.
        """
        where, values = _where(owner)
        with self.reading() as connection:
            rows = connection.execute(
                _sql("SELECT DISTINCT e.variants FROM entry AS e WHERE {where}", where), values
            ).fetchall()
        return sorted({each for (written,) in rows for each in variants_of(written)}, key=str)

    def rename(self, id: str, title: str, owner: str | None = None) -> bool:
        """Give a comparison a title, or none; returns whether there is one of that owner (None for anybody's).

        Raises:
            StorageError: It can't be written.
        """
        text = storable(one_line(title, TITLE_CHARS))
        return self._change("title = ?", text, id, owner)

    def set_favourite(self, id: str, on: bool, owner: str | None = None) -> bool:
        """Give a comparison a star, or take it away; returns as ``rename`` does.

        Raises:
            StorageError: It can't be written.
        """
        return self._change("favourite = ?", int(on), id, owner)

    def delete(self, id: str, owner: str | None = None) -> bool:
        """Delete a comparison for good, and what it went on from, as the list shows them as one; returns as ``rename``
        does. Earlier steps that something else goes on from stay, as do those of other owners.

        Raises:
            StorageError: It can't be written.
        """
        with self.writing() as connection:
            found = connection.execute("SELECT owner FROM entry WHERE id = ?", (as_id(id),)).fetchone()
            if not found or owner not in (None, found[0]):
                return False
            step: tuple[str] | None = (as_id(id),)
            while step:
                (parent,) = connection.execute("SELECT parent FROM entry WHERE id = ?", step).fetchone()
                connection.execute("DELETE FROM comparison WHERE id = ?", step)
                self._deleted.add(step[0])
                step = connection.execute(
                    _sql("SELECT e.id FROM entry AS e WHERE e.id = ? AND e.owner = ? AND {where}", HEAD),
                    (parent, found[0]),
                ).fetchone()
            return True

    def claim(self, ids: Sequence[str], owner: str) -> None:
        """Give what is nobody's to ``owner``, who knows its id.

        Raises:
            StorageError: It can't be written.
        """
        with self.writing() as connection:
            connection.executemany(
                "UPDATE entry SET owner = ? WHERE id = ? AND owner = ''", [(owner, as_id(each)) for each in ids]
            )

    def get(self, id: str) -> Comparison | None:
        """The comparison with this id, None if there is none.

        Raises:
            StorageError: The database can't be read, or the comparison is damaged.
        """
        return self._get(COMPARISONS, id)

    def list(self, limit: int = 50) -> list[Comparison]:
        """The newest comparisons, the newest first; those that are damaged are left out.

        Raises:
            StorageError: The database can't be read.
        """
        return self._newest(COMPARISONS, limit)

    def count(self) -> int:
        """How many comparisons are kept.

        Raises:
            StorageError: The database can't be read.
        """
        with self.reading() as connection:
            return int(connection.execute(COMPARISONS.sql("SELECT count(*) FROM {table}")).fetchone()[0])

    def save_measurement(self, measurement: Measurement) -> None:
        """Keep a measurement; one with the same id is replaced.

        Raises:
            StorageError: It can't be written; the measurement itself is none the worse.
        """
        self._save(MEASUREMENTS, measurement)

    def measurement(self, id: str) -> Measurement | None:
        """The measurement with this id, None if there is none.

        Raises:
            StorageError: The database can't be read, or the measurement is damaged.
        """
        return self._get(MEASUREMENTS, id)

    def measurements(self, limit: int = 50) -> builtins.list[Measurement]:
        """The newest measurements, the newest first; those that are damaged are left out.

        Raises:
            StorageError: The database can't be read.
        """
        return self._newest(MEASUREMENTS, limit)

    def _save(self, table: Table[Kept], record: Kept) -> None:
        document = documents.written(record)
        with self.writing() as connection:
            self._put(connection, table, record, document)
            self._drop_beyond(connection, table)

    @staticmethod
    def _put(connection: sqlite3.Connection, table: Table[Kept], record: Kept, document: str) -> None:
        # Not REPLACE, which deletes the row before and with it what refers to it.
        connection.execute(
            table.sql(
                "INSERT INTO {table} (id, created_at, document) VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE "
                "SET created_at = excluded.created_at, document = excluded.document"
            ),
            (record.id, record.created_at, document),
        )

    @staticmethod
    def _put_entry(connection: sqlite3.Connection, comparison: Comparison, listed: Outline, owner: str) -> None:
        connection.execute(
            "INSERT INTO entry (id, created_at, owner, prompt, variants, turns, parent, words, title, favourite) "
            "SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, coalesce(max(title), ''), coalesce(max(favourite), 0) "
            "FROM entry WHERE id = ?7 AND owner = ?3 "
            "ON CONFLICT (id) DO UPDATE SET created_at = excluded.created_at, prompt = excluded.prompt, "
            "variants = excluded.variants, turns = excluded.turns, words = excluded.words, "
            "owner = CASE WHEN entry.owner = '' THEN excluded.owner ELSE entry.owner END",
            (
                *(comparison.id, comparison.created_at, owner, listed.prompt, listed.variants, listed.turns),
                *(comparison.parent, listed.words),
            ),
        )

    def _drop_beyond(self, connection: sqlite3.Connection, table: Table[Kept]) -> None:
        """The oldest beyond what is to be kept go."""
        if self.retention.most is not None:
            connection.execute(
                table.sql(
                    "DELETE FROM {table} WHERE id IN "
                    "(SELECT id FROM {table} ORDER BY created_at DESC, id DESC LIMIT -1 OFFSET ?)"
                ),
                (self.retention.most,),
            )
        self._drop_old(connection)

    def _drop_old(self, connection: sqlite3.Connection) -> None:
        self._expired_at = time.monotonic()
        if self.retention.days is None:
            return
        now = self._believed_now(connection) if self.retention.doubts_clock else datetime.now(UTC)
        if now is not None:
            since = (now - timedelta(days=self.retention.days)).isoformat(timespec="milliseconds")
            for table in DATED:
                connection.execute("DELETE FROM {table} WHERE created_at < ?".replace("{table}", table), (since,))

    def _believed_now(self, connection: sqlite3.Connection) -> datetime | None:
        """The time by which things are too old; None where there is nothing.

        A clock that is set far ahead would have all go at once, so it is held against what was kept: it is no later
        than the newest that was kept at least a day before the newest of all, or than this and the time that passed
        since the process first looked. What a wrong clock dated is thereby believed only after a day of it.
        """
        newest = self._last(connection)
        if newest is None:
            return None
        settled = self._last(connection, newest - SETTLED) or self._first(connection) or newest
        now = datetime.now(UTC)
        if self._looked is None:
            self._looked = (min(settled, now), time.monotonic())
        began, at = self._looked
        return min(now, max(settled, began + timedelta(seconds=time.monotonic() - at)))

    def _last(self, connection: sqlite3.Connection, until: datetime | None = None) -> datetime | None:
        """The date of the newest that was kept, until a time."""
        end = until.isoformat(timespec="milliseconds") if until else "9999-12-31"
        return _dated(connection, "SELECT max(created_at) FROM {table} WHERE created_at <= ?", (end,), max)

    def _first(self, connection: sqlite3.Connection) -> datetime | None:
        """The date of the oldest that was kept."""
        return _dated(connection, "SELECT min(created_at) FROM {table}", (), min)

    def _change(self, setting: str, value: str | int, id: str, owner: str | None) -> bool:
        with self.writing() as connection:
            done = connection.execute(
                _sql("UPDATE entry SET {setting} WHERE id = ? AND (? IS NULL OR owner = ?)").replace(
                    "{setting}", setting
                ),
                (value, as_id(id), owner, owner),
            )
            return done.rowcount > 0

    def _get(self, table: Table[Kept], id: str) -> Kept | None:
        with self.reading() as connection:
            row = connection.execute(table.sql("SELECT document FROM {table} WHERE id = ?"), (as_id(id),)).fetchone()
        return documents.read(table.kind, row[0], as_id(id), table.named, self.path) if row else None

    def _newest(self, table: Table[Kept], limit: int) -> builtins.list[Kept]:
        newest = table.sql("SELECT id, document FROM {table} ORDER BY created_at DESC, id DESC LIMIT ?")
        with self.reading() as connection:
            rows = connection.execute(newest, (limit,)).fetchall()
        return documents.readable(table.kind, rows, table.named, self.path)

    def _before_reading(self) -> None:
        if self._is_time_to_expire():
            self._expired_at = time.monotonic()
            with suppress(StorageError), self.writing() as connection:
                self._drop_old(connection)
            with suppress(StorageError):
                if self.loose:
                    threading.Thread(target=self.shrink, name="shrink", daemon=True).start()

    def _is_time_to_expire(self) -> bool:
        if self.retention.days is None:
            return False
        return self._expired_at is None or time.monotonic() - self._expired_at > EXPIRE_S


def _dated(
    connection: sqlite3.Connection,
    statement: str,
    values: Sequence[str],
    choose: Callable[[Iterable[datetime]], datetime],
) -> datetime | None:
    """The one that ``choose`` picks of the dates that ``statement`` finds in each table; None where there is none."""
    found = []
    for table in DATED:
        [text] = connection.execute(statement.replace("{table}", table), values).fetchone()
        with suppress(ValueError, TypeError):  # no date, or none at all
            date = datetime.fromisoformat(text)
            found.append(date if date.tzinfo else date.replace(tzinfo=UTC))
    return choose(found) if found else None


def _sql(statement: str, where: str = "") -> str:
    """``statement`` with a part of this module's in its place."""
    return statement.replace("{fields}", FIELDS).replace("{where}", where)


def _where(
    owner: str | None, search: str = "", model: str = "", *, favourites: bool = False
) -> tuple[str, builtins.list[str]]:
    """The conditions of a list, and what stands for their question marks."""
    where, values = [HEAD], []
    if owner is not None:
        where.append("e.owner = ?")
        values.append(owner)
    if favourites:
        where.append("e.favourite")
    if model:
        named = json.dumps(model)  # as it begins and ends in the list of variants
        where.append("(instr(e.variants, ?) OR instr(e.variants, ?))")
        values += [named, f"{named[:-1]}@"]
    for word in folded(search).split():
        where.append("(instr(e.words, ?) OR instr(fold(e.title), ?))")
        values += [word, word]
    return " AND ".join(where), values


def _entry(row: tuple[Any, ...]) -> Entry:
    """A line of the list; of one that is damaged what can be read, so that it can still be deleted."""
    id, created_at, title, prompt, variants, favourite, turns, parent = row
    return Entry(
        *(as_text(id), as_text(created_at), as_text(title), as_text(prompt)),
        *(variants_of(variants), bool(favourite), turns if type(turns) is int else 1, as_text(parent)),
    )
