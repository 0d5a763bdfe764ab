"""The Twins tab and "Same again?" in a real browser, on scripted models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.cli.test_commands import scripted
from tests.ui.test_app import App, chromium, serving

pytestmark = pytest.mark.ui

TWINS = {
    "one": "text=the+quick+brown+fox&step_s=0.02",
    "other": "text=the+quick+red+fox&step_s=0.02",
    "slow": "text=a+b+c+d+e+f+g+h&step_s=2",
    "broken": "text=the+quick&fail_score=1",
}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    folder = tmp_path_factory.mktemp("twins")
    models = [scripted(name, script) for name, script in TWINS.items()]
    (folder / "catalog.yaml").write_text(yaml.safe_dump({"schema_version": 1, "models": models}))
    with serving(folder, "one, other, slow, broken", folder / "catalog.yaml") as app:
        yield app


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Any, app: App) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 390, "height": 840})
    page = context.new_page()
    page.goto(app.url)
    page.wait_for_selector("button#run")
    yield page
    context.close()


def open_tab(page: Any, name: str) -> None:
    tab = page.get_by_role("tab", name=name)
    if not tab.first.is_visible():
        page.locator("#tabs .overflow-menu > button").click()
        page.locator("#tabs .overflow-dropdown button", has_text=name).click()
        return
    tab.first.click()


def compare(page: Any, reference: str, twin: str) -> None:
    open_tab(page, "Twins")
    for box, name in (("#twin-reference", reference), ("#twin-other", twin)):
        page.fill(f"{box} input", f"{name}@fake-none")
        page.keyboard.press("Enter")
    page.click("button#twins")


def state(page: Any, words: str) -> str:
    page.wait_for_function(
        "words => document.querySelector('#twins-state').innerText.includes(words)", arg=words, timeout=30_000
    )
    return str(page.locator("#twins-state").inner_text())


def test_two_twins_are_told_apart_and_their_answers_can_be_run_again(page: Any) -> None:
    compare(page, "one", "other")
    state(page, "Done")
    shown = page.locator("#twins-shown")
    assert shown.locator("article mark.parts").all_inner_texts() == ["brown ", "red "]
    assert "1 of 4" in shown.locator(".tiles").inner_text()
    assert "nats a token" in shown.locator(".tiles").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    open_tab(page, "History")
    assert not page.locator("button#again").is_visible()
    page.locator("#history input[type=radio]").first.click()
    page.click("button#again")
    page.wait_for_selector("#again-shown .again", timeout=30_000)
    assert page.locator("#again-shown .badge").all_inner_texts() == ["identical"] * 2
    assert "as they were" in page.locator("#again-shown").inner_text()


def test_a_twin_that_cannot_be_scored_is_named_and_the_next_pair_works(page: Any) -> None:
    compare(page, "one", "broken")
    assert "broken: its script says that scoring fails" in state(page, "fails")
    assert page.locator("button#twins").is_enabled()
    compare(page, "one", "one")
    assert "named twice" in state(page, "twice")


def test_stop_ends_a_diff(page: Any) -> None:
    compare(page, "slow", "one")
    page.wait_for_selector("#twins-shown .panel.is-token", timeout=30_000)
    page.click("button#stop-twins")
    assert "was stopped" in state(page, "stopped")
    page.wait_for_selector("button#twins:enabled")
