"""No event of the page is lost: neither while Gradio's stream of events closes nor when a connection breaks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from playground.ui.early import SCRIPTS
from tests.support.app import serving
from tests.support.line import Line

pytestmark = pytest.mark.ui


@contextmanager
def slow(folder: Path, browser: Any, query: str, part: bytes, late_s: float) -> Iterator[Any]:
    """A page whose answers to requests with ``part`` in their first line come late, opening at ``query``."""
    with serving(folder, "fast, slow") as app:
        line = Line(int(app.url.rstrip("/").rpartition(":")[2]), late=(part, late_s))
        context = browser.new_context(base_url=f"http://127.0.0.1:{line.port}")
        page = context.new_page()
        try:
            page.goto(f"/?{query}")
            yield page
        finally:
            context.close()
            line.close()


def test_a_click_is_heard_of_while_the_stream_of_the_event_before_closes(tmp_path: Path, browser: Any) -> None:
    with slow(tmp_path, browser, "models=fast,slow&prompt=Sing", b"/queue/data", 0.4) as page:
        with page.expect_response(lambda answer: "/queue/data" in answer.url):  # of the event that opens the page
            pass
        page.click("button#run")
        page.wait_for_function("document.querySelector('#notice').innerText.startsWith('Done')", timeout=30_000)


# The app as this script plays it: each stream of events that is opened, and each answer, is in the test's hands.
APP = """
window.streams = [];
window.beats = [];
window.joins = [];
window.fetch = (request, options) => {
  const url = request.url ?? request;
  if (url.endsWith("/other")) return Promise.resolve(new Response("other"));
  if (url.includes("/queue/join")) return new Promise((resolve) => window.joins.push(
    (id) => resolve(Response.json(id ? { event_id: id } : { detail: "full" }, { status: id ? 200 : 503 }))));
  const held = url.includes("/heartbeat/") ? window.beats : window.streams;
  return new Promise((resolve) => {
    const bytes = (text) => new TextEncoder().encode(text);
    const body = new ReadableStream({ start: (out) => held.push({
      send: (msg, event_id) => out.enqueue(bytes(`data: ${JSON.stringify({ msg, event_id })}\\n\\n`)),
      half: (text) => out.enqueue(bytes(text)),
      end: () => out.close(),
      fail: () => out.error(new TypeError("network error")),
    }) });
    resolve(new Response(body));
  });
};
"""
# Gradio as far as it matters: it opens a stream unless it believes that there is one, and leaves it when told so.
GRADIO = """
window.heard = [];
window.open_ = false;
window.listen = async () => {
  window.open_ = true;
  const control = new AbortController();
  const answer = await fetch(new Request("/gradio_api/queue/data?session_hash=s", { signal: control.signal }));
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read().catch(() => ({ done: true }));
    if (done) return;
    for (const line of value.split("\\n\\n").filter(Boolean)) {
      const message = JSON.parse(line.slice(6));
      window.heard.push(`${message.msg} ${message.event_id ?? ""}`.trim());
      if (message.msg === "close_stream") { window.open_ = false; control.abort(); }
    }
  }
};
window.join = async () => {
  const answer = await fetch("/gradio_api/queue/join?", { method: "POST" });
  const said = await answer.json();
  if (answer.ok && !window.open_) window.listen();
  return said.event_id ?? said.error ?? said.detail;
};
window.rest = () => new Promise((resolve) => setTimeout(resolve, 30));
"""


@pytest.fixture
def bare(browser: Any) -> Iterator[Any]:
    """A page with nothing but the script, between an app and a Gradio that the test plays."""
    page = browser.new_context().new_page()
    page.route("**/*", lambda route: route.fulfill(body="<html></html>", content_type="text/html"))
    page.goto("http://127.0.0.1:9/")
    script = next(script for script in SCRIPTS if script.name == "streams.js").read_text(encoding="utf-8")
    for part in (APP, script, GRADIO):
        page.evaluate(f"() => {{ {part} }}")
    yield page
    page.context.close()


def test_an_event_that_is_taken_while_the_app_closes_its_stream_is_heard_of_on_the_next(bare: Any) -> None:
    heard = bare.evaluate(
        """async () => {
          const first = join(); joins[0]("a"); await first; await rest();
          const second = join(); await rest();
          streams[0].send("process_completed", "a"); streams[0].send("close_stream"); streams[0].end(); await rest();
          joins[1]("b"); await second; await rest();
          streams[1].send("process_completed", "b"); streams[1].send("close_stream"); streams[1].end(); await rest();
          return [heard, streams.length, open_];
        }"""
    )
    assert heard == [["process_completed a", "process_completed b", "close_stream"], 2, False]


def test_an_end_that_comes_before_the_answer_is_no_reason_to_wait(bare: Any) -> None:
    heard = bare.evaluate(
        """async () => {
          const first = join(); joins[0]("a"); await first; await rest();
          const second = join(); await rest();
          streams[0].half('data: {"msg":"process_comp'); await rest();
          streams[0].half('leted","event_id":"b"}\\n\\n');
          streams[0].send("process_completed", "a"); streams[0].send("close_stream"); streams[0].end(); await rest();
          joins[1]("b"); await second; await rest();
          return heard;
        }"""
    )
    assert heard == ["process_completed b", "process_completed a", "close_stream"]


@pytest.mark.parametrize("fault", ["fail", "end"])
def test_a_stream_that_broke_is_told_of_and_the_next_event_opens_another(bare: Any, fault: str) -> None:
    heard = bare.evaluate(
        f"""async () => {{
          const first = join(); joins[0]("a"); await first; await rest();
          const lost = join(); await rest();
          streams[0].{fault}(); await rest();
          joins[1]("b"); const said = await lost;
          const third = join(); joins[2]("c"); await third; await rest();
          streams[1].send("process_completed", "c"); streams[1].send("close_stream"); await rest();
          return [heard, said, streams.length, open_];
        }}"""
    )
    expected = ["broken_connection", "close_stream", "process_completed c", "close_stream"]
    assert heard == [expected, "Connection errored out. ", 2, False]


def test_behind_the_last_heartbeat_events_are_told_as_lost_and_a_page_at_rest_is_told_nothing(bare: Any) -> None:
    heard = bare.evaluate(
        """async () => {
          const beat = async () => {
            const answer = await fetch("/gradio_api/heartbeat/s");
            return answer.text().catch(() => "");
          };
          const resting = beat(); await rest(); beats[0].fail(); await resting; await rest();
          const before = [...heard];
          const other = beat();
          const first = join(); joins[0]("a"); await first; await rest();
          beats[1].end(); await other; await rest();
          return [before, heard, open_];
        }"""
    )
    assert heard == [[], ["broken_connection", "close_stream"], False]


def test_what_is_refused_and_what_is_no_event_come_as_they_are(bare: Any) -> None:
    assert bare.evaluate("async () => { const full = join(); joins[0](''); return await full; }") == "full"
    assert bare.evaluate("async () => (await fetch('/other')).text()") == "other"


def test_what_is_written_while_the_page_still_opens_stays(tmp_path: Path, browser: Any) -> None:
    with slow(tmp_path, browser, "models=slow&prompt=Sing", b"/run/predict", 1.5) as page:
        page.fill("#prompt textarea", "Dance")
        page.wait_for_function("!new URLSearchParams(location.search).has('prompt')", timeout=30_000)
        assert page.locator("#prompt textarea").input_value() == "Dance"
        page.click("button#run")
        page.wait_for_selector(".asked-line:has-text('Dance')", timeout=30_000)
