"""What a model really reads: the rendered prompt as coloured pieces, a piece a token, and what of the context it takes.

Control tokens are boxed, so that they can't be taken for text that looks like them. The module knows prompt views and
labels, not gradio.
"""

from __future__ import annotations

from collections.abc import Iterable

from playground.messages import msg, plural
from playground.records import PromptView
from playground.ui.html.format import count, esc, percent
from playground.ui.html.panel import Label

FOLDED = 500
"""Tokens from which on the middle of a prompt is folded."""
HEAD, TAIL = 200, 100
COLOURS = 4
TIGHT = 0.9
"""Share of the context from which on it is called nearly full."""


def prompt_html(view: PromptView, label: Label) -> str:
    """All that one model reads for a request."""
    warnings = "".join(f"<li>{esc(warning)}</li>" for warning in view.warnings)
    told = f'<ul class="prompt-warnings">{warnings}</ul>' if warnings else ""
    head = (
        f'<header class="series-{label.position}"><h3><i class="swatch"></i>{esc(label.name)} '
        f"<code>{esc(str(label.variant))}</code></h3>{_context(view)}</header>"
    )
    return f'<section class="prompt-view">{head}{told}{_read(view)}</section>'


def _context(view: PromptView) -> str:
    if not view.tokens:
        return ""
    used = len(view.tokens) + len(view.answer)
    said = [count(used, "token")]
    meter = ""
    if view.context_length:
        share = min(1.0, used / view.context_length)
        said.append(
            esc(msg("{share} of its context of {context:,}", share=percent(share), context=view.context_length))
        )
        kind = "is-tight" if share > TIGHT else ""
        meter = (
            f'<span class="context-bar {kind}" aria-hidden="true"><span style="width:{share * 100:.1f}%"></span></span>'
        )
    if view.room is not None:
        said.append(
            esc(plural("{n:,} token is left for the answer", "{n:,} tokens are left for the answer", view.room))
        )
    return f'<p class="context">{" · ".join(said)}</p>{meter}'


def _read(view: PromptView) -> str:
    if not view.tokens:
        return f'<pre class="prompt-text" tabindex="0">{esc(view.rendered)}</pre>'
    toggle = (
        f'<label class="prompt-ids"><input type="checkbox"> {esc(msg("Show the number of each token"))}</label>'
        f'<p class="note">{esc(NOTE)}</p>'
    )
    pieces = _pieces(view)
    if len(pieces) > FOLDED:
        middle = len(pieces) - HEAD - TAIL
        words = esc(plural("{n:,} more token", "{n:,} more tokens", middle))
        shown = (
            f"{''.join(pieces[:HEAD])}<details><summary>{words}</summary>{''.join(pieces[HEAD:-TAIL])}</details>"
            f"{''.join(pieces[-TAIL:])}"
        )
    else:
        shown = "".join(pieces)
    answer = ""
    if view.answer:
        given = "".join(_piece(name, place, None, ()) for place, name in enumerate(view.answer))
        answer = f'<p class="given">{esc(msg("and then, as the beginning of its answer:"))}</p><div>{given}</div>'
    name = esc(msg("What {model} reads, token by token", model=label_of(view)))
    return f'{toggle}<div class="prompt-run" role="group" aria-label="{name}">{shown}{answer}</div>'


NOTE = msg(
    "A colour a token, in turn. Control tokens stand in a box: they are marks of the model’s format, not text. The "
    "number of a token shows when it is pointed at, or reached by the arrow keys."
)


def label_of(view: PromptView) -> str:
    """The model as the view names it."""
    return view.model


def _pieces(view: PromptView) -> list[str]:
    control = frozenset(view.control)
    pairs: Iterable[tuple[str, int]] = zip(view.tokens, view.token_ids, strict=True)
    return [_piece(name, place, token, control) for place, (name, token) in enumerate(pairs)]


def _piece(name: str, place: int, token: int | None, control: Iterable[int]) -> str:
    kind = "control" if place in control else f"tint-{place % COLOURS}"
    number = "" if token is None else f' data-id="{token}"'
    shown = esc(name).replace("\n", '<span class="line">↵</span>\n').replace("\t", "⇥\t")
    return f'<span class="piece {kind}" tabindex="{0 if place == 0 else -1}"{number}>{shown}</span>'
