"""All that is needed to run a suite, or to go on with it, beside its header: a value that is kept with it."""

from __future__ import annotations

from dataclasses import dataclass

from playground.records import ModelRun, Record
from playground.suites.suite import Suite


@dataclass(frozen=True)
class SuitePlan(Record):
    """What is needed to run a suite, or to go on with it, beside its header.

    Attributes:
        price_per_hour: Of this machine, in US dollars; None where nobody said.
    """

    suite: Suite
    price_per_hour: float | None = None

    def cost(self, run: ModelRun) -> float | None:
        """What an answer costs, in US dollars: its time, without loading and waiting, at the price of an hour."""
        if self.price_per_hour is None or run.timings.total_s is None:
            return None
        return run.timings.total_s * self.price_per_hour / 3600
