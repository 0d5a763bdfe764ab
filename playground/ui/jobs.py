"""From a click to the finished experiment: one async generator that looks four times a second, for all experiments.

It polls ``snapshot()`` instead of waiting for events, so a slow browser never slows a model, and it yields at least
once a second, because a client that went away is noticed at a yield. It knows no components: it yields ``Update``
values.

``watch`` looks at a comparison that goes on by itself, from as many pages as want to see it: nobody's leaving ends it,
only ``stop`` does. ``follow`` is for what nobody can come back to (a measurement, a diff, a call of
the API): whatever ends it (Stop, a closed tab, the end of the app), also while the experiment is just starting, stops
the experiment.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from playground.errors import StorageError, UsageError
from playground.experiments.progress import Snapshot
from playground.messages import msg

if TYPE_CHECKING:
    from playground.experiments.base import Experiment
    from playground.service import Playground
    from playground.ui.sessions import Sessions

FIRST_S = 0.1
"""Between two looks while no answer grows: its first word is soon seen."""
POLL_S = 0.25
"""Between two looks at an answer that grows. Drawing it takes the processor that writes it, where browser and model
share one machine: ten looks a second cost a browser's page and the app twice as much, and an answer is no sooner read.
"""
HEARTBEAT_S = 1.0

Result = TypeVar("Result")


@dataclass(frozen=True)
class Update(Generic[Result]):
    """What the page may show now.

    Attributes:
        at: Where the experiment stands.
        result: Once it has ended; the last update alone has it.
    """

    at: Snapshot
    result: Result | None = None


async def follow(
    sessions: Sessions, session: str, start: Callable[[], Experiment[Result]]
) -> AsyncGenerator[Update[Result]]:
    """Start an experiment and tell how it goes; the last update has its result.

    Args:
        sessions: Where Stop and leaving look for it.
        session: Who asked for it.
        start: Checks and begins; runs in a thread, as it reads the disk.

    Raises:
        UsageError: It can't be run; nothing was started.
        PlaygroundError: It has no result.
    """
    stops = sessions.begin(session)
    experiment = await _started(start)
    sessions.add(session, experiment, stops)
    try:
        async with aclosing(watch(experiment)) as updates:
            async for update in updates:
                yield update
    finally:
        sessions.remove(session, experiment)
        if not experiment.done:
            experiment.stop()


def pause(at: Snapshot) -> float:
    """Seconds until the next look: more than four answers that grow together are drawn less often, so that drawing all
    of them takes no more of a second than drawing four."""
    growing = sum(live.run is None and bool(live.text) for live in at.lives)
    return POLL_S * max(1.0, growing / 4) if growing else FIRST_S


async def watch(experiment: Experiment[Result]) -> AsyncGenerator[Update[Result]]:
    """Tell how an experiment goes that goes on whether or not somebody watches; the last update has its result.

    Raises:
        PlaygroundError: It has no result.
    """
    shown: Snapshot | None = None
    told = 0.0
    while not experiment.done:
        at, now = experiment.snapshot(), time.monotonic()
        if at != shown or now - told >= HEARTBEAT_S:
            shown, told = at, now
            yield Update(at)
        await asyncio.sleep(pause(at))
    yield Update(experiment.snapshot(), await asyncio.to_thread(experiment.result))


def stop(playground: Playground, id: str, owner: str) -> bool:
    """End a comparison that is going on, if it is that visitor's; returns whether it was going on.

    Raises:
        UsageError: It is somebody else's.
    """
    job = playground.running(id)
    if job is None:
        return False
    if not playground.owns(id, owner):
        raise UsageError(
            msg("This comparison is somebody else's"), msg("Only who began it can stop it; it goes on without you.")
        )
    job.stop()
    return True


def unknown() -> UsageError:
    """What a reader is told of an id that leads nowhere."""
    return UsageError(
        msg("There is no such comparison here"), msg("It was deleted, has expired, or the link was cut. Run a new one.")
    )


async def finish(sessions: Sessions, session: str, start: Callable[[], Experiment[Result]]) -> Result:
    """Run an experiment to its end.

    Raises:
        UsageError: It can't be run; nothing was started.
        PlaygroundError: It has no result.
    """
    async with aclosing(follow(sessions, session, start)) as updates:
        async for update in updates:
            if update.result is not None:
                return update.result
    raise AssertionError("an experiment ends with its result")


async def keep(save: Callable[[], object]) -> StorageError | None:
    """Store a result; returns why it could not be stored."""
    try:
        await asyncio.to_thread(save)
    except StorageError as error:
        return error
    return None


async def _started(start: Callable[[], Experiment[Result]]) -> Experiment[Result]:
    """Start in a thread. If the client leaves meanwhile, what was started is stopped, and what still waits for a thread
    is not started.
    """
    left = threading.Event()

    def begun() -> Experiment[Result] | None:
        return None if left.is_set() else start()

    starting = asyncio.ensure_future(asyncio.to_thread(begun))
    try:
        experiment = await asyncio.shield(starting)
    except asyncio.CancelledError:
        left.set()
        starting.add_done_callback(_stop_when_started)
        raise
    assert experiment is not None, "nobody has left"
    return experiment


def _stop_when_started(starting: asyncio.Future[Experiment[Result] | None]) -> None:
    if not starting.cancelled() and starting.exception() is None and (experiment := starting.result()):
        experiment.stop()
