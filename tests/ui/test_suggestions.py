"""Better small models on the page, with a Hub on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from playground.service.suggestions import SUGGESTED
from tests.support.app import App, serving
from tests.support.hub_server import Hub, tiny_llama
from tests.support.scripted_models import catalog_entry

pytestmark = pytest.mark.ui

FIRST = SUGGESTED[1]


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    server = Hub()
    server.add(f"owner/{FIRST}", tiny_llama())
    server.stall(r"safetensors", seconds=120)  # what is begun goes on for as long as the tests
    yield server
    server.close()


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, hub: Hub) -> Iterator[App]:
    folder = tmp_path_factory.mktemp("suggestions")
    suggested = {"id": FIRST, "name": "Suggested Model", "kind": "chat", "task": "text-generation"}
    suggested |= {"source": f"hub:owner/{FIRST}", "variants": ["onnx-int8"]}  # type: ignore[dict-item]
    document = {"schema_version": 1, "models": [catalog_entry("one", "text=a+b"), suggested]}
    (folder / "catalog.yaml").write_text(yaml.safe_dump(document))
    more = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(folder / "hf"), "HF_HUB_DISABLE_XET": "1"}
    with serving(folder, "one", folder / "catalog.yaml", **more) as app:
        yield app


@pytest.fixture(params=[(1280, 900), (390, 844)], ids=["wide", "phone"])
def viewport(request: pytest.FixtureRequest) -> dict[str, int]:
    return {"width": request.param[0], "height": request.param[1]}


def test_one_click_prepares_a_model_and_chooses_it(page: Any) -> None:
    page.wait_for_selector("#suggestions .suggestion", timeout=30_000)
    told = page.locator("#suggestions")
    assert "Suggested Model" in told.inner_text()
    assert "to download" in told.inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    button = page.get_by_role("button", name="Prepare Suggested Model")
    if button.is_enabled():  # the first of the two pages to come
        button.click()
        page.wait_for_function("document.querySelectorAll('#models .token').length === 2")
    page.wait_for_selector("#suggestions li.is-preparing", timeout=30_000)
    page.wait_for_selector(f"#prepare-{FIRST}:disabled")


def test_without_the_hub_nothing_is_suggested(browser: Any, tmp_path: Path) -> None:
    (tmp_path / "catalog.yaml").write_text(
        yaml.safe_dump({"schema_version": 1, "models": [catalog_entry("one", "text=a+b")]})
    )
    with serving(tmp_path, "one", tmp_path / "catalog.yaml") as app:
        page = browser.new_page()
        page.goto(app.url)
        page.wait_for_selector("button#run")
        page.wait_for_timeout(2500)
        assert not page.locator("#suggestions").is_visible()
        page.close()
