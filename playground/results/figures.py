"""Repeated figures as values: the spread of each, and what may be said of two.

A ``Measurement`` is what the bench and the Measure button make, and what costs, verdicts and pictures read. The module
knows arithmetic; it does not know how anything was run.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from playground.messages import NOTHING, Translatable, msg
from playground.records import ON_ACCELERATOR, Environment, Fidelity, Record, Request, Timings, Variant
from playground.system.contention import BUSY_CORES


@dataclass(frozen=True)
class Figure(Record):
    """One quantity of one model, taken ``len(values)`` times.

    Attributes:
        name: As in ``Timings`` where it comes from there (``decode_tok_s``, ``ttft_s``, ``peak_memory_mb`` …).
        unit: ``s``, ``tokens/s``, ``characters/s``, ``MB``, ….
        values: In the order they were taken.
        low, median, high: The quartiles of ``values``.
    """

    name: str
    unit: str
    values: tuple[float, ...]
    low: float
    median: float
    high: float


ONE_LOAD = msg(
    "The spread is that of repeats on one loaded model: on a virtual machine another load, or another hour, can "
    "differ by more."
)
"""Said beside every measurement: Gemma 3 270M decoded at 94, 100 and 148 tokens/s in three of them, each within 1 %."""


@dataclass(frozen=True)
class Measured(Record):
    """One model's part of a measurement: its figures by name, or an error, always.

    Attributes:
        variant: What was asked for; ``runtime`` and ``precision`` are what really ran.
        threads: Threads the runtime was given.
        output_tokens: Tokens of each repeat's answer: fixed, for equal work.
        tokenizer: Who counted the tokens, in words.
        memory_method: How the peak of memory was read.
        load_s: Loading before the first warm-up; None if the model was loaded already. Taken once, so not a figure.
        others_cores: Cores that other programs kept busy while it answered.
    """

    variant: Variant
    runtime: str = ""
    precision: str = ""
    recipe: str | None = None
    engine: str | None = None
    fidelity: Fidelity | None = None
    threads: int | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    figures: dict[str, Figure] = field(default_factory=dict)
    error: Translatable | None = None
    notes: tuple[Translatable, ...] = ()
    tokenizer: Translatable | None = None
    memory_method: Translatable | None = None
    load_s: float | None = None
    other_cpu_cores: float | None = None


@dataclass(frozen=True)
class Measurement(Record):
    """Several models on one prompt, repeated in rotated order on a machine that was, or was not, idle.

    Attributes:
        request: As it was sent: ``min_new_tokens`` equals ``max_new_tokens``.
        warnings: What a reader should know before believing a figure, e.g. that the machine was busy.
        others_cores: Cores that other programs kept busy just before, while nothing of ours ran.
    """

    id: str
    created_at: str
    request: Request
    repeats: int
    models: tuple[Measured, ...]
    environment: Environment
    warnings: tuple[Translatable, ...] = ()
    other_cpu_cores: float | None = None


def figure(name: str, unit: str, values: Sequence[float]) -> Figure:
    """Quartiles by the inclusive method: between the values themselves, so that few of them don't make up extremes.

    Raises:
        ValueError: There are no values.
    """
    if not values:
        raise ValueError(f"no values: {name}")
    low = median = high = float(values[0])
    if len(values) > 1:
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Figure(name, unit, tuple(values), low, median, high)


def iqr_disjoint(one: Figure, other: Figure) -> bool:
    """Whether the interquartile ranges do not touch: only then does an order mean anything."""
    return one.high < other.low or other.high < one.low


@dataclass(frozen=True)
class Quantity:
    """One figure as every table, chart, receipt and report knows it.

    Attributes:
        unit: As in ``Figure.unit``.
        title: How a page and a receipt call it.
        definition: What it is the time, rate or size of; docs/measurement.md says more.
        heading: How a table of the terminal calls it, unit included.
        best: Which end is better; None where neither is.
        brief: The definition in a few words, for small print.
        factor: By which the terminal's table multiplies it, for the heading's unit.
        digits: Behind the point, in the heading's unit.
    """

    unit: str
    title: Translatable
    definition: Translatable
    heading: Translatable
    best: Literal["low", "high"] | None = None
    brief: Translatable = NOTHING
    factor: float = 1.0
    digits: int = 0

    @property
    def direction(self) -> Translatable:
        """What a reader of bars is told."""
        return {"low": msg("shorter is better"), "high": msg("longer is better"), None: NOTHING}[self.best]

    def shown(self, value: float | None, more: int = 0) -> str:
        """The value in the heading's unit, with ``more`` digits than usual; a dash where there is none."""
        return "–" if value is None else f"{value * self.factor:,.{self.digits + more}f}"


FIGURES = {
    "ttft_s": Quantity(
        "s",
        msg("Time to first token"),
        msg("from the start of tokenising to the first token's id; no load, no queue, no screen"),
        msg("time to first token, ms"),
        best="low",
        factor=1e3,
        brief=msg("from the start of tokenising; no load, no queue"),
    ),
    "prefill_tok_s": Quantity(
        "tokens/s",
        msg("Prefill rate"),
        msg("prompt tokens read (not those reused) ÷ time from tokenised to the logits behind the last"),
        msg("prefill, tok/s"),
        best="high",
        brief=msg("prompt tokens ÷ prefill time"),
    ),
    "decode_tok_s": Quantity(
        "tokens/s",
        msg("Decode rate"),
        msg("(n − 1) ÷ (moment of token n − moment of token 1)"),
        msg("decode, tok/s"),
        best="high",
        digits=1,
        brief=msg("(n − 1) ÷ (last − first token)"),
    ),
    "decode_char_s": Quantity(
        "characters/s",
        msg("Decode rate in characters"),
        msg("characters of the answer ÷ its tokens × decode rate: comparable between tokenizers"),
        msg("decode, characters/s"),
        best="high",
        digits=1,
        brief=msg("characters a token × decode rate: comparable between tokenizers"),
    ),
    "prompt_tokens": Quantity(
        "tokens",
        msg("Prompt"),
        msg("length of the prompt as the model reads it, template included"),
        msg("prompt, tokens"),
        brief=msg("in the model's own tokens, template included"),
    ),
    "reused_tokens": Quantity(
        "tokens",
        msg("Reused"),
        msg("tokens of the prompt that a warm model had read already"),
        msg("of them reused, tokens"),
    ),
    "output_tokens": Quantity(
        "tokens",
        msg("Answer"),
        msg("token ids generated, the end of turn included"),
        msg("output, tokens"),
        brief=msg("tokens generated"),
    ),
    "total_s": Quantity(
        "s",
        msg("Total"),
        msg("from the start of tokenising to the end of the answer"),
        msg("total, s"),
        best="low",
        digits=2,
        brief=msg("from the start of tokenising to the end"),
    ),
    "cpu_s": Quantity(
        "s",
        msg("CPU time of an answer"),
        msg("processor time of all threads of the worker, from the request's arrival to the answer's end"),
        msg("CPU time, s"),
        best="low",
        digits=2,
        brief=msg("of all threads of the model's process"),
    ),
    "queue_s": Quantity(
        "s",
        msg("Waiting"),
        msg("from being prepared until work on this model began; in no other figure"),
        msg("queue, s"),
        digits=2,
        brief=msg("for its turn, once it was prepared"),
    ),
    "load_s": Quantity(
        "s",
        msg("Loading"),
        msg("start of the worker process to a warmed-up model; in no other figure"),
        msg("load, s"),
        digits=2,
        brief=msg("weights into memory, one warm-up"),
    ),
    "tokenize_s": Quantity(
        "s",
        msg("Tokenising"),
        msg("chat template rendered and turned into token ids"),
        msg("tokenising, ms"),
        factor=1e3,
        digits=1,
        brief=msg("prompt to token ids"),
    ),
    "peak_memory_mb": Quantity(
        "MB",
        msg("Peak memory"),
        msg("most resident memory of the worker process (MB of 10^6 bytes; files it mapped count once touched)"),
        msg("peak memory, MB"),
        best="low",
        brief=msg("of the model's own process"),
    ),
    "expected_memory_mb": Quantity(
        "MB",
        msg("Expected memory"),
        msg("what the model was expected to take, before it was loaded"),
        msg("expected memory, MB"),
    ),
}
"""Every figure by name, as in ``Timings`` where it comes from there: the one table of them, in a reader's order."""

QUANTITIES = {name: quantity for name, quantity in FIGURES.items() if quantity.best}
"""Those that a measurement takes and ranks. One in another unit (a server's chunks) is shown and not ranked."""

CHOICE = {name: QUANTITIES[name] for name in ("decode_tok_s", "ttft_s", "peak_memory_mb")}
"""Those that models are chosen by."""

MIN_TO_RANK = 3
"""Fewer values have no spread to speak of: two quick ones prove nothing."""


MIXED = "†"
"""Stands behind every rank in an order of figures that different engines took."""


def engine_of(engine: str | None, runtime: str) -> str:
    """What computed a figure: ``kernels avx2``, ``torch``; "" where it was not written down.

    The runtime ``onnx`` does not say: the playground's kernels and ONNX Runtime both answer for it.
    """
    return engine or ("" if runtime == "onnx" else runtime)


def engines_note(engines: Iterable[str]) -> Translatable:
    """The sentence below figures of different engines, which names them; NOTHING where one engine took all.

    Args:
        engines: As ``engine_of`` has them; "" is told as unknown.
    """
    found = sorted(set(engines), key=lambda name: (not name, name))
    if len(found) < 2:
        return NOTHING
    names = [name or msg("unknown") for name in found]
    return msg(
        "Different engines took these figures: {engines}. An order is of model and engine together.", engines=names
    )


def share_of_cores(cores: float) -> Translatable:
    if cores < 1:
        return msg("{percent:.0f} % of a core", percent=cores * 100)
    return msg("{cores:.1f} cores", cores=cores)


def others_note(taken: Iterable[Timings]) -> Translatable:
    """The sentence below figures that were taken beside other programs; NOTHING where none was, or nobody looked."""
    most = max((each.other_cpu_cores or 0.0 for each in taken), default=0.0)
    if most <= BUSY_CORES:
        return NOTHING
    return msg(
        "Other programs, the browser that shows this among them, used up to {share} meanwhile: on an idle machine "
        "these figures may be better.",
        share=share_of_cores(most),
    )


def rank_note(measurement: Measurement) -> Translatable:
    """What a reader of its ranks is told of engines, the mark first; NOTHING where none of its ranks is marked."""
    ranked = {
        place
        for name in QUANTITIES
        for place, found in enumerate(ranks_of(measurement, name))
        if found is not None and found.mixed
    }
    note = engines_note(_engine(measurement.models[place]) for place in ranked)
    return msg("{mark}: {note}", mark=MIXED, note=note) if note else NOTHING


def _engine(model: Measured) -> str:
    return engine_of(model.engine, model.runtime)


@dataclass(frozen=True)
class Place(Record):
    """A place in an order.

    Attributes:
        rank: From 1; models between which no difference is seen have the same one.
        shared: Whether others have it too.
        mixed: Whether the figures of the order were taken by different engines: it is one of models with their engines.
    """

    rank: int
    shared: bool
    mixed: bool = False

    @property
    def mark(self) -> str:
        """What stands behind a rank between engines; ``engines_note`` says what it means."""
        return MIXED if self.mixed else ""


def ranks_of(measurement: Measurement, name: str) -> tuple[Place | None, ...]:
    """The order of the models by one figure, as far as it shows; in the order of ``measurement.models``.

    Models whose interquartile ranges overlap, directly or through others between them, share a rank. None for a model
    that can't be ranked: no such figure, another unit, fewer than ``MIN_TO_RANK`` values, or unequal work (an
    answer of another length); for one on an accelerator, where not all are on the same; and for all where fewer than
    two are left. Where those that are left were computed by
    different engines, each place says so (``mixed``).
    """
    quantity = QUANTITIES[name]
    found = {
        index: model.figures[name]
        for index, model in enumerate(measurement.models)
        if name in model.figures
        and model.figures[name].unit == quantity.unit
        and len(model.figures[name].values) >= MIN_TO_RANK
        and model.output_tokens == measurement.request.max_new_tokens
    }
    accelerated = {index for index in found if _engine(measurement.models[index]).startswith(ON_ACCELERATOR)}
    if accelerated and len({_engine(measurement.models[index]) for index in found}) > 1:
        found = {index: taken for index, taken in found.items() if index not in accelerated}
    if len(found) < 2:
        return (None,) * len(measurement.models)
    order = sorted(found, key=lambda index: found[index].low)
    groups = [[order[0]]]
    for index in order[1:]:
        if found[index].low > max(found[earlier].high for earlier in groups[-1]):
            groups.append([index])
        else:
            groups[-1].append(index)
    if quantity.best == "high":
        groups.reverse()
    mixed = len({_engine(measurement.models[index]) for index in found}) > 1
    ranks: dict[int, Place] = {}
    ahead = 0
    for group in groups:
        ranks |= dict.fromkeys(group, Place(ahead + 1, len(group) > 1, mixed))
        ahead += len(group)
    return tuple(ranks.get(index) for index in range(len(measurement.models)))


def characters_per_s(text: str, timings: Timings, read: int = 0) -> float | None:
    """Characters of the answer in each of its tokens (or chunks), times the decode rate: tokenizers cut differently,
    and this rate can be compared between them. None where the decode rate is, or where there is no text.

    Args:
        read: Tokens that ``text`` begins with and that were read, not chosen (``Request.answer_ids``).
    """
    if timings.decode_tok_s is None or not timings.output_tokens or not text:
        return None
    return len(text) / (timings.output_tokens + read) * timings.decode_tok_s
