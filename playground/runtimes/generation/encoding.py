"""Text to token ids, with the control tokens that a user typed kept as the text they are.

The module knows one tokenizer and which of its tokens control a chat; it does not know templates' turns, requests or
time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Encoding, Tokenizer

from playground.errors import RunError
from playground.messages import foreign, msg
from playground.records import ModelSpec
from playground.runtimes.generation.chat_template import ChatTemplate, Refused
from playground.runtimes.generation.provenance import Control


class Encoder:
    """Encodes for one model.

    Args:
        tokenizer: The model's own.
        control: Ids of the tokens that nobody may write into a chat but its template.
        model: For messages.

    Attributes:
        unknown: Of those, what stands for characters that the tokenizer does not know.
    """

    def __init__(self, tokenizer: Tokenizer, control: frozenset[int], model: str) -> None:
        self._tokenizer = tokenizer
        self._control = control
        self._model = model
        # What stands for characters that the tokenizer does not know, as nobody's private one.
        self.unknown = control.intersection(token.id for token in tokenizer.model.tokenize("\U000f0002"))

    def encode(self, text: str) -> Encoding:
        """The text's tokens and nothing around them."""
        return self._tokenizer.encode(text, add_special_tokens=False)

    def controls(self, text: str, encoding: Encoding | None = None) -> list[Control]:
        """The control tokens that the tokenizer reads in ``text``; ``encoding`` is the text's, where it is known."""
        encoding = encoding or self.encode(text)
        if self._control.isdisjoint(encoding.ids):
            return []
        found = []
        for token, (start, stop) in zip(encoding.ids, encoding.offsets, strict=True):
            if token in self._control:
                taken = text[start:stop]  # some take the spaces beside them, too
                name, at = taken.strip(), start + len(taken) - len(taken.lstrip())
                if token in self.unknown and name != self._tokenizer.id_to_token(token):
                    continue
                found.append(Control(token, name, at, at + len(name)))
        return found

    def encode_apart(self, text: str, users: Sequence[Control]) -> list[int]:
        """Encode a rendered chat in which some control tokens are the user's and never become one.

        Raises:
            RunError: The tokenizer has no other token for one of them.
        """
        ids: list[int] = []
        for piece, is_users in _pieces(text, users):
            encode = self._as_text if is_users else lambda piece: list(self.encode(piece).ids)
            ids += encode(piece) if not ids else self._behind_a_line(encode, piece)
        return ids

    def _behind_a_line(self, encode: Any, piece: str) -> list[int]:
        """Encoded behind a newline, because some tokenizers put a space before the start of a text."""
        newline: list[int] = self.encode("\n").ids
        ids: list[int] = encode("\n" + piece)
        if ids[: len(newline)] == newline:
            return ids[len(newline) :]
        whole: list[int] = encode(piece)
        return whole

    def _as_text(self, text: str) -> list[int]:
        ids, control = self._by_the_model(text), self._control - self.unknown
        if control.isdisjoint(ids):
            return ids
        ids = [token for character in text for token in self._by_the_model(character)]
        if not control.isdisjoint(ids):
            raise RunError(
                msg(
                    "{model}: its tokenizer knows {token} as a control token only, not as text",
                    model=self._model,
                    token=text.strip(),
                ),
                msg("Write it differently, for example with a space in it."),
            )
        return ids

    def _by_the_model(self, text: str) -> list[int]:
        tokenizer = self._tokenizer
        if tokenizer.normalizer is not None:
            text = tokenizer.normalizer.normalize_str(text)
        splits = [text]
        if tokenizer.pre_tokenizer is not None:
            splits = [split for split, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)]
        return [token.id for split in splits for token in tokenizer.model.tokenize(split)]


def read_tokenizer(folder: Path, spec: ModelSpec) -> Tokenizer:
    """The tokenizer in ``folder``, which neither cuts nor pads.

    Raises:
        RunError: It can't be read.
    """
    path = folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception for a missing file and for bad JSON alike
        raise RunError(
            msg("{model}: its tokenizer can't be read ({reason})", model=spec.id, reason=foreign(str(error))),
            msg("Prepare the model again."),
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def control_ids(tokenizer: Tokenizer, template: ChatTemplate | None, listed: Any) -> frozenset[int]:
    """Special tokens, and added ones that the template writes or looks for, unless its authors list them.

    Args:
        listed: ``chat_control_tokens`` of tokenizer_config.json.
    """
    try:
        literals = template.literals if template else ""
    except Refused:  # whoever asks for a prompt is told
        literals = ""
    said = set(listed) if isinstance(listed, list) else None
    added = tokenizer.get_added_tokens_decoder().items()
    # Spaces and newlines are ordinary text of a template, even where they are added tokens.
    written = (content for _, token in added if not (content := str(token.content)).isspace() and content in literals)
    named = set(written) if said is None else said
    return frozenset(index for index, token in added if token.content and (token.special or token.content in named))


def _pieces(text: str, users: Sequence[Control]) -> Iterator[tuple[str, bool]]:
    """``text`` cut at the user's control tokens, each piece with whether it is one; none is empty."""
    at = 0
    for token in users:
        if text[at : token.start]:
            yield text[at : token.start], False
        yield text[token.start : token.stop], True
        at = token.stop
    if text[at:]:
        yield text[at:], False
