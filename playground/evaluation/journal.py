"""The answers a model gave the harness so far, in a file: what was asked before a crash is not asked again.

It stands where lm-eval has a database of pickles (``CachingLM.dbdict``): a mapping from the harness's own key of a
question to the answer, kept as lines of JSON, each written as soon as it is there. A line that a crash cut off is left
out. It knows neither models nor tasks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

from playground.errors import StorageError
from playground.messages import foreign, msg


class Journal(MutableMapping[str, Any]):
    """The answers by key; JSON's lists come back as tuples, as the harness has them.

    Args:
        path: The file; it and its folder are made at the first answer.

    Attributes:
        found: How many answers there were when it was opened.

    Raises:
        StorageError: The file is there and can't be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._answers: dict[str, Any] = {}
        self._file: Any = None
        try:
            text = path.read_text(encoding="utf-8") if path.exists() else ""
        except (OSError, ValueError) as error:
            raise self._trouble(error) from error
        self._whole = not text or text.endswith("\n")
        for line in text.splitlines():
            try:
                key, answer = json.loads(line)
            except (ValueError, TypeError, RecursionError):
                continue
            if isinstance(key, str):
                self._answers[key] = _as_tuple(answer)
        self.found = len(self._answers)

    def __setitem__(self, key: str, answer: Any) -> None:
        if key in self._answers:
            return
        self._answers[key] = answer
        line = json.dumps([key, answer], allow_nan=False, default=float) + "\n"
        try:
            if self._file is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._path.open("a", encoding="utf-8")
                if not self._whole:
                    self._file.write("\n")
            self._file.write(line)
            self._file.flush()
        except OSError as error:
            raise self._trouble(error) from error

    def __getitem__(self, key: str) -> Any:
        return self._answers[key]

    def __delitem__(self, key: str) -> None:
        del self._answers[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._answers)

    def __len__(self) -> int:
        return len(self._answers)

    def commit(self) -> None:
        """Nothing is left to be written: the harness calls this where its own database would write."""

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _trouble(self, error: Exception) -> StorageError:
        words = {"file": str(self._path), "reason": foreign(str(error))}
        return StorageError(
            msg("The answers of an evaluation can't be kept in {file} ({reason})", **words),
            msg("Free some space, or set PLAYGROUND_HOME to another folder."),
        )


def journal_path(home: Path, *about: object) -> Path:
    """Where the answers of one evaluation are kept: the same model, tasks and settings have the same file."""
    digest = hashlib.sha256(json.dumps(about, default=str).encode()).hexdigest()[:24]
    return home / "evaluations" / f"{digest}.jsonl"


def _as_tuple(answer: Any) -> Any:
    return tuple(answer) if isinstance(answer, list) else answer
