"""How strong models are by somebody's votes: Bradley–Terry strengths with ties, and intervals honest at four votes.

**Model.** Davidson's (1970, On Extending the Bradley–Terry Model to Accommodate Ties in Paired Comparison Experiments,
JASA 65, 317–328, doi:10.1080/01621459.1970.10481082). With log-strengths θ and d = θ_i − θ_j::

    P(i wins) = e^(d/2) / z     P(tie) = ν / z     P(j wins) = e^(−d/2) / z     z = e^(d/2) + e^(−d/2) + ν

ν ≥ 0 says how readily the voter calls a tie, and is estimated; with no ties it is 0, and the model is Bradley and
Terry's.

**Prior.** Before the first vote each model is taken to have won once and lost once, spread evenly over the M − 1 other
models of its group: every ordered pair has 1/(M − 1) pseudo-votes. That keeps a model finite that was never beaten. For
two models with w wins, t ties and l losses the estimate is P(win) = (w + 1)/(n + 2) and P(tie) = t/(n + 2): Laplace's
rule.

**Interval.** A Bayesian bootstrap (Rubin 1981, The Bayesian Bootstrap, Annals of Statistics 9, 130–134). What is
resampled are the votes, one on many columns as a whole, each with a weight from Exp(1), *and* the pseudo-votes, each
with a weight from Gamma(its mass). The usual bootstrap of four votes for one model draws four votes for it every time
and calls that certain; this one has, for two models, exactly the posterior Dirichlet(w + 1, t, l + 1): after 4 wins of
4 the 95 % interval of the win rate is that of Beta(5, 1), from 48 % to 99 %.

**More than two columns.** The one chosen beat each of the others. These pairs estimate what the choice itself does
(top-1 rank-breaking is consistent: Azari Soufiani, Chen, Parkes and Xia 2013, Generalized Method-of-Moments for Rank
Aggregation), but m − 1 pairs of one choice say less than m − 1 votes: each weighs 2/m, with which they hold, at equal
strengths, the Fisher information of one choice among m.

**All bad** is no tie: a tie would draw the worse of two models towards the better one for an answer that nobody
wanted. It moves no strength; it is counted beside the strengths.

Models that no chain of votes joins are in different groups, each rated by itself: nothing is said of one against the
other. It knows names and votes, not where they are kept.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from playground.records import Record

Outcome = Literal["best", "tie", "bad"]
Floats = NDArray[np.float64]

SAMPLES = 2000
LEVEL = 0.95
LEAST_VOTES = 5
"""With fewer, no 95 % interval of two models leaves out "equally good", whatever the votes are: all of n won has the
lower end 0.025^(1/(n + 1)), which is above one half from n = 5 on."""
LEAST_WEIGHT = 1e-6
"""Of a pseudo-vote in a resample: still less would send strengths where floating point ends, and win rates nowhere."""


@dataclass(frozen=True)
class Judgement:
    """One vote, as far as ratings read it.

    Attributes:
        models: A name a column; columns that gave no answer are not in it.
        best: Place of the one chosen among ``models``, for ``best``.
    """

    models: tuple[str, ...]
    outcome: Outcome
    best: int = 0

    def pairs(self) -> list[tuple[str, str, Literal["win", "tie"]]]:
        """Who won against whom, and who tied; none of a model against itself, and none where all were bad."""
        if self.outcome == "best":
            winner = self.models[self.best]
            others = [name for place, name in enumerate(self.models) if place != self.best]
            return [(winner, other, "win") for other in others if other != winner]
        if self.outcome == "tie":
            both = [(a, b) for place, a in enumerate(self.models) for b in self.models[place + 1 :]]
            return [(a, b, "tie") for a, b in both if a != b]
        return []


@dataclass(frozen=True)
class Rating(Record):
    """What the votes say of one model.

    Attributes:
        name: The variant as text, or the model.
        group: Models of different groups were never compared, not even through others.
        strength: Log-strength θ, 0 on average in its group.
        win_rate: Share of votes it is expected to win against another model of its group, averaged over them, ties
            counted as half. None where it stands alone in its group.
        low: Where the interval of ``win_rate`` begins; it ends at ``high``.
        over_next: Share of the resamples in which it is stronger than the next one of its group; None for the last.
        votes: Votes that moved its strength.
        wins: Of its pairs: a vote on m columns is up to m − 1 pairs. ``ties`` and ``losses`` likewise.
        bad: Votes that called all answers bad, this model's among them; they move no strength.
    """

    name: str
    group: int
    strength: float | None
    win_rate: float | None
    low: float | None
    high: float | None
    over_next: float | None
    votes: int
    wins: int
    ties: int
    losses: int
    bad: int


@dataclass(frozen=True)
class Ratings(Record):
    """A table of ratings.

    Attributes:
        models: The group of most votes first, in a group the strongest first.
        votes: All of them, the bad ones too.
        bad: Votes that called all answers bad.
        level: Of the intervals, 0 to 1.
        samples: Resamples they were taken from; ``seed`` makes them anew.
    """

    models: tuple[Rating, ...]
    votes: int
    bad: int
    level: float = LEVEL
    samples: int = SAMPLES
    seed: int = 0

    @property
    def groups(self) -> tuple[tuple[Rating, ...], ...]:
        """The models by group."""
        numbers = dict.fromkeys(rating.group for rating in self.models)
        return tuple(tuple(rating for rating in self.models if rating.group == number) for number in numbers)


def rate(judgements: Iterable[Judgement], *, samples: int = SAMPLES, seed: int = 0, level: float = LEVEL) -> Ratings:
    """The ratings by these votes; the same votes and ``seed`` give the same numbers, in whatever order they come."""
    all_votes = sorted(judgements, key=lambda vote: (vote.models, vote.outcome, vote.best))
    names = sorted({name for vote in all_votes for name in vote.models})
    found = [_rate_group(group, all_votes, samples, seed, level) for group in _groups(names, all_votes)]
    found.sort(key=lambda ratings: (-sum(rating.votes for rating in ratings), ratings[0].name))
    numbered = [
        Rating(**{**vars(rating), "group": number}) for number, ratings in enumerate(found) for rating in ratings
    ]
    bad = sum(vote.outcome == "bad" for vote in all_votes)
    return Ratings(tuple(numbered), len(all_votes), bad, level, samples, seed)


def _groups(names: Sequence[str], votes: Sequence[Judgement]) -> list[list[str]]:
    """The connected parts of the graph whose edges are pairs that a vote decided."""
    leader = {name: name for name in names}

    def find(name: str) -> str:
        while leader[name] != name:
            name = leader[name]
        return name

    for vote in votes:
        for a, b, _ in vote.pairs():
            leader[find(a)] = find(b)
    parts: dict[str, list[str]] = {}
    for name in names:
        parts.setdefault(find(name), []).append(name)
    return list(parts.values())


def _rate_group(names: list[str], votes: Sequence[Judgement], samples: int, seed: int, level: float) -> list[Rating]:
    counts = _counts(names, votes)
    if len(names) == 1:
        return [Rating(names[0], 0, None, None, None, None, None, **counts[names[0]])]
    mine = [vote for vote in votes if vote.models[0] in names and vote.pairs()]
    wins, ties = _tensors(names, mine)
    prior = np.full((len(names), len(names)), 1.0 / (len(names) - 1))
    np.fill_diagonal(prior, 0.0)
    strengths, nu = _fit(wins.sum(0)[None] + prior, ties.sum(0)[None])
    drawn, drawn_nu = _fit(*_resampled(wins, ties, prior, samples, np.random.default_rng(seed)))
    rates, spread = _win_rates(strengths, nu)[0], _win_rates(drawn, drawn_nu)
    low, high = np.quantile(spread, [(1 - level) / 2, (1 + level) / 2], axis=0)
    order = sorted(range(len(names)), key=lambda i: (-strengths[0, i], names[i]))
    following = dict(itertools.pairwise(order))
    return [
        Rating(
            name=names[i],
            group=0,
            strength=float(strengths[0, i]),
            win_rate=float(rates[i]),
            low=float(low[i]),
            high=float(high[i]),
            over_next=float(np.mean(drawn[:, i] > drawn[:, following[i]])) if i in following else None,
            **counts[names[i]],
        )
        for i in order
    ]


def _counts(names: Sequence[str], votes: Sequence[Judgement]) -> dict[str, dict[str, Any]]:
    counts = {name: dict.fromkeys(("votes", "wins", "ties", "losses", "bad"), 0) for name in names}
    for vote in votes:
        pairs = vote.pairs()
        for a, b, how in pairs:
            if a in counts:
                counts[a]["wins" if how == "win" else "ties"] += 1
                counts[b]["losses" if how == "win" else "ties"] += 1
        decided = {name for a, b, _ in pairs for name in (a, b)}
        for name in set(vote.models) & counts.keys():
            counts[name]["votes"] += name in decided
            counts[name]["bad"] += vote.outcome == "bad"
    return counts


def _tensors(names: Sequence[str], votes: Sequence[Judgement]) -> tuple[Floats, Floats]:
    """Of each vote [V, M, M]: the weight of i winning against j; and of i tied with j, symmetric."""
    place = {name: number for number, name in enumerate(names)}
    wins = np.zeros((len(votes), len(names), len(names)))
    ties = np.zeros_like(wins)
    for number, vote in enumerate(votes):
        weight = 2.0 / len(vote.models)
        for a, b, how in vote.pairs():
            if how == "win":
                wins[number, place[a], place[b]] += weight
            else:
                ties[number, place[a], place[b]] += weight
                ties[number, place[b], place[a]] += weight
    return wins, ties


def _resampled(
    wins: Floats, ties: Floats, prior: Floats, samples: int, random: np.random.Generator
) -> tuple[Floats, Floats]:
    """Wins, pseudo-votes included, and ties of each resample, [samples, M, M]."""
    weights = random.exponential(size=(samples, len(wins)))
    pseudo = np.zeros((samples, *prior.shape))
    asked = prior > 0
    pseudo[:, asked] = np.maximum(random.gamma(prior[asked], size=(samples, int(asked.sum()))), LEAST_WEIGHT)
    return np.einsum("sv,vij->sij", weights, wins) + pseudo, np.einsum("sv,vij->sij", weights, ties)


def _fit(wins: Floats, ties: Floats) -> tuple[Floats, Floats]:
    """The strengths that make votes of these weights likeliest, and ν, for each of a batch: [S, M] and [S].

    Newton's method in (θ, log ν), in which the log-likelihood is concave, with steps cut and halved. A row of zeros
    and its sum in the curvature hold the mean of θ at 0, of which the votes say nothing.
    """
    batch, models = wins.shape[:2]
    tied = bool(ties.any())
    theta, log_nu = np.zeros((batch, models)), np.zeros(batch)
    value = _log_likelihood(theta, log_nu, wins, ties, tied)
    for _ in range(200):
        gradient, curvature = _derivatives(theta, log_nu, wins, ties, tied)
        if np.abs(gradient).max() < 1e-7:
            break
        step = np.linalg.solve(curvature, gradient[..., None])[..., 0]
        step *= np.minimum(1.0, 2.0 / np.maximum(np.abs(step).max(1), 1e-300))[:, None]
        for _ in range(30):
            moved = theta + step[:, :models], log_nu + (step[:, models] if tied else 0.0)
            new = _log_likelihood(*moved, wins, ties, tied)
            worse = new < value - 1e-12 * np.abs(value)
            if not worse.any():
                break
            step[worse] /= 2
        theta, log_nu, value = moved[0] - moved[0].mean(1, keepdims=True), moved[1], new
    return theta, np.exp(log_nu) if tied else np.zeros(batch)


def _shares(theta: Floats, log_nu: Floats, tied: bool) -> tuple[Floats, Floats, Floats]:
    """P(i wins), P(tie) and log z of every pair, [S, M, M]."""
    half = (theta[:, :, None] - theta[:, None, :]) / 2
    top = np.abs(half)
    if tied:
        top = np.maximum(top, log_nu[:, None, None])
    win, lose = np.exp(half - top), np.exp(-half - top)
    tie = np.exp(log_nu[:, None, None] - top) if tied else np.zeros_like(win)
    total = win + lose + tie
    return win / total, tie / total, np.log(total) + top


def _log_likelihood(theta: Floats, log_nu: Floats, wins: Floats, ties: Floats, tied: bool) -> Floats:
    half = (theta[:, :, None] - theta[:, None, :]) / 2
    log_z = _shares(theta, log_nu, tied)[2]
    told: Floats = (wins * (half - log_z)).sum((1, 2))
    if tied:
        told += (ties * (log_nu[:, None, None] - log_z)).sum((1, 2)) / 2
    return told


def _derivatives(theta: Floats, log_nu: Floats, wins: Floats, ties: Floats, tied: bool) -> tuple[Floats, Floats]:
    """Gradient [S, P] and curvature (the negative Hessian, [S, P, P]) of the log-likelihood; log ν is the last of P."""
    batch, models = theta.shape
    win, tie, _ = _shares(theta, log_nu, tied)
    lose = win.transpose(0, 2, 1)
    both = wins + wins.transpose(0, 2, 1) + ties  # of a pair, the same seen from either side
    size = models + tied
    gradient, curvature = np.zeros((batch, size)), np.zeros((batch, size, size))
    gradient[:, :models] = ((wins - wins.transpose(0, 2, 1)) - both * (win - lose)).sum(2) / 2
    pull = both * ((win + lose) - (win - lose) ** 2) / 4
    curvature[:, :models, :models] = -pull + 1.0 / models  # the last holds the mean
    diagonal = np.arange(models)
    curvature[:, diagonal, diagonal] += pull.sum(2)
    if tied:
        gradient[:, models] = (ties - both * tie).sum((1, 2)) / 2
        curvature[:, models, models] = (both * tie * (1 - tie)).sum((1, 2)) / 2
        cross = -(both * (win - lose) * tie).sum(2) / 2
        curvature[:, :models, models] = curvature[:, models, :models] = cross
    return gradient, curvature


def _win_rates(theta: Floats, nu: Floats) -> Floats:
    """P(win) + P(tie)/2 against the others of the group on average, [S, M]."""
    tied = bool(nu.any())
    win, tie, _ = _shares(theta, np.log(nu) if tied else nu, tied)
    against = win + tie / 2
    others: Floats = (against.sum(2) - against.diagonal(axis1=1, axis2=2)) / (theta.shape[1] - 1)
    return others
