"""What one check is given and what it finds; shared by all types of checks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from playground.errors import Reason
from playground.messages import Translatable
from playground.records import ModelRun
from playground.suites.suite import Check


@dataclass(frozen=True)
class Given:
    """An answer and what is known around it; see ``judging.judge``."""

    run: ModelRun
    answer: str
    samples: tuple[str, ...] = ()
    cost: float | None = None
    shared: bool = False


@dataclass(frozen=True)
class Finding:
    """What a check saw, before ``not-`` turns it around.

    Attributes:
        met: Whether the answer has what the type names.
        told: What was seen, true whether it is wanted or not.
        score: 0 to 1 where the type has degrees; None for 1 or 0.
        counts: Whether it could be judged already; what can't, is told only.
    """

    met: bool
    told: Translatable
    score: float | None = None
    counts: bool = True


class Unjudged(Reason):
    """The answer can't be held against this check; it is failed, whichever way round it was asked."""


CheckFunction = Callable[[Check, Given], Finding]
