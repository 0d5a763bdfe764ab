"""Token ids as text, and what a vocabulary consists of, so that two models' ids can be compared.

It knows tokenizers; it does not know models or answers.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence

from tokenizers import Tokenizer

from playground.records import DecodedTokens
from playground.runtimes.generation.prompt import Prompter
from playground.runtimes.generation.text_stream import TextStream

DIGEST_BLOCK = 1024
_FILLER = re.compile(r"\[PAD\d+\]")
"""What llama.cpp's converter writes for rows of the embedding that have no token."""


def decode_tokens(prompter: Prompter, ids: Sequence[int], digests: tuple[str, ...]) -> DecodedTokens:
    """See ``DecodedTokens``; the last piece takes what a stream would hold back."""
    stream = TextStream(prompter.detokenizer, (), prompter.eos_ids)
    pieces = [stream.push(token) for token in ids]
    if pieces:
        pieces[-1] += stream.finish()
    names = tuple(prompter.detokenizer.readable(token) for token in ids)
    return DecodedTokens(tuple(pieces), names, digests)


def vocabulary_digests(tokenizer: Tokenizer) -> tuple[str, ...]:
    """A digest of each ``DIGEST_BLOCK`` ids and the tokens they stand for. 262,144 tokens take a third of a second."""
    blocks: dict[int, list[tuple[int, str]]] = {}
    for token, index in tokenizer.get_vocab(with_added_tokens=True).items():
        if not _FILLER.fullmatch(token):
            blocks.setdefault(index // DIGEST_BLOCK, []).append((index, token))
    return tuple(
        hashlib.sha256(json.dumps(sorted(blocks.get(number, []))).encode()).hexdigest()[:12]
        for number in range(max(blocks, default=-1) + 1)
    )
