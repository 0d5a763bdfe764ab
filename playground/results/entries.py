"""What a list of comparisons needs of each: a line of its own beside the document, to list and search without it.

A conversation is one line: a comparison that goes on from another one takes its place, with its title and its star. It
knows comparisons and the line; SQL is the business of ``store``.
"""

from __future__ import annotations

import json
import unicodedata
from dataclasses import dataclass
from typing import Any

from playground.records import Comparison, Record, Request, Variant

PROMPT_CHARS = 300
"""Of a prompt in a list."""
WORDS_CHARS = 200_000
"""Of prompts and answers that are searched; longer ones are found by their beginning."""
TITLE_CHARS = 120


@dataclass(frozen=True)
class Entry(Record):
    """A kept comparison in a list.

    Attributes:
        title: Given by the visitor; empty where none was given.
        prompt: The first one, in one line, shortened.
        variants: A column each.
        turns: How often something was asked: 1, and one more for each reply.
        parent: Id of the comparison it goes on from, or empty.
        running: Whether it is still being answered.
    """

    id: str
    created_at: str
    title: str
    prompt: str
    variants: tuple[Variant, ...]
    favourite: bool = False
    turns: int = 1
    parent: str = ""
    running: bool = False


@dataclass(frozen=True)
class Outline:
    """What is listed and searched of a comparison; every text can be stored."""

    prompt: str
    variants: str
    turns: int
    words: str


def outline(comparison: Comparison) -> Outline:
    """What is listed and searched of ``comparison``."""
    asked = [comparison.asked(column) for column in range(len(comparison.runs))] or [comparison.request]
    texts = [text for request in asked for text in _texts(request)] + [run.text for run in comparison.runs]
    words = "\n".join(dict.fromkeys(texts))
    return Outline(
        prompt=storable(one_line(asked[0].prompts[0], PROMPT_CHARS)),
        variants=json.dumps([str(run.variant) for run in comparison.runs]),
        turns=max(len(request.prompts) for request in asked),
        words=folded(words[:WORDS_CHARS]),
    )


def outline_of(document: str) -> Outline:
    """The same of a stored document; of a damaged one nothing, so that it can still be listed and deleted."""
    try:
        return outline(Comparison.from_json(json.loads(document)))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        return Outline("", "[]", 1, "")


def variants_of(written: Any) -> tuple[Variant, ...]:
    """The variants that ``outline`` wrote; none where they are damaged."""
    try:
        names = json.loads(written)
    except (ValueError, TypeError, RecursionError):
        return ()
    return tuple(_variant(name) for name in names if isinstance(name, str)) if isinstance(names, list) else ()


def as_text(value: Any) -> str:
    """``value`` where it is a text, none where a column was damaged."""
    return value if isinstance(value, str) else ""


def folded(text: str) -> str:
    """``text`` as it is compared: without regard to case, to full and half width, and to runs of white space."""
    return storable(" ".join(unicodedata.normalize("NFKC", text).casefold().split()))


def storable(text: str) -> str:
    """``text`` without what SQLite can't store as text: halves of characters, and the end of a string."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\x00", " ")


def one_line(text: str, most: int) -> str:
    """``text`` in one line of at most ``most`` characters."""
    line = " ".join(text[: 4 * most].split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def _texts(request: Request) -> list[str]:
    return [request.system, request.prompt, *(each.content for each in request.messages)]


def _variant(text: str) -> Variant:
    try:
        return Variant.parse(text)
    except ValueError:
        return Variant(text)
