"""The columns of a comparison to come: which models, in which order, and what each is asked otherwise than the rest.

A choice is a variant's name, with a number behind it where the same one stands there again. ``changes`` are the
columns' own parameters by choice, as JSON that comes from a browser: nothing in it is believed. Knows no components.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from playground.errors import PlaygroundError, UsageError
from playground.experiments.defaults import with_defaults
from playground.messages import Translatable, msg, sentences
from playground.records import Column, Comparison, Request, Variant
from playground.ui import draft, offered

if TYPE_CHECKING:
    from playground.service import Playground

TWICE = re.compile(r"^(?P<variant>.*) \((?P<time>[2-9])\)$")
"""A variant that is chosen again, with parameters of its own: a list holds each name once."""
OWN: dict[str, type] = {
    "system": str,
    "max_new_tokens": int,
    "temperature": float,
    "top_k": int,
    "top_p": float,
    "min_p": float,
    "repetition_penalty": float,
    "seed": int,
}
"""The parameters a column may have of its own."""

Changes = dict[str, dict[str, Any]]


def variant_of(text: Any) -> Any:
    """The variant's name in a choice."""
    match = TWICE.match(text) if isinstance(text, str) else None
    return match["variant"] if match else text


def time_of(text: Any) -> int:
    """The how many-th of that variant it is, from 1."""
    match = TWICE.match(text) if isinstance(text, str) else None
    return int(match["time"]) if match else 1


def another(choices: Sequence[str], variant: str) -> str:
    """A name for this variant that is not chosen yet.

    Raises:
        UsageError: There are nine of it.
    """
    for name in (variant, *(f"{variant} ({time})" for time in range(2, 10))):
        if name not in choices:
            return name
    raise UsageError(msg("{model} stands there nine times", model=variant), msg("Remove one of its columns."))


def read_changes(text: Any) -> Changes:
    """The columns' own parameters in what a browser sent; what is none is left out."""
    try:
        read = json.loads(text) if isinstance(text, str) and text else {}
    except (ValueError, RecursionError):
        return {}
    if not isinstance(read, dict):
        return {}
    return {name: own for name, given in list(read.items())[:50] if (own := _own(given))}


def _own(given: Any) -> dict[str, Any]:
    if not isinstance(given, dict):
        return {}
    own: dict[str, Any] = {}
    for name, kind in OWN.items():
        value = given.get(name)
        if name == "seed" and name in given and value is None:
            own[name] = None
        elif draft.is_a(value, kind):
            own[name] = float(value) if kind is float and value is not None else value
    return own


def columns(
    playground: Playground, choices: Sequence[Any], changes: Changes, shared: Request
) -> tuple[list[Column], Translatable]:
    """A column a choice, and what is to be said of those that name nothing: they are left out, the others run.

    Raises:
        UsageError: None of them names a model.
    """
    found: list[Column] = []
    problems: list[PlaygroundError] = []
    for choice in offered.names([choices]):
        try:
            variant = offered.variant(playground, variant_of(choice))
        except PlaygroundError as error:
            problems.append(error)
            continue
        asked = replace(proposed(playground, variant, shared), **changes.get(str(choice), {}))
        found.append(Column(variant, None if asked == shared else asked))
    if not found and problems:
        raise problems[0]
    if not found:
        raise UsageError(msg("No model is chosen"), msg("Choose at least one above."))
    return found, sentences(*(problem.message for problem in problems))


def proposed(playground: Playground, variant: Variant, shared: Request) -> Request:
    """What a model is asked that has no parameters of its own: what all are, but for what suits its kind."""
    return with_defaults(shared, [(variant, playground.resolve(str(variant))[0].kind)])[0].request or shared


def choices_of(stored: Comparison) -> list[str]:
    """The choice that each column of a comparison is."""
    names: list[str] = []
    for run in stored.runs:
        names.append(another(names, str(run.variant)))
    return names


def changes_of(stored: Comparison) -> Changes:
    """What each of its columns was asked otherwise."""
    made: Changes = {}
    for place, choice in enumerate(choices_of(stored)):
        asked = stored.asked(place)
        own = {name: getattr(asked, name) for name in OWN if getattr(asked, name) != getattr(stored.request, name)}
        if own:
            made[choice] = own
    return made


def written(changes: Mapping[str, Mapping[str, Any]]) -> str:
    """As ``read_changes`` reads it."""
    return json.dumps({name: dict(own) for name, own in changes.items() if own}) if changes else ""


def named(variants: Sequence[Variant], place: int) -> str:
    """The choice that stands at a place."""
    names: list[str] = []
    for variant in variants[: place + 1]:
        names.append(another(names, str(variant)))
    return names[place]
