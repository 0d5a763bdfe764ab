"""The models that a suite's file names, and how it asks each: promptfoo's ``providers`` by our models' names."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from playground.errors import Reason
from playground.messages import Translatable, msg
from playground.records import Variant
from playground.suites import prompts, schema, yaml_text
from playground.suites.spots import Limits, Spot, short
from playground.suites.suite import SuiteColumn

KEYS = ("id", "label", "config")
UNSUPPORTED = {
    "prompts": msg("Every model is asked every prompt; make two suites."),
    "transform": msg("Answers are judged as they are; remove it."),
    "delay": msg("Models are asked one after the other; remove it."),
    "env": msg("Set the environment of the command; remove it."),
    "inputs": msg("Remove it."),
}


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise Reason(msg("it must be a whole number of at least 0, not {value}", value=short(repr(value))))
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise Reason(msg("it must be a number, not {value}", value=short(repr(value))))
    return float(value)


def _seed(value: Any) -> int | None:
    return None if value is None else _whole(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise Reason(msg("it must be a text, not {value}", value=short(repr(value))))
    return value


def _stops(value: Any) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(each, str) and each for each in texts):
        raise Reason(msg("it must be a text or a list of texts, not {value}", value=short(repr(value))))
    return list(texts)


def response_format(value: Any) -> str:
    """The schema that ``response_format`` of OpenAI's API asks for, as JSON text; empty for free text.

    Raises:
        Reason: It is none.
    """
    if not isinstance(value, dict):
        raise Reason(msg("it must be a block with 'type'"))
    kind = value.get("type")
    if kind == "text":
        return ""
    if kind == "json_object":
        return "{}"
    if kind == "json_schema":
        block = value.get("json_schema")
        inner = block.get("schema") if isinstance(block, dict) else value.get("schema")
        if not isinstance(inner, dict):
            raise Reason(msg("json_schema needs a schema"))
        text = json.dumps(inner, ensure_ascii=False)
        schema.compiled(text)
        return text
    raise Reason(msg("its type '{kind}' is none of text, json_object, json_schema", kind=short(kind)))


PARAMETERS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "temperature": ("temperature", _number),
    "top_p": ("top_p", _number),
    "top_k": ("top_k", _whole),
    "min_p": ("min_p", _number),
    "max_tokens": ("max_new_tokens", _whole),
    "max_completion_tokens": ("max_new_tokens", _whole),
    "max_new_tokens": ("max_new_tokens", _whole),
    "min_new_tokens": ("min_new_tokens", _whole),
    "repetition_penalty": ("repetition_penalty", _number),
    "seed": ("seed", _seed),
    "stop": ("stop", _stops),
    "system": ("system", _text),
    "response_format": ("json_schema", response_format),
}
"""Parameters of ``config``: the field of ``Request`` that each is, and how its value is read."""


def read(value: Any, spot: Spot, limits: Limits) -> tuple[SuiteColumn, ...]:
    """The columns of the key ``providers``.

    Raises:
        UsageError: One of them is no model, or has parameters that there are not.
    """
    entries = value if isinstance(value, list) else [value]
    if len(entries) > limits.max_columns:
        raise spot.error(msg("there are more than {n} models", n=limits.max_columns), msg("Make several suites."))
    found = []
    for number, entry in enumerate(entries, 1):
        here = spot.at(msg("provider {n}", n=number), yaml_text.line_of(value, number - 1))
        found.append(_column(entry, here))
    if not found:
        raise spot.error(msg("there are no models"), msg("Name one, or leave the key out."))
    return tuple(found)


def _column(entry: Any, here: Spot) -> SuiteColumn:
    if isinstance(entry, str):
        return SuiteColumn(_model(entry, here), place=str(here.words))
    if not isinstance(entry, dict):
        raise here.error(msg("a model is a name, or a block with 'id'"), msg("Write MODEL or MODEL@RUNTIME-PRECISION."))
    if "id" not in entry and len(entry) == 1:  # promptfoo's short form: the name, and its block below it
        name, block = next(iter(entry.items()))
        if not isinstance(block, dict):
            raise here.error(msg("'{name}' must be a block", name=short(name)), msg("Write id and config."))
        entry = {"id": name, **block}
    for key in entry:
        if key in UNSUPPORTED:
            raise here.error(msg("'{key}' of a provider is not supported", key=key), UNSUPPORTED[key])
        if key not in KEYS:
            raise here.unknown(key, KEYS)
    if "id" not in entry:
        raise here.error(msg("the key 'id' is missing"), msg("Write the model's name."))
    label = prompts.text(entry.get("label", ""), here.key("label"))
    model = _model(prompts.text(entry["id"], here.key("id")), here.key("id"))
    return SuiteColumn(model, parameters(entry.get("config", {}), here.key("config")), label, str(here.words))


def _model(name: str, here: Spot) -> str:
    try:
        return str(Variant.parse(name)) if name.strip() else _nothing()
    except ValueError as error:
        said = error.args[0]
        raise here.error(
            said if isinstance(said, Translatable) else msg("this is no model"),
            msg("Write MODEL or MODEL@RUNTIME-PRECISION; `playground models` lists them."),
        ) from error


def _nothing() -> str:
    raise ValueError(msg("the name is empty"))


def parameters(config: Any, here: Spot) -> dict[str, Any]:
    """Fields of ``Request`` from a block of parameters."""
    if not isinstance(config, dict):
        raise here.error(msg("this must be a block of parameters"), msg("Write temperature: 0, for one."))
    found: dict[str, Any] = {}
    for key, value in config.items():
        place = here.key(key, yaml_text.line_of(config, key))
        if key not in PARAMETERS:
            raise here.unknown(key, PARAMETERS)
        field, read_value = PARAMETERS[key]
        if field in found:
            raise place.error(msg("'{key}' says again what stands above", key=key), msg("Remove one."))
        try:
            found[field] = read_value(value)
        except Reason as error:
            raise place.error(error.reason, msg("Mend it.")) from error
    return found
