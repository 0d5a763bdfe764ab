"""Numbers as people and models write them in a text: 1,234.5 and 1.234,5, −3, 2.5e-3, 1 234,5.

Which sign is the decimal one is read off the number itself:

* both a comma and a point: the later one is decimal;
* one sign more than once: it parts thousands (1,234,567);
* a single comma before exactly three digits parts thousands (1,234), unless the number begins with 0 (0,125);
* any other single comma, and every single point, is decimal (3,5; 1.234).

Thousands may also be parted by spaces that do not break a line, and by apostrophes (1'234.50). Anything else, such as
1.2.3 or 192.168.0.1, is no number, and neither is a part of it.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from itertools import islice

MAX_DIGITS = 60
"""Signs of a number that is taken for one; longer runs are keys."""
MAX_CHARS = 200_000
"""Of a text that are read, from its end."""

_WIDE = str.maketrans("０１２３４５６７８９，．－−", "0123456789,.--")
_SPACES = "\u00a0\u2009\u202f"
_RUN = re.compile(
    rf"(?P<sign>(?<![\w.,)\]])[-+])?(?<!\w)(?<!\w[.,'’{_SPACES}])(?P<body>\.?[0-9](?:[0-9.,'’{_SPACES}]*[0-9])?)"
    r"(?P<power>[eE][-+]?[0-9]{1,3}(?![\w.]))?"
)
_GROUPS = re.compile(r"[0-9]{1,3}(?:(?P<sign>[.,'’ ])[0-9]{3})(?:(?P=sign)[0-9]{3})*")


def last_number(text: str) -> Decimal | None:
    """The last number of a text; None where there is none. A per cent sign or a unit behind it changes nothing."""
    found = None
    for match in _RUN.finditer(text[-MAX_CHARS:].translate(_WIDE)):
        value = _value(match["body"])
        if value is not None:
            try:
                number = Decimal(f"{match['sign'] or ''}{value}{match['power'] or ''}")
            except InvalidOperation:
                continue
            found = number
    return found


def _value(body: str) -> str | None:
    """The digits of a number with a point where its decimal sign is; None where it is no number."""
    if len(body) > MAX_DIGITS:
        return None
    if body.startswith("."):
        return f"0{body}" if body[1:].isdigit() else None
    for space in _SPACES:
        body = body.replace(space, " ")
    signs = [char for char in body if not char.isdigit()]
    if not signs:
        return body
    kinds = list(dict.fromkeys(signs))
    if len(kinds) == 1:
        return _one_sign(body, kinds[0], len(signs))
    if len(kinds) == 2 and signs[-1] in ".," and signs.count(signs[-1]) == 1:
        whole, _, part = body.rpartition(signs[-1])
        return f"{_plain(whole)}.{part}" if _GROUPS.fullmatch(whole) else None
    return None


def _one_sign(body: str, sign: str, count: int) -> str | None:
    whole, _, part = body.partition(sign)
    grouped = _GROUPS.fullmatch(body) is not None
    if count > 1 or sign not in ".,":
        return _plain(body) if grouped else None
    if sign == "," and grouped and whole != "0":
        return _plain(body)
    return f"{whole}.{part}"


def _plain(digits: str) -> str:
    return "".join(char for char in digits if char.isdigit())


def wanted_number(value: object) -> Decimal | None:
    """A number as a suite's file gives it: a JSON number, or a text that is one number by the rules above."""
    if isinstance(value, bool) or value is None:
        return None
    text = str(value).strip().translate(_WIDE)
    match = _RUN.fullmatch(text)
    return last_number(text) if match else None


def tolerance(given: str, wanted: Decimal) -> Decimal:
    """How far a number may be off: ``0.5`` as it stands, ``1%`` of what is wanted."""
    if given.endswith("%"):
        return abs(wanted) * Decimal(given[:-1]) / 100
    return Decimal(given)


def number_text(value: Decimal) -> str:
    """A number as it would be written, without a power of ten where that is short."""
    plain = f"{value:f}"
    return "".join(islice(plain, MAX_DIGITS)) if len(plain) <= MAX_DIGITS else str(value)
