"""How far one distribution of next tokens is from another. The module knows rows of logits and loads numpy alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Row = npt.NDArray[np.float64]
"""Logits of one position, ``[vocab]``."""


def kl_divergence(reference: Row, candidate: Row) -> float:
    """KL(reference ‖ candidate) of two rows of logits, in nats; NaN if the candidate holds what is not a number.

    Kullback and Leibler, "On Information and Sufficiency", 1951, eq. 2.4, written with both softmaxes inside so that a
    row of 262,144 logits takes two exponentials an entry. Rounding can leave a value a hair below zero for equal rows;
    a divergence is never negative, so it is cut there.
    """
    if not np.isfinite(candidate).all():
        return float("nan")
    a, b = reference - reference.max(), candidate - candidate.max()
    weights = np.exp(a)
    total = weights.sum()
    gap = np.dot(weights, a - b) / total - np.log(total) + np.log(np.exp(b).sum())
    # max() would make a zero of what is not a number.
    return float(gap) if np.isnan(gap) else max(0.0, float(gap))
