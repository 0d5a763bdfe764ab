"""Where in a suite's file something stands, in the words that errors say it with, and how much of it is read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from playground.config.validation import closest
from playground.errors import Reason, UsageError, reason_of
from playground.messages import NOTHING, Translatable, clauses, foreign, msg

SHOWN = 60
"""Characters of somebody's text that an error repeats."""


def short(value: Any) -> str:
    """What stands in a file, on one line and cut off."""
    text = " ".join(str(value).split())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


@dataclass(frozen=True)
class Spot:
    """A place in a file.

    Attributes:
        file: What the file is called.
        steps: From the outside in: ``test 3``, ``check 1``, ``value``.
        line: Of the file, from 1; None where nobody knows.
    """

    file: str
    steps: tuple[Translatable, ...] = ()
    line: int | None = None

    def at(self, step: Translatable, line: int | None = None) -> Spot:
        return replace(self, steps=(*self.steps, step), line=line or self.line)

    def key(self, name: str, line: int | None = None) -> Spot:
        return self.at(foreign(short(name)), line)

    @property
    def words(self) -> Translatable:
        """Without the file: "row 3, column __expected (line 4)"."""
        where = msg("{steps}", steps=list(self.steps)) if self.steps else NOTHING
        if self.line is None:
            return where
        if not where:
            return msg("line {line}", line=self.line)
        return msg("{place} (line {line})", place=where, line=self.line)

    def error(self, what: Translatable, next_step: Translatable = NOTHING) -> UsageError:
        words = self.words
        if not words:
            return UsageError(msg("{file}: {what}", file=self.file, what=what), next_step)
        return UsageError(msg("{file}, {place}: {what}", file=self.file, place=words, what=what), next_step)

    def because(self, what: Translatable, error: Reason, next_step: Translatable = NOTHING) -> UsageError:
        return self.error(clauses(what, reason_of(error)), next_step)

    def unknown(self, key: str, known: Iterable[str]) -> UsageError:
        return self.error(msg("unknown key '{key}'", key=short(key)), closest(key, known))


@dataclass(frozen=True)
class Limits:
    """How much of a file is read: it is a text that somebody else may have written.

    Attributes:
        max_bytes: Of the whole file, and of each file that it names.
        max_rows: Rows, after lists of variables and prompts are multiplied.
        max_cell: Characters of one value, and of one prompt with its variables filled in.
        max_total: Characters of all rows together: prompts with their variables filled in, variables, checks.
        max_checks: Checks of one row, those in sets among them.
        max_seconds: Of the processor's time, for making the rows: patterns and schemas take some.
        max_columns: Models that the file may name.
        max_repeats: Samples of each cell.
        max_values: Of a YAML file, which takes a processor some seconds where it has many.
    """

    max_bytes: int
    max_rows: int
    max_cell: int
    max_total: int
    max_seconds: float
    max_checks: int = 100
    max_columns: int = 32
    max_repeats: int = 100
    max_values: int = 400_000


OWN = Limits(max_bytes=16_000_000, max_rows=20_000, max_cell=100_000, max_total=60_000_000, max_seconds=300)
"""For whoever sits at this machine."""
STRANGERS = Limits(
    max_bytes=1_000_000,
    max_rows=500,
    max_cell=20_000,
    max_total=4_000_000,
    max_seconds=20,
    max_checks=30,
    max_repeats=10,
    max_values=60_000,
)
"""For visitors of a Space."""
