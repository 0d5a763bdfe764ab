"""The Catalogue tab: what it lists, what it says of a model, what it lets a visitor take into the comparison."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gradio as gr
import pytest

from playground import paths, service
from playground.catalog.entries import load_catalog
from playground.catalog.facts import full_facts
from playground.catalog.hub import HubInfo
from playground.catalog.hub_cards import hub_facts, keep
from playground.catalog.search import Filters, Listed, listed, select, smaller
from playground.service import Playground
from playground.ui.html import catalog as explorer
from playground.ui.tabs import catalog, form

CATALOG = load_catalog(paths.CATALOG)
SPACE_MB = 16_000
EVERY = select(CATALOG, Filters(), limit_mb=SPACE_MB)


def item_of(model: str, every: list[Listed] = EVERY) -> Listed:
    return next(item for item in every if item.entry.spec.id == model)


def detail(model: str, limit_mb: float = SPACE_MB) -> str:
    every = select(CATALOG, Filters(), limit_mb=limit_mb)
    item = item_of(model, every)
    return explorer.detail_html(item, full_facts(CATALOG, item.entry), smaller(item, every), limit_mb)


@pytest.fixture
def playground(make_settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Playground]:
    """The shipped catalogue on a machine with the memory of a free Space."""
    monkeypatch.setattr(catalog, "limit_mb", lambda: SPACE_MB)
    monkeypatch.setattr(service, "limit_mb", lambda: SPACE_MB)
    settings = replace(make_settings(), catalog_file=paths.CATALOG, models=("smollm2-135m-instruct", "gemma-3-270m"))
    with Playground(settings) as opened:
        yield opened


def test_the_list_names_every_model_and_says_what_it_needs() -> None:
    made = explorer.list_html(EVERY, len(EVERY))
    assert f"{len(EVERY)} models of {len(EVERY)}" in made
    for item in EVERY:
        assert item.entry.spec.name in made
    assert "commercial use: with conditions" in made
    assert "too large" in made
    assert "1000 M" not in made


def test_an_empty_list_says_what_to_do() -> None:
    assert "Take a filter away" in explorer.list_html([], 43)


def test_a_model_too_large_says_so_with_figures_and_offers_relatives_and_the_remote_way() -> None:
    made = detail("mixtral-8x7b-instruct-v0.1")
    assert "Too large to run here" in made
    assert "this machine allows 16.00 GB" in made
    assert "Mistral 7B" in made
    assert "remote:NAME" in made


def test_a_model_that_only_its_preparation_keeps_out_says_that() -> None:
    expected = item_of("olmo-2-1b-instruct").footprint
    assert expected and expected.run_mb < expected.prepare_mb
    made = detail("olmo-2-1b-instruct", (expected.run_mb + expected.prepare_mb) / 2)
    assert "Too large to be prepared here" in made
    assert "remote:NAME" in made


@pytest.mark.parametrize(
    "model",
    [
        *("llama-2-7b-chat", "elyza-japanese-llama-2-7b", "llama-pro-8b", "mistral-7b-instruct-v0.1"),
        *("biomistral-7b", "openmath-mistral-7b", "falcon-7b-instruct", "olmo-7b"),
    ],
)
def test_the_lessons_models_of_7b_run_on_a_space(model: str) -> None:
    assert "It should run here" in detail(model)


def test_a_model_that_fits_says_that_its_figures_are_estimates() -> None:
    made = detail("qwen2.5-0.5b-instruct")
    assert "It should run here" in made
    assert "Estimate" in made
    assert "Smaller relatives" not in made


def test_a_model_of_unknown_size_claims_neither() -> None:
    made = detail("gpt2")
    assert "is unknown" in made
    assert "should run" not in made


def test_a_model_that_needs_code_of_its_own_says_so_with_its_source_and_what_to_take_instead() -> None:
    made = detail("olmo-7b-original")
    assert "Refused here" in made
    assert "ai2-olmo" in made
    assert "<code>olmo-7b</code>" in made
    assert "https://huggingface.co/allenai/OLMo-7B/blob/main/README.md" in made
    assert "Too large" not in made
    line = explorer.list_html([listed(CATALOG.entry("olmo-7b-original"), 1e6)], 1)
    assert "needs code of its own" in line


def test_the_lineage_is_drawn_as_a_path() -> None:
    assert "BioMistral-7B ← Mistral-7B-Instruct-v0.1 ← Mistral-7B-v0.1" in detail("biomistral-7b")


def test_what_a_stranger_wrote_on_the_hub_is_shown_harmless() -> None:
    info = HubInfo(
        "a/b",
        "c" * 40,
        parameters=10**8,
        download_bytes=2 * 10**8,
        gated="manual",
        architecture="<img src=x onerror=1>",
        way="w",
        notes=("<script>",),
        card="---\nlicense: <script>alert(1)</script>\n---\n<script>alert(1)</script>[x](javascript:1)",
    )
    made = explorer.hub_html(info, hub_facts(info), SPACE_MB)
    assert "<script" not in made
    assert "<img" not in made
    assert 'href="javascript:' not in made
    assert "gated: accept its licence" in made
    refused = explorer.hub_html(replace(info, refusal="Pickle <b>only</b>."), hub_facts(info), SPACE_MB)
    assert "It does not run here" in refused
    assert "<b>only" not in refused


def test_showing_a_model_opens_the_way_into_the_comparison_only_if_it_fits(playground: Playground) -> None:
    _, more, rest, button, shown = catalog._show(playground, "qwen3-0.6b")
    assert (button["interactive"], shown) == (True, "qwen3-0.6b")
    assert "### Openness" in rest
    *_, button, _ = catalog._show(playground, "mixtral-8x7b-instruct-v0.1")
    assert (button["interactive"], button["value"]) == (False, "Too large here")
    assert more["visible"]
    *_, button, shown = catalog._show(playground, "olmo-7b-original")
    assert (button["interactive"], button["value"], shown) == (False, "Refused here", "")


@pytest.mark.parametrize("text", ["nobody", "path:/etc", "fake:text=x", "hub:a/b"])
def test_only_models_of_the_catalogue_are_shown_by_name(playground: Playground, text: str) -> None:
    made, _, _, button, shown = catalog._show(playground, text)
    assert "not in the catalogue" in made
    assert (button["interactive"], shown) == (False, "")


@pytest.mark.parametrize("text", ["", "nonsense", "hub:a", "path:/etc/passwd", "a/../b", "https://evil.example/a/b"])
def test_what_is_no_repository_is_refused_before_anything_is_asked(playground: Playground, text: str) -> None:
    made, _, _, button, _ = catalog._look_up(playground, text)
    assert 'data-say="alert"' in made
    assert button["interactive"] is False


def test_what_the_hub_said_earlier_is_part_of_a_models_facts(playground: Playground) -> None:
    keep(HubInfo("Qwen/Qwen3-0.6B", "d" * 40, card="---\nlicense: mit\n---\n"), playground.settings.home)
    made = catalog._show(playground, "qwen3-0.6b")[0]
    assert "The catalogue has: Apache License 2.0" in made


def picker_of(playground: Playground) -> gr.Dropdown:
    with gr.Blocks():
        return form.build(playground).models


def test_the_picker_offers_what_is_served_and_then_what_fits(playground: Playground) -> None:
    offered = [value for _, value in picker_of(playground).choices]
    models = [value.partition("@")[0] for value in offered]
    assert models[0] == "smollm2-135m-instruct"
    assert models.count("qwen2.5-0.5b-instruct") == 1
    assert "mixtral-8x7b-instruct-v0.1" not in models
    assert len(set(offered)) == len(offered)


def test_a_visitor_of_a_space_can_choose_from_the_catalogue_only(playground: Playground) -> None:
    assert picker_of(playground).allow_custom_value
    playground.settings = replace(playground.settings, on_space=True)
    picker = picker_of(playground)
    assert not picker.allow_custom_value
    with pytest.raises(gr.Error):
        picker.preprocess(["hub:a/b"])
    with gr.Blocks():
        assert catalog.build(playground).hub is None


def test_a_name_typed_wrong_says_so_beside_the_picker(playground: Playground) -> None:
    made = form.states_html(playground, ["qwen3-0.6", "gpt2"])
    assert "Did you mean qwen3-0.6b" in made
    assert "GPT-2" in made


def test_filters_read_the_components_in_their_order(playground: Playground) -> None:
    values = ("words", "math", "Mistral", "", "apache-2.0", "yes", 10**9, 3, True, "release")
    filters = catalog._filters(values)
    assert filters == Filters(
        license="apache-2.0",
        commercial="yes",
        family="Mistral",
        specialisation="math",
        max_parameters=10**9,
        min_openness=3,
        runs_here=True,
        search="words",
    )
    assert catalog._order(values) == "release"
    with gr.Blocks():
        labels = [part.label for part in catalog.build(playground).filters]
    assert labels[:6] == ["Search", "Made for", "Family", "Task", "Licence", "Commercial use"]
    assert labels[6:] == ["Parameters", "Open items", "Runs here", "Order"]
