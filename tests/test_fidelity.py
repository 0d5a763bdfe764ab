"""The figures of the fidelity check against plain formulas, and the verdicts at their limits."""

from __future__ import annotations

import math

import numpy as np
import pytest

from playground.export import fidelity
from playground.export.fidelity import MIN_POSITIONS, WORST, compare, judge, kl_divergence


def plain_kl(reference: list[float], candidate: list[float]) -> float:
    """The definition, term by term."""
    p = [math.exp(x) / sum(map(math.exp, reference)) for x in reference]
    q = [math.exp(x) / sum(map(math.exp, candidate)) for x in candidate]
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def rows(seed: int, count: int = MIN_POSITIONS, vocab: int = 50, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    reference = random.normal(0, 3, (count, vocab)).astype(np.float32)
    return reference, reference + random.normal(0, noise, reference.shape).astype(np.float32)


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
    found = compare(zip(reference, candidate, strict=True), "torch-fp32", "int4")
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
        assert compare(zip(reference, reference, strict=True), "torch-fp32", precision).verdict == "exact"


def test_logits_of_another_model_are_rejected_in_every_precision() -> None:
    reference, other = rows(3)[0], rows(4)[0]
    for precision in WORST:
        assert compare(zip(reference, other, strict=True), "torch-fp32", precision).verdict == "rejected"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_logit_that_is_not_a_number_is_enough_for_rejection(bad: float) -> None:
    reference, candidate = rows(5)
    candidate[7, 3] = bad
    found = compare(zip(reference, candidate, strict=True), "torch-fp32", "int4")
    assert found.verdict == "rejected"
    assert "not numbers" in found.reason
    assert found.mean_kl == found.max_logit_error == -1.0


def test_too_few_positions_prove_nothing() -> None:
    reference, _ = rows(6, count=MIN_POSITIONS - 1)
    found = compare(zip(reference, reference, strict=True), "torch-fp32", "fp32")
    assert (found.verdict, found.positions) == ("rejected", MIN_POSITIONS - 1)


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
    assert judge(576, limit.top1, limit.mean_kl, "int8")[0] == "lossy"
    assert judge(576, limit.top1, limit.mean_kl * 1.01, "int8")[0] == "rejected"
    assert judge(576, limit.top1 - 0.01, limit.mean_kl, "int8")[0] == "rejected"
