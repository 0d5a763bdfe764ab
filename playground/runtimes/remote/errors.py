"""What went wrong with a server, in words: the model, the host, the status, the server's own words, the next step.

A server may repeat the key it was given, so its words pass ``_quoted``, and of a refused key they are left out.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from playground.config.endpoints import host
from playground.errors import ContextOverflow, RunError
from playground.records import Remote
from playground.runtimes.remote.client import Broken, Garbage, Refused, Silent, Unreachable

KNOWN = (Refused, Unreachable, Silent, Broken, Garbage)
QUOTED = 200
"""Characters of a server's message that a reader gets to see."""
OVERFLOW = ("context_length_exceeded", "exceed_context_size_error")
"""OpenAI's and vLLM's word for it, and llama.cpp's."""


def explain(
    error: Exception,
    remote: Remote,
    key: str,
    *,
    pieces: int = 0,
    listed: tuple[str, ...] = (),
    extra: tuple[str, ...] = (),
) -> RunError:
    """The error for a reader.

    Args:
        error: One of ``KNOWN``.
        key: Taken out of whatever is quoted.
        pieces: How many had come before it.
        listed: Models the server says it has.
        extra: Parameters that were sent and are not part of OpenAI's protocol.
    """
    at = f"remote:{remote.name}: {host(remote)}"
    match error:
        case Refused():
            return _refused(error, remote, key, listed, extra)
        case Unreachable():
            return RunError(
                f"{at} can't be reached ({_quoted(str(error), key)})", "Check that the server runs and its url."
            )
        case Silent(begun=True):
            return RunError(
                f"{at} fell silent inside its answer, for {error.seconds:g} s after {pieces} pieces", "Try again."
            )
        case Silent():
            return RunError(
                f"{at} took the request and sent nothing for {error.seconds:g} s",
                "Try again; a server that starts models on demand needs a larger timeout_s.",
            )
        case Broken() if error.said:
            return RunError(
                f"{at} failed after {pieces} pieces: {_quoted(error.said, key)}", "Look at the server's log."
            )
        case Broken() if not pieces:
            return RunError(
                f"{at} closed the connection without an answer", "Check its url, or look at the server's log."
            )
        case Broken():
            return RunError(
                f"{at} broke off its answer after {pieces} pieces", "Try again, or look at the server's log."
            )
        case _:
            return RunError(
                f"{at} sent something that is no part of an OpenAI-compatible stream",
                f"Check that {remote.url} is its OpenAI-compatible address; it often ends in /v1.",
            )


def _refused(error: Refused, remote: Remote, key: str, listed: tuple[str, ...], extra: tuple[str, ...]) -> RunError:
    status = error.status
    at = f"remote:{remote.name}: {host(remote)}"
    said = f": {_quoted(error.said, key)}" if error.said else ""
    if status == 200:
        return RunError(f"{at} answered with {error.content_type}, not with a stream{said}", "Check its url and model.")
    if status in (401, 403):
        step = (
            f"Check the key in {remote.key_env}." if remote.key_env else "It wants a key: name its variable in key_env."
        )
        return RunError(f"{at} refused the key (HTTP {status})", step)
    if 300 <= status < 400:
        target = urlsplit(error.location).hostname or "another address"
        return RunError(
            f"{at} redirects to {_quoted(target, key)} (HTTP {status}); prompt and key are not sent on",
            "Put the final address into url.",
        )
    if any(code in error.code for code in OVERFLOW):
        return ContextOverflow(f"{at} has no room for prompt and answer (HTTP {status}){said}", "Shorten one of them.")
    return RunError(f"{at} {_status_words(error, remote)} (HTTP {status}){said}", _step(status, key, listed, extra))


def _status_words(error: Refused, remote: Remote) -> str:
    if error.status == 404:
        return f"knows no model '{remote.model}', or not this address"
    if error.status in (429, 503):
        asked = f"; it asks to wait {error.retry_after:.0f} s" if error.retry_after else ""
        return f"has no room for the request now{asked}"
    return "refused the request" if error.status < 500 else "failed"


def _step(status: int, key: str, listed: tuple[str, ...], extra: tuple[str, ...]) -> str:
    if status == 404 and listed:
        return f"It offers: {_quoted(', '.join(listed[:8]), key)}."
    if status == 404:
        return "Check url and model."
    if status in (429, 503):
        return "Wait a while, or choose another model."
    if status in (400, 422) and extra:
        them = "it" if len(extra) == 1 else "them"
        return f"Not every server knows {' and '.join(extra)}: set {them} back to the default."
    return "Look at the server's log." if status >= 500 else "Check model and parameters."


def _quoted(words: str, key: str) -> str:
    """On one line, printable, of bounded length, and without the key."""
    if key:
        words = re.sub(re.escape(key), "***", words, flags=re.IGNORECASE)  # host names come in small letters
    words = "".join(letter if letter.isprintable() else " " for letter in words)
    words = " ".join(words.split()).rstrip(".")
    return words if len(words) <= QUOTED else words[:QUOTED] + "…"
