"""One call of a tool while it goes on: work in a thread, progress to the caller, an end when the caller takes it back.

It knows threads, experiments and the event loop; it does not know the protocol or what a tool does.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from playground.errors import Stopped
from playground.experiments.base import Experiment
from playground.experiments.progress import LiveRun, Snapshot
from playground.messages import Translatable, clauses, msg

POLL_S = 0.05
TELL_S = 0.5
"""Between two notifications of progress: an agent reads them, or shows them to a person."""

Report = Callable[[float, Translatable], Awaitable[None]]
"""Told the share that is done, 0 to 1, and what is being done."""
Result = TypeVar("Result")


class Call:
    """What a tool has at hand while it works.

    Attributes:
        owner: Whose work it is, where strangers come; empty on one's own machine.
        cancelled: Set when the caller no longer wants the answer.
    """

    def __init__(self, report: Report, owner: str = "") -> None:
        self.owner = owner
        self.cancelled = threading.Event()
        self._report = report
        self._told = -1.0
        self._told_at = 0.0
        self._step: tuple[float, Translatable] | None = None

    async def in_thread(self, work: Callable[[], Result]) -> Result:
        """Do what may wait for a disk or a model, while others are served. The work is not waited for when the caller
        leaves: it looks at ``cancelled`` where it takes long.

        A thread for each, not one of anyio's: what a thread of those started, Linux would end with it.
        """
        outcome: list[Result] = []
        raised: list[BaseException] = []

        def run() -> None:
            try:
                outcome.append(work())
            except BaseException as error:
                raised.append(error)

        thread = threading.Thread(target=run, name="tool", daemon=True)
        thread.start()
        try:
            while thread.is_alive():
                if step := self._step:
                    await self.tell(*step)
                await anyio.sleep(POLL_S)
        except BaseException:
            self.cancelled.set()
            raise
        if raised:
            raise raised[0]
        return outcome[0]

    async def follow(self, experiment: Experiment[Result], stop: Callable[[], object] | None = None) -> Result:
        """Wait for an experiment and tell how far it is; it ends when the caller leaves.

        Args:
            stop: How it ends then, where that is not ``stop``.

        Raises:
            PlaygroundError: It has no result; says why.
        """
        try:
            while not experiment.done:
                at = experiment.snapshot()
                await self.tell(share_of(at), words_of(at))
                await anyio.sleep(POLL_S)
        except BaseException:
            self.cancelled.set()
            (stop or experiment.stop)()
            raise
        return experiment.result()

    async def tell(self, share: float, words: Translatable) -> None:
        """Tell how far it is, now and then. The protocol wants each share larger than the last: where none is known,
        it grows by next to nothing.
        """
        now = anyio.current_time()
        if now - self._told_at < TELL_S:
            return
        self._told_at = now
        self._told = max(share, self._told + 1e-6, 0.0)
        await self._report(self._told, words)

    def step(self, words: Translatable, share: float | None) -> None:
        """Progress of work in a thread, which is told from there on.

        Raises:
            Stopped: The caller no longer wants the answer.
        """
        if self.cancelled.is_set():
            raise Stopped(msg("The call was taken back"))
        self._step = (share or 0.0, words)


def share_of(at: Snapshot) -> float:
    """How much of an experiment is done, 0 to 1: its own word, or the share of its answers that have ended."""
    if at.progress is not None:
        return at.progress
    return sum(live.run is not None for live in at.lives) / len(at.lives) if at.lives else 0.0


def words_of(at: Snapshot) -> Translatable:
    """What is being done, in a line."""
    lives = [msg("{model}: {state}", model=live.variant, state=_state(live)) for live in at.lives if not live.run]
    return clauses(at.step, *lives)


def _state(live: LiveRun) -> str:
    if live.kind == "token":
        return msg("{n} tokens", n=live.n_tokens)
    return live.message or live.kind
