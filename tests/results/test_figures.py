"""One table of figures: whatever shows a figure takes its title, unit, definition and direction from there."""

from __future__ import annotations

import ast
import json
from dataclasses import fields

import pytest

from playground.messages import Translatable, msg
from playground.paths import PACKAGE
from playground.records import Fact, Timings
from playground.results.figures import CHOICE, FIGURES, QUANTITIES
from playground.results.receipts import RECEIPTS


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_has_words_that_can_be_translated(name: str) -> None:
    known = FIGURES[name]
    for words in (known.title, known.definition, known.heading):
        assert isinstance(words, Translatable) and words.template
    assert bool(known.direction) == (known.best is not None)


def test_figures_are_named_as_in_timings_or_computed_from_them() -> None:
    assert FIGURES.keys() - {field.name for field in fields(Timings)} == {"decode_char_s"}
    assert set(CHOICE) <= set(QUANTITIES) <= set(RECEIPTS) <= set(FIGURES)


def test_a_value_is_shown_in_the_headings_unit_and_a_missing_one_as_a_dash() -> None:
    assert FIGURES["ttft_s"].shown(0.0204) == "20"
    assert FIGURES["ttft_s"].shown(0.0204, more=1) == "20.4"
    assert FIGURES["peak_memory_mb"].shown(1263.4) == "1,263"
    assert FIGURES["decode_tok_s"].shown(None) == "–"


def test_nobody_else_writes_a_figures_title() -> None:
    """A second table would drift from the first."""
    titles = {str(known.title) for known in QUANTITIES.values()} - {"Total"}
    found = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.name == "figures.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in titles:
                found.add(f"{path.relative_to(PACKAGE)}:{node.lineno} {node.value}")
    assert not found, "\n".join(sorted(found))


def test_a_fact_kept_by_an_earlier_version_and_one_with_messages_are_both_read() -> None:
    old = {"value": "mit", "source": "Model card", "status": "card", "note": "as read"}
    assert Fact.from_json(old) == Fact("mit", "Model card", "", "card", "as read")
    new = Fact(msg("It descends from {repo}.", repo="a/b"), msg("Model card"), "", "catalogue", "plain")
    back = Fact.from_json(json.loads(json.dumps(new.to_json())))
    assert back == new
    assert isinstance(back.value, Translatable) and back.value.values == {"repo": "a/b"}
