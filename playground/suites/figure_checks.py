"""Checks that look at how an answer came: its time, its length, its cost, how sure the model was.

Every limit is ``threshold``. Times are milliseconds, as in promptfoo. They are true where a model had the machine to
itself, and say so where it had not.
"""

from __future__ import annotations

import math

from playground.messages import Translatable, clauses, msg, plural
from playground.suites.finding import CheckFunction, Finding, Given, Unjudged
from playground.suites.suite import Check


def caution(given: Given) -> Translatable | None:
    """Why times of this answer can't be compared with others; None where they can."""
    if given.shared:
        return msg("not comparable: the machine worked for others at the same time")
    if given.run.timings.mode == "fast":
        return msg("not comparable: other models answered at the same time (fast mode)")
    if given.run.runtime == "remote":
        return msg("not comparable: the network and somebody else's machine are in it")
    return None


def _timed(met: bool, told: Translatable, given: Given) -> Finding:
    why = caution(given)
    return Finding(met, clauses(told, why) if why else told)


def _limit(check: Check) -> float:
    assert check.threshold is not None  # assertions.py lets no such check through without
    return check.threshold


def _latency(check: Check, given: Given) -> Finding:
    total = given.run.timings.total_s
    if total is None:
        raise Unjudged(msg("the time of this answer was not taken"))
    limit = _limit(check)
    told = msg("the answer took {took:,.0f} ms, the limit is {limit:,g} ms", took=total * 1000, limit=limit)
    return _timed(total * 1000 <= limit, told, given)


def _first_token(check: Check, given: Given) -> Finding:
    first = given.run.timings.ttft_s
    if first is None:
        raise Unjudged(msg("the time to the first token was not taken"))
    limit = _limit(check)
    told = msg("the first token took {took:,.0f} ms, the limit is {limit:,g} ms", took=first * 1000, limit=limit)
    return _timed(first * 1000 <= limit, told, given)


def _speed(check: Check, given: Given) -> Finding:
    speed = given.run.timings.decode_tok_s
    if speed is None:
        raise Unjudged(msg("an answer of less than two tokens has no speed"))
    told = msg("{speed:.1f} tokens a second, the limit is {limit:g}", speed=speed, limit=_limit(check))
    if given.run.timings.unit == "chunk":
        told = clauses(told, msg("counted in the pieces that the server sent, which need not be tokens"))
    return _timed(speed >= _limit(check), told, given)


def _tokens(check: Check, given: Given) -> Finding:
    count = given.run.timings.output_tokens
    if count is None:
        raise Unjudged(msg("the tokens of this answer were not counted"))
    told = plural("the answer has {n} token, the limit is {limit:g}",
                  "the answer has {n} tokens, the limit is {limit:g}", count, limit=_limit(check))  # fmt: skip
    if given.run.timings.unit == "chunk":
        told = clauses(told, msg("counted in the pieces that the server sent, which need not be tokens"))
    return Finding(count <= _limit(check), told)


def _cost(check: Check, given: Given) -> Finding:
    if given.cost is None:
        raise Unjudged(msg("nobody said what this machine costs"))
    told = msg("the answer costs ${cost}, the limit is ${limit}", cost=f"{given.cost:.2g}", limit=f"{_limit(check):g}")
    return _timed(given.cost <= _limit(check), told, given)


def perplexity(given: Given) -> float:
    """exp of the mean negative log-probability of the answer's tokens: all that the model chose, thinking and the end
    of turn among them.
    """
    begun = len(given.run.token_ids or ()) - (given.run.timings.output_tokens or 0)
    taken = given.run.logprobs[begun if 0 < begun < len(given.run.logprobs) else 0 :]
    chosen = [each.logprob for each in taken if each.logprob is not None]
    if not chosen:
        raise Unjudged(msg("the model reported no log-probabilities"))
    try:
        return math.exp(-sum(chosen) / len(chosen))
    except OverflowError:
        return math.inf


def _perplexity(check: Check, given: Given) -> Finding:
    value = perplexity(given)
    if check.threshold is None:
        return Finding(not check.inverse, msg("the perplexity is {value:.3g}", value=value))
    told = msg("the perplexity is {value:.3g}, the limit is {limit:g}", value=value, limit=check.threshold)
    return Finding(value <= check.threshold, told)


def _perplexity_score(check: Check, given: Given) -> Finding:
    score = 1 / (1 + perplexity(given))
    if check.threshold is None:
        return Finding(not check.inverse, msg("the perplexity score is {score:.2f}", score=score), score)
    told = msg("the perplexity score is {score:.2f}, the limit is {limit:g}", score=score, limit=check.threshold)
    return Finding(score >= check.threshold, told, score)


CHECKS: dict[str, CheckFunction] = {
    "latency": _latency,
    "first-token": _first_token,
    "tokens-per-second": _speed,
    "tokens": _tokens,
    "cost": _cost,
    "perplexity": _perplexity,
    "perplexity-score": _perplexity_score,
}
