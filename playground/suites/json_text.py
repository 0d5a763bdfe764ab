"""JSON and JSON Lines read strictly: no key twice, no NaN, not deeper than a limit; errors with the line."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from playground.errors import Reason
from playground.messages import foreign, msg
from playground.suites.decoding import FORBIDDEN
from playground.suites.spots import Spot, short

MEND = msg("Mend the line it names.")


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    block = dict(pairs)
    if len(block) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Reason(msg("the key '{key}' stands twice", key=short(twice)))
    return block


def _constant(name: str) -> Any:
    raise Reason(msg("{name} is not JSON", name=name))


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise Reason(msg("{text} is too large a number", text=short(text)))
    return value


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_constant, parse_float=_float)


_ESCAPES = re.compile(r"\\u(?:00[01]|[dD][89a-fA-F]|[fF]{3}[eEfF])")
"""Escapes that may make what no text may hold; two of them may make one good character."""


def _refuse_no_text(value: Any) -> None:
    left = [value]
    while left:
        each = left.pop()
        if isinstance(each, dict):
            left += [*each, *each.values()]
        elif isinstance(each, list):
            left += each
        elif isinstance(each, str) and (found := FORBIDDEN.search(each)):
            raise Reason(msg("a character that is no text (U+{code})", code=f"{ord(found[0]):04X}"))


def parse(text: str, spot: Spot) -> Any:
    """The value of a JSON text.

    Raises:
        UsageError: It is not JSON; with line and column.
    """
    try:
        value = _DECODER.decode(text)
        if _ESCAPES.search(text):
            _refuse_no_text(value)
        return value
    except json.JSONDecodeError as error:
        line = error.lineno + (spot.line or 1) - 1
        place = spot.at(msg("column {n}", n=error.colno), line)
        raise place.error(msg("this is not valid JSON ({said})", said=foreign(error.msg)), MEND) from error
    except Reason as error:
        raise spot.error(error.reason, MEND) from error
    except RecursionError as error:
        raise spot.error(msg("it is nested too deeply"), msg("Flatten it.")) from error
    except ValueError as error:  # more digits than Python reads
        raise spot.error(msg("a number has too many digits"), MEND) from error


def lines(text: str) -> list[tuple[int, str]]:
    """Number and text of each line that is not blank; numbers are from 1."""
    return [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
