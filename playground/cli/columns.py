"""``-m MODEL?temperature=0.7&seed=1``: a model with parameters of its own, as it is written on a command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from playground.errors import UsageError
from playground.messages import msg

if TYPE_CHECKING:
    from playground.records import Column, Request, Variant
    from playground.service import Playground

WHOLE = ("max_new_tokens", "min_new_tokens", "top_k", "seed")
NUMBERS = ("temperature", "top_p", "min_p", "repetition_penalty")
TEXTS = ("system", "stop")


def columns(playground: Playground, models: list[str], request: Request) -> list[Variant | Column]:
    """What the ``-m`` of a command line name, each with its own request where it has parameters of its own.

    Raises:
        UsageError: A model or a parameter is wrong.
    """
    from dataclasses import replace

    from playground.records import Column

    found: list[Variant | Column] = []
    for text in models:
        model, own = split(text)
        (variant,) = playground.variants([model])
        found.append(Column(variant, replace(request, **own)) if own else variant)
    return found


def split(text: str) -> tuple[str, dict[str, Any]]:
    """The model and its own parameters. A source of one's own (``path:…``, ``fake:…``) may hold a question mark: what
    follows the last one counts only where it begins with the name of a parameter.

    Raises:
        UsageError: A parameter is wrong.
    """
    model, mark, tail = text.rpartition("?")
    known = (*WHOLE, *NUMBERS, *TEXTS)
    if not mark or (":" in model and tail.partition("=")[0] not in known):
        return text, {}
    own: dict[str, Any] = {}
    for name, value in parse_qsl(tail, keep_blank_values=True) or [(tail, "")]:
        if name not in known:
            raise UsageError(
                msg("{model} has no parameter '{name}'", model=model, name=name),
                msg("Its own parameters are written MODEL?NAME=VALUE&…, with these names: {names}.", names=known),
            )
        own[name] = (*own.get(name, ()), value) if name == "stop" else _value(name, value)
    return model, own


def _value(name: str, value: str) -> Any:
    if name in TEXTS:
        return value
    try:
        return int(value) if name in WHOLE else float(value)
    except ValueError:
        raise UsageError(msg("{name} is '{value}'", name=name, value=value), msg("It must be a number.")) from None
