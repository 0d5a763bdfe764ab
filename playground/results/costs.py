"""What an answer costs: memory, processor time, and money on rented hardware at the speed that was measured here.

    money for 10^6 tokens = price of an hour / 3600 s × 10^6 / tokens a second

That is one request at a time on a machine that never waits, at this machine's speed and not the tier's: a lower bound
of what a service pays, and good for comparing models. Prices come from ``hardware.yaml`` with their source and date.
The module knows figures and prices; it measures nothing.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from playground.config import validation
from playground.errors import ConfigError, UsageError
from playground.messages import Translatable, msg
from playground.paths import HARDWARE
from playground.records import ModelRun, Record
from playground.results.figures import Measured

ASSUMPTION = msg(
    "At the speed measured on this machine, one request after the other, never idle: what a tier of other cores would "
    "reach is not known here."
)


@dataclass(frozen=True)
class Tier(Record):
    """Hardware for rent; ``per_hour`` in ``currency``."""

    flavor: str
    name: str
    vcpu: int
    memory_gb: float
    per_hour: float
    currency: str
    source: str
    as_of: str
    note: str = ""


@dataclass(frozen=True)
class Cost(Record):
    """One model on one tier. Money for 10^6 tokens is None where the speed was not measured.

    Attributes:
        fits: Whether the peak memory fits the tier; None where the peak is unknown.
    """

    tier: str
    output_million: float | None
    prompt_million: float | None
    fits: bool | None


@dataclass(frozen=True)
class ModelCost(Record):
    """What one run of a model cost, and would cost.

    Attributes:
        how: What the figures were taken from, in words.
        cpu_s_per_answer: Processor time of the worker for this answer.
        cache_mb_per_1000: Keys and values of 1,000 tokens of prompt and answer.
    """

    variant: str
    how: Translatable
    output_tokens: int | None
    cpu_s_per_answer: float | None
    peak_memory_mb: float | None
    expected_memory_mb: float | None
    disk_mb: float | None
    cache_mb_per_1000: float | None
    tiers: tuple[Cost, ...]


def load_tiers(path: Path = HARDWARE) -> tuple[Tier, ...]:
    """The tiers of a file like ``hardware.yaml``.

    Raises:
        ConfigError: It can't be read or says something else; names the place.
    """
    from playground.results.price_file import PriceFile

    file = validation.checked(PriceFile, validation.read_yaml(path), f"{path.name}: ")
    tiers = tuple(
        Tier(**tier.model_dump(), currency=file.currency, source=file.source, as_of=str(file.as_of))
        for tier in file.tiers
    )
    if len({tier.flavor for tier in tiers}) < len(tiers):
        raise ConfigError(msg("{file}: a flavor stands twice", file=path.name), msg("Name each tier once."))
    return tiers


def chosen(tiers: Sequence[Tier], flavor: str, price: float | None = None) -> tuple[Tier, ...]:
    """The tier of this name, at another price of an hour where one is given; all of them without a name.

    Raises:
        UsageError: No such tier, or a price that is none.
    """
    if price is not None and not (math.isfinite(price) and price >= 0):
        raise UsageError(msg("The price of an hour is {price}", price=price), msg("It must be 0 or more."))
    if price is not None and not flavor:
        raise UsageError(msg("A price is given without its tier"), msg("Name the tier it is for."))
    if not flavor:
        return tuple(tiers)
    for tier in tiers:
        if tier.flavor == flavor:
            if price is None:
                return (tier,)
            today = datetime.date.today().isoformat()
            return (replace(tier, per_hour=price, source=msg("given with the command"), as_of=today),)
    known = [tier.flavor for tier in tiers]
    raise UsageError(msg("There is no tier '{flavor}'", flavor=flavor), msg("Known: {names}.", names=known))


def of_run(run: ModelRun, tiers: Sequence[Tier]) -> ModelCost:
    """What one finished run says about its model. Only tokens count: a server's chunks have no price here."""
    taken = run.timings
    counted = taken.unit == "token" and run.error is None
    return ModelCost(
        variant=str(run.variant),
        how=msg("one run") if taken.mode == "fair" else msg("one run beside others: not to be compared"),
        output_tokens=taken.output_tokens,
        cpu_s_per_answer=taken.cpu_s,
        peak_memory_mb=taken.peak_memory_mb,
        expected_memory_mb=taken.expected_memory_mb,
        disk_mb=taken.disk_mb,
        cache_mb_per_1000=taken.cache_mb_per_1000,
        tiers=_on(
            tiers,
            taken.decode_tok_s if counted else None,
            taken.prefill_tok_s if counted else None,
            taken.peak_memory_mb,
        ),
    )


def with_medians(cost: ModelCost, measured: Measured, tiers: Sequence[Tier]) -> ModelCost:
    """The same model with the medians of a measurement in place of one run's figures, as far as it has them."""
    median = {name: figure.median for name, figure in measured.figures.items()}
    repeats = max((len(figure.values) for figure in measured.figures.values()), default=0)
    peak = median.get("peak_memory_mb", cost.peak_memory_mb)
    return replace(
        cost,
        how=msg("median of {repeats} repeats", repeats=repeats),
        output_tokens=measured.output_tokens,
        cpu_s_per_answer=median.get("cpu_s", cost.cpu_s_per_answer),
        peak_memory_mb=peak,
        tiers=_on(tiers, median.get("decode_tok_s"), median.get("prefill_tok_s"), peak),
    )


def _on(tiers: Sequence[Tier], decode: float | None, prefill: float | None, peak_mb: float | None) -> tuple[Cost, ...]:
    return tuple(
        Cost(
            tier.flavor,
            per_million(tier.per_hour, decode),
            per_million(tier.per_hour, prefill),
            None if peak_mb is None else peak_mb <= tier.memory_gb * 1000,
        )
        for tier in tiers
    )


def per_million(per_hour: float, tokens_a_second: float | None) -> float | None:
    """Money for 10^6 tokens; None where the speed is unknown."""
    return None if not tokens_a_second else per_hour / 3600 * 1e6 / tokens_a_second
