"""Where a model comes from: base model by base model, as far as a source says so.

Each step was read in the catalogue or in a card from the Hub. A chain ends where nothing is known, at a model trained
from scratch, or where it would turn back on itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from playground.catalog.cards import HUB, model_facts
from playground.catalog.entries import Catalog, CatalogEntry
from playground.messages import msg
from playground.records import UNKNOWN, Fact, ModelFacts, Record

MAX_STEPS = 12

ReadHub = Callable[[str], ModelFacts | None]
"""Facts of a repository's own card, where they are at hand; asked only where the catalogue does not know."""


@dataclass(frozen=True)
class Ancestor(Record):
    """One model of the chain.

    Attributes:
        relation: How the model before it was made from this one: finetune, quantized, merge, expanded, …
        source: Where that relation was read.
        license_id: The licence of this model where the catalogue or its card gives one.
    """

    repo: str
    relation: str = ""
    source: str = ""
    license_id: str = ""


@dataclass(frozen=True)
class Lineage(Record):
    """The model itself and then its bases, nearest first."""

    steps: tuple[Ancestor, ...]
    cyclic: bool = False

    @property
    def path(self) -> str:
        """``BioMistral-7B ← Mistral-7B-Instruct-v0.1 ← Mistral-7B-v0.1``."""
        drawn = " ← ".join(step.repo.rpartition("/")[2] for step in self.steps)
        return f"{drawn} ← …" if self.cyclic else drawn


def trace(catalog: Catalog, entry: CatalogEntry, facts: ModelFacts, read_hub: ReadHub | None = None) -> Lineage:
    """Follow the base models of ``entry``.

    Args:
        facts: Of the model itself, its Hub card included where that was read.
        read_hub: Asked for a base the catalogue does not know.
    """
    repo = entry.spec.upstream or entry.spec.id
    steps = [Ancestor(repo)]
    seen = {repo.lower()}
    while base := _base(facts):
        if base.lower() in seen or len(steps) > MAX_STEPS:
            return Lineage(tuple(steps), cyclic=True)
        known = catalog.upstream(base)
        licence = known.card.license.id if known and known.card.license else ""
        step = Ancestor(base, str(facts.base_model_relation.value or ""), facts.base_model.url, licence)
        steps.append(step)
        seen.add(base.lower())
        read = model_facts(known) if known else read_hub(base) if read_hub else None
        if read is None:
            break
        facts = read
        if not known and facts.license.value:
            steps[-1] = Ancestor(base, step.relation, step.source, str(facts.license.value))
    return Lineage(tuple(steps))


def lineage_fact(lineage: Lineage) -> Fact:
    """The chain as one fact, unknown where there is none: whoever has no ancestors is told so by its base model."""
    if len(lineage.steps) < 2:
        return UNKNOWN
    # Relations are words of the cards: finetune, quantized, merge, expanded.
    made = "; ".join(f"{step.relation or 'made'} from {step.repo}" for step in lineage.steps[1:])
    note = msg("{chain}", chain=made)
    if lineage.cyclic:
        note = msg("{chain}; the cards then point back to a model of this chain", chain=made)
    first = lineage.steps[1]
    return Fact(
        lineage.path,
        msg("Base models as the catalogue and the cards give them"),
        first.source or HUB + first.repo,
        "catalogue",
        note,
    )


def _base(facts: ModelFacts) -> str:
    value = facts.base_model.value
    first = value[0] if isinstance(value, (list, tuple)) and value else value
    return first if isinstance(first, str) and "/" in first and " " not in first else ""
