"""What there is to choose by: figures from the store, facts of the catalogue, quality figures.

Both front ends ask here, so that the page and the terminal give one verdict. It gathers and calls; the rules are those
of ``evidence``, ``constraints`` and ``quality``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from playground.catalog.facts import full_facts
from playground.catalog.hub_cards import hub_facts, remembered
from playground.catalog.hub_names import tag_in
from playground.catalog.search import Listed
from playground.catalog.stores import SCHEMES
from playground.choose.answers import SuiteAnswers, newest_scores
from playground.choose.checks import Check
from playground.choose.constraints import STATES, Candidate, Constraints, Eligibility, judge
from playground.choose.evidence import Evidence, gather, measured_variants, with_engines
from playground.choose.quality import (
    Axis,
    Quality,
    card_scores,
    fidelity_scores,
    harness_scores,
    pareto_front,
    suite_scores,
    vote_scores,
)
from playground.errors import PlaygroundError
from playground.messages import msg
from playground.records import Artifact, Comparison, ModelFacts, Variant
from playground.results.figures import CHOICE, Figure, Measurement, figure
from playground.results.scores import Evaluation, Scores
from playground.system.environment import environment

if TYPE_CHECKING:
    from playground.catalog.entries import CatalogEntry
    from playground.service import Playground

NEWEST = 100
"""So many of the newest measurements, and of the newest comparisons, are looked through."""

AXES = {name: Axis(name, higher=quantity.best == "high") for name, quantity in CHOICE.items()}
QUALITY = Axis("quality", higher=True)


@dataclass(frozen=True)
class Board:
    """The models to choose from and everything known of them.

    Attributes:
        qualities: The quality figures on offer: measured answers first, then cards, fidelity and votes.
        suite: The answers to the suite that the limits speak of; None where they speak of none.
    """

    candidates: tuple[Candidate, ...]
    evidence: Evidence
    qualities: tuple[Quality, ...]
    suite: SuiteAnswers | None = None

    def verdicts(self, limits: Constraints) -> tuple[Eligibility, ...]:
        """One a model, the eligible ones first; equals stay in order."""
        judged = [judge(limits, candidate) for candidate in self.candidates]
        return tuple(sorted(judged, key=lambda verdict: STATES.index(verdict.state)))

    def points(self, quality: Quality, axes: Sequence[str]) -> dict[str, dict[str, Figure]]:
        """By variant as text, the quality and the figure of each axis; models that lack one of them are not in it."""
        points = {}
        for candidate in self.candidates:
            fact = quality.values.get(str(candidate.variant))
            if fact is not None and all(axis in candidate.figures for axis in axes):
                own = {axis: candidate.figures[axis].figure for axis in axes}
                points[str(candidate.variant)] = {**own, QUALITY.name: _spread(quality, str(candidate.variant))}
        return points

    def pareto_front(self, quality: Quality, axes: Sequence[str]) -> frozenset[str]:
        """Those that no other beats in quality and ``axes``."""
        return pareto_front([QUALITY, *(AXES[axis] for axis in axes)], self.points(quality, axes))


@dataclass(frozen=True)
class Stored:
    """The newest measurements, comparisons and scores, read once for everything that is asked of them."""

    measurements: list[Measurement]
    comparisons: list[Comparison]
    scores: list[Evaluation] = field(default_factory=list)


def stored(playground: Playground) -> Stored:
    """Read the newest of each.

    Raises:
        StorageError: The database can't be read.
    """
    measurements, comparisons = playground.store.measurements(NEWEST), playground.store.list(NEWEST)
    return Stored(measurements, comparisons, Scores(playground.store).newest(NEWEST * 10))


def candidates_of(playground: Playground, kept: Stored) -> tuple[Variant, ...]:
    """What may be chosen: variants with figures of this machine first, then each catalogue model's default one."""
    found = dict.fromkeys(with_figures(playground, kept))
    return tuple(found | dict.fromkeys(entry.variants[0] for entry in playground.catalog))


def with_figures(playground: Playground, kept: Stored) -> tuple[Variant, ...]:
    """The variants with stored figures of this machine, the newest first; of models that can still be named."""
    found = []
    for variant in measured_variants(kept.measurements, kept.comparisons, environment()):
        with suppress(PlaygroundError):
            found.append(playground.catalog.resolve(str(variant))[1])
    return tuple(found)


def board(
    playground: Playground,
    variants: Sequence[Variant],
    kept: Stored,
    owner: str = "",
    suite: SuiteAnswers | None = None,
) -> Board:
    """Everything known of ``variants``; asks no network and starts nothing.

    Args:
        owner: Whose votes count.
        suite: Stored answers to the suite that models are chosen by.

    Raises:
        UnknownModel: One of them is not in the catalogue.
    """
    asked = tuple(dict.fromkeys(variants))
    evidence = gather(asked, kept.measurements, kept.comparisons, environment())
    if suite:
        evidence = _with_answers(evidence, suite)
    evidence = with_engines(evidence)
    scores = newest_scores(kept.scores, asked)
    artifacts = {variant: playground.preparer.state(variant).artifact for variant in asked}
    candidates = tuple(_candidate(playground, variant, artifacts[variant], evidence) for variant in asked)
    candidates = tuple(
        replace(each, passed=suite.rates.get(each.variant) if suite else None, scores=scores[each.variant])
        for each in candidates
    )
    evidence = _with_other_files(evidence, scores, artifacts)
    fidelity = {
        variant: (artifact.fidelity if artifact else None) or evidence.fidelity.get(variant)
        for variant, artifact in artifacts.items()
    }
    qualities = (
        *suite_scores(suite),
        *harness_scores(scores),
        *card_scores({item.variant: item.facts for item in candidates}),
        *fidelity_scores(fidelity),
        *vote_scores(playground.ratings(owner), asked),
    )
    return Board(candidates, evidence, qualities, suite)


def _with_answers(evidence: Evidence, suite: SuiteAnswers) -> Evidence:
    """Figures of the suite's own answers where there is no measurement: a median of many says more than one run."""
    figures = dict(evidence.figures)
    used = False
    for variant, found in suite.figures.items():
        mine = dict(figures.get(variant, {}))
        for name, taken in found.items():
            if name not in mine or mine[name].kind == "comparison":
                mine[name], used = taken, True
        figures[variant] = mine
    cautions = [caution for rate in suite.rates.values() for caution in rate.cautions]
    if used:
        cautions.append(
            msg("Some figures are of the suite's own answers, to prompts of several lengths: that widens their spread.")
        )
    return replace(evidence, figures=figures, notes=(*evidence.notes, *cautions))


def _with_other_files(
    evidence: Evidence, scores: Mapping[Variant, Mapping[str, Evaluation]], artifacts: Mapping[Variant, Artifact | None]
) -> Evidence:
    """With a note for each score that was taken on files which were made anew since."""
    told = []
    for variant, by_task in scores.items():
        artifact = artifacts[variant]
        for taken in by_task.values():
            if artifact and artifact.sha256 and taken.artifact_sha256 not in ("", artifact.sha256):
                told.append(
                    msg(
                        "{task} was taken of {variant} before it was prepared anew: it is of other files.",
                        task=taken.task,
                        variant=variant,
                    )
                )
    return replace(evidence, notes=(*evidence.notes, *told)) if told else evidence


def _spread(quality: Quality, variant: str) -> Figure:
    """A quality figure as the front compares it: one that is uncertain beats nobody within its interval."""
    value = float(quality.values[variant].value)
    low, high = quality.intervals.get(variant, (value, value))
    return replace(figure(QUALITY.name, "", [value]), low=low, high=high)


def _candidate(playground: Playground, variant: Variant, artifact: Artifact | None, evidence: Evidence) -> Candidate:
    entry = playground.catalog.entry(variant.model)
    tag = tag_in(entry.spec.source)
    kept = remembered(entry.spec.upstream, playground.settings.home, tag) if entry.spec.upstream else None
    facts = full_facts(playground.catalog, entry, artifact, hub_facts(kept) if kept else None)
    own = entry.spec.source.partition(":")[0] in ("path", "remote", "fake", *SCHEMES)
    return Candidate(
        variant,
        f"{entry.spec.name} {variant.precision}".removesuffix(" none"),
        facts,
        evidence.figures[variant],
        entry.spec.context_length if own else 0,
        served=variant.runtime == "remote",
        refused=_refused(entry, facts),
    )


def _refused(entry: CatalogEntry, facts: ModelFacts) -> Check | None:
    if entry.card.own_code is None:
        return None
    item = Listed(entry, facts, None, None)
    step = msg("Instead: {model}.", model=item.instead)
    return Check("refused", "broken", item.refused, url=entry.card.own_code.source, next_step=step)
