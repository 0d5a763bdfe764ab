"""What pass counts say beyond themselves: an interval for a pass rate, and whether two models differ on one suite.

**A pass rate** has Wilson's score interval (Wilson 1927, Probable Inference, the Law of Succession, and Statistical
Inference, JASA 22, 209–212, doi:10.1080/01621459.1927.10502953). It covers what it says down to a handful of prompts
and never leaves 0 to 1, where the usual ± of a proportion says "100 % ± 0 %" after five of five (Brown, Cai and
DasGupta 2001, Interval Estimation for a Binomial Proportion, Statistical Science 16, 101–133,
doi:10.1214/ss/1009213286, who recommend it for small n).

**Repeats.** Several answers to one prompt are no new prompts: what they add is seen in the prompt's own share of
passes. So n is the number of prompts, and k the sum of their shares, which need not be whole. A share between 0 and 1
varies at most as a coin of the same mean does (Var ≤ p(1 − p)), so the interval is on the safe side: exact for one
answer a prompt or answers that never change, wider than needed where they do.

**Two models** answered the same prompts, so they are compared prompt by prompt. Those on which both do alike say
nothing; of the others, a coin would give each model half. That is McNemar's test (1947, Note on the Sampling Error of
the Difference Between Correlated Proportions or Percentages, Psychometrika 12, 153–157, doi:10.1007/BF02295996) with
its exact binomial p, which does not lean on large numbers and errs on the careful side (Fagerland, Lydersen and Laake
2013, BMC Medical Research Methodology 13:91, doi:10.1186/1471-2288-13-91). With repeats "better on a prompt" is a
larger share, which makes it the exact sign test.

**How large the difference may be** says the interval of Bonett and Price (2012, Adjusted Wald Confidence Interval for a
Difference of Binomial Proportions Based on Paired Data, Journal of Educational and Behavioral Statistics 37, 479–488,
doi:10.3102/1076998611411915): a test that finds nothing is not a finding that there is nothing.

**Many models** make many pairs, and one in twenty would differ by luck: ``holm`` raises the p values of a family so
that any error among them stays below the level (Holm 1979, A Simple Sequentially Rejective Multiple Test Procedure,
Scandinavian Journal of Statistics 6, 65–70).

It knows counts and shares, not models, cells or where they are kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Literal

from playground.messages import Translatable, msg, plural, sentences
from playground.records import Record

LEVEL = 0.05
"""A difference is called one where a coin would give it less often than this."""
LEAST_DIFFERING = 6
"""With fewer prompts on which two models differ, no exact p of theirs falls below 0.05, even if all go one way:
2 × 0.5^6 = 0.031, 2 × 0.5^5 = 0.063."""

Seen = Literal["better", "worse", "none"]


@dataclass(frozen=True)
class Interval(Record):
    """From ``low`` to ``high``, both included, as shares: 0 to 1 for a rate, −1 to 1 for a difference."""

    low: float
    high: float


@dataclass(frozen=True)
class Rate(Record):
    """How many of the prompts were passed.

    Attributes:
        passed: Sum of the prompts' shares of passed answers; whole where each was asked once.
        prompts: Those that have an outcome.
        share: ``passed / prompts``, 0 to 1; None where no prompt has an outcome.
        interval: 95 %, Wilson's.
    """

    passed: float
    prompts: int
    share: float | None
    interval: Interval


@dataclass(frozen=True)
class Paired(Record):
    """Two models on the same prompts, told from the first one's side.

    Attributes:
        prompts: Those on which both have an outcome.
        better, worse: On how many of them the first did better, worse.
        difference: Its pass rate minus the other's on these prompts, −1 to 1; None without prompts.
        interval: 95 % of that difference.
        p: How often a coin would give a split as uneven as ``better`` to ``worse``, or more so; 0 to 1.
        pairs: How many pairs were tested together, for which ``p`` is raised (``family``).
    """

    prompts: int
    better: int
    worse: int
    difference: float | None
    interval: Interval
    p: float
    pairs: int = 1

    @property
    def seen(self) -> Seen:
        """Whether the first one is ``better`` or ``worse``, or no difference is seen."""
        if self.p >= LEVEL:
            return "none"
        return "better" if self.better > self.worse else "worse"


def wilson(k: float, n: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion of which ``k`` of ``n`` were seen.

    Args:
        k: 0 to ``n``; need not be whole (see the module).
        confidence: Of the two-sided interval, between 0 and 1.

    Returns:
        0 to 1 where ``n`` is 0: nothing is known.

    Raises:
        ValueError: ``k`` is no part of ``n``, or ``confidence`` no share.
    """
    if n < 0 or not 0 <= k <= n:
        raise ValueError("k is not from 0 to n")
    z = _z(confidence)
    if n == 0:
        return Interval(0.0, 1.0)
    share, more = k / n, z * z / n
    middle = (share + more / 2) / (1 + more)
    half = z / (1 + more) * math.sqrt(share * (1 - share) / n + more / (4 * n))
    # At the ends the formula gives 0 and 1 exactly; floating point may miss them by a bit.
    return Interval(0.0 if k == 0 else max(0.0, middle - half), 1.0 if k == n else min(1.0, middle + half))


def mcnemar(b: int, c: int) -> float:
    """McNemar's exact p, two-sided: of ``b + c`` prompts on which two models differ, ``b`` went one way and ``c`` the
    other. 1 where there is none.

    Raises:
        ValueError: A count is negative.
    """
    if b < 0 or c < 0:
        raise ValueError("a count is negative")
    n, k = b + c, min(b, c)
    if 2 * k >= n - 1:
        return 1.0  # The middle of the distribution: both tails together are all of it.
    log_of_all = math.lgamma(n + 1) - n * math.log(2)
    tail = math.fsum(math.exp(log_of_all - math.lgamma(i + 1) - math.lgamma(n - i + 1)) for i in range(k + 1))
    return min(1.0, 2 * tail)


def holm(ps: Sequence[float]) -> tuple[float, ...]:
    """The p values of a family of tests, adjusted by Holm's step-down procedure, in their order."""
    order = sorted(range(len(ps)), key=lambda place: ps[place])
    adjusted, least = [0.0] * len(ps), 0.0
    for rank, place in enumerate(order):
        least = max(least, min(1.0, (len(ps) - rank) * ps[place]))
        adjusted[place] = least
    return tuple(adjusted)


def rate(shares: Mapping[int, float] | Mapping[str, float]) -> Rate:
    """The pass rate over prompts: ``shares`` has the share of passed answers, 0 to 1, of each that has an outcome."""
    passed, prompts = math.fsum(shares.values()), len(shares)
    passed = min(passed, float(prompts))
    return Rate(passed, prompts, passed / prompts if prompts else None, wilson(passed, prompts))


def paired(
    first: Mapping[str, float] | Mapping[int, float], second: Mapping[str, float] | Mapping[int, float]
) -> Paired:
    """Two models (or one at two times) by the share of passed answers of each prompt, over the prompts both have."""
    other: dict[object, float] = dict(second.items())
    gaps = [share - other[prompt] for prompt, share in first.items() if prompt in other]
    better, worse = sum(gap > 0 for gap in gaps), sum(gap < 0 for gap in gaps)
    difference = math.fsum(gaps) / len(gaps) if gaps else None
    return Paired(
        len(gaps), better, worse, difference, difference_interval(better, worse, len(gaps)), mcnemar(better, worse)
    )


def difference_interval(better: int, worse: int, prompts: int, confidence: float = 0.95) -> Interval:
    """Bonett and Price's interval of the difference of two paired proportions, −1 to 1.

    Args:
        better, worse: Prompts on which the first alone, the second alone passed.
        prompts: All of them; −1 to 1 is the answer where there is none.
    """
    if better < 0 or worse < 0 or better + worse > prompts:
        raise ValueError("better and worse are no parts of prompts")
    z = _z(confidence)
    if prompts == 0:
        return Interval(-1.0, 1.0)
    one, two = (better + 1) / (prompts + 2), (worse + 1) / (prompts + 2)
    middle = one - two
    half = z * math.sqrt((one + two - middle * middle) / (prompts + 2))
    return Interval(max(-1.0, middle - half), min(1.0, middle + half))


def family(tests: Sequence[Paired]) -> tuple[Paired, ...]:
    """The same tests with the p values of a family (``holm``): for every pair of more than two models."""
    return tuple(
        replace(test, p=p, pairs=len(tests)) for test, p in zip(tests, holm([test.p for test in tests]), strict=True)
    )


def outcome_words(test: Paired) -> Translatable:
    """What a paired test says, as a sentence without the models' names."""
    if not test.prompts:
        return msg("nothing to compare yet")
    if test.seen == "better":
        return plural("better on {n} prompt, worse on {worse}", "better on {n} prompts, worse on {worse}",
                      n=test.better, worse=test.worse)  # fmt: skip
    if test.seen == "worse":
        return plural("worse on {n} prompt, better on {better}", "worse on {n} prompts, better on {better}",
                      n=test.worse, better=test.better)  # fmt: skip
    return msg("no difference seen")


def why_words(test: Paired) -> Translatable:
    """What stands behind ``outcome_words``: the counts, the p value, how large the difference may be, and where there
    was too little to see any difference, that."""
    if not test.prompts:
        return msg("No prompt has an outcome for both.")
    low, high = test.interval.low * 100, test.interval.high * 100
    if test.better + test.worse < LEAST_DIFFERING:
        return msg(
            "They differ on {differing} of {prompts} prompts; fewer than {least} can't show a difference, whichever "
            "way they go. It may be anything from {low:+.0f} to {high:+.0f} points.",
            differing=test.better + test.worse, prompts=test.prompts, least=LEAST_DIFFERING, low=low, high=high,
        )  # fmt: skip
    counted = msg(
        "Better on {better}, worse on {worse} of {prompts} prompts.",
        better=test.better, worse=test.worse, prompts=test.prompts,
    )  # fmt: skip
    tested = msg("Exact McNemar p = {p:.2g}.", p=test.p)
    if test.pairs > 1:
        tested = msg("Exact McNemar p = {p:.2g}, raised for {pairs} pairs (Holm).", p=test.p, pairs=test.pairs)
    apart = msg("The difference lies between {low:+.0f} and {high:+.0f} points (95 %).", low=low, high=high)
    return sentences(counted, tested, apart)


def _z(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError("confidence is not between 0 and 1")
    return NormalDist().inv_cdf((1 + confidence) / 2)
