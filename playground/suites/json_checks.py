"""Checks that look for JSON in an answer: the whole of it, or somewhere in it, and whether it meets a schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from playground.errors import Reason
from playground.messages import msg
from playground.suites import schema
from playground.suites.finding import CheckFunction, Finding, Given
from playground.suites.suite import Check

MAX_OBJECTS = 100
"""Values of JSON in one answer that are looked at."""
MAX_STARTS = 10_000
"""Places in one answer where a value is looked for."""
MAX_WORK = 2_000_000
"""Characters that are read for it all in all, those that lead to nothing included."""


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)  # NaN and Infinity, which Python's reader takes and JSON has not


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def parsed(text: str) -> Any:
    """The JSON value that a text is.

    Raises:
        Reason: It is none.
    """
    try:
        return _DECODER.decode(text)
    except RecursionError as error:
        raise Reason(msg("it is nested too deeply")) from error
    except json.JSONDecodeError as error:
        raise Reason(
            msg("line {line}, column {column}: {said}", line=error.lineno, column=error.colno, said=error.msg)
        ) from error
    except ValueError as error:
        raise Reason(msg("NaN, Infinity and numbers without end are not JSON")) from error


def _is_json(check: Check, given: Given) -> Finding:
    try:
        value = parsed(given.answer)
    except Reason as error:
        return Finding(False, msg("the answer is not JSON: {reason}", reason=error.reason))
    return _held_against(check, [value])


def _contains_json(check: Check, given: Given) -> Finding:
    values = list(_values_in(given.answer))
    if not values:
        return Finding(False, msg("there is no JSON in the answer"))
    return _held_against(check, values)


def _held_against(check: Check, values: list[Any]) -> Finding:
    if check.value is None:
        return Finding(
            True, msg("the answer is JSON") if check.base == "is-json" else msg("there is JSON in the answer")
        )
    schema_ = schema.compiled(json.dumps(check.value))
    reasons = []
    left = [schema.MAX_STEPS]
    for value in values:
        wrong = schema_.mistake(value, left)
        if wrong is None:
            return Finding(True, msg("its JSON meets the schema"))
        reasons.append(wrong)
    return Finding(False, msg("its JSON does not meet the schema: {reason}", reason=reasons[0]))


def _values_in(text: str) -> Iterator[Any]:
    """Objects and lists that stand in a text, from left to right, none inside another."""
    at = found = starts = 0
    work = MAX_WORK
    while found < MAX_OBJECTS and starts < MAX_STARTS and work > 0:
        begins = [place for place in (text.find("{", at), text.find("[", at)) if place >= 0]
        if not begins:
            return
        at = min(begins)
        starts += 1
        try:
            value, at = _DECODER.raw_decode(text, at)
        except json.JSONDecodeError as error:
            work -= max(error.pos - at, 1)
            at += 1
            continue
        except (ValueError, RecursionError):
            work -= len(text) - at
            at += 1
            continue
        found += 1
        yield value


CHECKS: dict[str, CheckFunction] = {"is-json": _is_json, "contains-json": _contains_json}
