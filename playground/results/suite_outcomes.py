"""What an exported suite says of each prompt, read back so that a later one can be held against it.

Files are anybody's: what is no export of ours is refused with the line and what is missing. Nothing else of the file is
kept in memory where it has a line a cell (JSONL).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from playground.errors import UsageError
from playground.messages import Translatable, foreign, msg
from playground.results.suite_summary import Outcomes

ENDINGS = (".json", ".jsonl")


def read_outcomes(path: Path) -> Outcomes:
    """The outcomes in a file that ``suite_export`` wrote as JSON or JSONL.

    Raises:
        UsageError: It can't be read, or is none.
    """
    try:
        if path.suffix == ".jsonl":
            return _gathered(path.name, path, _of_lines(path))
        return _gathered(path.name, path, _of_document(path))
    except OSError as error:
        raise UsageError(
            msg("{file} can't be read ({reason})", file=str(path), reason=foreign(error.strerror or str(error))),
            msg("Name the id of a stored suite, or a file that --output wrote."),
        ) from error
    except UnicodeDecodeError as error:
        raise _no_export(path, msg("it is not UTF-8 (byte {byte})", byte=error.start)) from error


def _of_lines(path: Path) -> Iterator[tuple[str, str, Any]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                found = _parsed(path, line, msg("line {n}", n=number))
                yield _cell(path, found, found.get("model"), msg("line {n}", n=number))


def _of_document(path: Path) -> Iterator[tuple[str, str, Any]]:
    found = _parsed(path, path.read_text(encoding="utf-8-sig"), msg("the file"))
    inner = found.get("results")
    cells = inner.get("results") if isinstance(inner, dict) else None
    if not isinstance(cells, list):
        raise _no_export(path, msg("it has no results.results"))
    for number, cell in enumerate(cells):
        place = msg("results.results[{n}]", n=number)
        if not isinstance(cell, dict):
            raise _no_export(path, msg("{place} is no object", place=place))
        provider = cell.get("provider")
        yield _cell(path, cell, provider.get("id") if isinstance(provider, dict) else None, place)


def _parsed(path: Path, text: str, place: Translatable) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _no_export(path, msg("{place} is no JSON", place=place)) from error
    if not isinstance(found, dict):
        raise _no_export(path, msg("{place} is no object", place=place))
    return found


def _cell(path: Path, cell: dict[str, Any], column: Any, place: Translatable) -> tuple[str, str, Any]:
    row, passed = cell.get("row"), cell.get("passed")
    if not isinstance(row, str) or not isinstance(column, str) or not (passed is None or isinstance(passed, bool)):
        raise _no_export(path, msg("{place} has no row, model and outcome", place=place))
    return column, row, passed


def _gathered(name: str, path: Path, cells: Iterable[tuple[str, str, Any]]) -> Outcomes:
    counts: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0]))
    for column, row, passed in cells:
        if passed is not None:
            counts[column][row][0] += passed
            counts[column][row][1] += 1
        else:
            counts.setdefault(column, defaultdict(lambda: [0, 0]))
    if not counts:
        raise _no_export(path, msg("it holds no answer"))
    return Outcomes(
        name,
        {column: {row: passed / judged for row, (passed, judged) in rows.items()} for column, rows in counts.items()},
    )


def _no_export(path: Path, why: Translatable) -> UsageError:
    return UsageError(
        msg("{file} is no exported suite: {why}", file=str(path), why=why),
        msg("Name the id of a stored suite, or a .json or .jsonl file that --output wrote."),
    )
