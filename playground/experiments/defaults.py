"""What is proposed to somebody who has changed nothing: prompts to try, and parameters that suit a kind of model.

Data and a rule, no work. Whatever is proposed is shown where it counts (a column's own parameters in its head, with the
reason) and can be changed. What it rests on was measured, see docs/measurement.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from playground.messages import Translatable, msg
from playground.records import Column, ModelKind, Request, Variant


@dataclass(frozen=True)
class Example:
    """A prompt to try.

    Attributes:
        name: What it is an example of.
        text: The prompt itself, in whatever language: it is not translated.
    """

    name: Translatable
    text: str


EXAMPLES = (
    Example(msg("Text to continue"), "Photosynthesis is the process by which plants"),
    Example(msg("Question"), "Explain in two sentences why the sky is blue."),
    Example(msg("Code"), "Write a Python function that returns the n-th Fibonacci number. Answer with the code only."),
    Example(msg("Japanese"), "日本の首都はどこですか。一文で答えてください。"),
)
"""The first one is what a first visit asks. A base model continues it and a chat model takes it for a question, so that
one prompt suits both: of eleven that were tried with both starter models, the one both answer best.
"""

BASE_PENALTY = 1.2
"""Repetition penalty of base models. Greedy and without one, Gemma 3 270M repeated itself on each of eleven prompts
(23 % of its four-word sequences were new ones, on average); with 1.1 on one of them (91 %), with 1.2 and 1.3 on none.
"""
BASE_REASON = msg(
    "A base model that always takes the likeliest token soon repeats itself: a repetition penalty of {penalty} is set "
    "for it alone. Change it in this column’s own parameters.",
    penalty=BASE_PENALTY,
)


def own_request(kind: ModelKind, request: Request) -> Request | None:
    """What a model of that kind is asked where the visitor left all that decides the choice of tokens as it was; None
    where that is the request itself.
    """
    untouched = Request()
    choosing = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
    if kind != "base" or any(getattr(request, name) != getattr(untouched, name) for name in choosing):
        return None
    return replace(request, repetition_penalty=BASE_PENALTY)


def with_defaults(request: Request, columns: Sequence[tuple[Variant | Column, ModelKind]]) -> list[Column]:
    """The columns of a request, those with something of their own left alone, base models with ``own_request``.

    Args:
        columns: Each with its model's kind.
    """
    made = []
    for each, kind in columns:
        column = each if isinstance(each, Column) else Column(each)
        made.append(column if column.request else replace(column, request=own_request(kind, request)))
    return made
