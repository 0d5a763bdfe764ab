"""Sets of models follow from what the catalogue knows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from playground.catalog.entries import load_catalog
from playground.catalog.search import Listed, listed
from playground.catalog.sets import MOST, ModelSet, download_bytes, model_sets
from playground.paths import CATALOG
from playground.records import UNKNOWN, Fact

ITEMS = [listed(entry, 24_000.0) for entry in load_catalog(CATALOG)]


def made(items: list[Listed] | None = None) -> dict[str, ModelSet]:
    found = model_sets(ITEMS if items is None else items, {"smollm2-135m-instruct", "gemma-3-270m"})
    return {each.name: each for each in found}


def ids(which: ModelSet) -> list[str]:
    return [item.entry.spec.id for item in which.models]


def test_each_set_of_the_catalogue_has_models_and_says_its_rule() -> None:
    for each in made().values():
        assert 1 <= len(each.models) <= MOST, each.name
        assert each.rule


def test_the_starter_set_is_what_is_served() -> None:
    assert ids(made()["starter"]) == ["smollm2-135m-instruct", "gemma-3-270m"]


def test_fully_open_means_all_five_items_and_smallest_means_the_fewest_parameters() -> None:
    assert all(item.open_items == 5 for item in made()["open"].models)
    sizes = [item.facts.parameters.value for item in made()["smallest"].models]
    assert sizes == sorted(item.facts.parameters.value for item in ITEMS if item.fits)[:MOST]


def test_japanese_begins_with_models_made_for_it() -> None:
    first = made()["japanese"].models[0]
    assert "japanese" in first.specialisations
    assert all("ja" in item.facts.languages.value for item in made()["japanese"].models)


def test_code_asks_for_a_published_score() -> None:
    assert ids(made()["code"]), "the catalogue has models with HumanEval"
    scoreless = [replace(item, facts=replace(item.facts, quality={}, specialisation=UNKNOWN)) for item in ITEMS]
    assert ids(made(scoreless)["code"]) == []


def test_what_does_not_run_here_is_in_no_set_but_what_is_served() -> None:
    none = [replace(item, fits=False) for item in ITEMS]
    assert {name for name, each in made(none).items() if each.models} == {"starter"}


@pytest.mark.parametrize(("parameters", "expected"), [(None, None), (100, 200)])
def test_a_download_is_estimated_from_the_parameters_or_unknown(parameters: int | None, expected: int | None) -> None:
    item = next(item for item in ITEMS if not item.entry.spec.download_bytes)
    facts = replace(item.facts, parameters=Fact(parameters) if parameters else UNKNOWN)
    assert download_bytes(replace(item, facts=facts)) == expected
    starter = next(item for item in ITEMS if item.entry.spec.id == "smollm2-135m-instruct")
    assert download_bytes(starter) == starter.entry.spec.download_bytes
