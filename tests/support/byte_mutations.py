"""Right files and JSON documents made wrong at random, from a seed: the same changes each time.

What is wrong with the result, or whether anything is, nobody knows beforehand.
"""

from __future__ import annotations

import copy
import json
import random
import struct
from collections.abc import Callable, Iterator
from typing import Any

LENGTHS = (0, 1, 127, 255, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
"""Numbers at which a field of a length goes wrong."""

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**63) - 1, 10**400, 0.5, 1e300, float("inf"), float("nan")),
    *("", "a", "..", "/", "a\0b", "\ud800", "x" * 5000, "é", [], {}, [[]], [None], ["a", 1], {"": None}),
    json.loads("[" * 80 + "]" * 80),
    json.loads('{"a":' * 80 + "1" + "}" * 80),
)
"""Values of another kind than whatever should stand there."""

Draw = random.Random


def changed_bytes(whole: bytes, seed: int, count: int) -> Iterator[bytes]:
    """``count`` versions of a file, each changed once to three times."""
    draw = Draw(seed)
    for _ in range(count):
        content = bytearray(whole)
        for _ in range(draw.choice((1, 1, 1, 2, 3))):
            draw.choice(CHANGES)(content, draw)
        yield bytes(content)


def changed_documents(document: Any, seed: int, count: int) -> Iterator[Any]:
    """``count`` versions of a JSON value: in each, one or two of its values are of another kind, gone, or elsewhere."""
    draw = Draw(seed)
    for _ in range(count):
        value = copy.deepcopy(document)
        for _ in range(draw.choice((1, 1, 2))):
            value = _other(value, draw)
        yield value


def _flip(content: bytearray, draw: Draw) -> None:
    if content:
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)


def _cut(content: bytearray, draw: Draw) -> None:
    del content[draw.randrange(len(content) + 1) :]


def _remove(content: bytearray, draw: Draw) -> None:
    at = draw.randrange(len(content) + 1)
    del content[at : at + draw.randrange(1, 40)]


def _duplicate(content: bytearray, draw: Draw) -> None:
    at = draw.randrange(len(content) + 1)
    content[at:at] = content[at : at + draw.randrange(1, 200)] * draw.choice((1, 1, 2, 50))


def _splice(content: bytearray, draw: Draw) -> None:
    """A part of the file in the place of another."""
    source, at = draw.randrange(len(content) + 1), draw.randrange(len(content) + 1)
    size = draw.randrange(1, 60)
    content[at : at + size] = content[source : source + size]


def _length(content: bytearray, draw: Draw) -> None:
    """A huge number over whatever stands there: 4 or 8 bytes, or protobuf's varint."""
    number, at = draw.choice(LENGTHS), draw.randrange(len(content) + 1)
    kind = draw.randrange(3)
    if kind == 2:
        content[at : at + 1] = varint(number)
    else:
        size = 8 if kind else 4
        content[at : at + size] = struct.pack("<Q", number)[:size]


def _random_bytes(content: bytearray, draw: Draw) -> None:
    at = draw.randrange(len(content) + 1)
    content[at : at + draw.randrange(8)] = draw.randbytes(draw.randrange(1, 12))


CHANGES: tuple[Callable[[bytearray, Draw], None], ...] = (
    *(_flip, _flip, _cut, _remove, _duplicate, _splice, _length, _length, _random_bytes),
)


def varint(number: int) -> bytes:
    """``number`` as protobuf writes it."""
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    found.append(number)
    return bytes(found)


def _other(value: Any, draw: Draw) -> Any:
    places = [(holder, key) for holder in _holders(value) for key in _keys(holder)]
    if not places:
        return draw.choice(ODD)
    holder, key = draw.choice(places)
    what = draw.randrange(8)
    if what == 0:
        del holder[key]
    elif what == 1:
        other, other_key = draw.choice(places)
        holder[key] = copy.deepcopy(other[other_key])
    elif what == 2 and isinstance(holder, dict):
        holder[draw.choice(["", "..", "a/../b", "/a", "\ud800", "a" * 300, "a\0"])] = holder.pop(key)
    else:
        holder[key] = copy.deepcopy(draw.choice(ODD))
    return value


def _keys(holder: Any) -> list[Any]:
    return list(holder) if isinstance(holder, dict) else list(range(len(holder)))


def _holders(value: Any) -> Iterator[Any]:
    if isinstance(value, (dict, list)):
        yield value
        for child in value.values() if isinstance(value, dict) else value:
            yield from _holders(child)
