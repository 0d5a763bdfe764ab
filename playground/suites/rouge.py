"""ROUGE-N with n = 1: how much of a reference's words are in a text (Lin 2004, https://aclanthology.org/W04-1013).

promptfoo's ``rouge-n`` is recall over single words without regard to case. Its tokenizer is that of the Penn Treebank;
this one takes runs of letters and digits as words, other signs each for itself, and every letter of a script that is
written without spaces.
"""

from __future__ import annotations

import re
from collections import Counter

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
"""Thai, Lao, Burmese, Khmer; kana and Chinese characters."""
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+|[^\w\s]")


def words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def recall(text: str, reference: str) -> float:
    """Share of the reference's words that are in the text, each as often as it is there; 0 without a reference."""
    wanted = Counter(words(reference))
    if not wanted:
        return 0.0
    return (wanted & Counter(words(text))).total() / wanted.total()
