"""Experiments that are going on: begun, found again by their id, and kept as they go.

It knows which experiments there are and who asked for them; it knows nothing of how any of them works.
"""

from __future__ import annotations

from collections.abc import Sequence

from playground.experiments.benchmark import BenchmarkJob, Measurer
from playground.experiments.compare import CompareJob, Comparer
from playground.experiments.diff import DiffJob, VariantDiffer
from playground.experiments.replay import Replayer, ReplayJob
from playground.experiments.token_view import TokenViewer, TokenViewJob
from playground.records import Comparison, Mode, Request, Variant


class Experiments:
    """A part of ``Playground``: what it runs."""

    comparer: Comparer
    measurer: Measurer
    differ: VariantDiffer
    replayer: Replayer
    token_viewer: TokenViewer

    def compare(self, request: Request, variants: Sequence[Variant], mode: Mode = "fair") -> CompareJob:
        """Begin a comparison.

        Raises:
            UsageError: The request, a model or the list is wrong; no work was begun.
        """
        return self.comparer.start(request, variants, mode)

    def benchmark(self, request: Request, variants: Sequence[Variant], repeats: int) -> BenchmarkJob:
        """Begin a measurement.

        Raises:
            UsageError: The request, a model or the number of repeats is wrong; no work was begun.
        """
        return self.measurer.start(request, variants, repeats)

    def diff(
        self, request: Request, reference: str | Variant, candidate: str | Variant, *, with_prompt: bool = False
    ) -> DiffJob:
        """Begin to compare two variants of one model token by token.

        Raises:
            UsageError: The request is wrong, or the two can't be compared by tokens; no work was begun.
        """
        return self.differ.start(request, reference, candidate, with_prompt=with_prompt)

    def replay(self, stored: Comparison) -> ReplayJob:
        """Begin to run a stored comparison once more.

        Raises:
            UsageError: It can't be run again; no work was begun.
        """
        return self.replayer.start(stored)

    def token_view(self, stored: Comparison, column: int) -> TokenViewJob:
        """Begin to look at a stored answer token by token.

        Raises:
            UsageError: There is no such column, or its answer can't be looked at; no work was begun.
        """
        return self.token_viewer.start(stored, column)
