"""What several commands share: an option, how a prompt is read, how the conditions of use are printed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from playground.cli import output
from playground.errors import UsageError
from playground.messages import msg

if TYPE_CHECKING:
    from playground.catalog.entries import Terms
    from playground.service import Playground

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


MOST_TOKENS = "Most tokens of an answer: 128 by itself, or fewer where the limit of spaces.yaml is lower."


def read_prompt(text: str) -> str:
    """The prompt as given, or stdin for ``-``."""
    import sys

    if text != "-":
        return text
    try:
        # Some editors write a mark of byte order first, and Windows ends a line by two characters.
        return sys.stdin.buffer.read().decode("utf-8").removeprefix("\ufeff").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise UsageError(
            msg("The prompt on stdin is not UTF-8 (byte {byte})", byte=error.start), msg("Convert it to UTF-8.")
        ) from None


def print_terms(playground: Playground, ids: Iterable[str]) -> None:
    """The conditions of these models, as their licences ask: each text once, after the names of all it is about."""
    entries = [playground.entry(model) for model in dict.fromkeys(ids)]
    bound: dict[Terms, list[str]] = {}
    for entry in entries:
        if entry.terms:
            bound.setdefault(entry.terms, []).append(entry.spec.name)
    for terms, names in bound.items():
        addresses = " · ".join(filter(None, (terms.url, terms.policy_url)))
        output.stdout().print(f"{', '.join(names)}: {terms.text}\n  {addresses}", soft_wrap=True)
