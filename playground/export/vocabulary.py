"""What a preparation asks of a model's tokenizer, asked once: the texts of the check as ids, and ids of a few names.

A vocabulary of 262 thousand tokens takes two seconds to read, and as transformers' object five. Whoever has one at hand
writes the answers down for whoever comes later in the same process (``keep``); where nobody did, ``of`` reads the file.
The tokenizer itself goes, for it takes hundreds of megabytes. The module knows tokenizer.json; it knows no networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from playground.catalog.template_files import read_json
from playground.export import passages

NAMES = ("<tool_call>", "<|tool_call|>", "</tool_call>", "<|/tool_call|>", "<think>", "</think>")
"""Tokens that onnxruntime-genai's model builder looks for in every vocabulary."""

ROLES = ("bos_token", "eos_token", "pad_token")
FILE, CONFIG = "tokenizer.json", "tokenizer_config.json"


@dataclass(frozen=True)
class Vocabulary:
    """Answers of one tokenizer.

    Attributes:
        folder: Where it lies.
        size: How many ids it has.
        texts: The ids of each text of the check.
        names: The ids of those ``NAMES``, and of tokens with one of the ``ROLES``, that it has.
    """

    folder: Path
    size: int
    texts: Mapping[str, tuple[int, ...]]
    names: Mapping[str, int]

    def encode(self, text: str) -> Sequence[int]:
        """The ids of a text; one that is not of the check takes as long as reading the tokenizer."""
        if (known := self.texts.get(text)) is not None:
            return known
        ids: list[int] = _read(self.folder).encode(text).ids
        return ids


_LAST: dict[tuple[int, ...], Vocabulary] = {}
"""Of the last file that was asked for, wherever it was renamed to."""


def of(folder: Path) -> Vocabulary:
    """The answers of the tokenizer in ``folder``.

    Raises:
        Exception: Whatever tokenizers raises where it can't be read.
    """
    known = _LAST.get(_identity(folder))
    return replace(known, folder=folder) if known else keep(folder, _read(folder))


def keep(folder: Path, tokenizer: Tokenizer) -> Vocabulary:
    """Write down the answers of ``tokenizer``, which is as one that was just read from ``folder``."""
    texts = [text.path.read_text(encoding="utf-8") for text in passages.TEXTS]
    ids = {name: tokenizer.token_to_id(name) for name in (*NAMES, *roles(folder).values())}
    names = {name: place for name, place in ids.items() if place is not None}
    encoded = {text: tuple(tokenizer.encode(text).ids) for text in texts}
    found = Vocabulary(folder, tokenizer.get_vocab_size(), encoded, names)
    _LAST.clear()
    _LAST[_identity(folder)] = found
    return found


def roles(folder: Path) -> dict[str, str]:
    """The tokens that tokenizer_config.json names for the ``ROLES``; those it says nothing of are left out."""
    config = read_json(folder / CONFIG)
    found = {role: _content(config.get(role)) for role in ROLES}
    return {role: token for role, token in found.items() if token}


def _content(token: Any) -> str:
    said = token.get("content") if isinstance(token, dict) else token
    return said if isinstance(said, str) else ""


def _read(folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(folder / FILE))


def _identity(folder: Path) -> tuple[int, ...]:
    about = (folder / FILE).stat()
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns
