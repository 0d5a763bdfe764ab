"""Repeated figures as values: the spread of each, and what may be said of two.

A ``Measurement`` is what the bench and the Measure button make, and what costs, verdicts and pictures read. The module
knows arithmetic; it does not know how anything was run.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from playground.messages import Translatable
from playground.records import Environment, Fidelity, Record, Request, Timings, Variant


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


ONE_LOAD = (
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
        raise ValueError(f"{name} has no values")
    low = median = high = float(values[0])
    if len(values) > 1:
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Figure(name, unit, tuple(values), low, median, high)


def iqr_disjoint(one: Figure, other: Figure) -> bool:
    """Whether the interquartile ranges do not touch: only then does an order mean anything."""
    return one.high < other.low or other.high < one.low


@dataclass(frozen=True)
class Quantity:
    """What is measured: its unit, which end is better, and how a table calls it."""

    unit: str
    best: Literal["low", "high"]
    title: str


QUANTITIES = {
    "ttft_s": Quantity("s", "low", "Time to first token"),
    "prefill_tok_s": Quantity("tokens/s", "high", "Prefill rate"),
    "decode_tok_s": Quantity("tokens/s", "high", "Decode rate"),
    "decode_char_s": Quantity("characters/s", "high", "Decode rate in characters"),
    "total_s": Quantity("s", "low", "Total"),
    "cpu_s": Quantity("s", "low", "CPU time of an answer"),
    "peak_memory_mb": Quantity("MB", "low", "Peak memory"),
}
"""The figures of a measurement, by name. A figure in another unit (a server's chunks) is shown and not ranked."""

MIN_TO_RANK = 3
"""Fewer values have no spread to speak of: two quick ones prove nothing."""


@dataclass(frozen=True)
class Place(Record):
    """A place in an order.

    Attributes:
        rank: From 1; models between which no difference is seen have the same one.
        shared: Whether others have it too.
    """

    rank: int
    shared: bool


def ranks_of(measurement: Measurement, name: str) -> tuple[Place | None, ...]:
    """The order of the models by one figure, as far as it shows; in the order of ``measurement.models``.

    Models whose interquartile ranges overlap, directly or through others between them, share a rank. None for a model
    that can't be ranked: no such figure, another unit, fewer than ``MIN_TO_RANK`` values, or unequal work (an
    answer of another length); and for all where fewer than two are left.
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
    ranks: dict[int, Place] = {}
    ahead = 0
    for group in groups:
        ranks |= dict.fromkeys(group, Place(ahead + 1, len(group) > 1))
        ahead += len(group)
    return tuple(ranks.get(index) for index in range(len(measurement.models)))


def characters_per_s(text: str, timings: Timings) -> float | None:
    """Characters of the answer in each of its tokens (or chunks), times the decode rate: tokenizers cut differently,
    and this rate can be compared between them. None where the decode rate is, or where there is no text.
    """
    if timings.decode_tok_s is None or not timings.output_tokens or not text:
        return None
    return len(text) / timings.output_tokens * timings.decode_tok_s
