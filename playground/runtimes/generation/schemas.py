"""JSON schemas that an answer can be held to: checked before any work, and made into llguidance's grammar.

A schema is refused where it could not be enforced as a whole: nothing in it is left out without a word. It knows
schemas; it does not know models, tokens or requests.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from playground.errors import Reason, UsageError, reason_of, shortened
from playground.messages import Translatable, msg

MAX_SYMBOLS = 20_000
"""Of the grammar that a schema becomes; one with a thousand properties has some 10,000."""

LEXER_FUEL = 200_000
"""Steps that making the grammar's lexer may take: some milliseconds. Patterns with large counts want more."""

WHITESPACE = r"[ \n]{0,2}"
"""Between the parts of a JSON text. Without a bound, a small model may go on with spaces until it is cut off."""

OPTIONS = {
    "whitespace_flexible": True,
    "whitespace_pattern": WHITESPACE,
    "item_separator": ",",
    "key_separator": ":",
    "coerce_one_of": False,
    "lenient": False,
}
"""Ours count, whatever a schema says under ``x-guidance``."""

ANY_OBJECT = {"type": "object"}
NEXT_STEP = msg("Change the schema, or leave it out and check the answer afterwards.")


class NotHeld(Reason):
    """An answer of some model can't be held to a schema, and why."""


def check_schema(text: str) -> None:
    """Refuse what no answer can be held to.

    Raises:
        UsageError: It is no JSON schema, too large, refers to itself or outside, or has what can't be enforced.
    """
    from playground.suites.schema import compiled

    if not isinstance(text, str):
        raise _refused(msg("it is {kind}, not a text", kind=type(text).__name__))
    try:
        compiled(text)
        _whole_characters(text)
    except RecursionError:
        raise _refused(msg("it is nested too deeply")) from None
    except ValueError as error:
        raise _refused(reason_of(error)) from None
    grammar(text)


def _whole_characters(text: str) -> None:
    """
    Raises:
        Reason: The schema spells half a character, which no answer has and llguidance does not take.
    """
    try:
        json.dumps(json.loads(text), ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        code = f"{ord(error.object[error.start]):04X}"
        raise Reason(msg("a character that is no text (U+{code})", code=code)) from None


@lru_cache(maxsize=16)
def grammar(text: str) -> str:
    """The schema as a grammar of llguidance.

    Raises:
        UsageError: See ``check_schema``.
    """
    from llguidance import LLMatcher

    schema = json.loads(text)
    if not isinstance(schema, dict):
        raise _refused(msg("it must be a block of keys"))
    if circle := _circle(schema):
        raise _refused(msg("{ref} leads back to itself: its answers would have no largest size", ref=circle[:100]))
    made: str = LLMatcher.grammar_from_json_schema(schema or ANY_OBJECT, overrides=OPTIONS)  # type: ignore[arg-type]
    wrong, said = LLMatcher.validate_grammar_with_warnings(made, limits=limits())
    if wrong:
        raise _refused(shortened(" ".join(said), 300))
    return made


def limits() -> Any:
    """What a grammar may take, for ``LLMatcher``."""
    from llguidance import LLParserLimits

    return LLParserLimits(initial_lexer_fuel=LEXER_FUEL, max_grammar_size=MAX_SYMBOLS, verbose_errors=False)


def _refused(reason: Translatable) -> UsageError:
    return UsageError(msg("An answer can't be held to this JSON schema: {reason}", reason=reason), NEXT_STEP)


def _circle(schema: dict[str, Any]) -> str:
    """A ``$ref`` from which a way leads back to it; empty where there is none. References were resolved before."""
    found: dict[str, set[str]] = {}

    def refs(part: Any, into: set[str]) -> None:
        if isinstance(part, dict):
            if isinstance(part.get("$ref"), str):
                into.add(part["$ref"])
            for each in part.values():
                refs(each, into)
        elif isinstance(part, list):
            for each in part:
                refs(each, into)

    def leads(ref: str, way: tuple[str, ...]) -> str:
        if ref in way or ref == "#":
            return ref
        if ref not in found:
            refs(_at(schema, ref), found.setdefault(ref, set()))
        return next((back for further in sorted(found[ref]) if (back := leads(further, (*way, ref)))), "")

    begun: set[str] = set()
    refs(schema, begun)
    return next((back for ref in sorted(begun) if (back := leads(ref, ()))), "")


def _at(schema: Any, ref: str) -> Any:
    part = schema
    for step in ref[2:].split("/"):
        name = step.replace("%25", "%").replace("~1", "/").replace("~0", "~")
        part = part[int(name)] if isinstance(part, list) else part.get(name, {}) if isinstance(part, dict) else {}
    return part
