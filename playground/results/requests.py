"""What was asked, for a reader: the turns of a request, its parameters, and what a column's own differ in.

It knows requests; it does not know what came of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from playground.messages import Translatable, foreign, msg
from playground.records import Message, Request, Variant

PARAMETERS = (
    *("max_new_tokens", "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed", "stop"),
    *("min_new_tokens", "reuse"),
)
"""How a model is asked to answer, by the names of the API and of the files."""

TITLES = {
    "max_new_tokens": msg("Most tokens of the answer"),
    "temperature": msg("Temperature"),
    "top_k": msg("Top k"),
    "top_p": msg("Top p"),
    "min_p": msg("Min p"),
    "repetition_penalty": msg("Repetition penalty"),
    "seed": msg("Seed"),
    "stop": msg("Stop texts"),
    "min_new_tokens": msg("Fewest tokens of the answer"),
    "reuse": msg("May reuse what was read before"),
    "system": msg("System prompt"),
}
ROLES = {"system": msg("System"), "user": msg("User"), "assistant": msg("Model")}

_DEFAULTS = {each.name: each.default for each in fields(Request)}


def turns(request: Request) -> tuple[Message, ...]:
    """The conversation as the model is given it, the system prompt first where there is one."""
    system = (Message("system", request.system),) if request.system else ()
    return system + (request.messages or (Message("user", request.prompt),))


def changed(request: Request) -> dict[str, Any]:
    """The parameters that are not what a request has by itself, by name."""
    return {name: value for name in PARAMETERS if (value := getattr(request, name)) != _DEFAULTS[name]}


def value_words(value: Any) -> Translatable:
    """One parameter's value for a reader."""
    if value is None or value in ("", ()):
        return msg("none")
    if isinstance(value, bool):
        return msg("yes") if value else msg("no")
    if isinstance(value, (list, tuple)):
        return msg("{values}", values=[f"“{each}”" for each in value])
    return foreign(f"{value:,}" if isinstance(value, int) and value >= 10_000 else str(value))


def parameter_lines(request: Request) -> list[tuple[Translatable, Translatable]]:
    """The parameters as (label, value): the two that each answer depends on, and those that were changed."""
    shown = dict.fromkeys(("max_new_tokens", "temperature", *changed(request)))
    return [(TITLES[name], value_words(getattr(request, name))) for name in PARAMETERS if name in shown]


def own_words(shared: Request, own: Request | None) -> tuple[Translatable, ...]:
    """In what a column's own request differs from that of all; nothing where it has none."""
    if own is None:
        return ()
    found = [
        msg(
            "{parameter}: {own} (of all: {shared})",
            parameter=TITLES[name],
            own=value_words(getattr(own, name)),
            shared=value_words(getattr(shared, name)),
        )
        for name in (*PARAMETERS, "system")
        if getattr(own, name) != getattr(shared, name)
    ]
    if (own.messages or own.prompt) != (shared.messages or shared.prompt):
        found.append(msg("a conversation of its own, {n} turns", n=len(own.messages or (own.prompt,))))
    return tuple(found)


def headings(variants: Sequence[Variant]) -> list[str]:
    """A name for each column: the variant, with the column's number where it stands in several."""
    names = [str(variant) for variant in variants]
    return [f"{name} #{place}" if names.count(name) > 1 else name for place, name in enumerate(names, start=1)]
