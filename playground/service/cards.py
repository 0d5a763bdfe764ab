"""What is known of a model, put together for every front end: its card, its facts, and the documents of both.

It knows who says something of a model (the catalogue, the Hub, the prepared files), and nothing of running one.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

from playground.catalog import hub_cards
from playground.catalog.cards import card_markdown, openness_score
from playground.catalog.entries import Catalog, CatalogEntry
from playground.catalog.facts import full_facts
from playground.catalog.hub import HubInfo
from playground.catalog.hub_names import parse, tag_in
from playground.catalog.kinds import kind_told
from playground.catalog.search import Listed
from playground.config.settings import Settings
from playground.errors import SourceError, UsageError
from playground.messages import NOTHING, Translatable, msg
from playground.records import ModelFacts, Variant, plain_json
from playground.service.audience import Admitting


@dataclass(frozen=True)
class Card:
    """What is known of a model, from everybody who says something about it.

    Attributes:
        hub: What the Hub says of it now, or said when it was last asked; None where nothing was read.
        problem: Why the Hub could not be asked, though it was to be.
    """

    entry: CatalogEntry
    facts: ModelFacts
    hub: HubInfo | None = None
    problem: Translatable = NOTHING

    @property
    def openness(self) -> tuple[int, int]:
        """How many of how many items of openness are a plain yes."""
        return openness_score(self.facts)

    @property
    def rest(self) -> str:
        """The card's prose, as markdown."""
        return card_markdown(self.entry)

    def to_json(self) -> dict[str, Any]:
        """Of a card, for every front end: the facts by name, then what no fact says."""
        return {
            **self.facts.to_json(),
            "openness_score": list(self.openness),
            "terms": _terms(self.entry),
            "rest": self.rest,
            "hub": _hub_json(self.hub) if self.hub else None,
        }


class Cards(Admitting):
    """A part of ``Playground``: what is known of its models."""

    settings: Settings
    catalog: Catalog

    @abstractmethod
    def entry(self, model: str) -> CatalogEntry: ...

    @abstractmethod
    def listed(self, entry: CatalogEntry) -> Listed: ...

    def facts(self, variant: Variant) -> ModelFacts:
        """What is known of a model and of this variant of it; asks no network."""
        entry = self.entry(variant.model)
        return self._facts(entry, variant, self._remembered(entry.spec.upstream, tag_in(entry.spec.source)))

    def card(self, model: str, ask_hub: Literal["never", "unknown", "always"] = "never") -> Card:
        """The card of ``MODEL[@RUNTIME-PRECISION]``.

        Args:
            ask_hub: Whether to read what the Hub says now, or only of a model of which nothing else is known.

        Raises:
            UsageError: No such model, or it is not on the Hub, which was always to be asked.
            SourceError: The Hub was always to be asked and can't be.
        """
        spec, variant = self.resolve(model)
        entry, info, problem = self.entry(spec.id), None, NOTHING
        if spec.upstream:
            revision = spec.revision if spec.source.startswith("hub:") else ""
            tag = tag_in(spec.source)
            try:
                online = ask_hub == "always" or (ask_hub == "unknown" and not entry.card)
                info = hub_cards.read(spec.upstream, revision, self.settings.home, online=online, tag=tag)
            except SourceError as error:
                if ask_hub == "always":
                    raise
                info, problem = self._remembered(spec.upstream, tag), error.message
        elif ask_hub == "always":
            raise UsageError(msg("{model} is not on the Hub", model=spec.id), msg("Leave --online out."))
        return Card(entry, self._facts(entry, variant, info), info, problem)

    def hub_card(self, text: str) -> Card:
        """The card of a model of the Hub, as ``OWNER/NAME``, ``OWNER/NAME:QUANTISATION`` or the address of its page;
        asks the Hub.

        Raises:
            UsageError: The text names no repository.
            SourceError: The Hub can't be asked.
        """
        name = parse(text)
        if name is None:
            raise UsageError(
                msg("'{repo}' is not a name OWNER/NAME of the Hub", repo=text), msg("Copy it from the model's page.")
            )
        info = hub_cards.read(name.repo, name.revision, self.settings.home, online=True, tag=name.tag)
        assert info is not None
        entry = self.entry(str(info.name))
        return Card(entry, self._facts(entry, None, info), info)

    def _facts(self, entry: CatalogEntry, variant: Variant | None, info: HubInfo | None) -> ModelFacts:
        def of_base_model(repo: str) -> ModelFacts | None:
            kept = self._remembered(repo)
            return hub_cards.hub_facts(kept) if kept else None

        artifact = self.preparation(variant).artifact if variant else None
        return full_facts(self.catalog, entry, artifact, hub_cards.hub_facts(info) if info else None, of_base_model)

    def _remembered(self, repo: str, tag: str = "") -> HubInfo | None:
        return hub_cards.remembered(repo, self.settings.home, tag) if repo else None

    def model_json(self, item: Listed) -> dict[str, Any]:
        """A model of the catalogue with all that it is listed by and the state of each variant."""
        entry = item.entry
        told = {
            **entry.spec.to_json(),
            "task": entry.task,
            "license": item.license_id or None,
            "commercial_use": item.commercial,
            "parameters": item.facts.parameters.value,
            "family": item.family or None,
            "specialisation": item.facts.specialisation.value,
            "open_items": item.open_items,
            "expected_memory": item.footprint.to_json() if item.footprint else None,
            "runs_here": item.fits,
            "refused": item.refused or None,
            "instead": item.instead or None,
            "terms": _terms(entry),
            "variants": [{"variant": str(each)} | self._state_json(each) for each in entry.variants],
        }
        return {name: plain_json(value) for name, value in told.items()}

    def served_json(self, entry: CatalogEntry) -> dict[str, Any]:
        """A served model for strangers: nothing of where its files lie."""
        told = self.model_json(self.listed(entry))
        shown = {name: told[name] for name in ("id", "name", "kind", "context_length", "terms")}
        return {**shown, "variants": {each.pop("variant"): each for each in told["variants"]}}

    def _state_json(self, variant: Variant) -> dict[str, Any]:
        told = self.all_told(self.preparation(variant)).to_json()
        return {name: told[name] for name in ("status", "step", "progress", "error")}


def _terms(entry: CatalogEntry) -> dict[str, Any] | None:
    return entry.terms.to_json() if entry.terms else None


def _hub_json(info: HubInfo) -> dict[str, Any]:
    expected, told = info.footprint(), info.to_json()
    shown = (
        "repo",
        "revision",
        "tag",
        "download_bytes",
        "gated",
        "architecture",
        "onnx_files",
        "way",
        "refusal",
        "notes",
    )
    return {name: told[name] for name in shown} | {
        "kind": kind_told(info.config, info.tags),
        "expected_memory": expected.to_json() if expected else None,
    }
