"""YAML read as promptfoo reads it (js-yaml, YAML 1.2: ``yes`` and ``12:30`` are texts), within limits, with lines.

Strangers write these files: what is nested deeply, is huge, or stands for more than it is by aliases, is refused
before anything is built of it; a key that stands twice is refused too. It makes plain values only, whatever the tags.
"""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

from playground.messages import Translatable, foreign, msg
from playground.suites.decoding import FORBIDDEN
from playground.suites.spots import Spot, short

MAX_DEPTH = 50
MAX_VALUES = 400_000
"""Values in a file, those that aliases repeat counted each time."""

_Parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULL = re.compile(r"~|null|Null|NULL|")
_TRUE = re.compile(r"true|True|TRUE")
_FALSE = re.compile(r"false|False|FALSE")
_INTEGER = re.compile(r"[-+]?(?:0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*)")
_FLOAT = re.compile(r"[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


class Block(dict[str, Any]):
    """A mapping that remembers the line of each key."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, int] = {}


class Items(list[Any]):
    """A sequence that remembers the line of each item."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[int] = []


def line_of(holder: Any, key: Any) -> int | None:
    """The line of a key or an item, where it came from YAML."""
    if isinstance(holder, Block):
        return holder.lines.get(key)
    if isinstance(holder, Items) and isinstance(key, int) and key < len(holder.lines):
        return holder.lines[key]
    return None


def parse(text: str, spot: Spot, most: int = MAX_VALUES) -> Any:
    """The value of a YAML text; JSON is YAML too.

    Args:
        most: Values that it may hold, those that aliases repeat counted each time.

    Raises:
        UsageError: It is not YAML, or more than the limits allow; with the line.
    """
    mend = msg("Mend the line it names.")
    try:
        _look(text, spot, most)
        loader = _Parser(text)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
        return None if node is None else _Reader(spot, most).value(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = foreign(short(error.problem or error.context or error))
        place = spot if mark is None else spot.at(msg("column {n}", n=mark.column + 1), mark.line + 1)
        raise place.error(msg("this is not valid YAML ({said})", said=said), mend) from error
    except yaml.YAMLError as error:
        said = foreign(short(error))
        raise spot.error(msg("this is not valid YAML ({said})", said=said), mend) from error


def _look(text: str, spot: Spot, most: int) -> None:
    """The events alone: nothing is built, and the parser does not call itself, however deep the text is nested."""
    depth = values = 0
    for event in yaml.parse(text, Loader=_Parser):
        values += isinstance(event, yaml.NodeEvent)
        mark: Any = event.start_mark
        if (tag := getattr(event, "tag", None)) is not None:
            here = spot.at(msg("column {n}", n=mark.column + 1), mark.line + 1)
            raise here.error(msg("the tag {tag} is not read", tag=short(tag)), msg("Remove it."))
        depth += isinstance(event, (yaml.SequenceStartEvent, yaml.MappingStartEvent))
        depth -= isinstance(event, (yaml.SequenceEndEvent, yaml.MappingEndEvent))
        if depth > MAX_DEPTH or values > most:
            here = spot.at(msg("column {n}", n=mark.column + 1), mark.line + 1)
            raise _too_deep(here) if depth > MAX_DEPTH else _too_many(here, most)


def _too_deep(spot: Spot) -> Exception:
    return spot.error(msg("it is nested more than {n} levels deep", n=MAX_DEPTH), msg("Flatten it."))


def _too_many(spot: Spot, most: int) -> Exception:
    return spot.error(
        msg("it holds more than {n:,} values, those that aliases repeat counted each time", n=most),
        msg("Write long lists of rows as CSV or JSONL."),
    )


class _Reader:
    """Nodes to values. What an alias repeats is one value, made once and counted each time."""

    def __init__(self, spot: Spot, most: int) -> None:
        self._spot, self._most = spot, most
        self._made: dict[int, tuple[Any, int, int]] = {}
        self._open: set[int] = set()

    def value(self, node: Any) -> Any:
        return self._value(node)[0]

    def _value(self, node: Any) -> tuple[Any, int, int]:
        """The value, how many values it is made of, and how deep it is."""
        if id(node) in self._made:
            return self._made[id(node)]
        here = self._spot.at(msg("column {n}", n=node.start_mark.column + 1), node.start_mark.line + 1)
        if id(node) in self._open:
            raise here.error(msg("an alias stands within what it stands for"), msg("Write it out."))
        self._open.add(id(node))
        if isinstance(node, yaml.ScalarNode):
            made = (_scalar(node, here), 1, 0)
        elif isinstance(node, yaml.SequenceNode):
            made = self._sequence(node, here)
        else:
            made = self._mapping(node, here)
        self._open.discard(id(node))
        if made[1] > self._most:
            raise _too_many(here, self._most)
        if made[2] > MAX_DEPTH:
            raise _too_deep(here)
        self._made[id(node)] = made
        return made

    def _sequence(self, node: Any, here: Spot) -> tuple[Any, int, int]:
        items, count, depth = Items(), 1, 0
        for each in node.value:
            value, size, below = self._value(each)
            items.append(value)
            items.lines.append(each.start_mark.line + 1)
            count, depth = count + size, max(depth, below)
        return items, count, depth + 1

    def _mapping(self, node: Any, here: Spot) -> tuple[Any, int, int]:
        block, merged, count, depth = Block(), [], 1, 0
        for name_node, each in node.value:
            line = name_node.start_mark.line + 1
            place = self._spot.at(msg("column {n}", n=name_node.start_mark.column + 1), line)
            if not isinstance(name_node, yaml.ScalarNode):
                raise place.error(msg("a key must be a plain word"), msg("Put it in quotes, or write it out."))
            value, size, below = self._value(each)
            count, depth = count + size + 1, max(depth, below)
            if name_node.value == "<<" and not name_node.style:
                merged.append((value, place))
                continue
            name = name_node.value
            if name in block:
                raise place.error(
                    msg("the key '{key}' stands twice, first on line {line}", key=short(name), line=block.lines[name]),
                    msg("Remove one."),
                )
            block[name], block.lines[name] = value, line
        for value, place in merged:
            _merge(block, value, place)
        return block, count, depth + 1


def _merge(block: Block, value: Any, place: Spot) -> None:
    for each in value if isinstance(value, list) else [value]:
        if not isinstance(each, dict):
            raise place.error(msg("<< takes a block, or a list of blocks"), msg("Write it out."))
        for name in each:
            if name not in block:
                block[name], block.lines[name] = each[name], line_of(each, name) or place.line or 1


def _scalar(node: Any, here: Spot) -> Any:
    text: str = node.value
    forbidden = FORBIDDEN.search(text)  # an escape in double quotes makes what no text may hold
    if forbidden is not None:
        raise here.error(
            msg("a character that is no text (U+{code})", code=f"{ord(forbidden[0]):04X}"), msg("Remove it.")
        )
    if node.style:  # what is quoted is a text
        return text
    number = _number(text)
    if isinstance(number, Translatable):
        raise here.error(number, msg("Put it in quotes if it is meant as text."))
    if number is not None:
        return number
    if _NULL.fullmatch(text):
        return None
    if _TRUE.fullmatch(text) or _FALSE.fullmatch(text):
        return _TRUE.fullmatch(text) is not None
    return text


def _number(text: str) -> int | float | Translatable | None:
    """The number that a plain scalar is; None where it is none, a message where it can't be one."""
    if len(text) > 400 and _FLOAT.fullmatch(text):
        return msg("a number of {n} digits", n=len(text))
    if _NOT_FINITE.fullmatch(text):
        return msg("{text} is not a number that anything can be held against", text=text)
    if _INTEGER.fullmatch(text):
        digits = text.replace("_", "").lower()
        sign, bare = (-1 if digits[0] == "-" else 1), digits.lstrip("+-")
        base = {"0b": 2, "0o": 8, "0x": 16}.get(bare[:2], 10)
        try:
            return sign * int(bare[2:] if base != 10 else bare, base)
        except ValueError:  # 0x_
            return None
    if _FLOAT.fullmatch(text):
        value = float(text.replace("_", ""))
        return value if math.isfinite(value) else msg("{text} is too large a number", text=short(text))
    return None
