"""Pictures of every tab, wide and narrow, light and dark, and inside a frame that grows with its content as a Space's
does: ``python scripts/screenshots.py`` (or ``make screenshots``) writes them to docs/screenshots.

It starts the app with the two starter models, which have to be prepared, asks them once, and looks at what there is.
docs/screenshot.png, for README.md, is the first of them.
"""

from __future__ import annotations

import argparse
import http.server
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "screenshots"
CHROMIUM = "/usr/bin/chromium"
WIDTHS = {"wide": (1440, 900), "phone": (390, 844)}
THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
VIEWS = ("Outputs", "Timings", "Model cards", "Differences", "What they read")
TABS = ("Measure", "Models", "History", "Learn")
FRAME = ROOT / "tests" / "data" / "growing-frame.html"


def main() -> int:
    """Take them all."""
    parser = argparse.ArgumentParser(description="Pictures of every tab into docs/screenshots.")
    parser.add_argument("--models", default="smollm2-135m-instruct,gemma-3-270m", help="what the app serves")
    options = parser.parse_args()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch, serving(options.models, Path(scratch)) as url, chromium() as browser:
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        asked(page, url)
        page.close()
        for width, (across, down) in WIDTHS.items():
            for theme in THEMES:
                context = browser.new_context(viewport={"width": across, "height": down}, color_scheme=theme)
                every_tab(context.new_page(), f"{url}?__theme={theme}", f"{width}-{theme}")
                context.close()
        framed(browser, url)
    shutil.copyfile(FOLDER / "outputs-wide-light.png", ROOT / "docs" / "screenshot.png")
    print(f"{len(list(FOLDER.glob('*.png')))} pictures in {FOLDER.relative_to(ROOT)}")
    return 0


def asked(page: Page, url: str) -> None:
    """Open the page and have the models answer, so that there is something to see."""
    page.goto(url)
    page.wait_for_selector("button#run")
    page.wait_for_function("() => !document.querySelector('#states li')", timeout=300_000)
    page.click("button#run")
    page.wait_for_function("document.querySelector('#notice').innerText.startsWith('Done')", timeout=180_000)


def every_tab(page: Page, url: str, name: str) -> None:
    """Each tab of the page, and each view of Compare."""
    asked(page, url)
    for view in VIEWS:
        page.get_by_role("tab", name=view, exact=True).click()
        if view == "What they read":
            page.click("#read-prompts")
            page.wait_for_timeout(1500)
        shot(page, f"{_file(view)}-{name}")
    prompt_set(page, name)
    for tab in TABS:
        page.locator("#tabs > .tab-wrapper").get_by_role("tab", name=tab, exact=True).click()
        if tab == "History":
            page.wait_for_selector("#history-list [data-history=open]")
            page.locator("#history-list [data-history=open]").first.click()
        shot(page, f"{_file(tab)}-{name}")
        if tab == "Models":
            page.get_by_role("tab", name="Decide", exact=True).click()
            shot(page, f"decide-{name}")


def prompt_set(page: Page, name: str) -> None:
    """A table of prompts with checks, run, with one of them opened."""
    page.get_by_role("tab", name="Prompt set", exact=True).click()
    page.get_by_role("button", name="A table with checks").click()
    page.wait_for_function("document.querySelector('#suite-told').innerText.includes('8 prompts')")
    page.click("button#suite-run")
    page.wait_for_selector(".suite[data-status=done]", timeout=300_000)
    shot(page, f"prompt-set-{name}")
    page.locator(".suite [data-suite=details]").nth(1).click()
    page.wait_for_selector(".suite-opened")
    page.locator(".suite-find").evaluate("each => each.scrollIntoView()")
    shot(page, f"prompts-and-answers-{name}")
    page.evaluate("window.scrollTo(0, 0)")


def framed(browser: Browser, url: str) -> None:
    """The page in a frame of another page, as tall as what is in it, with a figure's receipt open."""
    with tempfile.TemporaryDirectory() as folder, pages(Path(folder)) as address:
        frame_page = FRAME.read_text(encoding="utf-8").replace("APP", url, 1)
        (Path(folder) / "index.html").write_text(frame_page, encoding="utf-8")
        for width, (across, down) in WIDTHS.items():
            page = browser.new_page(viewport={"width": across, "height": down})
            page.goto(f"{address}index.html")
            frame = page.frame_locator("iframe")
            frame.locator("button#run").click()
            frame.locator("#notice", has_text="Done").wait_for(timeout=180_000)
            page.wait_for_function("parseFloat(document.querySelector('iframe').style.height) > 0")
            frame.locator(".slip-opener").first.click()
            shot(page, f"in-a-frame-{width}")
            page.close()


def shot(page: Page, name: str) -> None:
    """A picture of what is in sight."""
    page.wait_for_timeout(700)
    saved(page, name)


def saved(page: Page, name: str) -> None:
    """Write it with 128 colours: a third of the size."""
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.quantize(128).save(FOLDER / f"{name}.png", optimize=True)


def _file(title: str) -> str:
    return title.lower().replace(" ", "-")


@contextmanager
def serving(models: str, scratch: Path) -> Iterator[str]:
    """The app on a free port, with what is prepared and a history of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = Path(os.environ.get("PLAYGROUND_HOME", Path.home() / ".cache" / "open-model-playground"))
    for part in home.iterdir():
        if part.is_dir() and part.name != "gradio":
            (scratch / part.name).symlink_to(part)
    process = subprocess.Popen(
        [sys.executable, "app.py", "--port", str(port), "--models", models],
        cwd=ROOT,
        env={**os.environ, "PLAYGROUND_HOME": str(scratch), "PLAYGROUND_FRAMES": "http://127.0.0.1:*"},
        stdout=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}/"
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(url, timeout=5).close()
                break
            except OSError:
                time.sleep(0.2)
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


@contextmanager
def pages(folder: Path) -> Iterator[str]:
    """A web server for files of this folder."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(folder))

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window."""
    with sync_playwright() as playwright:
        path = CHROMIUM if Path(CHROMIUM).exists() else None
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


if __name__ == "__main__":
    sys.exit(main())
