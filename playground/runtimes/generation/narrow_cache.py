"""Keys and values in eight bits, and how far that moves this model's predictions: measured as it is loaded.

The figure is of a short text, so that loading stays quick; docs/engine.md has some of longer ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from playground.messages import Translatable, msg
from playground.runtimes.generation.divergence import kl_divergence
from playground.runtimes.generation.engine import Engine, Logits

NARROW_BITS = 8
POSITIONS = 64
"""The most that are compared, at the text's end."""
MAX_LOGITS = 8_000_000
"""Of the positions compared: 32 MB."""

PROBE = """A harbour town keeps two clocks. One hangs in the church tower and tells the hour of the land; the other
stands on the pier and tells when the water turns. Strangers set their watches by the first and miss the boat. In 1874 a
teacher wrote down both for a year: every day the tide came about 50 minutes later, so that after 14 or 15 days it was
back where it had been. def next_tide(hour): return (hour + 24.84) % 24. She called the list "what the moon owes us".
"""
"""Prose, numbers and a line of code, some hundred tokens."""


def narrow_cache(engine: Engine, ids: Sequence[int]) -> Translatable:
    """Have ``engine`` keep keys and values in eight bits, if it can.

    Args:
        ids: Of ``PROBE``, or what else is to be read for the comparison; not empty.

    Returns:
        What readers of its answers should know: the mean KL from sixteen bits to eight, in nats; or that there is no
        such cache.
    """
    if not engine.keep_bits(NARROW_BITS):
        return msg(
            "Keys and values are not kept in 8 bits: {engine} has no such cache, or was prepared before there was one.",
            engine=engine.name,
        )
    engine.keep_bits(16)
    wide = _last_rows(engine, ids)
    engine.keep_bits(NARROW_BITS)
    narrow = _last_rows(engine, ids)
    pairs = list(zip(wide, narrow, strict=True))
    agree = sum(int(np.argmax(one)) == int(np.argmax(other)) for one, other in pairs)
    return msg(
        "Keys and values are kept in 8 bits instead of 16. That moves this model's predictions by {kl:.2g} nats (mean "
        "KL over {positions} positions of a short text); {agree} of {positions} likeliest tokens are the same.",
        kl=float(np.mean([kl_divergence(one, other) for one, other in pairs])),
        positions=len(pairs),
        agree=agree,
    )


def _last_rows(engine: Engine, ids: Sequence[int]) -> list[Logits]:
    engine.reset(len(ids))
    found: list[Logits] = []
    wanted = min(POSITIONS, len(ids))
    for row in engine.rows(ids, wanted):
        wanted = min(wanted, max(8, MAX_LOGITS // len(row)))
        found.append(row.copy())
        del found[:-wanted]
    return found
