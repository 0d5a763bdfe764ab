"""A language in which every message stands in brackets, ⟦like this⟧, and everything that is no message does not."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from babel.messages.catalog import Catalog

from playground.translations import DOMAIN
from scripts import messages as catalogues

LANGUAGE = "de"
"""Any that Babel knows and nobody has translated yet."""
OPEN, CLOSE = "⟦", "⟧"


def write_pseudo_language(folder: Path) -> Path:
    """Its catalogue, in a folder of languages as the package has one; names in templates are kept."""
    path = folder / LANGUAGE / "LC_MESSAGES" / f"{DOMAIN}.po"
    path.parent.mkdir(parents=True)
    path.write_bytes(_catalogue())
    return folder


@cache
def _catalogue() -> bytes:
    catalog = Catalog(locale=LANGUAGE)
    for message in catalogues.template():
        forms = message.id if isinstance(message.id, (list, tuple)) else (message.id,)
        if message.id and not any(form in catalogues.SEPARATORS for form in forms):
            said = tuple(f"{OPEN}{form}{CLOSE}" for form in forms)
            catalog.add(message.id, said if len(said) > 1 else said[0])
    return catalogues.written(catalog, dated=True)
