"""Intervals and tests of pass counts agree with scipy's, and hold what they promise when they are tried out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from playground.results import statistics
from playground.results.statistics import (
    LEAST_DIFFERING,
    Interval,
    difference_interval,
    family,
    holm,
    mcnemar,
    outcome_words,
    paired,
    rate,
    why_words,
    wilson,
)

counts = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts, st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_wilson_is_scipys(count: tuple[int, int], confidence: float) -> None:
    k, n = count
    found = wilson(k, n, confidence)
    theirs = stats.binomtest(k, n).proportion_ci(confidence, method="wilson")
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_wilson_of_a_textbook() -> None:
    """Newcombe (1998, Statistics in Medicine 17, 857–872), table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29."""
    table = {(81, 263): (0.2553, 0.3662), (15, 148): (0.0624, 0.1605), (0, 20): (0, 0.1611), (1, 29): (0.0061, 0.1718)}
    for (k, n), expected in table.items():
        found = wilson(k, n)
        assert (found.low, found.high) == pytest.approx(expected, abs=5e-5), (k, n)


def test_wilson_at_its_ends() -> None:
    assert wilson(0, 0) == Interval(0.0, 1.0)
    assert wilson(5, 5).high == 1.0
    assert wilson(5, 5).low == pytest.approx(0.5655, abs=1e-4)  # five of five is no proof
    assert wilson(0, 7).low == 0.0
    for wrong in ((-1, 5), (6, 5), (0, -1), (math.nan, 5)):
        with pytest.raises(ValueError):
            wilson(*wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        wilson(1, 2, 1.0)


@pytest.mark.parametrize("n", [5, 10, 20, 40, 100, 200])
def test_wilson_covers_what_it_says(n: int) -> None:
    """Worked out, not drawn: the chance that the interval holds the true rate, over true rates from 2 to 98 %."""
    intervals = [wilson(k, n) for k in range(n + 1)]
    rates = np.linspace(0.02, 0.98, 193)
    chances = stats.binom.pmf(np.arange(n + 1)[:, None], n, rates)
    low, high = (np.array([getattr(each, end) for each in intervals])[:, None] for end in ("low", "high"))
    covered = ((low <= rates) & (rates <= high)) * chances
    assert covered.sum(axis=0).mean() == pytest.approx(0.95, abs=0.012)
    assert covered.sum(axis=0).min() > 0.83


def test_repeats_make_no_new_prompts() -> None:
    """Prompts with a chance of their own, five answers each: shares over prompts cover; answers as prompts don't."""
    random = np.random.default_rng(11)
    prompts, repeats, times = 40, 5, 2000
    true = 0.6
    chances = random.beta(0.6, 0.4, (times, prompts))  # of that mean, most prompts nearly always or nearly never
    passes = random.binomial(repeats, chances)
    over_prompts = [rate(dict(enumerate(row / repeats))).interval for row in passes]
    over_answers = [wilson(int(row.sum()), prompts * repeats) for row in passes]
    covered = [np.mean([each.low <= true <= each.high for each in found]) for found in (over_prompts, over_answers)]
    assert covered[0] >= 0.95
    assert covered[1] < 0.85


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_is_the_exact_binomial_test(b: int, c: int) -> None:
    theirs = stats.binomtest(b, b + c).pvalue if b + c else 1.0
    assert mcnemar(b, c) == pytest.approx(theirs, rel=1e-9)
    assert mcnemar(b, c) == mcnemar(c, b)


def test_mcnemar_of_many() -> None:
    assert mcnemar(50_000, 50_000) == 1.0
    assert mcnemar(49_000, 51_000) == pytest.approx(stats.binomtest(49_000, 100_000).pvalue, rel=1e-6)
    assert mcnemar(0, 100_000) == 0.0
    with pytest.raises(ValueError):
        mcnemar(-1, 2)


def test_fewer_than_six_that_differ_show_nothing() -> None:
    assert mcnemar(LEAST_DIFFERING, 0) < statistics.LEVEL <= mcnemar(LEAST_DIFFERING - 1, 0)


def test_equal_models_are_told_apart_seldom() -> None:
    """Two models of the same rates, prompt by prompt: "better" or "worse" in at most one of twenty, repeats or not."""
    random = np.random.default_rng(7)
    for repeats in (1, 3):
        chances = random.beta(0.8, 0.5, (1500, 60))
        a, b = (random.binomial(repeats, chances) / repeats for _ in range(2))
        told = [paired(dict(enumerate(x)), dict(enumerate(y))).seen != "none" for x, y in zip(a, b, strict=True)]
        assert np.mean(told) <= 0.05


def test_the_interval_of_a_difference_covers() -> None:
    """Over cells of a paired table: the share of draws whose interval holds the true difference."""
    random = np.random.default_rng(3)
    for both, first, second in ((0.5, 0.2, 0.1), (0.8, 0.05, 0.05), (0.3, 0.4, 0.1), (0.9, 0.08, 0.0)):
        draws = random.multinomial(40, (both, first, second, max(0.0, 1 - both - first - second)), 3000)
        found = [difference_interval(int(b), int(c), 40) for _, b, c, _ in draws]
        assert np.mean([each.low <= first - second <= each.high for each in found]) >= 0.94


def test_the_interval_of_a_difference_of_its_authors() -> None:
    """Bonett and Price (2012): (f12 + 1 − f21 − 1)/(n + 2) ± z √((p12 + p21 − (p12 − p21)²)/(n + 2)), by hand."""
    found = difference_interval(9, 3, 50)
    one, two = 10 / 52, 4 / 52
    half = 1.959963985 * math.sqrt((one + two - (one - two) ** 2) / 52)
    assert (found.low, found.high) == pytest.approx((6 / 52 - half, 6 / 52 + half))
    assert difference_interval(0, 0, 0) == Interval(-1.0, 1.0)
    with pytest.raises(ValueError):
        difference_interval(3, 3, 5)


def test_holm_of_a_family() -> None:
    """By hand: 0.01 × 4, 0.02 × 3, then never less than the one before, never above 1."""
    assert holm([0.03, 0.01, 0.9, 0.02]) == pytest.approx((0.06, 0.04, 0.9, 0.06))
    assert holm([0.5, 0.6]) == (1.0, 1.0)
    assert holm([]) == ()


def test_a_family_of_equal_models_errs_once_in_twenty() -> None:
    random = np.random.default_rng(5)
    errors = 0
    for _ in range(600):
        passes = [dict(enumerate(row)) for row in random.binomial(1, 0.5, (4, 60)).astype(float)]
        tests = [paired(a, b) for place, a in enumerate(passes) for b in passes[place + 1 :]]
        errors += any(test.seen != "none" for test in family(tests))
    assert errors / 600 <= 0.06


def test_rates_and_pairs_by_hand() -> None:
    """Prompt 9 has an outcome of one alone and takes no part in the pair."""
    first = {0: 1.0, 1: 1.0, 2: 0.5, 3: 0.0, 9: 1.0}
    second = {0: 1.0, 1: 0.0, 2: 1.0, 3: 0.0}
    own = rate(first)
    assert (own.passed, own.prompts, own.share) == (3.5, 5, 0.7)
    assert own.interval == wilson(3.5, 5)
    test = paired(first, second)
    assert (test.prompts, test.better, test.worse, test.difference, test.p) == (4, 1, 1, 0.125, 1.0)
    assert rate({}).share is None
    assert rate({}).interval == Interval(0.0, 1.0)
    assert paired({}, {}).difference is None


def test_what_is_said() -> None:
    def of(better: int, worse: int, same: int) -> statistics.Paired:
        one = [1.0] * better + [0.0] * worse + [1.0] * same
        two = [0.0] * better + [1.0] * worse + [1.0] * same
        return paired(dict(enumerate(one)), dict(enumerate(two)))

    assert outcome_words(of(0, 0, 0)) == "nothing to compare yet"
    assert outcome_words(of(9, 1, 30)) == "better on 9 prompts, worse on 1"
    assert outcome_words(of(1, 9, 30)) == "worse on 9 prompts, better on 1"
    assert outcome_words(of(5, 0, 35)) == "no difference seen"
    assert "fewer than 6 can't show a difference" in why_words(of(5, 0, 35))
    assert outcome_words(of(9, 6, 35)) == "no difference seen"
    assert why_words(of(9, 6, 35)) == (
        "Better on 9, worse on 6 of 50 prompts. Exact McNemar p = 0.61. "
        "The difference lies between -10 and +21 points (95 %)."
    )
    assert "p = 1, raised for 3 pairs (Holm)." in why_words(family([of(9, 6, 35)] * 3)[0])
    assert why_words(of(0, 0, 0)) == "No prompt has an outcome for both."
