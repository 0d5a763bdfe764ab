"""The page rests when nothing happens: a loop of frames that Gradio leaves behind is slowed down."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import pytest

from playground.ui.early import SCRIPTS, Early
from tests.support.app import App, choose, run_to_end, serving


def asked(path: str, parts: list[bytes]) -> tuple[dict[bytes, bytes], bytes]:
    """Headers and body that a browser gets for these parts of a page."""
    sent: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        length = str(sum(map(len, parts))).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        for place, part in enumerate(parts):
            await send({"type": "http.response.body", "body": part, "more_body": place + 1 < len(parts)})

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(Early(app)({"type": "http", "method": "GET", "path": path}, None, send))
    return dict(sent[0]["headers"]), b"".join(message.get("body", b"") for message in sent)


def test_the_script_is_the_first_thing_in_the_head_of_the_page_alone() -> None:
    headers, body = asked("/", [b"<html><he", b"ad><script>gradio</script></head>"])
    nonce = re.search(rb"'nonce-([\w-]+)'", headers[b"content-security-policy"])
    assert nonce
    assert body.startswith(b'<html><head><script nonce="%s">' % nonce[1] + SCRIPTS[0].read_bytes())
    assert body.endswith(b'<script nonce="%s">gradio</script></head>' % nonce[1])
    assert headers[b"content-length"] == str(len(body)).encode()
    assert asked("/export/x.html", [b"<head></head>"])[1] == b"<head></head>"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with serving(tmp_path_factory.mktemp("early"), "fast, slow, base") as app:
        yield app


COUNT = """
window.asked = 0;
const native = window.requestAnimationFrame;
window.requestAnimationFrame = (callback) => { window.asked += 1; return native(callback); };
"""


@pytest.mark.ui
def test_a_page_at_rest_asks_for_next_to_no_frames(browser: Any, app: App) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.add_init_script(COUNT)  # below the page's own script, so that it counts what reaches the browser
    page.goto(app.url)
    page.wait_for_selector("button#run")
    choose(page, "Fast")  # hides two columns
    run_to_end(page)
    page.wait_for_timeout(5000)
    before = page.evaluate("window.asked")
    page.wait_for_timeout(3000)
    frames = (page.evaluate("window.asked") - before) / 3
    context.close()
    assert frames < 5


@pytest.mark.ui
def test_frames_that_a_short_movement_asks_for_come_at_full_speed(page: Any) -> None:
    took = page.evaluate(
        """() => new Promise((done) => {
          const began = performance.now();
          let left = 60;
          const step = () => { left -= 1; left ? requestAnimationFrame(step) : done(performance.now() - began); };
          requestAnimationFrame(step);
        })"""
    )
    assert took < 20_000
    cancelled = page.evaluate(
        """() => new Promise((done) => {
          let ran = false;
          cancelAnimationFrame(requestAnimationFrame(() => { ran = true; }));
          setTimeout(() => done(!ran), 200);
        })"""
    )
    assert cancelled


COPIED = """() => {
  const held = { text: "a", parts: [1, { two: 2 }], at: new Date(0), more: new Map([[1, { three: 3 }]]) };
  const copy = structuredClone(held);
  held.parts[1].two = 3;
  held.more.get(1).three = 4;
  const fault = (value) => { try { structuredClone(value); return ""; } catch (error) { return error.name; } };
  const call = () => 0;
  return {
    deep: copy.parts[1].two === 2 && copy.more.get(1).three === 3 && copy.at.getTime() === 0,
    plain: [0, "", null, undefined, false, 2n].every((value) => Object.is(structuredClone(value), value)),
    call: structuredClone(call) === call,
    faults: [fault(Symbol("s")), fault({ call })],
    moved: (() => {
      const buffer = new ArrayBuffer(8);
      return structuredClone(buffer, { transfer: [buffer] }).byteLength === 8 && buffer.byteLength === 0;
    })(),
  };
}"""


@pytest.mark.ui
def test_what_has_parts_is_copied_by_the_browser_and_what_has_none_is_its_own_copy(browser: Any, app: App) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(app.url)
    found = page.evaluate(COPIED)
    context.close()
    faults = found.pop("faults")
    assert all(found.values()), found
    assert faults == ["DataCloneError", "DataCloneError"]
