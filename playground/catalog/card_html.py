"""The text of a model card, which anybody may have written: its YAML block read within limits, its markdown as HTML
that can do nothing.

The HTML is put together here from tokens of markdown-it: tags of a fixed list, text that is escaped, links to http(s)
only. HTML in the card becomes its plain text, pictures become links with their alternative text, and nothing is loaded
from anywhere. The module knows text; it fetches nothing.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

MAX_TEXT = 200_000
"""Characters of a card that are rendered."""
MAX_YAML = 256_000
"""Characters of the block on top that are read; long tables of results fit."""
MAX_DEPTH = 20
MAX_NODES = 50_000

FRONT_MATTER = re.compile(
    r"\A\ufeff?\s*---[ \t]*(?:\r\n|\r|\n)(.*?)(?:\r\n|\r|\n)---[ \t]*(?:\r\n|\r|\n|\Z)", re.DOTALL
)

_CUT = "The card goes on; the rest is on its page."
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAGS = {"p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "pre", "code", "em", "strong", "s"}
_TAGS |= {"hr", "br", "table", "thead", "tbody", "tr", "th", "td"}
_HIDDEN = ("script", "style", "template", "svg", "math", "iframe", "object", "noscript", "title", "head")


class BadFrontMatter(ValueError):
    """The YAML block can't be read within the limits; the message says why."""


def split(card: str) -> tuple[str, str]:
    """The YAML block ("" without one) and the markdown below it."""
    match = FRONT_MATTER.match(card)
    return (match[1], card[match.end() :]) if match else ("", card)


def front_matter(block: str) -> dict[str, Any]:
    """Parse the YAML block of a card.

    Aliases are refused, because a few lines of them stand for billions of values; so is what is huge or nested deeply.
    The events are looked at first: nothing is built from a block that is refused.

    Raises:
        BadFrontMatter: With the reason.
    """
    if len(block) > MAX_YAML:
        raise BadFrontMatter(f"its YAML block has {len(block):,} characters, at most {MAX_YAML:,} are read")
    try:
        _look(block)
        data = yaml.load(block, Loader=_Loader)  # a safe loader: it makes plain values only
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        if isinstance(error, BadFrontMatter):
            raise
        raise BadFrontMatter(f"its YAML block can't be read ({type(error).__name__})") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise BadFrontMatter("its YAML block is not a list of keys")
    return {key: value for key, value in data.items() if isinstance(key, str)}


def _look(block: str) -> None:
    depth = nodes = 0
    for event in yaml.parse(block, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent):
            raise BadFrontMatter("its YAML block uses aliases, which are not followed")
        nodes += isinstance(event, yaml.NodeEvent)
        depth += isinstance(event, (yaml.SequenceStartEvent, yaml.MappingStartEvent))
        depth -= isinstance(event, (yaml.SequenceEndEvent, yaml.MappingEndEvent))
        if depth > MAX_DEPTH or nodes > MAX_NODES:
            raise BadFrontMatter("its YAML block is nested too deeply or too long")


def safe_html(markdown: str, base_url: str) -> str:
    """Card text as HTML without anything active.

    Args:
        markdown: The card, with or without its YAML block.
        base_url: What relative links are relative to, e.g. ``https://huggingface.co/OWNER/NAME/blob/REVISION/``.
    """
    body = split(markdown)[1]
    cut = len(body) > MAX_TEXT
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    parts = list(_blocks(parser.parse(_printable(body[:MAX_TEXT])), base_url))
    if cut:
        parts.append(f'<p class="note">{_CUT} {_link(base_url.replace("/blob/", "/tree/"), "Open it")}</p>')
    return "".join(parts)


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


def _blocks(tokens: list[Token], base_url: str) -> Iterator[str]:
    for token in tokens:
        if token.type == "inline":
            yield from _inline(token.children or [], base_url)
        elif token.type == "html_block":
            text = _text_of(token.content)
            yield f"<p>{_esc(text)}</p>" if text else ""
        elif token.type in ("fence", "code_block"):
            yield f"<pre><code>{_esc(token.content)}</code></pre>"
        elif token.hidden:
            continue
        elif token.tag in _TAGS:
            yield f"</{token.tag}>" if token.nesting < 0 else f"<{token.tag}>"


def _inline(tokens: list[Token], base_url: str) -> Iterator[str]:
    """Text, emphasis, links. A link that is not safe leaves its text; a picture becomes a link with its words."""
    open_links: list[bool] = []
    for token in tokens:
        if token.type == "link_open":
            address = safe_url(str(token.attrGet("href") or ""), base_url)
            open_links.append(bool(address))
            yield _opening(address) if address else ""
        elif token.type == "link_close":
            yield "</a>" if open_links and open_links.pop() else ""
        elif token.type == "image":
            words = token.content.strip() or "picture"
            address = safe_url(str(token.attrGet("src") or ""), base_url)
            yield _link(address, words) if address and not any(open_links) else _esc(f"[{words}]")
        elif token.type == "html_inline":
            yield "<br>" if re.fullmatch(r"<br\s*/?>", token.content, re.IGNORECASE) else ""
        elif token.type == "code_inline":
            yield f"<code>{_esc(token.content)}</code>"
        elif token.type in ("softbreak", "hardbreak"):
            yield "<br>" if token.type == "hardbreak" else "\n"
        elif token.type in ("text", "text_special"):
            yield _esc(token.content)
        elif token.tag in _TAGS:
            yield f"</{token.tag}>" if token.nesting < 0 else f"<{token.tag}>"


def _link(address: str, words: str) -> str:
    return f"{_opening(address)}{_esc(words)}</a>"


def _opening(address: str) -> str:
    return f'<a href="{_esc(address)}" target="_blank" rel="noopener noreferrer nofollow">'


def _esc(text: str) -> str:
    return html.escape(text, quote=True)


def _printable(text: str) -> str:
    """Without control characters and lone surrogates, and without marks that turn the direction of writing around."""
    text = text.encode("utf-8", "replace").decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", "", text)


class _Words(HTMLParser):
    """What a block of HTML says, without what a browser would run or hide."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._hidden: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _HIDDEN:
            self._hidden.append(tag)
        self.parts.append(" ")

    def handle_endtag(self, tag: str) -> None:
        if self._hidden and tag == self._hidden[-1]:
            self._hidden.pop()
        self.parts.append(" ")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.parts.append(data)


def _text_of(block: str) -> str:
    words = _Words()
    words.feed(block)
    words.close()
    return " ".join("".join(words.parts).split())
