"""JSON schemas of strangers: checked before they are used, and used within bounds of time.

The rules are those of the ``jsonschema`` library. Around it: every ``$ref`` stays within the schema, and nothing is
fetched; a ``$ref`` that comes back to itself without a step into the value is refused; patterns are RE2's; a value
takes a bounded number of steps. A schema may recurse through its properties and items, as one for a tree does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from datetime import date, datetime
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from playground.errors import Reason, shortened
from playground.messages import Translatable, msg
from playground.suites import patterns

MAX_CHARS = 50_000
MAX_DEPTH = 40
MAX_STEPS = 20_000
"""Keywords that are looked at for one value; a long answer against a large schema takes thousands."""

DRAFTS = {
    "http://json-schema.org/draft-07/schema": "Draft7Validator",
    "https://json-schema.org/draft/2019-09/schema": "Draft201909Validator",
    "https://json-schema.org/draft/2020-12/schema": "Draft202012Validator",
}
MAX_NESTED = 100
"""Keywords within keywords for one value, four frames of Python each. The interpreter's own bound is no use here: the
library looks up a ``$ref`` in Rust, and a RecursionError within that is a panic, which nothing should catch."""
SAME_VALUE = ("$ref", "allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas")
"""Keywords whose schemas look at the same value again."""
NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies")
"""Keywords that hold schemas by name."""
VALUES = ("const", "enum", "default", "examples")
"""Keywords that hold values, which may look like schemas."""
REFUSED = ("$dynamicRef", "$recursiveRef", "$dynamicAnchor", "$recursiveAnchor", "unevaluatedProperties",
           "unevaluatedItems")  # fmt: skip

PLACE = re.compile("[0-9]{1,6}")
"""Of a schema in a list, as a ``$ref`` names it."""

_steps: ContextVar[list[int]] = ContextVar("_steps")
_nested: ContextVar[list[int]] = ContextVar("_nested")


class _TooLong(Exception):
    """A value takes more steps than ``MAX_STEPS``."""


class _TooDeep(Exception):
    """A value takes more steps within steps than ``MAX_NESTED``."""


class Schema:
    """A schema that is ready; ``mistake`` says what is wrong with a value."""

    def __init__(self, validator: Any) -> None:
        self._validator = validator

    def mistake(self, value: Any, left: list[int] | None = None) -> Translatable | None:
        """The first mistake, with its place in the value; None where the value meets the schema.

        Args:
            left: How many steps may still be taken, for several values that share them; None for ``MAX_STEPS``.
        """
        token, nested = _steps.set([MAX_STEPS] if left is None else left), _nested.set([0])
        try:
            error = next(self._validator.iter_errors(value), None)
        except _TooLong:
            return msg("it takes too long to say (more than {n:,} steps)", n=MAX_STEPS)
        except (_TooDeep, RecursionError):
            return msg("it is nested too deeply")
        finally:
            _steps.reset(token)
            _nested.reset(nested)
        if error is None:
            return None
        place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.absolute_path)
        place = place.encode("utf-8", "replace").decode("utf-8")  # a key may be half of a character
        said = error.message if isinstance(error.message, Translatable) else shortened(error.message)
        return msg("{place}: {said}", place=place.lstrip(".")[:100], said=said) if place else said


@lru_cache(maxsize=128)
def compiled(text: str) -> Schema:
    """The schema of a JSON text, ready to be used.

    Raises:
        Reason: It is none, or is refused; the words say where and why.
    """
    if len(text) > MAX_CHARS:
        raise Reason(msg("it has {n:,} characters, at most {most:,} are taken", n=len(text), most=MAX_CHARS))
    schema = json.loads(text)
    if not isinstance(schema, (dict, bool)):
        raise Reason(msg("it must be a block of keys"))
    try:
        _look(schema)
    except RecursionError as error:  # a chain of many references, each of which stays within the schema
        raise Reason(msg("it is nested too deeply")) from error
    return Schema(_validator(schema))


def _look(schema: Any) -> None:
    """Refuse what could leave the schema, never end, or is not checked."""
    for place, keyword, value in _keywords(schema, ()):
        where = "/".join(("#", *place))
        if keyword in ("$ref", "$id", "$anchor", "id") and not isinstance(value, str):
            raise Reason(msg("{place}: {keyword} must be a text", place=where, keyword=keyword))
        if keyword in REFUSED:
            raise Reason(msg("{place}: {keyword} is not supported", place=where, keyword=keyword))
        if keyword == "$ref":
            _resolved(schema, value, where)
        if keyword in ("$id", "id") and place:
            raise Reason(msg("{place}: schemas within it have no {keyword} of their own", place=where, keyword=keyword))
        if keyword == "$schema":
            _draft(value)
        if keyword == "format" and value not in FORMATS:
            raise Reason(msg("{place}: the format '{name}' is not checked here", place=where, name=str(value)[:50]))
        if keyword in ("pattern", "patternProperties"):
            for pattern in [value] if keyword == "pattern" else value if isinstance(value, dict) else []:
                _pattern(pattern, where)
    _refuse_circles(schema)


def _pattern(pattern: Any, where: str) -> None:
    try:
        patterns.compiled(str(pattern))
    except Reason as error:
        raise Reason(msg("{place}: pattern: {reason}", place=where, reason=error.reason)) from error


def _keywords(schema: Any, place: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str, Any]]:
    """Every keyword of a schema and of those within it, with its value and the place of its schema."""
    if len(place) > MAX_DEPTH:
        raise Reason(msg("it is nested more than {n} levels deep", n=MAX_DEPTH))
    if isinstance(schema, list):
        for number, each in enumerate(schema):
            yield from _keywords(each, (*place, str(number)))
    if not isinstance(schema, dict):
        return
    for keyword, value in schema.items():
        yield place, keyword, value
        if keyword in VALUES:
            continue
        if keyword in NAMED and isinstance(value, dict):
            for name, each in value.items():
                yield from _keywords(each, (*place, keyword, name))
        elif isinstance(value, (dict, list)):
            yield from _keywords(value, (*place, keyword))


def _resolved(root: Any, ref: str, where: str) -> Any:
    """What a ``$ref`` stands for.

    Raises:
        Reason: It leaves the schema, or there is no such place.
    """
    if not ref.startswith("#"):
        raise Reason(msg("{place}: $ref '{ref}' is outside of the schema, and nothing is fetched",
                         place=where, ref=ref[:100]))  # fmt: skip
    if ref != "#" and not ref.startswith("#/"):
        raise Reason(msg("{place}: $ref '{ref}' must be # or begin with #/", place=where, ref=ref[:100]))
    found = root
    for step in ref[2:].split("/") if ref != "#" else []:
        name = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict) and name in found:
            found = found[name]
        elif isinstance(found, list) and PLACE.fullmatch(name) and int(name) < len(found):
            found = found[int(name)]
        else:
            raise Reason(msg("{place}: there is no {ref}", place=where, ref=ref[:100]))
    return found


def _refuse_circles(root: Any) -> None:
    """A ``$ref`` that comes back to its own schema before any step into the value would never end."""
    done: set[int] = set()
    for _, keyword, value in _keywords(root, ()):
        if keyword == "$ref":
            _walk(root, _resolved(root, value, "#"), value, (), done)


def _walk(root: Any, schema: Any, ref: str, path: tuple[int, ...], done: set[int]) -> None:
    if not isinstance(schema, dict) or id(schema) in done:
        return
    if id(schema) in path:
        raise Reason(msg("$ref '{ref}' comes back to itself without a step into the value", ref=ref[:100]))
    for keyword in SAME_VALUE:
        value = schema.get(keyword)
        if keyword == "$ref" and isinstance(value, str):
            _walk(root, _resolved(root, value, "#"), value, (*path, id(schema)), done)
        for each in value if isinstance(value, list) else value.values() if keyword in NAMED and isinstance(
            value, dict) else [value]:  # fmt: skip
            if isinstance(each, dict):
                _walk(root, each, ref, (*path, id(schema)), done)
    done.add(id(schema))


# -- the library, within bounds ---------------------------------------------------------------------------------------


def _draft(name: Any) -> str:
    found = DRAFTS.get(str(name).rstrip("#"))
    if found is None:
        raise Reason(msg("$schema '{name}' is not known; known: {names}", name=str(name)[:100], names=list(DRAFTS)))
    return found


def _validator(schema: Any) -> Any:
    import jsonschema

    draft = "Draft202012Validator"
    if isinstance(schema, dict) and "$schema" in schema:
        draft = _draft(schema["$schema"])
    elif any(keyword == "items" and isinstance(value, list) for _, keyword, value in _keywords(schema, ())):
        draft = "Draft7Validator"  # where the schemas of a list's items were called so
    library = getattr(jsonschema, draft)
    try:
        library.check_schema(schema, format_checker=jsonschema.FormatChecker(formats=()))
    except jsonschema.SchemaError as error:
        where = "/".join(("#", *(str(step) for step in error.absolute_path)))
        raise Reason(msg("{place}: {said}", place=where[:100], said=shortened(error.message))) from error
    except RecursionError as error:
        raise Reason(msg("it is nested too deeply")) from error
    return _bounded(draft)(schema, format_checker=_formats())


@lru_cache(maxsize=8)
def _bounded(draft: str) -> Any:
    """The library's class, with patterns of RE2 and steps that are counted."""
    import jsonschema
    from jsonschema import validators

    library = getattr(jsonschema, draft)
    ours = {
        "pattern": _check_pattern,
        "patternProperties": _check_pattern_properties,
        "additionalProperties": _check_additional_properties,
        "uniqueItems": _check_unique_items,
    }
    functions = {name: _counted(ours.get(name, function)) for name, function in library.VALIDATORS.items()}
    return validators.extend(library, functions)


def _counted(function: Any) -> Any:
    def counted(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        left = _steps.get()
        left[0] -= 1
        if left[0] < 0:
            raise _TooLong
        nested = _nested.get()
        if nested[0] >= MAX_NESTED:
            raise _TooDeep
        nested[0] += 1
        try:
            yield from function(validator, value, instance, schema) or ()
        finally:
            nested[0] -= 1

    return counted


def _check_pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[Any]:
    from jsonschema import ValidationError

    if isinstance(instance, str) and not patterns.found(pattern, instance):
        yield ValidationError(msg("{value} does not match {pattern}", value=repr(instance), pattern=repr(pattern)))


def _check_pattern_properties(validator: Any, by_pattern: Mapping[str, Any], instance: Any, schema: Any) -> Any:
    if not isinstance(instance, dict):
        return
    for pattern, inner in by_pattern.items():
        for key, value in instance.items():
            if patterns.found(pattern, key):
                yield from validator.descend(value, inner, path=key, schema_path=pattern)


def _check_additional_properties(validator: Any, inner: Any, instance: Any, schema: Any) -> Iterator[Any]:
    from jsonschema import ValidationError

    if not isinstance(instance, dict):
        return
    known = schema.get("properties", {})
    by_pattern = list(schema.get("patternProperties", {}))
    for key, value in instance.items():
        if key in known or any(patterns.found(each, key) for each in by_pattern):
            continue
        if inner is False:
            yield ValidationError(msg("{key} is not expected", key=repr(key)))
        elif inner is not True:
            yield from validator.descend(value, inner, path=key)


def _check_unique_items(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[Any]:
    """The library compares each with each where the items are blocks."""
    from jsonschema import ValidationError

    if wanted and isinstance(instance, list) and len({_key(each) for each in instance}) < len(instance):
        yield ValidationError(msg("an item stands twice"))


def _key(value: Any) -> Any:
    """The same for values that JSON Schema calls the same: 1 and 1.0 are, 1 and true are not."""
    if isinstance(value, dict):
        return "{", frozenset((name, _key(each)) for name, each in value.items())
    if isinstance(value, list):
        return "[", tuple(map(_key, value))
    return type(value) if isinstance(value, bool) else None, value


def _is_time(text: str) -> bool:
    return (
        re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?(Z|z|[+-]([01]\d|2[0-3]):[0-5]\d)", text) is not None
    )


def _is_date(text: str) -> bool:
    return re.fullmatch(r"\d{4}-\d\d-\d\d", text) is not None and date.fromisoformat(text) is not None


def _is_date_time(text: str) -> bool:
    day, _, time = re.sub(r"[tT ]", "T", text, count=1).partition("T")
    return _is_date(day) and _is_time(time) and datetime.fromisoformat(day) is not None


FORMATS: dict[str, Any] = {
    "date": _is_date,
    "time": _is_time,
    "date-time": _is_date_time,
    "email": lambda text: re.fullmatch(r"[^@\s]{1,64}@[^@\s]{1,255}", text) is not None,
    "uri": lambda text: re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]{0,30}:[^\s<>\"{}|\\^`]+", text) is not None,
    "uuid": lambda text: re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", text) is not None,
    "ipv4": lambda text: _is_address(text, 4),
    "ipv6": lambda text: _is_address(text, 6),
}
"""Formats that are checked, by name; any other is refused, for a check that checks nothing would pass."""


def _is_address(text: str, version: int) -> bool:
    import ipaddress

    return ipaddress.ip_address(text).version == version


@lru_cache(maxsize=1)
def _formats() -> Any:
    import jsonschema

    checker = jsonschema.FormatChecker(formats=())

    def held(function: Any) -> Any:
        return lambda value: not isinstance(value, str) or function(value)

    for name, function in FORMATS.items():
        checker.checks(name, raises=ValueError)(held(function))
    return checker
