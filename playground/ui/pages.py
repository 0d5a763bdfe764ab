"""Which pages and programs are there, and whose event gradio's queue takes next.

Gradio's own queue is first come, first served for everybody together, keeps events of whoever left before they were
taken, and calls four functions of the page for each tab that is closed. Here a visitor's events wait within bounds and
in turns with those of others, what nobody listens for is dropped, and a page that goes is noticed where its heartbeat
ends. The module knows events, streams and names; it does not know what events do.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gradio.server_messages import ProcessCompletedMessage
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from playground.messages import NOTHING, Translatable, msg, sentences
from playground.ui.i18n import say
from playground.ui.visitors import name_of

if TYPE_CHECKING:
    from playground.service import Playground

BEAT_S = 15.0
LOOK_S = 3.0
"""Between two looks of a heartbeat at whether the app ends."""
LISTEN_S = 15.0
"""Within this time whoever asked for something has to listen for its answer."""
FETCH_S = 60.0
"""So long an answer is kept that nobody has come for."""
SWEEP_S = 2.0
ADDRESS = "playground.address"
"""Where the middleware says in a request's scope from where it came."""


class Pages:
    """The pages of one app, and gradio's queue for all of them. Used in the event loop alone.

    Args:
        queue: Gradio's, of the page that was built.
        left: Called with a session's name when its page was closed, or its program is gone.
    """

    def __init__(self, playground: Playground, queue: Any, left: Sequence[Callable[[str], object]]) -> None:
        self._playground, self._queue, self._left = playground, queue, left
        self._listening: Counter[str] = Counter()
        self._near: Counter[str] = Counter()
        self._asked: dict[str, float] = {}
        self._sweep: asyncio.Task[None] | None = None
        self._push, self._clean = queue.push, queue.clean_events
        self._send = queue.send_message
        queue.push, queue.clean_events, queue.send_message = self.push, self.clean_events, self.send_message
        queue.pending_messages_per_session = _Answers(self._forget_one, queue.pending_messages_per_session.max_size)

    # -- pages ----------------------------------------------------------------------------------------------------

    def routes(self) -> list[Route]:
        """To stand before gradio's own."""
        return [Route("/gradio_api/heartbeat/{session}", self._heartbeat)]

    async def _heartbeat(self, request: Request) -> Response:
        session, playground = request.path_params["session"], self._playground
        visitor = name_of(request.headers, session)
        limits, address = playground.settings.limits, request.scope.get(ADDRESS, "")
        # Who keeps no cookie is another visitor with each page; and one address leaves half of all to others.
        near = max(1, min(limits.visitors_per_address * limits.max_pages, limits.max_pages_of_all // 2))
        if visitor and playground.open_pages(visitor) >= limits.max_pages:
            words = msg("{n} pages of yours are open, as many as may be. Close some.", n=limits.max_pages)
        elif address and playground.settings.strangers and self._near[address] >= near:
            words = msg("{n} pages of yours are open, as many as may be. Close some.", n=near)
        elif playground.open_pages() >= limits.max_pages_of_all:
            most = limits.max_pages_of_all
            words = msg("{n} pages of this app are open, as many as may be. Come back later.", n=most)
        else:
            words = NOTHING
        if words:
            playground.refused("pages")
            return PlainTextResponse(say(words), 429, {"Retry-After": "60"})
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(
            self._alive(visitor, session, address), media_type="text/event-stream", headers=headers
        )

    async def _alive(self, visitor: str, session: str, address: str = "") -> AsyncIterator[str]:
        self._playground.page_opened(visitor)
        self._near[address] += 1
        try:
            beaten = 0.0
            while not self._playground.ending:
                if time.monotonic() - beaten >= BEAT_S:
                    beaten = time.monotonic()
                    yield "data: ALIVE\n\n"
                await asyncio.sleep(LOOK_S)
        finally:
            self._near[address] -= 1
            if self._near[address] <= 0:
                del self._near[address]
            if self._playground.page_closed(visitor):
                self._make_room_soon()
            self._tell_left(session)

    def _tell_left(self, session: str) -> None:
        for call in self._left:
            call(session)

    def _make_room_soon(self) -> None:
        """When a visitor who closed their last page counts as one who has left."""
        if self._playground.settings.strangers:
            loop, after = asyncio.get_running_loop(), self._playground.settings.limits.left_s + 0.05
            loop.call_later(after, loop.run_in_executor, None, self._playground.make_room)

    # -- who listens ----------------------------------------------------------------------------------------------

    def has(self, session: str, event_id: str = "") -> bool:
        """Whether there are answers, or may be, for a session or for an event."""
        queue = self._queue
        if not event_id:
            return session in queue.pending_messages_per_session
        begun = event_id in queue.event_ids_to_events or event_id in queue.pending_messages_per_session
        return begun or any(event_id in events for events in queue.pending_event_ids_session.values())

    @contextmanager
    def listening(self, session: str, event_id: str = "") -> Iterator[None]:
        """A stream of answers is open: for a session, or for an event."""
        event = self._queue.event_ids_to_events.get(event_id)
        session = session or (event.session_hash if event else event_id)
        self._listening[session] += 1
        try:
            yield
        finally:
            self._listening[session] -= 1
            if self._listening[session] <= 0:
                del self._listening[session]

    async def clean_events(self, *, session_hash: str | None = None, event_id: str | None = None) -> None:
        """Gradio's, which forgets events of a session that is gone; what was begun for it ends, too."""
        await self._clean(session_hash=session_hash, event_id=event_id)
        if session_hash:
            self._tell_left(session_hash)

    def send_message(self, event: Any, message: Any) -> None:
        """Gradio's, which breaks off where a session has gone; that would end the loop that takes events for all."""
        if event.session_hash in self._queue.pending_messages_per_session:
            self._send(event, message)

    def _forget_one(self, kept: Iterable[str]) -> None:
        """Of so many sessions the oldest that nobody listens for, and nothing is done for."""
        wanted = {*self._listening, *(event.session_hash for event in self._events())}
        for session in kept:
            if session not in wanted:
                self._forget(session)
                return

    def _forget(self, session: str) -> None:
        self._asked.pop(session, None)
        self._queue.pending_messages_per_session.pop(session, None)
        self._queue.pending_event_ids_session.pop(session, None)

    async def _sweeping(self) -> None:
        """Drop what nobody listens for, and answers that nobody came for, until there is nothing more."""
        while self._asked:
            now = time.monotonic()
            for event in self._events():
                if now - event.enqueue_time > LISTEN_S and event.alive and event.session_hash not in self._listening:
                    await self._clean(event_id=event._id)
                    self._tell_left(event.session_hash)
            at_work = {event.session_hash for event in self._events()}
            for session, at in list(self._asked.items()):
                if now - at > FETCH_S and session not in self._listening and session not in at_work:
                    self._forget(session)
            await asyncio.sleep(SWEEP_S)

    # -- whose turn it is -----------------------------------------------------------------------------------------

    def _waiting(self) -> list[Any]:
        return [event for line in self._queue.event_queue_per_concurrency_id.values() for event in line.queue]

    def _active(self) -> list[Any]:
        return [event for job in self._queue.active_jobs if job for event in job]

    def _events(self) -> list[Any]:
        return [*self._waiting(), *self._active()]

    async def push(self, body: Any, request: Any, username: str | None) -> tuple[bool, Any, str]:
        """Gradio's, which lets an event into the queue; within a visitor's bounds, and at its place among others'."""
        playground, settings = self._playground, self._playground.settings
        visitor = name_of(request.headers, body.session_hash or "", username)
        playground.came_from(visitor, request.scope.get(ADDRESS, ""))
        group = playground.turns_name(visitor) or body.session_hash or ""
        waiting = self._waiting()
        mine = sum(_of(event)[0] == visitor for event in waiting) if visitor and settings.strangers else 0
        near = sum(_of(event)[1] == group for event in waiting)
        if mine >= settings.limits.max_waiting or (self._queue.max_size and near >= self._queue.max_size // 2):
            playground.refused("waiting")
            words = sentences(_too_many(max(mine, near)), playground.try_again()[1])
            return False, say(words), "queue_full"
        done: tuple[bool, Any, str] = await self._push(body=body, request=request, username=username)
        event = self._queue.event_ids_to_events.get(done[1]) if done[0] else None
        if event is not None:
            event.playground_of = (visitor, group)
            self._asked[event.session_hash] = time.monotonic()
            self._in_turns(event.concurrency_id)
            if self._sweep is None or self._sweep.done():
                self._sweep = asyncio.create_task(self._sweeping())
        return done

    def _in_turns(self, concurrency_id: str) -> None:
        """Sort a line: first one event of each visitor, then their second ones, those that are answered counted."""
        line = self._queue.event_queue_per_concurrency_id[concurrency_id].queue
        had = Counter(_of(event)[1] for event in self._active() if event.concurrency_id == concurrency_id)
        ranks = {}
        for event in sorted(line, key=lambda event: event.enqueue_time):
            group = _of(event)[1]
            ranks[event._id] = had[group]
            had[group] += 1
        line.sort(key=lambda event: (ranks[event._id], event.enqueue_time))

    async def drop(self, session: str, concurrency_id: str) -> None:
        """Take back what a session asked for there and has not begun."""
        line = self._queue.event_queue_per_concurrency_id.get(concurrency_id)
        for event in [event for event in (line.queue if line else ()) if event.session_hash == session]:
            await self._queue.remove_from_queue(event._id)
            self._queue.send_message(event, ProcessCompletedMessage(output={}, success=True))


class _Answers(dict[str, Any]):
    """What waits for each session. Gradio's own drops whichever was there first, one that is being answered as well.

    Args:
        forget_one: Takes one out where there are as many as may be; it gets the sessions, the oldest first.
        max_size: Sessions that are kept, more only where somebody waits for each of them.
    """

    def __init__(self, forget_one: Callable[[Iterable[str]], None], max_size: int) -> None:
        super().__init__()
        self._forget_one, self.max_size = forget_one, max_size

    def __setitem__(self, session: str, messages: Any) -> None:
        if session not in self and len(self) >= self.max_size:
            self._forget_one(list(self))
        super().__setitem__(session, messages)


def _of(event: Any) -> tuple[str, str]:
    """Whose event it is, and with whom they share turns."""
    found: tuple[str, str] = getattr(event, "playground_of", ("", event.session_hash))
    return found


def _too_many(n: int) -> Translatable:
    return msg("{n} of your requests are waiting here already.", n=n)
