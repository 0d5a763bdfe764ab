"""Filters, order, and what is offered instead of a model that is too large."""

from __future__ import annotations

from typing import Any

import pytest

from playground import paths
from playground.catalog.card_schema import Card
from playground.catalog.entries import CatalogEntry, load_catalog
from playground.catalog.search import SORTS, Filters, Listed, choices, listed, select, smaller
from playground.records import ModelSpec

CATALOG = load_catalog(paths.CATALOG)
SPACE_MB = 16_000


def ids(limit_mb: float = SPACE_MB, sort: Any = "catalogue", **filters: Any) -> list[str]:
    return [item.entry.spec.id for item in select(CATALOG, Filters(**filters), sort, limit_mb=limit_mb)]


def entry_of(model: str, **card: Any) -> CatalogEntry:
    spec = ModelSpec(
        model, model, f"hub:a/{model}", "", "onnx", "int8", 64, "chat", ("onnx-int8",), upstream=f"a/{model}"
    )
    return CatalogEntry(spec, Card.model_validate({**card, "verified": list(card), "sources": ["https://a.example"]}))


def test_no_filter_gives_the_catalogue_as_it_stands() -> None:
    assert ids() == list(CATALOG.ids())


@pytest.mark.parametrize(
    ("filters", "there", "not_there"),
    [
        ({"specialisation": "japanese"}, "elyza-japanese-llama-2-7b-instruct", "mistral-7b-instruct-v0.1"),
        ({"specialisation": "biomedical"}, "biomistral-7b", "mistral-7b-instruct-v0.1"),
        ({"specialisation": "math"}, "openmath-mistral-7b", "biomistral-7b"),
        ({"specialisation": "code"}, "llama-pro-8b", "openmath-mistral-7b"),
        ({"family": "llama 2"}, "llama-pro-8b", "llama-3.2-1b-instruct"),
        ({"family": "Falcon"}, "gpt4all-falcon", "biomistral-7b"),
        ({"license": "LLAMA2"}, "llama-2-7b-chat", "falcon-7b-instruct"),
        ({"commercial": "yes"}, "falcon-7b-instruct", "llama-2-7b-chat"),
        ({"commercial": "conditional"}, "llama-2-7b-chat", "opt-125m"),
        ({"task": "text2text-generation"}, "flan-t5-small", "gpt2"),
        ({"max_parameters": 200_000_000}, "pythia-160m", "gemma-3-270m"),
        ({"min_openness": 5}, "olmo-2-1b", "smollm2-135m-instruct"),
        ({"runs_here": True}, "olmo-2-1b", "mixtral-8x7b-instruct-v0.1"),
        ({"search": "ELYZA llama"}, "elyza-japanese-llama-2-7b", "llama-2-7b-chat"),
        ({"search": "refinedweb"}, "falcon-7b-instruct", "gpt2"),
        ({"search": "アシスタント"}, None, "gpt2"),
    ],
)
def test_a_filter_keeps_what_fits_and_drops_what_does_not(
    filters: dict[str, Any], there: str | None, not_there: str
) -> None:
    found = ids(**filters)
    assert there is None or there in found
    assert not_there not in found


def test_filters_add_up() -> None:
    assert set(ids(specialisation="japanese", commercial="yes")) == set(ids(specialisation="japanese")) & set(
        ids(commercial="yes")
    )
    assert ids(specialisation="japanese", license="no-such-licence") == []


def test_an_unknown_size_fits_no_limit_of_size_or_memory() -> None:
    assert "openassistant-falcon-40b" not in ids(max_parameters=10**15)
    assert "openassistant-falcon-40b" not in ids(runs_here=True, limit_mb=10**12)


def test_a_value_nobody_read_satisfies_no_filter() -> None:
    entry = CatalogEntry(
        entry_of("x").spec,
        Card.model_validate({"specialisation": "math", "parameters": 5, "sources": ["https://a.example"]}),
    )
    item = listed(entry, SPACE_MB)
    assert (item.specialisations, item.footprint, item.fits) == ((), None, None)


def test_what_runs_here_depends_on_the_memory_there_is() -> None:
    assert "mistral-7b-instruct-v0.1" in ids(runs_here=True, limit_mb=64_000)
    assert "mistral-7b-instruct-v0.1" in ids(runs_here=True, limit_mb=16_000)
    assert "mistral-7b-instruct-v0.1" not in ids(runs_here=True, limit_mb=5_000)
    assert ids(runs_here=True, limit_mb=100) == []


@pytest.mark.parametrize("sort", SORTS)
def test_sorting_loses_nobody(sort: Any) -> None:
    assert sorted(ids(sort=sort)) == sorted(CATALOG.ids())


def test_each_order_is_what_it_says_with_the_unknown_last() -> None:
    def values(sort: Any, key: Any) -> list[Any]:
        return [key(item) for item in select(CATALOG, Filters(), sort, limit_mb=SPACE_MB)]

    sizes = values("parameters", lambda item: item.facts.parameters.value)
    known = [size for size in sizes if size is not None]
    assert known == sorted(known)
    assert sizes[: len(known)] == known
    open_items = values("openness", lambda item: item.open_items)
    assert open_items == sorted(open_items, reverse=True)
    names = values("name", lambda item: item.entry.spec.name.lower())
    assert names == sorted(names)
    releases = [value for value in values("release", lambda i: i.facts.extra.get("release")) if value]
    assert [fact.value for fact in releases] == sorted((fact.value for fact in releases), reverse=True)


def test_the_choices_are_those_that_occur() -> None:
    offered = choices(CATALOG, SPACE_MB)
    assert {"japanese", "biomedical", "math", "code"} <= set(offered["specialisation"])
    assert "" not in offered["family"]
    for name, values in offered.items():
        for value in values:
            assert ids(**{name: value}), (name, value)


def test_instead_of_a_model_that_is_too_large_relatives_that_fit_are_offered() -> None:
    every = select(CATALOG, Filters(), limit_mb=8_000)
    olmo = next(item for item in every if item.entry.spec.id == "olmo-7b")
    assert not olmo.fits
    offered: list[Listed] = smaller(olmo, every)
    assert [item.entry.spec.id for item in offered][:2] == ["olmo-2-1b", "olmo-1b"]
    assert all(item.fits for item in offered)


def test_a_model_like_no_other_has_no_smaller_relative() -> None:
    lone = listed(entry_of("lone", parameters=10**12, family="Lone", specialisation="knitting"), SPACE_MB)
    assert smaller(lone, select(CATALOG, Filters(), limit_mb=SPACE_MB)) == []
