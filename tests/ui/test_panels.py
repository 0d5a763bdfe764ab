"""Gradio's panels of the API and of settings offer what works here, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.app import App, serving

pytestmark = pytest.mark.ui


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with serving(tmp_path_factory.mktemp("panels"), "fast, slow, base") as app:
        yield app


@pytest.fixture
def panel(browser: Any, app: App) -> Iterator[Any]:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(app.url)

    def opened(link: str) -> Any:
        page.locator("footer button:visible", has_text=link).click()
        panel = page.locator(".api-docs").last
        panel.locator("h2").first.wait_for()
        page.wait_for_timeout(1500)
        return panel

    yield opened
    page.close()


def test_the_api_is_shown_without_a_server_and_a_recorder_that_there_are_none_of(panel: Any) -> None:
    shown = panel("Use via API")
    shown.locator("li.snippet:visible", has_text="cURL").wait_for()
    languages = shown.locator("li.snippet:visible").all_inner_texts()
    assert [each.strip() for each in languages] == ["Python", "JavaScript", "CLI", "cURL"]
    for language in ("Python", "JavaScript", "CLI", "cURL"):
        shown.locator("li.snippet:visible", has_text=language).click()
        text = shown.inner_text()
        assert "/compare" in text
        assert "MCP" not in text
        assert "Recorder" not in text
        assert '"stop": "..."' not in text


def test_settings_offer_the_theme_and_nothing_that_is_off(panel: Any) -> None:
    shown = panel("Settings")
    shown.get_by_text("Display Theme").first.wait_for()
    text = shown.inner_text()
    for off in ("Progressive Web App", "Screen Studio", "Recording", "Language"):
        assert off not in text
    page = shown.page
    shown.get_by_role("button", name="Dark").click()
    page.wait_for_function("document.body.classList.contains('dark')")
