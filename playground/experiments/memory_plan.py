"""What a set of models is expected to take together, and in which groups they run where that is too much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from playground.catalog.search import footprint
from playground.errors import all_of
from playground.messages import NOTHING, Translatable, clauses, msg, sentences
from playground.records import LoadSpec, Mode, Record, Request, Variant
from playground.workers.expected_memory import expected, tokens_of

if TYPE_CHECKING:
    from playground.catalog.entries import Catalog
    from playground.export import Preparation


class States(Protocol):
    """What a plan needs of the preparer."""

    def state(self, variant: Variant) -> Preparation: ...


@dataclass(frozen=True)
class Planned(Record):
    """One model of a plan; ``expected_mb`` is None where nothing is known, and ``alone`` says whether it fits alone."""

    variant: Variant
    expected_mb: float | None
    alone: bool


@dataclass(frozen=True)
class MemoryPlan(Record):
    """What a set of models is expected to take against what all may take together."""

    budget_mb: float
    models: tuple[Planned, ...]

    @property
    def total_mb(self) -> float:
        """Of those that will run and of which something is known."""
        return sum(model.expected_mb or 0.0 for model in self.models if model.alone)

    @property
    def together(self) -> bool:
        return self.total_mb <= self.budget_mb

    @property
    def tight(self) -> bool:
        """Whether something will be unloaded or refused."""
        return not self.together or not all(model.alone for model in self.models)

    def groups(self) -> list[list[Variant]]:
        """What runs at the same time in fast mode, in order."""
        running = [model for model in self.models if model.alone]
        places = batches([model.expected_mb or 0.0 for model in running], self.budget_mb)
        return [[running[place].variant for place in group] for group in places]

    def words(self, mode: Mode = "fair") -> Translatable:
        """The plan in a few sentences; empty where nothing is known."""
        known = [
            msg("{model} {mb:,.0f} MB", model=model.variant, mb=model.expected_mb)
            for model in self.models
            if model.expected_mb
        ]
        if not known:
            return NOTHING
        return sentences(
            msg(
                "Expected memory at the peak: {models}; models may take {budget_mb:,.0f} MB together.",
                models=known,
                budget_mb=self.budget_mb,
            ),
            self.advice(mode),
        )

    def advice(self, mode: Mode) -> Translatable:
        """What becomes of models that do not fit; empty where all do."""
        told = []
        if not self.together and mode == "fast":
            groups = [all_of([str(variant) for variant in group]) for group in self.groups()]
            told.append(msg("Not all fit at once, so they run in groups: {groups}.", groups=clauses(*groups)))
        elif not self.together:
            told.append(msg("Not all fit at once: the one unused for longest is unloaded before another is loaded."))
        refused = [str(model.variant) for model in self.models if not model.alone]
        if refused:
            told.append(msg("{models} will be refused: too large even alone.", models=all_of(refused)))
        return sentences(*told)


def plan(items: Sequence[tuple[Variant, float | None]], budget_mb: float) -> MemoryPlan:
    """Put expected peaks (MB, None where unknown) beside the budget."""
    models = tuple(Planned(variant, mb, mb is None or mb <= budget_mb) for variant, mb in items)
    return MemoryPlan(budget_mb, models)


def plan_of(
    catalog: Catalog, preparer: States, asked: Sequence[tuple[Variant, Request | None]], budget_mb: float
) -> MemoryPlan:
    """The plan of these variants: of prepared ones from their files, of others from the catalogue. One that is asked
    several things has one worker for them: it counts once, with what takes most.
    """
    peaks: dict[Variant, float | None] = {}
    for variant, request in asked:
        known = _known_mb(catalog, preparer, variant, request)
        peaks[variant] = max(known or 0.0, peaks.get(variant) or 0.0) or None
    return plan(list(peaks.items()), budget_mb)


def _known_mb(catalog: Catalog, preparer: States, variant: Variant, request: Request | None) -> float | None:
    spec, _ = catalog.resolve(str(variant))
    try:
        artifact = preparer.state(variant).artifact
    except Exception:  # whoever wants to run it is told
        return None
    if artifact:
        return expected(LoadSpec(spec, artifact, 1), request).total_mb
    if variant.model not in catalog.ids():
        return None
    prompt, new = tokens_of(request, spec.context_length)
    about = footprint(catalog.entry(variant.model), variant=variant, tokens=prompt + new)
    return about.run_mb if about else None


def batches(peaks: Sequence[float], budget_mb: float) -> list[list[int]]:
    """Positions in groups that fit together, in order: a new group begins where the next one would be too much."""
    groups: list[list[int]] = []
    taken = 0.0
    for place, peak in enumerate(peaks):
        if not groups or taken + peak > budget_mb:
            groups.append([])
            taken = 0.0
        groups[-1].append(place)
        taken += peak
    return groups
