"""Stored figures of models on this machine: which of them to judge by, and how each was taken.

A measurement (repeats, with a spread) comes before a run of a comparison in fair mode (one value, no spread). What was
taken on another machine is no evidence for this one. It knows records; it does not know limits or the database.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from playground.messages import NOTHING, Translatable, msg, sentences
from playground.records import ON_ACCELERATOR, Comparison, Environment, Fidelity, ModelRun, Record, Variant
from playground.results.figures import CHOICE, Figure, Measured, Measurement, engine_of, engines_note, figure


@dataclass(frozen=True)
class Taken(Record):
    """A figure and how it was taken.

    Attributes:
        kind: ``measurement``; ``comparison`` for one run of a comparison in fair mode; ``suite`` for a suite's answers.
        id: Of that measurement or comparison.
        cautions: What to know before believing it, e.g. that the machine was busy.
        engine: What computed it, as ``engine_of`` has it; "" where that was not written down.
        answers: Of a suite: how many it is of; ``figure`` has their median and quartiles, not each value.
    """

    figure: Figure
    kind: Literal["measurement", "comparison", "suite"]
    id: str
    created_at: str
    prompt_tokens: int | None = None
    threads: int | None = None
    cautions: tuple[Translatable, ...] = ()
    answers: int = 0
    engine: str = ""

    @property
    def words(self) -> Translatable:
        """Where it comes from: ``measured 2026-11-24 09:30, n = 5, prompt of 40 tokens``."""
        when = self.created_at[:16].replace("T", " ")
        if self.kind == "suite":
            return msg("suite run {when}, {n} answers to its prompts", when=when, n=self.answers)
        n = len(self.figure.values)
        how = msg("n = {n}", n=n) if n > 1 else msg("n = 1, no spread")
        measured = self.kind == "measurement"
        start = msg("measured {when}", when=when) if measured else msg("one fair run {when}", when=when)
        prompt = msg("prompt of {n:,} tokens", n=self.prompt_tokens) if self.prompt_tokens else NOTHING
        return msg("{parts}", parts=[part for part in (start, how, prompt) if part])


@dataclass(frozen=True)
class Evidence:
    """What is known of the models that were asked about.

    Attributes:
        figures: By variant, then by the name of the figure.
        fidelity: Of the exports that these figures are of.
        notes: What to know before setting the figures of several models side by side.
    """

    figures: dict[Variant, dict[str, Taken]]
    fidelity: dict[Variant, Fidelity]
    notes: tuple[Translatable, ...] = ()


def same_machine(one: Environment, other: Environment) -> bool:
    """Processor, cores and memory limit decide what a figure is worth; versions are told, not asked for."""
    alike = one.cpu == other.cpu and one.cores == other.cores
    return alike and abs(one.memory_limit_mb - other.memory_limit_mb) <= 0.02 * other.memory_limit_mb


def measured_variants(
    measurements: Iterable[Measurement], comparisons: Iterable[Comparison], here: Environment
) -> tuple[Variant, ...]:
    """Every variant with a figure of this machine, the newest first."""
    found: dict[Variant, None] = {}
    for measurement in measurements:
        if same_machine(measurement.environment, here):
            found |= dict.fromkeys(part.variant for part in measurement.models if _usable(part))
    for comparison in comparisons:
        if comparison.mode == "fair" and same_machine(comparison.environment, here):
            found |= dict.fromkeys(run.variant for run in comparison.runs if _run_figures(run))
    return tuple(found)


def gather(
    variants: Sequence[Variant],
    measurements: Sequence[Measurement],
    comparisons: Sequence[Comparison],
    here: Environment,
) -> Evidence:
    """The figures of ``variants`` on the machine ``here``.

    The newest measurement that has all of them is taken, because its figures were made for each other; where there is
    none, each model's newest one, and for a figure that no measurement has, its newest run in fair mode.

    Args:
        measurements, comparisons: The newest first, as the store lists them.
    """
    mine = [item for item in measurements if same_machine(item.environment, here)]
    wanted = set(variants)
    common = next((item for item in mine if wanted <= _measured_of(item)), None)
    figures: dict[Variant, dict[str, Taken]] = {variant: {} for variant in variants}
    fidelity: dict[Variant, Fidelity] = {}
    for measurement in ([common] if common else []) + mine:
        for part in measurement.models:
            if part.variant in wanted and _usable(part) and not figures[part.variant]:
                figures[part.variant] = _measured_figures(part, measurement)
                if part.fidelity:
                    fidelity[part.variant] = part.fidelity
    fair = [item for item in comparisons if item.mode == "fair" and same_machine(item.environment, here)]
    for comparison in fair:
        for run in comparison.runs:
            if run.variant in wanted:
                figures[run.variant] = _taken_once(run, comparison) | figures[run.variant]
                if run.fidelity:
                    fidelity.setdefault(run.variant, run.fidelity)
    elsewhere = len(measurements) - len(mine) + len(comparisons) - len([c for c in comparisons if c.mode == "fast"])
    elsewhere -= len(fair)
    notes = _notes(figures, elsewhere)
    newer = [item for item in mine[: mine.index(common)] if _measured_of(item) & wanted] if common else []
    if newer:
        names = sorted(str(variant) for variant in set().union(*map(_measured_of, newer)) & wanted)
        since = msg("Measured again since, but without the others: {models}.", models=names)
        notes.append(sentences(since, msg("Measure all of them to use new figures.")))
    return Evidence(figures, fidelity, tuple(notes))


def with_engines(evidence: Evidence) -> Evidence:
    """With a note that names the engines where several took the figures. Asked once all figures are there."""
    note = engines_note(taken.engine for by_name in evidence.figures.values() for taken in by_name.values())
    return replace(evidence, notes=(*evidence.notes, note)) if note else evidence


def _measured_of(measurement: Measurement) -> set[Variant]:
    return {part.variant for part in measurement.models if _usable(part)}


def _usable(part: Measured) -> bool:
    if (part.engine or "").startswith(ON_ACCELERATOR):  # a choice is made for processors
        return False
    return part.error is None and any(name in part.figures for name in CHOICE)


def _stand_in(variant: Variant, runtime: str, precision: str) -> tuple[Translatable, ...]:
    """What to say where another runtime answered than the one asked for: its figures are what a reader would get."""
    if not runtime or (runtime, precision) == (variant.runtime, variant.precision):
        return ()
    by = f"{runtime}-{precision}"
    return (msg("{variant} was run by {by}; the figures are those of that.", variant=variant, by=by),)


def _measured_figures(part: Measured, measurement: Measurement) -> dict[str, Taken]:
    return {
        name: Taken(
            taken,
            "measurement",
            measurement.id,
            measurement.created_at,
            part.prompt_tokens,
            part.threads,
            (*measurement.warnings, *_stand_in(part.variant, part.runtime, part.precision)),
            engine=engine_of(part.engine, part.runtime),
        )
        for name, taken in part.figures.items()
        if name in CHOICE and CHOICE[name].unit == taken.unit  # a rate of chunks is not one of tokens
    }


def _taken_once(run: ModelRun, comparison: Comparison) -> dict[str, Taken]:
    return {
        name: Taken(
            figure(name, CHOICE[name].unit, [value]),
            "comparison",
            comparison.id,
            comparison.created_at,
            run.timings.prompt_tokens,
            run.timings.threads,
            _stand_in(run.variant, run.runtime, run.precision),
            engine=engine_of(run.engine, run.runtime),
        )
        for name, value in _run_figures(run).items()
    }


def _run_figures(run: ModelRun) -> dict[str, float]:
    """What one run says of its variant; a prompt that was half in the cache, or one with an answer to go on with, says
    nothing of the first token.
    """
    taken = run.timings
    other_work = bool(taken.reused_tokens or (run.request and run.request.answer_ids))
    if run.error is not None or (run.engine or "").startswith(ON_ACCELERATOR):
        return {}
    found = {
        "decode_tok_s": taken.decode_tok_s if taken.unit == "token" else None,
        "ttft_s": None if other_work else taken.ttft_s,
        "peak_memory_mb": taken.peak_memory_mb,
    }
    return {name: value for name, value in found.items() if value is not None}


def _notes(figures: dict[Variant, dict[str, Taken]], elsewhere: int) -> list[Translatable]:
    taken = [item for by_name in figures.values() for item in by_name.values()]
    notes = list(dict.fromkeys(caution for item in taken for caution in item.cautions))
    if len({item.id for item in taken}) > 1:
        notes.append(
            msg("The figures were not taken together: machine, load and prompt may have differed between them.")
        )
    if any(item.kind == "comparison" for item in taken):
        notes.append(
            msg("Some figures are single runs (n = 1) without a spread: measure them to know how far they vary.")
        )
    prompts = sorted({item.prompt_tokens for item in taken if item.prompt_tokens})
    if prompts and prompts[-1] > 1.5 * prompts[0]:
        notes.append(
            msg(
                "Prompts of {low:,} to {high:,} tokens: the time to first token grows with the prompt.",
                low=prompts[0],
                high=prompts[-1],
            )
        )
    if elsewhere > 0:
        notes.append(
            msg("Not used: {n} stored on another machine or under other limits of CPU or memory.", n=elsewhere)
        )
    return notes
