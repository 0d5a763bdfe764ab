"""Ratings are what can be worked out by hand, agree with evalica and with a search over the likelihood, and their
intervals hold what they promise at four votes.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from playground.results.ratings import LEAST_VOTES, Judgement, Rating, Ratings, rate


def votes(a: str, b: str, wins: int = 0, ties: int = 0, losses: int = 0, *, bad: int = 0) -> list[Judgement]:
    return [
        *[Judgement((a, b), "best", 0)] * wins,
        *[Judgement((a, b), "tie")] * ties,
        *[Judgement((a, b), "best", 1)] * losses,
        *[Judgement((a, b), "bad")] * bad,
    ]


def by_name(ratings: Ratings) -> dict[str, Rating]:
    return {rating.name: rating for rating in ratings.models}


def test_three_wins_of_four_are_laplaces_rule() -> None:
    """(3 + 1)/(4 + 2) = 2/3; θ_a − θ_b = log 4/2; the interval is that of Beta(4, 2): 0.2836 to 0.9473."""
    found = by_name(rate(votes("a", "b", wins=3, losses=1), samples=40_000))
    assert found["a"].win_rate == pytest.approx(2 / 3, abs=1e-6)
    assert found["a"].strength - found["b"].strength == pytest.approx(math.log(2), abs=1e-6)  # type: ignore[operator]
    assert found["a"].low == pytest.approx(0.2836, abs=0.01)
    assert found["a"].high == pytest.approx(0.9473, abs=0.005)
    assert found["b"].win_rate == pytest.approx(1 / 3, abs=1e-6)
    assert (found["b"].wins, found["b"].losses, found["b"].votes) == (1, 3, 4)
    assert found["a"].over_next == pytest.approx(0.8125, abs=0.01)  # P(Beta(4, 2) > 1/2) = 26/32
    assert found["b"].over_next is None


def test_ties_count_half_and_their_share_is_estimated() -> None:
    """w, t, l = 1, 4, 0 with a pseudo-vote each way: P = 2/7, 4/7, 1/7, so the win rate is 2/7 + 2/7."""
    (first, second) = rate(votes("a", "b", wins=1, ties=4)).models
    assert (first.name, first.ties, second.ties) == ("a", 4, 4)
    assert first.win_rate == pytest.approx(4 / 7, abs=1e-6)
    assert first.low < 0.5 < first.high  # type: ignore[operator]


def test_only_ties_leave_two_models_equal() -> None:
    found = by_name(rate(votes("a", "b", ties=4)))
    assert found["a"].win_rate == pytest.approx(0.5, abs=1e-9)


def test_a_model_that_was_never_beaten_stays_finite_and_four_votes_stay_uncertain() -> None:
    found = by_name(rate(votes("a", "b", wins=4)))
    assert found["a"].win_rate == pytest.approx(5 / 6, abs=1e-6)
    assert found["a"].low < 0.5  # type: ignore[operator]  # Beta(5, 1): 0.025 ** (1/5) = 0.478
    assert found["a"].low == pytest.approx(0.025 ** (1 / 5), abs=0.04)


def test_the_least_number_of_votes_that_can_say_anything() -> None:
    enough = by_name(rate(votes("a", "b", wins=LEAST_VOTES)))["a"]
    too_few = by_name(rate(votes("a", "b", wins=LEAST_VOTES - 1)))["a"]
    assert too_few.low < 0.5 < enough.low  # type: ignore[operator]


def test_many_votes_are_what_evalica_says() -> None:
    evalica = pytest.importorskip("evalica")
    random = np.random.default_rng(3)
    names, true = ["a", "b", "c", "d"], np.array([1.0, 0.3, -0.2, -1.1])
    cast = []
    for i, j in itertools.combinations(range(4), 2):
        for _ in range(2000):
            won = random.random() < 1 / (1 + math.exp(true[j] - true[i]))
            cast.append(Judgement((names[i], names[j]), "best", 0 if won else 1))
    xs, ys = [vote.models[0] for vote in cast], [vote.models[1] for vote in cast]
    who = [evalica.Winner.X if vote.best == 0 else evalica.Winner.Y for vote in cast]
    scores = evalica.bradley_terry(xs, ys, who, tolerance=1e-12, limit=10_000).scores
    theirs = np.log([scores[name] for name in names])
    found = by_name(rate(cast, samples=200))
    assert [found[name].strength for name in names] == pytest.approx(list(theirs - theirs.mean()), abs=2e-3)


def test_strengths_with_ties_are_where_the_likelihood_is_highest() -> None:
    """Every step away from the estimate, along each parameter, makes Davidson's likelihood (written anew) smaller."""
    cast = [*votes("a", "b", 3, 2, 1), *votes("b", "c", 2, 1, 0), *votes("a", "c", 1, 1, 2)]
    found = by_name(rate(cast, samples=10))
    theta = {name: found[name].strength for name in "abc"}

    def likelihood(theta: dict[str, float], nu: float) -> float:
        total = 0.0
        pairs = [pair for vote in cast for pair in vote.pairs()]
        pseudo = [(a, b, "win") for a, b in itertools.permutations("abc", 2)]
        for weight, several in ((1.0, pairs), (1 / 2, pseudo)):
            for a, b, how in several:
                one, other = math.exp(theta[a]), math.exp(theta[b])
                both = nu * math.sqrt(one * other)
                total += weight * math.log((one if how == "win" else both) / (one + other + both))
        return total

    nus = np.linspace(0.2, 3, 2801)
    best = max(nus, key=lambda nu: likelihood(theta, nu))  # type: ignore[arg-type]
    top = likelihood(theta, best)  # type: ignore[arg-type]
    for name, step in itertools.product("abc", (-0.01, 0.01)):
        assert likelihood({**theta, name: theta[name] + step}, best) < top  # type: ignore[dict-item, operator]


def test_both_bad_moves_no_strength_and_is_counted() -> None:
    without, with_bad = rate(votes("a", "b", wins=3)), rate(votes("a", "b", wins=3, bad=5))
    for one, other in zip(without.models, with_bad.models, strict=True):
        assert (one.win_rate, one.low, one.high) == (other.win_rate, other.low, other.high)
        assert (one.votes, one.bad, other.votes, other.bad) == (3, 0, 3, 5)
    assert (with_bad.votes, with_bad.bad) == (8, 5)


def test_models_that_were_never_compared_are_in_groups_of_their_own() -> None:
    here, there = votes("a", "b", wins=3), votes("x", "y", wins=1)
    both = rate([*here, *there, Judgement(("p", "q"), "bad")])
    assert [[rating.name for rating in group] for group in both.groups] == [["a", "b"], ["x", "y"], ["p"], ["q"]]
    alone = rate(here)
    assert [r.win_rate for r in both.groups[0]] == [r.win_rate for r in alone.models]
    assert (both.groups[2][0].win_rate, both.groups[2][0].bad) == (None, 1)


def test_a_chain_of_votes_makes_one_group() -> None:
    (group,) = rate([*votes("a", "b", wins=1), *votes("b", "c", wins=1)]).groups
    assert [rating.name for rating in group] == ["a", "b", "c"]


def test_the_best_of_many_beat_each_but_one_choice_is_not_many_votes() -> None:
    vote = Judgement(("a", "b", "c", "d"), "best", 2)
    assert vote.pairs() == [("c", "a", "win"), ("c", "b", "win"), ("c", "d", "win")]
    found = by_name(rate([vote]))
    assert (found["c"].wins, found["c"].votes, found["a"].losses) == (3, 1, 1)
    three = by_name(rate([*votes("c", "a", 1), *votes("c", "b", 1), *votes("c", "d", 1)]))
    assert found["c"].win_rate < three["c"].win_rate  # type: ignore[operator]


def test_a_model_is_not_rated_against_itself() -> None:
    assert Judgement(("a", "a", "b"), "best", 0).pairs() == [("a", "b", "win")]
    assert Judgement(("a", "a"), "tie").pairs() == []


def test_the_same_votes_in_another_order_give_the_same_table() -> None:
    cast = [*votes("a", "b", 3, 1, 1), *votes("b", "c", 2, 0, 1)]
    assert rate(cast) == rate(cast[::-1])
    assert rate(cast) != rate(cast, seed=1)


def test_no_votes_no_models() -> None:
    assert rate([]).models == ()


def test_intervals_of_four_votes_hold_the_truth_as_often_as_they_say() -> None:
    """Strengths drawn from the prior, four votes on three models: 95 % intervals of what was really so."""
    random = np.random.default_rng(11)
    inside = total = 0
    for trial in range(150):
        p = random.beta(1, 1, size=3)  # of the prior: one win and one loss a pair
        theta = np.log(p / (1 - p)) / 2
        cast = []
        for i, j in ((0, 1), (1, 2), (0, 2), (0, 1)):
            won = random.random() < 1 / (1 + math.exp(theta[j] - theta[i]))
            cast.append(Judgement((f"m{i}", f"m{j}"), "best", 0 if won else 1))
        found = by_name(rate(cast, samples=400, seed=trial))
        for i in range(3):
            rate_of = np.mean([1 / (1 + math.exp(theta[j] - theta[i])) for j in range(3) if j != i])
            inside += bool(found[f"m{i}"].low <= rate_of <= found[f"m{i}"].high)  # type: ignore[operator]
            total += 1
    assert inside / total > 0.93
