"""The merges of a vocabulary that comes without any, as transformers derives them, in a part of its time.

SentencePiece's vocabularies in GGUF files have scores and no merges: each token that two others make is one. Gemma has
262 thousand tokens. The module knows lists of tokens, no files.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from math import isnan
from operator import itemgetter
from typing import Any

Merges = list[tuple[str, str]]


def quick_merges(usual: Callable[..., Any]) -> Callable[..., Merges]:
    """A function that gives what transformers' ``generate_merges`` gives.

    Args:
        usual: That function, for what is not quick.
    """

    def merges(
        vocab: Mapping[str, int],
        vocab_scores: Mapping[str, float] | None = None,
        skip_tokens: Collection[str] | None = None,
    ) -> Merges:
        if vocab_scores is None or skip_tokens or any(map(isnan, vocab_scores.values())):
            return list(usual(vocab, vocab_scores, skip_tokens))
        found = []
        # The best first, and of a token the longest beginning: as good as sorted. Where scores are level, so is the
        # order of tokens that the sorting keeps.
        for token, score in sorted(vocab_scores.items(), key=itemgetter(1), reverse=True):
            for cut in range(len(token) - 1, 0, -1):
                if (first := token[:cut]) in vocab and (second := token[cut:]) in vocab:
                    found.append((score, cut, len(token) - cut, first, second))
        found.sort(key=itemgetter(0, 1, 2), reverse=True)
        return [(first, second) for *_, first, second in found]

    return merges
