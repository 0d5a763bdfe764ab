"""Comparisons and measurements that are kept, in one SQLite file: each a JSON document, found by its id or its time.

A comparison has a line in the list beside it (``entries``), which says whose it is. Owners are names that the front
ends give; that somebody may read a comparison whose id they know is theirs to decide, too.

Safe for several threads and several processes at once. The file is opened at the first use, so an app whose home
can't be written starts and works; it only can't keep. The module knows records and SQL; nothing else knows SQL.
"""

from __future__ import annotations

import builtins
import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Generic, TypeVar

from playground.errors import StorageError
from playground.messages import Translatable, foreign, msg
from playground.records import Comparison, Variant
from playground.results.entries import (
    TITLE_CHARS,
    Entry,
    Outline,
    folded,
    one_line,
    outline,
    outline_of,
    storable,
    variants_of,
)
from playground.results.figures import Measurement

MIGRATIONS = (
    """
    CREATE TABLE comparison (
        id TEXT PRIMARY KEY,
        created_at TEXT NOT NULL,
        document TEXT NOT NULL
    );
    CREATE INDEX comparison_by_time ON comparison (created_at DESC, id DESC);
    """,
    """
    CREATE TABLE measurement (
        id TEXT PRIMARY KEY,
        created_at TEXT NOT NULL,
        document TEXT NOT NULL
    );
    CREATE INDEX measurement_by_time ON measurement (created_at DESC, id DESC);
    """,
    """
    CREATE TABLE entry (
        id TEXT PRIMARY KEY REFERENCES comparison (id) ON DELETE CASCADE,
        created_at TEXT NOT NULL,
        owner TEXT NOT NULL,
        title TEXT NOT NULL DEFAULT '',
        favourite INTEGER NOT NULL DEFAULT 0,
        prompt TEXT NOT NULL,
        variants TEXT NOT NULL,
        turns INTEGER NOT NULL,
        parent TEXT NOT NULL,
        words TEXT NOT NULL
    );
    CREATE INDEX entry_by_time ON entry (created_at DESC, id DESC);
    CREATE INDEX entry_by_owner ON entry (owner, created_at DESC, id DESC);
    CREATE INDEX entry_by_parent ON entry (parent, owner);
    """,
    """
    CREATE TABLE vote (
        comparison TEXT PRIMARY KEY,
        owner TEXT NOT NULL,
        begun_at TEXT NOT NULL,
        document TEXT
    );
    CREATE INDEX vote_by_owner ON vote (owner, begun_at);
    """,
)
"""Number n brings a file of version n - 1 to version n (``PRAGMA user_version``). Only ever append."""
LISTED_SINCE = 3
"""The version that brought ``entry``: what was kept before is read once, to be listed."""

BUSY_S = 10.0
"""How long to wait while another process writes."""
EXPIRE_S = 3600.0
"""Between two looks for what is too old; it also goes whenever something is kept."""
FIELDS = "e.id, e.created_at, e.title, e.prompt, e.variants, e.favourite, e.turns, e.parent"
HEAD = "NOT EXISTS (SELECT 1 FROM entry AS next WHERE next.parent = e.id AND next.owner = e.owner)"
"""Nothing of the same owner goes on from it."""


Kept = TypeVar("Kept", Comparison, Measurement)


@dataclass(frozen=True)
class Table(Generic[Kept]):
    """A table of documents: its name, and what its documents are."""

    name: str
    kind: type[Kept]

    def sql(self, statement: str) -> str:
        """``statement`` about this table; names of tables are constants of this module."""
        return statement.replace("{table}", self.name)

    def record(self, document: str) -> Kept:
        """What was kept."""
        return self.kind.from_json(json.loads(document))


COMPARISONS = Table("comparison", Comparison)
MEASUREMENTS = Table("measurement", Measurement)


@dataclass(frozen=True)
class Retention:
    """What is kept where strangers fill the disk; of a favourite too, as everybody could have favourites without end.

    Attributes:
        most: So many comparisons, and so many measurements: the oldest go. None for all.
        each: So many comparisons of one owner, so that nobody pushes out what others have. None for all.
        days: So long. None for ever.
    """

    most: int | None = None
    each: int | None = None
    days: float | None = None


EVERYTHING = Retention()


class Store:
    """The kept comparisons and measurements.

    Args:
        path: The database; its folder is made when it is first used.
        retention: How much is kept, and how long.
    """

    def __init__(self, path: Path, retention: Retention = EVERYTHING) -> None:
        self.path = path
        self.retention = retention
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._expired_at: float | None = None
        self._deleted: set[str] = set()

    def save(self, comparison: Comparison, owner: str = "") -> None:
        """Keep a comparison; one with the same id is replaced, and keeps its owner, its title and its star.

        One that was deleted while it was going on stays deleted.

        Args:
            owner: Whose it is; empty for nobody's, which is everybody's on one's own machine.

        Raises:
            StorageError: It can't be written; the comparison itself is none the worse.
        """
        listed = outline(comparison)
        document = json.dumps(comparison.to_json(), allow_nan=False)
        with self._writing() as connection:
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
        select = f"SELECT {FIELDS} FROM entry AS e WHERE {where} ORDER BY e.created_at DESC, e.id DESC LIMIT ? OFFSET ?"
        with self._open() as connection:
            return [_entry(row) for row in connection.execute(select, (*values, limit, offset)).fetchall()]

    def entry(self, id: str) -> Entry | None:
        """The entry of one comparison, whoever's it is.

        Raises:
            StorageError: The database can't be read.
        """
        with self._open() as connection:
            row = connection.execute(f"SELECT {FIELDS} FROM entry AS e WHERE e.id = ?", (id,)).fetchone()
            return _entry(row) if row else None

    def owner(self, id: str) -> str | None:
        """Whose a comparison is; None if there is none.

        Raises:
            StorageError: The database can't be read.
        """
        with self._open() as connection:
            row = connection.execute("SELECT owner FROM entry WHERE id = ?", (id,)).fetchone()
            return str(row[0]) if row else None

    def asked_models(self, owner: str | None = None) -> builtins.list[Variant]:
        """Every variant in the list, by name.

        Raises:
            StorageError: The database can't be read.
        """
        where, values = _where(owner)
        with self._open() as connection:
            rows = connection.execute(f"SELECT DISTINCT e.variants FROM entry AS e WHERE {where}", values).fetchall()
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
        with self._writing() as connection:
            found = connection.execute("SELECT owner FROM entry WHERE id = ?", (id,)).fetchone()
            if not found or owner not in (None, found[0]):
                return False
            step: tuple[str] | None = (id,)
            while step:
                (parent,) = connection.execute("SELECT parent FROM entry WHERE id = ?", step).fetchone()
                connection.execute("DELETE FROM comparison WHERE id = ?", step)
                self._deleted.add(step[0])
                step = connection.execute(
                    f"SELECT e.id FROM entry AS e WHERE e.id = ? AND e.owner = ? AND {HEAD}", (parent, found[0])
                ).fetchone()
            return True

    def claim(self, ids: Sequence[str], owner: str) -> None:
        """Give what is nobody's to ``owner``, who knows its id.

        Raises:
            StorageError: It can't be written.
        """
        with self._writing() as connection:
            connection.executemany(
                "UPDATE entry SET owner = ? WHERE id = ? AND owner = ''", [(owner, each) for each in ids]
            )

    def get(self, id: str) -> Comparison | None:
        """The comparison with this id, None if there is none.

        Raises:
            StorageError: The database can't be read.
        """
        return self._get(COMPARISONS, id)

    def list(self, limit: int = 50) -> list[Comparison]:
        """The newest comparisons, the newest first.

        Raises:
            StorageError: The database can't be read.
        """
        return self._newest(COMPARISONS, limit)

    def count(self) -> int:
        """How many comparisons are kept.

        Raises:
            StorageError: The database can't be read.
        """
        with self._open() as connection:
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
            StorageError: The database can't be read.
        """
        return self._get(MEASUREMENTS, id)

    def measurements(self, limit: int = 50) -> builtins.list[Measurement]:
        """The newest measurements, the newest first.

        Raises:
            StorageError: The database can't be read.
        """
        return self._newest(MEASUREMENTS, limit)

    def _save(self, table: Table[Kept], record: Kept) -> None:
        document = json.dumps(record.to_json(), allow_nan=False)
        with self._writing() as connection:
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
        if self.retention.days is not None:
            since = (datetime.now(UTC) - timedelta(days=self.retention.days)).isoformat(timespec="milliseconds")
            for table in (COMPARISONS, MEASUREMENTS):
                connection.execute(table.sql("DELETE FROM {table} WHERE created_at < ?"), (since,))

    def _change(self, setting: str, value: str | int, id: str, owner: str | None) -> bool:
        with self._writing() as connection:
            done = connection.execute(
                f"UPDATE entry SET {setting} WHERE id = ? AND (? IS NULL OR owner = ?)", (value, id, owner, owner)
            )
            return done.rowcount > 0

    def _get(self, table: Table[Kept], id: str) -> Kept | None:
        with self._open() as connection:
            row = connection.execute(table.sql("SELECT document FROM {table} WHERE id = ?"), (id,)).fetchone()
            return table.record(row[0]) if row else None

    def _newest(self, table: Table[Kept], limit: int) -> builtins.list[Kept]:
        newest = table.sql("SELECT document FROM {table} ORDER BY created_at DESC, id DESC LIMIT ?")
        with self._open() as connection:
            return [table.record(document) for (document,) in connection.execute(newest, (limit,)).fetchall()]

    def close(self) -> None:
        with self._lock:
            connection, self._connection = self._connection, None
            if connection:
                connection.close()

    def reading(self) -> AbstractContextManager[sqlite3.Connection]:
        """The database, for who keeps something beside comparisons in it (``votes``).

        Raises:
            StorageError: It can't be read; so where anything in the block says that a row is damaged.
        """
        return self._open()

    def writing(self) -> AbstractContextManager[sqlite3.Connection]:
        """A transaction: all of what is written inside, or nothing.

        Raises:
            StorageError: It can't be written.
        """
        return self._writing()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of what is written inside, or nothing."""
        with self._open(writing=True) as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # SQLite ends it by itself where the disk is full
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _open(self, *, writing: bool = False) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = self._connect()
                if not writing and self._is_time_to_expire():
                    self._drop_old(self._connection)
                yield self._connection
            except (sqlite3.Error, OSError, ValueError, KeyError, TypeError) as error:
                self.close()
                values = {"file": str(self.path), "reason": foreign(str(error))}
                if writing:
                    problem = msg("Results can't be kept in {file} ({reason})", **values)
                else:
                    problem = msg("Results can't be read in {file} ({reason})", **values)
                raise StorageError(problem, _advice(error)) from error

    def _is_time_to_expire(self) -> bool:
        if self.retention.days is None:
            return False
        return self._expired_at is None or time.monotonic() - self._expired_at > EXPIRE_S

    def _connect(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Each statement commits by itself; the lock above keeps threads apart.
        connection = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.create_function("fold", 1, folded, deterministic=True)
            self._migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _list_what_is_there(self, connection: sqlite3.Connection) -> None:
        for id, created_at, document in connection.execute("SELECT id, created_at, document FROM comparison"):
            found = outline_of(document)
            connection.execute(
                "INSERT INTO entry (id, created_at, owner, prompt, variants, turns, parent, words) "
                "VALUES (?, ?, '', ?, ?, ?, '', ?)",
                (id, created_at, found.prompt, found.variants, found.turns, found.words),
            )

    def _migrate(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")  # two processes that start at once migrate once
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > len(MIGRATIONS):
                raise StorageError(
                    msg("{file} was written by a newer version of the playground", file=str(self.path)),
                    msg("Update the playground, or set PLAYGROUND_HOME to another folder."),
                )
            for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
                for statement in filter(str.strip, script.split(";")):
                    connection.execute(statement)
                if number == LISTED_SINCE:
                    self._list_what_is_there(connection)
                connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise


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
    id, created_at, title, prompt, variants, favourite, turns, parent = row
    return Entry(id, created_at, title, prompt, variants_of(variants), bool(favourite), turns, parent)


def _advice(error: Exception) -> Translatable:
    """The next step for a reader."""
    damaged = isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
    if damaged or isinstance(error, (ValueError, KeyError, TypeError)):
        return msg("The file is damaged: move it away, and a new one is made.")
    if "full" in str(error):
        return msg("Free some space on that disk.")
    return msg("Check that the folder can be written, or set PLAYGROUND_HOME to another one.")
