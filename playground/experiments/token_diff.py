"""Two answers of one tokenizer set side by side: how far they agree, and the first token where they part.

It knows ids and how they are spelt; it does not know models, logits, or why two answers differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from playground.records import DecodedTokens, Record
from playground.runtimes.generation.prefix_cache import common

AROUND = 60
"""Characters of text shown on each side of a difference."""


@dataclass(frozen=True)
class Token(Record):
    """One token of an answer; ``id`` -1 and ``text`` "" where an answer has ended."""

    id: int
    text: str


END = Token(-1, "")


@dataclass(frozen=True)
class Difference(Record):
    """Where two answers part.

    Attributes:
        position: Number of tokens (for texts without ids: of characters) that are the same before it.
        one, other: What stands there; ``END`` for an answer that is over.
        before: The end of the common text.
        one_after, other_after: How each goes on behind its token.
        unit: Whether ``position`` counts tokens or characters; characters are compared where ids are not known.
    """

    position: int
    one: Token
    other: Token
    before: str
    one_after: str
    other_after: str
    unit: str = "token"


def same_vocabulary(one: DecodedTokens, other: DecodedTokens) -> bool:
    """Whether the same ids stand for the same tokens. One may have more at its end: a file may list tokens (of
    pictures, say) that another file of the same model leaves out.
    """
    shared = min(len(one.vocabulary), len(other.vocabulary))
    return shared > 0 and one.vocabulary[:shared] == other.vocabulary[:shared]


def first_difference(
    one: Sequence[int], decoded: DecodedTokens, other: Sequence[int], other_decoded: DecodedTokens
) -> Difference | None:
    """The first token that differs, None where the answers are the same; ``decoded`` are all of ``one``."""
    place = common(one, other)
    if place == len(one) == len(other):
        return None
    return Difference(
        position=place,
        one=Token(one[place], decoded.names[place]) if place < len(one) else END,
        other=Token(other[place], other_decoded.names[place]) if place < len(other) else END,
        before="".join(decoded.pieces[:place])[-AROUND:],
        one_after="".join(decoded.pieces[place + 1 :])[:AROUND],
        other_after="".join(other_decoded.pieces[place + 1 :])[:AROUND],
    )


def first_text_difference(one: str, other: str) -> Difference | None:
    """The first character that differs, for answers whose ids are not known."""
    place = common(one, other)
    if place == len(one) == len(other):
        return None
    return Difference(
        position=place,
        one=Token(-1, one[place : place + 1]),
        other=Token(-1, other[place : place + 1]),
        before=one[:place][-AROUND:],
        one_after=one[place + 1 : place + 1 + AROUND],
        other_after=other[place + 1 : place + 1 + AROUND],
        unit="character",
    )
