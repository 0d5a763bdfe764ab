"""From a click on Run to the finished comparison: one async generator that looks four times a second.

It polls ``Running.snapshot()`` instead of waiting for events, so a slow browser never slows a model, and it yields at
least once a second, because a client that went away is noticed at a yield. Whatever ends it (Stop, a closed tab, the
end of the app), its ``finally`` stops the comparison. It knows no components: it yields ``Progress`` values.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from playground.errors import StorageError
from playground.records import Comparison, Mode, Request, Variant

if TYPE_CHECKING:
    from playground.experiments.compare import Running
    from playground.experiments.progress import LiveRun
    from playground.service import Playground
    from playground.ui.sessions import Sessions

POLL_S = 0.25
"""Drawing an answer takes the processor that writes it, where browser and model share one machine: ten looks a second
cost a browser's page and the app twice as much, and an answer is no sooner read."""
HEARTBEAT_S = 1.0


@dataclass(frozen=True)
class Progress:
    """What the page may show now.

    Attributes:
        lives: One live run a column, in the order they were asked for.
        comparison: The result, once everything has ended.
    """

    lives: tuple[LiveRun, ...]
    comparison: Comparison | None = None


class Runner:
    """Runs comparisons for sessions."""

    def __init__(self, playground: Playground, sessions: Sessions) -> None:
        self._playground = playground
        self._sessions = sessions

    async def follow(
        self, session: str, request: Request, variants: Sequence[Variant], mode: Mode
    ) -> AsyncGenerator[Progress]:
        """Run a comparison and tell how it goes; the last value has the comparison.

        Raises:
            UsageError: The request can't be run; nothing was started.
        """
        self._sessions.begin(session)
        running = await self._start(request, variants, mode)
        self._sessions.add(session, running)
        try:
            shown: tuple[LiveRun, ...] | None = None
            told = 0.0
            while not running.done:
                lives = running.snapshot()
                now = time.monotonic()
                if lives != shown or now - told >= HEARTBEAT_S:
                    shown, told = lives, now
                    yield Progress(lives)
                await asyncio.sleep(POLL_S)
            yield Progress(running.snapshot(), await asyncio.to_thread(running.result))
        finally:
            self._sessions.remove(session, running)
            if not running.done:
                running.stop()

    async def finish(self, session: str, request: Request, variants: Sequence[Variant], mode: Mode) -> Comparison:
        """Run a comparison to its end.

        Raises:
            UsageError: The request can't be run; nothing was started.
        """
        async with aclosing(self.follow(session, request, variants, mode)) as steps:
            async for step in steps:
                if step.comparison:
                    return step.comparison
        raise AssertionError("a comparison ends with its result")

    async def keep(self, comparison: Comparison) -> str:
        """Store the comparison; returns what to tell the reader if it could not be stored."""
        try:
            await asyncio.to_thread(self._playground.store.save, comparison)
        except StorageError as error:
            return f"The result is on this page only, it was not stored: {error}"
        return ""

    async def _start(self, request: Request, variants: Sequence[Variant], mode: Mode) -> Running:
        """Start in a thread, as it reads the disk. If the client leaves meanwhile, what was started is stopped."""
        starting = asyncio.ensure_future(asyncio.to_thread(self._playground.comparer.start, request, variants, mode))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            starting.add_done_callback(_stop_when_started)
            raise


def _stop_when_started(starting: asyncio.Future[Running]) -> None:
    if not starting.cancelled() and starting.exception() is None:
        starting.result().stop()
