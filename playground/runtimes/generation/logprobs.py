"""A row of logits as logarithms of probabilities: a softmax at temperature 1 over all of it, nothing filtered.

It knows one row; it does not know where a row comes from, nor what was chosen from it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from playground.messages import msg
from playground.records import TokenLogprob
from playground.runtimes.generation.sampling import NotFinite, near_top
from playground.runtimes.generation.token_scores import LEAST_LOGPROB

Logits = NDArray[Any]


def whole(row: Logits) -> float:
    """ln Σ exp of the logits: what a token's logit is less, to be the ln of its probability.

    The exponentials are taken in the row's own precision and added in float64: of 262,144 logits in fp32 the sum is
    right to a few millionths.

    Raises:
        NotFinite: The logits hold NaN, or no finite number.
    """
    top = row.max()
    if not np.isfinite(top):
        raise NotFinite(msg("the largest logit is {value}", value=str(top)))
    return float(top) + float(np.log(np.exp(row - top).sum(dtype=np.float64)))


def likeliest(row: Logits, most: int) -> NDArray[np.intp]:
    """The ``most`` likeliest tokens, the likeliest first; of equal ones the lower id, as greedy takes it."""
    if most < 1:
        return np.empty(0, np.intp)
    if most == 1:
        return np.asarray([row.argmax()])
    found = near_top(row, min(most, len(row)))
    return found[np.lexsort((found, -row[found]))][:most]


class Row:
    """One row, its sum and its likeliest tokens computed once.

    Args:
        most: How many of the likeliest are told.

    Raises:
        NotFinite: See ``whole``.
    """

    def __init__(self, logits: Logits, most: int) -> None:
        self._logits, self._whole = logits, whole(logits)
        top = likeliest(logits, most)
        self._top = tuple(map(int, top)), tuple(self._logprob(token) for token in top)

    def of(self, token: int) -> TokenLogprob:
        """How likely ``token`` was held here."""
        return TokenLogprob(token, self._logprob(token), *self._top)

    def _logprob(self, token: int | np.intp) -> float:
        if token >= len(self._logits):  # an embedding may have more rows than there are logits
            return LEAST_LOGPROB
        return min(0.0, max(float(self._logits[token]) - self._whole, LEAST_LOGPROB))
