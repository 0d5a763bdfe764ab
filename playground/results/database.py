"""One SQLite file for several threads and processes at once: opened at the first use, brought up to date, its errors in
words. The tables are made here, in order, whoever fills them (``store``, ``votes``).
"""

from __future__ import annotations

import random
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from playground.errors import StorageError, UsageError
from playground.messages import Translatable, foreign, msg
from playground.results.entries import folded, outline_of
from playground.system.reserve import is_shortage, out_of_memory, spend

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
    """
    CREATE TABLE score (
        id TEXT PRIMARY KEY,
        created_at TEXT NOT NULL,
        variant TEXT NOT NULL,
        task TEXT NOT NULL,
        document TEXT NOT NULL
    );
    CREATE INDEX score_by_time ON score (created_at DESC, id DESC);
    """,
    """
    CREATE TABLE suite (
        id TEXT PRIMARY KEY,
        created_at TEXT NOT NULL,
        finished_at TEXT NOT NULL,
        owner TEXT NOT NULL,
        name TEXT NOT NULL,
        status TEXT NOT NULL,
        variants TEXT NOT NULL,
        cells INTEGER NOT NULL,
        document TEXT NOT NULL
    );
    CREATE INDEX suite_by_time ON suite (created_at DESC, id DESC);
    CREATE INDEX suite_by_owner ON suite (owner, created_at DESC, id DESC);
    CREATE TABLE suite_cell (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        suite TEXT NOT NULL REFERENCES suite (id) ON DELETE CASCADE,
        at_row INTEGER NOT NULL,
        at_column INTEGER NOT NULL,
        sample INTEGER NOT NULL,
        passed INTEGER,
        failed INTEGER NOT NULL,
        seconds REAL NOT NULL,
        document TEXT NOT NULL
    );
    CREATE UNIQUE INDEX suite_cell_by_row ON suite_cell (suite, at_row, at_column, sample);
    CREATE UNIQUE INDEX suite_cell_by_column ON suite_cell (suite, at_column, at_row, sample);
    CREATE INDEX suite_cell_by_number ON suite_cell (suite, number);
    """,
)
"""Number n brings a file of version n - 1 to version n (``PRAGMA user_version``). Only ever append."""
LISTED_SINCE = 3
"""The version that brought ``entry``: what was kept before is read once, to be listed."""

_TROUBLE = (
    *(sqlite3.Error, OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError),
    MemoryError,
)
BUSY_S = 10.0
"""How long to wait while another process writes."""
AGAIN_S = 0.02
"""At most so long between two attempts where SQLite does not wait by itself."""
PAGES_AT_ONCE = 1000
"""Of a backup, 4 MB: who writes meanwhile waits for no more."""
WORTH_BYTES, WORTH_SHARE = 4_000_000, 0.25
"""What has to be free in the file before it is written anew without."""


class _Opened:
    """One connection for all threads, opened at the first use.

    Attributes:
        of: The file it was opened for.
    """

    def __init__(self, path: Path, connect: Callable[[], sqlite3.Connection]) -> None:
        self.lock = threading.RLock()
        self.connection: sqlite3.Connection | None = None
        self.of: tuple[int, int] | None = None
        self._path, self._connect = path, connect

    def close(self) -> None:
        with self.lock:
            connection, self.connection = self.connection, None
            if connection:
                connection.close()

    @contextmanager
    def used(self) -> Iterator[sqlite3.Connection]:
        """The connection, for one thread at a time."""
        with self.lock:
            if self.connection is None:
                self.connection = self._connect()
                self.of = _identity(self._path)
            yield self.connection


class Database:
    """An open file, or one that will be at the first use.

    What is read and what is written have a connection each, so that nobody who reads (the page does, between two looks
    at a model) waits for a write that has to wait for another process.

    Args:
        path: The file; its folder is made with it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer, self._reader = _Opened(path, self._connect), _Opened(path, self._connect)
        self._looking = threading.Lock()

    def close(self) -> None:
        self._writer.close()
        self._reader.close()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The database, to be read.

        Raises:
            StorageError: It can't be read; so where anything in the block says that a row is damaged.
        """
        self._let_go_if_moved()
        self._before_reading()
        try:
            with self._reader.used() as connection:
                yield connection
        except _TROUBLE as error:
            self._reader.close()
            words = msg("Results can't be read in {file} ({reason})", file=str(self.path), reason=_reason(error))
            raise StorageError(words, _advice(error)) from error

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of what is written inside, or nothing.

        Raises:
            StorageError: It can't be written.
        """
        self._let_go_if_moved()
        try:
            with self._writer.used() as connection:
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                    connection.execute("COMMIT")
                except BaseException:
                    if connection.in_transaction:  # SQLite ends it by itself where the disk is full
                        connection.execute("ROLLBACK")
                    raise
        except _TROUBLE as error:
            self.close()
            words = msg("Results can't be kept in {file} ({reason})", file=str(self.path), reason=_reason(error))
            raise StorageError(words, _advice(error)) from error

    def back_up(self, file: Path) -> int:
        """Copy the database to ``file`` while others read and write it. The copy is one file, whole as of one moment;
        it is there when it is complete and was checked.

        Returns:
            Its size in bytes.

        Raises:
            UsageError: Nothing was kept yet, or ``file`` is something else than such a copy.
            StorageError: The database can't be read, or the copy not be written.
        """
        if not self.path.exists():
            raise UsageError(msg("Nothing was kept yet in {file}", file=str(self.path)))
        if file.is_dir() or (file.exists() and file.stat().st_size and not _is_sqlite(file)):
            raise UsageError(
                msg("{file} is there already, and is no backup", file=str(file)), msg("Name another file.")
            )
        if file.exists() and file.samefile(self.path):
            raise UsageError(msg("{file} is the database itself", file=str(file)), msg("Name another file."))
        with self.reading():
            pass  # it can be read, and is of this version
        staged = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
        try:
            with closing(sqlite3.connect(staged)) as copy, closing(self._connect()) as source:
                staged.chmod(0o600)
                source.backup(copy, pages=PAGES_AT_ONCE, sleep=AGAIN_S)
                copy.execute("PRAGMA journal_mode = DELETE")
                if (found := copy.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                    raise sqlite3.DatabaseError(found)
            staged.replace(file)
            return file.stat().st_size
        except _TROUBLE as error:
            words = msg("{file} can't be written ({reason})", file=str(file), reason=_reason(error))
            raise StorageError(words, _advice(error)) from error
        finally:
            staged.unlink(missing_ok=True)

    @property
    def loose(self) -> bool:
        """Whether so much was deleted that writing the file anew is worth it.

        Raises:
            StorageError: The database can't be read.
        """
        with self.reading() as connection:
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            (free,) = connection.execute("PRAGMA freelist_count").fetchone()
            (size,) = connection.execute("PRAGMA page_size").fetchone()
        return bool(free * size >= WORTH_BYTES and free >= pages * WORTH_SHARE)

    def shrink(self) -> None:
        """Give the disk back what was deleted. Whoever writes meanwhile waits; where that can't be, nothing is done."""
        with suppress(sqlite3.Error, OSError), closing(self._connect()) as connection:
            connection.execute("VACUUM")

    def _let_go_if_moved(self) -> None:
        """Where the file was moved away or replaced since, what is there now is opened, without the log of the other:
        SQLite would take it for this one's.
        """
        with self._looking:
            opened = [each.of for each in (self._writer, self._reader) if each.connection is not None]
            now = _identity(self.path)
            if all(each == now for each in opened):
                return
            self.close()
            for ending in ("-wal", "-shm"):
                log = self.path.with_name(self.path.name + ending)
                with suppress(OSError):
                    log.replace(log.with_name(log.name + ".moved"))

    def _before_reading(self) -> None:
        """What a kind of store does first."""

    def _connect(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Each statement commits by itself; the locks above keep threads apart.
        connection = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            _write_ahead(connection)
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA secure_delete = ON")  # what was deleted is gone from the file
            connection.create_function("fold", 1, folded, deterministic=True)
            if connection.execute("PRAGMA user_version").fetchone() != (len(MIGRATIONS),):
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


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Turn write-ahead logging on.

    While another process does so, SQLite refuses at once, whatever the connection's timeout (two that read and both
    want to write would wait for each other for ever): so it is asked again.

    Raises:
        sqlite3.OperationalError: Still refused after ``BUSY_S``, or for another reason.
    """
    end = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY  # the rest of the code says why
            if not busy or time.monotonic() > end:
                raise
            time.sleep(random.uniform(0, AGAIN_S))


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file is there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _is_sqlite(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(16) == b"SQLite format 3\0"


def _reason(error: Exception) -> Translatable:
    return msg("out of memory") if isinstance(error, MemoryError) else foreign(str(error))


def _advice(error: Exception) -> Translatable:
    """The next step for a reader."""
    if is_shortage(error):
        spend()
        return out_of_memory().next_step
    damaged = isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
    if damaged or isinstance(error, (ValueError, KeyError, TypeError, RecursionError)):
        return msg("The file is damaged: move it away, and a new one is made.")
    if "full" in str(error):
        return msg("Free some space on that disk.")
    return msg("Check that the folder can be written, or set PLAYGROUND_HOME to another one.")
