"""The decoders of the ``tokenizers`` library one token at a time: what they give is what decoding all at once gives.

A decoder there is a function of the whole list of tokens: some look at whether a token is the first or the last, some
at its neighbours, some at the text that all of them make together. Each is written here as a step that is told tokens
as they come and keeps back what later ones may still change. The module knows decoders as tokenizer.json spells them;
it does not know ids, special tokens, or how an answer ends.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from tokenizers import Regex, decoders

State = dict[str, Any]
Pieces = list[str]

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2}|\+[0-9A-Fa-f])>")  # the library reads a sign there too
_CLEANUP = (
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" do not", " don't"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
)
"""What the library's WordPiece and CTC decoders replace, in this order, where ``cleanup`` is set."""
TIDIED = tuple(pair for pair in _CLEANUP if pair[0] != " do not")
"""What transformers replaces in a decoded text where ``clean_up_tokenization_spaces`` is set."""


class DecodeStep(Protocol):
    """Part of a decoder. Before a ``Fuse`` each piece is a token, behind it a fragment of the one text."""

    def push(self, piece: str) -> Pieces: ...

    def finish(self) -> Pieces: ...


class Decoder:
    """One text on its way.

    Args:
        state: A decoder as tokenizer.json spells it; empty where the tokenizer has none, and tokens are joined by
            spaces.
        tidy: Whether ``TIDIED`` is replaced in the text.
    """

    def __init__(self, state: State, tidy: bool = False) -> None:
        self._steps: list[DecodeStep] = list(_steps(_flat(state))) if state else [_Joined()]
        self._steps += [_Literal(*pair) for pair in TIDIED] if tidy else []

    def push(self, token: str) -> str:
        """The text that no later token changes, and that has not been given yet."""
        return "".join(self._through([token], self._steps))

    def finish(self) -> str:
        """The rest: no token follows."""
        pieces: Pieces = []
        for place, step in enumerate(self._steps):
            pieces += self._through(step.finish(), self._steps[place + 1 :])
        return "".join(pieces)

    @staticmethod
    def _through(pieces: Pieces, steps: list[DecodeStep]) -> Pieces:
        for step in steps:
            pieces = [given for piece in pieces for given in step.push(piece)]
        return pieces


def state_of(decoder: decoders.Decoder | None) -> State:
    """A decoder as tokenizer.json spells it, a sequence of one as that one; {} for none."""
    state: State = json.loads(decoder.__getstate__()) if decoder else {}
    while state.get("type") == "Sequence" and len(state["decoders"]) == 1:
        state = state["decoders"][0]
    return state


def bytes_of(token: str) -> bytes:
    """A token of a byte-level tokenizer; an added token that is not spelt in its alphabet stands for itself."""
    try:
        return bytes(_BYTE_OF[character] for character in token)
    except KeyError:
        return token.encode()


def _flat(state: State) -> Iterable[State]:
    if state["type"] != "Sequence":
        yield state
        return
    for inner in state["decoders"]:
        yield from _flat(inner)


def _steps(states: Iterable[State]) -> Iterable[DecodeStep]:
    fused = False
    for state in states:
        kind = state["type"]
        yield from (_IN_ONE_TEXT if fused else _TOKEN_BY_TOKEN)[kind](state)
        fused = fused or kind in ("Fuse", "ByteLevel")


# -- steps that are told tokens -------------------------------------------------------------------------------------


class _Each:
    """A function of each token, and of whether it is the first."""

    def __init__(self, function: Callable[[str, bool], str]) -> None:
        self._function, self._first = function, True

    def push(self, piece: str) -> Pieces:
        first, self._first = self._first, False
        return [self._function(piece, first)]

    def finish(self) -> Pieces:
        return []


class _Joined(_Each):
    """No decoder at all: the library puts a space between tokens."""

    def __init__(self) -> None:
        super().__init__(lambda token, first: token if first else f" {token}")


class _Suffix:
    """A suffix that ends a word becomes a space, except in the last token."""

    def __init__(self, state: State) -> None:
        self._suffix: str = state["suffix"]
        self._held: str | None = None

    def push(self, piece: str) -> Pieces:
        before, self._held = self._held, piece
        return [] if before is None else [before.replace(self._suffix, " ")]

    def finish(self) -> Pieces:
        before, self._held = self._held, None
        return [] if before is None else [before.replace(self._suffix, "")]


class _Ctc:
    """What repeats counts once, and the blank token is nothing."""

    def __init__(self, state: State) -> None:
        self._pad, self._delimiter, self._cleanup = (
            state["pad_token"],
            state["word_delimiter_token"],
            state["cleanup"],
        )
        self._before: str | None = None

    def push(self, piece: str) -> Pieces:
        if piece == self._before:
            return []
        self._before = piece
        text = piece.replace(self._pad, "")
        if self._cleanup:
            text = _clean(text).replace(self._delimiter, " ")
        return [text] if text else []

    def finish(self) -> Pieces:
        return []


class _ByteRuns:
    """Tokens that are bytes wait for the end of their run: one bad byte spoils the whole run, and each of its bytes
    is then written as a replacement character.
    """

    def __init__(self) -> None:
        self._run = bytearray()

    def push(self, piece: str) -> Pieces:
        if found := _BYTE_TOKEN.fullmatch(piece):
            self._run.append(int(found[1], 16))
            return []
        return [*self.finish(), piece]

    def finish(self) -> Pieces:
        run, self._run = self._run, bytearray()
        try:
            return [run.decode()] if run else []
        except UnicodeDecodeError:
            return ["\ufffd"] * len(run)


class _Bytes:
    """Tokens are bytes; Python's incremental UTF-8 decoder knows when a character is whole."""

    def __init__(self) -> None:
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, piece: str) -> Pieces:
        return [self._utf8.decode(bytes_of(piece))]

    def finish(self) -> Pieces:
        return [self._utf8.decode(b"", final=True)]


# -- steps that are told fragments of one text ----------------------------------------------------------------------


class _Literal:
    """Replaces a string wherever it stands, also across fragments."""

    def __init__(self, pattern: str, content: str) -> None:
        self._pattern, self._content, self._held = pattern, content, ""

    def push(self, piece: str) -> Pieces:
        *before, rest = (self._held + piece).split(self._pattern)
        safe = len(rest) - overlap(rest, self._pattern)
        self._held = rest[safe:]
        return [self._content.join([*before, rest[:safe]])]

    def finish(self) -> Pieces:
        held, self._held = self._held, ""
        return [held]


class _Whole:
    """A function of the whole text: nothing is known before its end."""

    def __init__(self, function: Callable[[str], str]) -> None:
        self._function = function
        self._pieces: Pieces = []

    def push(self, piece: str) -> Pieces:
        self._pieces.append(piece)
        return []

    def finish(self) -> Pieces:
        return [self._function("".join(self._pieces))]


class _Ends:
    """Strips up to so many of one character at the start and the end of the text."""

    def __init__(self, state: State) -> None:
        self._content: str = state["content"]
        self._start: int = state["start"]
        self._stop: int = state["stop"]
        self._held = ""

    def push(self, piece: str) -> Pieces:
        while self._start and piece:
            if not piece.startswith(self._content):
                self._start = 0
                break
            piece, self._start = piece[1:], self._start - 1
        text = self._held + piece
        safe = len(text) - self._stop
        self._held = text[max(safe, 0) :]
        return [text[:safe]] if safe > 0 else []

    def finish(self) -> Pieces:
        held, self._held = self._held, ""
        while held.endswith(self._content) and self._stop:
            held, self._stop = held[:-1], self._stop - 1
        return [held]


class _OneByteToken:
    """A text that is nothing but ``<0x41>`` is that byte; any other stands as it is."""

    def __init__(self) -> None:
        self._held: str | None = ""

    def push(self, piece: str) -> Pieces:
        if self._held is None:
            return [piece]
        self._held += piece
        if len(self._held) <= len("<0x41>"):
            return []
        text, self._held = self._held, None
        return [text]

    def finish(self) -> Pieces:
        run = _ByteRuns()
        return [*run.push(self._held or ""), *run.finish()]


def overlap(text: str, pattern: str) -> int:
    """How many characters at the end of ``text`` could be the beginning of ``pattern``."""
    for size in range(min(len(pattern) - 1, len(text)), 0, -1):
        if text.endswith(pattern[:size]):
            return size
    return 0


# -- each decoder of the library ------------------------------------------------------------------------------------


def _clean(text: str) -> str:
    for pattern, content in _CLEANUP:
        text = text.replace(pattern, content)
    return text


def _word_piece(state: State) -> Callable[[str, bool], str]:
    prefix: str = state["prefix"]

    def decode(token: str, first: bool) -> str:
        if not first:
            token = token.removeprefix(prefix) if token.startswith(prefix) else f" {token}"
        return _clean(token) if state["cleanup"] else token

    return decode


def _metaspace(state: State) -> Callable[[str, bool], str]:
    strips = state["prepend_scheme"] != "never"
    return lambda token, first: token.replace(state["replacement"], "" if first and strips else " ")


def _strip(state: State) -> Callable[[str, bool], str]:
    def decode(token: str, _first: bool) -> str:
        ends = _Ends(state)
        return "".join([*ends.push(token), *ends.finish()])

    return decode


def _replace(state: State) -> Callable[[str], str]:
    """By the library's own regular expressions, which Python's are not."""
    pattern = state["pattern"]
    by = decoders.Replace(Regex(pattern["Regex"]) if "Regex" in pattern else pattern["String"], state["content"])
    return lambda text: str(by.decode([text]))


def _replace_each(state: State) -> Callable[[str, bool], str]:
    literal, content, by = state["pattern"].get("String"), state["content"], _replace(state)
    if literal:
        return lambda token, _first: token.replace(literal, content)
    return lambda token, _first: by(token)


def _replace_in_text(state: State) -> list[DecodeStep]:
    literal = state["pattern"].get("String")
    return [_Literal(literal, state["content"]) if literal else _Whole(_replace(state))]


def _cleanup_in_text(state: State) -> list[DecodeStep]:
    return [_Literal(*pair) for pair in _CLEANUP] if state["cleanup"] else []


def _ctc_in_text(state: State) -> list[DecodeStep]:
    blank: list[DecodeStep] = [_Literal(state["pad_token"], "")] if state["pad_token"] else []
    delimiter: str = state["word_delimiter_token"]
    if not state["cleanup"]:
        return blank
    spaces: DecodeStep = _Literal(delimiter, " ") if delimiter else _Whole(lambda text: text.replace("", " "))
    return [*blank, *_cleanup_in_text(state), spaces]


_TOKEN_BY_TOKEN: dict[str, Callable[[State], list[DecodeStep]]] = {
    "BPEDecoder": lambda state: [_Suffix(state)],
    "ByteFallback": lambda _: [_ByteRuns()],
    "ByteLevel": lambda _: [_Bytes()],
    "CTC": lambda state: [_Ctc(state)],
    "Fuse": lambda _: [],
    "Metaspace": lambda state: [_Each(_metaspace(state))],
    "Replace": lambda state: [_Each(_replace_each(state))],
    "Strip": lambda state: [_Each(_strip(state))],
    "WordPiece": lambda state: [_Each(_word_piece(state))],
}
_IN_ONE_TEXT: dict[str, Callable[[State], list[DecodeStep]]] = {
    "BPEDecoder": lambda state: [_Literal(state["suffix"], "")] if state["suffix"] else [],
    "ByteFallback": lambda _: [_OneByteToken()],
    "ByteLevel": lambda _: [_Whole(lambda text: bytes_of(text).decode(errors="replace"))],
    "CTC": _ctc_in_text,
    "Fuse": lambda _: [],
    "Metaspace": lambda state: [_Each(lambda piece, _first: _metaspace(state)(piece, True))],
    "Replace": _replace_in_text,
    "Strip": lambda state: [_Ends(state)],
    "WordPiece": _cleanup_in_text,
}


def _byte_alphabet() -> dict[str, int]:
    """The printable character each byte is spelt with in GPT-2's byte-level BPE, and the byte it stands for."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}


_BYTE_OF = _byte_alphabet()
