"""A model's answer as HTML to read: markdown, tables, code, maths; and its thinking, folded.

Model output is untrusted. markdown-it writes HTML by rules of ours: text that is escaped, links to web addresses, no
pictures, no HTML of the model's. nh3 then lets a fixed list of tags and attributes through: no ids, names, classes,
styles, forms or scripts. What may be pressed (Copy) or scrolled is put around it afterwards, so it can't come from a
model.

While an answer grows, its finished blocks are rendered once; only the last one is rendered again. Knows texts, neither
models nor gradio; an exported page has the same HTML.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Lock

import nh3
from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.renderer import RendererHTML
from markdown_it.rules_core import StateCore
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

from playground.catalog.card_text import safe_url
from playground.messages import msg
from playground.results.thinking import Split
from playground.ui.html import maths
from playground.ui.html.format import count, esc

MAX_TEXT = 200_000
"""Characters of an answer that are rendered; what follows is shown as it is."""
MAX_BLOCK = 20_000
"""Characters of a block (a paragraph, a list, a table) that are rendered: longer ones are shown as they are."""
LARGE, GROWN = 4_000, 16
"""A growing block of so many characters is rendered again when it has grown by one part in so many: a list of a whole
answer would cost 30 ms an update. What came since stands below it as it is.
"""
KEPT = 64
"""Growing answers whose finished blocks are kept."""

_MATHS = {"math", "mrow", "mi", "mn", "mo", "mtext", "mspace", "msup", "msub", "msubsup", "mfrac", "msqrt", "mroot"}
_MATHS |= {"mover", "munder", "munderover", "mtable", "mtr", "mtd", "mstyle", "mpadded", "mphantom", "menclose"}
_TAGS = {"p", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "pre", "code", "em", "strong", "s", "a", "hr", "br"}
_TAGS |= {"table", "thead", "tbody", "tr", "th", "td", *_MATHS}
_ATTRIBUTES = {
    "a": {"href", "title"},
    "ol": {"start"},
    "th": {"align"},
    "td": {"align"},
    "pre": {"data-language"},
    "math": {"display"},
    "mo": {"stretchy", "fence", "form", "minsize", "maxsize"},
    "mi": {"mathvariant"},
    "mn": {"mathvariant"},
    "mspace": {"width"},
    "mfrac": {"linethickness"},
    "mtable": {"columnalign"},
    "mtd": {"columnalign"},
    "mover": {"accent"},
    "mstyle": {"displaystyle", "scriptlevel"},
    "menclose": {"notation"},
}
_SHORT = re.compile(r"[a-z0-9. -]{1,30}")
_LENGTH = re.compile(r"[0-2]?(\.\d{1,4})?em")


def _attribute(tag: str, name: str, value: str) -> str | None:
    """Values that can't make a formula larger than its place, whatever LaTeX asked for."""
    if tag not in _MATHS:
        return value
    pattern = _LENGTH if name in ("width", "minsize", "maxsize") else _SHORT
    return value if pattern.fullmatch(value) else None


_BELT = nh3.Cleaner(
    tags=_TAGS,
    clean_content_tags={"script", "style", "template", "svg", "iframe", "object", "noscript", "title", "head"},
    attributes=_ATTRIBUTES,
    attribute_filter=_attribute,
    link_rel="noopener noreferrer nofollow",
    set_tag_attribute_values={"a": {"target": "_blank"}},
    url_schemes={"http", "https"},
    url_relative="deny",
)
_TURNING = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters, and marks that turn the direction of writing around beyond their own line."""
_TASK = re.compile(r"\[( |x|X)\](?=\s)")
_PRE = re.compile(r'<pre(?: data-language="([^"]*)")?>(.*?)</pre>', re.DOTALL)
_LANGUAGE = re.compile(r"[\w+#.-]{1,20}", re.ASCII)


def answer_html(text: str, *, growing: bool = False, buttons: bool = True) -> str:
    """The answer proper as blocks of HTML, each with a ``data-key``.

    Args:
        text: What the model said; without its thinking (``results.thinking``).
        growing: Whether more may come; its finished blocks are then kept for the next time.
        buttons: Whether code has a Copy button, which needs the page's script.
    """
    return "".join(answer_blocks(text, growing=growing, buttons=buttons))


def answer_blocks(text: str, *, growing: bool = False, buttons: bool = True) -> list[str]:
    """The same, a text a block: all but the last ones stay as they are while the answer grows."""
    return [_block_html(block, buttons) for block in _drawn(text, growing).blocks]


def raw_html(text: str, *, growing: bool = False) -> str:
    """The same text as it is, in the same blocks: its text content is exactly ``text``."""
    return "".join(raw_blocks(text, growing=growing))


def raw_blocks(text: str, *, growing: bool = False) -> list[str]:
    """The same, a text a block."""
    return [f"<span>{esc(block.source)}</span>" for block in _drawn(text, growing).blocks]


def thinking_html(found: Split, *, tokens: int | None = None, growing: bool = False, buttons: bool = True) -> str:
    """The thinking, folded; open while it goes on. Empty where there is none.

    Args:
        tokens: How many tokens it took; None where only words can be counted.
    """
    if not found.thinking and not found.open:
        return ""
    size = count(tokens, "token") if tokens is not None else count(len(found.thinking.split()), "word")
    opened = growing and found.open
    title = msg("Thinking · {size}", size=size) if opened else msg("Thought · {size}", size=size)
    body = answer_html(found.thinking, growing=growing, buttons=buttons)
    return (
        f'<details class="thinking" data-keep="thinking"{" open" if opened else ""}><summary>{esc(title)}</summary>'
        f'<div class="rendered" dir="auto">{body}</div></details>'
    )


@dataclass(frozen=True)
class _Block:
    """A block of an answer: its source and its HTML."""

    source: str
    html: str
    key: int


@dataclass(frozen=True)
class _Drawn:
    """Blocks of a text; all but the last are as they will stay.

    Attributes:
        done: The source of the finished ones.
    """

    blocks: tuple[_Block, ...] = ()
    done: str = ""


_kept: OrderedDict[str, _Drawn] = OrderedDict()
_lock = Lock()


def _drawn(text: str, growing: bool) -> _Drawn:
    """The text as blocks, on from what is already known of it."""
    with _lock:
        known = max(
            (each for each in _kept.values() if text.startswith(each.done)), key=lambda it: len(it.done), default=None
        )
    before = known or _Drawn()
    blocks = list(before.blocks[:-1]) if before.blocks else []
    if growing and before.blocks and (longer := _longer(before.blocks[-1], text[len(before.done) :])):
        return _Drawn((*blocks, longer), before.done)
    for html, source in _blocks(text[len(before.done) :]):
        blocks.append(_Block(source, html, len(blocks)))
    done = text[: len(text) - len(blocks[-1].source)] if blocks else ""
    made = _Drawn(tuple(blocks), done)
    if growing and len(text) <= MAX_TEXT and (done or len(text) > LARGE):
        with _lock:
            if known is not None:
                _kept.pop(known.done, None)
            _kept[done] = made
            while len(_kept) > KEPT:
                _kept.popitem(last=False)
    return made


def _longer(last: _Block, source: str) -> _Block | None:
    """A large block with what came since it was rendered; None where it is to be rendered again."""
    drawn = len(last.source)
    if drawn < LARGE or len(source) - drawn > drawn // GROWN or not source.startswith(last.source):
        return None
    since = _plain(source[drawn:]) if source[drawn:].strip() else ""
    return _Block(source, last.html + since, last.key)


def _blocks(text: str) -> Iterator[tuple[str, str]]:
    """HTML and source of each block on the top level; the sources together are ``text``."""
    shown, rest = text[:MAX_TEXT], text[MAX_TEXT:]
    clean = _same_length(shown)
    starts = [0]
    for line in clean.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    tokens = _PARSER.parse(clean, {})
    groups = _groups(tokens)
    for number, (first, group) in enumerate(groups):
        begin = 0 if number == 0 else starts[first]
        end = starts[groups[number + 1][0]] if number + 1 < len(groups) else len(shown)
        source = shown[begin:end]
        is_code = group[0].type == "fence"
        yield (_plain(source) if len(source) > MAX_BLOCK and not is_code else _rendered(group)), source
    if not groups and shown:
        yield "", shown
    for at in range(0, len(rest), MAX_TEXT):
        yield _plain(rest[at : at + MAX_TEXT]), rest[at : at + MAX_TEXT]


def _groups(tokens: Sequence[Token]) -> list[tuple[int, list[Token]]]:
    """Tokens of each block on the top level, with the line it begins at."""
    groups: list[tuple[int, list[Token]]] = []
    for token in tokens:
        if token.level == 0 and token.nesting >= 0:
            groups.append(((token.map or [0])[0], []))
        groups[-1][1].append(token)
    return groups


def _rendered(group: list[Token]) -> str:
    for token in group:
        if token.type == "inline" and token.children is not None:
            _PARSER.inline.parse(token.content, _PARSER, {}, token.children)
    return _BELT.clean(_PARSER.renderer.render(group, _PARSER.options, {}))


def _plain(source: str) -> str:
    return f'<p class="plain">{esc(_TURNING.sub("", source))}</p>'


def _block_html(block: _Block, buttons: bool) -> str:
    made = _PRE.sub(lambda found: _code(found, buttons), block.html)
    if "<table>" in made:
        table = f'<div class="scroll" role="region" tabindex="0" aria-label="{esc(msg("Table"))}"><table>'
        made = made.replace("<table>", table).replace("</table>", "</table></div>")
    return f'<div data-key="{block.key}" dir="auto">{made}</div>'


def _code(found: re.Match[str], buttons: bool) -> str:
    language = found[1] or ""
    name = msg("Code in {language}", language=language) if language else msg("Code")
    label, word = esc(msg("Copy this code")), esc(msg("Copy"))
    button = f'<button type="button" data-do="copy-code" aria-label="{label}">{word}</button>' if buttons else ""
    return (
        f'<div class="code-block" dir="ltr"><div class="code-head"><span>{language}</span>{button}</div>'
        f'<pre tabindex="0" role="region" aria-label="{esc(name)}">{found[2]}</pre></div>'
    )


def _same_length(text: str) -> str:
    """The text with what must not be shown replaced character by character, so that places stay the same."""
    text = text.encode("utf-8", "replace").decode("utf-8").replace("\r\n", " \n").replace("\r", "\n")
    return _TURNING.sub("\u200b", text).translate(_LINE_ENDS)


_LINE_ENDS = dict.fromkeys(map(ord, "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"), " ")
"""What Python takes for the end of a line, and markdown does not."""


class _AnswerRenderer(RendererHTML):
    """markdown-it's HTML without what an answer may not do. Rules are found by the names of tokens."""

    def heading_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return f"<{_heading(tokens[idx].tag)}>"

    def heading_close(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return f"</{_heading(tokens[idx].tag)}>"

    def link_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        address = safe_url(str(tokens[idx].attrGet("href") or ""), "")
        env.setdefault("links", []).append(bool(address))
        return f'<a href="{escapeHtml(address)}" title="{escapeHtml(address)}">' if address else ""

    def link_close(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return "</a>" if env["links"].pop() else ""

    def image(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        token = tokens[idx]
        return escapeHtml(f"[{token.content.strip() or 'picture'}: {token.attrGet('src') or ''}]")

    def fence(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        token = tokens[idx]
        language = token.info.split(maxsplit=1)[0] if token.info.strip() else ""
        told = f' data-language="{language}"' if _LANGUAGE.fullmatch(language) else ""
        return f"<pre{told}><code>{escapeHtml(token.content)}</code></pre>"

    def math_inline(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return maths.mathml(tokens[idx].content, tokens[idx].markup in ("$$", "\\["))

    def math_block(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return maths.mathml(tokens[idx].content, True)

    def th_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        style = str(tokens[idx].attrGet("style") or "")
        side = style.partition(":")[2]
        return f'<{tokens[idx].tag} align="{side}">' if side in ("left", "right", "center") else f"<{tokens[idx].tag}>"

    td_open = th_open


def _heading(tag: str) -> str:
    """Below the model's name, which is a heading of the third level."""
    return f"h{min(6, int(tag[1]) + 3)}"


def _tasks(state: StateCore) -> None:
    """``[ ]`` and ``[x]`` at the beginning of an item are boxes to read, not to press."""
    tokens = state.tokens
    for item, token in zip(tokens, tokens[2:], strict=False):
        if item.type == "list_item_open" and token.type == "inline" and (found := _TASK.match(token.content)):
            token.content = ("☐" if found[1] == " " else "☑") + token.content[found.end() :]


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "breaks": True, "maxNesting": 20}, renderer_cls=_AnswerRenderer)
    parser.enable(["table", "strikethrough"]).disable(["reference", "code", "html_block", "html_inline"])
    maths.formulas(parser)
    # Blocks alone are parsed at first; ``_rendered`` parses what stands in those that are not too long.
    parser.core.ruler.disable("inline")
    parser.core.ruler.push("tasks", _tasks)
    return parser


_PARSER = _parser()
