"""The page in Chromium on this machine: how soon it answers, how smoothly it streams, what it takes from the models.

    python -m playground bench page [--opens 5] [--repeats 3] [--only opening|streaming|watching|rest] [--json]

    opening    from asking for the page to the first streamed word: Run is pressed as soon as it can be, the starter
               models are warm, each visit is a first one
    streaming  8 scripted models write 400 words each at once: the longest task of the page's main thread and the layout
               shift from the click to the end
    watching   two pages run the first starter model, the decode rate beside the bare loop's (see ``bench app``)
    rest       a page on which nothing happens, first as it opens and then with answers: processor time of all of the
               browser's processes

Opening and watching need the starter models prepared. Everything is measured from outside, in a real browser.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import yaml

from benchmarks.app import app, chromium, no_browsers, run_app_bench
from benchmarks.engine import note
from playground.config.settings import Settings, load_settings
from playground.errors import PlaygroundError, RunError

GOALS = {"first_word_s": 1.5, "longest_task_ms": 200.0, "layout_shift": 0.01, "ratio": 0.92, "rest_percent": 3.0}
COLUMNS, WORDS, STEP_S = 8, 400, 0.03
SENTENCE = "The lamp turns above **the rocks** and `the sea` answers it with a long low sound. "
WATCH = """
window.seen = { tasks: [], shift: 0 };
new PerformanceObserver((list) => {
  for (const each of list.getEntries()) window.seen.tasks.push(each.duration);
}).observe({ type: "longtask" });
new PerformanceObserver((list) => {
  for (const each of list.getEntries()) if (!each.hadRecentInput) window.seen.shift += each.value;
}).observe({ type: "layout-shift" });
"""
"""Notes tasks of more than 50 ms, and layout shifts that no input asked for."""
FIRST_WORD = """
(() => {
  const look = () => {
    const run = document.querySelector("button#run");
    if (run && !run.disabled && window.pressed === undefined && run.offsetParent) {
      window.pressed = performance.now();
      run.click();
    }
    const word = [...document.querySelectorAll("#outputs .panel .raw")].some((each) => each.textContent.trim());
    if (word && window.first_word === undefined) window.first_word = performance.now();
  };
  new MutationObserver(look).observe(document, { childList: true, subtree: true, characterData: true });
})();
"""
"""Presses Run as soon as it is there, and notes when the first word of an answer is in the page."""
DONE = "document.querySelector('#notice').innerText.trim().startsWith('Done')"


@contextmanager
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


def scripted(folder: Path) -> dict[str, str]:
    """Eight models that write ``WORDS`` words at once; the environment that an app with them is started in."""
    text = (SENTENCE * WORDS).split()[:WORDS]
    answer = "\n\n".join(" ".join(text[at : at + 60]) for at in range(0, WORDS, 60)).replace(" ", "+")
    models = [
        {
            "id": f"writer-{place}",
            "name": f"Writer {place}",
            "kind": "chat",
            "task": "text-generation",
            "context_length": 2048,
            "source": f"fake:text={answer.replace(chr(10), '%0A')}&step_s={STEP_S}",
            "revision": "none",
            "variants": ["fake-none"],
        }
        for place in range(1, COLUMNS + 1)
    ]
    limits = {"max_models": COLUMNS, "max_new_tokens": 512, "max_prompt_chars": 2000, "max_sessions": 4}
    served = {"models": [model["id"] for model in models], "limits": {**limits, "stall_timeout_s": 60}}
    (folder / "catalog.yaml").write_text(yaml.safe_dump({"schema_version": 1, "models": models}), encoding="utf-8")
    (folder / "writers.yaml").write_text(yaml.safe_dump({"app": served}), encoding="utf-8")
    return {"PLAYGROUND_CATALOG": str(folder / "catalog.yaml"), "PLAYGROUND_SPACE": str(folder / "writers.yaml")}


def stream(page: Any, url: str) -> dict[str, float]:
    """Eight columns at once; the page's longest task from the click to the end, and its layout shift."""
    page.add_init_script(WATCH)
    models = ",".join(f"writer-{place}" for place in range(1, COLUMNS + 1))
    page.goto(f"{url}?models={models}&prompt=Tell+it.")
    page.wait_for_function(f"document.querySelectorAll('#outputs .panel').length === {COLUMNS}")
    page.locator("#parameters > button").click()
    page.get_by_label("Fast: all at once").check()
    field = page.get_by_label("number input for Max new tokens")
    field.fill(str(WORDS))
    field.blur()
    page.locator("#parameters > button").click()
    page.wait_for_timeout(1500)
    page.evaluate("window.seen.tasks.length = 0; window.seen.shift = 0")
    began = time.monotonic()
    page.click("button#run")
    page.wait_for_function(DONE, timeout=240_000)
    page.wait_for_timeout(1000)
    seen = page.evaluate("window.seen")
    written = page.locator("#outputs .panel .raw").all_text_contents()
    if len(written) != COLUMNS or any(len(text.split()) != WORDS for text in written):
        raise RunError(f"The columns have {[len(text.split()) for text in written]} words", "See the app's log.")
    return {
        "longest_task_ms": max(seen["tasks"], default=0.0),
        "tasks": float(len(seen["tasks"])),
        "layout_shift": float(seen["shift"]),
        "took_s": time.monotonic() - began,
    }


def used_percent(root: psutil.Process, seconds: float) -> float:
    """Processor time that a program's browsers take, in percent of one core."""

    def used() -> dict[int, float]:
        found = {}
        for process in root.children(recursive=True):
            try:
                if "chrom" in process.name():
                    times = process.cpu_times()
                    found[process.pid] = times.user + times.system
            except psutil.Error:
                continue
        return found

    before, began = used(), time.monotonic()
    time.sleep(seconds)
    after, took = used(), time.monotonic() - began
    return 100 * sum(value - before[pid] for pid, value in after.items() if pid in before) / took


def opening(settings: Settings, opens: int) -> dict[str, Any]:
    """From asking for the page to the first word, in each visit."""
    with app(settings) as (url, _), browser() as chrome:
        found = [_visit(chrome, url) for _ in range(opens + 1)][1:]  # the first one loads the models
    return {
        "first_word_s": statistics.median(each["first_word_s"] for each in found),
        "each": found,
        "requests": found[-1]["requests"],
    }


def _visit(chrome: Any, url: str) -> dict[str, float]:
    context = chrome.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.add_init_script(FIRST_WORD)
    page.goto(url, wait_until="commit")
    page.wait_for_function("window.first_word !== undefined", timeout=120_000, polling=100)
    asked = len(requests)
    pressed, word = page.evaluate("[window.pressed, window.first_word]")
    page.wait_for_function(DONE, timeout=120_000)
    context.close()
    return {"run_s": pressed / 1000, "first_word_s": word / 1000, "requests": asked}


def streaming(settings: Settings) -> dict[str, Any]:
    """See ``stream``."""
    with _apart(settings) as url, browser() as chrome:
        return stream(chrome.new_page(viewport={"width": 1440, "height": 900}), url)


def rest(settings: Settings, seconds: float = 15) -> dict[str, Any]:
    """A page at rest, before and after a run."""
    with _apart(settings) as url, browser() as chrome:
        page = chrome.new_page(viewport={"width": 1440, "height": 900})
        page.goto(f"{url}?models=writer-1,writer-2&prompt=Tell+it.")
        page.wait_for_selector("button#run")
        page.wait_for_timeout(6000)
        opened = used_percent(psutil.Process(), seconds)
        page.click("button#run")
        page.wait_for_function(DONE, timeout=120_000)
        page.wait_for_timeout(6000)
        return {"opened_percent": opened, "rest_percent": used_percent(psutil.Process(), seconds)}


@contextmanager
def _apart(settings: Settings) -> Iterator[str]:
    """An app with the scripted models, in a home of its own."""
    with tempfile.TemporaryDirectory() as folder:
        given = scripted(Path(folder))
        kept = {name: os.environ.get(name) for name in given}
        os.environ.update(given)
        try:
            with app(replace(settings, home=Path(folder) / "home")) as (url, _):
                yield url
        finally:
            for name, value in kept.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m playground bench page", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m-instruct", help="the one that two pages run")
    parser.add_argument("--opens", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3, help="of the comparison with the bare loop")
    parser.add_argument("--tokens", type=int, default=512, help="of each answer in it")
    parser.add_argument("--only", choices=["opening", "streaming", "watching", "rest"])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if absent := no_browsers():
        note(f"This is measured in a browser: {absent}")
        return 1
    settings, document = load_settings(), dict[str, Any]({"load_average_at_begin": os.getloadavg()[0]})
    measured = {
        "opening": lambda: opening(settings, options.opens),
        "streaming": lambda: streaming(settings),
        "watching": lambda: run_app_bench(options.model, options.repeats, options.tokens),
        "rest": lambda: rest(settings),
    }
    try:
        for name, measure in measured.items():
            if options.only in (None, name):
                note(name)
                document[name] = measure()
    except PlaygroundError as error:
        note(str(error))
        return 1
    print(json.dumps(document, indent=1) if options.json else "\n".join(lines(document)))
    return 0


def lines(document: dict[str, Any]) -> list[str]:
    """The figures beside their goals."""
    made = [f"load average when it began: {document['load_average_at_begin']:.1f} (above 1.5 others are busy here)"]

    def line(words: str, value: float, goal: str, unit: str = "", *, most: bool = True) -> None:
        met = "✓" if (value <= GOALS[goal] if most else value >= GOALS[goal]) else "✗"
        made.append(f"{words}: {value:.3g}{unit}, goal {'≤' if most else '≥'} {GOALS[goal]:g}{unit} {met}")

    if found := document.get("opening"):
        line("opening → first word, median", found["first_word_s"], "first_word_s", " s")
        pressed = statistics.median(each["run_s"] for each in found["each"])
        made.append(f"  of which until Run can be pressed: {pressed:.2f} s; requests: {found['requests']}")
    if found := document.get("streaming"):
        line("8 × 400 words, longest task", found["longest_task_ms"], "longest_task_ms", " ms")
        line("8 × 400 words, layout shift", found["layout_shift"], "layout_shift")
        made.append(f"  it took {found['took_s']:.0f} s; tasks of more than 50 ms: {found['tasks']:.0f}")
    if found := document.get("watching"):
        line("two pages, decode beside the bare loop", found["ratios"].get("browsers", 0.0), "ratio", most=False)
        made.append(f"  two clients without a browser: {found['ratios']['clients']:.3f}")
    if found := document.get("rest"):
        line("a page as it opens, at rest", found["opened_percent"], "rest_percent", " %")
        line("a page with answers, at rest", found["rest_percent"], "rest_percent", " %")
    return made


if __name__ == "__main__":
    sys.exit(main())
