"""Logits become a token: greedy, or drawn from the filtered distribution with a seeded generator.

The filters and their order are those of transformers' ``generate``: first the rules for penalties and bans
(``logits_processors.py``), then temperature, top-k, top-p, min-p; its tests compare the two. This module knows one row
of logits and one ``Request``; it does not know models, tokenizers or text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from playground.errors import Reason
from playground.messages import msg
from playground.records import Request
from playground.runtimes.generation.logits_processors import Repetition, Rule, Scores

Logits = NDArray[np.floating]
Ids = NDArray[np.intp]

SCAN_BLOCK = 1024
PART = 16_384  # numbers worked on in one go: their three passes stay in the processor's cache
GROUP = 256
FIRST_GUESS = 256  # candidates looked at before the nucleus of top-p is searched in all of the vocabulary


class NotFinite(Reason, FloatingPointError):
    """A row of logits holds NaN, or no finite number."""


class Sampler:
    """Chooses the tokens of one answer.

    Args:
        request: Its sampling fields are read; a temperature of 0 means greedy. The same request with the same seed
            chooses the same tokens from the same logits; a seed of None draws a fresh one.
        rules: What is done to each row first, in this order; None: the request's repetition penalty alone.
        chosen: Tokens of the answer that were chosen before, by the same seed: it is not drawn from again as for them.
    """

    def __init__(self, request: Request, rules: Sequence[Rule] | None = None, chosen: int = 0) -> None:
        self._request = request
        self._random = np.random.default_rng(request.seed)
        self._random.random(chosen)
        self._rules: Sequence[Rule] = own_rules(request) if rules is None else rules
        self._buffer: Scores = np.empty(0, np.float32)

    def next(self, logits: Logits, history: Sequence[int]) -> int:
        """Choose the next token.

        Args:
            logits: One row, ``[vocab]``; it is not changed.
            history: Ids of the prompt and of the answer so far. Between calls it only grows.

        Raises:
            NotFinite: The logits hold NaN, or no finite number.
        """
        if self._request.temperature == 0:
            scores = self._adjusted(logits, history)
            token = int(scores.argmax())  # ties go to the lowest id; NaN wins over everything
            _check_top(scores[token])
            return token
        ids, weights = self._candidates(logits, history)
        place = _draw(weights, self._random.random())
        return place if ids is None else int(ids[place])

    def distribution(self, logits: Logits, history: Sequence[int]) -> tuple[Ids, NDArray[np.float64]]:
        """The tokens that may be drawn, by ascending id, and their probabilities after all filters.

        Raises:
            NotFinite: The logits hold NaN, or no finite number.
        """
        ids, weights = self._candidates(logits, history)
        ids = np.arange(len(weights)) if ids is None else ids
        return ids, weights / weights.sum(dtype=np.float64)

    def _candidates(self, logits: Logits, history: Sequence[int]) -> tuple[Ids | None, Scores]:
        """Like ``distribution``, with weights relative to the most likely token's, which is 1; ids are None for the
        whole vocabulary. The weights may be overwritten by the next call.
        """
        request = self._request
        scores = self._tempered(self._adjusted(logits, history))
        ids = _top_k(scores, request.top_k)
        weights = scores if ids is None else scores[ids]
        for start in range(0, len(weights), PART):
            part = weights[start : start + PART]
            np.exp(part, out=part)
        for kept in self._filters(weights):
            ids, weights = kept if ids is None else ids[kept], weights[kept]
        return ids, weights

    def _filters(self, weights: Scores) -> Iterator[Ids]:
        """Positions that each filter keeps, of what the ones before it kept."""
        if self._request.top_p < 1:
            kept = _top_p(weights, self._request.top_p)
            yield kept
            weights = weights[kept]
        if self._request.min_p > 0:
            yield np.flatnonzero(weights >= self._request.min_p)

    def _tempered(self, scores: Scores) -> Scores:
        """Scores less the largest, over the temperature, in a buffer of our own: fresh megabytes for each token would
        cost more than the arithmetic. Taking the maximum off first keeps a tiny temperature from overflowing.
        """
        top = scores.max()
        _check_top(top)
        temperature = max(np.float32(self._request.temperature or 1), np.finfo(np.float32).tiny)
        if len(self._buffer) != len(scores):
            self._buffer = np.empty(len(scores), np.float32)
        with np.errstate(over="ignore"):
            for start in range(0, len(scores), PART):
                part = np.subtract(scores[start : start + PART], top, out=self._buffer[start : start + PART])
                if temperature != 1:
                    part /= temperature
        return self._buffer

    def _adjusted(self, logits: Logits, history: Sequence[int]) -> Scores:
        scores = np.asarray(logits, dtype=np.float32)
        if self._rules:  # the logits themselves stay as they are
            scores = scores.copy()
            for rule in self._rules:
                rule(scores, history)
        return scores


def own_rules(request: Request) -> list[Rule]:
    """What is done to each row where the model's own files ask for nothing."""
    return [Repetition(request.repetition_penalty)] if request.repetition_penalty != 1 else []


def _draw(weights: Scores, probability: float) -> int:
    """The position where the running sum of the weights passes ``probability`` (0 to 1) of the whole.

    Blocks are summed first and one block is searched: running sums of a whole vocabulary cost more than its softmax.
    """
    starts = np.arange(0, len(weights), SCAN_BLOCK)
    edges = np.add.reduceat(weights, starts, dtype=np.float64).cumsum()
    goal = probability * edges[-1]
    block = min(int(edges.searchsorted(goal, side="right")), len(edges) - 1)
    start = int(starts[block])
    inner = weights[start : start + SCAN_BLOCK].astype(np.float64).cumsum()
    before = edges[block - 1] if block else 0.0
    place = int(inner.searchsorted(goal - before, side="right"))
    # Rounding can leave the goal a hair beyond the block: then its last token that has any weight.
    return start + (place if place < len(inner) else int(inner.searchsorted(inner[-1], side="left")))


def _check_top(top: np.float32) -> None:
    if not np.isfinite(top):
        raise NotFinite(msg("the largest logit is {value}", value=str(top)))


def _top_k(scores: Scores, k: int) -> Ids | None:
    """Ids of the ``k`` best scores, ascending, None for all; as in transformers, ties with the last one stay in."""
    if not 0 < k < len(scores):
        return None
    near = np.flatnonzero(scores >= _floor(scores, k))
    values = scores[near]
    least = np.partition(values, len(values) - k)[len(values) - k]
    best: Ids = near[values >= least]
    return best


def _top_p(weights: Scores, p: float) -> Ids:
    """Positions, ascending, of the fewest best weights that make up ``p`` of the whole (Holtzman et al. 2019).

    A token stays while the weight of those before it is below ``p``; equal weights are taken by ascending position.
    A vocabulary of 262,144 is not sorted: the nucleus is looked for among the best few hundred first.
    """
    goal = p * weights.sum(dtype=np.float64)
    best, gone = _sorted(weights, near_top(weights, FIRST_GUESS)), np.empty(0, np.intp)
    mass = 0.0
    if len(best) < len(weights) and weights[best].sum(dtype=np.float64) < goal:
        # Bits of floats above zero are ordered as the floats are: the upper ones sort the weights into bins. Only the
        # bin in which the goal is reached is looked into.
        bins = weights.view(np.uint32) >> np.uint32(18)
        above = np.bincount(bins, weights)[::-1].cumsum()
        place = min(int(above.searchsorted(goal, side="left")), len(above) - 1)
        edge = len(above) - 1 - place
        gone = np.flatnonzero(bins > edge)
        mass = above[place - 1] if place else 0.0
        best = _sorted(weights, np.flatnonzero(bins == edge))
    before = mass + weights[best].astype(np.float64).cumsum()
    count = 1 + int(np.searchsorted(before[:-1], goal, side="left"))
    return np.sort(np.concatenate([gone, best[:count]]))


def near_top(weights: Scores, size: int) -> Ids:
    """Positions, ascending, of all weights that reach some bound; at least ``size`` of them, or all there are. The
    largest are among them."""
    return np.arange(len(weights)) if size >= len(weights) else np.flatnonzero(weights >= _floor(weights, size))


def _sorted(weights: Scores, places: Ids) -> Ids:
    """``places`` by falling weight, then by position."""
    # Weight and position in one integer: plain integers sort several times faster than a stable argsort of floats.
    falling = ~weights[places].view(np.uint32)
    keys = falling.astype(np.uint64) << np.uint64(32) | places.astype(np.uint64)
    keys.sort()
    return (keys & np.uint64(0xFFFFFFFF)).astype(np.intp)


def _floor(values: Scores, count: int) -> np.float32:
    """A bound that at least ``count`` of ``values`` reach: of the maxima of as many groups, the ``count``-th largest.
    Several times cheaper than looking for the ``count``-th largest value, and close to it where groups are many.
    """
    size = max(1, min(GROUP, len(values) // (2 * count)))
    groups = len(values) // size
    maxima = values[: groups * size].reshape(groups, size).max(axis=1)
    bound: np.float32 = np.partition(maxima, groups - count)[groups - count]
    return bound
