"""The catalogues of messages, by Babel: what can be said, and what the translators made of it.

    python scripts/messages.py            write playground/locale/playground.pot from the source, bring each
                                          LANGUAGE/LC_MESSAGES/playground.po up to date with it
    python scripts/messages.py --check    say what is not up to date; code 1 if anything is

A new language begins with `pybabel init -i playground/locale/playground.pot -d playground/locale -D playground -l ja`.
"""

from __future__ import annotations

import argparse
import ast
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po, write_po

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from playground.messages import CLAUSE_SEPARATOR, LIST_SEPARATOR, SENTENCE_SEPARATOR  # noqa: E402
from playground.translations import DOMAIN, LOCALE  # noqa: E402

PACKAGE = ROOT / "playground"
POT = LOCALE / f"{DOMAIN}.pot"
KEYWORDS = {"msg": None, "plural": (1, 2)}
SEPARATORS = {
    LIST_SEPARATOR: "Between the items of a list.",
    SENTENCE_SEPARATOR: "Between two sentences.",
    CLAUSE_SEPARATOR: "Between two reasons in one sentence.",
}
"""Texts of ``messages`` itself, in no call."""
NOT_OURS = tuple(
    f'"{name}:'.encode()
    for name in (
        *("Project-Id-Version", "Report-Msgid-Bugs-To", "POT-Creation-Date", "PO-Revision-Date"),
        *("Last-Translator", "Language-Team", "Generated-By"),
    )
)
"""Of a file's head: dates, which would differ each time, and who translates, which a template can't know."""
HEADER = "# English templates of what readers are told. `make messages` writes this file.\n#"


def extracted() -> list[tuple[str, str | tuple[str, ...], str]]:
    """File, template (or both forms of one) and context of every ``msg`` and ``plural`` of the package."""
    methods: Any = [("**.py", calls)]  # Babel takes functions too; its types don't say so
    found = extract_from_dir(PACKAGE, methods, keywords=KEYWORDS, comment_tags=("Translators:",))
    return [(name, text, " ".join(comments)) for name, _, text, comments, _ in found]


def calls(file: Any, keywords: Any, tags: Any, options: Any) -> Iterator[tuple[int, str, Any, list[str]]]:
    """An extraction method of Babel's that reads the syntax tree: its own reads tokens, and before Python 3.12 an
    f-string is one token, whatever is called in it. Comments with a tag stand on the lines before.
    """
    source = file.read().decode("utf-8")
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in keywords):
            continue
        texts = [arg.value if isinstance(arg, ast.Constant) else None for arg in node.args]
        comments: list[str] = []
        for line in reversed(lines[: node.lineno - 1]):
            text = line.strip()
            if not text.startswith("#"):
                break
            comments.insert(0, text.lstrip("# "))
        told = comments if comments and comments[0].startswith(tuple(tags)) else []
        if texts and isinstance(texts[0], str):
            yield node.lineno, node.func.id, tuple(texts) if len(texts) > 1 else texts[0], told


def template() -> Catalog:
    """What there is to translate. Files are named without lines, so that not every edit changes it."""
    catalog = Catalog(project="open-model-playground", header_comment=HEADER, fuzzy=False, charset="utf-8")
    for separator, about in SEPARATORS.items():
        catalog.add(separator, locations=[("playground/messages.py", 0)], auto_comments=[about])
    for name, text, comment in sorted(extracted(), key=lambda each: each[0]):
        catalog.add(text, locations=[(f"playground/{name}", 0)], auto_comments=[comment] if comment else ())
    return catalog


def written(catalog: Catalog, *, dated: bool = False) -> bytes:
    """The file of ``catalog``; only a translator's file has dates and names in its head."""
    out = io.BytesIO()
    write_po(out, catalog, include_lineno=False, width=120, sort_output=True)
    lines = out.getvalue().splitlines(keepends=True)
    return b"".join(line for line in lines if dated or not line.startswith(NOT_OURS))


def files() -> Iterator[tuple[Path, bytes]]:
    """Every file that is made here and what should stand in it."""
    pot = template()
    yield POT, written(pot)
    for path in sorted(LOCALE.glob(f"*/LC_MESSAGES/{DOMAIN}.po")):
        with path.open("rb") as file:
            catalog = read_po(file, locale=path.parent.parent.name, domain=DOMAIN)
        catalog.update(pot, update_creation_date=False)
        yield path, written(catalog, dated=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args()
    stale = [(path, content) for path, content in files() if not path.is_file() or path.read_bytes() != content]
    for path, content in stale:
        name = path.relative_to(ROOT)
        if options.check:
            print(f"{name} is not up to date: run `make messages`.")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            print(f"{name} written.")
    if not stale:
        print("The catalogues of messages are up to date.")
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
