"""How servers write their log: as text, or one JSON object a line for whoever collects them.

A line of JSON never holds what people wrote or a model said: of our own lines it has the constant text and the fields
of ``FIELDS``, of errors the class and the places, without their words, and of other packages' lines the level and the
place alone. The text form is for people at a terminal and has everything.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TextIO

OURS = "playground"
FIELDS = ("run", "kind", "model", "models", "outcome", "seconds", "tokens", "bytes", "limit", "pid", "port")
"""What a line of ours may carry: ids that we made, names of models, words of the code, numbers."""
FRAMES = 12
"""Of a traceback, the innermost."""


class JsonFormatter(logging.Formatter):
    """A record as a line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "at": f"{stamp}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        if record.name.partition(".")[0] == OURS and isinstance(record.msg, str):
            line["message"] = record.msg  # the template: what would fill it in may be anybody's words
            line |= {name: record.__dict__[name] for name in FIELDS if name in record.__dict__}
        else:
            line["place"] = f"{record.module}:{record.lineno}"
        if record.exc_info and record.exc_info[0]:
            line |= _error(record.exc_info[0], record.exc_info[2])
        return json.dumps(line, default=str)


def _error(kind: type[BaseException], where: TracebackType | None) -> Mapping[str, Any]:
    frames = traceback.extract_tb(where)[-FRAMES:]
    return {"error": kind.__name__, "frames": [f"{each.filename}:{each.lineno} {each.name}" for each in frames]}


class _Quiet:
    """In the place of stderr, where other packages print what they like: it is told of and not repeated. A traceback is
    told once, as an error.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._log = logging.getLogger("stderr")
        self._told: BaseException | None = None

    def write(self, text: str) -> int:
        error = sys.exception()
        if error is None or error is not self._told:
            self._told = error
            if error is not None:
                self._log.error("printed", exc_info=error)
            elif text.strip():
                self._log.warning("printed")
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def written(form: str) -> Iterator[None]:
    """Until the block ends, write the log in this form.

    Args:
        form: ``text`` changes nothing: warnings go to stderr. ``json``: every record of ours from ``INFO`` on, and of
            others from ``WARNING`` on, goes to stderr as a line of JSON.
    """
    if form != "json":
        yield
        return
    stream, root, ours = sys.stderr, logging.getLogger(), logging.getLogger(OURS)
    before, levels = root.handlers[:], (root.level, ours.level)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    ours.setLevel(logging.INFO)
    logging.captureWarnings(capture=True)
    sys.stderr = _Quiet(stream)
    try:
        yield
    finally:
        sys.stderr = stream
        logging.captureWarnings(capture=False)
        root.handlers[:] = before
        root.setLevel(levels[0])
        ours.setLevel(levels[1])
