"""The bytes of a file as text: UTF-8, or UTF-16 with its mark; anything else is refused with its line and column."""

from __future__ import annotations

import codecs
import re

from playground.messages import msg
from playground.suites.spots import Limits, Spot

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_UTF32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
"""Control signs and halves of characters: neither YAML, nor a database, nor a terminal takes them all."""


def text_of(data: str | bytes, spot: Spot, limits: Limits) -> str:
    """The text of a file, without a mark of its byte order.

    Raises:
        UsageError: It is too long, in another encoding, or holds signs that are no text.
    """
    if len(data) > limits.max_bytes:
        raise _too_long(data, spot, limits)
    text = data if isinstance(data, str) else _decoded(data, spot)
    text = text.removeprefix("\ufeff")
    forbidden = FORBIDDEN.search(text)
    if forbidden is not None:
        line, column = place_of(text, forbidden.start())
        sign = f"U+{ord(forbidden[0]):04X}"
        raise spot.at(msg("column {n}", n=column), line).error(
            msg("a character that is no text ({sign})", sign=sign), msg("Remove it, or save the file as UTF-8.")
        )
    return text


def _decoded(data: bytes, spot: Spot) -> str:
    save = msg("Save it as UTF-8.")
    if data.startswith(_UTF32):
        raise spot.error(msg("the file is UTF-32"), save)
    try:
        if data.startswith(_UTF16):
            return data.decode("utf-16")
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if data.startswith(_UTF16):
            raise spot.error(msg("the file begins as UTF-16 and is cut off or damaged"), save) from error
        if data[:2000].count(0) > len(data[:2000]) // 4:
            raise spot.error(msg("the file looks like UTF-16 without its mark"), save) from error
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
        raise spot.at(msg("column {n}", n=column), line).error(msg("the file is not UTF-8 text"), save) from error


def place_of(text: str, at: int) -> tuple[int, int]:
    """Line and column of a place in a text, both from 1."""
    return text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)


def _too_long(data: str | bytes, spot: Spot, limits: Limits) -> Exception:
    """It names the longest line: a file is too long by one cell more often than by all."""
    longest = number = 0
    begin = 0
    newline: str | bytes = "\n" if isinstance(data, str) else b"\n"
    line = 0
    while begin < len(data):
        end = data.find(newline, begin)  # type: ignore[arg-type]
        end = len(data) if end < 0 else end
        line += 1
        if end - begin > longest:
            longest, number = end - begin, line
        begin = end + 1
    what = msg(
        "it has {size:.1f} MB, at most {most:.1f} MB are read; its longest line has {longest:.1f} MB",
        size=len(data) / 1e6,
        most=limits.max_bytes / 1e6,
        longest=longest / 1e6,
    )
    step = msg("Split the file into several.")
    return spot.at(msg("longest line"), number).error(what, step) if longest > len(data) / 2 else spot.error(what, step)
