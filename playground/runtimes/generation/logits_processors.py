"""What may be done to one row of logits before a token is chosen from it: penalties, bans, forced tokens.

Each rule computes what the class of the same purpose in transformers' ``logits_process`` computes, number by number;
its tests compare them. The module knows rows of scores and ids; it does not know models, files or requests, nor which
rules apply (``settings.py``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float32]

Rule = Callable[[Scores, Sequence[int]], None]
"""Changes a row of scores ``[vocab]`` in place. The ids are those of the model's own sequence so far; from call to call
it only grows, and the same call may come twice."""


def in_row(ids: Iterable[int], scores: Scores) -> NDArray[np.intp]:
    """Those of ``ids`` that have a score: an embedding may have more rows than there are logits."""
    found = np.fromiter(ids, dtype=np.intp)
    inside: NDArray[np.intp] = found[(found >= 0) & (found < len(scores))]
    return inside


class Repetition:
    """Divide positive and multiply negative scores of tokens seen (Keskar et al. 2019, arXiv:1909.05858)."""

    def __init__(self, penalty: float) -> None:
        self._penalty = np.float32(penalty)
        self._seen = np.empty(0, dtype=np.intp)
        self._known: set[int] = set()
        self._read = 0

    def __call__(self, scores: Scores, history: Sequence[int]) -> None:
        fresh = [token for token in dict.fromkeys(history[self._read :]) if token not in self._known]
        self._read = len(history)
        if fresh:  # only what is new is looked at, so a long prompt is read once
            self._known.update(fresh)
            self._seen = np.concatenate([self._seen, np.asarray(fresh, dtype=np.intp)])
        _penalise(scores, self._seen, self._penalty)


def prefer_prompt(prompt: Iterable[int], penalty: float) -> Rule:
    """The inverse of a repetition penalty, for the tokens of the prompt alone."""
    ids, factor = tuple(dict.fromkeys(prompt)), np.float32(1 / penalty)
    return lambda scores, _: _penalise(scores, np.asarray(ids, dtype=np.intp), factor)


def _penalise(scores: Scores, ids: NDArray[np.intp], penalty: np.float32) -> None:
    ids = ids[(ids >= 0) & (ids < len(scores))]
    values = scores[ids]
    scores[ids] = np.where(values < 0, values * penalty, values / penalty)


class NoRepeat:
    """Ban whatever would complete an n-gram that was there before (Paulus et al. 2017, arXiv:1705.04304).

    Args:
        size: Of the n-grams, in tokens.
        prompt: Where they are looked for; None: in the sequence itself.
    """

    def __init__(self, size: int, prompt: Sequence[int] | None = None) -> None:
        self._size = size
        self._followers: defaultdict[tuple[int, ...], set[int]] = defaultdict(set)
        self._read = 0
        self._fixed = prompt is not None
        if prompt is not None:
            self._learn(prompt)

    def __call__(self, scores: Scores, history: Sequence[int]) -> None:
        if not self._fixed:
            self._learn(history)
        start = len(history) + 1 - self._size
        if start >= 0 and (banned := self._followers.get(tuple(history[start:]))):
            scores[in_row(banned, scores)] = -np.inf

    def _learn(self, ids: Sequence[int]) -> None:
        before = self._size - 1
        for place in range(max(before, self._read), len(ids)):
            self._followers[tuple(ids[place - before : place])].add(ids[place])
        self._read = len(ids)


class Bias:
    """Add to the score of each token that would complete one of the sequences what stands beside it.

    Args:
        sequences: Ids and what is added to the score of the last of them behind the others; ``-inf`` bans it.
    """

    def __init__(self, sequences: Mapping[tuple[int, ...], float]) -> None:
        self._alone = [(ids[0], value) for ids, value in sequences.items() if len(ids) == 1]
        longer = [(ids, value) for ids, value in sequences.items() if len(ids) > 1]
        lengths = list(dict.fromkeys(len(ids) for ids, _ in longer))
        self._behind: defaultdict[int, list[tuple[tuple[int, ...], float]]] = defaultdict(list)
        for ids, value in sorted(longer, key=lambda pair: lengths.index(len(pair[0]))):  # sums round in this order
            self._behind[ids[-2]].append((ids, value))
        self._row: Scores = np.empty(0, np.float32)

    def __call__(self, scores: Scores, history: Sequence[int]) -> None:
        if len(self._row) != len(scores):
            self._row = np.zeros(len(scores), np.float32)
            for token, value in self._alone:
                if token < len(scores):
                    self._row[token] = value
        row, copied = self._row, False
        for ids, value in self._behind.get(history[-1], ()) if history else ():
            if ids[-1] < len(scores) and tuple(history[1 - len(ids) :]) == ids[:-1]:
                row, copied = (row if copied else row.copy()), True
                row[ids[-1]] += np.float32(value)
        scores += row


def ban(ids: Collection[int]) -> Rule:
    """Never choose one of ``ids``."""

    def rule(scores: Scores, _: Sequence[int]) -> None:
        scores[in_row(ids, scores)] = -np.inf

    return rule


def ban_before(length: int, ids: Collection[int]) -> Rule:
    """Choose none of ``ids`` while the sequence is shorter than ``length``."""
    banned = ban(ids)
    return lambda scores, history: banned(scores, history) if len(history) < length else None


def ban_at(length: int, ids: Collection[int]) -> Rule:
    """Choose none of ``ids`` behind exactly ``length`` tokens."""
    banned = ban(ids)
    return lambda scores, history: banned(scores, history) if len(history) == length else None


def force_at(length: int, ids: Collection[int]) -> Rule:
    """Choose one of ``ids`` behind exactly ``length`` tokens."""

    def rule(scores: Scores, history: Sequence[int]) -> None:
        places = in_row(ids, scores)
        if len(history) == length and len(places):
            scores.fill(-np.inf)
            scores[places] = 0

    return rule


def remove_invalid(scores: Scores, _: Sequence[int]) -> None:
    """NaN becomes 0, an infinite score the largest or smallest number there is."""
    np.nan_to_num(scores, copy=False, nan=0.0)


def favour_end(start: int, factor: float, ends: Collection[int]) -> Rule:
    """Raise the scores of ``ends`` behind more than ``start`` tokens, by ``factor`` once more for each token."""

    def rule(scores: Scores, history: Sequence[int]) -> None:
        late = len(history) - start
        if late <= 0:
            return
        places = in_row(dict.fromkeys(ends), scores)
        values = scores[places]
        try:
            growth = np.float32(factor**late - 1)
        except OverflowError:
            growth = np.float32(np.inf)
        with np.errstate(over="ignore", invalid="ignore"):
            raised = values + np.where(np.isfinite(values), np.abs(values) * growth, np.float32(0))
        scores[places] = np.minimum(raised, np.finfo(np.float32).max)  # as likely as can be is still a number

    return rule
