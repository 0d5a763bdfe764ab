"""How far a suite has come, column by column, and how long it will take from here.

**Time left.** Of a column that has answered, its mean time a cell times its cells that are left; the mean, not the
median, for it is a sum that is wanted. Of one that has not begun, the same by its expected memory, as reading a model's
weights is most of what a token costs; where memory is not known, by the mean of the columns that have answered.
Loading, preparing and other people's turns are not in it, which is why it is called about.

Values and the counters they are made of; it runs nothing.
"""

from __future__ import annotations

import statistics
import time
from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from playground.messages import NOTHING, Translatable, clauses, msg, plural
from playground.records import Cell, Record, Variant
from playground.results.suites import CellCounts, seconds_of

State = Literal["waiting", "preparing", "running", "done", "failed"]


@dataclass(frozen=True)
class ColumnProgress(Record):
    """Where one column stands.

    Attributes:
        total: Cells it will have; ``done`` are finished, those of earlier sessions of the same suite included.
        judged, passed: Of those done, how many have checks to meet, and how many meet them.
        failed: Of those done, how many ended with an error.
        seconds: That its answers took together, without loading and waiting.
        decode_tok_s: Median of this session's answers, tokens a second; None before there is one.
        note: Why the rest of it was not run; empty where nothing is wrong.
    """

    variant: Variant
    total: int
    done: int = 0
    judged: int = 0
    passed: int = 0
    failed: int = 0
    seconds: float = 0.0
    decode_tok_s: float | None = None
    state: State = "waiting"
    note: Translatable = NOTHING


@dataclass(frozen=True)
class SuiteProgress(Record):
    """Where a suite stands.

    Attributes:
        left_s: About how many seconds of answering are left; None before the first answer.
    """

    columns: tuple[ColumnProgress, ...]
    left_s: float | None = None

    @property
    def done(self) -> int:
        return sum(column.done for column in self.columns)

    @property
    def total(self) -> int:
        return sum(column.total for column in self.columns)


@dataclass(eq=False)
class Counter:
    """One column's counters; its user holds the lock.

    Attributes:
        shared_since: When answers began to be given side by side, on the clock of ``time.monotonic()``; None where they
            are given one after the other. ``since`` counts those that were finished from then on.
    """

    at: ColumnProgress
    expected_mb: float | None = None
    # Kept sorted: the median is asked for several times a second while a model is measured.
    rates: list[float] = field(default_factory=list)
    answered: int = 0
    shared_since: float | None = None
    since: int = 0

    @property
    def pace_s(self) -> float:
        """From one answer to the next, in seconds; there has to be an answer."""
        if self.shared_since is not None and self.since:
            return (time.monotonic() - self.shared_since) / self.since
        return self.at.seconds / self.answered

    def share(self) -> None:
        """From now on answers are given side by side."""
        self.shared_since, self.since = time.monotonic(), 0

    def begin(self, counts: CellCounts) -> None:
        """Take over what earlier sessions did."""
        self.answered = counts.done - counts.failed
        self.at = replace(
            self.at,
            done=counts.done,
            judged=counts.judged,
            passed=counts.passed,
            failed=counts.failed,
            seconds=counts.seconds,
        )

    def add(self, cell: Cell) -> None:
        """One more cell is finished."""
        self.since += 1
        if cell.run.error is None:
            self.answered += 1
        if cell.run.timings.decode_tok_s is not None:
            insort(self.rates, cell.run.timings.decode_tok_s)
        self.at = replace(
            self.at,
            done=self.at.done + 1,
            judged=self.at.judged + (cell.passed is not None),
            passed=self.at.passed + bool(cell.passed),
            failed=self.at.failed + (cell.run.error is not None),
            seconds=self.at.seconds + seconds_of(cell),
        )

    def picture(self) -> ColumnProgress:
        return replace(self.at, decode_tok_s=_middle(self.rates))


def left(counters: Sequence[Counter]) -> float | None:
    """Seconds of answering that are left; None before the first answer of all."""
    known = [counter for counter in counters if counter.answered]
    if not known:
        return None
    means = {id(counter): counter.pace_s for counter in known}
    mean = statistics.fmean(means.values())
    sized = [counter for counter in known if counter.expected_mb]
    by_mb = statistics.fmean(means[id(counter)] / (counter.expected_mb or 1.0) for counter in sized) if sized else None

    def of(counter: Counter) -> float:
        if id(counter) in means:
            return means[id(counter)]
        return counter.expected_mb * by_mb if counter.expected_mb and by_mb else mean

    return sum((counter.at.total - counter.at.done) * of(counter) for counter in counters)


def where_words(at: Counter, counters: Sequence[Counter]) -> tuple[Translatable, float | None]:
    """What is being asked, of all that will be, and the share of it that is done, 0 to 1."""
    done, total = sum(each.at.done for each in counters), sum(each.at.total for each in counters)
    step = msg(
        "{model}: cell {done} of {total} of its column",
        model=at.at.variant,
        done=min(at.at.done + 1, at.at.total),
        total=at.at.total,
    )
    return clauses(step, left_words(left(counters))), done / total if total else None


def left_words(seconds: float | None) -> Translatable:
    """How long it will take from here, for a reader; empty where nothing is known."""
    if seconds is None:
        return NOTHING
    if seconds < 90:
        return plural("about {n} second left", "about {n} seconds left", n=max(1, round(seconds)))
    if seconds < 5400:
        return plural("about {n} minute left", "about {n} minutes left", n=round(seconds / 60))
    return msg("about {hours:.1f} hours left", hours=seconds / 3600)


def _middle(ordered: Sequence[float]) -> float | None:
    if not ordered:
        return None
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
