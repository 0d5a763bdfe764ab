"""Which language a text is in, by py3langid: 130 languages, a model of 5 MB in the package, no network.

Short texts are guesses: two words of Norwegian and of Danish are often the same. The probabilities are the library's
own, which it tempers by the length of the text.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

MAX_CHARS = 20_000
"""Of a text that are read; a language shows long before."""


NO_LANGUAGE = "zxx"
"""What the library says of digits, code and signs."""
_ALSO = {"nb": "no", "fil": "tl", "iw": "he", "in": "id"}


@cache
def _identifier() -> LanguageIdentifier:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # it loads numpy and the model

    found: Any = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    return found


@cache
def known() -> tuple[str, ...]:
    """The languages that can be told apart, by their codes in ISO 639-1, or 639-3 where that has none."""
    return tuple(sorted(set(_identifier().labels) - {NO_LANGUAGE}))


def code_of(text: str) -> str:
    """The library's code for a language that people write by another: ``en-GB``, ``nb``."""
    code = re.split(r"[-_]", text.strip().lower())[0]
    return _ALSO.get(code, code)


def ranked(text: str) -> list[tuple[str, float]]:
    """Languages with their probabilities, the likeliest first; none for a text without a letter."""
    head = text[:MAX_CHARS]
    if not any(char.isalpha() for char in head):
        return []
    return [(name, float(share)) for name, share in _identifier().rank(head)]
