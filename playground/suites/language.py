"""Which language a text is in, by py3langid: 97 languages, a model of 5 MB in the package, no network.

Short texts are guesses: two words of Norwegian and of Danish are often the same. The probabilities are the library's
own, which it tempers by the length of the text.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

MAX_CHARS = 20_000
"""Of a text that are read; a language shows long before."""


@cache
def _identifier() -> LanguageIdentifier:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # it loads numpy and the model

    found: Any = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    return found


@cache
def known() -> tuple[str, ...]:
    """The languages that can be told apart, by their ISO 639-1 codes."""
    return tuple(sorted(_identifier().labels))


def ranked(text: str) -> list[tuple[str, float]]:
    """Languages with their probabilities, the likeliest first; none for a text without a letter."""
    head = text[:MAX_CHARS]
    if not any(char.isalpha() for char in head):
        return []
    return [(name, float(share)) for name, share in _identifier().rank(head)]
