"""Two texts compared by words, and which of several say the same. Values in, values out: no model, no screen.

Words are those of Unicode: letters, digits and the marks upon them. Where a script writes no spaces (Chinese, Japanese
kana, Thai, Lao, Khmer, Burmese) a character with its marks is a word; a run of katakana is one. A punctuation mark is a
piece of its own. White space is kept for showing and never compared, and neither are two ways to encode one letter.

The words both texts have in order are a longest common subsequence (rapidfuzz's, by bits: the time grows with the
product of both lengths, divided by 64). Matches that only chop a change into bits are then made part of it, by the rule
of diff-match-patch's semantic clean-up: what is alike goes where it is no longer than the changes on each of its sides.

It compares words. It does not know what is true, nor that two other words mean the same.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from rapidfuzz.distance import LCSseq

from playground.records import Record

MAX_WORDS = 12_000
"""Words and marks of a text that are compared; both together need 18 MB for so many, and a second."""
AGREE_AT = 0.6
"""Two answers share so much of their words, and count as saying the same. docs/measurement.md has what it rests on."""

Kind = Literal["word", "mark"]


@dataclass(frozen=True)
class Word:
    """A word or a punctuation mark.

    Attributes:
        text: As it stands in the answer.
        space: The white space behind it (of the first one also what stands before it, see ``words``).
        key: What is compared: ``text`` in its composed form (NFC).
    """

    text: str
    space: str
    kind: Kind
    key: str


@dataclass(frozen=True)
class Piece(Record):
    """A stretch of both texts.

    Attributes:
        alike: Whether the words are the same on both sides.
        left: Of the first text, with its own white space; empty where something was added.
        right: Of the second text; empty where something was left out.
    """

    alike: bool
    left: str
    right: str


@dataclass(frozen=True)
class TextDiff(Record):
    """Two texts, word by word.

    Attributes:
        pieces: Joined, their left sides are the first text and their right sides the second.
        left_words: Words of the first text, punctuation left out.
        common: Words that stand in both, in the same order.
        cut: Whether a text was too long to be compared to its end; the rest is told as a change.
    """

    pieces: tuple[Piece, ...]
    left_words: int
    right_words: int
    common: int
    cut: bool = False

    @property
    def same(self) -> bool:
        """Whether no word and no mark differs."""
        return all(piece.alike for piece in self.pieces)

    @property
    def removed(self) -> int:
        """Words of the first text that the second has not, at their place."""
        return self.left_words - self.common

    @property
    def added(self) -> int:
        """Words of the second text that the first has not, at their place."""
        return self.right_words - self.common


# -- words ----------------------------------------------------------------------------------------------------------

_ALONE = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x3005, 0x3007),  # 々〆〇
    (0x3041, 0x309F),  # Hiragana
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),  # Han
    (0xF900, 0xFAFF),
    (0x20000, 0x323AF),
)
_KATAKANA = ((0x30A0, 0x30FF), (0x31F0, 0x31FF), (0xFF66, 0xFF9F))
_APOSTROPHES = frozenset("'’ʼ")
JOINER = "\u200d"
"""Zero-width joiner, which makes one emoji of several."""


@lru_cache(maxsize=8192)
def _sort(character: str) -> str:
    """Of ``alone`` each is a word, of ``katakana`` and ``word`` a run, and ``above`` goes with what is before it."""
    code = ord(character)
    category = unicodedata.category(character)
    if category.startswith("M") or category == "Sk":
        return "above"
    if character.isspace():
        return "space"
    if any(low <= code <= high for low, high in _KATAKANA) and category[0] == "L":
        return "katakana"
    if any(low <= code <= high for low, high in _ALONE) and category[0] in "LN":
        return "alone"
    return "word" if category[0] in "LN" or character == "_" else "mark"


def words(text: str) -> list[Word]:
    """The words and marks of ``text``, in order. White space before the first one is lost where there is no word."""
    found: list[Word] = []
    at, end = 0, len(text)
    while at < end and text[at].isspace():
        at += 1
    lead = text[:at]
    while at < end:
        stop = _end(text, at, end)
        behind = stop
        while behind < end and text[behind].isspace():
            behind += 1
        piece = text[at:stop]
        kind: Kind = "mark" if _sort(text[at]) == "mark" and not _is_sign(text, at) else "word"
        found.append(Word(lead + piece, text[stop:behind], kind, unicodedata.normalize("NFC", piece)))
        lead, at = "", behind
    return found


def _end(text: str, at: int, end: int) -> int:
    """Where the word or mark that begins at ``at`` ends."""
    sort, stop = _sort(text[at]), at + 1
    if _is_sign(text, at):
        sort = "word"
    while stop < end:
        following = _sort(text[stop])
        goes_on = following == sort and sort in ("word", "katakana")
        bound = text[stop - 1] == JOINER  # emoji of several
        if not (following == "above" or goes_on or bound or text[stop] == JOINER or _is_inside(text, stop, sort)):
            break
        stop += 1
    return stop


def _is_sign(text: str, at: int) -> bool:
    """Whether a minus stands before a number, and not between two words."""
    number = text[at] in "-−" and text[at + 1 : at + 2].isdecimal()
    return number and (at == 0 or text[at - 1].isspace() or text[at - 1] in "([{=$")


def _is_inside(text: str, at: int, sort: str) -> bool:
    """Whether what stands at ``at`` is no punctuation but part of a word: don’t, 3.14, 1,000."""
    before, behind = text[at - 1], text[at + 1 : at + 2]
    if sort != "word" or not behind or _sort(behind) != "word":
        return False
    return text[at] in _APOSTROPHES or (text[at] in ".," and before.isdecimal() and behind.isdecimal())


# -- two texts ------------------------------------------------------------------------------------------------------

_Span = tuple[bool, int, int, int, int]
"""Whether alike, and from where to where in the one and the other list of words."""


def text_diff(left: str, right: str) -> TextDiff:
    """Compare two texts word by word.

    ``TextDiff.common`` is the length of the longest common subsequence of words, less what was made part of a change.
    """
    one, other = words(left), words(right)
    spans = _cleaned(_spans(one[:MAX_WORDS], other[:MAX_WORDS]), one, other)
    cut = len(one) > MAX_WORDS or len(other) > MAX_WORDS
    if cut:
        spans.append((False, MAX_WORDS, len(one), MAX_WORDS, len(other)))
    pieces = tuple(Piece(alike, _text(one[a:b]), _text(other[c:d])) for alike, a, b, c, d in spans)
    return TextDiff(
        pieces=pieces,
        left_words=_count(one),
        right_words=_count(other),
        common=sum(_count(one[a:b]) for alike, a, b, _, _ in spans if alike),
        cut=cut,
    )


def _text(part: Sequence[Word]) -> str:
    return "".join(word.text + word.space for word in part)


def _count(part: Iterable[Word]) -> int:
    return sum(word.kind == "word" for word in part)


def _spans(one: Sequence[Word], other: Sequence[Word]) -> list[_Span]:
    """Alike and changed stretches by turns. Numbers stand for words, so that equal hashes are equal words."""
    numbers: dict[str, int] = {}
    first, second = ([numbers.setdefault(word.key, len(numbers)) for word in side] for side in (one, other))
    spans: list[_Span] = []
    for step in LCSseq.opcodes(first, second):
        alike, a, b, c, d = step.tag == "equal", step.src_start, step.src_end, step.dest_start, step.dest_end
        if spans and spans[-1][0] == alike:
            spans[-1] = (alike, spans[-1][1], b, spans[-1][3], d)
        else:
            spans.append((alike, a, b, c, d))
    return spans


def _cleaned(spans: list[_Span], one: Sequence[Word], other: Sequence[Word]) -> list[_Span]:
    """Without matches that are no longer, in characters, than the change before and the change behind them."""
    # Lengths are added up, not measured again, and each span is merged once: the time grows with the length.
    kept: list[tuple[_Span, int, int]] = []
    for span in spans:
        _, a, b, c, d = span
        kept.append((span, sum(len(word.text) for word in one[a:b]), sum(len(word.text) for word in other[c:d])))
        while len(kept) >= 3 and not kept[-1][0][0]:
            (first, *had), (_, *shared), (last, *has) = kept[-3:]
            if max(shared) > min(max(had), max(has)):
                break
            merged = (False, first[1], last[2], first[3], last[4])
            kept[-3:] = [(merged, had[0] + shared[0] + has[0], had[1] + shared[1] + has[1])]
    return [span for span, _, _ in kept]


# -- which of several say the same ------------------------------------------------------------------------------------

_FINAL = (
    re.compile(r"\\boxed\s*\{([^{}]{1,80})\}"),
    re.compile(r"####\s*(\S[^\n]{0,79})"),
    re.compile(
        r"(?:\banswer\s+is\b|\banswer\s*:|答えは|答え[:：])[\s:：*$]*([^\n。]{1,80}?)(?=[.!]?(?:\s*\n|\s*$|\s+[A-Z])|。)",
        re.I,
    ),
)
"""How answers to exercises name what they come to: LaTeX's box, GSM8K's mark, and words."""


@dataclass(frozen=True)
class Agreement(Record):
    """Which answers say the same.

    Attributes:
        similarity: Of each answer with each, 0 to 1; see ``agreement``.
        groups: Positions of the answers; in a group each agrees with each. Large groups first, then by position.
        by_final_answer: Whether some pair was judged by its final answers.
        at: From which similarity on two answers agree.
    """

    similarity: tuple[tuple[float, ...], ...]
    groups: tuple[tuple[int, ...], ...]
    by_final_answer: bool = False
    at: float = AGREE_AT


def agreement(texts: Sequence[str], prompt: str = "") -> Agreement:
    """How alike each two answers to ``prompt`` are, and which belong together.

    It is the Sørensen–Dice coefficient of their terms,

        2 · |A ∩ B| / (|A| + |B|)

    where A and B are sets: of a pair that both name a final answer (``final_answer``) the terms of that, and of any
    other pair those of the whole answers, without the terms of the prompt, which every answer repeats. Terms are words
    without capitals and punctuation, and of a run of characters that are words by themselves each two neighbours. An
    answer that has nothing but the prompt's words keeps them. Two empty answers are alike.

    Groups are made by complete linkage: the two groups whose least similar pair is the most similar are joined, as long
    as that pair agrees.
    """
    asked = terms(prompt)
    sets = [_without(terms(text), asked) for text in texts]
    finals = [terms(final_answer(text)) for text in texts]
    n = len(texts)
    table = [[1.0] * n for _ in range(n)]
    by_final = False
    for i in range(n):
        for j in range(i):
            named = bool(finals[i] and finals[j])
            by_final = by_final or named
            pair = (finals[i], finals[j]) if named else (sets[i], sets[j])
            table[i][j] = table[j][i] = _dice(*pair)
    return Agreement(tuple(map(tuple, table)), _groups(table), by_final)


def terms(text: str) -> frozenset[str]:
    """The terms of a text, see ``agreement``."""
    found: set[str] = set()
    run = ""
    for word in words(text):
        alone = word.kind == "word" and _sort(word.key[:1] or " ") == "alone"
        if alone:
            run += unicodedata.normalize("NFKC", word.key)
        if run and (not alone or word.space):
            found |= {run[at : at + 2] for at in range(max(1, len(run) - 1))}
            run = ""
        if word.kind == "word" and not alone:
            found.add(unicodedata.normalize("NFKC", word.key).casefold().replace("’", "'"))
    return frozenset(found | {run[at : at + 2] for at in range(max(1, len(run) - 1)) if run})


def final_answer(text: str) -> str:
    r"""What an answer says it comes to; empty where it names nothing.

    The last ``\boxed{…}`` counts, else the last ``#### …``, else what follows the last "answer is", "answer:" or
    「答えは」 up to the end of the sentence.
    """
    for pattern in _FINAL:
        named: list[str] = pattern.findall(text)
        if named:
            return named[-1].strip(" *$.")
    return ""


def _without(own: frozenset[str], asked: frozenset[str]) -> frozenset[str]:
    return own - asked or own


def _dice(one: frozenset[str], other: frozenset[str]) -> float:
    return 2 * len(one & other) / (len(one) + len(other)) if one or other else 1.0


def _groups(table: Sequence[Sequence[float]]) -> tuple[tuple[int, ...], ...]:
    groups: list[tuple[int, ...]] = [(place,) for place in range(len(table))]

    def least(one: tuple[int, ...], other: tuple[int, ...]) -> float:
        return min(table[i][j] for i in one for j in other)

    while len(groups) > 1:
        pairs = [(least(groups[i], groups[j]), -i, -j) for j in range(len(groups)) for i in range(j)]
        alike, i, j = max(pairs)
        if alike < AGREE_AT:
            break
        joined = tuple(sorted(groups[-i] + groups[-j]))
        groups = [group for place, group in enumerate(groups) if place not in (-i, -j)] + [joined]
        groups.sort()
    return tuple(sorted(groups, key=lambda group: (-len(group), group)))
