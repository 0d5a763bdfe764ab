"""The figures of the fidelity check against plain formulas, and the verdicts at their limits."""

from __future__ import annotations

import math

import numpy as np
import pytest

from playground.export import fidelity
from playground.export.fidelity import (
    LEAST_POSITIONS,
    MIN_POSITIONS,
    OVERTURNED,
    WORST,
    Figures,
    Pair,
    compare,
    judge,
    verdict_on,
)
from playground.records import Fidelity
from playground.runtimes.generation.divergence import kl_divergence


def plain_kl(reference: list[float], candidate: list[float]) -> float:
    """The definition, term by term."""
    p = [math.exp(x) / sum(map(math.exp, reference)) for x in reference]
    q = [math.exp(x) / sum(map(math.exp, candidate)) for x in candidate]
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def rows(seed: int, count: int = MIN_POSITIONS, vocab: int = 50, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    reference = random.normal(0, 3, (count, vocab)).astype(np.float32)
    return reference, reference + random.normal(0, noise, reference.shape).astype(np.float32)


def pairs(reference: np.ndarray, candidate: np.ndarray, kind: str = "prose") -> list[Pair]:
    return [Pair(kind, ours, theirs) for ours, theirs in zip(reference, candidate, strict=True)]


@pytest.mark.parametrize("seed", range(5))
def test_kl_is_the_textbook_sum_on_random_logits(seed: int) -> None:
    reference, candidate = (row.astype(np.float64) for row in np.random.default_rng(seed).normal(0, 4, (2, 40)))
    assert kl_divergence(reference, candidate) == pytest.approx(plain_kl(list(reference), list(candidate)), rel=1e-10)


def test_kl_ignores_a_constant_added_to_all_logits_and_does_not_overflow() -> None:
    row = np.array([1000.0, 999.0, -1000.0])
    assert kl_divergence(row, row + 500.0) == pytest.approx(0.0, abs=1e-12)


def test_kl_is_not_symmetric_and_the_original_comes_first() -> None:
    sharp, flat = np.array([5.0, 0.0, 0.0]), np.array([0.0, 0.0, 0.0])
    assert kl_divergence(sharp, flat) == pytest.approx(plain_kl([5, 0, 0], [0, 0, 0]))
    assert kl_divergence(sharp, flat) != pytest.approx(kl_divergence(flat, sharp))


def test_figures_are_means_over_positions_and_the_largest_error_of_all() -> None:
    reference, candidate = rows(1, noise=0.5)
    found = compare(pairs(reference, candidate), "torch-fp32", "int4")
    noise, spread = (reference - candidate).std(axis=1), reference.std(axis=1)
    assert found.relative_error == pytest.approx(math.sqrt((noise**2).sum() / (spread**2).sum()), rel=1e-4)
    agreed = np.mean(reference.argmax(1) == candidate.argmax(1))
    assert found.positions == len(reference)
    assert found.top1_agreement == pytest.approx(agreed)
    assert 0 < found.top1_agreement < 1
    assert found.max_logit_error == pytest.approx(float(np.abs(reference - candidate).max()))
    kls = [plain_kl(list(map(float, a)), list(map(float, b))) for a, b in zip(reference, candidate, strict=True)]
    assert found.mean_kl == pytest.approx(float(np.mean(kls)), rel=1e-8)


def test_equal_logits_are_exact_in_every_precision() -> None:
    reference, _ = rows(2)
    for precision in WORST:
        assert compare(pairs(reference, reference), "torch-fp32", precision).verdict == "exact"


def test_logits_of_another_model_are_rejected_in_every_precision() -> None:
    reference, other = rows(3)[0], rows(4)[0]
    for precision in WORST:
        assert compare(pairs(reference, other), "torch-fp32", precision).verdict == "rejected"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_logit_that_is_not_a_number_is_enough_for_rejection(bad: float) -> None:
    reference, candidate = rows(5)
    candidate[7, 3] = bad
    found = compare(pairs(reference, candidate), "torch-fp32", "int4")
    assert found.verdict == "rejected"
    assert "not numbers" in found.reason
    assert found.mean_kl == found.max_logit_error == -1.0


def test_too_few_positions_prove_nothing() -> None:
    reference, _ = rows(6, count=LEAST_POSITIONS - 1)
    found = compare(pairs(reference, reference), "torch-fp32", "fp32")
    assert (found.verdict, found.positions) == ("rejected", LEAST_POSITIONS - 1)


def test_fewer_positions_than_usual_are_judged_and_their_number_and_the_reason_are_told() -> None:
    reference, _ = rows(6, count=90)
    found = compare(pairs(reference, reference), "torch-fp32", "fp32", ("the context is short",))
    assert (found.verdict, found.positions) == ("exact", 90)
    assert "of 90 most likely tokens" in found.reason
    assert found.reason.endswith("; the context is short")


@pytest.mark.parametrize(
    ("precision", "top1", "kl", "verdict"),
    [
        ("fp32", 1.0, 2.1e-11, "exact"),  # SmolLM2, fused
        ("int8", 0.951, 0.0050, "faithful"),  # SmolLM2
        ("int8", 0.964, 0.0033, "faithful"),  # Gemma 3 270M
        ("int4", 0.914, 0.0159, "lossy"),  # SmolLM2, whose file has four bits
        ("int4", 0.840, 0.071, "lossy"),  # Gemma 3 270M, whose file has five
        ("int4", 0.596, 0.42, "rejected"),  # the builder's wrong OLMo graph, a tiny one
        ("int8", 0.806, 0.133, "rejected"),  # SmolLM2 with one of 30 o_proj zeroed
        ("fp32", 0.97, 0.004, "rejected"),  # no weight was rounded, so nothing explains it
    ],
)
def test_what_was_measured_gets_the_verdict_it_deserves(precision: str, top1: float, kl: float, verdict: str) -> None:
    assert judge(576, top1, kl, precision)[0] == verdict


def test_verdicts_change_exactly_at_the_named_limits() -> None:
    limit = WORST["int8"]
    assert judge(576, 1.0, fidelity.EXACT_MEAN_KL, "int8")[0] == "faithful"
    assert judge(576, fidelity.FAITHFUL_TOP1, fidelity.FAITHFUL_MEAN_KL, "int8")[0] == "faithful"
    assert judge(576, 1.0, fidelity.FAITHFUL_MEAN_KL * 1.01, "int8")[0] == "lossy"
    assert judge(576, 1.0, limit.mean_kl, "int8")[0] == "lossy"
    assert judge(576, 1.0, limit.mean_kl * 1.01, "int8")[0] == "rejected"
    for error, overturned, verdict in [
        (limit.error, 5, "faithful"),
        (limit.error * 1.01, 5, "rejected"),
        (limit.error, 6, "rejected"),
    ]:
        assert verdict_on(Figures(576, 0.95, 0.01, error, overturned), "int8")[0] == verdict
    assert int(OVERTURNED * 576) == 5


def flat(noise: float, seed: int = 11) -> tuple[np.ndarray, np.ndarray]:
    """Logits as random weights make them: many tokens, hardly one before the other."""
    random = np.random.default_rng(seed)
    reference = random.normal(0, 0.9, (MIN_POSITIONS, 32000)).astype(np.float32)
    return reference, reference + random.normal(0, noise, reference.shape).astype(np.float32)


def test_coin_tosses_are_not_counted_against_rounding() -> None:
    found = compare(pairs(*flat(0.057)), "the original", "int8")
    assert found.mean_kl == pytest.approx(0.0016, rel=0.05)
    assert found.top1_agreement < 0.9
    assert found.overturned is not None
    assert found.overturned <= 2
    assert found.verdict == "lossy", found.reason


def test_flat_logits_hide_no_fault_behind_a_small_divergence() -> None:
    found = compare(pairs(*flat(0.25)), "the original", "int8")
    assert found.mean_kl < WORST["int8"].mean_kl
    assert found.verdict == "rejected"
    assert "of their spread" in found.reason


@pytest.mark.parametrize("precision", WORST)
def test_a_few_certain_tokens_turned_over_are_rejected_at_any_divergence_the_precision_allows(precision: str) -> None:
    reference, candidate = rows(12, vocab=4000, noise=0.001)
    wrong = range(0, 80, 8)  # 10 of 512 positions
    for position in wrong:
        first, second = np.argsort(reference[position])[-2:][::-1]
        reference[position, first] = reference[position, second] + 1.0
        candidate[position] = reference[position]
        candidate[position, [first, second]] = reference[position, [second, first]]
    found = compare(pairs(reference, candidate), "the original", precision)
    assert found.overturned == len(wrong)
    assert found.verdict == "rejected"


def test_a_fault_in_one_kind_of_text_is_found_where_the_whole_is_within_its_limits_and_the_kind_is_named() -> None:
    usual, long = rows(13, count=400, noise=0.06), rows(14, count=112, noise=0.25)
    both = [*pairs(*usual, "prose"), *pairs(*usual, "code"), *pairs(*long, "long text")]
    found = compare(both, "the original", "int8")
    assert found.mean_kl < WORST["int8"].mean_kl
    assert found.relative_error is not None
    assert found.relative_error < WORST["int8"].error
    assert found.verdict == "rejected"
    assert "'long text'" in found.reason
    assert set(found.kl_by_text) == {"prose", "code", "long text"}
    assert found.kl_by_text["long text"] > 5 * found.kl_by_text["prose"]


def test_a_rejection_names_the_worst_kind() -> None:
    both = [*pairs(*rows(15, noise=0.1), "prose"), *pairs(*rows(16, noise=2.0), "Japanese")]
    found = compare(both, "the original", "int8")
    assert "worst: 'Japanese'" in found.reason


def test_tokens_that_the_original_rules_out_are_not_compared() -> None:
    reference, candidate = rows(17, noise=0.01)
    for ruled_out in (-np.inf, np.finfo(np.float32).min):
        reference[:, 5] = ruled_out
        candidate[:, 5] = -1e9
        assert compare(pairs(reference, candidate), "the original", "int8").verdict == "faithful"


def test_an_export_that_prefers_a_token_beyond_the_originals_is_wrong_there() -> None:
    reference, candidate = rows(18, noise=0.01)
    wider = np.concatenate([candidate, np.full((len(candidate), 14), -3.0, np.float32)], axis=1)
    assert compare(pairs(reference, wider), "the original", "int8").verdict == "faithful"
    wider[:20, -1] = 50.0
    found = compare(pairs(reference, wider), "the original", "int8")
    assert (found.verdict, found.overturned) == ("rejected", 20)


def test_an_original_of_no_numbers_is_no_ground_for_trust() -> None:
    reference, candidate = rows(19)
    reference[3, 2] = np.nan
    assert compare(pairs(reference, candidate), "the original", "int4").verdict == "rejected"


def test_verdicts_from_before_are_still_read() -> None:
    stored = {
        "reference": "torch-fp32",
        "positions": 512,
        "top1_agreement": 0.95,
        "mean_kl": 0.005,
        "max_logit_error": 2.0,
        "verdict": "faithful",
        "reason": "so it was",
    }
    read = Fidelity.from_json(stored)
    assert (read.relative_error, read.overturned, read.kl_by_text) == (None, None, {})
    assert Fidelity.from_json(read.to_json()) == read
