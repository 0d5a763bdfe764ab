"""What went wrong with a server, in words: the model, the host, the status, the server's own words, the next step.

A server may repeat the key it was given, so its words pass ``_quoted``, and of a refused key they are left out.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from playground.config.endpoints import host
from playground.errors import ContextOverflow, RunError, Unavailable, all_of, shortened
from playground.messages import Translatable, msg, plural
from playground.records import Remote
from playground.runtimes.remote.client import Broken, Garbage, Refused, Silent, Unreachable

KNOWN = (Refused, Unreachable, Silent, Broken, Garbage)
QUOTED = 200
"""Characters of a server's message that a reader gets to see."""
PASSING = (408, 429)
"""Refusals below 500 that another server, or the same one later, may not repeat."""
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
    server = _server(remote)
    match error:
        case Refused():
            return _refused(error, remote, key, listed, extra)
        case Unreachable():
            reason = error.reason if error.reason.template else _quoted(error.reason, key)
            return Unavailable(
                msg("{server} can't be reached ({reason})", server=server, reason=reason),
                msg("Check that the server runs and its url."),
            )
        case Silent():
            return _silent(error, server, pieces)
        case Broken():
            return _broken(error, server, key, pieces)
        case _:
            return RunError(
                msg("{server} sent something that is no part of an OpenAI-compatible stream", server=server),
                msg("Check that {url} is its OpenAI-compatible address; it often ends in /v1.", url=remote.url),
            )


def _server(remote: Remote) -> str:
    return f"remote:{remote.name}: {host(remote)}"


def _silent(error: Silent, server: str, pieces: int) -> RunError:
    if error.begun:
        what = plural(
            "{server} fell silent inside its answer, for {seconds:g} s after {n} piece",
            "{server} fell silent inside its answer, for {seconds:g} s after {n} pieces",
            pieces,
            server=server,
            seconds=error.seconds,
        )
        return Unavailable(what, msg("Try again."))
    return Unavailable(
        msg("{server} took the request and sent nothing for {seconds:g} s", server=server, seconds=error.seconds),
        msg("Try again; a server that starts models on demand needs a larger timeout_s."),
    )


def _broken(error: Broken, server: str, key: str, pieces: int) -> RunError:
    if error.said:
        what = plural(
            "{server} failed after {n} piece: {said}",
            "{server} failed after {n} pieces: {said}",
            pieces,
            server=server,
            said=_quoted(error.said, key),
        )
        return Unavailable(what, msg("Look at the server's log."))
    if not pieces:
        return Unavailable(
            msg("{server} closed the connection without an answer", server=server),
            msg("Check its url, or look at the server's log."),
        )
    what = plural(
        "{server} broke off its answer after {n} piece",
        "{server} broke off its answer after {n} pieces",
        pieces,
        server=server,
    )
    return Unavailable(what, msg("Try again, or look at the server's log."))


def _refused(error: Refused, remote: Remote, key: str, listed: tuple[str, ...], extra: tuple[str, ...]) -> RunError:
    at: dict[str, Any] = {"server": _server(remote), "status": error.status}

    def told(what: Translatable) -> Translatable:
        return msg("{what}: {said}", what=what, said=_quoted(error.said, key)) if error.said else what

    if error.status == 200:
        what = msg("{server} answered with {kind}, not with a stream", server=at["server"], kind=error.content_type)
        return RunError(told(what), msg("Check its url and model."))
    if error.status in (401, 403):
        step = msg("It wants a key: name its variable in key_env.")
        if remote.key_env:
            step = msg("Check the key in {variable}.", variable=remote.key_env)
        return Unavailable(msg("{server} refused the key (HTTP {status})", **at), step, lasting=True)
    if 300 <= error.status < 400:
        named = urlsplit(error.location).hostname
        target = _quoted(named, key) if named else msg("another address")
        return RunError(
            msg("{server} redirects to {target} (HTTP {status}); prompt and key are not sent on", target=target, **at),
            msg("Put the final address into url."),
        )
    if any(code in error.code for code in OVERFLOW):
        full = msg("{server} has no room for prompt and answer (HTTP {status})", **at)
        return ContextOverflow(told(full), msg("Shorten one of them."))
    what, step = told(_status(error, remote, at)), _step(error.status, key, listed, extra)
    if error.status == 404:
        return Unavailable(what, step, lasting=True)
    return Unavailable(what, step) if error.status in PASSING or error.status >= 500 else RunError(what, step)


def _status(error: Refused, remote: Remote, at: dict[str, Any]) -> Translatable:
    if error.status == 404:
        return msg("{server} knows no model '{model}', or not this address (HTTP {status})", model=remote.model, **at)
    if error.status in (429, 503) and error.retry_after:
        return msg(
            "{server} has no room for the request now; it asks to wait {seconds:.0f} s (HTTP {status})",
            seconds=error.retry_after,
            **at,
        )
    if error.status in (429, 503):
        return msg("{server} has no room for the request now (HTTP {status})", **at)
    if error.status < 500:
        return msg("{server} refused the request (HTTP {status})", **at)
    return msg("{server} failed (HTTP {status})", **at)


def _step(status: int, key: str, listed: tuple[str, ...], extra: tuple[str, ...]) -> Translatable:
    if status == 404 and listed:
        return msg("It offers: {models}.", models=_quoted(", ".join(listed[:8]), key))
    if status == 404:
        return msg("Check url and model.")
    if status in (429, 503):
        return msg("Wait a while, or choose another model.")
    if status in (400, 422) and extra:
        return plural(
            "Not every server knows {names}: set it back to the default.",
            "Not every server knows {names}: set them back to the default.",
            len(extra),
            names=all_of(extra),
        )
    return msg("Look at the server's log.") if status >= 500 else msg("Check model and parameters.")


def _quoted(words: str, key: str) -> str:
    """On one line, printable, of bounded length, and without the key."""
    if key:
        words = re.sub(re.escape(key), "***", words, flags=re.IGNORECASE)  # host names come in small letters
    words = "".join(letter if letter.isprintable() else " " for letter in words)
    words = " ".join(words.split()).rstrip(".")
    return shortened(words, QUOTED)
