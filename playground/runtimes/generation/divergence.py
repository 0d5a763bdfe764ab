"""How far one distribution of next tokens is from another. The module knows rows of logits and loads numpy alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Row = npt.NDArray[np.floating]
"""Logits of one position, ``[vocab]``; what is computed of them is in fp64, whatever they are in."""

SLICE = 8192
"""Logits looked at together: their temporary arrays stay in a core's cache, and are too small for the system to be
asked for memory each time, which takes as long as the exponentials."""


def kl_divergence(reference: Row, candidate: Row) -> float:
    """KL(reference ‖ candidate) of two rows of logits, in nats; NaN if the candidate holds what is not a number.

    Kullback and Leibler, "On Information and Sufficiency", 1951, eq. 2.4, written with both softmaxes inside so that a
    row of 262,144 logits takes two exponentials an entry. Rounding can leave a value a hair below zero for equal rows;
    a divergence is never negative, so it is cut there.
    """
    if not np.isfinite(candidate).all():
        return float("nan")
    highest, candidate_highest = np.float64(reference.max()), np.float64(candidate.max())
    gap = total = candidate_total = 0.0
    for start in range(0, len(reference), SLICE):
        a = reference[start : start + SLICE] - highest
        b = candidate[start : start + SLICE] - candidate_highest
        weights = np.exp(a)
        total += weights.sum()
        gap += inner(weights, a - b)
        candidate_total += np.exp(b).sum()
    gap = gap / total - np.log(total) + np.log(candidate_total)
    # max() would make a zero of what is not a number.
    return float(gap) if np.isnan(gap) else max(0.0, float(gap))


def inner(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    """Σ a·b without the threads that a library of linear algebra sets on long rows: they wait for each other."""
    return float(np.einsum("i,i->", a, b))
