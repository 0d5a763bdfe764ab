"""The page in a browser, by its name: a Space works in another site's frame, a foreign page and name get nothing."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.app import App, chromium, serving

pytestmark = pytest.mark.ui

SPACE, HUB, EVIL = "owner-name.hf.test", "hub.test", "evil.test"
SANDBOX = "allow-downloads allow-forms allow-modals allow-popups allow-same-origin allow-scripts"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    env = {"SPACE_ID": "owner/name", "SPACE_HOST": SPACE, "HOST": "127.0.0.1"}
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
    html = f'<!doctype html><iframe src="http://{SPACE}:{port}/" sandbox="{SANDBOX}" width=1200 height=2000></iframe>'

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(html.encode())

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
