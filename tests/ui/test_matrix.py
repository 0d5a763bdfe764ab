"""Which rows of a suite a page is shown: filters, order, words, pages, and what has changed since it looked last."""

from __future__ import annotations

import time

import pytest

from playground.ui.matrix import PAGE_ROWS, Matrix, Query, Show, Sort, slim
from tests.support.suite_runs import cell, outcomes, suite_run


def shown(matrix: Matrix, show: Show = "all", sort: Sort = "file", words: str = "") -> list[int]:
    return list(matrix.find(Query(show, sort, words)).rows)


@pytest.fixture
def matrix() -> Matrix:
    """Rows: both pass; they part; both fail, one cut off; one fails with an error; one is still waited for."""
    run = suite_run(rows=5)
    matrix = Matrix(run)
    cells = [
        cell(run, 0, 0, text="Paris", total_s=3.0),
        cell(run, 0, 1, text="Lyon", total_s=1.0),
        cell(run, 1, 0, text="b" * 50, total_s=9.0),
        cell(run, 1, 1, False, total_s=1.0),
        cell(run, 2, 0, False, finish="length", total_s=5.0),
        cell(run, 2, 1, False, total_s=1.0),
        cell(run, 3, 0, False, error="no memory"),
        cell(run, 3, 1, False),
        cell(run, 4, 0),
    ]
    matrix.add(cells, 9)
    return matrix


def test_filters_and_their_counts(matrix: Matrix) -> None:
    assert shown(matrix) == [0, 1, 2, 3, 4]
    assert shown(matrix, "differs") == [1]
    assert shown(matrix, "failed") == [1, 2, 3]
    assert shown(matrix, "error") == [3]
    assert shown(matrix, "cut") == [2]
    assert shown(matrix, "waiting") == [4]
    assert shown(matrix, "slowest") == [1]
    counts = {show: matrix.count(show) for show in ("all", "differs", "failed", "error", "cut", "waiting", "slowest")}  # type: ignore[arg-type]
    assert counts == {"all": 5, "differs": 1, "failed": 3, "error": 1, "cut": 1, "waiting": 1, "slowest": 1}


def test_without_checks_models_differ_by_what_they_say() -> None:
    run = suite_run(rows=2)
    matrix = Matrix(run)
    matrix.add([cell(run, 0, 0, None, text="Yes. "), cell(run, 0, 1, None, text="Yes.")], 2)
    matrix.add([cell(run, 1, 0, None, text="Yes."), cell(run, 1, 1, None, text="No.")], 4)
    assert shown(matrix, "differs") == [1]


def test_orders(matrix: Matrix) -> None:
    assert shown(matrix, sort="slowest")[:3] == [1, 2, 0]
    assert shown(matrix, sort="longest")[0] == 1
    assert shown(matrix, sort="fewest")[:2] == [2, 3]
    assert shown(matrix, sort="fewest")[-1] == 0
    assert shown(matrix, "failed", "slowest") == [1, 2, 3]


def test_words_are_sought_in_prompts_variables_and_answers_in_any_case(matrix: Matrix) -> None:
    assert shown(matrix, words="PARIS") == [0]
    assert shown(matrix, words="prompt 3") == [2]
    assert shown(matrix, words="paris prompt") == [0]
    assert shown(matrix, words="paris nowhere") == []
    assert shown(matrix, "failed", words="well") == [1, 2, 3]


def test_pages_hold_a_part_and_one_that_is_not_there_is_the_last() -> None:
    matrix = Matrix(suite_run(rows=2 * PAGE_ROWS + 7))
    first, last = matrix.find(Query()), matrix.find(Query(page=99))
    assert (first.rows[0], len(first.rows), first.matching, first.pages) == (0, PAGE_ROWS, 2 * PAGE_ROWS + 7, 3)
    assert (last.page, len(last.rows), last.rows[-1]) == (2, 7, 2 * PAGE_ROWS + 6)
    nothing = matrix.find(Query(words="nowhere"))
    assert (nothing.rows, nothing.pages, nothing.page) == ((), 1, 0)


def test_a_row_has_changed_when_a_cell_of_it_came(matrix: Matrix) -> None:
    run = matrix.run
    matrix.add([cell(run, 4, 1, False)], 10)
    assert [row for row in range(5) if matrix.changed(row) > 9] == [4]
    assert matrix.count("waiting") == 0
    assert shown(matrix, "differs") == [1, 4]
    assert (matrix.last, matrix.done) == (10, 10)


def test_a_cell_that_comes_again_takes_the_place_of_the_first(matrix: Matrix) -> None:
    """Of a suite that was gone on with, what had failed is asked again."""
    matrix.add([cell(matrix.run, 3, 0, text="Well now.")], 11)
    assert matrix.done == 9
    assert shown(matrix, "error") == []


def test_cells_of_other_places_are_left_out() -> None:
    run, larger = suite_run(rows=1, models=["one"]), suite_run(rows=9, models=["one", "two"])
    matrix = Matrix(run)
    matrix.add([cell(larger, 8, 1), cell(larger, 0, 1)], 2)
    assert matrix.done == 0


def test_repeats_have_a_share_and_distinct_answers() -> None:
    run = suite_run(rows=1, models=["one"], repeats=3)
    matrix = Matrix(run)
    matrix.add(
        [cell(run, 0, 0, passed, n, text=text) for n, (passed, text) in enumerate([(True, "a"), (False, "b")])], 2
    )
    assert matrix.count("waiting") == 1
    matrix.add([cell(run, 0, 0, True, 2, text="a")], 3)
    place = matrix.place(0, 0)
    assert matrix.count("waiting") == 0
    assert (place.share, place.texts, len(place.cells)) == (pytest.approx(2 / 3), frozenset("ab"), 3)


def test_marks_of_an_earlier_run(matrix: Matrix) -> None:
    matrix.mark({(1, 1): "worse", (0, 0): "better"})
    assert shown(matrix, "worse") == [1]
    matrix.mark({})
    assert matrix.count("worse") == 0


def test_what_no_table_shows_is_not_kept() -> None:
    run = suite_run()
    made = cell(run, 0, 0, token_stamps=(0.1, 0.2))
    assert slim(made).run.timings.token_stamps == ()
    assert slim(made).run.text == made.run.text


@pytest.mark.alone
def test_a_look_at_ten_thousand_rows_is_quick() -> None:
    run = suite_run(rows=10_000)
    matrix = Matrix(run)
    matrix.add(outcomes(run, "+" * 10_000, "+-" * 5_000), 20_000)
    began = time.thread_time()
    assert matrix.find(Query("differs", "slowest")).matching == 5_000
    assert matrix.find(Query(words="prompt 77")).matching > 100
    assert time.thread_time() - began < 1.0
