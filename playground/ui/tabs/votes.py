"""Blind votes on the page: the switch, the bar under the answers, and the ratings in Models.

``results.ratings`` reckons, ``html.votes`` draws; this file has the components and their events. What is hidden is
hidden by the service: what a blind comparison's events send has no name in it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from playground.errors import PlaygroundError, UsageError
from playground.messages import msg
from playground.records import Comparison
from playground.results.votes import By, Vote
from playground.ui.html import panel
from playground.ui.html import votes as view
from playground.ui.html.format import esc
from playground.ui.theme import html

if TYPE_CHECKING:
    from playground.service import Playground

KINDS = [(msg("By variant"), "variant"), (msg("By model"), "model")]
ALL_TAGS = ""

Owner = Callable[[gr.Request], str]
"""Who asks, as the service knows them."""


@dataclass(frozen=True)
class Voting:
    """The components in Compare.

    Attributes:
        switch: Whether the next run is blind.
        bar: The question, and after the vote what was voted; empty for a run that is not blind.
        cast: What ``scripts/votes.js`` writes a vote into.
    """

    switch: gr.Checkbox
    bar: gr.HTML
    cast: gr.Textbox


@dataclass(frozen=True)
class Table:
    """The components in Models."""

    by: gr.Radio
    tag: gr.Dropdown
    shown: gr.HTML
    files: gr.HTML


def build_switch() -> gr.Checkbox:
    """Draw the switch, above the answers."""
    return gr.Checkbox(False, label=msg("Vote blind"), elem_id="vote-blind", container=False, min_width=110)


def build_bar() -> tuple[gr.HTML, gr.Textbox]:
    """Draw the bar, below the answers, and where a vote is written."""
    return html("", elem_id="vote-bar"), gr.Textbox("", elem_id="vote-cast", elem_classes="unseen", show_label=False)


def build_table() -> Table:
    """Draw the ratings; filled when their tab is opened."""
    with gr.Row(elem_id="ratings-choice"):
        by = gr.Radio(KINDS, value="variant", label=msg("Ratings"), min_width=220)
        tag = gr.Dropdown(
            [(msg("every kind"), ALL_TAGS)],
            value=ALL_TAGS,
            label=msg("Kind of prompt"),
            elem_id="ratings-tag",
            min_width=180,
        )
    return Table(by, tag, html("", elem_id="ratings"), html("", elem_id="vote-files"))


def bar(playground: Playground, comparison: Comparison | None, owner: str, problem: str = "") -> str:
    """What stands below these answers: the question while they are blind, the vote once there is one, or nothing.

    Args:
        comparison: As the service gave it: with letters for names while it waits for its vote.
    """
    if comparison is None:
        return ""
    try:
        if playground.may_vote(comparison.id, owner):
            if playground.running(comparison.id):
                return view.waiting_html()
            return view.bar_html(comparison, playground.vote_tags(owner), problem)
        if playground.blind(comparison.id):
            return view.others_html()
        vote = playground.vote_on(comparison.id)
        if vote is None:
            return ""
        labels = panel.labels(playground, vote.variants)
        names = [f"{label.name} {label.tail}".strip() for label in labels]
        if not playground.voted(comparison.id, owner):
            return view.revealed_html(names)
        return view.voted_html(vote, names, playground.vote_tags(owner), problem)
    except PlaygroundError as error:
        return f'<p class="problem" data-say="alert">{esc(error.message)}</p>'


def cast_vote(playground: Playground, text: str, owner: str) -> Vote:
    """Cast what the browser wrote: ``{"on": ID, "vote": "0" … | "tie" | "bad" | "same", "tag": …, "note": …}``.

    Raises:
        UsageError: It is no vote.
        StorageError: It can't be kept.
    """
    try:
        sent = json.loads(text)
        comparison, choice = str(sent["on"]), str(sent["vote"])
        tag, note = str(sent.get("tag") or ""), str(sent.get("note") or "")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise UsageError(msg("What was sent is no vote"), msg("Load the page again.")) from None
    earlier = playground.vote_on(comparison)
    if choice == "same" and earlier:
        return playground.vote(comparison, owner, earlier.outcome, earlier.best, tag=tag, note=note)
    if choice in ("tie", "bad"):
        return playground.vote(comparison, owner, "tie" if choice == "tie" else "bad", tag=tag, note=note)
    if not (choice.isascii() and choice.isdigit() and len(choice) < 3):
        raise UsageError(msg("What was sent is no vote"), msg("Load the page again."))
    return playground.vote(comparison, owner, "best", int(choice), tag=tag, note=note)


def connect(
    playground: Playground,
    part: Voting,
    reveal: Callable[[Comparison, gr.Request], dict[Any, Any]],
    outputs: Sequence[Any],
    owner: Owner,
) -> None:
    """Say which event does what.

    Args:
        reveal: What changes on the page when the comparison is known, of ``outputs``: columns with names, timings …
        owner: Who asks.
    """

    def cast(text: str, request: gr.Request) -> dict[Any, Any]:
        on = ""
        try:
            vote = cast_vote(playground, text, owner(request))
            on = vote.comparison
            found = playground.comparison(on)
            changes = reveal(found, request) if found else {}
            return {**changes, part.bar: bar(playground, found, owner(request))}
        except PlaygroundError as error:
            try:
                on = str(json.loads(text)["on"])
                return {part.bar: bar(playground, playground.comparison(on), owner(request), error.message)}
            except (PlaygroundError, ValueError, TypeError, KeyError, RecursionError):
                return {part.bar: f'<p class="problem" data-say="alert">{esc(error.message)}</p>'}

    part.cast.change(
        cast,
        part.cast,
        [part.bar, *(each for each in outputs if each is not part.bar)],
        queue=False,
        show_progress="hidden",
        api_visibility="private",
        trigger_mode="once",
    )


def connect_table(playground: Playground, table: Table, tab: gr.Tab, owner: Owner) -> None:
    """Fill the ratings when ``tab`` is opened, and when something else is asked of them."""

    def show(by: Any, tag: Any, request: gr.Request) -> tuple[Any, ...]:
        return ratings(playground, by, tag, owner(request))

    gr.on(
        [tab.select, table.by.input, table.tag.input],
        show,
        [table.by, table.tag],
        [table.tag, table.shown, table.files],
        trigger_mode="always_last",
        preprocess=False,
        queue=False,
        show_progress="hidden",
        api_visibility="private",
    )


def ratings(playground: Playground, by: Any, tag: Any, owner: str) -> tuple[Any, str, str]:
    """The tags on offer, the table, and the files."""
    kind: By = "model" if by == "model" else "variant"
    try:
        tags = playground.vote_tags(owner)
        wanted = str(tag) if tag in tags else ALL_TAGS
        found = playground.ratings(owner, kind, wanted)
        votes = playground.votes(owner)
        table = view.ratings_html(found, _namer(playground, kind), sum(not vote.blind for vote in votes))
        files = view.downloads_html(playground.export_votes(owner, "csv"), playground.export_votes(owner, "jsonl"))
    except PlaygroundError as error:
        return gr.skip(), f'<p class="problem" data-say="alert">{esc(error.message)}</p>', ""
    known: dict[str, str] = dict(view.TAGS)
    choices = [(msg("every kind"), ALL_TAGS), *((known.get(each, each), each) for each in tags)]
    return gr.update(choices=choices, value=wanted, visible=bool(tags)), table, files if votes else ""


def _namer(playground: Playground, by: By) -> Callable[[str], str]:
    ids = set(playground.ids())

    def name(text: str) -> str:
        model, _, tail = text.partition("@") if by == "variant" else (text, "", "")
        known = playground.entry(model).spec.name if model in ids else model
        return f"{known} {tail}".strip()

    return name
