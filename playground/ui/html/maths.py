"""Maths in an answer: found between ``$``, ``$$``, ``\\(`` and ``\\[``, and written as MathML, which browsers show.

Rules for markdown-it. Prices are no maths: what stands between two signs has to look like a formula. What can't be read
as LaTeX stays as it was written, as code. The MathML is not safe yet: the caller's allow-list makes it so.
"""

from __future__ import annotations

import re
from functools import lru_cache

import latex2mathml.converter
from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline

MAX_CHARS = 1000
"""Of one formula."""
MAX_LINES = 60
_INLINE = {
    "$$": re.compile(r"\$\$(?P<tex>[^$]{1,1000}?)\$\$"),
    "$": re.compile(r"\$(?![\s$])(?P<tex>(?:[^$\\\n]|\\[^\n]){1,300})(?<![\s\\])\$(?![A-Za-z0-9$])"),
    "\\(": re.compile(r"\\\((?P<tex>(?:[^\\]|\\[^()\[\]]){1,1000}?)\\\)"),
    "\\[": re.compile(r"\\\[(?P<tex>(?:[^\\]|\\[^()\[\]]){1,1000}?)\\\]"),
}
_WORDS = re.compile(r"\\[A-Za-z]+\*?(?:\{[^{}]*\})?|[A-Za-z]{4,}(?:\s|$)")
_FORMULA = re.compile(r"[\\^_{}=<>+*/|-]")
_CLOSING = {"$$": "$$", "\\[": "\\]"}


def formulas(parser: MarkdownIt) -> None:
    """Teach a parser to find maths, as tokens ``math_inline`` and ``math_block``."""
    parser.inline.ruler.before("escape", "math", _inline)
    parser.block.ruler.before("fence", "math_block", _block, {"alt": ["paragraph", "reference", "blockquote", "list"]})


@lru_cache(maxsize=1024)
def mathml(tex: str, display: bool) -> str:
    """LaTeX as MathML; as code where it can't be read. Not safe: what stands in ``\\text`` is not escaped."""
    try:
        if len(tex) > MAX_CHARS:
            raise ValueError("too long")
        made: str = latex2mathml.converter.convert(tex, display="block" if display else "inline")
        if "<mi>\\" in made:  # a command it does not know
            raise ValueError("unknown command")
    except Exception:  # it raises errors of its own, and Python's where LaTeX is nested deeply or cut
        code = f"<code>{escapeHtml(tex)}</code>"
        return f"<p>{code}</p>" if display else code
    return made


def _inline(state: StateInline, silent: bool) -> bool:
    source, at = state.src, state.pos
    opening = next((mark for mark in _INLINE if source.startswith(mark, at)), "")
    if not opening or (opening == "$" and at and (source[at - 1].isalnum() or source[at - 1] in "$\\")):
        return False
    found = _INLINE[opening].match(source, at, state.posMax)
    if not found or (opening == "$" and not _is_formula(found["tex"])):
        return False
    if not silent:
        token = state.push("math_inline", "math", 0)
        token.content, token.markup = found["tex"].strip(), opening
    state.pos = found.end()
    return True


def _is_formula(tex: str) -> bool:
    """Whether it looks like one: ``x``, ``f(x) = 2``; and not "5 (about 4) or 6", which is between two prices."""
    if tex[0].isdigit() and not _FORMULA.search(tex):
        return tex.strip().isdigit()
    prose = [word for word in _WORDS.findall(tex) if not word.startswith("\\")]
    return not prose and (bool(_FORMULA.search(tex)) or len(tex) <= 12)


def _block(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    first = state.src[state.bMarks[start] + state.tShift[start] : state.eMarks[start]].strip()
    opening = first[:2]
    closing = _CLOSING.get(opening)
    if closing is None or state.is_code_block(start):
        return False
    lines, line, rest = [], start, first[2:]
    while True:
        if closing in rest:
            body, _, after = rest.partition(closing)
            if after.strip(" .,;"):
                return False
            lines.append(body)
            break
        lines.append(rest)
        line += 1
        if line >= end or line - start > MAX_LINES or state.sCount[line] < state.blkIndent:
            return False
        rest = state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]]
    tex = "\n".join(lines).strip()
    if not tex:
        return False
    if not silent:
        state.line = line + 1
        token = state.push("math_block", "math", 0)
        token.block, token.content, token.markup, token.map = True, tex, opening, [start, state.line]
    return True
