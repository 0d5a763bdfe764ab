"""The text of a model card, which anybody may have written: its YAML block read within limits, its addresses made safe.

The module knows text; it fetches nothing. ``card_html.py`` makes HTML of what stands below the block.
"""

from __future__ import annotations

import html
import re
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import yaml

from playground.messages import Translatable, foreign, msg

MAX_YAML = 256_000
"""Characters of the block on top that are read; long tables of results fit."""
MAX_DEPTH = 20
MAX_NODES = 50_000

FRONT_MATTER = re.compile(
    r"\A\ufeff?\s*---[ \t]*(?:\r\n|\r|\n)(.*?)(?:\r\n|\r|\n)---[ \t]*(?:\r\n|\r|\n|\Z)", re.DOTALL
)

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class BadFrontMatter(ValueError):
    """The YAML block can't be read within the limits; ``message`` says why."""

    def __init__(self, message: Translatable) -> None:
        super().__init__(message)
        self.message = message


def split(card: str) -> tuple[str, str]:
    """The YAML block ("" without one) and the markdown below it."""
    match = FRONT_MATTER.match(card)
    return (match[1], card[match.end() :]) if match else ("", card)


def front_matter(block: str) -> dict[str, Any]:
    """Parse the YAML block of a card, see ``plain_yaml``.

    Raises:
        BadFrontMatter: With the reason.
    """
    data = plain_yaml(block)
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise BadFrontMatter(msg("its YAML block is not a list of keys"))
    return {key: value for key, value in data.items() if isinstance(key, str)}


def plain_yaml(block: str) -> Any:
    """A stranger's YAML as plain values.

    Aliases are refused, because a few lines of them stand for billions of values; so is what is huge or nested deeply.
    The events are looked at first: nothing is built from a block that is refused.

    Raises:
        BadFrontMatter: With the reason.
    """
    if len(block) > MAX_YAML:
        raise BadFrontMatter(
            msg("its YAML block has {count:,} characters, at most {limit:,} are read", count=len(block), limit=MAX_YAML)
        )
    try:
        _look(block)
        return yaml.load(block, Loader=_Loader)  # a safe loader: it makes plain values only
    except BadFrontMatter:
        raise
    except Exception as error:  # PyYAML lets through whatever its conversions raise: KeyError, AttributeError, …
        reason = foreign(type(error).__name__)
        raise BadFrontMatter(msg("its YAML block can't be read ({reason})", reason=reason)) from error


def _look(block: str) -> None:
    depth = nodes = 0
    for event in yaml.parse(block, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent):
            raise BadFrontMatter(msg("its YAML block uses aliases, which are not followed"))
        nodes += isinstance(event, yaml.NodeEvent)
        depth += isinstance(event, (yaml.SequenceStartEvent, yaml.MappingStartEvent))
        depth -= isinstance(event, (yaml.SequenceEndEvent, yaml.MappingEndEvent))
        if depth > MAX_DEPTH or nodes > MAX_NODES:
            raise BadFrontMatter(msg("its YAML block is nested too deeply or too long"))


def safe_url(address: str, base_url: str) -> str:
    """``address`` made absolute, or "" where it is not a web address: no javascript:, no data:, no tricks."""
    cleaned = "".join(char for char in html.unescape(address) if char.isprintable() and not char.isspace())
    try:
        if cleaned.startswith("//"):
            cleaned = f"https:{cleaned}"
        full = cleaned if urlsplit(cleaned).scheme else urljoin(base_url, cleaned.replace("\\", "/"))
        parts = urlsplit(full)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
            return ""
    except ValueError:
        return ""
    return quote(full, safe="%/:=&?~#+!$,;@()*[]-._")


def repository_url(repo: str, revision: str) -> str:
    """Where the files of a repository at a revision are shown."""
    return f"https://huggingface.co/{quote(repo)}/blob/{quote(revision or 'main', safe='')}/"
