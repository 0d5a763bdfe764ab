"""Which language a reader reads, and its catalogue of messages. Both front ends ask here; nobody below them does.

A catalogue is gettext's: ``locale/LANGUAGE/LC_MESSAGES/playground.po`` in this package, kept up to date by ``make
messages``. It is read as translators write it, so there is no compiled file that could be older (50 ms for two thousand
messages, once). English is what messages are written in and has none. Babel makes the catalogues and is not needed to
read them: it brings 36 MB of other languages' calendars, so polib reads, and the lookup of RFC 4647 stands here.
"""

from __future__ import annotations

import gettext
import io
import logging
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from playground.messages import Catalogue
from playground.paths import PACKAGE

LOCALE = PACKAGE / "locale"
log = logging.getLogger(__name__)

DOMAIN = "playground"
SOURCE_LANGUAGE = "en"
SETTING = "PLAYGROUND_LANGUAGE"
"""A variable of the environment that decides for everybody, visitors of the page included."""
MAX_RANGES = 20
"""Languages of one header that are looked at; a browser sends a handful."""

ENGLISH: Catalogue = gettext.NullTranslations()
_RANGE = re.compile(r"\s*([A-Za-z0-9*-]{1,35})\s*(?:;\s*q\s*=\s*([01](?:\.\d{0,3})?)\s*)?")


def languages(folder: Path) -> tuple[str, ...]:
    """Those there are messages in: English first, then the catalogues of ``folder``."""
    found = sorted(path.parent.parent.name for path in folder.glob(f"*/LC_MESSAGES/{DOMAIN}.po"))
    return (SOURCE_LANGUAGE, *(name for name in found if name != SOURCE_LANGUAGE))


def for_page(accept_language: str, env: Mapping[str, str]) -> Catalogue:
    """The catalogue for whoever sent this ``Accept-Language``, "" where none was sent."""
    return _chosen(_for_page(accept_language, env))


def chosen(accept_language: str, env: Mapping[str, str]) -> str:
    """The name of that catalogue's language."""
    return lookup(_for_page(accept_language, env), languages(LOCALE))


def _for_page(accept_language: str, env: Mapping[str, str]) -> list[str]:
    return [env.get(SETTING, "")] if env.get(SETTING) else from_header(accept_language)


def for_terminal(env: Mapping[str, str]) -> Catalogue:
    """The catalogue for whoever runs a command in this environment."""
    return _chosen(from_environment(env))


def from_header(accept_language: str) -> list[str]:
    """The languages of an ``Accept-Language`` header, the most wanted first; what is malformed is passed over."""
    ranges = []
    for part in accept_language.split(",")[:MAX_RANGES]:
        match = _RANGE.fullmatch(part)
        weight = float(match[2] or 1) if match else 0.0
        if match and weight > 0:
            ranges.append((weight, match[1]))
    return [name for _, name in sorted(ranges, key=lambda each: -each[0])]


def from_environment(env: Mapping[str, str]) -> list[str]:
    """The languages of an environment as gettext reads it: LANGUAGE may list several, LC_ALL=C asks for none."""
    if env.get(SETTING):
        return [env[SETTING]]
    if env.get("LC_ALL") in ("C", "POSIX"):
        return []
    for name in ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"):
        if env.get(name):
            return [re.split(r"[.@]", language)[0] for language in env[name].split(":") if language]
    return []


def lookup(wanted: Iterable[str], known: Iterable[str]) -> str:
    """The first of the wanted languages that is known, each tried without its last part until nothing is left
    (``zh-Hant-TW``, ``zh-Hant``, ``zh``): RFC 4647, section 3.4. English where none is known.
    """
    names = {name.lower().replace("_", "-"): name for name in known}
    for language in wanted:
        parts = language.lower().replace("_", "-").split("-")
        while parts:
            if found := names.get("-".join(parts)):
                return found
            parts.pop()
    return SOURCE_LANGUAGE


def _chosen(wanted: Iterable[str]) -> Catalogue:
    known = languages(LOCALE)
    return ENGLISH if len(known) == 1 else _catalogue(LOCALE, lookup(wanted, known))


@cache
def _catalogue(folder: Path, language: str) -> Catalogue:
    if language == SOURCE_LANGUAGE:
        return ENGLISH
    try:
        import polib  # readers of English never load it

        # What nobody has looked over since its English changed (fuzzy) is left out.
        source = polib.pofile(str(folder / language / "LC_MESSAGES" / f"{DOMAIN}.po"), encoding="utf-8")
        return gettext.GNUTranslations(io.BytesIO(source.to_binary()))
    except Exception as error:  # gettext raises what it stumbles over: of the encoding, the rule of plurals, the form
        log.warning(
            "The catalogue of %s can't be read (%s: %s); English is shown", language, type(error).__name__, error
        )
        return ENGLISH  # better than no page
