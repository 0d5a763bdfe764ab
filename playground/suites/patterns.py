"""Regular expressions of strangers: google-re2, which takes a time linear in the text whatever the pattern is.

Patterns are searched for anywhere in the text, with no flags, as promptfoo's ``new RegExp(value)``. RE2 has no
look-around and no back-references, which is what makes it safe; a pattern that needs them is refused by name.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from playground.errors import Reason
from playground.messages import Translatable, foreign, msg

MAX_CHARS = 1_000
"""Of a pattern."""
MAX_MEMORY = 2 << 20
"""Bytes that one pattern may take while it is compiled and searched for."""

_LACKS: tuple[tuple[str, Translatable], ...] = (
    (r"\(\?<?[=!]", msg("look-around, (?=…) (?!…) (?<=…) (?<!…)")),
    (r"\(\?>", msg("atomic groups, (?>…)")),
    (r"\(\?P=|\\k<", msg("back-references by name")),
    (r"\\[1-9]", msg("back-references, \\1")),
    (r"\\u(?:[0-9a-fA-F]{4}|\{)", msg("\\u escapes: write the character itself, or \\x{{…}}")),
    (r"\\c[A-Za-z]", msg("control escapes, \\cX")),
    (r"[+*?}]\+", msg("possessive repetition, ++")),
    (r"\[\^?\]", msg("an empty set of characters, []")),
)
"""What a browser's patterns may have and RE2's have not: how it looks, and its name for a reader."""


@lru_cache(maxsize=128)
def compiled(pattern: str) -> Any:
    """The pattern, ready to be searched for.

    Raises:
        Reason: It is too long, or RE2 does not take it; the words say what it lacks.
    """
    if len(pattern) > MAX_CHARS:
        raise Reason(
            msg("the pattern has {n:,} characters, at most {most:,} are taken", n=len(pattern), most=MAX_CHARS)
        )
    import re2

    options = re2.Options()
    options.max_mem = MAX_MEMORY
    options.log_errors = False
    options.never_capture = True  # whether it is found is all that is asked, and groups cost time
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        said = error.args[0]
        words = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
        for looks, name in _LACKS:
            if re.search(looks, pattern):
                raise Reason(msg("RE2 has no {thing}", thing=name)) from error
        raise Reason(msg("it is no pattern that RE2 takes ({words})", words=foreign(words))) from error


def found(pattern: str, text: str) -> bool:
    """Whether the pattern is anywhere in a text; halves of characters, which JSON may bring, are read as "?"."""
    return compiled(pattern).search(text.encode("utf-8", "replace").decode("utf-8")) is not None
