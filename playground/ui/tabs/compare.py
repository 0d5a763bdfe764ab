"""The Compare tab: the form above, the answers and what is to be said of them below, in tabs of their own.

It has the components; ``ui/running`` fills them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import gradio as gr

from playground.messages import msg
from playground.ui.html import panel
from playground.ui.tabs import (
    cards,
    differences,
    form,
    outputs,
    own,
    reply,
    suggestions,
    timings,
    votes,
    what_they_read,
)
from playground.ui.tabs.cards import Cards
from playground.ui.tabs.differences import Differences
from playground.ui.tabs.form import Form
from playground.ui.tabs.own import Own
from playground.ui.tabs.reply import Reply
from playground.ui.tabs.suggestions import Suggested
from playground.ui.tabs.votes import Voting
from playground.ui.tabs.what_they_read import WhatTheyRead
from playground.ui.theme import html

if TYPE_CHECKING:
    from playground.service import Playground


@dataclass(frozen=True)
class Compare:
    """The components.

    Attributes:
        asked: What the answers below are to.
        files: The comparison's address, and its files.
    """

    form: Form
    asked: gr.HTML
    files: gr.HTML
    panels: tuple[gr.HTML, ...]
    timings: gr.HTML
    cards: Cards
    differences: Differences
    read: WhatTheyRead
    voting: Voting
    own: Own
    reply: Reply
    suggested: Suggested


def build(playground: Playground) -> Compare:
    """Draw the tab."""
    most = playground.settings.limits.max_models
    made = form.build(playground)
    labels = panel.labels(playground, made.first)
    with gr.Tabs(elem_id="views", overflow_behavior="wrap"):
        with gr.Tab(msg("Outputs"), id="outputs"):
            with gr.Row(elem_id="above"):
                asked = html("", elem_id="asked")
                files = html("", elem_id="files")
                blind = votes.build_switch()
            alone = own.build(playground)
            panels = outputs.build(labels, most)
            bar, cast = votes.build_bar()
            replies = reply.build()
            better = suggestions.build(playground)
        with gr.Tab(msg("Timings"), id="timings"):
            figures = timings.build()
        with gr.Tab(msg("Model cards"), id="cards"):
            facts = cards.build(playground, playground.served(), made.first)
        with gr.Tab(msg("Differences"), id="differences") as tab:
            apart = differences.build(playground, tab)
        with gr.Tab(msg("What they read"), id="read"):
            read = what_they_read.build(playground)
    voting = Voting(blind, bar, cast)
    return Compare(made, asked, files, panels, figures, facts, apart, read, voting, alone, replies, better)
