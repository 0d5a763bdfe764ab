"""What the cells of a suite come to, worked out by hand."""

from __future__ import annotations

from playground.results.statistics import wilson
from playground.results.suite_summary import columns_of, pairs_of, pass_shares
from tests.support.suite_runs import cell, close_to, outcomes, suite_run


def test_a_columns_figures_are_those_of_the_answers_that_did_not_fail() -> None:
    run = suite_run(rows=4, models=["one"])
    cells = [
        cell(run, 0, 0, decode_tok_s=10.0, ttft_s=0.1, peak_memory_mb=300.0, cpu_s=1.0),
        cell(run, 1, 0, False, finish="length", decode_tok_s=30.0, ttft_s=0.3, peak_memory_mb=500.0, cpu_s=3.0),
        cell(run, 2, 0, False, error="no memory"),
        cell(run, 3, 0, decode_tok_s=20.0, ttft_s=0.2, peak_memory_mb=400.0),
    ]
    (found,) = columns_of(run, cells)
    assert (found.answers, found.failed, found.cut_off) == (4, 1, 1)
    assert (found.decode_tok_s, found.ttft_s, found.peak_memory_mb, found.cpu_s) == (20.0, 0.2, 500.0, 2.0)
    assert (found.rate.passed, found.rate.prompts, found.score) == (2, 4, 0.5)
    assert found.rate.interval == wilson(2, 4)


def test_nothing_yet_is_no_figure_and_no_rate() -> None:
    one, two = columns_of(suite_run(), [])
    assert (one.answers, one.decode_tok_s, one.peak_memory_mb, one.rate.share, one.score) == (0, None, None, None, None)
    assert two.column == 1
    assert pairs_of(suite_run(), []) == ()


def test_a_prompt_counts_once_and_when_all_its_samples_are_there() -> None:
    run = suite_run(rows=3, models=["one"], repeats=3)
    cells = [cell(run, 0, 0, passed, sample) for sample, passed in enumerate((True, False, True))]
    cells += [cell(run, 1, 0, True, sample) for sample in range(2)]  # its third goes on
    shares = pass_shares(cells, 3)
    assert list(shares) == [0]
    assert list(shares[0]) == [0]
    assert close_to(shares[0][0], 2 / 3)
    (found,) = columns_of(run, cells)
    assert found.rate.prompts == 1
    assert close_to(found.rate.passed, 2 / 3)


def test_prompts_without_checks_have_no_outcome() -> None:
    run = suite_run(rows=2)
    cells = [cell(run, row, column, None) for row in range(2) for column in range(2)]
    assert columns_of(run, cells)[0].rate.share is None
    assert pairs_of(run, cells) == ()


def test_models_are_compared_on_the_prompts_that_both_answered() -> None:
    run = suite_run(rows=10, models=["one", "two", "three"])
    found = pairs_of(run, outcomes(run, "++++++++++", "---------.", "+++++++++."))
    first, second, third = found
    assert (first.first, first.second) == (0, 1)
    assert (first.test.prompts, first.test.better, first.test.worse) == (9, 9, 0)
    assert close_to(first.test.p, 3 * 2 * 0.5**9)
    assert first.test.seen == "better"
    assert (second.test.seen, third.test.seen) == ("none", "worse")
    assert {pair.test.pairs for pair in found} == {3}


def test_chunks_of_a_server_are_no_tokens() -> None:
    run = suite_run(rows=1, models=["one"])
    (found,) = columns_of(run, [cell(run, 0, 0, unit="chunk")])
    assert (found.decode_tok_s, found.output_tokens, found.ttft_s) == (None, None, 0.1)
