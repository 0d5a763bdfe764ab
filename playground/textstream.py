"""Tokens become text while they arrive, exactly the text that decoding all of them at once would give.

A character may be spread over several tokens, and a stop string too; both are held back until it is clear what they
are. The module knows a ``tokenizers.Tokenizer`` and stop strings; it does not know models, prompts or time.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol

from tokenizers import Tokenizer

_BYTE_TOKEN = re.compile(r"<0x[0-9A-Fa-f]{2}>")


class _Decoder(Protocol):
    def push(self, token_id: int) -> str: ...

    def finish(self) -> str: ...


class Detokenizer:
    """What is known of a tokenizer's decoding before any answer begins; one serves all answers of a model."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder()
        self.special_ids = frozenset(index for index, token in added.items() if token.special)
        self._bytes: dict[int, bytes] = {}

    def stream(self) -> _Decoder:
        """A decoder for one answer."""
        return _ByteLevelDecoder(self) if self.is_byte_level else _AnchoredDecoder(self)

    @cached_property
    def is_byte_level(self) -> bool:
        """Whether every token stands for bytes, spelt in the 256 printable characters of GPT-2."""
        decoder = self.tokenizer.decoder
        state: dict[str, Any] = json.loads(decoder.__getstate__()) if decoder else {}
        while state.get("type") == "Sequence" and len(state["decoders"]) == 1:
            state = state["decoders"][0]
        return state.get("type") == "ByteLevel"

    @cached_property
    def anchor(self) -> tuple[int, str]:
        """A token of plain text, and that text: put before others, it keeps a decoder from taking them for the start
        of the text, where some strip a space.
        """
        for word in ("a", "▁a", "e", "▁the", "0"):
            index = self.tokenizer.token_to_id(word)
            if index is not None:
                return index, self.decode([index])
        raise ValueError("the tokenizer has no token for 'a', 'e', 'the' or '0'")

    def is_shown(self, token_id: int) -> bool:
        """False for special tokens and for ids beyond the vocabulary (a model's output may be padded)."""
        return token_id not in self.special_ids and self.tokenizer.id_to_token(token_id) is not None

    def is_byte(self, token_id: int) -> bool:
        """Whether the token is one byte in the manner of byte fallback, ``<0xE3>``."""
        return _BYTE_TOKEN.fullmatch(self.tokenizer.id_to_token(token_id) or "") is not None

    def decode(self, ids: Sequence[int]) -> str:
        """Decode at once, special tokens left out."""
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of a token of a byte-level tokenizer."""
        known = self._bytes.get(token_id)
        if known is None:
            token = self.tokenizer.id_to_token(token_id) or ""
            try:
                known = bytes(_BYTE_OF[character] for character in token)
            except KeyError:  # an added token is spelt as it is
                known = token.encode()
            self._bytes[token_id] = known
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

    Args:
        stop: The answer ends before the first of these that is completed.
    """

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._stop = tuple(text for text in stop if text)
        self._held = ""
        self.stopped = False

    def push(self, piece: str) -> str:
        """What of the text so far can be shown now."""
        if self.stopped:
            return ""
        if not self._stop or not piece:
            return piece
        text = self._held + piece
        found = [index for index in (text.find(stop) for stop in self._stop) if index >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        safe = len(text) - max(_overlap(text, stop) for stop in self._stop)
        self._held = text[safe:]
        return text[:safe]

    def finish(self) -> str:
        """The text ended: what was held back was no stop string."""
        held, self._held = self._held, ""
        return held


class TextStream:
    """The text of one answer, piece by piece.

    Args:
        detokenizer: Of the model's tokenizer.
        stop: The answer ends before the first of these that is completed.
    """

    def __init__(self, detokenizer: Detokenizer, stop: Sequence[str] = ()) -> None:
        self._detokenizer = detokenizer
        self._decoder = detokenizer.stream()
        self._stop = StopStrings(stop)

    @property
    def stopped(self) -> bool:
        """Whether a stop string came."""
        return self._stop.stopped

    def push(self, token_id: int) -> str:
        """Text that is certain now; empty while a character or a possible stop string is incomplete."""
        if self.stopped or not self._detokenizer.is_shown(token_id):
            return ""
        return self._stop.push(self._decoder.push(token_id))

    def finish(self) -> str:
        """What was still held back: bytes that never became a character, the beginning of a stop string."""
        if self.stopped:
            return ""
        piece = self._stop.push(self._decoder.finish())
        return piece + self._stop.finish()


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of ``text`` could be the beginning of ``stop``."""
    for size in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0


class _ByteLevelDecoder:
    """Tokens are bytes; Python's incremental UTF-8 decoder knows when a character is whole."""

    def __init__(self, detokenizer: Detokenizer) -> None:
        self._bytes = detokenizer.token_bytes
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: int) -> str:
        return self._utf8.decode(self._bytes(token_id))

    def finish(self) -> str:
        return self._utf8.decode(b"", final=True)


class _AnchoredDecoder:
    """For every other decoder: each token is decoded behind an anchor, so that its leading space stays.

    Byte-fallback tokens wait for the end of their run, since one bad byte spoils the whole run (the tokenizer then
    writes a replacement character for each byte). At the start of the text there is no anchor, as long as nothing
    visible has come: there the decoder may strip.
    """

    def __init__(self, detokenizer: Detokenizer) -> None:
        self._detokenizer = detokenizer
        self._pending: list[int] = []
        self._begun = False

    def push(self, token_id: int) -> str:
        self._pending.append(token_id)
        return "" if self._detokenizer.is_byte(token_id) else self._take()

    def finish(self) -> str:
        return self._take()

    def _take(self) -> str:
        if not self._pending:
            return ""
        if not self._begun:
            text = self._detokenizer.decode(self._pending)
            self._begun = bool(text)
            if self._begun:
                self._pending.clear()
            return text
        index, prefix = self._detokenizer.anchor
        text = self._detokenizer.decode([index, *self._pending])[len(prefix) :]
        self._pending.clear()
        return text


def _byte_alphabet() -> dict[str, int]:
    """The printable character each byte is spelt with in GPT-2's byte-level BPE, and the byte it stands for."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}


_BYTE_OF = _byte_alphabet()
