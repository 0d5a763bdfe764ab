"""A request is checked once, before any work: the one place that knows which values a ``Request`` may hold.

The command line, the web app and the comparison call ``check_request``; it raises on the first problem, names the
field and the range allowed. It does not know models: whether a prompt fits a context is ``prompting``'s to say.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from playground.config.settings import Limits
from playground.errors import BadRequest, UsageError
from playground.messages import NOTHING, Translatable, msg
from playground.records import Message, Request
from playground.runtimes.generation.schemas import check_schema
from playground.runtimes.generation.token_scores import MAX_TOP

MAX_SEED = 2**63 - 1
MAX_TOKEN_ID = 2**31 - 1
LIMITS = msg(" (spaces.yaml sets the limits)")
ROLES = ("system", "user", "assistant")
MAX_SHOWN = 80
"""Characters of a wrong value that a message repeats."""


def request_from(options: Mapping[str, Any]) -> Request:
    """The request that a command's or an endpoint's parameters describe; those that a request has no field for are left
    out. Call it with ``locals()`` before anything else is named.
    """
    given = {field.name: options[field.name] for field in fields(Request) if field.name in options}
    return Request(**{**given, "stop": tuple(given.get("stop") or ())})


def check_request(request: Request, limits: Limits) -> None:
    """Refuse what no model could answer, or nobody may ask here.

    Args:
        request: As it came from a form, a command or JSON; types are checked too.

    Raises:
        BadRequest: Naming the first field that is wrong and what it may be.
    """
    _check_texts(request, limits.max_prompt_chars)
    _check_whole("max_new_tokens", request.max_new_tokens, 1, limits.max_new_tokens, LIMITS)
    _check_whole("min_new_tokens", request.min_new_tokens, 0, request.max_new_tokens, msg(" (max_new_tokens)"))
    _check_number("temperature", request.temperature, 0.0, math.inf, msg("0 (greedy) or more"))
    _check_whole("top_k", request.top_k, 0, None)
    _check_number("top_p", request.top_p, 0.0, 1.0, msg("above 0 and at most 1"), open_below=True)
    _check_number("min_p", request.min_p, 0.0, 1.0, msg("between 0 and 1"))
    _check_number("repetition_penalty", request.repetition_penalty, 0.0, math.inf, msg("above 0"), open_below=True)
    if request.seed is not None:
        _check_whole("seed", request.seed, 0, MAX_SEED)
    _check_stop(request.stop, limits)
    _check_ids("answer_ids", request.answer_ids, limits.max_prompt_chars)
    _check_held(request)
    if not isinstance(request.reuse, bool):
        raise BadRequest(msg("reuse is {value}", value=_shown(request.reuse)), msg("It must be true or false."))


def check_search(text: str, limits: Limits) -> None:
    """Refuse to look for more than is read.

    Raises:
        BadRequest: It has more characters than there may be.
    """
    if len(text) > limits.max_search_chars:
        raise BadRequest(
            msg(
                "The search has {size:,} characters, {most:,} are allowed",
                size=len(text),
                most=limits.max_search_chars,
            ),
            msg("Shorten it{aside}.", aside=LIMITS),
        )


def _check_held(request: Request) -> None:
    if request.logprobs is not None:
        _check_whole("logprobs", request.logprobs, 0, MAX_TOP)
    if not request.json_schema:
        return
    _check_text("json_schema", request.json_schema)
    try:
        check_schema(request.json_schema)
    except UsageError as error:
        raise BadRequest(msg("json_schema: {reason}", reason=error.what), error.next_step) from error
    if request.min_new_tokens:
        raise BadRequest(
            msg("json_schema and min_new_tokens are both given"),
            msg("Give one of them: a complete JSON text can't be gone on with."),
        )


def _check_texts(request: Request, max_chars: int) -> None:
    if request.prompt and request.messages:
        raise BadRequest(msg("prompt and messages are both given"), msg("Give one of them."))
    _check_text("prompt", request.prompt)
    _check_text("system", request.system)
    for place, message in enumerate(request.messages):
        _check_message(place, message)
    _check_ids("prompt_ids", request.prompt_ids, max_chars)
    if request.prompt_ids and request.messages:
        raise BadRequest(msg("prompt_ids and messages are both given"), msg("Give one of them."))
    asked = request.prompt or "".join(message.content for message in request.messages if message.role == "user")
    if not asked.strip() and not request.prompt_ids:
        raise BadRequest(msg("The prompt is empty"), msg("Write something for the models to answer."))
    size = len(request.prompt) + len(request.system) + sum(len(message.content) for message in request.messages)
    if size > max_chars:
        raise BadRequest(
            msg("The prompt has {size:,} characters, {most:,} are allowed", size=size, most=max_chars),
            msg("Shorten it{aside}.", aside=LIMITS),
        )


def _check_message(place: int, message: Message) -> None:
    name = f"messages[{place}]"
    if message.role not in ROLES:
        raise BadRequest(
            msg("{field} has the role {role}", field=name, role=_shown(message.role)),
            msg("Roles are {roles}.", roles=ROLES),
        )
    if message.role == "system" and place > 0:
        raise BadRequest(msg("{field} is a system message", field=name), msg("Only the first message may be one."))
    _check_text(name, message.content)


def _check_text(name: str, text: Any) -> None:
    if not isinstance(text, str):
        raise BadRequest(
            msg("{field} is {kind}, not text", field=name, kind=type(text).__name__), msg("Send a string.")
        )
    nul = text.find("\0")
    if nul >= 0:
        raise BadRequest(
            msg("{field} holds a NUL character at position {place}", field=name, place=nul), msg("Take it out.")
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        code = f"{ord(text[error.start]):04X}"
        raise BadRequest(
            msg(
                "{field} holds half a character (lone surrogate U+{code}) at position {place}",
                field=name,
                code=code,
                place=error.start,
            ),
            msg("Take it out or paste the text again."),
        ) from None


def _check_whole(name: str, value: Any, least: int, most: int | None, aside: Translatable = NOTHING) -> None:
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if not is_whole or value < least or (most is not None and value > most):
        allowed = msg("It must be a whole number of at least {least}{aside}.", least=least, aside=aside)
        if most is not None:
            allowed = msg(
                "It must be a whole number from {least} to {most:,}{aside}.", least=least, most=most, aside=aside
            )
        raise BadRequest(msg("{field} is {value}", field=name, value=_shown(value)), allowed)


def _check_number(
    name: str, value: Any, least: float, most: float, allowed: Translatable, *, open_below: bool = False
) -> None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    # Not math.isfinite, which raises for an integer that is beyond every float.
    finite = is_number and abs(value) <= sys.float_info.max
    fits = finite and least <= value <= most and not (open_below and value == least)
    if not fits:
        raise BadRequest(
            msg("{field} is {value}", field=name, value=_shown(value)),
            msg("It must be a number {allowed}.", allowed=allowed),
        )


def _shown(value: Any) -> str:
    """A wrong value as a message repeats it: cut, and with no more digits than Python writes."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        text = type(value).__name__
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def _check_ids(name: str, ids: Any, most: int) -> None:
    """Whether a model has such tokens, it says itself. There may be no more of them than characters of a prompt."""
    if not isinstance(ids, tuple):
        raise BadRequest(
            msg("{field} is {kind}, not a tuple of token ids", field=name, kind=type(ids).__name__),
            msg("Send a list of whole numbers."),
        )
    if len(ids) > most:
        raise BadRequest(
            msg("{field} has {n:,} tokens, {most:,} are allowed", field=name, n=len(ids), most=most),
            msg("Send fewer{aside}.", aside=LIMITS),
        )
    for place, token in enumerate(ids):
        _check_whole(f"{name}[{place}]", token, 0, MAX_TOKEN_ID)


def _check_stop(stop: Any, limits: Limits) -> None:
    if not isinstance(stop, tuple):
        raise BadRequest(
            msg("stop is {kind}, not a list of texts", kind=type(stop).__name__), msg("Send a list of strings.")
        )
    if len(stop) > limits.max_stop_strings:
        raise BadRequest(
            msg("{n} stop strings are given", n=len(stop)),
            msg("At most {most} are allowed.", most=limits.max_stop_strings),
        )
    for place, text in enumerate(stop):
        _check_text(f"stop[{place}]", text)
        if not text:
            raise BadRequest(
                msg("stop[{place}] is empty", place=place), msg("A stop string has at least one character.")
            )
        if len(text) > limits.max_stop_chars:
            raise BadRequest(
                msg("stop[{place}] has {size:,} characters", place=place, size=len(text)),
                msg("At most {most:,} are allowed{aside}.", most=limits.max_stop_chars, aside=LIMITS),
            )
