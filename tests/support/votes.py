"""Blind votes as they lie in the store, without running anything."""

from __future__ import annotations

from playground.records import Comparison, Environment, ModelRun, Request, Variant
from playground.results.ratings import Outcome
from playground.service import Playground

FAST, SLOW, BASE = (Variant(name, "fake", "none") for name in ("fast", "slow", "base"))


def answered(id: str, *variants: Variant, texts: tuple[str, ...] = ()) -> Comparison:
    """A comparison whose columns all have an answer."""
    runs = tuple(
        ModelRun(variant, "fake", "none", texts[place] if texts else f"Answer {place}.", "stop")
        for place, variant in enumerate(variants)
    )
    return Comparison(id, f"2026-11-26T10:00:00.{len(id):03}Z", Request("Hi?"), runs, Environment("cpu", 2, 1e3))


def vote(
    playground: Playground, id: str, outcome: Outcome, best: int | None = None, *, owner: str = "", tag: str = ""
) -> None:
    """A blind comparison of ``fast`` and ``slow``, in that order, and a vote on it."""
    playground.keep(answered(id, FAST, SLOW), owner)
    playground.votes_kept.begin(id, owner, "2026-11-26T10:00:00.000Z")
    playground.vote(id, owner, outcome, best, tag=tag)
