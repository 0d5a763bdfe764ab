"""The page in a browser, by its name: a Space works in another site's frame, a foreign page and name get nothing."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.app import DATA, App, chromium, serving

pytestmark = pytest.mark.ui

SPACE, HUB, EVIL = "owner-name.hf.test", "hub.test", "evil.test"
GROWING = (DATA / "growing-frame.html").read_text(encoding="utf-8")
BEYOND = """() => [scrollX, document.documentElement.scrollWidth - innerWidth,
    document.documentElement.scrollHeight - innerHeight].map((each) => Math.max(each, 0))"""
REACHED = "each => each.scrollHeight <= each.clientHeight || getComputedStyle(each).overflowY === 'auto'"
SANDBOX = "allow-downloads allow-forms allow-modals allow-popups allow-same-origin allow-scripts"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    env = {"SPACE_ID": "owner/name", "SPACE_HOST": SPACE, "HOST": "127.0.0.1", "PLAYGROUND_FRAMES": f"{HUB}:*"}
    with serving(tmp_path_factory.mktemp("space"), "fast, base", **env) as app:
        yield app


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser for which every name of the tests is this machine, as a rebound name is."""
    names = ", ".join(f"MAP {name} 127.0.0.1" for name in (SPACE, HUB, EVIL))
    with chromium(f"--host-resolver-rules={names}") as browser:
        yield browser


@pytest.fixture(scope="module")
def site(app: App) -> Iterator[int]:
    """Another website, whose page has the app in a frame; returns its port."""
    port = app.url.rstrip("/").rpartition(":")[2]
    address = f"http://{SPACE}:{port}/"
    html = f'<!doctype html><iframe src="{address}" sandbox="{SANDBOX}" width=1200 height=2000></iframe>'
    growing = GROWING.replace("APP", address, 1)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write((growing if self.path == "/growing" else html).encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def test_in_the_hubs_frame_the_page_runs_a_prompt(browser: Any, site: int) -> None:
    page = browser.new_page()
    page.goto(f"http://{HUB}:{site}/")
    inside = page.frame_locator("iframe")
    inside.locator("button#run").wait_for(timeout=60_000)
    inside.locator("button#run").click()
    inside.locator("#notice", has_text="The figures are in Timings").wait_for(timeout=60_000)
    assert "Paris" in inside.locator("#outputs").inner_text()
    page.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_frame_that_grows_a_receipt_and_a_menu_open_in_sight_at_their_openers(
    browser: Any, site: int, width: int
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(f"http://{HUB}:{site}/growing")
    inside = page.frame_locator("iframe")
    inside.locator("button#run").click(timeout=60_000)
    inside.locator("#notice", has_text="The figures are in Timings").wait_for(timeout=60_000)
    page.wait_for_function("parseFloat(document.querySelector('iframe').style.height) > 0")
    inside.get_by_role("tab", name="Timings").click()
    page.wait_for_function("parseFloat(document.querySelector('iframe').style.height) > 1400")
    assert inside.locator("body").evaluate("() => innerHeight") > 1400, "the frame shows all of itself"

    def opened_in_sight(opener: Any, popover: str) -> None:
        beyond = inside.locator("html").evaluate(BEYOND)
        assert beyond[:2] == [0, 0]
        opener.click()
        shown = inside.locator(popover)
        shown.wait_for()
        at, box = opener.bounding_box(), shown.bounding_box()
        below, above = box["y"] - at["y"] - at["height"], at["y"] - box["y"] - box["height"]
        assert -12 < max(below, above) < 12, "it begins at what opened it"
        assert min(box["y"] + box["height"], 800) - max(box["y"], 0) >= min(box["height"], 150), "and can be seen"
        assert inside.locator("html").evaluate(BEYOND) == beyond, "nothing of it is beyond what the frame shows"
        assert shown.evaluate(REACHED), "all of it can be reached"
        page.keyboard.press("Escape")

    for place in (0, 3, -1):
        opened_in_sight(inside.locator("#timings table .slip-opener").nth(place), ".slip:popover-open")
    inside.get_by_role("tab", name="Outputs").click()
    opened_in_sight(inside.locator("#outputs .slip-opener").first, ".slip:popover-open")
    opened_in_sight(inside.locator("#outputs button.more").first, ".menu:popover-open")
    page.close()


def test_in_a_frame_that_grows_a_prompt_set_runs_pauses_and_comes_to_rest(browser: Any, site: int) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.goto(f"http://{HUB}:{site}/growing")
    inside = page.frame_locator("iframe")
    inside.locator("button#run").wait_for(timeout=60_000)
    inside.get_by_role("tab", name="Prompt set", exact=True).click()
    inside.get_by_role("button", name="A table with checks").click(timeout=30_000)
    inside.locator("#suite-told", has_text="8 prompts").wait_for(timeout=30_000)
    inside.locator("button#suite-run").click()
    suite = inside.locator("#suite-shown .suite")
    inside.locator("#suite-shown .suite[data-status=done]").wait_for(timeout=60_000)
    assert suite.locator("[data-suite=ask-delete]").is_visible(), "without a cookie it is the tab's own"
    suite.locator("[data-suite=details]").last.click()
    inside.locator(".suite-opened").wait_for()
    height = "parseFloat(document.querySelector('iframe').style.height)"
    heights = [page.evaluate(height)]
    while len(heights) < 3 or len(set(heights[-2:])) > 1:
        assert len(heights) < 12, heights
        page.wait_for_timeout(1500)
        heights.append(page.evaluate(height))
    assert heights[-1] > 1400
    assert inside.locator("html").evaluate("each => each.scrollWidth <= innerWidth")
    page.close()


def test_a_page_of_another_site_starts_nothing_and_reads_nothing(browser: Any, app: App, site: int) -> None:
    page = browser.new_page()
    page.goto(f"http://{EVIL}:{site}/")
    port = app.url.rstrip("/").rpartition(":")[2]
    for name in ("127.0.0.1", SPACE):
        told = page.evaluate(
            """async (app) => {
                const told = [];
                const json = {"Content-Type": "application/json"};
                const sent = JSON.stringify({data: ["Hi", ["fast"]]});
                for (const [path, how] of [
                    ["gradio_api/call/compare", {method: "POST", headers: json, body: sent}],
                    ["gradio_api/call/compare", {method: "POST", body: sent}],
                    ["config", {}],
                ]) {
                    try { told.push((await fetch(app + path, how)).status); } catch (error) { told.push("blocked"); }
                }
                return told;
            }""",
            f"http://{name}:{port}/",
        )
        assert set(told) <= {"blocked", 403}
    page.close()


def test_a_name_that_was_made_to_lead_here_gets_an_explanation_and_no_page(browser: Any, app: App) -> None:
    page = browser.new_page()
    port = app.url.rstrip("/").rpartition(":")[2]
    answer = page.goto(f"http://{EVIL}:{port}/")
    assert answer.status == 403
    said = page.locator("body").inner_text()
    assert f"'{EVIL}:{port}'" in said
    assert "PLAYGROUND_HOSTS" in said
    told = page.evaluate("fetch('/config').then(answer => answer.status)")
    assert told == 403
    page.close()
