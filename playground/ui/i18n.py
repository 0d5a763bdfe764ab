"""Messages in the language of whoever is looking at the page.

Each event of the page and each request is worked on in a context of its own, and so is what it starts in threads: two
visitors at once get each their own language. Outside of them (while the page is built) it is English.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from playground.messages import Catalogue, render
from playground.translations import ENGLISH, for_page

_reader: ContextVar[Catalogue] = ContextVar("reader", default=ENGLISH)


@contextmanager
def reading(accept_language: str) -> Iterator[None]:
    """What is said inside is said in the language of this ``Accept-Language`` header."""
    token = _reader.set(for_page(accept_language, os.environ))
    try:
        yield
    finally:
        _reader.reset(token)


def say(text: str) -> str:
    """A message in the reader's language; any other text as it is."""
    return render(text, _reader.get())
