"""The receipt of each figure: what it means, its values and spread, and under which conditions it was taken.

Made from a finished comparison or measurement, kept nowhere: whoever has the figures can make it again. What was not
noted down is said to be unknown, never guessed. The module knows records; it does not know the screen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import mean
from typing import Any, Literal

from playground.messages import Translatable, foreign, msg, plural
from playground.records import Comparison, Environment, Fidelity, Mode, ModelRun, Record, Variant
from playground.results.figures import FIGURES, Figure, Measured, Measurement, characters_per_s, figure
from playground.results.requests import own_words

UNKNOWN = msg("not noted down")

RECEIPTS = (
    *("queue_s", "load_s", "tokenize_s", "prompt_tokens", "output_tokens", "ttft_s", "prefill_tok_s"),
    *("decode_tok_s", "decode_char_s", "total_s", "cpu_s", "peak_memory_mb"),
)
"""The figures that have a receipt, in its order."""

Start = Literal["cold", "warm", "cold, then warm"]

Line = tuple[Translatable, Translatable]
"""A label and what stands behind it."""


@dataclass(frozen=True)
class FigureReceipt(Record):
    """One figure: what it means and what was read.

    Attributes:
        values: One for each repeat, in the order they were taken.
        low, median, high: Quartiles by the inclusive method; of one value, all three are that value.
    """

    title: Translatable
    unit: str
    definition: Translatable
    values: tuple[float, ...]
    low: float
    median: float
    high: float


@dataclass(frozen=True)
class ModelReceipt(Record):
    """How one model's figures were taken, and the figures by name; or the error that left it without.

    Attributes:
        start: ``cold`` (loaded for this run), ``warm``, or ``cold, then warm`` over several repeats.
        warm_ups: Answers that came before and do not count, beside the one that loading itself does.
        tokenizer: Who counted the tokens.
        unit: ``token``, or ``chunk`` where a server does not say where tokens end.
        others_cores: Cores that other programs kept busy meanwhile; None where nobody looked.
        own: In what this model was asked something else than the others.
        read_tokens: Tokens the answer begins with that were read, not chosen; no figure counts them.
        taken_in: Id of the comparison the figures were taken in, where they are carried over from it.
    """

    variant: Variant
    runtime: str
    precision: str
    recipe: str | None = None
    engine: str | None = None
    fidelity: Fidelity | None = None
    start: Start | None = None
    mode: Mode | None = None
    threads: int | None = None
    repeats: int = 1
    warm_ups: int = 0
    unit: str = "token"
    tokenizer: Translatable | None = None
    memory_method: Translatable | None = None
    other_cpu_cores: float | None = None
    figures: dict[str, FigureReceipt] = field(default_factory=dict)
    error: Translatable | None = None
    notes: tuple[Translatable, ...] = ()
    own: tuple[Translatable, ...] = ()
    read_tokens: int = 0
    taken_in: str = ""


@dataclass(frozen=True)
class Receipts(Record):
    """All receipts of one comparison (or its repeats) or one measurement.

    Attributes:
        id: Of the comparison or measurement; of the first, where one was repeated.
        machine: Processor, cores, memory limit, versions and commit.
    """

    id: str
    created_at: str
    machine: Environment
    models: tuple[ModelReceipt, ...]
    warnings: tuple[Translatable, ...] = ()


def of_comparisons(comparisons: Sequence[Comparison]) -> Receipts:
    """Of one comparison, or of one that was repeated: same request, same models, one value a repeat."""
    first = comparisons[0]
    models = [
        _of_runs([comparison.runs[place] for comparison in comparisons], first) for place in range(len(first.runs))
    ]
    return Receipts(first.id, first.created_at, first.environment, tuple(models))


def of_comparison(comparison: Comparison) -> Receipts:
    return of_comparisons([comparison])


def of_measurement(measurement: Measurement) -> Receipts:
    models = tuple(_of_measured(model) for model in measurement.models)
    return Receipts(
        measurement.id, measurement.created_at, measurement.environment, models, warnings=measurement.warnings
    )


def with_receipts(document: Comparison | Measurement) -> dict[str, Any]:
    """Its JSON with one key more, ``receipts``."""
    made = of_comparison(document) if isinstance(document, Comparison) else of_measurement(document)
    return {**document.to_json(), "receipts": made.to_json()}


def _of_runs(runs: Sequence[ModelRun], first: Comparison) -> ModelReceipt:
    """Repeats of one model; those that failed have no figures to give."""
    good = [run for run in runs if run.error is None] or list(runs)
    last = good[-1]
    read = len((last.request or first.request).answer_ids)
    starts = {run.timings.cold for run in good} - {None}
    figures = {}
    for name in RECEIPTS:
        values = [value for run in good if (value := _value(run, name, read)) is not None]
        if values:
            figures[name] = _receipt(figure(name, _unit(name, last.timings.unit), values))
    return ModelReceipt(
        variant=last.variant,
        runtime=last.runtime,
        precision=last.precision,
        recipe=last.recipe,
        engine=last.engine,
        fidelity=last.fidelity,
        start=_start(starts),
        mode=last.timings.mode or first.mode,
        threads=last.timings.threads,
        repeats=len(good),
        unit=last.timings.unit,
        tokenizer=last.tokenizer,
        memory_method=last.timings.memory_method,
        other_cpu_cores=mean(looked) if (looked := _others(good)) else None,
        figures=figures,
        error=last.error,
        notes=tuple(dict.fromkeys([*last.warnings, *last.fallbacks])),
        own=own_words(first.request, last.request),
        read_tokens=read,
        taken_in=last.taken_in,
    )


def _others(runs: Sequence[ModelRun]) -> list[float]:
    return [cores for run in runs if (cores := run.timings.other_cpu_cores) is not None]


def _start(cold: set[bool | None]) -> Start | None:
    if len(cold) > 1:
        return "cold, then warm"
    return None if not cold else "cold" if True in cold else "warm"


def _of_measured(model: Measured) -> ModelReceipt:
    figures = {name: _receipt(found) for name, found in model.figures.items()}
    for name, value in (("prompt_tokens", model.prompt_tokens), ("output_tokens", model.output_tokens)):
        if value is not None:
            figures[name] = _receipt(figure(name, "tokens", [value]))
    if model.load_s is not None:
        figures["load_s"] = _receipt(figure("load_s", "s", [model.load_s]))
    return ModelReceipt(
        variant=model.variant,
        runtime=model.runtime,
        precision=model.precision,
        recipe=model.recipe,
        engine=model.engine,
        fidelity=model.fidelity,
        start=None if model.error else "warm",
        mode="fair",
        threads=model.threads,
        repeats=max((len(found.values) for found in model.figures.values()), default=0),
        warm_ups=1,
        unit="chunk" if any(found.unit == "chunks/s" for found in model.figures.values()) else "token",
        tokenizer=model.tokenizer,
        memory_method=model.memory_method,
        other_cpu_cores=model.other_cpu_cores,
        figures=figures,
        error=model.error,
        notes=model.notes,
    )


def _value(run: ModelRun, name: str, read: int) -> float | None:
    if name == "decode_char_s":
        return characters_per_s(run.text, run.timings, read)
    if name == "load_s" and run.timings.cold is False:
        return None  # it was loaded already; 0 is no loading time
    value: float | None = getattr(run.timings, name)
    return value


def _unit(name: str, counted: str) -> str:
    unit = FIGURES[name].unit
    return unit.replace("token", "chunk") if counted == "chunk" and name in _COUNTED else unit


_COUNTED = ("output_tokens", "decode_tok_s")
"""Figures that count what a server sends; the prompt's length comes from the server or not at all."""


def _receipt(found: Figure) -> FigureReceipt:
    known = FIGURES[found.name]
    return FigureReceipt(known.title, found.unit, known.definition, found.values, found.low, found.median, found.high)


# -- in words -----------------------------------------------------------------------------------------------------


def figure_lines(taken: ModelReceipt, name: str) -> list[Line]:
    """What was read of one figure, as (label, text) lines; empty where there is no such figure."""
    found = taken.figures.get(name)
    if found is None:
        return []
    lines: list[Line] = [
        (msg("What"), msg("{figure}, in {unit}", figure=found.title, unit=found.unit)),
        (msg("Definition"), found.definition),
    ]
    middle = {"value": number(found.median), "unit": found.unit}
    if len(found.values) == 1:
        return [*lines, (msg("Value"), msg("{value} {unit}, taken once: no spread is known", **middle))]
    return [
        *lines,
        (msg("Median"), msg("{value} {unit} of {repeats} repeats", repeats=len(found.values), **middle)),
        (
            msg("Middle half"),
            msg(
                "{low} to {high} {unit} (interquartile range, inclusive)",
                low=number(found.low),
                high=number(found.high),
                unit=found.unit,
            ),
        ),
        (msg("Values"), msg("{values}", values=list(map(number, found.values)))),
    ]


def condition_lines(taken: ModelReceipt) -> list[Line]:
    """How one model's figures were taken, as (label, text) lines."""
    ran = {"runtime": taken.runtime, "precision": taken.precision, "recipe": taken.recipe or UNKNOWN}
    way = msg("{runtime}, {precision}, recipe {recipe}", **ran)
    if taken.engine:
        way = msg("{runtime}, {precision}, recipe {recipe}, computed by {engine}", engine=taken.engine, **ran)
    start = STARTS[taken.start] if taken.start else UNKNOWN
    if taken.warm_ups:
        start = msg("{start}, after {answers} answer that does not count", start=start, answers=taken.warm_ups)
    lines: list[Line] = [
        (msg("Model"), foreign(str(taken.variant))),
        *_asked_lines(taken),
        (msg("Ran on"), way),
        (msg("Start"), start),
        (msg("Mode"), MODES[taken.mode] if taken.mode else UNKNOWN),
        (msg("Threads"), UNKNOWN if taken.threads is None else foreign(str(taken.threads))),
        (msg("Repeats"), foreign(str(taken.repeats))),
        (
            msg("Counted in"),
            msg("{unit}; by {who}", unit=UNITS.get(taken.unit, foreign(taken.unit)), who=taken.tokenizer or UNKNOWN),
        ),
        (msg("Export check"), _fidelity_words(taken.fidelity)),
        (msg("Memory read as"), taken.memory_method or UNKNOWN),
    ]
    if taken.other_cpu_cores is not None:
        used = msg("used {percent:.0f} % of a core meanwhile", percent=taken.other_cpu_cores * 100)
        lines.append((msg("Other programs"), used))
    note = msg("Note")
    return lines + [(note, each) for each in taken.notes]


def _asked_lines(taken: ModelReceipt) -> list[Line]:
    lines: list[Line] = [(msg("Asked otherwise"), each) for each in taken.own]
    if taken.read_tokens:
        begins = plural(
            "with {n} token that was read, not chosen; the figures count what was chosen after it",
            "with {n} tokens that were read, not chosen; the figures count what was chosen after them",
            n=taken.read_tokens,
        )
        lines.append((msg("Answer begins"), begins))
    if taken.taken_in:
        carried = msg(
            "in comparison {id}, and carried over as it was; that one says on which machine", id=taken.taken_in
        )
        lines.append((msg("Taken"), carried))
    return lines


STARTS: dict[Start, Translatable] = {
    "cold": msg("cold"),
    "warm": msg("warm"),
    "cold, then warm": msg("cold, then warm"),
}
MODES: dict[Mode, Translatable] = {
    "fair": msg("fair: one model at a time, all threads"),
    "fast": msg("fast: all at once, threads divided"),
}
UNITS = {"token": msg("the model's tokens"), "chunk": msg("chunks of a server, which are not tokens")}


def machine_lines(there: Environment) -> list[Line]:
    """The machine and the software, as (label, text) lines."""
    affinity: str = UNKNOWN if there.cores_affinity is None else str(there.cores_affinity)
    quota: str = msg("no quota") if there.cores_cgroup is None else f"{there.cores_cgroup:g}"
    if there.cores_affinity is None and there.cores_cgroup is None:
        quota = UNKNOWN
    return [
        (msg("Processor"), foreign(there.cpu)),
        (
            msg("Cores"),
            msg(
                "{cores} used; by affinity {affinity}, by cgroup {quota}",
                cores=there.cores,
                affinity=affinity,
                quota=quota,
            ),
        ),
        (msg("Memory limit"), msg("{limit:,.0f} MB", limit=there.memory_limit_mb)),
        (
            msg("Versions"),
            msg("{versions}", versions=[f"{name} {version}" for name, version in there.versions.items()]),
        ),
        (msg("Commit"), foreign(there.commit or UNKNOWN)),
    ]


def number(value: float) -> str:
    """Four digits that matter; whole numbers whole."""
    if value == int(value) and abs(value) < 1e9:
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4g}"


def _fidelity_words(fidelity: Fidelity | None) -> Translatable:
    if fidelity is None:
        return msg("none: the weights run as they are, or nobody here can look at them")
    return msg(
        "{verdict}: {same:.1f} % same top token as {reference}, mean KL {kl:.2g} nats over {positions:,} positions",
        verdict=fidelity.verdict,
        same=fidelity.top1_agreement * 100,
        reference=fidelity.reference,
        kl=fidelity.mean_kl,
        positions=fidelity.positions,
    )
