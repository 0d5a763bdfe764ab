"""One column of a suite while it is run: what it is, how far it has come, and whether it is worth going on with.

A record that ``suite_job`` changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from playground.errors import PlaygroundError
from playground.experiments.suite_progress import Counter
from playground.messages import NOTHING, Translatable, msg
from playground.records import Artifact, Environment, ModelRun, ModelSpec, Request, SuiteRow, Timings, Variant

GIVE_UP = 3
"""So many times in a row a model's worker may end, or fail to load, before the rest of its column is given up."""


@dataclass(eq=False)
class Lane:
    """One column.

    Attributes:
        refusal: Why it is not even prepared.
        gave_up: Why the rest of it is not run; empty while it goes on.
    """

    place: int
    variant: Variant
    request: Request
    counter: Counter
    spec: ModelSpec | None = None
    artifact: Artifact | None = None
    refusal: PlaygroundError | None = None
    gave_up: Translatable = NOTHING
    _lost: int = 0

    def look_at(self, run: ModelRun) -> None:
        """See whether the model can be run at all: an answer that fails is one prompt's affair, but a worker that ends
        or can't be loaded again and again would be started in vain for every prompt that is left.
        """
        is_lost = run.error is not None and (self._lost == 0 or bool(run.timings.cold))
        self._lost = self._lost + 1 if is_lost else 0
        if self._lost >= GIVE_UP:
            self.gave_up = msg(
                "{model} could not be run {n} times in a row, so the rest of its column was not asked. The last time: "
                "{error}",
                model=self.variant,
                n=self._lost,
                error=run.error,
            )


def in_order(lanes: Sequence[Lane], is_ready: Callable[[Lane], bool]) -> list[Lane]:
    """Columns that can run at once before those that have to be prepared; those of one model together."""
    first = {variant: place for place, variant in reversed([(lane.place, lane.variant) for lane in lanes])}
    return sorted(lanes, key=lambda lane: (not is_ready(lane), first[lane.variant], lane.place))


def failed(lane: Lane, error: Translatable) -> ModelRun:
    """A run that no worker has begun."""
    variant = lane.artifact.variant if lane.artifact else lane.variant
    return ModelRun(lane.variant, variant.runtime, variant.precision, "", "error", Timings(mode="fair"), error)


def texts(row: SuiteRow) -> tuple[str, ...]:
    """What a row asks, in the order a model reads it."""
    return (row.system, row.prompt, *(message.content for message in row.messages))


def length(row: SuiteRow) -> int:
    """Characters of what a row asks."""
    return sum(map(len, texts(row)))


def changed_machine(before: Environment, now: Environment) -> Translatable:
    """That a suite is gone on with elsewhere than it was begun, and in what."""
    told = [
        msg("{name} {before} → {now}", name=name, before=str(one), now=str(other))
        for name, one, other in _facts(before, now)
        if one != other
    ]
    return msg(
        "the machine or the software is not the one the suite was begun on, so timings of both parts are not to be "
        "compared: {changes}",
        changes=told,
    )


def _facts(before: Environment, now: Environment) -> list[tuple[str, object, object]]:
    packages = sorted({*before.versions, *now.versions})
    return [
        ("cpu", before.cpu, now.cpu),
        ("cores", before.cores, now.cores),
        ("memory, MB", round(before.memory_limit_mb), round(now.memory_limit_mb)),
        ("commit", (before.commit or "–")[:12], (now.commit or "–")[:12]),
        *((name, before.versions.get(name, "–"), now.versions.get(name, "–")) for name in packages),
    ]
