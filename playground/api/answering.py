"""Choices of one call, one after the other: each takes its caller's turn, so that a long list keeps nobody out.

What is asked is a list of requests; what comes is pieces of text and, last of each, a run. The module knows the
service; it does not know the shape in which anything is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from playground.api import errors
from playground.api.flow import Gone
from playground.api.spelling import Spelling
from playground.errors import Stopped
from playground.messages import foreign
from playground.records import Cancelled, LoadSpec, ModelRun, Request, TokenLogprob

if TYPE_CHECKING:
    from playground.service import Playground


@dataclass(frozen=True)
class Asker:
    """Who asks, for how long, and by whom it is answered.

    Attributes:
        owner: A word for the caller.
        left: Whether they have gone.
    """

    playground: Playground
    spelling: Spelling
    owner: str
    left: Cancelled

    def make_ready(self, model: str) -> LoadSpec:
        """Prepare the model, outside of any turn; returns what is to be loaded."""
        steps = self.playground.make_ready(model, self.left)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                load: LoadSpec = end.value
                return load


@dataclass(frozen=True)
class Piece:
    """More of a choice's text."""

    choice: int
    text: str


@dataclass(frozen=True)
class Choice:
    """A choice that has ended.

    Attributes:
        run: With the request it answers.
        names, pieces: Of its tokens, where log-probabilities were asked for: what tokens are called, and what each
            token of the answer adds to the text.
    """

    choice: int
    run: ModelRun
    names: dict[int, str] = field(default_factory=dict)
    pieces: tuple[str, ...] = ()

    @property
    def logprobs(self) -> tuple[TokenLogprob, ...]:
        return self.run.logprobs


def answers(asker: Asker, model: str, requests: Sequence[Request], first: int = 0) -> Iterator[Piece | Choice]:
    """All choices, in their order.

    Args:
        first: The number of the first one.

    Raises:
        ApiError: A choice failed; those before it were told.
        Gone: The client left.
    """
    for number, request in enumerate(requests, start=first):
        yield from _answer(asker, model, request, number)


def _answer(asker: Asker, model: str, request: Request, number: int) -> Iterator[Piece | Choice]:
    playground, begun = asker.playground, False
    run: ModelRun | None = None
    try:
        load = asker.make_ready(model)
        with playground.asking(asker.owner, asker.left, model):
            for event in playground.answer_now(model, load, request, asker.left):
                if event.kind == "loading" and begun:
                    raise errors.of_run("Unavailable", foreign(event.text))  # told text can't be taken back
                if event.kind == "token" and event.text:
                    begun = True
                    yield Piece(number, str(event.text))
                run = event.run or run
            # Behind the answer, which held the machine: names of tokens are asked for in a turn of their own.
            if run:
                yield _ended(asker, model, replace(run, request=request), number)
    except Stopped:
        raise Gone from None


def _ended(asker: Asker, model: str, run: ModelRun, number: int) -> Choice:
    if run.error:
        raise errors.of_run(run.error_kind, run.error)
    if run.finish_reason == "stopped":
        raise Gone
    if not run.logprobs:
        return Choice(number, run)
    spelling, ids = asker.spelling, [each.id for each in run.logprobs]
    pieces = spelling.pieces(model, ids, asker.left)
    return Choice(number, run, spelling.names(model, run.logprobs, asker.left), pieces)
