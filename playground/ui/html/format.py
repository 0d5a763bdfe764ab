"""Numbers and names as a reader wants them, and text made safe for HTML.

Everything a model, a card or a visitor wrote passes through ``esc`` before it reaches the page, and every message does:
there it is said in the reader's language.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable

from markdown_it import MarkdownIt

from playground.messages import Translatable, msg, plural
from playground.ui.i18n import say

NOTHING = "–"

RUNTIMES = {
    "onnx": "ONNX Runtime",
    "torch": "PyTorch",
    "remote": msg("remote server"),
    "fake": msg("scripted stand-in"),
}
OWN_KERNELS = msg("ONNX, own kernels")
"""In the place of a runtime's name where the playground's kernels computed."""
RECIPES = {
    "fused": msg("fused export"),
    "dynamo": msg("torch export"),
    "optimum": msg("optimum export"),
    "prebuilt": msg("export made elsewhere"),
}
VERDICTS: dict[str, Translatable] = {
    "exact": msg("exact"),
    "faithful": msg("faithful"),
    "lossy": msg("lossy"),
    "rejected": msg("rejected"),
}
CARD_WORDS: dict[str, Translatable] = {
    "yes": msg("yes"),
    "no": msg("no"),
    "conditional": msg("with conditions"),
    "general": msg("general"),
    "chat": msg("chat"),
    "code": msg("code"),
    "math": msg("math"),
    "reasoning": msg("reasoning"),
    "research": msg("research"),
    "biomedical": msg("biomedical"),
    "japanese": msg("Japanese"),
    "multilingual": msg("multilingual"),
    "extraction": msg("extraction"),
    "tool-use": msg("tool use"),
    "vision-language": msg("images and text"),
    "instruction-tasks": msg("tasks by instruction"),
    "finetune": msg("fine-tuned"),
    "pretrained": msg("pretrained"),
    "expanded": msg("new blocks added"),
}
"""Words of the model cards that the catalogue's schema fixes; what is no such word is shown as the card has it."""
FINISHED = {
    "stop": msg("finished by itself"),
    "length": msg("cut off at the token limit"),
    "stopped": msg("stopped by you"),
    "error": msg("failed"),
}
NOUNS: dict[str, Callable[[int], Translatable]] = {
    "token": lambda n: plural("{n:,} token", "{n:,} tokens", n),
    "chunk": lambda n: plural("{n:,} chunk", "{n:,} chunks", n),
    "model": lambda n: plural("{n:,} model", "{n:,} models", n),
    "repeat": lambda n: plural("{n:,} repeat", "{n:,} repeats", n),
    "thread": lambda n: plural("{n:,} thread", "{n:,} threads", n),
    "flip": lambda n: plural("{n:,} flip", "{n:,} flips", n),
    "word": lambda n: plural("{n:,} word", "{n:,} words", n),
    "character": lambda n: plural("{n:,} character", "{n:,} characters", n),
    "variant": lambda n: plural("{n:,} variant", "{n:,} variants", n),
}
"""What is counted on the page, by its English noun."""
_MARKDOWN = MarkdownIt("commonmark", {"html": False})


def card_word(value: str) -> str:
    """A value of a model card in words: ``tool-use``, ``conditional``."""
    return CARD_WORDS.get(value, value)


def esc(text: str) -> str:
    """``text`` as HTML that shows exactly it, a message in the reader's language.

    Lone surrogates, which no browser can be sent, become ``?``.
    """
    return html.escape(say(text).encode("utf-8", "replace").decode("utf-8"), quote=True)


def rich(text: str) -> str:
    """A message whose template has Markdown in it (bold, emphasis, code) as HTML; HTML in it stays text."""
    return str(_MARKDOWN.renderInline(say(text)))


def link(url: str, label: str) -> str:
    """A link that opens a new tab, or the plain label where ``url`` is not a web address."""
    if not re.fullmatch(r"https?://[^\s\"'<>]+", url):
        return esc(label)
    return f'<a href="{esc(url)}" target="_blank" rel="noopener noreferrer">{esc(label)}</a>'


def seconds(value: float | None) -> str:
    """Seconds with the digits that matter: ``53 ms``, ``1.24 s``, ``2 min 05 s``."""
    if value is None:
        return NOTHING
    if value < 0.9995:
        if value < 0.00005:
            return say(msg("under 0.1 ms"))
        return f"{value * 1000:.0f} ms" if value >= 0.00995 else f"{value * 1000:.1f} ms"
    if value < 59.95:
        return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return say(msg("{minutes} min {seconds} s", minutes=minutes, seconds=str(rest).zfill(2)))


def rate(value: float | None, unit: str = "token") -> str:
    """Tokens (or chunks) a second."""
    if value is None:
        return NOTHING
    shown = f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
    return say(msg("{rate} tok/s", rate=shown) if unit == "token" else msg("{rate} chunks/s", rate=shown))


def characters(value: float | None) -> str:
    """Characters a second."""
    return NOTHING if value is None else say(msg("{rate:,.0f} characters/s", rate=value))


def megabytes(value: float | None) -> str:
    """MB (10^6 bytes, as the figures are taken), GB from a thousand on."""
    if value is None:
        return NOTHING
    return f"{value / 1000:.2f} GB" if value >= 1000 else f"{value:.0f} MB"


def count(value: int | None, noun: str = "") -> str:
    """A whole number with thousands separators and its noun, one of ``NOUNS``: ``1 token``, ``2,000 tokens``."""
    if value is None:
        return NOTHING
    if not noun:
        return f"{value:,}"
    return say(NOUNS[noun](value))


def percent(value: float) -> str:
    """A share between 0 and 1."""
    return f"{value * 100:.1f} %" if value < 0.99995 else "100 %"


def precision_words(runtime: str, precision: str) -> str:
    """How the picker calls a variant: ``int8`` for the usual runtime, ``torch fp32`` where it is another one."""
    if runtime == "fake":
        return say(msg("scripted"))
    return precision if runtime == "onnx" else f"{runtime} {precision}"
