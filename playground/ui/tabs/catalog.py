"""The Catalogue tab: find a model by what it is for, see what it needs, take it into the comparison.

A visitor of a Space chooses among the catalogue's models; where the app runs for oneself, any repository of the Hub can
be looked up and compared. ``html.catalog`` draws; this file has the components and their events.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import gradio as gr

from playground.catalog.search import Filters, Listed, Sort
from playground.errors import PlaygroundError
from playground.messages import NOTHING, Translatable, msg
from playground.system.memory import limit_mb
from playground.ui.failures import line_of
from playground.ui.html import catalog
from playground.ui.html.format import card_word, esc
from playground.ui.tabs.form import with_models
from playground.ui.theme import html

if TYPE_CHECKING:
    from playground.service import Playground

ANY = ""
SIZES = [
    (msg("any size"), 0),
    (msg("to 200 M"), 200_000_000),
    (msg("to 500 M"), 500_000_000),
    (msg("to 1 B"), 10**9),
    (msg("to 3 B"), 3 * 10**9),
]
SIZES += [(msg("to 10 B"), 10**10)]
OPEN_ITEMS = [(msg("any"), 0), *((msg("{n} of 5 or more", n=least), least) for least in range(1, 5)), (msg("all 5"), 5)]
COMMERCIAL = [(msg("any"), ""), (msg("allowed"), "yes"), (msg("allowed, with conditions too"), "conditional")]
NOTHING_CHOSEN = msg("Choose a model above to see its facts and whether it runs here.")
COMPARE = msg("Compare this")
REFUSED, TOO_LARGE = msg("Refused here"), msg("Too large here")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Catalogue:
    """The components; ``filters`` in the order of ``_filters``. ``pick`` is out of sight: scripts/page.js writes the id
    of a row that was clicked into it.
    """

    filters: tuple[Any, ...]
    found: gr.HTML
    model: gr.Dropdown
    pick: gr.Textbox
    detail: gr.HTML
    more: gr.Accordion
    rest: gr.Markdown
    compare: gr.Button
    shown: gr.State
    hub: gr.Textbox | None
    look: gr.Button | None


def build(playground: Playground) -> Catalogue:
    """Draw the tab with the whole catalogue."""
    offered = playground.filter_choices()
    found = playground.search(Filters())
    with gr.Row():
        search = gr.Textbox(
            "",
            label=msg("Search"),
            placeholder=msg("name, family, data set, language …"),
            scale=2,
            elem_id="catalogue-search",
            max_length=playground.settings.limits.max_search_chars,
        )
        made_for = gr.Dropdown(_any(offered["specialisation"]), value=ANY, label=msg("Made for"), min_width=120)
        family = gr.Dropdown(_any(offered["family"]), value=ANY, label=msg("Family"), min_width=120)
        task = gr.Dropdown(_any(offered["task"]), value=ANY, label=msg("Task"), min_width=120)
    with gr.Row():
        licence = gr.Dropdown(_any(offered["license"]), value=ANY, label=msg("Licence"), min_width=120)
        commercial = gr.Dropdown(COMMERCIAL, value="", label=msg("Commercial use"), min_width=120)
        size = gr.Dropdown(SIZES, value=0, label=msg("Parameters"), min_width=120)
        openness = gr.Dropdown(OPEN_ITEMS, value=0, label=msg("Open items"), min_width=120)
        sort = gr.Dropdown(list(get_args(Sort)), value="catalogue", label=msg("Order"), min_width=120)
        here = gr.Checkbox(False, label=msg("Runs here"), min_width=100)
    with gr.Row(equal_height=True):
        model = gr.Dropdown(_names(found), value=None, label=msg("Show a model"), elem_id="show-model", scale=3)
        compare = gr.Button(COMPARE, interactive=False, elem_id="compare-this", min_width=120)
    pick = gr.Textbox("", elem_id="pick-model", elem_classes="unseen", container=False, show_label=False)
    shown_list = html(lambda: catalog.list_html(found, len(found)), elem_id="listing")
    hub, look = (None, None) if playground.settings.strangers else _hub_box()
    detail = html(_nothing_html, elem_id="model-detail")
    with gr.Accordion(msg("The rest of the card"), open=False, elem_classes="rest", visible=False) as more:
        rest = gr.Markdown("")
    filters = (search, made_for, family, task, licence, commercial, size, openness, here, sort)
    return Catalogue(filters, shown_list, model, pick, detail, more, rest, compare, gr.State(""), hub, look)


def connect(playground: Playground, tab: Catalogue, added: gr.Dropdown) -> None:
    """Say which event does what.

    Args:
        added: The form's picker of further models, which "Compare this" fills.
    """
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    shown = [tab.detail, tab.more, tab.rest, tab.compare, tab.shown]

    def narrow(*values: Any) -> tuple[Any, ...]:
        try:
            found = playground.search(_filters(values), _order(values))
        except PlaygroundError as error:  # a program may send more than the box takes
            return catalog.problem_html(error.message), gr.update(choices=[], value=None), *_nothing()
        total = len(playground.ids())
        return catalog.list_html(found, total), gr.update(choices=_names(found), value=None), *_nothing()

    def show(model: str | None) -> tuple[Any, ...]:
        return _show(playground, model) if model else _nothing()

    def pick(model: str) -> tuple[Any, ...]:
        if not model:  # this function's own "", which lets the same row be clicked again
            return tuple(gr.skip() for _ in range(2 + len(shown)))
        return "", gr.update(value=model), *show(model)

    async def look_up(text: str) -> tuple[Any, ...]:
        return gr.update(value=None), *await asyncio.to_thread(_look_up, playground, text or "")

    def take(model: str, chosen: list[str] | None) -> Any:
        names = [*(chosen or []), *([model] if model else [])]
        return with_models(playground, names, playground.settings.limits.max_models)

    changes = [part.change for part in tab.filters]
    narrowed = [tab.found, tab.model, *shown]
    gr.on(changes, narrow, list(tab.filters), narrowed, trigger_mode="always_last", queue=False, **quiet)
    # Not preprocessed: gradio would check the choice against the list the page was built with.
    tab.model.input(show, tab.model, shown, preprocess=False, queue=False, **quiet)
    tab.pick.change(pick, tab.pick, [tab.pick, tab.model, *shown], queue=False, **quiet)
    tab.compare.click(take, [tab.shown, added], added, queue=False, **quiet)
    if tab.hub is not None and tab.look is not None:
        busy = {**quiet, "show_progress": "minimal"}
        gr.on([tab.hub.submit, tab.look.click], look_up, tab.hub, [tab.model, *shown], concurrency_limit=2, **busy)


def _hub_box() -> tuple[gr.Textbox, gr.Button]:
    with gr.Row(equal_height=True):
        hub = gr.Textbox(
            "",
            label=msg("Any other model of the Hub"),
            placeholder=msg("OWNER/NAME, OWNER/NAME:Q4_K_M, or the address of its page"),
            scale=3,
        )
        return hub, gr.Button(msg("Look it up"), min_width=120, elem_id="look-up")


def _filters(values: tuple[Any, ...]) -> Filters:
    search, made_for, family, task, licence, commercial, size, openness, here, _ = values
    return Filters(
        task=task or "",
        license=licence or "",
        commercial=commercial or "",
        family=family or "",
        specialisation=made_for or "",
        max_parameters=size or None,
        min_openness=int(openness or 0),
        runs_here=bool(here),
        search=search or "",
    )


def _order(values: tuple[Any, ...]) -> Sort:
    order: Sort = values[-1] or "catalogue"
    return order


def _any(values: list[str]) -> list[tuple[str, str]]:
    return [(msg("any"), ANY), *((card_word(value), value) for value in values)]


def _names(found: list[Listed]) -> list[tuple[str, str]]:
    return [(item.entry.spec.name, item.entry.spec.id) for item in found]


def _show(playground: Playground, model: str) -> tuple[Any, ...]:
    try:
        if model not in playground.ids():
            raise PlaygroundError(msg("That model is not in the catalogue"), msg("Choose one of the list."))
        entry = playground.entry(model)
    except PlaygroundError as error:
        return _refused(error)
    item = playground.listed(entry)
    detail = catalog.detail_html(item, playground.facts(entry.variants[0]), playground.smaller(item), limit_mb())
    why_not = REFUSED if item.refused else TOO_LARGE if item.fits is False else NOTHING
    return detail, gr.update(visible=True), catalog.rest(item), _button(why_not), "" if why_not else model


def _look_up(playground: Playground, text: str) -> tuple[Any, ...]:
    """Ask the Hub about a repository. It can be compared where it runs and fits."""
    try:
        card = playground.hub_card(text)
    except PlaygroundError as error:
        return _refused(error)
    except Exception as error:
        log.error("A repository could not be looked up: %s", line_of(error))
        return _refused(PlaygroundError(msg("Something broke while the Hub was asked; the log says what")))
    info = card.hub
    assert info is not None
    limit, expected = limit_mb(), info.footprint()
    fits = not info.refusal and (expected is None or expected.fits(limit))
    why_not = NOTHING if fits else REFUSED if info.refusal else TOO_LARGE
    button = _button(why_not)
    source = str(info.name)
    return catalog.hub_html(info, card.facts, limit), gr.update(visible=False), "", button, source if fits else ""


def _refused(error: PlaygroundError) -> tuple[Any, ...]:
    return catalog.problem_html(error.message), *_nothing()[1:]


def _button(why_not: Translatable) -> Any:
    """The button that takes the model, or says why it can't."""
    return gr.update(value=why_not or COMPARE, interactive=not why_not)


def _nothing_html() -> str:
    return f'<p class="note">{esc(NOTHING_CHOSEN)}</p>'


def _nothing() -> tuple[Any, ...]:
    """What the tab shows while no model is chosen. Made anew each time: gradio takes updates apart."""
    return _nothing_html(), gr.update(visible=False), "", gr.update(value=COMPARE, interactive=False), ""
