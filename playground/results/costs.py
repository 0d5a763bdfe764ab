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
from typing import Any

from playground.config import validation
from playground.errors import ConfigError, UsageError
from playground.paths import HARDWARE
from playground.records import ModelRun, Record
from playground.results.figures import Measured

ASSUMPTION = (
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
    how: str
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
    document = validation.read_yaml(path)
    where = path.name
    _FILE(document, f"{where}: ")
    beside = {"currency": document["currency"], "source": document["source"], "as_of": str(document["as_of"])}
    tiers = tuple(Tier(**{"note": "", **tier, **beside}) for tier in document["tiers"])
    if len({tier.flavor for tier in tiers}) < len(tiers):
        raise ConfigError(f"{where}: a flavor stands twice", "Name each tier once.")
    return tiers


def chosen(tiers: Sequence[Tier], flavor: str, price: float | None = None) -> tuple[Tier, ...]:
    """The tier of this name, at another price of an hour where one is given; all of them without a name.

    Raises:
        UsageError: No such tier, or a price that is none.
    """
    if price is not None and not (math.isfinite(price) and price >= 0):
        raise UsageError(f"The price of an hour is {price}", "It must be 0 or more.")
    if price is not None and not flavor:
        raise UsageError("A price is given without its tier", "Name the tier it is for.")
    if not flavor:
        return tuple(tiers)
    for tier in tiers:
        if tier.flavor == flavor:
            if price is None:
                return (tier,)
            today = datetime.date.today().isoformat()
            return (Tier(**{**vars(tier), "per_hour": price, "source": "given with the command", "as_of": today}),)
    raise UsageError(f"There is no tier '{flavor}'", f"Known: {', '.join(tier.flavor for tier in tiers)}.")


def of_run(run: ModelRun, tiers: Sequence[Tier]) -> ModelCost:
    """What one finished run says about its model. Only tokens count: a server's chunks have no price here."""
    taken = run.timings
    counted = taken.unit == "token" and run.error is None
    return ModelCost(
        variant=str(run.variant),
        how="one run" if taken.mode == "fair" else "one run beside others: not to be compared",
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
        how=f"median of {repeats} repeats",
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


def _price(value: Any, where: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise ConfigError(f"{where} must be a number of at least 0, not {value!r}", "Mend it.")


def _day(value: Any, where: str) -> None:
    if not isinstance(value, datetime.date):
        raise ConfigError(f"{where} must be a date like 2026-07-21, not {value!r}", "Mend it.")


_FILE = validation.mapping(
    {
        "source": validation.url,
        "as_of": _day,
        "currency": validation.text,
        "tiers": validation.list_of(
            validation.mapping(
                {
                    "flavor": validation.text,
                    "name": validation.text,
                    "vcpu": validation.count,
                    "memory_gb": validation.count,
                    "per_hour": _price,
                },
                {"note": validation.text},
            ),
            least=1,
        ),
    }
)
