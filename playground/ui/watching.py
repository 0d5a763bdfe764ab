"""How a comparison goes on, as server-sent events: ``GET /watch/ID``, read by scripts/watch.js.

Answers that grow do not pass through gradio's events: with each message of one its page reads anew all components that
the event can change, which took a third of a core from the models that were writing (docs/measurement.md). Here a page
is sent the pieces of the panels that have changed. A browser whose connection broke asks again by itself, and is
shown everything anew. An id is a secret: who knows it may watch.

    grow    [{"column": 0, "panel": HTML} | {"column": 0, "state": HTML, "blocks": [from, HTML], …}, …]
    told    how far it is, as HTML
    end     it has ended: the page asks for the rest
    ending  the app ends: the page asks again when there is one
    busy    too many are watching, it or all: ask again later
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from playground.errors import PlaygroundError
from playground.experiments.blind import BlindJob
from playground.messages import Translatable, msg, plural
from playground.records import Mode
from playground.ui import jobs
from playground.ui.html.growing import Growing, growing
from playground.ui.html.panel import Label, labels
from playground.ui.pages import ADDRESS
from playground.ui.tabs.form import notice_html

if TYPE_CHECKING:
    from playground.experiments.compare import CompareJob
    from playground.experiments.progress import Snapshot
    from playground.service import Playground

WATCHED = 4
"""Pages that may watch at once, times ``max_sessions``. Watching costs little; comparisons are bounded elsewhere."""
WATCHED_EACH = 8
"""Pages that may watch one comparison: whoever opens many leaves room for those of others."""
PING_S = 15.0
"""A line now and then: a proxy ends what is silent, and a browser that went away is noticed by it."""
RETRY_MS = 1000
ENDING = msg("The app is being stopped. What the models had said by now is kept; reload the page in a moment.")
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "X-Content-Type-Options": "nosniff"}


def routes(playground: Playground) -> list[Route]:
    """To stand before gradio's own."""
    watching = _Watching(playground)

    async def watch(request: Request) -> StreamingResponse:
        events = watching.events(request.path_params["id"], request.scope.get(ADDRESS, ""))
        return StreamingResponse(events, media_type="text/event-stream", headers=_HEADERS)

    return [Route("/watch/{id}", watch)]


class _Watching:
    """Who is watching, and what they are sent."""

    def __init__(self, playground: Playground) -> None:
        self._playground = playground
        self._most = WATCHED * playground.settings.limits.max_sessions
        self._now = 0
        self._each: Counter[str] = Counter()
        self._near: Counter[str] = Counter()

    async def events(self, id: str, address: str = "") -> AsyncGenerator[str]:
        """The stream of one page, from where the comparison stands to its end; one address leaves half to others."""
        crowded = address and self._playground.settings.strangers and self._near[address] >= self._most // 2
        if crowded or self._now >= self._most or self._each[id] >= WATCHED_EACH:
            yield _event("busy", "")
            return
        self._now += 1
        self._each[id] += 1
        self._near[address] += 1
        try:
            yield f"retry: {RETRY_MS}\n\n"
            job = self._playground.running(id)
            if job is not None:
                async with aclosing(self._going_on(job)) as events:
                    async for event in events:
                        yield event
            if self._playground.ending:
                yield _event("told", json.dumps(notice_html(ENDING, "problem")))
                yield _event("ending", "")
                return
            yield _event("end", "")
        finally:
            self._now -= 1
            self._each -= Counter([id])  # what is at 0 is dropped
            self._near -= Counter([address])

    async def _going_on(self, job: CompareJob | BlindJob) -> AsyncGenerator[str]:
        page = _Page(self._playground, job)
        sent = time.monotonic()
        try:
            async with aclosing(jobs.watch(job)) as steps:
                async for step in steps:
                    for event in page.changes(step.at):
                        yield event
                        sent = time.monotonic()
                    if time.monotonic() - sent > PING_S:
                        yield ":\n\n"
                        sent = time.monotonic()
        except PlaygroundError as error:
            yield _event("told", json.dumps(notice_html(error.message, "problem")))


class _Page:
    """What one page has been sent."""

    def __init__(self, playground: Playground, job: CompareJob | BlindJob) -> None:
        self._mode: Mode = job.mode
        self._shared = job.request
        self._blind = isinstance(job, BlindJob) or playground.blind(job.id)
        self._own: Sequence[Any] = () if isinstance(job, BlindJob) else job.own_requests
        self._labels: tuple[Label, ...] = labels(playground, [live.variant for live in job.snapshot().lives])
        self._drawn: list[Growing | None] = [None] * len(self._labels)
        self._told = ""

    def changes(self, at: Snapshot) -> list[str]:
        """The events that bring it from what it was sent last to how it is now."""
        grown = []
        for place, (live, label) in enumerate(zip(at.lives, self._labels, strict=True)):
            letter = label.name if self._blind else None
            asked = self._own[place] if place < len(self._own) else None
            now = growing(live, label, blind=letter, own=asked, shared=self._shared)
            before, self._drawn[place] = self._drawn[place], now
            if change := _change(before, now):
                grown.append({"column": place, **change})
        events = [_event("grow", json.dumps(grown))] if grown else []
        told = notice_html(running_words(at, self._mode, blind=self._blind))
        if told != self._told:
            self._told = told
            events.append(_event("told", json.dumps(told)))
        return events


def _change(before: Growing | None, now: Growing) -> dict[str, Any]:
    """What turns one picture of a panel into the other; nothing where they are the same."""
    if before == now:
        return {}
    if before is None or before.frame != now.frame or len(now.frame) == 1:
        return {"panel": now.html}
    change: dict[str, Any] = {}
    for name in ("state", "thinking"):
        if getattr(before, name) != getattr(now, name):
            change[name] = getattr(now, name)
    for name in ("blocks", "raw"):
        old, new = getattr(before, name), getattr(now, name)
        if old != new:
            same = next((n for n, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
            change[name] = [same, "".join(new[same:])]
    return change


def running_words(at: Snapshot, mode: Mode, *, blind: bool) -> Translatable:
    """How far a comparison is; of a blind one that it goes on."""
    if at.ahead:
        return plural(
            "Waiting for its turn: {n} comparison has the machine first.",
            "Waiting for its turn: {n} comparisons have the machine first.",
            n=at.ahead,
        )
    if blind:
        return msg("Running; the answers appear together.")
    done, n = sum(live.run is not None for live in at.lives), len(at.lives)
    if mode == "fast":
        return plural(
            "Running all at once: {done} of {n} model done.",
            "Running all at once: {done} of {n} models done.",
            n=n,
            done=done,
        )
    return plural(
        "Running one at a time: {done} of {n} model done.",
        "Running one at a time: {done} of {n} models done.",
        n=n,
        done=done,
    )


def _event(name: str, data: str) -> str:
    """One event; JSON holds no line ends, so its data is one line."""
    return f"event: {name}\ndata: {data}\n\n"
