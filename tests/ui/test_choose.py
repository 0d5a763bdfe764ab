"""The tab Decide of Models in a real browser, on scripted models with stored figures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from playground.experiments.suite_plan import SuitePlan
from playground.records import Cell, Column, ModelRun, Request, SuiteRun, Variant
from playground.results.figures import CHOICE, Measured, Measurement, figure
from playground.results.store import Store
from playground.results.suites import Suites
from playground.system.environment import environment
from tests.support.app import App, serving
from tests.support.suites import suite

pytestmark = pytest.mark.ui
MODELS = ("fast", "slow", "base")


def measured(model: str, speed: float) -> Measured:
    values = {"decode_tok_s": (speed - 1, speed, speed + 1), "ttft_s": (0.1,) * 3, "peak_memory_mb": (speed * 10,) * 3}
    figures = {name: figure(name, CHOICE[name].unit, taken) for name, taken in values.items()}
    return Measured(Variant(model, "fake", "none"), "fake", "none", prompt_tokens=8, figures=figures)


def keep_suite(store: Store) -> None:
    """Thirty prompts: fast passes all, slow every second one, base none."""
    made = suite(30)
    columns = tuple(Column(Variant(model, "fake", "none"), Request()) for model in MODELS)
    run = SuiteRun("s" * 32, "2026-11-24T09:30:00.000Z", "capitals", made.rows, columns, environment(), status="done")
    kept = Suites(store)
    kept.begin(run, SuitePlan(made))
    cells = []
    for row in range(30):
        for column, passed in enumerate((True, row % 2 == 0, False)):
            answer = ModelRun(columns[column].variant, "fake", "none", "x", "stop")
            cells.append(Cell(row, column, 0, answer, passed=passed, score=float(passed)))
    kept.put(run.id, cells)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    folder = tmp_path_factory.mktemp("choose")
    store = Store(folder / "home" / "playground.sqlite3")
    models = tuple(measured(model, speed) for model, speed in zip(MODELS, (90, 40, 20), strict=True))
    store.save_measurement(Measurement("m1", "2026-11-24T09:30:00.000Z", Request("hi"), 3, models, environment()))
    keep_suite(store)
    store.close()
    with serving(folder, "fast, slow", home=folder / "home") as app:
        yield app


def opened(browser: Any, app: App, width: int, theme: str = "light") -> Any:
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(f"{app.url}?__theme={theme}")
    page.wait_for_selector("#run")
    for tab in ("Models", "Decide"):
        page.get_by_role("tab", name=tab, exact=True).click()
    page.wait_for_selector("#verdicts .note")
    return page


def test_a_limit_that_is_typed_and_scores_from_a_file_change_the_page(browser: Any, app: App, tmp_path: Path) -> None:
    page = opened(browser, app, 1440)
    page.get_by_label("Speed, at least (tok/s)").fill("30")
    page.wait_for_selector("text=Of 3 models: 2 eligible, 1 out.")
    scores = tmp_path / "mine.csv"
    scores.write_text("model,score\nfast,40\nslow,70\nbase,60\n")
    page.get_by_role("button", name=re.compile("Scores of your own")).click()
    page.set_input_files("input[data-fill]", str(scores))
    page.wait_for_selector("#picture svg.wide")
    assert page.locator("#picture svg.wide .mark").count() == 3
    assert page.locator("#picture svg.wide .ring").count() == 2, "base is slower and worse than slow"
    assert page.locator("#picture svg.wide .limit").count() == 1
    page.locator("#picture svg.wide .mark").first.focus()
    told = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert re.match(r"\d: \w+.*: Score \(pasted scores\) \d+.*Decode rate .* tokens/s", told)
    page.get_by_role("radio", name="Memory", exact=True).check()
    page.wait_for_selector("figcaption:has-text('against peak memory')")
    page.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_on_a_phone_nothing_is_wider_than_the_screen_and_text_can_be_read(browser: Any, app: App, theme: str) -> None:
    page = opened(browser, app, 390, theme)
    page.get_by_role("button", name=re.compile("Scores of your own")).click()
    page.locator("#own-scores textarea").fill("model,score\nfast,40\nslow,70")
    page.wait_for_selector("#picture svg.narrow")
    assert page.locator("#picture svg.wide").is_hidden()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    heights = page.eval_on_selector_all(
        "#picture svg.narrow text", "all => all.map(t => t.getBoundingClientRect().height)"
    )
    assert min(heights) > 11
    name, card = "document.querySelector('svg.narrow text.name')", "document.querySelector('.scatter')"
    colours = page.evaluate(f"[getComputedStyle({name}).fill, getComputedStyle({card}).backgroundColor]")
    assert contrast(*colours) >= 4.5
    page.close()


def contrast(one: str, other: str) -> float:
    """Of two CSS colours, as WCAG defines it."""

    def light(colour: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    bright, dark = sorted((light(one), light(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def test_a_suite_that_was_run_is_a_limit(browser: Any, app: App) -> None:
    page = opened(browser, app, 1280)
    page.locator("#choose-suite input").click()
    page.get_by_role("option", name="capitals").click()
    page.get_by_label("Pass rate, at least (%)").fill("60")
    page.wait_for_selector("text=Of 3 models: 1 eligible, 1 too close to call, 1 out.")
    shown = page.locator("#verdicts").inner_text()
    assert "pass rate 50% (15 of 30 prompts, 95 % interval 33% to 67%), limit at least 60 %" in shown
    assert "fast@fake-none passes more than slow@fake-none" in shown
    assert "prompts would decide it" in shown
    page.close()
