"""Messages in the language of whoever is looking at the page.

Each event of the page and each request is worked on in a context of its own, and so is what it starts in threads: two
visitors at once get each their own language. Outside of them (while the page is built) it is English. A visitor's
choice on the page (a cookie) goes before what the browser asks for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from playground.messages import Catalogue, render
from playground.owners import for_visitors
from playground.translations import ENGLISH, LOCALE, SOURCE_LANGUAGE, chosen, for_page, languages

COOKIE = "playground_language"
_COOKIE = re.compile(rf"(?:^|;\s*){COOKIE}=([A-Za-z0-9-]{{1,35}})\s*(?:;|$)")


@dataclass(frozen=True)
class Reader:
    """A language and its messages.

    Attributes:
        visitor: Whether it is one of somebody else's app, who can do nothing with advice for its owner.
    """

    language: str = SOURCE_LANGUAGE
    catalogue: Catalogue = ENGLISH
    visitor: bool = False


_ENGLISH = Reader()
_reader: ContextVar[Reader] = ContextVar("reader", default=_ENGLISH)


@contextmanager
def reading(accept_language: str, *, visitor: bool | None = None) -> Iterator[None]:
    """What is said inside is said in the language of this ``Accept-Language`` header.

    Args:
        visitor: See ``Reader``; None leaves it as it is.
    """
    visits = _reader.get().visitor if visitor is None else visitor
    language, catalogue = chosen(accept_language, os.environ), for_page(accept_language, os.environ)
    token = _reader.set(Reader(language, catalogue, visits))
    try:
        yield
    finally:
        _reader.reset(token)


def wanted(headers: Mapping[str, Any]) -> str:
    """The languages a request's headers ask for, as ``Accept-Language`` writes them: the visitor's choice first."""
    asked = str(headers.get("accept-language") or "")
    match = _COOKIE.search(str(headers.get("cookie") or ""))
    return f"{match[1]},{asked}" if match else asked


class Language:
    """ASGI middleware: each request is answered in its reader's language.

    Args:
        visitors: Whether whoever asks is a visitor (``Reader``).
    """

    def __init__(self, app: Any, *, visitors: bool = False) -> None:
        self.app, self._visitors = app, visitors

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            key = name.decode("latin-1").lower()
            headers[key] = f"{headers[key]},{value.decode('latin-1')}" if key in headers else value.decode("latin-1")
        with reading(wanted(headers), visitor=self._visitors):
            await self.app(scope, receive, send)


def language() -> str:
    """The reader's, of ``known``."""
    return _reader.get().language


def as_written() -> bool:
    """Whether the reader is told messages as they stand in the source."""
    reader = _reader.get()
    return reader.language == SOURCE_LANGUAGE and not reader.visitor


def known() -> tuple[str, ...]:
    """The languages the page can be read in, English first."""
    return languages(LOCALE)


def say(text: str) -> str:
    """A message in the reader's language; any other text as it is."""
    reader = _reader.get()
    return render(for_visitors(text) if reader.visitor else text, reader.catalogue)


def look_up(text: str) -> str:
    """A text that was a message without values before somebody made a plain text of it, in the reader's language."""
    return _reader.get().catalogue.gettext(text) if text else text
