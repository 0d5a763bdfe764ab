"""The receipt of each figure: what it means, its values and spread, and under which conditions it was taken.

Made from a finished comparison or measurement, kept nowhere: whoever has the figures can make it again. What was not
noted down is said to be unknown, never guessed. The module knows records; it does not know the screen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from playground.messages import Translatable
from playground.records import Comparison, Environment, Fidelity, Mode, ModelRun, Record, Variant
from playground.results.figures import QUANTITIES, Figure, Measured, Measurement, characters_per_s, figure

UNKNOWN = "not noted down"

DEFINITIONS: dict[str, tuple[str, str, str]] = {
    "queue_s": ("Waiting", "s", "from being prepared until work on this model began; in no other figure"),
    "load_s": ("Loading", "s", "start of the worker process to a warmed-up model; in no other figure"),
    "tokenize_s": ("Tokenising", "s", "chat template rendered and turned into token ids"),
    "prompt_tokens": ("Prompt", "tokens", "length of the prompt as the model reads it, template included"),
    "output_tokens": ("Answer", "tokens", "token ids generated, the end of turn included"),
    "ttft_s": (
        QUANTITIES["ttft_s"].title,
        "s",
        "from the start of tokenising to the first token's id; no load, no queue, no screen",
    ),
    "prefill_tok_s": (
        QUANTITIES["prefill_tok_s"].title,
        "tokens/s",
        "prompt tokens read (not those reused) ÷ time from tokenised to the logits behind the last",
    ),
    "decode_tok_s": (QUANTITIES["decode_tok_s"].title, "tokens/s", "(n − 1) ÷ (moment of token n − moment of token 1)"),
    "decode_char_s": (
        QUANTITIES["decode_char_s"].title,
        "characters/s",
        "characters of the answer ÷ its tokens × decode rate: comparable between tokenizers",
    ),
    "total_s": (QUANTITIES["total_s"].title, "s", "from the start of tokenising to the end of the answer"),
    "cpu_s": (
        QUANTITIES["cpu_s"].title,
        "s",
        "processor time of all threads of the worker, from the request's arrival to the answer's end",
    ),
    "peak_memory_mb": (
        QUANTITIES["peak_memory_mb"].title,
        "MB",
        "most resident memory of the worker process (MB of 10^6 bytes; files it mapped count once touched)",
    ),
}
"""Title, unit and definition of each figure; docs/measurement.md says more."""


@dataclass(frozen=True)
class FigureReceipt(Record):
    """One figure: what it means and what was read.

    Attributes:
        values: One for each repeat, in the order they were taken.
        low, median, high: Quartiles by the inclusive method; of one value, all three are that value.
    """

    title: str
    unit: str
    definition: str
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
    """

    variant: Variant
    runtime: str
    precision: str
    recipe: str | None = None
    engine: str | None = None
    fidelity: Fidelity | None = None
    start: str | None = None
    mode: Mode | None = None
    threads: int | None = None
    repeats: int = 1
    warm_ups: int = 0
    unit: str = "token"
    tokenizer: str | None = None
    memory_method: Translatable | None = None
    other_cpu_cores: float | None = None
    figures: dict[str, FigureReceipt] = field(default_factory=dict)
    error: str | None = None
    notes: tuple[str, ...] = ()


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
    warnings: tuple[str, ...] = ()


def of_comparisons(comparisons: Sequence[Comparison]) -> Receipts:
    """Of one comparison, or of one that was repeated: same request, same models, one value a repeat."""
    first = comparisons[0]
    models = [
        _of_runs([comparison.runs[place] for comparison in comparisons], first.mode) for place in range(len(first.runs))
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


def _of_runs(runs: Sequence[ModelRun], mode: Mode) -> ModelReceipt:
    """Repeats of one model; those that failed have no figures to give."""
    good = [run for run in runs if run.error is None] or list(runs)
    last = good[-1]
    starts = {run.timings.cold for run in good} - {None}
    figures = {}
    for name in DEFINITIONS:
        values = [value for run in good if (value := _value(run, name)) is not None]
        if values:
            figures[name] = _receipt(figure(name, _unit(name, last.timings.unit), values))
    return ModelReceipt(
        variant=last.variant,
        runtime=last.runtime,
        precision=last.precision,
        recipe=last.recipe,
        engine=last.engine,
        fidelity=last.fidelity,
        start={0: None, 2: "cold, then warm"}.get(len(starts), "cold" if True in starts else "warm"),
        mode=last.timings.mode or mode,
        threads=last.timings.threads,
        repeats=len(good),
        unit=last.timings.unit,
        tokenizer=last.tokenizer,
        memory_method=last.timings.memory_method,
        figures=figures,
        error=last.error,
        notes=tuple(dict.fromkeys([*last.warnings, *last.fallbacks])),
    )


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


def _value(run: ModelRun, name: str) -> float | None:
    if name == "decode_char_s":
        return characters_per_s(run.text, run.timings)
    if name == "load_s" and run.timings.cold is False:
        return None  # it was loaded already; 0 is no loading time
    value: float | None = getattr(run.timings, name)
    return value


def _unit(name: str, counted: str) -> str:
    unit = DEFINITIONS[name][1]
    return unit.replace("token", "chunk") if counted == "chunk" and name in _COUNTED else unit


_COUNTED = ("output_tokens", "decode_tok_s")
"""Figures that count what a server sends; the prompt's length comes from the server or not at all."""


def _receipt(found: Figure) -> FigureReceipt:
    title, _, definition = DEFINITIONS[found.name]
    return FigureReceipt(title, found.unit, definition, found.values, found.low, found.median, found.high)


# -- in words -----------------------------------------------------------------------------------------------------


def figure_lines(taken: ModelReceipt, name: str) -> list[tuple[str, str]]:
    """What was read of one figure, as (label, text) lines; empty where there is no such figure."""
    found = taken.figures.get(name)
    if found is None:
        return []
    lines = [("What", f"{found.title}, in {found.unit}"), ("Definition", found.definition)]
    if len(found.values) == 1:
        return [*lines, ("Value", f"{number(found.median)} {found.unit}, taken once: no spread is known")]
    return [
        *lines,
        ("Median", f"{number(found.median)} {found.unit} of {len(found.values)} repeats"),
        ("Middle half", f"{number(found.low)} to {number(found.high)} {found.unit} (interquartile range, inclusive)"),
        ("Values", ", ".join(map(number, found.values))),
    ]


def condition_lines(taken: ModelReceipt) -> list[tuple[str, str]]:
    """How one model's figures were taken, as (label, text) lines."""
    way = f"{taken.runtime}, {taken.precision}, recipe {taken.recipe or UNKNOWN}"
    if taken.engine:
        way += f", computed by {taken.engine}"
    warm_up = f", after {taken.warm_ups} answer that does not count" if taken.warm_ups else ""
    mode = {"fair": "fair: one model at a time, all threads", "fast": "fast: all at once, threads divided"}
    unit = {"token": "the model's tokens", "chunk": "chunks of a server, which are not tokens"}
    lines = [
        ("Model", str(taken.variant)),
        ("Ran on", way),
        ("Start", f"{taken.start or UNKNOWN}{warm_up}"),
        ("Mode", mode[taken.mode] if taken.mode else UNKNOWN),
        ("Threads", UNKNOWN if taken.threads is None else str(taken.threads)),
        ("Repeats", str(taken.repeats)),
        ("Counted in", f"{unit.get(taken.unit, taken.unit)}; by {taken.tokenizer or UNKNOWN}"),
        ("Export check", _fidelity_words(taken.fidelity)),
        ("Memory read as", taken.memory_method or UNKNOWN),
    ]
    if taken.other_cpu_cores is not None:
        lines.append(("Other programs", f"used {taken.other_cpu_cores * 100:.0f} % of a core meanwhile"))
    return lines + [("Note", note) for note in taken.notes]


def machine_lines(there: Environment) -> list[tuple[str, str]]:
    """The machine and the software, as (label, text) lines."""
    affinity = UNKNOWN if there.cores_affinity is None else str(there.cores_affinity)
    quota = "no quota" if there.cores_cgroup is None else f"{there.cores_cgroup:g}"
    if there.cores_affinity is None and there.cores_cgroup is None:
        quota = UNKNOWN
    return [
        ("Processor", there.cpu),
        ("Cores", f"{there.cores} used; by affinity {affinity}, by cgroup {quota}"),
        ("Memory limit", f"{there.memory_limit_mb:,.0f} MB"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in there.versions.items())),
        ("Commit", there.commit or UNKNOWN),
    ]


def number(value: float) -> str:
    """Four digits that matter; whole numbers whole."""
    if value == int(value) and abs(value) < 1e9:
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4g}"


def _fidelity_words(fidelity: Fidelity | None) -> str:
    if fidelity is None:
        return "none: the weights run as they are, or nobody here can look at them"
    return (
        f"{fidelity.verdict}: {fidelity.top1_agreement * 100:.1f} % same top token as {fidelity.reference}, mean KL "
        f"{fidelity.mean_kl:.2g} nats over {fidelity.positions:,} positions"
    )


# -- who counts ---------------------------------------------------------------------------------------------------
