"""What was sent becomes a body that was checked: every parameter is used, or refused by its name.

It knows OpenAI's parameters, also those that nothing here can do. It does not know models.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from playground.api.errors import ApiError, wrong
from playground.api.schema import ChatMessage, Sampling
from playground.config.settings import Settings
from playground.messages import Translatable, foreign, msg
from playground.records import Message

Body = TypeVar("Body", bound=BaseModel)

UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("tools", "functions", "logit_bias", "metadata", "prediction", "audio", "web_search_options"), ()),
    **dict.fromkeys(("function_call", "tool_choice"), ("none", "auto")),
    **dict.fromkeys(("frequency_penalty", "presence_penalty"), (0,)),
    "parallel_tool_calls": (True, False),
    "modalities": (["text"],),
    "service_tier": ("auto", "default"),
    "reasoning_effort": ("none",),
    "verbosity": (),
    "best_of": (1,),
    "suffix": ("",),
    "top_logprobs": (0,),
    "add_generation_prompt": (True,),
    **dict.fromkeys(("prompt_cache_key", "safety_identifier", "n_predict", "grammar", "json_schema", "mirostat"), ()),
    **dict.fromkeys(("guided_json", "guided_regex", "guided_choice", "guided_grammar", "chat_template_kwargs"), ()),
    **dict.fromkeys(("ignore_eos", "store"), (False,)),
}
"""Parameters of OpenAI and its kin that nothing here can do, with the values that ask for nothing: those are let pass,
as are null and what is empty. Which of them a body has all the same, its schema says.
"""
MAX_SHOWN = 80


def read(body: type[Body], sent: Mapping[str, Any]) -> Body:
    """The body, checked.

    Raises:
        ApiError: A parameter is wrong, missing, unknown, or nothing that can be done here.
    """
    known = {field.alias or name for name, field in body.model_fields.items()}
    given = {name: value for name, value in sent.items() if name in known and value is not None}
    for name, value in sent.items():
        if name not in known:
            _refuse(name, value, known)
    try:
        return body.model_validate(given)
    except ValidationError as error:
        raise _told(error) from None  # pydantic's own repeats what was sent


def _refuse(name: str, value: Any, known: set[str]) -> None:
    """Refuse a parameter that asks for what can't be done, or one that nobody knows."""
    if name in UNSUPPORTED:
        empty = value is None or (isinstance(value, (list, dict, str)) and not value)
        if not empty and value not in UNSUPPORTED[name]:
            what = msg("{name} is not supported here", name=name)
            raise wrong(name, what, msg("Leave it out."), code="unsupported_parameter")
        return
    shown = _shown(name)
    close = difflib.get_close_matches(name[:MAX_SHOWN], known, n=1, cutoff=0.6)
    step = msg("Did you mean {name}?", name=close[0]) if close else msg("Leave it out.")
    raise wrong(shown, msg("Unknown parameter {name}", name=shown), step, code="unknown_parameter")


def _told(error: ValidationError) -> ApiError:
    """The first mistake that pydantic found; of a choice of types, the try that came furthest says most."""
    details = error.errors(include_url=False, include_context=False)
    furthest = max(reversed(details), key=lambda each: [step for step in each["loc"] if isinstance(step, int)])
    detail = next((each for each in details if each["type"] in ("extra_forbidden", "missing")), furthest)
    place = _place(detail["loc"])
    if detail["type"] == "missing":
        what = msg("{name} is missing", name=place)
        return wrong(place, what, msg("Send it."), code="missing_required_parameter")
    if detail["type"] == "extra_forbidden":
        return wrong(place, msg("{name} is not supported here", name=place), msg("Leave it out."))
    reason = foreign(detail["msg"])
    shown = _shown(detail["input"])
    return wrong(place, msg("{name} is {value}", name=place, value=shown), msg("{reason}.", reason=reason))


def _place(loc: tuple[int | str, ...]) -> str:
    """``messages[0].content``: without what pydantic adds to tell the types of a choice apart."""
    place = ""
    for step in loc:
        if isinstance(step, int):
            place += f"[{step}]"
        elif step.isidentifier() and step not in ("str", "TextPart"):
            place += f".{step}" if place else step
    return place


def _shown(value: Any) -> str:
    try:
        text = value if isinstance(value, str) else repr(value)
    except (ValueError, RecursionError):
        text = type(value).__name__
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def conversation(messages: list[ChatMessage]) -> tuple[Message, ...]:
    """Turns as a request has them: ``developer`` is today's name of ``system``, parts of a text are one text."""
    return tuple(Message("system" if each.role == "developer" else each.role, _text(each.content)) for each in messages)


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)


def sampling(body: Sampling, *, strangers: bool) -> dict[str, Any]:
    """The fields of a ``Request`` that both kinds of body have.

    Raises:
        ApiError: Two of them contradict each other.
    """
    if body.stream_options is not None and not body.stream:
        raise wrong("stream_options", msg("stream_options without stream"), msg("Leave one out, or send the other."))
    if body.cache_prompt and strangers:
        what = msg("cache_prompt is off where strangers share a model: its time tells what others asked")
        raise wrong("cache_prompt", what, msg("Leave it out."))
    return {
        "temperature": body.temperature,
        "top_p": body.top_p,
        "top_k": body.top_k,
        "min_p": body.min_p,
        "repetition_penalty": body.repetition_penalty,
        "seed": body.seed,
        "stop": (body.stop,) if isinstance(body.stop, str) else tuple(body.stop),
        "min_new_tokens": body.min_tokens,
        "reuse": body.cache_prompt,
        "json_schema": _json_schema(body),
    }


def _json_schema(body: Sampling) -> str:
    wanted = body.response_format
    if wanted is None or wanted.type == "text":
        return ""
    if wanted.type == "json_object":
        return "{}"
    if wanted.json_schema is None:
        place = "response_format.json_schema"
        raise wrong(place, msg("{name} is missing", name=place), msg("Send it."))
    return json.dumps(wanted.json_schema.json_schema_)


def length(wanted: int, least: int, settings: Settings, param: str = "max_tokens") -> int:
    """How long an answer may be.

    Raises:
        ApiError: Longer than this server allows, or shorter than it has to be.
    """
    most = settings.limits.max_new_tokens
    if wanted > most:
        what = msg("{name} is {value}", name=param, value=_shown(wanted))
        raise wrong(param, what, msg("This server allows {most:,} at most (spaces.yaml sets the limits).", most=most))
    if least > wanted:
        what = msg("min_tokens is {least}, and {name} is {most}", least=_shown(least), name=param, most=wanted)
        raise wrong("min_tokens", what, msg("Send a smaller one, or a larger {name}.", name=param))
    return wanted


def with_seed(seed: int | None, choice: int) -> int | None:
    """Of one of several choices: each draws otherwise, and all of them alike when they are asked for again."""
    return None if seed is None else (seed + choice) % 2**63


def nothing(param: str, what: Translatable) -> ApiError:
    """A body that asks for nothing."""
    return wrong(param, what, msg("Send something to work on."))
