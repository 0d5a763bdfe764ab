"""The panel of an answer that is still being given, in pieces: a page is sent those that have changed.

Knows live runs and panels; how the pieces reach a page is ``ui.watching``'s.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from playground.messages import NOTHING, Translatable, msg
from playground.records import Request
from playground.results.thinking import split
from playground.ui.html import panel_parts as part
from playground.ui.html.answer import answer_blocks, raw_blocks, thinking_html
from playground.ui.html.format import count, esc, rate
from playground.ui.html.panel import Label, frame, run_panel

if TYPE_CHECKING:
    from playground.experiments.progress import LiveRun

_HOLE = f"<!--{secrets.token_hex(16)}-->"
"""Where a piece of a growing panel goes; nobody who writes a prompt can know it."""


@dataclass(frozen=True)
class Growing:
    """A panel in pieces, so that a page is sent what has grown and not the whole.

    Attributes:
        frame: What stands before, between and behind the pieces, which are empty in it.
        state: The line below its name.
        thinking: The folded thinking; empty where there is none.
        blocks: Of the rendered answer.
        raw: Of the answer as it is.
    """

    frame: tuple[str, ...]
    state: str = ""
    thinking: str = ""
    blocks: tuple[str, ...] = ()
    raw: tuple[str, ...] = ()

    @property
    def html(self) -> str:
        """The whole panel."""
        if len(self.frame) == 1:
            return self.frame[0]
        begin, after_state, after_thinking, after_blocks, end = self.frame
        answer = f"{after_state}{self.thinking}{after_thinking}{''.join(self.blocks)}"
        return f"{begin}{self.state}{answer}{after_blocks}{''.join(self.raw)}{end}"


def growing(
    live: LiveRun,
    label: Label,
    *,
    blind: str | None = None,
    own: Request | None = None,
    shared: Request | None = None,
    begun: bool = False,
) -> Growing:
    """The panel of a run that may still be going on, in pieces; of one that has ended, in one.

    Args:
        blind: A letter that stands for the model, of which nothing is told.
        own: What this model was asked, where that is not what all were.
        shared: What all were asked.
        begun: Whether the prompt ended inside the thinking.
    """
    if live.run is not None:
        return Growing((run_panel(live.run, label, blind=blind, shared=shared),))
    waiting = "" if live.text else f'<span class="ghost">{esc(_waiting_words(live.kind))}</span>'
    caret = '<span class="caret" aria-hidden="true"></span>' if live.text else ""
    found = split(live.text, begun=begun)
    tokens = live.n_tokens if found.open and blind is None else None
    name = label.name if blind is None else blind
    around = frame(
        label,
        live.kind,
        _HOLE,
        thinking=_HOLE,
        answer=_HOLE,
        ghost=waiting + caret,
        raw=_HOLE,
        turns=part.turns(own, name, label.position, full=False),
        told=part.differing(own, shared),
        below=f'<div class="actions">{part.button(part.STOP, name, label.position)}</div>',
        blind=blind,
    )
    return Growing(
        tuple(around.split(_HOLE)),
        _live_state(live, blind is not None),
        thinking_html(found, tokens=tokens, growing=True),
        tuple(answer_blocks(found.answer, growing=True) if found.answer else ()),
        tuple(raw_blocks(live.text, growing=True)),
    )


_LIVE: dict[str, Translatable] = {
    "queued": msg("waiting for its turn"),
    "preparing": msg("preparing"),
    "loading": msg("loading into memory"),
    "prefill": msg("reading the prompt"),
    "token": msg("answering"),
}


def _live_state(live: LiveRun, hidden: bool = False) -> str:
    words = _LIVE.get(live.kind, live.kind)
    parts = [f"<strong>{esc(words)}</strong>"]
    if hidden:
        return parts[0]
    if live.kind in ("queued", "preparing", "loading") and live.message not in ("", words):
        parts.append(esc(live.message))
    if live.kind != "token" and live.progress is not None:
        parts.append(f"{live.progress * 100:.0f} %")
    if live.kind == "token":
        parts += [rate(live.rate), count(live.n_tokens, "token")]
    bar = "" if live.progress is None or live.kind == "token" else part.bar(live.progress)
    return " · ".join(parts) + bar


def _waiting_words(kind: str) -> Translatable:
    return {
        "queued": msg("Its turn comes after what runs now."),
        "prefill": msg("The first token is on its way."),
    }.get(kind, NOTHING)
