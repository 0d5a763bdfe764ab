"""The Model cards tab: facts of the chosen models side by side, and each served model's card to read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from playground.catalog.cards import card_markdown
from playground.messages import msg
from playground.records import Variant
from playground.ui.html import panel, tables
from playground.ui.html.format import esc
from playground.ui.i18n import say
from playground.ui.theme import html

if TYPE_CHECKING:
    from playground.catalog.entries import CatalogEntry
    from playground.service import Playground

NO_MODEL, ADVICE = msg("No model chosen"), msg("Choose models above to compare their cards.")


@dataclass(frozen=True)
class Cards:
    facts: gr.HTML
    rest: dict[str, gr.Accordion]
    """By model id."""


def build(playground: Playground, entries: tuple[CatalogEntry, ...], chosen: tuple[Variant, ...]) -> Cards:
    """Draw the tab."""
    facts = html(lambda: facts_html(playground, chosen), elem_id="cards")
    rest = {}
    ids = {variant.model for variant in chosen}
    for entry in entries:
        with gr.Accordion(
            msg("The rest of the card: {model}", model=entry.spec.name),
            open=False,
            visible=entry.spec.id in ids,
            elem_classes="rest",
        ) as rest[entry.spec.id]:
            gr.Markdown(card_markdown(entry, say))
    return Cards(facts, rest)


def facts_html(playground: Playground, chosen: tuple[Variant, ...]) -> str:
    """The comparison for these variants; what was measured is each variant's own."""
    if not chosen:
        return f'<div class="empty"><h3>{esc(NO_MODEL)}</h3><p>{esc(ADVICE)}</p></div>'
    return tables.cards_html([playground.facts(variant) for variant in chosen], panel.labels(playground, chosen))


def chosen_changed(playground: Playground, cards: Cards, chosen: tuple[Variant, ...]) -> dict[Any, Any]:
    """What the tab shows for another choice of models."""
    ids = {variant.model for variant in chosen}
    updates: dict[Any, Any] = {accordion: gr.update(visible=model in ids) for model, accordion in cards.rest.items()}
    return {cards.facts: facts_html(playground, chosen), **updates}
