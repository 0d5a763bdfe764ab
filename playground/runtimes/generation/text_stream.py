"""Tokens become text while they arrive, exactly the text that decoding all of them at once would give.

A character may be spread over several tokens, and a stop string too; both are held back until it is clear what they
are. The module knows a ``tokenizers.Tokenizer`` and stop strings; it does not know models, prompts or time.
"""

from __future__ import annotations

import codecs
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import Any, Protocol

from tokenizers import Tokenizer, models

from playground.runtimes.generation.detokenizing import TIDIED, Decoder, State, bytes_of, overlap, state_of


class _Decoder(Protocol):
    def push(self, token_id: int) -> str: ...

    def finish(self) -> str: ...


class Detokenizer:
    """What is known of a tokenizer's decoding before any answer begins; one serves all answers of a model.

    Args:
        tokenizer: Its decoder is read.
        config: Of tokenizer_config.json, ``clean_up_tokenization_spaces`` is obeyed as transformers does.
    """

    def __init__(self, tokenizer: Tokenizer, config: Mapping[str, Any] = MappingProxyType({})) -> None:
        self.tokenizer = tokenizer
        even_bpe = config.get("clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output")
        self.tidy = bool(config.get("clean_up_tokenization_spaces")) and (
            bool(even_bpe) or not isinstance(tokenizer.model, models.BPE)
        )
        added = tokenizer.get_added_tokens_decoder()
        self.special_ids = frozenset(index for index, token in added.items() if token.special)
        self._bytes: dict[int, bytes] = {}

    def stream(self) -> _Decoder:
        """A decoder for one answer."""
        return _ByteLevelDecoder(self) if self.is_byte_level and not self.tidy else _SteppedDecoder(self)

    @cached_property
    def decoder_state(self) -> State:
        """The tokenizer's decoder as tokenizer.json spells it; {} for none."""
        return state_of(self.tokenizer.decoder)

    @cached_property
    def is_byte_level(self) -> bool:
        """Whether every token stands for bytes, spelt in the 256 printable characters of GPT-2."""
        return self.decoder_state.get("type") == "ByteLevel"

    def is_shown(self, token_id: int) -> bool:
        """False for special tokens and for ids beyond the vocabulary (a model's output may be padded)."""
        return token_id not in self.special_ids and self.tokenizer.id_to_token(token_id) is not None

    def decode(self, ids: Sequence[int]) -> str:
        """Decode at once, special tokens left out."""
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        for spaced, close in TIDIED if self.tidy else ():
            text = text.replace(spaced, close)
        return text

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of a token of a byte-level tokenizer."""
        known = self._bytes.get(token_id)
        if known is None:
            known = self._bytes[token_id] = bytes_of(self.tokenizer.id_to_token(token_id) or "")
        return known

    def readable(self, token_id: int) -> str:
        """One token for a reader: its text; bytes that are no whole character as ``<0xE3>``."""
        token = self.tokenizer.id_to_token(token_id)
        if token is None:
            return f"<{token_id}>"
        if token_id in self.special_ids or not self.is_byte_level:
            return str(token).replace("▁", " ")
        raw = self.token_bytes(token_id)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return "".join(f"<0x{byte:02X}>" for byte in raw)


class StopStrings:
    """Text on its way to a reader, held back while it could become a stop string, cut before the first that does.

    Some text is read for stop strings and never shown: what a control token is called.

    Args:
        stop: The answer ends before the first of these that is completed.
    """

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._stop = tuple(text for text in stop if text)
        self._held: list[tuple[str, bool]] = []  # text, and whether it is shown
        self.stopped = False

    def push(self, piece: str, shown: bool = True) -> str:
        """What of the text so far can be shown now."""
        if self.stopped:
            return ""
        if not self._stop or not piece:
            return piece if shown else ""
        held = [*self._held, (piece, shown)]
        text = "".join(part for part, _ in held)
        found = [(at + len(stop), at) for stop in self._stop if (at := text.find(stop)) >= 0]
        if found:  # one piece may complete several: what is shown does not depend on where it was cut
            self.stopped, self._held = True, []
            return _shown(held, min(found)[1])[0]
        given, self._held = _shown(held, len(text) - max(overlap(text, stop) for stop in self._stop))
        return given

    def finish(self) -> str:
        """The text ended: what was held back was no stop string."""
        held, self._held = self._held, []
        return "".join(text for text, shown in held if shown)


def _shown(parts: Sequence[tuple[str, bool]], size: int) -> tuple[str, list[tuple[str, bool]]]:
    """What of the first ``size`` characters is shown, and the parts behind them."""
    given, rest = [], []
    for text, shown in parts:
        before, behind = text[:size], text[size:]
        size -= len(before)
        if shown:
            given.append(before)
        if behind:
            rest.append((behind, shown))
    return "".join(given), rest


class TextStream:
    """The text of one answer, piece by piece.

    Args:
        detokenizer: Of the model's tokenizer.
        stop: The answer ends before the first of these that is completed; control tokens are read for them by their
            names, though they are never shown.
        ends: Tokens that end an answer: not shown, whatever the tokenizer says of them.
    """

    def __init__(self, detokenizer: Detokenizer, stop: Sequence[str] = (), ends: Collection[int] = ()) -> None:
        self._detokenizer = detokenizer
        self._decoder = detokenizer.stream()
        self._stop = StopStrings(stop)
        self._ends = ends

    @property
    def stopped(self) -> bool:
        """Whether a stop string was completed."""
        return self._stop.stopped

    def push(self, token_id: int) -> str:
        """The text to show for one more token; "" while a character or a possible stop string is incomplete."""
        if self.stopped:
            return ""
        if token_id in self._ends or not self._detokenizer.is_shown(token_id):
            return self._stop.push(self._detokenizer.tokenizer.id_to_token(token_id) or "", shown=False)
        return self._stop.push(self._decoder.push(token_id))

    def finish(self) -> str:
        """What was still held back: bytes that never became a character, the beginning of a stop string."""
        if self.stopped:
            return ""
        piece = self._stop.push(self._decoder.finish())
        return piece + self._stop.finish()


class _ByteLevelDecoder:
    """Tokens are bytes; Python's incremental UTF-8 decoder knows when a character is whole."""

    def __init__(self, detokenizer: Detokenizer) -> None:
        self._bytes = detokenizer.token_bytes
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: int) -> str:
        return self._utf8.decode(self._bytes(token_id))

    def finish(self) -> str:
        return self._utf8.decode(b"", final=True)


class _SteppedDecoder:
    """For every other decoder: each of its steps keeps back what a later token may still change."""

    def __init__(self, detokenizer: Detokenizer) -> None:
        self._token = detokenizer.tokenizer.id_to_token
        self._decoder = Decoder(detokenizer.decoder_state, detokenizer.tidy)

    def push(self, token_id: int) -> str:
        return self._decoder.push(self._token(token_id) or "")

    def finish(self) -> str:
        return self._decoder.finish()
