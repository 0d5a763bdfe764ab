"""The box below the answers: reply to all models, or to one; or ask an earlier turn anew in other words.

It has the components and reads what they send; ``ui/running`` runs it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import gradio as gr

from playground.messages import msg
from playground.ui.html.format import esc
from playground.ui.i18n import say
from playground.ui.theme import html


@dataclass(frozen=True)
class Reply:
    """The components.

    Attributes:
        to: Out of sight: a ``Target`` as JSON, empty for a reply to all.
        told: Whom it goes to, and the button that takes this back.
    """

    row: gr.Column
    text: gr.Textbox
    send: gr.Button
    to: gr.Textbox
    told: gr.HTML


@dataclass(frozen=True)
class Target:
    """Whom a reply goes to, and in the place of which turn.

    Attributes:
        columns: None for all.
        turn: An earlier turn that is asked anew; None for a new one.
    """

    columns: tuple[int, ...] | None = None
    turn: int | None = None


TO_ALL = msg("Reply to all; each model keeps its own conversation")


def build() -> Reply:
    """Draw it; out of sight until there is something to reply to."""
    with gr.Column(elem_id="reply", visible=False) as row:
        told = html("", elem_id="reply-told")
        with gr.Row(elem_id="reply-row", equal_height=True):
            text = gr.Textbox(
                "",
                label=msg("Reply"),
                show_label=False,
                container=False,
                lines=1,
                max_lines=8,
                placeholder=TO_ALL,
                elem_id="reply-text",
                scale=8,
                min_width=160,
            )
            send = gr.Button(msg("Send"), elem_id="send", min_width=84, scale=0)
        to = gr.Textbox("", elem_id="reply-to", elem_classes="unseen", container=False, show_label=False)
    return Reply(row, text, send, to, told)


def target(text: Any) -> Target:
    """What the hidden box says; all where it says nothing that can be read."""
    try:
        read = json.loads(text) if isinstance(text, str) and text else {}
        columns, turn = read.get("columns"), read.get("turn")
    except (ValueError, AttributeError, RecursionError):
        return Target()
    places = tuple(place for place in columns if type(place) is int) if isinstance(columns, list) else None
    return Target(places, turn if type(turn) is int and turn >= 0 else None)


def aimed(part: Reply, to: Target, names: str, text: str | None = None) -> dict[Any, Any]:
    """The box for this target.

    Args:
        names: Of the models it goes to; empty for all.
        text: What is put into the box; None to leave what stands there.
    """
    word = ""
    if to.turn is not None:
        word = say(msg("Ask this turn again, in other words:"))
    elif names:
        word = say(msg("To {names} only", names=names))
    back = f'<button type="button" data-do="reply-all" aria-label="{esc(msg("Reply to all instead"))}">×</button>'
    columns = None if to.columns is None else list(to.columns)
    changes: dict[Any, Any] = {
        part.to: json.dumps({"columns": columns, "turn": to.turn}) if word else "",
        part.told: f'<p class="reply-told">{esc(word)} {back}</p>' if word else "",
    }
    box: dict[str, Any] = {"placeholder": TO_ALL if to.columns is None else msg("Reply to {names}", names=names)}
    return {**changes, part.text: gr.update(**box) if text is None else gr.update(value=text, **box)}
