"""Suites that are kept: a header each, and a row of its own for every cell, written when the cell is finished.

A suite may have hundreds of thousands of cells, so nothing here reads them all: they come in parts, by the order in
which they were finished (``cells``) or by their places (``in_order``). A place is taken once: a cell that is put twice
stays as it was first. Which process runs a suite, ``claim`` knows: a lock that the kernel takes back when it dies.

It knows records and SQL. What a suite asks and how answers are judged, it does not know.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from playground.messages import Translatable, msg
from playground.records import Cell, Record, Request, SuiteRun, Variant, as_id
from playground.results import documents
from playground.results.entries import TITLE_CHARS, as_text, one_line, storable, variants_of
from playground.results.store import Store
from playground.system.file_lock import FileLock

Order = Literal["rows", "columns"]
Status = Literal["running", "paused", "done"]

PART = 500
"""Cells that are read at once."""
WEIGHT = 20
"""Where strangers fill the disk, a suite counts for as many comparisons."""
SEED_END = 2**63
FIELDS = "s.id, s.created_at, s.finished_at, s.name, s.status, s.variants, s.cells"
COUNTS = "count(*), coalesce(sum(passed), 0), count(passed), coalesce(sum(failed), 0), coalesce(sum(seconds), 0)"
BEYOND = "ORDER BY created_at DESC, id DESC LIMIT -1 OFFSET ?"
ORDERS: dict[Order, str] = {"rows": "at_row, at_column, sample", "columns": "at_column, at_row, sample"}


@dataclass(frozen=True)
class SuiteEntry(Record):
    """A kept suite in a list.

    Attributes:
        variants: A column each.
        status: ``running`` only while a process runs it; a suite whose process died is ``paused``.
        cells: How many there will be; ``done`` are stored.
        judged: Of those done, how many have checks to meet; ``passed`` of them do.
        failed: Of those done, how many ended with an error.
    """

    id: str
    created_at: str
    finished_at: str
    name: str
    status: Status
    variants: tuple[Variant, ...]
    cells: int
    done: int = 0
    passed: int = 0
    judged: int = 0
    failed: int = 0


@dataclass(frozen=True)
class CellCounts(Record):
    """How far one column has come; see ``SuiteEntry``.

    Attributes:
        seconds: That its answers took together, without loading and waiting.
    """

    done: int = 0
    passed: int = 0
    judged: int = 0
    failed: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class CellPart(Record):
    """Cells in the order in which they were finished, and where the next part begins: ``cells(id, after=last)``."""

    cells: tuple[Cell, ...]
    last: int


def asked(run: SuiteRun, row: int, column: int, sample: int = 0) -> Request:
    """What a cell's model is asked: the column's request with the row's prompt in it. Where a check needs more of an
    answer (its log-probabilities, a schema to hold it to), the cell's run has its own request.

    Repeats of a seeded draw would be the same draw again, so each has the next seed; the first has the column's own. A
    row's system prompt goes before the column's.
    """
    base, prompt = seeded(run.columns[column].request or Request(), sample), run.rows[row]
    own_system = bool(prompt.system) or any(message.role == "system" for message in prompt.messages)
    return replace(
        base,
        prompt=prompt.prompt,
        messages=prompt.messages,
        system=prompt.system if own_system else base.system,
    )


def seeded(request: Request, sample: int) -> Request:
    """``request`` for one of several samples of it."""
    return request if request.seed is None else replace(request, seed=(request.seed + sample) % SEED_END)


class Suites:
    """The suites that are kept. All methods raise StorageError if the file can't be read, or written.

    Args:
        store: Whose file, and whose rules of what is kept how long, they share.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    # -- writing --------------------------------------------------------------------------------------------------

    def begin(self, run: SuiteRun, plan: Record | None = None, owner: str = "") -> None:
        """Keep a suite that has no cells yet; what is beyond what is to be kept goes, but for suites that are run.

        Args:
            plan: All that is needed to run it: its checks. ``plan`` gives its JSON back.
        """
        about = {"status": "", "finished_at": "", "plan": plan.to_json() if plan else None}
        document = documents.written(run, **about)
        variants = json.dumps([str(column.variant) for column in run.columns])
        name = storable(one_line(run.name, TITLE_CHARS))
        with self._store.writing() as connection:
            connection.execute(
                "INSERT INTO suite (id, created_at, finished_at, owner, name, status, variants, cells, document) "
                "VALUES (?, ?, '', ?, ?, ?, ?, ?, ?)",
                (run.id, run.created_at, owner, name, run.status, variants, run.cells, document),
            )
            self._drop_beyond(connection, owner)

    def put(self, id: str, cells: Sequence[Cell]) -> bool:
        """Keep finished cells, all or none; a place that is taken stays as it is. Returns whether the suite is still
        there: it may have been deleted meanwhile.
        """
        rows = [
            (
                *(id, cell.row, cell.column, cell.sample, None if cell.passed is None else int(cell.passed)),
                *(int(cell.run.error is not None), seconds_of(cell)),
                documents.written(cell),
            )
            for cell in cells
        ]
        with self._store.writing() as connection:
            if connection.execute("SELECT 1 FROM suite WHERE id = ?", (id,)).fetchone() is None:
                return False
            connection.executemany(
                "INSERT INTO suite_cell (suite, at_row, at_column, sample, passed, failed, seconds, document) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                rows,
            )
            return True

    def set_status(self, id: str, status: Status, finished_at: str = "") -> bool:
        """Where a suite stands now; returns as ``put`` does."""
        with self._store.writing() as connection:
            changed = connection.execute(
                "UPDATE suite SET status = ?, finished_at = ? WHERE id = ?", (status, finished_at, as_id(id))
            )
            return changed.rowcount > 0

    def forget_failed(self, id: str) -> int:
        """Take away the cells that ended with an error, so that they are run again; returns how many there were."""
        with self._store.writing() as connection:
            return connection.execute("DELETE FROM suite_cell WHERE suite = ? AND failed", (as_id(id),)).rowcount

    def delete(self, id: str, owner: str | None = None) -> bool:
        """Delete a suite and its cells for good; returns whether there was one of that owner (None for anybody's)."""
        with self._store.writing() as connection:
            found = connection.execute(
                "DELETE FROM suite WHERE id = ? AND (? IS NULL OR owner = ?)", (as_id(id), owner, owner)
            )
            return found.rowcount > 0

    # -- reading --------------------------------------------------------------------------------------------------

    def get(self, id: str) -> SuiteRun | None:
        """The header of a suite, None if there is none."""
        with self._store.reading() as connection:
            row = connection.execute(
                "SELECT document, status, finished_at FROM suite WHERE id = ?", (as_id(id),)
            ).fetchone()
        if row is None:
            return None
        about = {"status": self._status(id, row[1]), "finished_at": as_text(row[2])}
        return documents.read(SuiteRun, row[0], id, _suite, self._store.path, **about)

    def plan(self, id: str) -> dict[str, Any] | None:
        """The JSON of what a suite was begun with; None if there is none."""
        with self._store.reading() as connection:
            row = connection.execute("SELECT document FROM suite WHERE id = ?", (as_id(id),)).fetchone()
        plan = documents.loaded(row[0], id, _suite, self._store.path).get("plan") if row else None
        return plan if isinstance(plan, dict) else None

    def owner(self, id: str) -> str | None:
        """Whose a suite is; None if there is none."""
        with self._store.reading() as connection:
            row = connection.execute("SELECT owner FROM suite WHERE id = ?", (as_id(id),)).fetchone()
            return str(row[0]) if row else None

    def entries(self, owner: str | None = None, *, limit: int = 50, offset: int = 0) -> list[SuiteEntry]:
        """Suites (of that owner), the newest first."""
        with self._store.reading() as connection:
            rows = connection.execute(
                _sql(
                    "SELECT {fields}, {counts} FROM (SELECT * FROM suite WHERE ?1 IS NULL OR owner = ?1 "
                    "ORDER BY created_at DESC, id DESC LIMIT ?2 OFFSET ?3) AS s "
                    "LEFT JOIN suite_cell AS c ON c.suite = s.id GROUP BY s.id ORDER BY s.created_at DESC, s.id DESC"
                ).replace("count(*)", "count(c.number)"),
                (owner, limit, offset),
            ).fetchall()
        return [self._entry(row) for row in rows]

    def counts(self, id: str) -> dict[int, CellCounts]:
        """By column, how far it has come; columns without a cell are left out."""
        with self._store.reading() as connection:
            rows = connection.execute(
                _sql("SELECT at_column, {counts} FROM suite_cell WHERE suite = ? GROUP BY at_column"), (as_id(id),)
            ).fetchall()
        return {column: CellCounts(*counted) for column, *counted in rows}

    def done(self, id: str, column: int) -> set[tuple[int, int]]:
        """(row, sample) of every cell of a column that is there."""
        with self._store.reading() as connection:
            return set(
                connection.execute(
                    "SELECT at_row, sample FROM suite_cell WHERE suite = ? AND at_column = ?", (as_id(id), column)
                ).fetchall()
            )

    def answers(self, id: str, row: int, column: int) -> list[Cell]:
        """The samples of one place that are there, in their order."""
        with self._store.reading() as connection:
            found = connection.execute(
                "SELECT document FROM suite_cell WHERE suite = ? AND at_row = ? AND at_column = ? ORDER BY sample",
                (as_id(id), row, column),
            ).fetchall()
        return self._cells(id, (document for (document,) in found))

    def cells(self, id: str, after: int = 0, limit: int = PART) -> CellPart:
        """The next cells in the order in which they were finished.

        Args:
            after: ``last`` of the part before; 0 begins.
        """
        while True:
            with self._store.reading() as connection:
                rows = connection.execute(
                    "SELECT number, document FROM suite_cell WHERE suite = ? AND number > ? ORDER BY number LIMIT ?",
                    (as_id(id), after, limit),
                ).fetchall()
            after = rows[-1][0] if rows else after
            cells = self._cells(id, (document for _, document in rows))
            if cells or not rows:  # an empty part says that there are no more
                return CellPart(tuple(cells), after)

    def in_order(self, id: str, order: Order = "rows") -> Iterator[Cell]:
        """Every cell by its place, a part at a time: what is written meanwhile may be missed, nothing comes twice."""
        select = (
            "SELECT at_row, at_column, sample, document FROM suite_cell WHERE suite = ? AND ({order}) > (?, ?, ?) "
            "ORDER BY {order} LIMIT ?"
        ).replace("{order}", ORDERS[order])
        place = (-1, -1, -1)
        while True:
            with self._store.reading() as connection:
                rows = connection.execute(select, (as_id(id), *place, PART)).fetchall()
            yield from self._cells(id, (document for *_, document in rows))
            if len(rows) < PART:
                return
            row, column, sample, _ = rows[-1]
            place = (row, column, sample) if order == "rows" else (column, row, sample)

    # -- who runs it ----------------------------------------------------------------------------------------------

    def claim(self, id: str) -> FileLock:
        """The lock of a suite: whoever runs it holds it."""
        return FileLock(self._store.path.parent / "suites" / f"{re.sub(r'[^A-Za-z0-9_-]', '_', id)[:120]}.lock")

    def _cells(self, id: str, found: Iterable[str]) -> list[Cell]:
        return documents.readable(Cell, ((id, document) for document in found), _answer, self._store.path)

    def _status(self, id: str, stored: object) -> Status:
        if stored == "done":
            return "done"
        return "running" if stored == "running" and self.claim(id).held else "paused"

    def _entry(self, row: tuple[Any, ...]) -> SuiteEntry:
        id, created_at, finished_at, name, status, variants, cells, *counted = row
        found = CellCounts(*counted)
        return SuiteEntry(
            *(as_text(id), as_text(created_at), as_text(finished_at), as_text(name)),
            *(self._status(as_text(id), status), variants_of(variants), cells if type(cells) is int else 0),
            *(found.done, found.passed, found.judged, found.failed),
        )

    def _drop_beyond(self, connection: sqlite3.Connection, owner: str) -> None:
        """The oldest beyond what is to be kept go; what is being run stays."""
        kept = self._store.retention
        over: list[tuple[str]] = []
        if kept.most is not None:
            over += connection.execute(_sql("SELECT id FROM suite {beyond}"), (kept.most // WEIGHT,)).fetchall()
        if kept.each is not None and owner:
            over += connection.execute(
                _sql("SELECT id FROM suite WHERE owner = ? {beyond}"), (owner, kept.each // WEIGHT)
            ).fetchall()
        gone = [(id,) for (id,) in dict.fromkeys(over) if not self.claim(id).held]
        connection.executemany("DELETE FROM suite WHERE id = ?", gone)


def seconds_of(cell: Cell) -> float:
    """How long an answer took, without loading and waiting; 0 where nothing is known."""
    return cell.run.timings.total_s or 0.0


def _suite(id: str) -> Translatable:
    return msg("Suite {id}", id=id)


def _answer(id: str) -> Translatable:
    return msg("An answer of suite {id}", id=id)


def _sql(statement: str) -> str:
    """``statement`` with a part of this module's in its place."""
    return statement.replace("{fields}", FIELDS).replace("{counts}", COUNTS).replace("{beyond}", BEYOND)
