"""What the commands print and where: one JSON document on stdout, or text for people; everything else on stderr.

It knows streams, errors and exit codes; it does not know models. Text for people is in the language of the environment
(``translations.for_terminal``); a JSON document is in English and has the templates and values beside the sentences.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playground.errors import ConfigError, PlaygroundError, UsageError
from playground.messages import foreign, msg, render, spelt_out
from playground.translations import for_terminal

if TYPE_CHECKING:
    from rich.console import Console

OK, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130
MODELS = "_working_on"
"""An error's attribute: what was worked on when it came."""
PLAIN_WIDTH = 160
"""Columns of a table that goes into a file or a pipe."""


def print_json(document: Any) -> None:
    """The one document of ``--json``. ASCII escapes keep it whole in every locale."""
    from playground.records import plain_json

    sys.stdout.write(json.dumps(plain_json(document), indent=2, allow_nan=False) + "\n")
    sys.stdout.flush()


def print_file(text: str) -> None:
    """A file as it stands, for a pipe; on a terminal without what would change it."""
    sys.stdout.write(clean(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def stdout() -> Console:
    return _console(stderr=False)


def stderr() -> Console:
    return _console(stderr=True)


def _console(stderr: bool) -> Console:
    from playground.cli.terminal import SafeConsole

    console = SafeConsole(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not console.is_terminal and console.width < PLAIN_WIDTH:
        console.width = PLAIN_WIDTH
    return console


def say(text: str) -> str:
    """A message in the reader's language; any other text as it is."""
    return render(text, for_terminal(os.environ))


def clean(text: str) -> str:
    """A text, safe on a terminal (``spelt_out``). A message is said in the reader's language."""
    return spelt_out(say(text).replace("\r\n", "\n"))


def exit_code(error: BaseException) -> int:
    return WRONG if isinstance(error, (UsageError, ConfigError)) else FAILED


def error_json(error: PlaygroundError) -> dict[str, Any]:
    """An error for programs: both parts in English, and under ``messages`` as template and values."""
    parts = {"what": error.what, "next_step": error.next_step}
    return {
        "type": type(error).__name__,
        "message": str(error.what),
        "next_step": str(error.next_step),
        "messages": {name: part.to_json() for name, part in parts.items() if part},
    }


def report(error: PlaygroundError, as_json: bool) -> int:
    """Tell the reader about an expected error; returns the exit code."""
    if as_json:
        print_json({"error": error_json(error)})
    print(clean(msg("Error: {error}", error=error.message)), file=sys.stderr)
    return exit_code(error)


def report_interrupt(as_json: bool) -> None:
    if as_json:
        print_json({"error": {"type": "Interrupted", "message": "Stopped by Ctrl-C", "next_step": ""}})
    print(clean(msg("Stopped.")), file=sys.stderr)


def report_unexpected(error: Exception, as_json: bool, home: Path | None) -> int:
    """An error nobody foresaw: its traceback goes into a file, the reader gets one line that names it."""
    log = _write_log(error, home)
    models = getattr(error, MODELS, [])
    why = msg("{kind}: {error}", kind=type(error).__name__, error=foreign(str(error)))
    if models:
        what = msg("The command failed unexpectedly while working on {models}: {why}", models=models, why=why)
    else:
        what = msg("The command failed unexpectedly: {why}", why=why)
    return report(PlaygroundError(what, msg("The details are in {file}.", file=str(log))), as_json)


@contextmanager
def working_on(model: object) -> Iterator[None]:
    """Unexpected errors from inside name the model."""
    try:
        yield
    except Exception as error:
        error.add_note(f"while working on {model}")
        vars(error).setdefault(MODELS, []).append(str(model))
        raise


def _write_log(error: Exception, home: Path | None) -> Path:
    content = "".join(traceback.format_exception(error))
    name = time.strftime("command-%Y%m%d-%H%M%S.log")
    if home is not None:
        try:
            (home / "logs").mkdir(parents=True, exist_ok=True)
            path = home / "logs" / name
            path.write_text(content, encoding="utf-8", errors="backslashreplace")
            return path
        except OSError:
            pass  # a full or read-only home: the log goes to the system's temporary folder
    with tempfile.NamedTemporaryFile(
        "w", prefix="playground-", suffix=".log", delete=False, encoding="utf-8", errors="backslashreplace"
    ) as file:
        file.write(content)
    return Path(file.name)


def tenth(progress: float | None) -> int:
    """How many tenths of a step are done: what a log is told of a share that changes all the time."""
    return 0 if progress is None else int(progress * 10 + 1e-9)


class StepPrinter:
    """Progress of a preparation on stderr: one line redrawn on a terminal; elsewhere a line for each step and tenth."""

    REDRAW_EVERY_S = 0.1

    def __init__(self, title: str) -> None:
        self._title = clean(title)
        self._terminal = sys.stderr.isatty()
        self._step = ""
        self._tenth = 0
        self._printed_at = 0.0

    def __call__(self, step: str, progress: float | None) -> None:
        now = time.monotonic()
        share = "" if progress is None else f" {progress:4.0%}"
        line = f"{self._title}: {clean(step)}{share}"
        if self._terminal:
            if step != self._step or now - self._printed_at > self.REDRAW_EVERY_S:
                print(f"\r\x1b[2K{line}", end="", file=sys.stderr, flush=True)
                self._printed_at = now
        elif step != self._step or tenth(progress) > self._tenth:
            print(line, file=sys.stderr, flush=True)
            self._tenth = tenth(progress)
        self._step = step

    def close(self) -> None:
        if self._terminal and self._step:
            print("\r\x1b[2K", end="", file=sys.stderr, flush=True)


@contextmanager
def steps(title: str) -> Iterator[StepPrinter]:
    """A ``Progress`` callback whose bar is wiped when the work is over."""
    printer = StepPrinter(title)
    try:
        yield printer
    finally:
        printer.close()
