"""Measure in a real browser, and the receipt behind every figure: by mouse, by keyboard, on a phone."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.app import App, choose, panel, run_to_end, serving

pytestmark = pytest.mark.ui


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with serving(tmp_path_factory.mktemp("home"), "fast, slow, fails, endless") as app:
        yield app


NOTE_STATES = """() => {
  window.states = [];
  const note = () => window.states.push(document.querySelector('#measure-state')?.innerText ?? '');
  new MutationObserver(note).observe(document.body, {subtree: true, childList: true, characterData: true});
}"""
"""Some states last shorter than a busy browser takes to look again."""


def open_tab(page: Any, name: str) -> None:
    page.get_by_role("tab", name=name).click()


def start_measuring(page: Any, repeats: int) -> None:
    open_tab(page, "Measure")
    page.get_by_label("number input for Repeats").fill(str(repeats))
    page.get_by_label("number input for Tokens of each answer").fill("6")
    page.keyboard.press("Tab")
    page.click("button#measure")


def measured(page: Any) -> str:
    page.wait_for_selector("#measured table", timeout=60_000)
    return str(page.locator("#measured").inner_text())


@pytest.mark.alone
def test_measuring_shows_medians_ranks_and_what_failed_and_is_there_after_a_reload(page: Any) -> None:
    choose(page, "Fast", "Slow", "Fails at token 3")
    page.evaluate(NOTE_STATES)
    start_measuring(page, 3)
    shown = measured(page)
    assert re.search(r"repeat \d of 3", page.evaluate("window.states.join('\\n')"))
    assert "Medians of 3 repeats, answers of 6 tokens" in shown
    assert "token 3 fails" in shown
    row = page.locator("#measured tr", has_text="Decode rate").first.inner_text()
    slow = re.search(r"(1[5-9]|20)\.\d tok/s", row)  # its steps take 50 ms, on a busy machine a little more
    assert slow
    assert row.index("#1") < slow.start() < row.index("#2")
    page.reload()
    page.wait_for_selector("button#measure")  # the page opens at the tab that was at the front
    open_tab(page, "Measure")
    assert "Medians of 3 repeats" in measured(page)


@pytest.mark.alone
def test_stop_ends_a_measurement_within_two_seconds_and_keeps_its_rounds(page: Any) -> None:
    choose(page, "Slow")
    start_measuring(page, 15)
    page.wait_for_function("() => document.querySelector('#measure-state').innerText.match(/repeat ([2-9]|1\\d) of/)")
    began = time.monotonic()
    page.click("button#stop-measure")
    page.wait_for_function("() => document.querySelector('button#measure').innerText === 'Measure'")
    assert time.monotonic() - began < 2.5
    assert "Stopped before the last repeat." in measured(page)


def test_without_a_model_it_says_what_to_do_and_measures_nothing(page: Any) -> None:
    choose(page)
    start_measuring(page, 3)
    page.wait_for_selector("#measure-state [data-say=alert]")
    assert "No model is chosen" in page.locator("#measure-state").inner_text()
    assert page.locator("button#measure").is_enabled()


def test_every_figure_of_a_comparison_opens_its_receipt(page: Any) -> None:
    choose(page, "Fast", "Slow")
    run_to_end(page)
    panel(page, "Fast").locator(".state .slip-opener").first.click()
    receipt = page.locator(".slip:popover-open")
    assert receipt.locator("h3").inner_text() == "Decode rate"
    for words in ("fast@fake-none", "fair: one model at a time", "the script's words", "by affinity", "Commit"):
        assert words in receipt.inner_text()
    page.keyboard.press("Escape")
    assert receipt.count() == 0
    open_tab(page, "Timings")
    openers = page.locator("#timings .slip-opener")
    figures = page.get_by_role("table", name="All figures")
    table = figures.locator(".slip-opener")
    warm = figures.inner_text().count("already loaded")  # then there is no loading time
    assert table.count() == 2 * 12 - warm  # two models, twelve figures
    assert openers.count() == table.count() + 2 * 3  # and three charts
    keys = openers.evaluate_all(
        "found => found.map(one => document.getElementById(one.popoverTargetElement.id) !== null)"
    )
    assert all(keys)


def test_a_receipt_opens_and_closes_by_keyboard_and_gives_the_focus_back(page: Any) -> None:
    choose(page, "Fast")
    run_to_end(page)
    opener = panel(page, "Fast").locator(".state .slip-opener").first
    opener.focus()
    page.keyboard.press("Enter")
    assert page.locator(".slip:popover-open").count() == 1
    assert page.evaluate("document.activeElement.innerText") == "Close"
    page.keyboard.press("Enter")
    assert page.locator(".slip:popover-open").count() == 0
    assert opener.evaluate("one => one === document.activeElement")


def test_a_comparison_is_saved_with_its_receipts(page: Any, tmp_path: Path) -> None:
    choose(page, "Fast")
    run_to_end(page)
    open_tab(page, "Timings")
    with page.expect_download() as json_file:
        page.get_by_role("link", name="JSON", exact=True).click()
    document = json.loads(Path(json_file.value.path()).read_text(encoding="utf-8"))
    assert json_file.value.suggested_filename == f"comparison-{document['id']}.json"
    assert document["receipts"]["models"][0]["figures"]["ttft_s"]["values"] == [
        document["runs"][0]["timings"]["ttft_s"]
    ]
    with page.expect_download() as page_file:
        page.get_by_role("link", name="Markdown").first.click()
    assert Path(page_file.value.path()).read_text(encoding="utf-8").startswith("# Comparison ")


def test_on_a_phone_a_measurement_and_its_receipts_fit(browser: Any, app: App) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 800}, has_touch=True)
    page = context.new_page()
    page.goto(app.url)
    page.wait_for_selector("button#run")
    choose(page, "Fast", "Slow")
    start_measuring(page, 3)
    measured(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    cells = page.locator("#measured td").evaluate_all("found => found.map(one => one.scrollWidth - one.clientWidth)")
    assert max(cells) <= 0
    page.locator("#measured table .slip-opener").nth(3).tap()
    box = page.locator(".slip:popover-open").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390
    context.close()
