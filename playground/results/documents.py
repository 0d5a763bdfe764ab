"""Records as documents of the database, looked at both ways: what could not be read again is not written, and a
document that does not hold what its record says is not believed. One that is damaged is named; the others can be read.

It knows records and their JSON; SQL is the business of whoever keeps them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from playground.errors import PlaygroundError, StorageError
from playground.messages import Translatable, foreign, msg
from playground.records import Record

Kept = TypeVar("Kept", bound=Record)
Named = Callable[[str], Translatable]

log = logging.getLogger(__name__)

_WRONG = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
OTHER_KIND = msg("it holds a value of another kind")
MOST_CHARS = 200
_TOLD_MOST = 1000
_told: set[str] = set()
"""Damaged records that the log has: a list is read again and again."""


def written(record: Record, **instead: Any) -> str:
    """The document of a record.

    Args:
        instead: Fields of the document that are not the record's, or not as it has them.

    Raises:
        StorageError: It holds what can't be written, a figure that is no number.
    """
    try:
        return json.dumps({**record.to_json(), **instead}, allow_nan=False)
    except _WRONG as error:
        what = msg("The result can't be kept: it holds what can't be written ({reason})", reason=foreign(str(error)))
        raise StorageError(what, msg("This is a bug of the playground; please report it.")) from error


def loaded(document: Any, id: str, named: Named, file: Path) -> dict[str, Any]:
    """The JSON of a document.

    Args:
        named: Names the record to a reader, from its id.
        file: The database.

    Raises:
        StorageError: It is damaged; names it.
    """
    try:
        found = json.loads(document, parse_constant=_no_number)
    except _WRONG as error:
        raise _damaged(id, named, file, foreign(str(error)[:MOST_CHARS])) from error
    if not isinstance(found, dict):
        raise _damaged(id, named, file, OTHER_KIND)
    return found


def read(kind: type[Kept], document: Any, id: str, named: Named, file: Path, **instead: Any) -> Kept:
    """The record in a document; see ``loaded``.

    Args:
        id: Under which it is kept; a record that has one has this.
        instead: Fields that are kept elsewhere.

    Raises:
        StorageError: It is damaged; names it.
    """
    values = loaded(document, id, named, file) | instead
    try:
        found = kind.from_json(values)
        if found.well_formed(any_text=True) and getattr(found, "id", id) == id:
            return found
    except _WRONG as error:
        raise _damaged(id, named, file, foreign(str(error)[:MOST_CHARS])) from error
    raise _damaged(id, named, file, OTHER_KIND)


def readable(kind: type[Kept], rows: Iterable[tuple[str, Any]], named: Named, file: Path) -> list[Kept]:
    """The records of these ids and documents that can be read; the log tells of the others."""
    found = []
    for id, document in rows:
        try:
            found.append(read(kind, document, str(id), named, file))
        except StorageError as error:
            _tell(error, str(id), kind)
    return found


def _tell(error: PlaygroundError, id: str, kind: type[Record]) -> None:
    if error.what not in _told and len(_told) < _TOLD_MOST:
        _told.add(error.what)
        log.warning("left out, as it is damaged: %s", error.what, extra={"run": id, "kind": kind.__name__})


def _damaged(id: str, named: Named, file: Path, reason: Translatable) -> StorageError:
    what = msg("{record} in {file} is damaged ({reason})", record=named(id), file=str(file), reason=reason)
    return StorageError(what, msg("The others can be read. Delete it, or restore a backup."))


def _no_number(constant: str) -> None:
    raise ValueError(constant)
