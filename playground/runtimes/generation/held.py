"""Answers held to a JSON schema while they are decoded: which tokens may come next, by llguidance.

The grammar's state is told each token of the answer; before each choice it says which tokens keep the answer a
beginning of a JSON text that fits. It knows bytes of tokens and rows of scores; it does not know models or time, but
for what it takes itself.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from playground.errors import first_line, shortened
from playground.messages import Translatable, msg
from playground.runtimes.generation.logits_processors import Scores
from playground.runtimes.generation.schemas import NotHeld, grammar, limits
from playground.runtimes.generation.text_stream import Detokenizer

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

MINUS_INFINITY, SIGN = np.uint32(0xFF800000), np.uint32(31)
"""In fp32 (IEEE 754): its bits, and the place of the sign."""

SAMPLES = (
    '{"name": "Anna", "age": 31, "tags": ["a b", "c"], "ok": true, "none": null}',
    '{"größe": -2.5e3, "名前": "日本語 🙂", "path": "C:\\\\x\\n"}\n',
    "[\n  1,\n  [2, 3]\n]",
)
"""Texts whose tokens must stand for the same bytes here and in the text of an answer."""


class Grammars:
    """What holds the answers of one model.

    Args:
        detokenizer: Of its tokenizer.
        ends: Tokens that end an answer.

    Raises:
        NotHeld: It can't be told which bytes its tokens stand for, or nothing ends an answer.
    """

    def __init__(self, detokenizer: Detokenizer, ends: Collection[int]) -> None:
        if not ends:
            raise NotHeld(msg("no token ends its answers"))
        self._tokenizer = _tokenizer(detokenizer, sorted(ends))
        self._begun = lru_cache(maxsize=4)(self._begin)

    def begin(self, schema: str, given: Sequence[int]) -> Held:
        """For one answer, which begins with the tokens ``given``.

        Raises:
            UsageError: The schema can't be enforced.
            NotHeld: Tokens of the beginning don't fit it.
        """
        matcher = self._begun(schema).deep_copy()
        if given and not matcher.consume_tokens(list(given)):
            raise NotHeld(msg("the answer to go on with does not fit the schema"))
        return Held(matcher)

    def _begin(self, schema: str) -> LLMatcher:
        from llguidance import LLMatcher

        matcher = LLMatcher(self._tokenizer, grammar(schema), log_level=0, limits=limits())
        if matcher.is_error():
            raise NotHeld(shortened(matcher.get_error(), 300))
        return matcher


class Held:
    """One answer that is held. Called as the last rule for each row of scores.

    Attributes:
        seconds: What finding and applying the allowed tokens has taken.
        steps: How many tokens were chosen so.
    """

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher
        self._length = -1
        self._most: Scores = np.empty(0, np.float32)
        self.seconds, self.steps = 0.0, 0

    def __call__(self, scores: Scores, history: Sequence[int]) -> None:
        """
        Raises:
            NotHeld: No token is left that the schema, and whatever was done to the scores before, both allow.
        """
        began = time.perf_counter()
        if self._length != len(history):
            self._most = _most(self._matcher.compute_bitmask())
            self._length = len(history)
        most = self._most[: len(scores)]
        np.minimum(scores[: len(most)], most, out=scores[: len(most)])
        scores[len(most) :] = -np.inf
        if scores.max() == -np.inf:
            raise NotHeld(_why(self._matcher) or msg("no token is left that the schema and the other settings allow"))
        self.seconds += time.perf_counter() - began

    def take(self, token: int) -> bool:
        """Note what was chosen.

        Returns:
            Whether the JSON text is complete, and nothing can follow.

        Raises:
            NotHeld: It does not fit, because a setting forced it.
        """
        began = time.perf_counter()
        if not self._matcher.consume_token(token):
            raise NotHeld(_why(self._matcher) or msg("a token was forced that does not fit the schema"))
        self.steps += 1
        over = self._matcher.is_stopped()
        self.seconds += time.perf_counter() - began
        return over

    @property
    def complete(self) -> bool:
        """Whether what has come is a whole JSON text that fits."""
        return self._matcher.is_accepting() or self._matcher.stop_reason() in ("NoExtension", "EndOfSentence")


def _most(mask: bytes) -> Scores:
    """The most that each token's score may be: infinity where its bit is set, else minus infinity. By their bits: the
    smaller of two rows is found eight times faster than numbers are put under a mask.
    """
    bits = np.unpackbits(np.frombuffer(mask, np.uint8), bitorder="little").astype(np.uint32)
    bits <<= SIGN
    return np.subtract(MINUS_INFINITY, bits, out=bits).view(np.float32)


def _why(matcher: LLMatcher) -> Translatable | None:
    return shortened(matcher.get_error(), 300) if matcher.is_error() else None


def _tokenizer(detokenizer: Detokenizer, ends: list[int]) -> LLTokenizer:
    """The vocabulary as bytes.

    Raises:
        NotHeld: Its tokens can't be told as bytes, or not as the text of an answer has them.
    """
    from llguidance import LLTokenizer, TokenizerWrapper

    kind = _kind(detokenizer)
    if kind == "bytes":
        try:
            made = LLTokenizer(detokenizer.tokenizer.to_str(), eos_token=ends, slices=LLTokenizer.json_slices())
        except Exception as error:  # ValueError, and a panic of Rust for tokenizers nobody thought of
            raise NotHeld(msg("its tokenizer can't be read as bytes ({reason})", reason=first_line(error))) from error
    elif kind == "words":
        wrapper = TokenizerWrapper(_Words(detokenizer, ends))
        made = LLTokenizer(wrapper, eos_token=ends, slices=LLTokenizer.json_slices())
    else:
        raise NotHeld(msg("what its tokens add to a text depends on their neighbours"))
    for text in SAMPLES:
        ids = detokenizer.tokenizer.encode(text, add_special_tokens=False).ids
        shown = [token for token in ids if detokenizer.is_shown(token)]
        if made.decode_bytes(shown).decode("utf-8", "replace").lstrip(" ") != detokenizer.decode(shown).lstrip(" "):
            raise NotHeld(msg("its tokens stand for other bytes than its text has"))
    return made


def _kind(detokenizer: Detokenizer) -> str:
    """``bytes``: every byte has a token (byte-level, or SentencePiece with bytes to fall back on). ``words``: each
    token stands for text alone (SentencePiece without). Else empty.
    """
    if detokenizer.tidy:
        return ""
    state: Any = detokenizer.decoder_state
    kinds = {each.get("type") for each in state.get("decoders", [state])}
    if kinds & {"ByteLevel", "ByteFallback"}:
        return "bytes"
    return "words" if kinds == {"Metaspace"} else ""


class _Words:
    """A SentencePiece vocabulary without bytes, as ``TokenizerWrapper`` wants it."""

    def __init__(self, detokenizer: Detokenizer, ends: list[int]) -> None:
        tokenizer = detokenizer.tokenizer
        names = {index: name for name, index in tokenizer.get_vocab(with_added_tokens=True).items()}
        size = max(names, default=-1) + 1
        space = detokenizer.decoder_state.get("replacement", "▁")
        self.eos_token_id, self.bos_token_id = ends[0], None
        self.tokens = [names.get(index, "").replace(space, " ").encode() for index in range(size)]
        unknown = getattr(tokenizer.model, "unk_token", None)
        self.special_token_ids = [
            index for index in range(size) if not detokenizer.is_shown(index) or names.get(index) == unknown
        ]
        hidden = set(self.special_token_ids)
        self._ids = {each: index for index, each in enumerate(self.tokens) if each and index not in hidden}
        self._longest = max(map(len, self._ids), default=0)

    def __call__(self, text: bytes) -> list[int]:
        """Tokens that are ``text``, the longest first, up to where it has none. Its own tokenizer would put a space
        before it.
        """
        ids: list[int] = []
        while size := next((size for size in range(self._longest, 0, -1) if text[:size] in self._ids), 0):
            ids.append(self._ids[text[:size]])
            text = text[size:]
        return ids
