"""Gradio's queue with bounds and turns, and heartbeats: without a browser."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import gradio as gr
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from playground.service import Playground
from playground.ui.limiting import Limiting
from playground.ui.pages import ADDRESS, Pages
from playground.ui.visitors import HEADER
from tests.conftest import MakeSettings

pytestmark = pytest.mark.parallel


class Line:
    """Gradio's queue as a page has it, without a server: nothing is taken from it."""

    def __init__(self, playground: Playground) -> None:
        with gr.Blocks() as demo:
            gr.api(lambda: None, api_name="compare", concurrency_id="compare")
        demo.queue(max_size=32)
        self.fn = next(iter(demo.fns.values()))
        self.queue = demo._queue
        self.queue.active_jobs = [None] * 4
        self.told: list[str] = []
        self.pages = Pages(playground, self.queue, [self.told.append])

    async def join(self, visitor: str, session: str, address: str = "") -> bool:
        scope = {
            "type": "http", "method": "POST", "path": "/gradio_api/queue/join", "query_string": b"",
            "headers": [(HEADER.encode(), visitor.encode())], ADDRESS: address,
        }  # fmt: skip
        body = gr.data_classes.PredictBodyInternal(fn_index=self.fn._id, session_hash=session, data=[])
        return bool((await self.queue.push(body=body, request=Request(scope), username=None))[0])

    @property
    def order(self) -> list[str]:
        return [event.session_hash for event in self.queue.event_queue_per_concurrency_id["compare"].queue]


@pytest.fixture
def public(make_settings: MakeSettings) -> Any:
    settings = make_settings(PLAYGROUND_AUDIENCE="public")
    with Playground(replace(settings, limits=replace(settings.limits, max_waiting=4))) as playground:
        yield playground


def test_one_visitor_cant_take_the_queue_and_another_is_second(public: Playground) -> None:
    async def work() -> None:
        line = Line(public)
        assert [await line.join("greedy", "g") for _ in range(64)].count(True) == 4
        assert await line.join("other", "o")
        assert line.order == ["g", "o", "g", "g", "g"]

    asyncio.run(work())


def test_a_session_that_is_gone_keeps_nobody_from_being_told(public: Playground) -> None:
    async def work() -> None:
        line = Line(public)
        assert await line.join("one", "gone") and await line.join("other", "here")
        told = line.queue.pending_messages_per_session["here"]
        before = told.qsize()
        del line.queue.pending_messages_per_session["gone"]
        line.queue.broadcast_estimations("compare")
        assert told.qsize() == before + 1

    asyncio.run(work())


def test_of_many_sessions_one_goes_that_nobody_waits_for(public: Playground) -> None:
    async def work() -> None:
        line = Line(public)
        kept = line.queue.pending_messages_per_session
        kept.max_size = 3
        for name in ("answered", "listening", "waiting"):
            assert await line.join(name, name)
        for event in list(line.queue.event_queue_per_concurrency_id["compare"].queue)[:2]:
            await line.queue.remove_from_queue(event._id)
        with line.pages.listening("listening"):
            assert await line.join("fourth", "fourth")
            assert sorted(kept) == ["fourth", "listening", "waiting"]
            assert await line.join("fifth", "fifth")
            assert sorted(kept) == ["fifth", "fourth", "listening", "waiting"], "none of these is dropped"

    asyncio.run(work())


def test_new_names_from_one_address_take_half_of_the_queue_at_most(public: Playground) -> None:
    async def work() -> None:
        line = Line(public)
        came = [await line.join(f"name{n}", f"s{n}", "192.0.2.1") for n in range(64)]
        assert came.count(True) == 16
        assert await line.join("other", "o", "192.0.2.2")
        assert line.order.index("o") == 1

    asyncio.run(work())


def test_stop_takes_back_what_its_page_asked_for_and_nothing_else(public: Playground) -> None:
    async def work() -> None:
        line = Line(public)
        for visitor in ("me", "me", "other"):
            await line.join(visitor, visitor)
        await line.pages.drop("me", "compare")
        assert line.order == ["other"]
        assert {event.session_hash for event in line.queue.event_ids_to_events.values()} == {"other"}

    asyncio.run(work())


def test_what_nobody_listens_for_is_dropped_and_what_is_listened_for_is_kept(
    public: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("playground.ui.pages.LISTEN_S", 0.05)
    monkeypatch.setattr("playground.ui.pages.FETCH_S", 0.05)
    monkeypatch.setattr("playground.ui.pages.SWEEP_S", 0.02)

    async def work() -> None:
        line = Line(public)
        await line.join("me", "nobody-listens")
        with line.pages.listening("listens"):
            await line.join("me", "listens")
            for _ in range(200):
                if "nobody-listens" not in line.queue.pending_messages_per_session:
                    break
                await asyncio.sleep(0.02)
            assert line.order == ["listens"]
            assert list(line.queue.pending_messages_per_session) == ["listens"]
        assert line.told == ["nobody-listens"]

    asyncio.run(work())


def test_who_breaks_off_is_told_at_once_to_whatever_was_begun_for_them(public: Playground) -> None:
    async def work() -> None:
        line = Line(public)
        await line.join("me", "session")
        await line.queue.clean_events(session_hash="session")
        assert line.told == ["session"]
        assert not line.order

    asyncio.run(work())


def test_a_heartbeat_that_ends_is_a_page_that_was_closed(public: Playground) -> None:
    async def work() -> None:
        line = Line(public)
        beats = line.pages._alive("me", "session")
        assert await anext(beats) == "data: ALIVE\n\n"
        assert public.presence.pages == 1
        await beats.aclose()  # type: ignore[attr-defined]
        assert (public.presence.pages, line.told) == (0, ["session"])

    asyncio.run(work())


@pytest.mark.parametrize(
    ("limit", "said"), [("max_pages", "2 pages of yours"), ("max_pages_of_all", "2 pages of this")]
)
def test_more_pages_than_may_be_open_are_refused_and_told_when_to_come_back(
    public: Playground, monkeypatch: pytest.MonkeyPatch, limit: str, said: str
) -> None:
    limits = replace(public.settings.limits, **{limit: 2})
    monkeypatch.setattr(public, "settings", replace(public.settings, limits=limits))
    public.presence.enter("me")
    public.presence.enter("me")
    client = TestClient(Starlette(routes=Line(public).pages.routes()))
    refused = client.get("/gradio_api/heartbeat/s", headers={HEADER: "me"})
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "60")
    assert said in refused.text


def test_whoever_keeps_no_cookie_has_no_more_pages_than_their_address_may(
    public: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = replace(public.settings.limits, max_pages=1, visitors_per_address=2)
    monkeypatch.setattr(public, "settings", replace(public.settings, limits=limits))
    pages = Line(public).pages

    def asked(session: str, address: str) -> Any:
        scope = {"type": "http", "headers": [], "path_params": {"session": session}, ADDRESS: address}
        return pages._heartbeat(Request(scope))

    async def opened() -> list[int]:
        streams = [pages._alive("", f"s{n}", "192.0.2.7") for n in range(2)]
        for stream in streams:
            await anext(stream)
        found = [(await asked("s3", "192.0.2.7")).status_code, (await asked("s4", "192.0.2.8")).status_code]
        for stream in streams:
            await stream.aclose()
        return [*found, (await asked("s5", "192.0.2.7")).status_code, len(pages._near)]

    assert asyncio.run(opened()) == [429, 200, 200, 0]


def test_too_many_calls_are_told_when_to_come_back_in_the_readers_language(make_settings: MakeSettings) -> None:
    settings = make_settings(PLAYGROUND_AUDIENCE="public")
    settings = replace(settings, limits=replace(settings.limits, max_calls_per_minute=2))
    with Playground(settings) as playground:
        app = Starlette(routes=[Route("/", lambda request: PlainTextResponse("there"), methods=["GET", "POST"])])
        client = TestClient(Limiting(app, playground))
        assert [client.post("/", headers={HEADER: "me"}).status_code for _ in range(3)] == [200, 200, 429]
        refused = client.post("/", headers={HEADER: "me", "accept-language": "ja"})
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert any("぀" <= letter <= "ヿ" for letter in refused.json()["detail"])
        assert client.get("/", headers={HEADER: "me"}).status_code == 200  # is counted apart
        assert client.post("/", headers={HEADER: "another"}).status_code == 200


def test_one_address_leaves_half_of_all_pages_to_others(public: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = replace(public.settings.limits, max_pages=40, visitors_per_address=8, max_pages_of_all=4)
    monkeypatch.setattr(public, "settings", replace(public.settings, limits=limits))
    pages = Line(public).pages

    def asked(address: str) -> Any:
        scope = {"type": "http", "headers": [], "path_params": {"session": "s"}, ADDRESS: address}
        return pages._heartbeat(Request(scope))

    async def opened() -> list[int]:
        streams = [pages._alive("", f"s{n}", "192.0.2.7") for n in range(2)]
        for stream in streams:
            await anext(stream)
        found = [(await asked("192.0.2.7")).status_code, (await asked("192.0.2.8")).status_code]
        for stream in streams:
            await stream.aclose()  # type: ignore[attr-defined]
        return found

    assert asyncio.run(opened()) == [429, 200]
