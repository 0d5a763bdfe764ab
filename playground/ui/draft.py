"""What a page keeps in its browser and asks back after a reload: the form, and which comparison was on show.

scripts/draft.js writes it, reads it once when the page is opened, and adds what the address says. It comes from a
browser or from a link that anybody may have written: each field counts only if it is what it should be, and nothing
here runs a prompt. Knows no components.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

MAX_CHARS = 200_000
MAX_MODELS = 32
MAX_NUMBER = 2.0**64
_ID = re.compile(r"[\w-]{4,64}", re.ASCII)
TABS = ("compare", "prompts", "measure", "models", "history", "learn")
FIELDS: dict[str, type] = {
    "mode": str,
    "prompt": str,
    "system": str,
    "tokens": int,
    "temperature": float,
    "top_k": int,
    "top_p": float,
    "min_p": float,
    "penalty": float,
    "seed": int,
    "stop": str,
    "reuse": bool,
}
"""In the order of ``Form.asked``."""


@dataclass(frozen=True)
class Draft:
    """What was kept.

    Attributes:
        models: The choices, empty where nothing was kept.
        values: Of the form's fields, by their names in ``FIELDS``; those that were not kept are missing.
        shown: The id of a comparison; empty for none.
        linked: Whether the id stood in the address, so that it is to be read only.
        tab: The tab that was at the front.
    """

    models: tuple[str, ...] = ()
    changes: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    shown: str = ""
    linked: bool = False
    tab: str = ""


def read(text: Any) -> Draft:
    """The draft in what a browser sent; what can't be read is left out."""
    if not isinstance(text, str) or len(text) > MAX_CHARS:
        return Draft()
    try:
        sent = json.loads(text)
    except (ValueError, RecursionError):
        return Draft()
    if not isinstance(sent, dict):
        return Draft()
    models, shown, tab, changes = (sent.get(name) for name in ("models", "shown", "tab", "changes"))
    names = tuple(name for name in models if isinstance(name, str) and whole(name)) if isinstance(models, list) else ()
    return Draft(
        names[:MAX_MODELS],
        changes if isinstance(changes, str) and whole(changes) else "",
        {name: value for name, kind in FIELDS.items() if _is(value := sent.get(name, ...), kind, name)},
        shown if isinstance(shown, str) and _ID.fullmatch(shown) else "",
        sent.get("linked") is True,
        tab if tab in TABS else "",
    )


def _is(value: Any, kind: type, name: str) -> bool:
    if name == "seed" and value is None:
        return True
    if name == "mode":
        return value in ("fair", "fast")
    return is_a(value, kind)


def is_a(value: Any, kind: type) -> bool:
    """Whether it is a text without halves of characters, a number that is one, or what else ``kind`` says."""
    if kind is str:
        return isinstance(value, str) and whole(value)
    if kind is bool:
        return type(value) is bool
    # Not isfinite, which raises for a whole number that is beyond every float.
    return type(value) in (int, kind) and -MAX_NUMBER < value < MAX_NUMBER


def whole(text: str) -> bool:
    """Whether no character is half: JSON can say such, and what is sent to a page can't."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
