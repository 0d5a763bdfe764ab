"""Fixtures of the tests with a browser. Each module says which ``app`` it looks at, and may say another of these."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.app import App, chromium, serving
from tests.support.web import MODELS, SPACE_ENV


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def viewport() -> dict[str, int]:
    """Width and height of the page."""
    return {"width": 1280, "height": 900}


@pytest.fixture
def page(browser: Any, app: App, viewport: dict[str, int]) -> Iterator[Any]:
    """A first visit. Fails if the page asks another host for anything."""
    context = browser.new_context(viewport=viewport)
    page = context.new_page()
    outside: list[str] = []
    page.on("request", lambda request: request.url.startswith(app.url) or outside.append(request.url))
    page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
    page.goto(app.url)
    page.wait_for_selector("button#run")
    yield page
    context.close()
    assert [url for url in outside if not url.startswith(("data:", "blob:"))] == []


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """As a Space runs it, but for the address it listens on."""
    with serving(tmp_path_factory.mktemp("space"), MODELS, **SPACE_ENV) as app:
        yield app
