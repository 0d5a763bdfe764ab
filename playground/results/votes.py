"""Votes: which answer somebody liked best before they knew whose it was, kept beside the comparisons in their file.

A comparison that is to be voted on is noted before it begins; until its owner has voted it is blind (``blind``). One
vote a comparison: a later one replaces it. What was chosen after the names were known is kept and exported, and marked
as not blind: it does not count. A vote stands by itself: deleting the comparison does not delete it.

For more than two columns a vote names the best of all: one decision, as people make it, that says of each other column
that it lost. A pair drawn at random would throw away what the voter has read, and nobody gives a full order of eight
answers with care. ``ratings`` weighs it as one choice, not as seven.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from playground.errors import StorageError, UsageError
from playground.messages import Translatable, msg
from playground.records import Comparison, Record, Variant, as_id
from playground.results import documents
from playground.results.blind import LETTERS, answered
from playground.results.ratings import Judgement, Outcome
from playground.results.spreadsheet import cell
from playground.results.store import Store

NOTE_CHARS = 1000
TAG_CHARS = 40
By = Literal["variant", "model"]
COLUMNS = ("model_a", "model_b", "winner", "tag", "at", "comparison", "columns", "blind", "note")
"""Of an exported row. The first three are those of public collections of votes (LMArena's, for one), whose words for
the winner are ``model_a``, ``model_b``, ``tie`` and ``tie (bothbad)``."""


@dataclass(frozen=True)
class Vote(Record):
    """One vote.

    Attributes:
        comparison: Id of what was voted on.
        variants: A column each, in the order they were shown.
        voted_on: Places of the columns that had an answer; the others are not part of the vote.
        outcome: ``best``: one is better than all others; ``tie``: equally good; ``bad``: none is any good.
        best: Place of the best column.
        tag: Kind of prompt, in the voter's word, in lower case; may be empty.
        blind: Whether the names were hidden when it was cast.
    """

    comparison: str
    variants: tuple[Variant, ...]
    voted_on: tuple[int, ...]
    outcome: Outcome
    best: int | None
    at: str
    owner: str = ""
    tag: str = ""
    note: str = ""
    blind: bool = True

    def judgement(self, by: By = "variant") -> Judgement:
        """The vote as ratings read it: among variants, or among models whatever variant of them answered."""
        names = tuple(
            self.variants[place].model if by == "model" else str(self.variants[place]) for place in self.voted_on
        )
        best = self.voted_on.index(self.best) if self.best is not None else 0
        return Judgement(names, self.outcome, best)

    def rows(self) -> Iterator[dict[str, Any]]:
        """The vote as pairs, as it is exported: of more than two columns, several. ``model_a`` stood left of
        ``model_b``.
        """
        for a, b, winner in self.pairs():
            yield {
                "model_a": str(self.variants[a]),
                "model_b": str(self.variants[b]),
                "winner": winner,
                "tag": self.tag,
                "at": self.at,
                "comparison": self.comparison,
                "columns": len(self.voted_on),
                "blind": self.blind,
                "note": self.note,
            }

    def pairs(self) -> Iterator[tuple[int, int, str]]:
        """The places of each pair the vote says something of, the left one first, and the winner in public words."""
        for place, a in enumerate(self.voted_on):
            for b in self.voted_on[place + 1 :]:
                if self.outcome == "best" and self.best not in (a, b):
                    continue
                won = "model_a" if self.best == a else "model_b"
                yield a, b, {"tie": "tie", "bad": "tie (bothbad)"}.get(self.outcome) or won


def cast(comparison: Comparison, outcome: str, best: int | None, *, at: str, owner: str, tag: str, note: str) -> Vote:
    """A vote on ``comparison``, checked.

    Raises:
        UsageError: It means nothing, or there is nothing to vote on.
    """
    places = tuple(column for column, run in enumerate(comparison.runs) if answered(run))
    if len(places) < 2:
        raise UsageError(msg("There are no two answers to vote on"), msg("Run the prompt again with other models."))
    if outcome not in ("best", "tie", "bad"):
        raise UsageError(
            msg("'{outcome}' is no outcome of a vote", outcome=str(outcome)[:40]), msg("It is best, tie or bad.")
        )
    if outcome == "best" and best not in places:
        shown = [LETTERS[place] for place in places]
        raise UsageError(msg("The vote names no column with an answer"), msg("Choose one of {columns}.", columns=shown))
    return Vote(
        comparison=comparison.id,
        variants=tuple(run.variant for run in comparison.runs),
        voted_on=places,
        outcome=outcome,  # type: ignore[arg-type]  # checked above
        best=best if outcome == "best" else None,
        at=at,
        owner=owner,
        tag=tidy_tag(tag),
        note=tidy_note(note),
    )


def tidy_tag(tag: str) -> str:
    """A tag in one spelling: lower case, single spaces.

    Raises:
        UsageError: It is too long.
    """
    text = re.sub(r"\s+", " ", str(tag).encode("utf-8", "replace").decode()).strip().casefold()
    if len(text) > TAG_CHARS:
        raise UsageError(
            msg("The tag has {n} characters", n=len(text)),
            msg("A tag has at most {most}: a word or two.", most=TAG_CHARS),
        )
    return text


def tidy_note(note: str) -> str:
    """A note as it is kept.

    Raises:
        UsageError: It is too long.
    """
    text = str(note).encode("utf-8", "replace").decode().strip()
    if len(text) > NOTE_CHARS:
        raise UsageError(
            msg("The note has {n:,} characters", n=len(text)), msg("At most {most:,} are kept.", most=NOTE_CHARS)
        )
    return text


class Votes:
    """The votes that are kept.

    Args:
        store: Whose file they are kept in.
        most: So many votes and blind comparisons are kept, the newest; None for all.
    """

    def __init__(self, store: Store, most: int | None = None) -> None:
        self._store = store
        self._most = most

    def begin(self, comparison: str, owner: str, at: str) -> None:
        """Note that a comparison is blind until ``owner`` votes; to be called before it can be seen.

        Raises:
            StorageError: It can't be written, so there can be no blind vote.
        """
        with self._store.writing() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO vote (comparison, owner, begun_at) VALUES (?, ?, ?)", (comparison, owner, at)
            )
            if self._most is not None:
                connection.execute(
                    "DELETE FROM vote WHERE comparison IN (SELECT comparison FROM vote "
                    "ORDER BY begun_at DESC, comparison DESC LIMIT -1 OFFSET ?)",
                    (self._most,),
                )

    def awaited(self, comparison: str) -> str | None:
        """Whose vote a blind comparison waits for; None where it waits for none.

        Raises:
            StorageError: The database can't be read.
        """
        with self._store.reading() as connection:
            row = connection.execute(
                "SELECT owner FROM vote WHERE comparison = ? AND document IS NULL", (as_id(comparison),)
            ).fetchone()
            return str(row[0]) if row else None

    def all_awaited(self, owner: str | None = None) -> frozenset[str]:
        """Every comparison that waits for a vote (of that owner).

        Raises:
            StorageError: The database can't be read.
        """
        with self._store.reading() as connection:
            rows = connection.execute(
                "SELECT comparison FROM vote WHERE document IS NULL AND (?1 IS NULL OR owner = ?1)", (owner,)
            ).fetchall()
            return frozenset(str(row[0]) for row in rows)

    def put(self, vote: Vote) -> Vote:
        """Keep a vote; returns it as it was kept: where another choice stood before, the names were known.

        Raises:
            UsageError: The comparison was not blind, or is somebody else's.
            StorageError: It can't be written.
        """
        with self._store.writing() as connection:
            row = connection.execute(
                "SELECT owner, document FROM vote WHERE comparison = ?", (vote.comparison,)
            ).fetchone()
            if row is None or row[0] != vote.owner:
                raise not_voted_on()
            if row[1] is not None:
                vote = replace(vote, blind=self._was_blind(row[1], vote))
            connection.execute(
                "UPDATE vote SET document = ? WHERE comparison = ?", (documents.written(vote), vote.comparison)
            )
        return vote

    def get(self, comparison: str) -> Vote | None:
        """The vote on a comparison.

        Raises:
            StorageError: The database can't be read, or the vote is damaged.
        """
        with self._store.reading() as connection:
            row = connection.execute(
                "SELECT document FROM vote WHERE comparison = ? AND document IS NOT NULL", (as_id(comparison),)
            ).fetchone()
        return self._read(row[0], comparison) if row else None

    def kept(self, owner: str | None = None) -> list[Vote]:
        """All votes (of that owner), the oldest first; those that are damaged are left out.

        Raises:
            StorageError: The database can't be read.
        """
        with self._store.reading() as connection:
            rows = connection.execute(
                "SELECT comparison, document FROM vote WHERE document IS NOT NULL AND (?1 IS NULL OR owner = ?1) "
                "ORDER BY begun_at, comparison",
                (owner,),
            ).fetchall()
        return documents.readable(Vote, rows, _named, self._store.path)

    def _read(self, document: str, comparison: str) -> Vote:
        return documents.read(Vote, document, comparison, _named, self._store.path)

    def _was_blind(self, document: str, vote: Vote) -> bool:
        """Whether a vote that stands in an earlier one's place was cast blind: it was, and says the same."""
        try:
            earlier = self._read(document, vote.comparison)
        except StorageError:  # damaged: there was one, and names were known from then on
            return False
        return earlier.blind and (earlier.outcome, earlier.best) == (vote.outcome, vote.best)


def _named(comparison: str) -> Translatable:
    return msg("The vote on {id}", id=comparison)


def not_voted_on() -> UsageError:
    """What is said of a comparison that takes no vote."""
    return UsageError(
        msg("This comparison was not run for a blind vote of yours"), msg("Switch on Vote blind, and run the prompt.")
    )


def to_csv(votes: Iterable[Vote]) -> str:
    """The votes as a table of pairs (RFC 4180), the columns of ``COLUMNS``. A cell that a spreadsheet would run as a
    formula begins with an apostrophe: whoever runs an app may export what strangers noted.
    """
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, COLUMNS)
    writer.writeheader()
    for vote in votes:
        writer.writerows({name: cell(value) for name, value in row.items()} for row in vote.rows())
    return file.getvalue()


def to_jsonl(votes: Iterable[Vote]) -> str:
    """The same rows, a JSON object a line."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for vote in votes for row in vote.rows())
