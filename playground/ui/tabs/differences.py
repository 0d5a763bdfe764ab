"""The Differences tab: what the answers on show differ in, by words, and which of them say the same; token by token
where two columns are variants of one model.

``html.differences`` draws; this file has the components, their events, and finds the answers of a comparison that is
stored or still goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from playground.errors import StorageError
from playground.messages import msg
from playground.ui.blocks import Blocks
from playground.ui.html import differences as view
from playground.ui.html.differences import name
from playground.ui.on_show import OnShow, on_show
from playground.ui.tabs import token_diff
from playground.ui.tabs.buttons import QUIET, problem_html
from playground.ui.tabs.token_diff import TokenDiff
from playground.ui.theme import html

if TYPE_CHECKING:
    from playground.service import Playground

ALL = "all"
VIEWS = [(msg("Side by side"), "side"), (msg("Inline"), "inline")]
NARROW_PX = 700
"""A page no wider shows both texts in one by itself; the style sheet has the same number."""
SET_VIEW = "view => { const at = document.getElementById('differences'); if (at && view) at.dataset.view = view; }"
FIRST_VIEW = f"() => window.innerWidth <= {NARROW_PX} ? 'inline' : 'side'"


@dataclass(frozen=True)
class Differences:
    """The components.

    Attributes:
        tab: What it stands in: when somebody looks at it, it is drawn again, as answers may have come meanwhile.
        choice: What is there only where there are two answers.
    """

    tab: gr.Tab
    choice: gr.Row
    reference: gr.Dropdown
    other: gr.Dropdown
    view: gr.Radio
    shown: gr.HTML
    tokens: TokenDiff

    @property
    def outputs(self) -> list[Any]:
        """What ``filled`` changes."""
        return [self.choice, self.reference, self.other, self.shown, *self.tokens.outputs]


def build(playground: Playground, tab: gr.Tab) -> Differences:
    """Draw what is in ``tab``."""
    most = playground.settings.limits.max_models
    # Every column there can be: gradio checks a choice against the list that the page was built with.
    columns = [(str(place + 1), str(place)) for place in range(most)]
    with gr.Column(elem_id="differences"):
        with gr.Row(visible=False, equal_height=True) as choice:
            reference = gr.Dropdown(
                columns, value="0", label=msg("First"), elem_id="diff-reference", min_width=220, filterable=False
            )
            other = gr.Dropdown(
                [(msg("All others"), ALL), *columns],
                value=ALL,
                label=msg("Second"),
                elem_id="diff-other",
                min_width=220,
                filterable=False,
            )
            shape = gr.Radio(VIEWS, value="side", label=msg("View"), elem_id="diff-view", min_width=220)
        shown = html(view.empty_html, elem_id="differences-shown")
        tokens = token_diff.build(most)
    return Differences(tab, choice, reference, other, shape, shown, tokens)


def connect(
    playground: Playground, tab: Differences, opened: Any, refresh: Sequence[Callable[..., Any]], demo: Blocks
) -> None:
    """Say which event does what.

    Args:
        opened: The component that holds the id of the comparison on show; empty where there is none, or where it may
            not be told whose answers these are.
        refresh: Events after which other answers are on show.
    """

    def fill(id: Any, reference: Any, other: Any, pair: Any) -> dict[Any, Any]:
        return filled(playground, tab, id, (reference, other, pair))

    def draw(id: Any, reference: Any, other: Any) -> str:
        return drawn(on_show(playground, id), reference, other)

    at_once = {**QUIET, "queue": False}
    asked = [opened, tab.reference, tab.other]
    gr.on(
        [*refresh, tab.tab.select], fill, [*asked, tab.tokens.pair], tab.outputs, trigger_mode="always_last", **at_once
    )
    gr.on([tab.reference.input, tab.other.input], draw, asked, tab.shown, trigger_mode="always_last", **at_once)
    tab.view.change(None, tab.view, None, js=SET_VIEW, api_visibility="private")
    demo.load(None, None, tab.view, js=FIRST_VIEW, api_visibility="private")
    token_diff.connect(playground, tab.tokens, opened, lambda id: on_show(playground, id), demo)


def filled(playground: Playground, tab: Differences, id: Any, chosen: tuple[Any, Any, Any]) -> dict[Any, Any]:
    """The tab for that comparison; what was chosen stays chosen where it still can be."""
    try:
        there = on_show(playground, id)
    except StorageError as error:
        return {tab.choice: gr.update(visible=False), tab.shown: problem_html(error.message)}
    answers = there.answers if there else ()
    columns = [(name(answer.label), str(answer.label.position)) for answer in answers]
    values = [value for _, value in columns]
    first = chosen[0] if chosen[0] in values else next(iter(values), None)
    second = chosen[1] if chosen[1] in (ALL, *values) and chosen[1] != first else ALL
    enough = len(answers) > 1
    return {
        tab.choice: gr.update(visible=enough),
        tab.reference: gr.update(choices=columns, value=first) if enough else gr.skip(),
        tab.other: gr.update(choices=[(msg("All others"), ALL), *columns], value=second) if enough else gr.skip(),
        tab.shown: drawn(there, first, second),
        **token_diff.offered_for(playground, tab.tokens, there.labels if there else (), chosen[2]),
    }


def drawn(there: OnShow | None, reference: Any, other: Any) -> str:
    """The differences of the chosen columns; of one and itself those of one and all."""
    if there is None or len(there.answers) < 2:
        return view.empty_html()
    places = {str(answer.label.position): place for place, answer in enumerate(there.answers)}
    first = places.get(str(reference), 0)
    second = places.get(str(other))
    return view.differences_html(there.answers, there.prompt, first, None if second == first else second)
