"""Figures follow their definitions, and are missing where they are not defined."""

from __future__ import annotations

import pytest

from playground.runtimes.generation.timing import Stamps, decode_rate, timings


def test_each_figure_is_what_the_definition_says() -> None:
    figures = timings(Stamps(10.0, 10.5, 12.5, (12.6, 12.8, 13.0), 13.1), prompt_tokens=40, threads=2)
    assert figures.tokenize_s == pytest.approx(0.5)
    assert figures.ttft_s == pytest.approx(2.6), "from the start of tokenisation to the first token's id"
    assert figures.prefill_tok_s == pytest.approx(20.0), "prompt tokens over the prefill alone"
    assert figures.decode_tok_s == pytest.approx(5.0), "(n - 1) / (last - first)"
    assert figures.total_s == pytest.approx(3.1)
    assert figures.token_stamps == pytest.approx((2.6, 2.8, 3.0))
    assert (figures.prompt_tokens, figures.output_tokens, figures.threads, figures.unit) == (40, 3, 2, "token")
    assert figures.load_s is None and figures.queue_s is None, "not a runtime's to know"


def test_one_token_has_a_first_token_time_but_no_decode_rate() -> None:
    figures = timings(Stamps(0.0, 0.1, 0.3, (0.4,), 0.4), prompt_tokens=5)
    assert figures.ttft_s == pytest.approx(0.4)
    assert figures.decode_tok_s is None


def test_a_run_stopped_during_prefill_has_neither_prefill_nor_decode_figures() -> None:
    figures = timings(Stamps(0.0, 0.1, None, (), 0.9), prompt_tokens=500)
    assert (figures.ttft_s, figures.prefill_tok_s, figures.decode_tok_s) == (None, None, None)
    assert figures.output_tokens == 0 and figures.total_s == pytest.approx(0.9)


@pytest.mark.parametrize("stamps", [(), (1.0,), (1.0, 1.0)])
def test_the_decode_rate_needs_two_tokens_and_time_between_them(stamps: tuple[float, ...]) -> None:
    assert decode_rate(stamps) is None


def test_an_answer_that_was_read_back_is_counted_and_leaves_no_prefill_rate() -> None:
    figures = timings(Stamps(0.0, 0.1, 0.3, (0.4,), 0.4), prompt_tokens=5, reused_tokens=6, given_tokens=2)
    assert (figures.prompt_tokens, figures.reused_tokens, figures.prefill_tok_s) == (7, 6, None)
