"""Files that ``suite`` writes: refused before anything runs where they can't be, written whole or not at all."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from playground.cli import output
from playground.errors import PlaygroundError, UsageError
from playground.messages import foreign, msg

if TYPE_CHECKING:
    from playground.service import Playground


def print_document(playground: Playground, id: str) -> None:
    """The one document of ``--json``, a few answers at a time."""
    playground.export_suite(id, "json", sys.stdout)
    sys.stdout.flush()


def checked_outputs(paths: list[Path]) -> list[Path]:
    """Files to write.

    Raises:
        UsageError: One of them can't be written, which is better told before hours are spent.
    """
    from playground.results.suite_export import check_ending

    for path in paths:
        check_ending(_ending(path))
        if not path.parent.is_dir() or not os.access(path.parent, os.W_OK) or path.is_dir():
            raise UsageError(
                msg("{file} can't be written", file=str(path)), msg("Name a file in a folder that can be written.")
            )
    return paths


def _ending(path: Path) -> str:
    """The format that a file's name asks for; LLM Comparator's is a JSON that says so."""
    return "comparator" if path.name.endswith(".comparator.json") else path.suffix.removeprefix(".")


def export(playground: Playground, id: str, path: Path) -> None:
    """Write a file whole or not at all.

    Raises:
        PlaygroundError: It can't be written.
    """
    ending = _ending(path)
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            # RFC 4180's line ends are written as they are.
            with os.fdopen(handle, "w", encoding="utf-8", newline="", errors="backslashreplace") as file:
                playground.export_suite(id, ending, file, output.say)
            Path(name).chmod(0o644)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise PlaygroundError(
            msg("{file} can't be written ({reason})", file=str(path), reason=foreign(error.strerror or str(error))),
            msg("The suite is stored: playground suite --show {id} --output FILE writes it elsewhere.", id=id),
        ) from error
