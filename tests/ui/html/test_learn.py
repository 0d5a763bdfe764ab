"""The lesson says what the catalogue knows, and each point has something to try."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from playground.catalog.entries import load_catalog
from playground.catalog.search import Listed, listed
from playground.catalog.sets import model_sets
from playground.paths import CATALOG
from playground.records import Fact
from playground.ui.html import learn

ITEMS = [listed(entry, 24_000.0) for entry in load_catalog(CATALOG)]
SERVED = ("smollm2-135m-instruct", "gemma-3-270m")


def lesson(items: list[Listed] | None = None, ready: bool = False) -> learn.Lesson:
    models = ITEMS if items is None else items
    return learn.Lesson(models, model_sets(models, SERVED), lambda _: ready, SERVED)


def test_every_prompt_to_try_names_models_that_are_served_and_runs_nothing() -> None:
    drawn = learn.lesson_html(lesson())
    tries = re.findall(r'data-do="use" data-prompt="([^"]+)" data-models="([^"]+)"', drawn)
    assert len(tries) == 4
    assert all(models == ",".join(SERVED) and prompt for prompt, models in tries)


def test_the_ledger_has_five_items_and_the_source_of_each_answer() -> None:
    table = re.search(r"<table.*?</table>", learn.lesson_html(lesson()), re.DOTALL)
    assert table is not None
    rows = re.findall(r'<tr><th scope="row">(.*?)</tr>', table[0], re.DOTALL)
    assert len(rows) == 5
    olmo = next(item for item in ITEMS if item.entry.spec.id == "olmo-7b")
    assert rows[0].count("<td") == len(learn.LEDGER)
    assert olmo.facts.openness.training_data.url.replace("&", "&amp;") in rows[0]


def test_what_is_unknown_stays_unknown_and_has_no_source() -> None:
    blank = [replace(item, facts=type(item.facts)(item.facts.model)) for item in ITEMS]
    table = re.search(r"<table.*?</table>", learn.lesson_html(lesson(blank)), re.DOTALL)
    assert table is not None
    assert table[0].count("unknown") == 5 * len(learn.LEDGER)
    assert "href" not in table[0]


def test_a_family_is_a_tree_along_its_base_models() -> None:
    tree = learn.lineage_html("Llama 2", ITEMS)
    pro = tree.index(">LLaMA Pro 8B (base)<")
    inner = tree[pro : tree.index("</li>", pro)]
    assert "<ul>" in inner, "the instruct model hangs below the one it was made from"
    assert "LLaMA Pro 8B Instruct" in inner
    assert "not in the catalogue" in tree  # Llama-2-7b itself
    assert "fine-tuned, base model unknown" in tree  # what no source we trust says


@pytest.mark.parametrize("family", learn.FAMILIES)
def test_every_model_of_a_family_stands_once_in_its_tree(family: str) -> None:
    tree = learn.lineage_html(family, ITEMS)
    members = [item for item in ITEMS if item.family == family or item.family.startswith(f"{family} ")]
    assert members
    for item in members:
        assert tree.count(f'data-model="{item.entry.spec.id}"') == 1


def test_base_models_that_name_each_other_end() -> None:
    first, second = ITEMS[-2:]

    def of(item: Listed, base: str) -> Listed:
        facts = replace(item.facts, base_model=Fact(base), extra={"family": Fact("Ring")})
        return replace(item, facts=facts)

    ring = [of(first, second.entry.spec.upstream), of(second, first.entry.spec.upstream)]
    assert learn.lineage_html("Ring", ring).count("<li>") == 2


def test_sets_say_what_they_would_download() -> None:
    drawn = learn.sets_html(lesson())
    assert "93 MB to download" in drawn
    assert "(estimate)" in drawn
    assert "size unknown" in drawn
    assert "not every size is known" in drawn
    here = learn.sets_html(lesson(ready=True))
    assert "ready here" in here
    assert here.count("Nothing to download") == 6


def test_a_set_that_nothing_fits_says_so_and_offers_no_button() -> None:
    none = [replace(item, fits=False) for item in ITEMS]
    drawn = learn.sets_html(lesson(none))
    assert drawn.count("No model of the catalogue that runs here fits this rule.") == 5
    assert drawn.count("data-do") == 1
