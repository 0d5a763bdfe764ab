"""A comparison that goes on, as its pages are sent it: piece by piece, to whoever asks and as often."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from playground.experiments.progress import LiveRun, Snapshot
from playground.records import Request, Variant
from playground.service import Playground
from playground.ui import watching
from playground.ui.html.growing import Growing, growing
from playground.ui.html.panel import Label
from tests.conftest import MakeSettings
from tests.support.app import serving
from tests.support.line import Line
from tests.support.watching import script

ASK = Request("hello", max_new_tokens=64)
LABEL = Label("A model", Variant("model", "fake", "none"))
TEXT = (
    "<think>\nWhat is a list?\n</think>\n\nA list:\n\n- one\n- **two**\n\n```python\nprint(1)\n```\n\n"
    "and the <end> of *it*."
)


def events(text: str) -> list[tuple[str, Any]]:
    """Name and data of each event of a stream."""
    found = re.findall(r"^event: (\w+)\ndata: (.*)$", text, re.MULTILINE)
    return [(name, json.loads(data) if data else "") for name, data in found]


def patched(pieces: Growing | None, change: dict[str, Any]) -> str:
    """The panel that a page has after a change, as scripts/watch.js makes it."""
    if "panel" in change:
        return str(change["panel"])
    assert pieces
    blocks, raw = list(pieces.blocks), list(pieces.raw)
    for name, kept in (("blocks", blocks), ("raw", raw)):
        if name in change:
            kept[change[name][0] :] = [change[name][1]]
    return replace(
        pieces,
        state=change.get("state", pieces.state),
        thinking=change.get("thinking", pieces.thinking),
        blocks=tuple(blocks),
        raw=tuple(raw),
    ).html


def test_the_pieces_that_are_sent_make_the_whole_panel() -> None:
    lives = [LiveRun(LABEL.variant, "token", TEXT[:length], length) for length in range(1, len(TEXT) + 1)]
    for before, now in pairwise([None, *(growing(live, LABEL) for live in lives)]):
        assert now
        assert patched(before, watching._change(before, now)) == now.html
    grown = growing(lives[-2], LABEL)
    assert watching._change(grown, grown) == {}
    small, whole = watching._change(grown, growing(lives[-1], LABEL)), growing(lives[-1], LABEL).html
    assert len(json.dumps(small)) < len(whole) / 4  # what stands already is not sent again


@pytest.mark.parametrize("blind", [False, True])
def test_whoever_waits_for_another_visitor_is_told_so(blind: bool) -> None:
    lives = (LiveRun(Variant("a")), LiveRun(Variant("b")))
    waiting = watching.running_words(Snapshot(lives=lives, ahead=2), "fair", blind=blind)
    assert waiting == "Waiting for its turn: 2 comparisons have the machine first."
    assert "Waiting" not in watching.running_words(Snapshot(lives=lives), "fair", blind=blind)


@pytest.mark.waits
def test_a_page_is_sent_what_grows_and_told_of_the_end(playground: Playground) -> None:
    job = playground.compare(ASK, playground.variants([script(text="la " * 12, step_s=0.1), script(text="so")]))
    with TestClient(Starlette(routes=watching.routes(playground))) as client:
        answer = client.get(f"/watch/{job.id}")
    assert answer.headers["content-type"].startswith("text/event-stream")
    sent = events(answer.text)
    assert sent[-1][0] == "end"
    grown = [change for name, data in sent if name == "grow" for change in data]
    assert {change["column"] for change in grown} == {0, 1}
    assert sum("raw" in change for change in grown) >= 2
    told = [data for name, data in sent if name == "told"]
    assert "0 of 2 models done" in told[0]
    assert job.done


@pytest.mark.waits
def test_whoever_leaves_stops_nothing_and_is_shown_all_of_it_anew(playground: Playground) -> None:
    job = playground.compare(ASK, playground.variants([script(text="la " * 20, step_s=0.1)]))
    page = watching._Watching(playground)

    async def look(most: int) -> str:
        said = ""
        stream = page.events(job.id)
        async for event in stream:
            said += event
            if said.count("event: grow") == most:
                break
        await stream.aclose()
        return said

    first = asyncio.run(look(2))
    assert not job.done
    second = events(asyncio.run(look(1)))
    assert "panel" in second[0][1][0]  # the whole of it, not what has changed since
    assert "event: end" not in first
    assert "event: end" in asyncio.run(look(1000))
    assert job.result().runs[0].finish_reason == "stop"
    assert page._now == 0


def test_of_what_does_not_go_on_the_end_is_told_at_once(playground: Playground) -> None:
    with TestClient(Starlette(routes=watching.routes(playground))) as client:
        assert events(client.get("/watch/nothing").text) == [("end", "")]


@pytest.mark.waits
def test_no_more_pages_watch_than_may(playground: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "WATCHED", 0)
    with TestClient(Starlette(routes=watching.routes(playground))) as client:
        assert events(client.get("/watch/nothing").text) == [("busy", "")]


def test_many_pages_of_one_comparison_leave_room_for_those_of_others(
    playground: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "WATCHED_EACH", 2)
    page = watching._Watching(playground)
    job = playground.compare(ASK, playground.variants([script(text="la " * 40, step_s=0.1)]))
    other = playground.compare(ASK, playground.variants([script(text="so " * 40, step_s=0.1)]))

    async def look() -> list[str]:
        streams = [page.events(id) for id in (job.id, job.id, job.id, other.id)]
        said = [await anext(stream) for stream in streams]
        for stream in streams:
            await stream.aclose()
        return said

    assert ["busy" in said for said in asyncio.run(look())] == [False, False, True, False]
    assert (page._now, page._each) == (0, {})
    for each in (job, other):
        each.stop()
        each.result()


@pytest.mark.waits
def test_a_blind_comparison_tells_no_name_and_no_figure(playground: Playground) -> None:
    columns = playground.variants([script(text="la " * 5, step_s=0.1), script(text="so " * 5, step_s=0.1)])
    job = playground.compare_blind(ASK, columns, "fair")
    with TestClient(Starlette(routes=watching.routes(playground))) as client:
        said = client.get(f"/watch/{job.id}").text
    assert "event: grow" in said
    for variant in columns:
        assert str(variant) not in said
        assert variant.model not in said
    assert "tok/s" not in said
    assert "the answers appear together" in said


@pytest.mark.waits
def test_several_pages_are_sent_the_same(playground: Playground) -> None:
    job = playground.compare(ASK, playground.variants([script(text="la " * 10, step_s=0.1)]))
    seen: list[str] = []
    with TestClient(Starlette(routes=watching.routes(playground))) as client:
        pages = [threading.Thread(target=lambda: seen.append(client.get(f"/watch/{job.id}").text)) for _ in range(3)]
        for page in pages:
            page.start()
        for page in pages:
            page.join(20)
    assert [events(text)[-1][0] for text in seen] == ["end"] * 3


ENDED = """() => {
  const run = document.querySelector("#run"), watching = document.querySelector("#watching textarea, #watching input");
  const answers = [...document.querySelectorAll("#outputs .panel .raw")].filter((raw) => raw.textContent.length > 3);
  return run?.offsetParent && watching?.value === "" && answers.length === 2;
}"""


@pytest.mark.ui
@pytest.mark.parametrize("away_s", [0.0, 4.0])
def test_a_connection_that_broke_is_made_again_and_loses_nothing(tmp_path: Path, browser: Any, away_s: float) -> None:
    with serving(tmp_path, "fast, slow") as app:
        line = Line(int(app.url.rstrip("/").rpartition(":")[2]))
        page = browser.new_context().new_page()
        try:
            page.goto(f"http://127.0.0.1:{line.port}/?models=slow,fast&prompt=Sing")
            page.wait_for_function("document.querySelectorAll('#models .token').length === 2")
            page.click("button#run")
            page.wait_for_function("document.querySelector('#outputs .panel .raw').textContent.length > 3")
            line.cut()
            page.wait_for_timeout(int(away_s * 1000))
            line.mend()
            page.wait_for_function(ENDED, timeout=30_000)
            answers = page.locator("#outputs .panel:visible .raw").all_text_contents()
            page.click("button#run")  # and the page works on
            page.wait_for_selector("#stop:visible")
        finally:
            page.context.close()
            line.close()
    assert len(answers) == 2
    assert all(answers)


@pytest.mark.waits
def test_pages_of_one_address_leave_half_of_the_streams_to_others(make_settings: MakeSettings) -> None:
    settings = make_settings(PLAYGROUND_AUDIENCE="public")
    settings = replace(settings, limits=replace(settings.limits, max_sessions=1))
    with Playground(settings) as playground:
        page = watching._Watching(playground)
        jobs = [playground.compare(ASK, playground.variants(["endless"]), owner=f"visitor {n}") for n in range(3)]
        here = ["192.0.2.1"] * 3 + ["192.0.2.2", ""]

        async def look() -> list[str]:
            streams = [page.events(jobs[n % 3].id, address) for n, address in enumerate(here)]
            said = [await anext(stream) for stream in streams]
            for stream in streams:
                await stream.aclose()
            return said

        with ThreadPoolExecutor(1) as elsewhere:  # a browser of the tests before has this thread's loop
            said = elsewhere.submit(asyncio.run, look()).result()
        assert ["busy" in words for words in said] == [False, False, True, False, False]
        assert (page._now, page._near) == (0, {})
        for job in jobs:
            job.stop()
