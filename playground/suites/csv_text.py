"""CSV as spreadsheets write it: a header and rows, quotes doubled within quotes, commas, semicolons or tabs between.

Python's ``csv`` reads it; where that finds a quote that is not closed, this module looks up row and column of it.
"""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from playground.messages import msg
from playground.suites.spots import Limits, Spot, short

DELIMITERS = ",;\t"
MAX_COLUMNS = 500
_LINE_END = re.compile(r"\r\n|\r|\n")
_CLOSING = re.compile(r'[^"]*+(?:""[^"]*+)*+"')
"""From behind a quote that is opened to behind the one that closes it."""


@dataclass(frozen=True)
class TableRow:
    """A row by the names of its header.

    Attributes:
        number: As spreadsheets count: the header is row 1.
        spot: Where it stands; its line is where the row begins.
    """

    number: int
    cells: dict[str, str]
    spot: Spot


def delimiter_of(text: str) -> str:
    """What stands between the names of the header: the sign of the three that is there most, outside of quotes."""
    head = text.lstrip("\r\n")[:20_000].split("\n", 1)[0]
    bare = "".join(head.split('"')[::2])
    return max(DELIMITERS, key=lambda sign: (bare.count(sign), -DELIMITERS.index(sign)))


def read(text: str, spot: Spot, limits: Limits) -> list[TableRow]:
    """The rows of a table; rows without any text in them are left out.

    Raises:
        UsageError: Quotes are broken, a row is longer or shorter than the header, or a cell is too long.
    """
    rows = list[TableRow]()
    header: list[str] = []
    for number, line, cells in _records(text, spot):
        here = _row(spot, number, line)
        if not any(cell.strip() for cell in cells):
            continue
        if not header:
            header = _header(cells, here)
            continue
        while len(cells) > len(header) and not cells[-1]:
            cells.pop()
        if len(cells) != len(header):
            raise _uneven(cells, header, here)
        for name, cell in zip(header, cells, strict=True):
            if len(cell) > limits.max_cell:
                raise too_long(here.at(msg("column {name}", name=short(name))), len(cell), limits)
        rows.append(TableRow(number, dict(zip(header, cells, strict=True)), here))
        if len(rows) > limits.max_rows:
            raise too_many_rows(here, limits)
    if not header:
        raise spot.error(msg("the table is empty"), msg("Write a header and at least one row."))
    return rows


def _row(spot: Spot, number: int, line: int) -> Spot:
    """The line is said where cells with line breaks put it apart from the row."""
    return spot.at(msg("row {n}", n=number), None if number == line else line)


def refuse_long_cell(text: str, spot: Spot, limits: Limits) -> None:
    """Look at the beginning of a file that is too long: if it is so by one cell, that can be named.

    Raises:
        UsageError: About the first cell that is too long, or a quote that is broken before it.
    """
    for number, line, cells in _records(text, spot):
        for column, cell in enumerate(cells, 1):
            if len(cell) > limits.max_cell:
                raise too_long(_row(spot, number, line).at(msg("column {n}", n=column)), len(cell), limits)


def too_long(spot: Spot, length: int, limits: Limits) -> Exception:
    return spot.error(
        msg("this has {n:,} characters, at most {most:,} are taken", n=length, most=limits.max_cell),
        msg("Shorten it."),
    )


def too_many_rows(spot: Spot, limits: Limits) -> Exception:
    return spot.error(
        msg("there are more than {most:,} rows", most=limits.max_rows), msg("Split the file into several.")
    )


def _records(text: str, spot: Spot) -> Iterator[tuple[int, int, list[str]]]:
    """Number of the row, the line that it begins on, and its cells."""
    delimiter = delimiter_of(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    number, line = 0, 1
    while True:
        number += 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise _broken(text, delimiter, _row(spot, number, line), line, str(error)) from error
        if cells is None:
            return
        yield number, line, cells
        line = reader.line_num + 1


def _header(cells: list[str], here: Spot) -> list[str]:
    names = [cell.strip() for cell in cells]
    while names and not names[-1]:  # what a spreadsheet leaves behind the last column
        names.pop()
    if len(names) > MAX_COLUMNS:
        raise here.error(msg("there are more than {n} columns", n=MAX_COLUMNS), msg("Remove some."))
    for number, name in enumerate(names):
        column = here.at(msg("column {n}", n=number + 1))
        if not name:
            raise column.error(msg("the header names no column here"), msg("Give it a name, or remove the column."))
        if name in names[:number]:
            raise column.error(msg("the column '{name}' stands twice", name=short(name)), msg("Rename one."))
    return names


def _uneven(cells: list[str], header: list[str], here: Spot) -> Exception:
    step = msg("Put cells that hold a comma or a line break in double quotes.")
    if len(cells) > len(header):
        column = here.at(msg("column {n}", n=len(header) + 1))
        return column.error(
            msg("the row has {n} cells, the header {most} columns", n=len(cells), most=len(header)), step
        )
    column = here.at(msg("column {name}", name=short(header[len(cells)])))
    return column.error(msg("the row ends after {n} cells of {most}", n=len(cells), most=len(header)), step)


def _broken(text: str, delimiter: str, here: Spot, line: int, said: str) -> Exception:
    """Finds what Python's reader stumbled over in the row that begins on ``line``."""
    double = msg("Write a double quote within quotes twice.")
    begins = itertools.islice(_LINE_END.finditer(text), line - 2, None) if line > 1 else iter(())
    at = next((match.end() for match in begins), 0)
    column = 1
    stops = re.compile(rf"[{re.escape(delimiter)}\r\n]")
    while True:
        behind, opened = stops.search(text, at), at
        if text[at : at + 1] == '"':
            closing = _CLOSING.match(text, at + 1)
            if closing is None:
                break
            at = closing.end()
            if text[at : at + 1] not in (delimiter, "\n", "\r", ""):
                return _place(text, at, column, here).error(
                    msg("“{text}” stands behind a closing quote", text=short(text[at : at + 20])), double
                )
            behind = stops.match(text, at)
        if behind is None or behind[0] != delimiter:
            break
        at, column = behind.end(), column + 1
    if "field limit" in said:
        what = msg("this has more than {most:,} characters", most=csv.field_size_limit())
        return _place(text, opened, column, here).error(what, msg("Shorten it."))
    return _place(text, opened, column, here).error(msg("a double quote is opened and not closed"), double)


def _place(text: str, at: int, column: int, here: Spot) -> Spot:
    return here.at(msg("column {n}", n=column), text.count("\n", 0, at) + 1)
