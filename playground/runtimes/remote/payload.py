"""What stands in one event of an OpenAI-compatible server: a piece of an answer, a count, the words of an error.

Servers leave fields out, add some and write null where they like, so every field is looked at before it is used. It
knows no connection and no time.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any


@dataclass(frozen=True)
class Usage:
    """The server's own count. ``hidden``: of the completion, tokens that were never sent."""

    prompt: int
    completion: int
    hidden: int = 0


@dataclass(frozen=True)
class Piece:
    """One message of the stream, and when it came (``time.monotonic()``)."""

    at: float
    text: str = ""
    reasoning: str = ""
    finish: str = ""
    usage: Usage | None = None


def piece_of(at: float, message: Any) -> Piece:
    """What counts in one message of a stream; servers leave out, add and null whatever they like."""
    choices = _of(message, "choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    delta = _of(choice, "delta")
    text = _of(delta, "content") if delta is not None else _of(choice, "text")
    reasoning = _of(delta, "reasoning_content") or _of(delta, "reasoning")
    finish = _of(choice, "finish_reason")
    return Piece(
        at,
        text if isinstance(text, str) else "",
        reasoning if isinstance(reasoning, str) else "",
        finish if isinstance(finish, str) else "",
        _usage(_of(message, "usage")),
    )


def _usage(counts: Any) -> Usage | None:
    prompt, completion = _of(counts, "prompt_tokens"), _of(counts, "completion_tokens")
    if not _is_count(prompt) or not _is_count(completion):
        return None
    hidden = _of(_of(counts, "completion_tokens_details"), "reasoning_tokens")
    return Usage(prompt, completion, min(hidden, completion) if _is_count(hidden) else 0)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _of(thing: Any, name: str) -> Any:
    return thing.get(name) if isinstance(thing, dict) else None


def error_in(body: bytes) -> tuple[str, str]:
    """The server's words and its machine-readable reason, out of whatever it sent; empty where there are none."""
    text = body.decode("utf-8", "replace")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return ("" if "<" in text[:200] else text), ""
    error = document.get("error", document) if isinstance(document, dict) else document
    codes = [error.get(name) for name in ("code", "type")] if isinstance(error, dict) else []
    return words_of(error), " ".join(code for code in codes if isinstance(code, str))


def words_of(error: Any) -> str:
    """The words of an error: servers send text, ``{"message": …}``, ``{"detail": …}`` or something of their own."""
    if isinstance(error, dict):
        error = next((error[name] for name in ("message", "detail", "error", "msg") if error.get(name)), "")
    return error if isinstance(error, str) else json.dumps(error) if error else ""


def retry_after(value: str) -> float | None:
    """Seconds of a Retry-After header, a number or a date (RFC 9110, 10.2.3); None where it is neither."""
    value = value.strip()
    if re.fullmatch(r"\d{1,9}(\.\d{1,3})?", value):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
