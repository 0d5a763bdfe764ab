"""All that is needed to run a suite, or to go on with it, beside its header: a value that is kept with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from playground.records import ModelRun, Record, SuiteRun
from playground.results.thinking import parts
from playground.suites.judging import Judgement, judge
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

    def judge(self, row: int, answers: Sequence[ModelRun]) -> Judgement:
        """The last of a row's answers held against the row's checks; the others are the samples before it. What a model
        thought is not judged.
        """
        run = answers[-1]
        return judge(
            self.suite.checks[row],
            run,
            parts(run.text)[1],
            samples=[parts(other.text)[1] for other in answers[:-1] if not other.error],
            threshold=self.suite.thresholds[row],
            cost=self.cost(run),
            shared=run.timings.mode == "fast",
        )

    def without_rows(self) -> SuitePlan:
        """As it is kept: the suite's header has the rows."""
        return replace(self, suite=replace(self.suite, rows=()))

    def with_rows(self, run: SuiteRun) -> SuitePlan:
        """As it was before ``without_rows``."""
        return replace(self, suite=replace(self.suite, rows=run.rows))
