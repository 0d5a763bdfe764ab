"""What the cells of a suite come to, whatever their order; and what changed since an earlier suite."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from playground.records import Column, Request, SuiteRun, Variant
from playground.results.suite_report import regression_words
from playground.results.suite_summary import (
    Outcomes,
    Tally,
    column_keys,
    column_names,
    matched,
    outcomes,
    regression,
    summarise,
)
from tests.support.suite_runs import cell, suite_run
from tests.support.suite_runs import outcomes as cells_of


def of(run: SuiteRun, *signs: str) -> Outcomes:
    tally = Tally(run)
    for each in cells_of(run, *signs):
        tally.add(each)
    return outcomes(run, tally)


# -- summary ------------------------------------------------------------------------------------------------------


def test_the_order_of_cells_changes_nothing() -> None:
    run = suite_run(rows=20, models=("a", "b", "c"), repeats=2)
    cells = [
        cell(run, row, column, (row * column + sample) % 3 > 0, sample, text=f"{row * sample}", decode_tok_s=row + 1.0)
        for row in range(20)
        for column in range(3)
        for sample in range(2)
    ]
    shuffled = cells[:]
    random.Random(1).shuffle(shuffled)
    assert summarise(run, cells) == summarise(run, shuffled)


def test_a_prompt_counts_when_all_its_samples_are_there() -> None:
    run = suite_run(rows=2, models=("a",), repeats=2)
    cells = [cell(run, 0, 0, True, 0), cell(run, 0, 0, False, 1), cell(run, 1, 0, True, 0)]
    summary = summarise(run, cells)
    (column,) = summary.columns
    assert (column.rate.passed, column.rate.prompts) == (0.5, 1)
    assert (column.cells, column.passed, column.judged, column.wrong) == (3, 2, 3, 1)
    assert (summary.cells, summary.total) == (3, 4)


def test_chunks_are_no_tokens_and_failures_no_figures() -> None:
    run = suite_run(rows=3, models=("a",))
    cells = [
        cell(run, 0, 0, unit="chunk", decode_tok_s=900.0),
        cell(run, 1, 0, decode_tok_s=20.0),
        cell(run, 2, 0, error="x"),
    ]
    (column,) = summarise(run, cells).columns
    assert column.figures["decode_tok_s"] == 20.0
    assert column.figures["ttft_s"] == 0.1
    assert (column.failed, str(column.error)) == (1, "It failed: x")
    assert column.peak_memory_mb == 300.0


def test_columns_of_one_model_are_named_by_what_they_differ_in() -> None:
    one, other = Variant("one", "fake", "none"), Variant("two", "fake", "none")
    run = replace(
        suite_run(),
        columns=(
            Column(one, Request(temperature=0.7)),
            Column(one, Request(seed=3)),
            Column(other, Request(temperature=0.7)),
            Column(one, Request(system="Be brief, always and everywhere.")),
        ),
    )
    names = column_names(run)
    assert len(set(names)) == 4
    assert names[0] == "one@fake-none temperature=0.7 seed=0"
    assert names[2] == "two@fake-none"
    assert "system=Be brief" in names[3]
    same = replace(run, columns=(Column(one), Column(one)))
    assert column_names(same) == ["one@fake-none #1", "one@fake-none #2"]


# -- keys ---------------------------------------------------------------------------------------------------------


def test_a_columns_key_has_what_is_not_so_by_itself() -> None:
    variant = Variant("m", "onnx", "int8")
    asked = (
        None,
        Request(temperature=0.0),
        Request(reuse=True),
        Request(seed=7, stop=("a", "b&c")),
        Request(system="S"),
    )
    run = replace(suite_run(), columns=tuple(Column(variant, each) for each in asked))
    assert column_keys(run) == [
        "m@onnx-int8",
        "m@onnx-int8",
        "m@onnx-int8",
        "m@onnx-int8?seed=7&stop=a&stop=b%26c",
        "m@onnx-int8?system=S",
    ]


@pytest.mark.parametrize(
    ("before", "now", "pairs"),
    [
        (["a", "b"], ["b", "a"], {"a": "a", "b": "b"}),
        (["a?seed=1"], ["a", "b"], {"a": "a?seed=1"}),
        (["a?seed=1", "a?seed=2"], ["a"], {}),
        (["a", "a?seed=2"], ["a"], {"a": "a"}),
        (["a"], ["b"], {"b": "a"}),
        (["a", "c"], ["b"], {}),
        (
            ["fake:text=hi?&step_s=1"],
            ["fake:text=hi?&step_s=1", "x"],
            {"fake:text=hi?&step_s=1": "fake:text=hi?&step_s=1"},
        ),
    ],
)
def test_columns_are_held_against_the_same_model_asked_alike_else_the_same_model(
    before: list[str], now: list[str], pairs: dict[str, str]
) -> None:
    assert matched(before, now) == pairs


# -- regression ---------------------------------------------------------------------------------------------------


def test_what_got_worse_better_and_stayed_is_told_apart() -> None:
    run = suite_run(rows=5)
    found = regression(of(run, "++--+", "+++++"), of(run, "+-+-.", "+++++"))
    assert [(each.column, each.row, each.before, each.now) for each in found.worse] == [
        ("one@fake-none", "r2", 1.0, 0.0)
    ]
    assert [each.row for each in found.better] == ["r3"]
    assert (found.same, found.new, found.gone, found.compared) == (7, 0, 1, 9)
    assert regression_words(found) == "1 cell got worse, 1 got better, 7 are as they were."
    assert found.tests["one@fake-none"].worse == 1


def test_a_smaller_share_of_samples_is_worse() -> None:
    run = suite_run(rows=1, models=("one",), repeats=2)

    def passed(*signs: bool) -> Outcomes:
        tally = Tally(run)
        for sample, sign in enumerate(signs):
            tally.add(cell(run, 0, 0, sign, sample))
        return outcomes(run, tally)

    (worse,) = regression(passed(True, True), passed(True, False)).worse
    assert (worse.before, worse.now) == (1.0, 0.5)
    assert not regression(passed(True, False), passed(False, True)).worse


def test_rows_are_the_same_by_their_ids_wherever_they_stand() -> None:
    run = suite_run(rows=3, models=("one",))
    turned = replace(run, rows=tuple(reversed(run.rows)))
    found = regression(of(run, "+-+"), of(turned, "+-+"))
    assert (found.same, found.worse, found.better) == (3, (), ())
    assert regression(of(run, "++-"), of(turned, "++-")).worse[0].row == "r1"


def test_what_cannot_be_compared_is_told() -> None:
    before, now = suite_run(rows=2, models=("one", "two")), suite_run(rows=2, models=("one", "three"))
    found = regression(of(before, "++", "++"), of(now, "++", "--"))
    assert found.unmatched == ("three@fake-none",)
    assert not found.worse
    other = replace(now, columns=(Column(Variant("one", "fake", "none"), Request(seed=5)), now.columns[1]))
    found = regression(of(before, "++", "++"), of(other, "+-", "--"))
    assert found.otherwise == {"one@fake-none?seed=5": "one@fake-none"}
    assert len(found.worse) == 1


def test_a_column_names_the_engines_that_computed_its_answers() -> None:
    run = suite_run()
    tally = Tally(run)
    first = cell(run, 0, 0)
    for row, engine in enumerate(("kernels avx2", "ONNX Runtime", "kernels avx2")):
        tally.add(replace(first, row=row, run=replace(first.run, engine=engine)))
    columns = tally.summary().columns
    assert columns[0].engines == ("ONNX Runtime", "kernels avx2")
    assert columns[1].engines == ()
