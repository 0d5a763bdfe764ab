"""Whether the machine is idle: the processor time that others used, read before and after from the system's counters.

"Others" is whatever is not this process or one of its children. The module knows counters; it does not know models.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

import psutil

from playground.system import cgroups

BUSY_CORES = 0.1
"""Others that use less than a tenth of a core hide in the noise of the figures."""

SHORTEST_S = 0.3
"""A look that is shorter says nothing: the counters tick a hundred times a second, for each core by itself."""


@dataclass(frozen=True)
class Counters:
    """The clocks at one moment, in seconds.

    Attributes:
        at: Wall time, by ``time.monotonic()``.
        used: Processor time that everything on our cores has used since the machine started.
        own: Processor time of this process and its children, those that ended included.
        throttled: How long the container's quota has kept its threads from running; 0 without a quota.
    """

    at: float
    used: float
    own: float
    throttled: float = 0.0


@dataclass(frozen=True)
class CpuContention:
    """What came between two readings, or several pairs of them: ``+`` adds them up.

    Attributes:
        wall_s: Time looked at.
        others_s: Processor time that others used.
        throttled_s: See ``Counters``.
    """

    wall_s: float = 0.0
    others_s: float = 0.0
    throttled_s: float = 0.0

    def __add__(self, other: CpuContention) -> CpuContention:
        return CpuContention(
            self.wall_s + other.wall_s, self.others_s + other.others_s, self.throttled_s + other.throttled_s
        )

    @property
    def cores(self) -> float | None:
        """Cores that others kept busy on average; None where that was not looked at for long enough. A look of a second
        is right to 0.02 or so.
        """
        return max(0.0, self.others_s / self.wall_s) if self.wall_s >= SHORTEST_S else None

    @property
    def busy(self) -> bool:
        return (self.cores or 0.0) > BUSY_CORES


def read() -> Counters:
    """The clocks now."""
    return Counters(time.monotonic(), _used(), _own(), cgroups.throttled_s())


def between(before: Counters, after: Counters) -> CpuContention:
    others = (after.used - before.used) - (after.own - before.own)
    return CpuContention(after.at - before.at, others, after.throttled - before.throttled)


def _used() -> float:
    """Of the cores this process may run on: what happens on others is not in our way."""
    cores = psutil.cpu_times(percpu=True)
    try:
        mine = [cores[number] for number in os.sched_getaffinity(0)]
    except (AttributeError, IndexError):  # no such call, or cores that are switched off
        mine = cores
    return sum(_busy(core) for core in mine)


def _busy(core: object) -> float:
    """Time not idle. ``guest`` is counted in ``user`` already."""
    names = ("user", "nice", "system", "irq", "softirq", "steal")
    return sum(float(getattr(core, name, 0.0)) for name in names)


def _own() -> float:
    return sum(_process_times())


def _process_times() -> Iterator[float]:
    me = psutil.Process()
    for process in (me, *me.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue  # it ended just now: it is in its parent's sum as soon as that was told
        # On Linux the times of children that ended are their parent's; elsewhere they are 0.
        yield float(times.user + times.system + times.children_user + times.children_system)
