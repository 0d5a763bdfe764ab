"""The real app, started as people start it, and a browser that uses its page as people do."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from playground.paths import ROOT
from tests.support.nursery import ForkedApp, nursery

DATA = Path(__file__).parents[1] / "data"
CHROMIUMS = ("/usr/bin/chromium-headless-shell", "/usr/bin/chromium")
"""The first one there is used: without a browser's own window, menus and services a page costs a third less."""
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SPACE = """
app:
  models: [{models}]
  limits: {{max_models: 8, max_new_tokens: 256, max_prompt_chars: 2000, max_sessions: 4, stall_timeout_s: {stall_s},
           max_calls_per_minute: 100000}}
"""


@dataclass(frozen=True)
class App:
    url: str
    process: subprocess.Popen[str] | ForkedApp
    cpu_s: float
    """What it computed until the page was up: unlike the clock, this does not depend on who else is busy here. Without
    what its libraries take, if it was forked."""

    def workers(self) -> list[psutil.Process]:
        """Its child processes that are alive."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in children if child.status() != psutil.STATUS_ZOMBIE]


@contextmanager
def serving(
    folder: Path,
    models: str,
    catalog: Path = DATA / "fake_catalog.yaml",
    home: Path | None = None,
    *,
    stall_s: float = 3,
    forked: bool = True,
    **more: str,
) -> Iterator[App]:
    """``python app.py`` on a free port until the block ends; its home is in ``folder`` if none is given.

    Args:
        forked: Whether it may come from the nursery, where its libraries are imported already.
        more: Further environment variables.
    """
    space = folder / "space.yaml"
    space.write_text(SPACE.format(models=models, stall_s=stall_s), encoding="utf-8")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {
        **os.environ,
        "PLAYGROUND_HOME": str(home or folder / "home"),
        "PLAYGROUND_SPACE": str(space),
        "PLAYGROUND_CATALOG": str(catalog),
        "HF_HUB_OFFLINE": "1",  # nothing but loopback is asked; a test with a Hub of its own says so
        **more,
    }
    arguments = ["app.py", "--port", str(port)]
    process: subprocess.Popen[str] | ForkedApp
    if forked and nursery().suits(env):
        process = nursery().fork(arguments, env)
    else:
        process = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
    url = f"http://127.0.0.1:{port}/"
    began = time.monotonic()
    try:
        while True:
            try:
                urllib.request.urlopen(url, timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, "the app ended at once"
                assert time.monotonic() - began < 60
                time.sleep(0.1)
        used = psutil.Process(process.pid).cpu_times()
        yield App(url, process, used.user + used.system)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)  # gradio waits 5 s for streams that are open; the rest is for whoever else computes here
        finally:
            process.kill()
            assert process.stdout
            process.stdout.close()


@contextmanager
def chromium(*more: str) -> Iterator[Any]:
    """Headless Chromium under Playwright, with ``more`` of its switches; skips where there is none."""
    api = pytest.importorskip("playwright.sync_api")
    executable = next((path for path in CHROMIUMS if Path(path).exists()), None)
    if executable is None:
        pytest.skip(f"none of {', '.join(CHROMIUMS)}")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=[*FLAGS, *more])
        yield browser
        browser.close()


def choose(page: Any, *names: str) -> None:
    """Have exactly these models chosen, each in the first variant of that name."""
    box = page.locator("#models input")
    if page.locator("#models .token").count():
        page.locator("#models .remove-all").click()
        page.wait_for_function("!document.querySelector('#models .token')")
    for name in names:
        box.fill(name)
        page.locator("[role=option]", has_text=re.compile(rf"^\W*{re.escape(name)}( · |\s*$)")).first.click()
    page.wait_for_function("n => document.querySelectorAll('#models .token').length === n", arg=len(names))
    box.blur()
    page.wait_for_timeout(300)


def chosen(page: Any) -> list[str]:
    """The models that are chosen, as their picker names them."""
    return [text.strip() for text in page.locator("#models .token span").all_inner_texts() if text.strip()]


def panel(page: Any, name: str) -> Any:
    return page.locator(f"#outputs .panel[aria-label^='{name} ']")


def answer(page: Any, name: str) -> str:
    """What a model wrote, as it wrote it."""
    return str(panel(page, name).locator(".raw").text_content())


def notice(page: Any, starts: str, timeout_s: float = 30) -> str:
    page.wait_for_function(
        "starts => document.querySelector('#notice').innerText.trim().startsWith(starts)",
        arg=starts,
        timeout=timeout_s * 1000,
    )
    return str(page.locator("#notice").inner_text())


def run_to_end(page: Any) -> str:
    page.click("button#run")
    return notice(page, "Done")
