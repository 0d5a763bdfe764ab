"""Everything known of a model in one place: catalogue, card on the Hub, export at hand, lineage, licence cautions.

Front ends ask here. Where catalogue and card disagree, the card at its exact revision is the value and the note says
what the catalogue has.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from playground.catalog.cards import license_id, model_facts
from playground.catalog.entries import Catalog, CatalogEntry
from playground.catalog.licenses import cautions
from playground.catalog.lineage import ReadHub, lineage_fact, trace
from playground.messages import msg, sentences
from playground.records import UNKNOWN, Artifact, Fact, ModelFacts


def full_facts(
    catalog: Catalog,
    entry: CatalogEntry,
    artifact: Artifact | None = None,
    hub: ModelFacts | None = None,
    read_hub: ReadHub | None = None,
) -> ModelFacts:
    """The facts of one model.

    Args:
        artifact: The export at hand, whose measured facts are added.
        hub: What its card on the Hub says, where that was read (``hub_cards.py``).
        read_hub: Facts of the cards of its base models, where they are at hand.
    """
    facts = model_facts(entry, artifact)
    if hub is not None:
        facts = merged(facts, hub)
    lineage = trace(catalog, entry, facts, read_hub)
    licence = str(hub.license.value) if hub and hub.license.value else license_id(entry, facts)
    found = cautions(licence, [(step.repo, step.license_id) for step in lineage.steps[1:]], facts.datasets.value or ())
    extra = dict(facts.extra)
    if (drawn := lineage_fact(lineage)) != UNKNOWN:
        extra["lineage"] = drawn
    for place, caution in enumerate(found, start=1):
        extra["licence_caution" if place == 1 else f"licence_caution_{place}"] = caution
    return replace(facts, extra=extra)


def merged(catalogue: ModelFacts, card: ModelFacts) -> ModelFacts:
    """Both sources as one; the openness items are the catalogue's, because a card does not answer them."""
    values: dict[str, Any] = {
        field.name: _one(getattr(catalogue, field.name), getattr(card, field.name))
        for field in fields(ModelFacts)
        if field.name not in ("model", "openness", "quality", "extra")
    }
    extra = {
        key: _one(catalogue.extra.get(key, UNKNOWN), card.extra.get(key, UNKNOWN))
        for key in dict.fromkeys([*catalogue.extra, *card.extra])
    }
    quality = {**card.quality, **catalogue.quality}
    return replace(catalogue, **values, quality=quality, extra=extra)


def _one(catalogue: Fact, card: Fact) -> Fact:
    if card.value is None:
        return catalogue
    if catalogue.value is None or catalogue.status == "measured":
        return card if catalogue.value is None else catalogue
    if _same(catalogue.value, card.value):
        return replace(card, value=catalogue.value, note=catalogue.note or card.note)
    if catalogue.url:
        said = msg("The catalogue has: {value} ({page}).", value=catalogue.value, page=catalogue.url)
    else:
        said = msg("The catalogue has: {value}.", value=catalogue.value)
    return replace(card, note=sentences(said, card.note))


def _same(one: Any, other: Any) -> bool:
    """Whether two values say the same: the order of a list and the case of a name are no contradiction."""

    def plain(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return sorted(str(item).casefold() for item in value)
        return [str(value).casefold()]

    first, second = plain(one), plain(other)
    return first == second or (len(first) == len(second) == 1 and _LICENCE_NAMES.get(second[0]) == first[0])


_LICENCE_NAMES = {
    "apache-2.0": "apache license 2.0",
    "mit": "mit license",
    "llama2": "llama 2 community license agreement",
    "llama3.2": "llama 3.2 community license agreement",
    "gemma": "gemma terms of use",
}
"""Ids of cards and the names the catalogue writes for them, in lower case."""
