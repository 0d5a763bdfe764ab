"""The markdown of a model card, which anybody may have written, as HTML that can do nothing.

markdown-it writes the HTML by rules of ours: text that is escaped, links to http(s) only. HTML in the card becomes its
plain text, pictures become links with their alternative text, and nothing is loaded from anywhere. nh3 then lets a
fixed list of tags through, whatever the rules made. Only the page needs it; ``card_text.py`` reads the rest of a card.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import nh3
from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

from playground.catalog.card_text import safe_url, split

MAX_TEXT = 200_000
"""Characters of a card that are rendered."""

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
