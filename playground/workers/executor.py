"""What experiments need of whoever computes for them. ``Pool`` has processes on this machine, ``Fleet`` others as well.

A protocol and nothing else: it knows requests, questions and turns, not how they are answered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from playground.records import Cancelled, Event, LoadSpec, ModelSpec, Request
from playground.workers import protocol
from playground.workers.fair_lock import FairLock


class Executor(Protocol):
    """Answers requests by loaded models.

    Attributes:
        budget_mb: Memory that all models together may take, in MB of 10^6 bytes.
        turns: The queue in front of the machine; whoever takes figures holds a turn.
    """

    budget_mb: float
    turns: FairLock

    def lanes(self, spec: ModelSpec) -> int:
        """How many answers of a model may be asked for at the same time, by as many threads. 1 on this machine, where
        a second one would spoil the figures of the first; more where replicas serve it, whose figures rank nothing.
        """

    def generate(self, load: LoadSpec, request: Request, cancelled: Cancelled) -> Iterator[Event]:
        """One answer; what goes wrong is its last event, nothing is raised."""

    def share(self, load: LoadSpec, request: Request, cancelled: Cancelled) -> Iterator[Event]:
        """As ``generate``, of a model with several ``lanes``, while others of its answers are under way: by whoever has
        room. Its figures rank nothing, and it says so.
        """

    def ask(
        self,
        load: LoadSpec,
        question: Callable[[int], protocol.Message],
        cancelled: Cancelled,
        tell: Callable[[float], object] = lambda _: None,
    ) -> protocol.Message:
        """The reply to a question that is no request for an answer. The caller holds a turn.

        Raises:
            Stopped: ``cancelled`` said so.
            PlaygroundError: The model can't be loaded, or can't do what was asked.
        """
