"""Numbers and names as a reader wants them, and text made safe for HTML.

Everything a model, a card or a visitor wrote passes through ``esc`` before it reaches the page, and every message does:
there it is said in the reader's language.
"""

from __future__ import annotations

import html
import re

from playground.ui.i18n import say

NOTHING = "–"

RUNTIMES = {"onnx": "ONNX Runtime", "torch": "PyTorch", "remote": "remote server", "fake": "scripted stand-in"}
OWN_KERNELS = "ONNX, own kernels"
"""In the place of a runtime's name where the playground's kernels computed."""
RECIPES = {"fused": "fused export", "optimum": "optimum export", "prebuilt": "export made elsewhere"}
FINISHED = {
    "stop": "finished by itself",
    "length": "cut off at the token limit",
    "stopped": "stopped by you",
    "error": "failed",
}


def esc(text: str) -> str:
    """``text`` as HTML that shows exactly it, a message in the reader's language.

    Lone surrogates, which no browser can be sent, become ``?``.
    """
    return html.escape(say(text).encode("utf-8", "replace").decode("utf-8"), quote=True)


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
            return "under 0.1 ms"
        return f"{value * 1000:.0f} ms" if value >= 0.00995 else f"{value * 1000:.1f} ms"
    if value < 59.95:
        return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02d} s"


def rate(value: float | None, unit: str = "token") -> str:
    """Tokens (or chunks) a second."""
    if value is None:
        return NOTHING
    shown = f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
    return f"{shown} {'tok/s' if unit == 'token' else 'chunks/s'}"


def characters(value: float | None) -> str:
    """Characters a second."""
    return NOTHING if value is None else f"{value:,.0f} characters/s"


def megabytes(value: float | None) -> str:
    """MB (10^6 bytes, as the figures are taken), GB from a thousand on."""
    if value is None:
        return NOTHING
    return f"{value / 1000:.2f} GB" if value >= 1000 else f"{value:.0f} MB"


def count(value: int | None, noun: str = "") -> str:
    """A whole number with thousands separators and its noun: ``1 token``, ``2,000 tokens``."""
    if value is None:
        return NOTHING
    if not noun:
        return f"{value:,}"
    return f"{value:,} {noun}{'' if value == 1 else 's'}"


def percent(value: float) -> str:
    """A share between 0 and 1."""
    return f"{value * 100:.1f} %" if value < 0.99995 else "100 %"


def precision_words(runtime: str, precision: str) -> str:
    """How the picker calls a variant: ``int8`` for the usual runtime, ``torch fp32`` where it is another one."""
    if runtime == "fake":
        return "scripted"
    return precision if runtime == "onnx" else f"{runtime} {precision}"
