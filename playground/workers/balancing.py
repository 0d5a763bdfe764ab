"""Which of several servers is asked next: the one with the fewest answers under way, of those that are well.

It knows places, how many answers each has under way, and when one that failed may be tried again; it does not know
what is asked, or over which protocol.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from playground.errors import Stopped
from playground.records import Cancelled
from playground.workers.process import STOPPED

LOOK_S = 0.05
"""Between two looks at Stop while waiting."""
REST_S = 0.5
"""How long a place rests after a failure; twice as long after each further one in a row."""
MOST_REST_S = 15.0


@dataclass(eq=False)
class Place:
    """A server.

    Attributes:
        under_way: Answers it was asked for that have not ended.
        answered: Answers it has given; of places alike, the one with fewer is next.
        failures: Since it last answered.
        rests_until: Not asked before, on the clock of ``time.monotonic()``.
    """

    address: str
    under_way: int = 0
    answered: int = 0
    failures: int = 0
    rests_until: float = 0.0


@dataclass
class Balancer:
    """Least outstanding requests, as load balancers call it.

    Args:
        at_once: Answers that one place may be asked for at a time. One that has failed and not answered since is asked
            for a single one, as a trial.
    """

    places: Sequence[Place]
    at_once: int
    _changed: threading.Condition = field(default_factory=threading.Condition, repr=False)

    def take(self, avoid: Collection[Place], cancelled: Cancelled, until: float) -> Place | None:
        """A place to ask, as soon as there is one; give it back by ``give_back``.

        Args:
            avoid: Places that failed at this request: asked again only where no other is well.
            until: How long to wait where none is well, on the clock of ``time.monotonic()``. A place that is well and
                busy is waited for without end.

        Returns:
            None where no place was well until then.

        Raises:
            Stopped: ``cancelled`` said so.
        """
        with self._changed:
            while True:
                if cancelled():
                    raise Stopped(STOPPED)
                now = time.monotonic()
                well = [place for place in self.places if place.rests_until <= now]
                well = [place for place in well if place not in avoid] or well
                if free := [place for place in well if place.under_way < self._room(place)]:
                    taken = min(free, key=lambda place: (place.failures > 0, place.under_way, place.answered))
                    taken.under_way += 1
                    return taken
                if not well and now >= until:
                    return None
                self._changed.wait(LOOK_S)

    def give_back(self, place: Place, well: bool | None) -> None:
        """Its answer has ended.

        Args:
            well: Whether the place did what it is for; None where nothing can be said of it (the answer was stopped).
        """
        with self._changed:
            place.under_way -= 1
            if well:
                place.answered += 1
                place.failures = 0
            elif well is False:
                rest = min(REST_S * 2**place.failures, MOST_REST_S)
                place.failures += 1
                place.rests_until = time.monotonic() + rest
            self._changed.notify_all()

    def _room(self, place: Place) -> int:
        return 1 if place.failures else self.at_once
