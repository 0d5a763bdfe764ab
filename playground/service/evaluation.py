"""Measured quality of models: begun, kept, found again, and held against each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from playground.evaluation.job import Address, EvaluationJob, Evaluator, Plan
from playground.records import Variant
from playground.results.scores import Evaluation, Scores


class Evaluating:
    """A part of ``Playground``: what benchmarks say of its models."""

    evaluator: Evaluator
    scores_kept: Scores

    def evaluate(
        self,
        models: Sequence[str | Variant],
        plan: Plan,
        open_door: Callable[[], AbstractContextManager[Address]],
    ) -> EvaluationJob:
        """Begin an evaluation; the scores of each model are kept as soon as they are there.

        Args:
            models: Each ``MODEL[@RUNTIME-PRECISION]``.
            open_door: Opens the product's own door for as long as it is asked: the front end's part.

        Raises:
            UsageError: lm-eval is not installed, or the plan or a model is wrong; no work was begun.
        """
        return self.evaluator.start(models, plan, open_door, self.scores_kept.save)

    def evaluations(self, limit: int = 1000) -> list[Evaluation]:
        """The newest scores that are kept, the newest first.

        Raises:
            StorageError: The database can't be read.
        """
        return self.scores_kept.newest(limit)
