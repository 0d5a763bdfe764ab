"""Two models' tokens side by side: which tokens of the one and of the other cover the same characters.

Tokenizers cut the same text at other places. What two texts share is found word by word (``difflib``), and then as far
as the characters beside it are the same; within it, both are cut wherever a token of each ends. The module knows pieces
of text; it does not know models or probabilities.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from playground.records import Record

_WORDS = re.compile(r"\s?\w+|\s|[^\w\s]")


@dataclass(frozen=True)
class Span(Record):
    """A stretch of both texts. Ranges are of tokens, from the first to behind the last; an empty one covers nothing.

    Attributes:
        same: Whether both say the same there.
        one, other: The tokens of each.
    """

    same: bool
    one: tuple[int, int]
    other: tuple[int, int]


def align(one: Sequence[str], other: Sequence[str]) -> tuple[Span, ...]:
    """The spans of two answers, in order: joined, they hold every token of both once.

    Args:
        one, other: What each token adds to the text, as in ``DecodedTokens.pieces``. A token without text belongs to
            the next one with some (the first tokens of a character), at the end to the last span (the end of turn).
    """
    left, right = _Cuts(one), _Cuts(other)
    spans: list[Span] = []
    at = (0, 0)
    for start, start_other, size in _shared(left.text, right.text):
        cuts = [
            (left.token_at[start + step], right.token_at[start_other + step])
            for step in range(size + 1)
            if start + step in left.token_at and start_other + step in right.token_at
        ]
        for number, cut in enumerate(cuts):
            spans += _between(at, cut, same=number > 0)
            at = max(at[0], cut[0]), max(at[1], cut[1])
    spans += _between(at, (len(one), len(other)), same=False)
    return _with_tails(spans, one, other)


class _Cuts:
    """Where a text's tokens end.

    Attributes:
        token_at: By character: the number of tokens that end there or before it.
    """

    def __init__(self, pieces: Sequence[str]) -> None:
        self.text = "".join(pieces)
        ends = accumulate(map(len, pieces))
        self.token_at = {0: 0} | {end: place + 1 for place, end in enumerate(ends) if pieces[place]}


def _shared(one: str, other: str) -> Iterator[tuple[int, int, int]]:
    """Stretches of characters that both texts have, in order: where each begins, and how many there are."""
    words, others = _WORDS.findall(one), _WORDS.findall(other)
    starts, other_starts = [0, *accumulate(map(len, words))], [0, *accumulate(map(len, others))]
    blocks = difflib.SequenceMatcher(None, words, others, autojunk=False).get_matching_blocks()
    end = end_other = 0
    for block, following in pairwise(blocks):  # the last one is empty and stands behind both texts
        start, start_other = starts[block.a], other_starts[block.b]
        size = starts[block.a + block.size] - start
        room = min(start - end, start_other - end_other)
        back = _alike(one[start - room : start][::-1], other[start_other - room : start_other][::-1])
        ahead = _alike(one[start + size : starts[following.a]], other[start_other + size : other_starts[following.b]])
        yield start - back, start_other - back, back + size + ahead
        end, end_other = start + size + ahead, start_other + size + ahead


def _alike(one: str, other: str) -> int:
    """How many characters both begin with: of the words beside a shared one, a part may be shared too."""
    return next(
        (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


def _between(start: tuple[int, int], end: tuple[int, int], *, same: bool) -> list[Span]:
    if end[0] <= start[0] and end[1] <= start[1]:
        return []
    return [Span(same, (start[0], max(start[0], end[0])), (start[1], max(start[1], end[1])))]


def _with_tails(spans: list[Span], one: Sequence[str], other: Sequence[str]) -> tuple[Span, ...]:
    """Tokens without text at the end are a part of the span before them, not a difference."""
    if len(spans) > 1 and spans[-2].same and not spans[-1].same:
        last, before = spans[-1], spans[-2]
        if not any(one[slice(*last.one)]) and not any(other[slice(*last.other)]):
            joined = Span(True, (before.one[0], last.one[1]), (before.other[0], last.other[1]))
            return (*spans[:-2], joined)
    return tuple(spans)
