"""The outcomes in words: lines for the terminal, groups for docs/families.md."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TextIO

from tests.families.sweep.rows import OUTCOMES, Row


def line(row: Row) -> str:
    """One row for the terminal."""
    same = "/".join("=" if facts["equal"] else f"≠{facts['at']}" for facts in row.answers.values())
    cells = (
        row.listed,
        row.name,
        row.precision,
        row.outcome,
        row.way,
        row.engine,
        same,
        f"{row.seconds:g} s",
        row.reason,
    )
    return " ".join(cell for cell in cells if cell)


def groups(rows: Iterable[Row]) -> dict[tuple[str, str, str, str], list[Row]]:
    """Rows by precision, outcome, way and engine, in the order of ``OUTCOMES``."""
    found: dict[tuple[str, str, str, str], list[Row]] = defaultdict(list)
    for row in rows:
        found[row.precision, row.outcome, row.way, row.engine].append(row)
    order = {outcome: place for place, outcome in enumerate(OUTCOMES)}
    return dict(sorted(found.items(), key=lambda group: (group[0][0], order[group[1][0].outcome], group[0][2:])))


def show(rows: Sequence[Row], to: TextIO) -> None:
    for (precision, outcome, way, engine), members in groups(rows).items():
        print(f"{precision}: {len(members)} {outcome} {way} {engine}: {' '.join(row.name for row in members)}", file=to)


def write(rows: Sequence[Row]) -> None:
    raise NotImplementedError
