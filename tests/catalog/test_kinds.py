"""What a model does is read from its own small files, whatever it is called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from playground.catalog.entries import Catalog
from playground.catalog.kinds import ENCODERS, WORDS, has_encoder, kind_in, kind_told

TEMPLATE = {"chat_template": "{{ messages[0]['content'] }}"}


def write(folder: Path, config: dict[str, Any] | None, tokenizer: dict[str, Any] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    if tokenizer is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    return folder


@pytest.mark.parametrize(
    ("config", "tokenizer", "kind"),
    [
        ({"model_type": "llama"}, {}, "base"),
        ({"model_type": "llama"}, TEMPLATE, "chat"),
        ({"model_type": "t5"}, {}, "text2text"),
        ({"model_type": "bart", "is_encoder_decoder": True}, None, "text2text"),
        ({"model_type": "bart", "is_encoder_decoder": False}, {}, "base"),
        ({"model_type": "something-new", "is_encoder_decoder": True}, {}, "text2text"),
        ({"model_type": "t5gemma", "is_encoder_decoder": True}, TEMPLATE, "chat"),
        (None, {}, None),
    ],
)
def test_a_folders_kind(tmp_path: Path, config: Any, tokenizer: Any, kind: str | None) -> None:
    assert kind_in(write(tmp_path, config, tokenizer)) == kind


@pytest.mark.parametrize("name", ["chat_template.jinja", "chat_template.json", "processor_config.json"])
def test_a_template_in_a_file_of_its_own_counts(tmp_path: Path, name: str) -> None:
    write(tmp_path, {"model_type": "llama"}, {})
    (tmp_path / name).write_text(json.dumps(TEMPLATE))
    assert kind_in(tmp_path) == "chat"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"is_encoder_decoder": "yes"}'])
def test_files_that_cannot_be_read_tell_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    assert kind_in(tmp_path) in (None, "base")


def test_the_list_of_encoders_is_transformers_own() -> None:
    """Where config.json does not say it, the class's own default counts."""
    from transformers import CONFIG_MAPPING
    from transformers.models.auto import modeling_auto

    lists = ("CAUSAL_LM", "SEQ_TO_SEQ_CAUSAL_LM", "IMAGE_TEXT_TO_TEXT", "MULTIMODAL_LM")
    names = {name for each in lists for name in getattr(modeling_auto, f"MODEL_FOR_{each}_MAPPING_NAMES")}
    wanted = {name for name in names if getattr(CONFIG_MAPPING[name], "is_encoder_decoder", False) is True}
    assert wanted == ENCODERS
    assert all(has_encoder({"model_type": name}) for name in wanted)


def test_a_path_is_the_kind_its_files_say(tmp_path: Path) -> None:
    folder = write(tmp_path / "t5", {"model_type": "t5", "is_encoder_decoder": True}, {})
    assert Catalog(()).entry(f"path:{folder}").spec.kind == "text2text"


def test_a_repository_is_the_kind_its_files_say_once_they_are_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    kinds = {"t5": ({"model_type": "t5"}, {}), "plain": ({"model_type": "llama"}, {}), "chat": ({"x": 1}, TEMPLATE)}
    for name, (config, tokenizer) in kinds.items():
        place = tmp_path / f"models--someone--{name}"
        write(place / "snapshots" / "a1b2", config, tokenizer)
        (place / "refs").mkdir()
        (place / "refs" / "main").write_text("a1b2")
    shown = {name: Catalog(()).entry(f"hub:someone/{name}").spec.kind for name in kinds}
    assert set(shown.values()) == {"chat"}, "nothing is concluded from half of the files"
    for name in kinds:
        (tmp_path / f"models--someone--{name}" / "snapshots" / "a1b2" / "model.safetensors").touch()
    shown = {name: Catalog(()).entry(f"hub:someone/{name}").spec.kind for name in kinds}
    assert shown == {"t5": "text2text", "plain": "base", "chat": "chat"}
    assert Catalog(()).entry("hub:someone/t5#elsewhere").spec.kind == "chat", "another revision is not here"


def test_before_a_download_config_and_the_hubs_tags_tell() -> None:
    assert kind_told({"model_type": "t5"}, ("translation",)) == "text2text"
    assert kind_told({"model_type": "llama"}, ("conversational",)) == "chat"
    assert kind_told({"model_type": "llama"}, ()) == "base"
    assert kind_told({}, ("text-generation",)) is None
    assert set(WORDS) == {"chat", "base", "text2text"}


def test_page_and_terminal_say_what_a_repository_does_before_it_is_fetched(capsys: pytest.CaptureFixture[str]) -> None:
    from playground.catalog.entries import load_catalog
    from playground.catalog.hub import HubInfo
    from playground.catalog.hub_cards import hub_facts
    from playground.cli import models
    from playground.paths import CATALOG
    from playground.service.cards import Card
    from playground.ui.html.catalog import hub_html

    info = HubInfo("someone/t5", "a1b2", config={"model_type": "t5"}, way="Exported")
    assert WORDS["text2text"] in hub_html(info, hub_facts(info), 4000)
    entry = load_catalog(CATALOG).entry("hub:someone/t5")
    assert Card(entry, hub_facts(info), hub=info).to_json()["hub"]["kind"] == "text2text"
    models._print_hub(info)
    assert WORDS["text2text"] in capsys.readouterr().out


def test_an_encoder_decoder_models_empty_panel_does_not_promise_an_answer(tmp_path: Path) -> None:
    from playground.records import Variant
    from playground.ui.html.panel import Label, waiting_panel

    assert "Turns your prompt into another text" in waiting_panel(Label("T5", Variant("t5"), kind="text2text"))
