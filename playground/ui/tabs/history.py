"""The History tab: a visitor's comparisons, which the app keeps, to find, name, open and delete.

The list is the service's, so two tabs of a browser see the same one and lose nothing. scripts/history.js writes what
was pressed into a box out of sight; it comes from a browser and is not believed: what is not this visitor's stays as it
is.
Opening is reading: who knows an id may.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from playground.config.settings import Limits
from playground.errors import PlaygroundError, UsageError
from playground.messages import msg
from playground.ui import jobs
from playground.ui.html import history as view
from playground.ui.html import panel
from playground.ui.tabs import timings
from playground.ui.theme import html
from playground.ui.visitors import visitor

if TYPE_CHECKING:
    from collections.abc import Callable

    from playground.service import Playground

MAX_ENTRIES = 50
STORAGE_KEY = "open-model-playground-history"
SECRET = "ids only"
"""What a browser keeps is a list of ids, no secret; a fixed key lets it outlive a restart of the app."""
PAGE = 30
MOST_PAGES = 40
MAX_CHARS = 2_000
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}

Changes = dict[Any, Any]


@dataclass(frozen=True)
class History:
    """The components.

    Attributes:
        ids: What browsers kept before the app kept the list; read once, to claim it.
        action: Out of sight: what was pressed, as JSON.
        open: Out of sight: the id of the entry that is open.
        pages: Out of sight: how many pages of the list are shown.
        shown: What is open.
    """

    ids: gr.BrowserState
    search: gr.Textbox
    model: gr.Dropdown
    favourites: gr.Checkbox
    entries: gr.HTML
    shown: gr.HTML
    action: gr.Textbox
    open: gr.Textbox
    pages: gr.Textbox

    @property
    def filters(self) -> list[Any]:
        """What the list is drawn from."""
        return [self.search, self.model, self.favourites, self.pages, self.open]


def remembered() -> gr.BrowserState:
    """What a browser kept. To be made outside the tab: a tab's parts come to life when it is first opened."""
    return gr.BrowserState([], storage_key=STORAGE_KEY, secret=SECRET)


def build(
    ids: gr.BrowserState, between: Callable[[], Any] | None = None, *, longest: int = Limits.max_search_chars
) -> History:
    """Draw the tab.

    Args:
        between: Draws what stands above what is open (Replay).
        longest: Characters of what is searched for.
    """
    action, opened, pages = _unseen("history-action"), _unseen("history-id"), _unseen("history-pages")
    with gr.Row(elem_id="history-view"):
        with gr.Column(elem_id="history-side"):
            search = gr.Textbox(
                "",
                label=msg("Search"),
                placeholder=msg("Words of a prompt, an answer or a title"),
                elem_id="history-search",
                max_lines=1,
                max_length=longest,
            )
            with gr.Row(elem_id="history-filters"):
                model = gr.Dropdown([(msg("Every model"), "")], value="", label=msg("Model"), elem_id="history-model")
                stars = gr.Checkbox(False, label=msg("Favourites only"), elem_id="history-favourites")
            entries = html("", elem_id="history-list")
        with gr.Column(elem_id="history-main"):
            if between:
                between()
            shown = html("", elem_id="history-opened")
    return History(ids, search, model, stars, entries, shown, action, opened, pages)


def connect(playground: Playground, part: History, demo: gr.Blocks, again: Any = ()) -> None:
    """Say which event does what.

    Args:
        again: Events after which the list is read again: the tab comes to the front, a comparison has ended.
    """
    raw = {**QUIET, "preprocess": False}
    listed = [part.entries, part.model]

    def refresh(request: gr.Request, *values: Any) -> list[Any]:
        return [drawn(playground, visitor(request), values), _models(playground, visitor(request), values[1])]

    def claim(request: gr.Request, ids: Any, *values: Any) -> list[Any]:
        try:
            playground.claim(known_ids(ids), visitor(request))
        except PlaygroundError as error:
            return [view.gone_html(error.message), gr.skip()]
        return refresh(request, *values)

    def narrowed(request: gr.Request, *values: Any) -> list[Any]:
        return [drawn(playground, visitor(request), (*values[:3], "1", values[4])), "1"]

    def pressed(request: gr.Request, action: Any, *values: Any) -> Changes:
        return act(playground, part, visitor(request), action, values)

    demo.load(claim, [part.ids, *part.filters], listed, **raw)
    if again:
        gr.on(list(again), refresh, part.filters, listed, trigger_mode="always_last", **raw)
    # Not ``input``, which a box of gradio's tells of keys alone: not of what is pasted, deleted or set by a script.
    gr.on(
        [part.search.change, part.model.input, part.favourites.input],
        narrowed,
        part.filters,
        [part.entries, part.pages],
        trigger_mode="always_last",
        **raw,
    )
    part.action.change(
        pressed,
        [part.action, *part.filters],
        [part.entries, part.shown, part.open, part.pages],
        **raw,
    )


def act(playground: Playground, part: History, owner: str, action: Any, values: tuple[Any, ...]) -> Changes:
    """Do what was pressed in the tab; ``values`` are those of ``History.filters``."""
    what, id, text = _read(action)
    *filters, pages, opened = values
    try:
        if what == "star":
            entry = playground.history_entry(id)
            playground.set_favourite(id, owner, not (entry and entry.favourite))
        elif what == "save-title":
            playground.rename(id, owner, text)
        elif what == "delete":
            playground.delete(id, owner)
            opened = "" if id == opened else opened
        elif what == "more":
            pages = str(min(_number(pages) + 1, MOST_PAGES))
        elif what == "close":
            opened = ""
        elif what == "open":
            opened = id
        else:
            raise UsageError(msg("The page asks for something that there is not"), msg("Reload it."))
    except PlaygroundError as error:
        return {part.shown: view.gone_html(error.message)}
    shows = what != "more" and (what in ("open", "close", "delete") or opened == id)
    return {
        part.entries: drawn(playground, owner, (*filters, pages, opened)),
        part.shown: opened_html(playground, owner, opened) if shows else gr.skip(),
        part.open: opened,
        part.pages: pages,
    }


def drawn(playground: Playground, owner: str, values: Any) -> str:
    """The list, for the values of ``History.filters``."""
    search, model, favourites, pages, opened = values
    search, model = _text(search), _text(model)
    most = PAGE * _number(pages)
    try:
        found = playground.history(owner, search=search, model=model, favourites=favourites is True, limit=most + 1)
    except PlaygroundError as error:
        return view.gone_html(error.message)
    filtered = bool(search.strip() or model or favourites is True)
    part = view.Part(found[:most], len(found) > most, filtered, playground.settings.strangers)
    return view.list_html(playground, part, _text(opened))


def opened_html(playground: Playground, owner: str, id: str) -> str:
    """A stored comparison, answers and figures; nothing for no id, and a reason where there is none."""
    if not id:
        return ""
    try:
        entry, comparison = playground.history_entry(id), playground.comparison(id)
        if entry is None or comparison is None:
            raise jobs.unknown()
        labels = panel.labels(playground, [run.variant for run in comparison.runs])
        figures = ""
        if comparison.runs and not entry.running:
            figures = timings.figures(comparison, labels, playground.tiers, "history")
        return view.opened_html(playground, entry, comparison, figures, yours=playground.owns(id, owner))
    except PlaygroundError as error:
        return view.gone_html(error.message)


def known_ids(kept: Any) -> list[str]:
    """The ids in what the browser sent, which anyone may have edited."""
    return [item for item in kept if isinstance(item, str)][:MAX_ENTRIES] if isinstance(kept, list) else []


def _models(playground: Playground, owner: str, chosen: Any) -> Any:
    """The models that the list can be narrowed to."""
    try:
        names = list(dict.fromkeys(each.model for each in playground.history_models(owner)))
    except PlaygroundError:
        return gr.skip()
    known = set(playground.ids())
    named = [(playground.entry(name).spec.name if name in known else name, name) for name in names]
    return gr.update(choices=[(msg("Every model"), ""), *named], value=chosen if chosen in names else "")


def _read(action: Any) -> tuple[str, str, str]:
    """What was pressed, the id and the text that were sent with it; all empty where it is nothing of ours."""
    try:
        sent = json.loads(action) if isinstance(action, str) and len(action) <= MAX_CHARS else None
    except (ValueError, RecursionError):
        sent = None
    given = sent if isinstance(sent, dict) else {}
    return _text(given.get("do")), _text(given.get("id")), _text(given.get("text"))


def _text(value: Any) -> str:
    """A text without halves of characters, which JSON can say and what is sent to a page can't."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def _number(pages: Any) -> int:
    text = _text(pages)
    return min(max(int(text), 1), MOST_PAGES) if text.isdecimal() and len(text) < 4 else 1


def _unseen(name: str) -> gr.Textbox:
    return gr.Textbox("", elem_id=name, elem_classes="unseen", container=False, show_label=False)
