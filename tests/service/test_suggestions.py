"""Better small models: asked of a Hub on loopback, told with what they cost, prepared by one call."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from playground.errors import UsageError
from playground.export import Preparation
from playground.messages import msg
from playground.service import Playground
from playground.service import suggestions as module
from playground.service.suggestions import SUGGESTED, Suggestions
from playground.ui.html import suggestions as view
from tests.conftest import MakeSettings
from tests.support.hub_server import Hub, hub, tiny_llama, wait_for

__all__ = ["hub"]

FIRST, SECOND = SUGGESTED[1], SUGGESTED[2]


def entry(id: str, **more: Any) -> dict[str, Any]:
    least = {"id": id, "name": id.title(), "kind": "chat", "task": "text-generation", "source": f"hub:owner/{id}"}
    return {**least, "variants": ["onnx-int8"], **more}


@pytest.fixture
def playground(tmp_path: Path, make_settings: MakeSettings) -> Iterator[Playground]:
    """The catalogue has two of the suggested models, and one that is served."""
    served = {**entry("fast"), "source": "fake:text=a+b", "variants": ["fake-none"]}
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text(yaml.safe_dump({"schema_version": 1, "models": [served, entry(FIRST), entry(SECOND)]}))
    space = tmp_path / "space.yaml"
    space.write_text(f"app: {{models: [fast], space_models: [{FIRST}]}}\n")
    with Playground(make_settings(PLAYGROUND_CATALOG=catalog, PLAYGROUND_SPACE=space)) as playground:
        yield playground


def settled(playground: Playground) -> Suggestions:
    wait_for(lambda: playground.suggestions().state != "asking")
    return playground.suggestions()


def test_nothing_is_asked_before_somebody_wants_to_know(hub: Hub, playground: Playground) -> None:
    assert not hub.requests
    assert playground.suggestions().state == "asking"
    assert settled(playground).state == "reachable"
    assert hub.requests


def test_each_is_told_with_the_size_that_the_hub_says(hub: Hub, playground: Playground) -> None:
    files = tiny_llama()
    hub.add(f"owner/{FIRST}", files, gated="manual")
    found = settled(playground)
    first, second = found.models
    assert (first.listed.entry.spec.id, second.listed.entry.spec.id) == (FIRST, SECOND)
    assert first.bytes == sum(len(data) for name, data in files.items() if name.endswith(".safetensors"))
    assert (first.estimated, first.gated, first.seconds) == (False, True, None)
    assert (second.bytes, second.estimated, second.gated) == (None, True, False)  # the Hub has none of that name
    assert "unknown until" in view.head_html(found)
    assert "Gated" in view.model_html(first) and f"https://huggingface.co/owner/{FIRST}" in view.model_html(first)
    assert "download of unknown size" in view.model_html(second)


def test_what_the_hub_said_is_remembered(hub: Hub, playground: Playground) -> None:
    hub.add(f"owner/{FIRST}", tiny_llama())
    settled(playground)
    asked = len(hub.seen("GET", f"/api/models/owner/{FIRST}"))
    for _ in range(3):
        playground.suggestions()
    with Playground(playground.settings) as again:
        assert settled(again).models[0].bytes
    assert len(hub.seen("GET", f"/api/models/owner/{FIRST}")) == asked


@pytest.mark.parametrize("how", ["refused", "offline", "proxy"])
def test_without_a_hub_there_is_nothing_to_suggest(
    hub: Hub, playground: Playground, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    if how == "refused":
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    elif how == "offline":
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    else:
        hub.fail("/", status=403)
    found = settled(playground)
    assert (found.state, found.models) == ("unreachable", ())


@pytest.mark.alone
def test_whoever_asks_is_never_kept_waiting(hub: Hub, playground: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("playground.catalog.hub.reachable", lambda timeout_s: time.sleep(1) or True)
    began = time.monotonic()
    assert playground.suggestions().state == "asking"
    assert time.monotonic() - began < 0.5


def test_a_hub_that_comes_back_is_found(hub: Hub, playground: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.fail("/", status=503, times=1)
    assert settled(playground).state == "unreachable"
    monkeypatch.setattr(module, "ASK_AGAIN_S", 0.0)
    wait_for(lambda: playground.suggestions().state == "reachable")


def test_one_call_prepares_and_says_what_to_choose(
    hub: Hub, playground: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    monkeypatch.setattr(playground.preparer, "start", lambda variant: started.append(str(variant)))
    assert str(playground.prepare_suggested(FIRST)) == f"{FIRST}@onnx-int8" == started[0]
    with pytest.raises(UsageError, match="'fast' is not suggested here"):
        playground.prepare_suggested("fast")


@pytest.mark.alone
def test_the_speed_of_a_download_is_taken_while_it_goes_on(
    hub: Hub, playground: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = tiny_llama()
    hub.add(f"owner/{FIRST}", files)
    size = settled(playground).models[0].bytes
    assert size
    share = [0.0]
    monkeypatch.setattr(
        playground.preparer, "state", lambda variant: Preparation("preparing", msg("downloading"), share[0])
    )
    monkeypatch.setattr(module, "MEASURED_S", 0.05)
    assert playground.suggestions().models[0].seconds is None
    time.sleep(0.1)
    share[0] = 0.5
    found = playground.suggestions()
    assert found.bytes_per_s and 0.05 * size < found.bytes_per_s < 5 * size
    assert found.models[0].seconds == pytest.approx(size / found.bytes_per_s)
    assert "measured here" in view.head_html(found)


def test_a_space_serves_its_own_set_where_the_hub_answers(
    hub: Hub, playground: Playground, make_settings: MakeSettings
) -> None:
    files = {"PLAYGROUND_CATALOG": playground.settings.catalog_file, "PLAYGROUND_SPACE": playground.settings.space_file}
    playground.settle_served()
    assert playground.served_names == ("fast",)  # a laptop
    with Playground(make_settings(SPACE_ID="owner/name", **files)) as space:
        space.settle_served()
        assert [entry.spec.id for entry in space.served()] == [FIRST]
        hub.close()
        space.settle_served()
        assert [entry.spec.id for entry in space.served()] == ["fast"]
