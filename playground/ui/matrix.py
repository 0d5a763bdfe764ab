"""The cells of a suite as a page looks at them: which rows are shown, in which order, and which of them have changed.

Cells arrive as they are finished and are kept without what no table shows (stamps, token ids, log-probabilities). What
a row is found by is worked out when a cell of it arrives, so a look at thousands of rows costs no more than their sort.
It knows records, not words, HTML or where cells are kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from playground.records import Cell, SuiteRow, SuiteRun

Show = Literal["all", "differs", "failed", "error", "cut", "slowest", "worse", "waiting"]
Sort = Literal["file", "slowest", "fewest", "longest", "name"]
SHOWS: tuple[Show, ...] = get_args(Show)
SORTS: tuple[Sort, ...] = get_args(Sort)
PAGE_ROWS = 50
"""Rows of a page: more would be a second's work for a browser on a phone, and no more is read at once."""
SLOWEST_SHARE = 0.1


@dataclass(frozen=True)
class Query:
    """What a page looks at.

    Attributes:
        words: Sought in labels, prompts, values of variables and answers, all of them, in any case.
        page: From 0; one that there is not is the last one.
    """

    show: Show = "all"
    sort: Sort = "file"
    words: str = ""
    page: int = 0


@dataclass(frozen=True)
class Found:
    """The rows of one page.

    Attributes:
        rows: Their places in the suite, in the order asked for.
        matching: How many rows the query has, on all pages.
    """

    rows: tuple[int, ...]
    matching: int
    page: int
    pages: int


@dataclass
class Place:
    """The samples of one row and column, by their number."""

    samples: dict[int, Cell] = field(default_factory=dict)

    @property
    def cells(self) -> list[Cell]:
        return [self.samples[number] for number in sorted(self.samples)]

    @property
    def judged(self) -> list[bool]:
        """Passed or not, of each sample that has checks to meet."""
        return [cell.passed for cell in self.cells if cell.passed is not None]

    @property
    def share(self) -> float | None:
        """Of the judged samples, how many passed, 0 to 1; None where none is judged."""
        judged = self.judged
        return sum(judged) / len(judged) if judged else None

    @property
    def texts(self) -> frozenset[str]:
        """The distinct answers."""
        return frozenset(cell.run.text.strip() for cell in self.samples.values() if cell.run.error is None)

    @property
    def seconds(self) -> float:
        """Of the slowest sample; 0 where nothing was timed."""
        return max((cell.run.timings.total_s or 0.0 for cell in self.samples.values()), default=0.0)


@dataclass
class _Row:
    """What a row is found and sorted by."""

    places: dict[int, Place] = field(default_factory=dict)
    changed: int = 0
    flags: frozenset[Show] = frozenset({"waiting"})
    seconds: float = 0.0
    passed: float = 0.0
    longest: int = 0


class Matrix:
    """The rows and columns of one suite.

    Attributes:
        last: The number of the last cell that was taken in.
        done: How many there are.
        marks: By (row, column): whether it did ``worse`` or ``better`` than in an earlier run; empty without one.
    """

    def __init__(self, run: SuiteRun) -> None:
        self.run = run
        self.last = 0
        self.marks: dict[tuple[int, int], str] = {}
        self.done = 0
        self._rows = [_Row() for _ in run.rows]
        self._counts: dict[Show, int] = {"waiting": len(run.rows)}

    def add(self, cells: Iterable[Cell], last: int) -> None:
        """Take in cells that were finished; ``last`` is the number of the last one."""
        touched = set()
        for cell in cells:
            if not 0 <= cell.row < len(self._rows) or not 0 <= cell.column < len(self.run.columns):
                continue
            place = self._rows[cell.row].places.setdefault(cell.column, Place())
            self.done += cell.sample not in place.samples
            place.samples[cell.sample] = slim(cell)
            touched.add(cell.row)
        self.last = max(self.last, last)
        for row in touched:
            self._look(row)

    def mark(self, marks: Mapping[tuple[int, int], str]) -> None:
        """Say which places did worse or better than in an earlier run."""
        changed = {place for place in self.marks.keys() | marks.keys() if self.marks.get(place) != marks.get(place)}
        self.marks = dict(marks)
        for row in {row for row, _ in changed}:
            self._look(row)

    def place(self, row: int, column: int) -> Place:
        """The samples of a row and column, none where none is finished."""
        return self._rows[row].places.get(column, Place())

    def cells(self) -> Iterable[Cell]:
        """All that are finished, row by row."""
        for row in self._rows:
            for column in sorted(row.places):
                yield from row.places[column].cells

    def changed(self, row: int) -> int:
        """The number of the row's last cell when it arrived; 0 where none has."""
        return self._rows[row].changed

    def count(self, show: Show) -> int:
        """How many rows ``show`` has, whatever words are sought."""
        if show == "all":
            return len(self._rows)
        if show == "slowest":
            return self._slow_count()
        return self._counts.get(show, 0)

    def find(self, query: Query) -> Found:
        """The rows of a page, as the query asks for them."""
        rows = self._matching(query)
        pages = max(1, math.ceil(len(rows) / PAGE_ROWS))
        page = min(max(query.page, 0), pages - 1)
        shown = rows[page * PAGE_ROWS : (page + 1) * PAGE_ROWS]
        return Found(tuple(shown), len(rows), page, pages)

    def _look(self, row: int) -> None:
        """Work out anew what a row is found by."""
        at = self._rows[row]
        columns = range(len(self.run.columns))
        places = [at.places.get(column, Place()) for column in columns]
        cells = [cell for place in places for cell in place.cells]
        flags: set[Show] = set()
        if len(cells) < len(places) * self.run.repeats:
            flags.add("waiting")
        if any(cell.passed is False for cell in cells):
            flags.add("failed")
        if any(cell.run.error is not None for cell in cells):
            flags.add("error")
        if any(cell.run.finish_reason == "length" for cell in cells):
            flags.add("cut")
        if differs(places):
            flags.add("differs")
        if any(self.marks.get((row, column)) == "worse" for column in columns):
            flags.add("worse")
        for flag in at.flags - flags:
            self._counts[flag] -= 1
        for flag in flags - at.flags:
            self._counts[flag] = self._counts.get(flag, 0) + 1
        at.flags, at.changed = frozenset(flags), self.last
        at.seconds = max((place.seconds for place in places), default=0.0)
        at.passed = sum(place.share or 0.0 for place in places)
        at.longest = max((len(cell.run.text) for cell in cells), default=0)

    def _matching(self, query: Query) -> list[int]:
        rows: Iterable[int] = range(len(self._rows))
        sort = query.sort
        if query.show == "slowest":
            timed = [row for row in rows if self._rows[row].seconds > 0]
            rows = sorted(timed, key=lambda row: -self._rows[row].seconds)[: self._slow_count()]
            sort = "slowest" if sort == "file" else sort
        elif query.show != "all":
            rows = [row for row in rows if query.show in self._rows[row].flags]
        words = query.words.casefold().split()
        if words:
            rows = [row for row in rows if self._has(row, words)]
        return sorted(rows, key=self._key(sort))

    def _key(self, sort: Sort) -> Callable[[int], tuple[float | str, int]]:
        if sort == "slowest":
            return lambda row: (-self._rows[row].seconds, row)
        if sort == "fewest":
            return lambda row: (self._rows[row].passed if self._rows[row].changed else math.inf, row)
        if sort == "longest":
            return lambda row: (-self._rows[row].longest, row)
        if sort == "name":
            return lambda row: (self.run.rows[row].label.casefold(), row)
        return lambda row: ("", row)

    def _has(self, row: int, words: list[str]) -> bool:
        asked, places = self.run.rows[row], self._rows[row].places.values()
        said = (cell.run.text for place in places for cell in place.samples.values())
        text = "\n".join((asked.label, prompt_of(asked), *asked.vars.values(), *said)).casefold()
        return all(word in text for word in words)

    def _slow_count(self) -> int:
        timed = sum(row.seconds > 0 for row in self._rows)
        return math.ceil(timed * SLOWEST_SHARE)


def differs(places: Iterable[Place]) -> bool:
    """Whether the models part: one passes more than another, or, where nothing is judged, says something else."""
    there = [place for place in places if place.samples]
    shares = {place.share for place in there if place.share is not None}
    if shares:
        return len(shares) > 1
    return len({place.texts for place in there}) > 1


def prompt_of(row: SuiteRow) -> str:
    """What the row asks, its turns in a row where it is a conversation."""
    return "\n".join(message.content for message in row.messages) if row.messages else row.prompt


def slim(cell: Cell) -> Cell:
    """The cell without what no table shows."""
    run = cell.run
    if not (run.token_ids or run.logprobs or run.timings.token_stamps):
        return cell
    return replace(cell, run=replace(run, token_ids=None, logprobs=(), timings=replace(run.timings, token_stamps=())))
