"""Helpers for tests that watch comparisons while they go on."""

from __future__ import annotations

import time
from collections.abc import Callable

from playground.experiments.compare import CompareJob
from playground.experiments.progress import LiveRun
from playground.records import Comparison, Event, Request
from playground.service import Playground

ASK = Request("What is the capital of France?")


def script(**fields: object) -> str:
    """A model written as its own source."""
    return "fake:" + "&".join(f"{name}={str(value).replace(' ', '+')}" for name, value in fields.items())


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for an event; ``seconds`` bounds how long a hang lasts, and measures nothing."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def compare(playground: Playground, *models: str, request: Request = ASK, mode: str = "fair") -> Comparison:
    return playground.comparer.start(request, models, mode).result()  # type: ignore[arg-type]


def everything(running: CompareJob) -> list[Event]:
    return [event for event in running.events() if event]


def interval(events: list[Event], model: str) -> tuple[float, float]:
    """From the first sign of work to the end."""
    mine = [event for event in events if event.model.startswith(model) and event.kind not in ("queued", "preparing")]
    return mine[0].at, mine[-1].at


def live(running: CompareJob, model: str) -> LiveRun:
    return next(live for live in running.snapshot().lives if live.variant.model == model)
