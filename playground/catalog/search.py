"""Which models of the catalogue fit a reader's wishes, in which order, and what to take where one is too large.

One pure function for every front end. A filter asks for knowledge: a model of which the fact is unknown does not fit
it. Only facts with a source count, so a filter never says more than the model's card does.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from playground.catalog.cards import license_id, model_facts, openness_score
from playground.catalog.entries import CatalogEntry
from playground.catalog.footprint import CONTEXT, Footprint, estimate
from playground.messages import NOTHING, Translatable, foreign, msg
from playground.records import ModelFacts, Variant

Sort = Literal["catalogue", "name", "parameters", "openness", "context", "release"]
SORTS: tuple[Sort, ...] = get_args(Sort)


@dataclass(frozen=True)
class Listed:
    """A model as it stands in the explorer: its facts and what it would need.

    Attributes:
        footprint: Estimate for the default variant; None where the number of parameters is unknown.
        fits: Whether it runs within the memory asked about; None where that is unknown. False also where it is refused.
    """

    entry: CatalogEntry
    facts: ModelFacts
    footprint: Footprint | None
    fits: bool | None

    @property
    def open_items(self) -> int:
        return openness_score(self.facts)[0]

    @property
    def refused(self) -> Translatable:
        """Why it never runs here, whatever the machine; "" where it may."""
        code = self.entry.card.own_code
        if code is None:
            return NOTHING
        return msg("It needs code of its own, which is never run here. {note}", note=foreign(code.note))

    @property
    def instead(self) -> str:
        """The model of the catalogue to take instead of one that is refused, "" where it may run."""
        return self.entry.card.own_code.instead if self.entry.card.own_code else ""

    @property
    def license_id(self) -> str:
        return license_id(self.entry, self.facts)

    @property
    def commercial(self) -> str:
        """yes, no, conditional or unknown."""
        licence = self.entry.card.license
        return licence.commercial_use if licence and self.facts.license.value else "unknown"

    @property
    def family(self) -> str:
        fact = self.facts.extra.get("family")
        return str(fact.value) if fact else ""

    @property
    def specialisations(self) -> tuple[str, ...]:
        """``code+math`` is both."""
        return tuple(str(self.facts.specialisation.value or "").split("+")) if self.facts.specialisation.value else ()


@dataclass(frozen=True)
class Filters:
    """What a reader asks for; empty and None ask for nothing.

    Attributes:
        commercial: ``yes``: allowed without conditions of its own; ``conditional``: those too.
        family: Beginning of the family's name, so that ``llama 2`` finds LLaMA Pro as well.
        max_parameters: At most so many.
        min_openness: At least so many of the five items are a plain yes.
        runs_here: Only what fits into memory.
        search: Words that must all stand somewhere in the model's name, facts or notes.
    """

    task: str = ""
    license: str = ""
    commercial: Literal["", "yes", "conditional"] = ""
    family: str = ""
    specialisation: str = ""
    max_parameters: int | None = None
    min_openness: int = 0
    runs_here: bool = False
    search: str = ""


def listed(entry: CatalogEntry, limit_mb: float) -> Listed:
    """Facts and footprint of one model.

    Args:
        limit_mb: The memory of the machine it would run on.
    """
    facts = model_facts(entry)
    expected = footprint(entry, facts)
    if entry.card.own_code:
        return Listed(entry, facts, expected, fits=False)
    elsewhere = entry.spec.runtime not in ("onnx", "torch")  # served by others, or scripted
    return Listed(entry, facts, expected, True if elsewhere else expected.fits(limit_mb) if expected else None)


def footprint(
    entry: CatalogEntry, facts: ModelFacts | None = None, variant: Variant | None = None, tokens: int = CONTEXT
) -> Footprint | None:
    """The estimate for a variant, by default the entry's; None where its size is unknown or it does not run here.

    Args:
        tokens: Of prompt and answer together.
    """
    facts = facts or model_facts(entry)
    parameters = facts.parameters.value
    runtime, precision = (variant or entry.spec).runtime, (variant or entry.spec).precision
    if not parameters or runtime not in ("onnx", "torch"):
        return None
    detail = entry.card.architecture_detail
    shape = detail.model_dump(exclude_unset=True) if detail else None
    return estimate(parameters, runtime, precision, shape, tokens or CONTEXT)


def select(
    entries: Iterable[CatalogEntry], filters: Filters, sort: Sort = "catalogue", *, limit_mb: float
) -> list[Listed]:
    """The models that fit every filter.

    Args:
        sort: ``name`` and ``parameters`` rise; ``openness``, ``context`` and ``release`` fall. Unknown values come
            last, equals stay in the catalogue's order.
        limit_mb: What "runs here" means.
    """
    found = [item for item in (listed(entry, limit_mb) for entry in entries) if fits(item, filters)]
    if sort == "catalogue":
        return found
    key, falling = _KEYS[sort]
    known = [item for item in found if key(item) is not None]
    unknown = [item for item in found if key(item) is None]
    return sorted(known, key=key, reverse=falling) + unknown


def fits(item: Listed, filters: Filters) -> bool:
    """Whether a model fits every filter."""
    parameters = item.facts.parameters.value
    commercial = {"": True, "yes": item.commercial == "yes", "conditional": item.commercial in ("yes", "conditional")}
    return (
        (not filters.task or item.entry.task.lower() == filters.task.lower())
        and (not filters.license or item.license_id.lower() == filters.license.lower())
        and commercial[filters.commercial]
        and (not filters.family or item.family.lower().startswith(filters.family.lower()))
        and (not filters.specialisation or filters.specialisation.lower() in item.specialisations)
        and (filters.max_parameters is None or (parameters is not None and parameters <= filters.max_parameters))
        and item.open_items >= filters.min_openness
        and (not filters.runs_here or item.fits is True)
        and _has_words(item, filters.search)
    )


def choices(entries: Iterable[CatalogEntry], limit_mb: float) -> dict[str, list[str]]:
    """What can be asked for: the tasks, licences, families and specialisations that occur, sorted."""
    items = [listed(entry, limit_mb) for entry in entries]
    return {
        "task": sorted({item.entry.task for item in items}),
        "license": sorted({item.license_id for item in items} - {""}),
        "family": sorted({item.family for item in items} - {""}),
        "specialisation": sorted({name for item in items for name in item.specialisations}),
    }


def smaller(item: Listed, others: Iterable[Listed], most: int = 3) -> list[Listed]:
    """Models to take instead of one that is too large: of its family or made for the same, smaller, and fitting.

    Those that are both come first, then the largest.
    """
    size = item.facts.parameters.value or float("inf")

    def likeness(other: Listed) -> int:
        family = bool(item.family) and _stem(other.family) == _stem(item.family)
        return 2 * family + bool(set(item.specialisations) & set(other.specialisations))

    fitting = [
        other
        for other in others
        if other.fits and likeness(other) and (other.facts.parameters.value or float("inf")) < size
    ]
    return sorted(fitting, key=lambda other: (-likeness(other), -other.facts.parameters.value))[:most]


def _stem(family: str) -> str:
    """The name without its version: ``Llama 3.2`` and ``Llama 2 (LLaMA Pro)`` are both llama."""
    words = family.lower().replace("(", " ").split()
    return words[0].rstrip("0123456789.-") if words else ""


_KEYS: dict[str, tuple[Callable[[Listed], Any], bool]] = {
    "name": (lambda item: item.entry.spec.name.lower(), False),
    "parameters": (lambda item: item.facts.parameters.value, False),
    "openness": (lambda item: item.open_items, True),
    "context": (lambda item: item.facts.context_length.value, True),
    "release": (lambda item: item.facts.extra["release"].value if "release" in item.facts.extra else None, True),
}


def _has_words(item: Listed, search: str) -> bool:
    words = set(_plain(search).split())
    text = _text(item) if words else ""
    return all(word in text for word in words)


def _text(item: Listed) -> str:
    entry, facts = item.entry, item.facts
    said = [
        *(entry.spec.id, entry.spec.name, entry.spec.upstream, entry.task, item.family, item.license_id),
        *(str(facts.license.value), str(facts.specialisation.value), facts.specialisation.note),
        *(str(facts.base_model.value), *map(str, facts.languages.value or ()), *map(str, facts.datasets.value or ())),
        *(str(fact.value) for fact in facts.extra.values()),
    ]
    return _plain(" ".join(said))


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()
