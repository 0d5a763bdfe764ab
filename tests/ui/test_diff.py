"""The Diff tab and "Replay" in a real browser, on scripted models."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.support.app import App, serving
from tests.support.scripted_models import catalog_entry

pytestmark = pytest.mark.ui

VARIANTS = {
    "one": "text=the+quick+brown+fox&step_s=0.02",
    "other": "text=the+quick+red+fox&step_s=0.02",
    "slow": "text=a+b+c+d+e+f+g+h&step_s=2",
    "broken": "text=the+quick&fail_score=1",
}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    folder = tmp_path_factory.mktemp("diff")
    models = [catalog_entry(name, script) for name, script in VARIANTS.items()]
    (folder / "catalog.yaml").write_text(yaml.safe_dump({"schema_version": 1, "models": models}))
    with serving(folder, "one, other, slow, broken", folder / "catalog.yaml") as app:
        yield app


@pytest.fixture
def viewport() -> dict[str, int]:
    """A phone's."""
    return {"width": 390, "height": 840}


def open_tab(page: Any, name: str) -> None:
    """By the bar of tabs or by its menu, wherever it stands on a narrow page; tabs move while the page is laid out."""
    tab = page.get_by_role("tab", name=name)
    listed = page.locator("#tabs .overflow-dropdown button", has_text=name)
    deadline = time.monotonic() + 30
    while not (tab.first.is_visible() or listed.is_visible()):
        assert time.monotonic() < deadline, f"there is no tab {name}"
        page.wait_for_timeout(200)
        if not tab.first.is_visible():
            page.locator("#tabs .overflow-menu > button").click()
    (tab.first if tab.first.is_visible() else listed).click()


def compare(page: Any, reference: str, candidate: str) -> None:
    open_tab(page, "Diff")
    for box, name in (("#diff-reference", reference), ("#diff-candidate", candidate)):
        page.fill(f"{box} input", f"{name}@fake-none")
        page.keyboard.press("Enter")
    page.click("button#diff")


def state(page: Any, words: str) -> str:
    page.wait_for_function(
        "words => document.querySelector('#diff-state').innerText.includes(words)", arg=words, timeout=30_000
    )
    return str(page.locator("#diff-state").inner_text())


def test_two_variants_are_told_apart_and_their_answers_can_be_replayed(page: Any) -> None:
    compare(page, "one", "other")
    state(page, "Done")
    shown = page.locator("#diff-shown")
    assert shown.locator("article mark.parts").all_inner_texts() == ["brown ", "red "]
    assert "1 of 4" in shown.locator(".tiles").inner_text()
    assert "nats a token" in shown.locator(".tiles").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    open_tab(page, "History")
    assert not page.locator("button#replay").is_visible()
    page.locator("#history input[type=radio]").first.click()
    page.click("button#replay")
    page.wait_for_selector("#replay-shown .replay", timeout=30_000)
    assert page.locator("#replay-shown .badge").all_inner_texts() == ["identical"] * 2
    assert "as they were" in page.locator("#replay-shown").inner_text()


def test_a_variant_that_cannot_be_scored_is_named_and_the_next_pair_works(page: Any) -> None:
    compare(page, "one", "broken")
    assert "broken: its script says that scoring fails" in state(page, "fails")
    assert page.locator("button#diff").is_enabled()
    compare(page, "one", "one")
    assert "named twice" in state(page, "twice")


def test_stop_ends_a_diff(page: Any) -> None:
    compare(page, "slow", "one")
    page.wait_for_selector("#diff-shown .panel.is-token", timeout=30_000)
    page.click("button#stop-diff")
    assert "was stopped" in state(page, "stopped")
    page.wait_for_selector("button#diff:enabled")
