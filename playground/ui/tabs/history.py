"""The History tab: comparisons made in this browser, to open again.

The database holds every visitor's comparisons; a browser remembers the ids of its own and sees no others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from playground.errors import PlaygroundError
from playground.records import Comparison
from playground.ui.html import panel, tables
from playground.ui.tabs import timings
from playground.ui.theme import html

if TYPE_CHECKING:
    from playground.service import Playground

MAX_ENTRIES = 50
STORAGE_KEY = "open-model-playground-history"
SECRET = "ids only"
"""What the browser keeps is a list of ids, no secret; a fixed key lets it outlive a restart of the app."""

EMPTY = '<div class="empty"><h3>Nothing yet</h3><p>Comparisons you run in this browser are listed here.</p></div>'
HEAD = '<p class="note">Comparisons of this browser, newest first. They are stored where the app runs.</p>'


@dataclass(frozen=True)
class History:
    ids: gr.BrowserState
    head: gr.HTML
    entries: gr.Radio
    shown: gr.HTML


def remembered() -> gr.BrowserState:
    """What the browser keeps. To be made outside the tab: a tab's parts come to life when it is first opened."""
    return gr.BrowserState([], storage_key=STORAGE_KEY, secret=SECRET)


def build(ids: gr.BrowserState) -> History:
    """Draw the tab but for ``shown``, which its caller renders below; ``listed`` fills it when the page has loaded."""
    head = html(EMPTY)
    entries = gr.Radio([], label="Stored comparisons", visible=False, elem_id="history")
    return History(ids, head, entries, html("", elem_id="reopened", render=False))


def known_ids(kept: Any) -> list[str]:
    """The ids in what the browser sent, which anyone may have edited."""
    return [item for item in kept if isinstance(item, str)][:MAX_ENTRIES] if isinstance(kept, list) else []


def added(kept: Any, comparison: Comparison) -> list[str]:
    """The browser's list with ``comparison`` in front."""
    return [comparison.id, *(item for item in known_ids(kept) if item != comparison.id)][:MAX_ENTRIES]


def listed(playground: Playground, history: History, kept: Any) -> dict[Any, Any]:
    """The list for what this browser remembers; ids the database no longer has are passed over."""
    choices = [(_line(playground, found), found.id) for found in _found(playground, known_ids(kept))]
    return {
        history.head: HEAD if choices else EMPTY,
        history.entries: gr.update(choices=choices, value=None, visible=bool(choices)),
        history.shown: "",
    }


def opened(playground: Playground, chosen: Any, kept: Any) -> str:
    """A stored comparison, answers and figures, if it is one of this browser's."""
    found = _found(playground, [chosen]) if chosen in known_ids(kept) else []
    if not found:
        return ""
    comparison = found[0]
    labels = panel.labels(playground, [run.variant for run in comparison.runs])
    return (
        tables.request_html(comparison.request)
        + panel.comparison_panels(comparison, labels)
        + timings.figures(comparison, labels, playground.tiers, "history")
    )


def _found(playground: Playground, ids: list[str]) -> list[Comparison]:
    found = []
    for comparison_id in ids:
        try:
            comparison = playground.comparison(comparison_id)
        except PlaygroundError:
            continue
        if comparison is not None:
            found.append(comparison)
    return found


def _line(playground: Playground, comparison: Comparison) -> str:
    labels = panel.labels(playground, [run.variant for run in comparison.runs])
    prompt = " ".join(comparison.request.prompt.split())
    short = prompt if len(prompt) <= 70 else f"{prompt[:69]}…"
    when = comparison.created_at[:16].replace("T", " ")
    return f"{when} · {short} · {', '.join(f'{label.name} {label.tail}' for label in labels)}"
