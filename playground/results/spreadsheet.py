"""What may stand in a table that a spreadsheet opens: never a formula of somebody else's."""

from __future__ import annotations

import json
from typing import Any

from playground.records import plain_json

BEGINS_A_FORMULA = "=+-@\t\r\n＝＋－＠"
"""A cell that begins so is run by a spreadsheet, wide characters by some; writers are not trusted."""


def cell(value: Any) -> str:
    """What stands in one cell of a table that a spreadsheet may open."""
    if value is None:
        return ""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)  # a number below zero is one
    text = str(value) if isinstance(value, str) else json.dumps(plain_json(value), ensure_ascii=False)
    return f"'{text}" if text.lstrip(" ").startswith(tuple(BEGINS_A_FORMULA)) else text
