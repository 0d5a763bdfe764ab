"""Decode in the app while two sessions watch, beside the bare loop in the same minutes.

    python -m playground bench app [--repeats 5] [--tokens 128] [--model ID] [--without-browsers] [--json]

    clients    two clients of the app's event stream, as two browsers on other machines would be
    browsers   two pages in headless Chromium on this machine, drawing every token on the cores that are measured
    bare       the shortest loop that decodes, no app

The real app runs in a process of its own. Both sessions ask at once; while one is streamed to, the other waits for its
turn and is told where it stands. The app's share is its processor time per token, its workers' left out. Browsers need
playwright and chromium (requirements-dev.txt) and are left out with a word where these are missing.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from shutil import which
from typing import Any
from urllib.parse import urlencode

import psutil

from benchmarks._parties import Prompt, missing, prepared, seated, seats
from benchmarks._sections import order
from benchmarks.engine import note
from playground.config.settings import Settings, load_settings
from playground.errors import PlaygroundError, RunError
from playground.paths import ROOT
from playground.records import Request
from playground.results.store import Store
from playground.runtimes.generation.prompt import Prompter
from playground.runtimes.generation.timing import decode_rate
from playground.service import Playground

GOAL = 0.95
START_S, ANSWER_S = 60.0, 120.0
DRAWN_S = 2.0
"""After the end of an answer; pages have drawn all of it by then and are at rest."""
PROMPT = "Write a long story about a lighthouse keeper who finds a message in a bottle. Tell it in great detail."


def _answers(port: int) -> bool:
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def app(settings: Settings) -> Iterator[tuple[str, psutil.Process]]:
    """The app on a free port: its address and its process.

    Raises:
        RunError: It did not start.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = os.environ | {"PLAYGROUND_HOME": str(settings.home), "GRADIO_ANALYTICS_ENABLED": "False"}
    command = [sys.executable, "app.py", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + START_S
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > end:
                raise RunError("The app did not start", "Start it by hand: python app.py.")
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/", psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(timeout=30)


class Clients:
    """Two clients of the event stream, by the app's own API."""

    def __init__(self, url: str) -> None:
        from gradio_client import Client

        self._clients = [Client(url, verbose=False) for _ in range(2)]

    def ask(self, variant: str, tokens: int) -> list[Mapping[str, Any]]:
        """Both ask at once; the two runs."""
        asked = {"prompt": PROMPT, "models": [variant], "max_new_tokens": tokens}
        jobs = [client.submit(**asked, api_name="/compare") for client in self._clients]
        return [job.result()["runs"][0] for job in jobs]


class Browsers:
    """Two pages of a headless Chromium, which stay open. What they were shown is read from the store, where each run is
    kept.
    """

    def __init__(self, url: str, variant: str, store: Store, stack: ExitStack) -> None:
        from playwright.sync_api import sync_playwright

        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"])
        stack.callback(browser.close)
        self._store = store
        self._pages = [browser.new_context(viewport={"width": 1440, "height": 900}).new_page() for _ in range(2)]
        for page in self._pages:
            page.goto(f"{url}?{urlencode({'models': variant, 'prompt': PROMPT})}")
            page.wait_for_function(
                "prompt => document.querySelector('#prompt textarea')?.value === prompt"
                " && document.querySelectorAll('#models .token').length === 1",
                arg=PROMPT,
            )
            page.locator("#parameters > button").click()

    def ask(self, variant: str, tokens: int) -> list[Mapping[str, Any]]:
        """Both click at once; the two runs."""
        known = {comparison.id for comparison in self._store.list()}
        for page in self._pages:
            field = page.get_by_label("number input for Max new tokens")
            if field.input_value() != str(tokens):
                field.fill(str(tokens))
                field.blur()
                page.wait_for_timeout(500)
        for page in self._pages:  # a click by playwright would wait until the page is still, for seconds
            page.evaluate("document.querySelector('button#run').click()")
        # The pages are not asked: whoever looks into one with every frame makes it draw 60 frames a second.
        new, end = [], time.monotonic() + ANSWER_S
        while len(new) < len(self._pages):
            if time.monotonic() > end:
                raise RunError(f"The pages kept {len(new)} comparisons of {len(self._pages)}", "See the app's log.")
            time.sleep(0.2)
            new = [each for each in self._store.list() if each.id not in known and each.runs[0].timings.output_tokens]
        time.sleep(DRAWN_S)
        return [comparison.runs[0].to_json() for comparison in new]


def chromium() -> str | None:
    """Where the browser is, if there is one."""
    return next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := which(name))), None)


def no_browsers() -> str:
    """Why there are no browsers; empty if there are."""
    if why := missing("playwright"):
        return f"{why} (requirements-dev.txt)"
    return "" if chromium() else "no chromium is installed"


def run_app_bench(model: str, repeats: int, tokens: int, browsers: bool = True) -> dict[str, Any]:
    """Rates of all, the app's processor time per token, and the median ratios.

    Raises:
        PlaygroundError: The model, the app or a session failed.
    """
    settings = load_settings()
    absent = no_browsers() if browsers else "not wanted"
    with Playground(settings) as playground:
        load = prepared(playground, model, "onnx", "int8")
        view = Prompter(Path(load.artifact.path), load.spec).view(Request(PROMPT))
        chosen, skipped = seats(playground, model, ["bare int8"]), dict[str, str]()
        store = playground.store
        with app(settings) as (url, process), seated(chosen, skipped) as parties, ExitStack() as stack:
            if skipped:
                raise RunError(f"The bare loop is not there ({skipped['bare int8']})", "Prepare the model first.")
            variant = str(load.artifact.variant)
            sessions: dict[str, Clients | Browsers] = {"clients": Clients(url)}
            if absent:
                note(f"browsers are left out: {absent}")
            else:
                sessions["browsers"] = Browsers(url, variant, store, stack)
            for each in sessions.values():
                each.ask(variant, 2)
            values: dict[str, list[float]] = {name: [] for name in [*sessions, "bare"]}
            cpu: dict[str, list[float]] = {name: [] for name in sessions}
            for repeat in range(repeats):
                note(f"repeat {repeat + 1} of {repeats}")
                for name in order(list(values), repeat):
                    if name == "bare":
                        sample = parties["bare int8"].ask(Prompt(PROMPT, view.token_ids), tokens)
                        values["bare"].append(sample.decode_tok_s or 0.0)
                        continue
                    rate, cost = _asked(sessions[name], variant, tokens, process)
                    values[name].append(rate)
                    cpu[name].append(cost)
    ratios = {name: statistics.median(a / b for a, b in zip(values[name], values["bare"], strict=True)) for name in cpu}
    return {
        "model": model,
        "tokens": tokens,
        "values": values,
        "app_cpu_ms_per_token": cpu,
        "ratios": ratios,
        "goal": GOAL,
        "met": all(ratio >= GOAL for ratio in ratios.values()),
    }


def _asked(sessions: Clients | Browsers, variant: str, tokens: int, process: psutil.Process) -> tuple[float, float]:
    """The mean rate of both sessions' answers, and the app's milliseconds of processor time per token."""
    before = process.cpu_times()
    runs = sessions.ask(variant, tokens)
    after = process.cpu_times()
    if failed := [run["error"] for run in runs if run["error"]]:
        raise RunError(f"The app did not answer ({failed[0]})", "See its log.")
    rates = [decode_rate(run["timings"]["token_stamps"]) or 0.0 for run in runs]
    used = after.user + after.system - before.user - before.system
    return statistics.mean(rates), 1000 * used / sum(run["timings"]["output_tokens"] for run in runs)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m playground bench app", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m-instruct", help="one that the app shows")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--without-browsers", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    try:
        document = run_app_bench(options.model, options.repeats, options.tokens, not options.without_browsers)
    except PlaygroundError as error:
        note(str(error))
        return 1
    if options.json:
        print(json.dumps(document, indent=1))
        return 0 if document["met"] else 1
    print(f"bare loop: {statistics.median(document['values']['bare']):.1f} tok/s")
    for name, ratio in document["ratios"].items():
        rate = statistics.median(document["values"][name])
        cost = statistics.median(document["app_cpu_ms_per_token"][name])
        met = "✓" if ratio >= GOAL else "✗"
        print(f"two {name}: {rate:.1f} tok/s, ratio {ratio:.3f}, goal ≥ {GOAL} {met}; app's CPU {cost:.2f} ms a token")
    return 0 if document["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
