"""Comparisons and measurements that are kept, in one SQLite file: each a JSON document, found by its id or its time.

Safe for several threads and several processes at once. The file is opened at the first use, so an app whose home
can't be written starts and works; it only can't keep. The module knows records and SQL; nothing else knows SQL.
"""

from __future__ import annotations

import builtins
import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from playground.errors import StorageError
from playground.messages import Translatable, foreign, msg
from playground.records import Comparison
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
)
"""Number n brings a file of version n - 1 to version n (``PRAGMA user_version``). Only ever append."""

BUSY_S = 10.0
"""How long to wait while another process writes."""


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


class Store:
    """The kept comparisons and measurements.

    Args:
        path: The database; its folder is made when it is first used.
        most: So many comparisons are kept, and so many measurements: the oldest go. None for all.
    """

    def __init__(self, path: Path, most: int | None = None) -> None:
        self.path = path
        self._most = most
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None

    def save(self, comparison: Comparison) -> None:
        """Keep a comparison; one with the same id is replaced.

        Raises:
            StorageError: It can't be written; the comparison itself is none the worse.
        """
        self._save(COMPARISONS, comparison)

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
        with self._open(writing=True) as connection:
            connection.execute(
                table.sql("INSERT OR REPLACE INTO {table} (id, created_at, document) VALUES (?, ?, ?)"),
                (record.id, record.created_at, document),
            )
            if self._most is not None:  # the oldest beyond what is to be kept go
                connection.execute(
                    table.sql(
                        "DELETE FROM {table} WHERE id IN "
                        "(SELECT id FROM {table} ORDER BY created_at DESC, id DESC LIMIT -1 OFFSET ?)"
                    ),
                    (self._most,),
                )

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

    @contextmanager
    def _open(self, *, writing: bool = False) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = self._connect()
                yield self._connection
            except (sqlite3.Error, OSError, ValueError, KeyError, TypeError) as error:
                self.close()
                values = {"file": str(self.path), "reason": foreign(str(error))}
                if writing:
                    problem = msg("Results can't be kept in {file} ({reason})", **values)
                else:
                    problem = msg("Results can't be read in {file} ({reason})", **values)
                raise StorageError(problem, _advice(error)) from error

    def _connect(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Each statement commits by itself; the lock above keeps threads apart.
        connection = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            self._migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

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
                connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise


def _advice(error: Exception) -> Translatable:
    """The next step for a reader."""
    damaged = isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
    if damaged or isinstance(error, (ValueError, KeyError, TypeError)):
        return msg("The file is damaged: move it away, and a new one is made.")
    if "full" in str(error):
        return msg("Free some space on that disk.")
    return msg("Check that the folder can be written, or set PLAYGROUND_HOME to another one.")
