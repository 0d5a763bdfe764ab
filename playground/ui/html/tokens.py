"""An answer token by token: how likely each was to the model that wrote it, and what else it might have written.

A token is a button; scripts/tokens.js fills the one popover of a view from what the buttons carry, so that thousands of
tokens are as many buttons and nothing more. Probability is told by colour and by the thickness of the line below, both
explained. The module knows token views and labels, not gradio.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence

from playground.experiments.token_alignment import Span, align
from playground.experiments.token_view import TokenAt, TokenView
from playground.messages import Translatable, msg
from playground.ui.html.format import count, esc, percent
from playground.ui.html.panel import Label

LEVELS = (0.9, 0.5, 0.2, 0.05)
"""A token's level is the number of these that its probability does not reach."""
LEVEL_WORDS = (
    msg("90 % or more"),
    msg("50 to 90 %"),
    msg("20 to 50 %"),
    msg("5 to 20 %"),
    msg("below 5 %"),
)
SHOWN = 8
"""Alternatives that the popover lists."""
APART = math.log(10)
"""Two models are far apart on the same characters where the one held them for ten times as likely as the other."""


def view_html(view: TokenView, label: Label, *, going_on: bool = True) -> str:
    """One answer.

    Args:
        going_on: Whether an alternative can be continued from here.
    """
    buttons = _broken(_buttons(view, range(len(view.tokens))))
    return _section(view, _head(view, label), f'<div class="token-run" {_group(label)}>{buttons}</div>', going_on)


def aligned_html(one: TokenView, other: TokenView, labels: tuple[Label, Label], *, going_on: bool = True) -> str:
    """Two answers, one above the other wherever both say the same."""
    pieces = [[token.piece for token in view.tokens] for view in (one, other)]
    pairs = "".join(_pair(span, one, other) for span in align(*pieces))
    heads = "".join(_head(view, label) for view, label in zip((one, other), labels, strict=True))
    key = "".join(f'<span class="series-{label.position}"><i></i>{esc(label.name)}</span>' for label in labels)
    note = esc(
        msg(
            "Both answers in one line of text: the upper row is the first model’s, the lower row the second’s. Where "
            "both say the same, their tokens stand above each other, cut where a token of each ends; elsewhere each "
            "has its own, in a dashed box. A double line marks characters that one of them held for ten times as "
            "likely as the other."
        )
    )
    body = (
        f'<p class="token-key">{key}</p><p class="note">{note}</p><div class="token-run is-aligned series-'
        f'{labels[0].position}" {_group(*labels)}>{pairs}</div>'
    )
    return _section(one, heads, body, going_on)


def _section(view: TokenView, head: str, body: str, going_on: bool) -> str:
    swatches = "".join(
        f'<span><b class="tok level-{place}">abc</b> {esc(word)}</span>' for place, word in enumerate(LEVEL_WORDS)
    )
    legend = f'<p class="token-legend"><span>{esc(msg("Probability of the token:"))}</span>{swatches}</p>'
    keys = esc(msg("A token opens its figures; the arrow keys go from one to the next."))
    return (
        f'<section class="token-view" data-tokens>{head}{legend}<p class="note">{esc(view.how)} {keys}</p>{body}'
        f"{_slip(going_on)}</section>"
    )


def _head(view: TokenView, label: Label) -> str:
    figures = (
        (msg("perplexity"), f"{view.perplexity:,.2f}", PERPLEXITY),
        (msg("mean entropy"), _entropy(view.mean_entropy), ENTROPY),
        (msg("tokens"), count(len(view.tokens)), msg("The end of turn is counted where the model wrote one.")),
    )
    shown = "".join(
        f'<div title="{esc(what)}"><dt>{esc(name)}</dt><dd>{value}</dd></div>' for name, value, what in figures
    )
    told = "".join(f"<li>{esc(what)}</li>" for _, _, what in figures[:2])
    return (
        f'<header class="series-{label.position}"><h3><i class="swatch"></i>{esc(label.name)} '
        f"<code>{esc(str(view.variant))}</code></h3><dl>{shown}</dl>"
        f"<details><summary>{esc(msg('What the figures mean'))}</summary><ul>{told}</ul></details></header>"
    )


PERPLEXITY = msg(
    "Perplexity: exp of the mean of −ln p over the answer’s tokens, p as below. 1 where the model was certain of each "
    "token; k where it was as unsure as among k equally likely ones."
)
ENTROPY = msg(
    "Entropy: −Σ p ln p over the whole vocabulary at a token’s place, in nats; divided by ln 2 it is in bits. 0 where "
    "one token was certain. It says how open the place was, whichever token was taken."
)


def _entropy(nats: float) -> str:
    return f"{nats:.2f} nats ({nats / math.log(2):.2f} bits)"


def _group(*labels: Label) -> str:
    names = " · ".join(label.name for label in labels)
    return f'role="group" aria-label="{esc(msg("Tokens of {names}", names=names))}"'


# -- tokens -----------------------------------------------------------------------------------------------------------


def _buttons(view: TokenView, places: Iterable[int], first: bool = True) -> list[tuple[str, int]]:
    """Each token as a button, and how many lines end in it. One of a view can be reached by Tab."""
    made = []
    for place in places:
        token = view.tokens[place]
        made.append((_button(token, place, view.column, reachable=first and place == 0), token.piece.count("\n")))
    return made


def _broken(buttons: Iterable[tuple[str, int]]) -> str:
    """A button never breaks, so lines that end in one end behind it."""
    return "".join(button + "<br>" * lines for button, lines in buttons)


def _button(token: TokenAt, place: int, column: int, *, reachable: bool) -> str:
    kinds = ["tok", f"level-{level(token.probability)}"]
    shown = token.piece.replace("\n", "↵").replace("\t", "⇥")
    if not token.piece:
        kinds.append("control")
        shown = token.name
    if token.given:
        kinds.append("given")
    named = token.name if not token.piece.strip() else token.piece.strip()
    others = [[each.id, each.text, round(each.probability, 5)] for each in token.alternatives[:SHOWN]]
    return (
        f'<button type="button" class="{" ".join(kinds)}" tabindex="{0 if reachable else -1}" '
        f'data-at="{place}" data-column="{column}" data-id="{token.id}" data-name="{esc(token.name)}" '
        f'data-p="{token.probability:.6g}" data-rank="{token.rank}" data-entropy="{esc(_entropy(token.entropy))}" '
        f'data-others="{esc(json.dumps(others, ensure_ascii=False, separators=(",", ":")))}" '
        f'aria-label="{esc(named)}, {share(token.probability)}">{esc(shown)}</button>'
    )


def level(probability: float) -> int:
    """0 for what the model was sure of, 4 for what it hardly expected."""
    return sum(probability < least for least in LEVELS)


def share(probability: float) -> str:
    """A probability for a reader; a tiny one keeps its first digit."""
    return percent(probability) if probability >= 0.0005 or probability == 0 else f"{probability * 100:.0e} %"


def _pair(span: Span, one: TokenView, other: TokenView) -> str:
    sides = (one, span.one), (other, span.other)
    rows = []
    for number, (view, (start, end)) in enumerate(sides):
        buttons = _buttons(view, range(start, end), first=number == 0)
        rows.append(f'<span class="row-{number}">{"".join(button for button, _ in buttons)}</span>')
    lines = max(sum(token.piece.count("\n") for token in view.tokens[start:end]) for view, (start, end) in sides)
    kind = "is-same" if span.same else "is-different"
    if span.same and abs(_surprise(one, span.one) - _surprise(other, span.other)) > APART:
        kind += " is-apart"
    return f'<span class="pair {kind}">{"".join(rows)}</span>' + "<br>" * min(lines, 2)


def _surprise(view: TokenView, tokens: tuple[int, int]) -> float:
    """−ln of the probability of all of these tokens, one after the other."""
    shares: Sequence[float] = [token.probability for token in view.tokens[slice(*tokens)] if token.piece]
    return -math.fsum(math.log(max(share, 1e-300)) for share in shares)


# -- what a token opens -----------------------------------------------------------------------------------------------


def _slip(going_on: bool) -> str:
    """The popover, empty: the script writes a token's figures into its places."""

    def row(name: Translatable, place: str) -> str:
        return f"<dt>{esc(name)}</dt><dd data-put={place}></dd>"

    rows = row(msg("probability"), "p") + row(msg("rank"), "rank") + row(msg("entropy here"), "entropy")
    go_on = ""
    if going_on:
        words = esc(msg("Continue from here"))
        go_on = f'<button type="button" data-do="go-on" aria-label="{words}" title="{words}">{words}</button>'
    return (
        '<div class="token-slip" popover="auto" role="dialog">'
        f'<p><strong data-put="name"></strong> <code>id <span data-put="id"></span></code></p><dl>{rows}</dl>'
        f"<p>{esc(msg('The likeliest tokens here:'))}</p>"
        f'<ol></ol><template><li><span class="bar"></span><b data-put="text"></b><span data-put="share"></span>{go_on}'
        "</li></template></div>"
    )
