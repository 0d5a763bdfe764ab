"""The text of a model card, which anybody may have written: its YAML block read within limits, its markdown as HTML
that can do nothing.

markdown-it writes the HTML by rules of ours: text that is escaped, links to http(s) only. HTML in the card becomes its
plain text, pictures become links with their alternative text, and nothing is loaded from anywhere. nh3 then lets a
fixed list of tags through, whatever the rules made. The module knows text; it fetches nothing.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import nh3
import yaml
from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

from playground.messages import Translatable, foreign, msg

MAX_TEXT = 200_000
"""Characters of a card that are rendered."""
MAX_YAML = 256_000
"""Characters of the block on top that are read; long tables of results fit."""
MAX_DEPTH = 20
MAX_NODES = 50_000

FRONT_MATTER = re.compile(
    r"\A\ufeff?\s*---[ \t]*(?:\r\n|\r|\n)(.*?)(?:\r\n|\r|\n)---[ \t]*(?:\r\n|\r|\n|\Z)", re.DOTALL
)

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAGS = {"p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "pre", "code", "em", "strong", "s"}
_TAGS |= {"a", "hr", "br", "table", "thead", "tbody", "tr", "th", "td"}
_HIDDEN = {"script", "style", "template", "svg", "math", "iframe", "object", "noscript", "title", "head"}

_BELT = nh3.Cleaner(
    tags=_TAGS,
    clean_content_tags=_HIDDEN,
    attributes={"a": {"href"}},
    link_rel="noopener noreferrer nofollow",
    set_tag_attribute_values={"a": {"target": "_blank"}},
    url_schemes={"http", "https"},
    url_relative="deny",
)
"""What leaves this module has been parsed as a browser parses it, and holds these tags and addresses alone."""
_WORDS = nh3.Cleaner(tags=set(), clean_content_tags=_HIDDEN)
"""What a block of HTML says, escaped, without what a browser would run or hide."""


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
    """Parse the YAML block of a card.

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
        data = yaml.load(block, Loader=_Loader)  # a safe loader: it makes plain values only
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        if isinstance(error, BadFrontMatter):
            raise
        reason = foreign(type(error).__name__)
        raise BadFrontMatter(msg("its YAML block can't be read ({reason})", reason=reason)) from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise BadFrontMatter(msg("its YAML block is not a list of keys"))
    return {key: value for key, value in data.items() if isinstance(key, str)}


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


def safe_html(markdown: str, base_url: str) -> str:
    """Card text as HTML without anything active.

    Args:
        markdown: The card, with or without its YAML block; what is longer than ``MAX_TEXT`` is cut (``is_cut``).
        base_url: What relative links are relative to, e.g. ``https://huggingface.co/OWNER/NAME/blob/REVISION/``.
    """
    parser = MarkdownIt("commonmark", renderer_cls=_CardRenderer).enable(["table", "strikethrough"])
    return _BELT.clean(parser.render(_printable(split(markdown)[1][:MAX_TEXT]), {"base_url": base_url}))


def is_cut(markdown: str) -> bool:
    """Whether the card goes on after what ``safe_html`` shows of it."""
    return len(split(markdown)[1]) > MAX_TEXT


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


class _CardRenderer(RendererHTML):
    """markdown-it's HTML without what a card may not do.

    Links lead to web addresses or leave their text; a picture becomes a link with its words; HTML becomes its text; a
    language of code is not told. Rules are found by the names of tokens.
    """

    def link_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        address = safe_url(str(tokens[idx].attrGet("href") or ""), env["base_url"])
        env.setdefault("links", []).append(bool(address))
        return _opening(address) if address else ""

    def link_close(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return "</a>" if env["links"].pop() else ""

    def image(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        words = tokens[idx].content.strip() or "picture"
        address = safe_url(str(tokens[idx].attrGet("src") or ""), env["base_url"])
        if not address or any(env.get("links", ())):
            return escapeHtml(f"[{words}]")
        return f"{_opening(address)}{escapeHtml(words)}</a>"

    def fence(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return self.code_block(tokens, idx, options, env)

    def html_block(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        # A space for each tag, so that the words of two cells do not become one.
        text = " ".join(_WORDS.clean(tokens[idx].content.replace("<", " <")).split())
        return f"<p>{text}</p>" if text else ""

    def html_inline(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return "<br>" if re.fullmatch(r"<br\s*/?>", tokens[idx].content, re.IGNORECASE) else ""


def _opening(address: str) -> str:
    return f'<a href="{escapeHtml(address)}">'


def _printable(text: str) -> str:
    """Without control characters and lone surrogates, and without marks that turn the direction of writing around."""
    text = text.encode("utf-8", "replace").decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", "", text)
