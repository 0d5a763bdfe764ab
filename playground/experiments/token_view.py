"""Token view: how sure a model was of each token of an answer it gave, and what else it might have said there.

The stored answer's ids are forced through the same files once more, behind the prompt as the model reads it, token by
token. At each place the logits become probabilities by a softmax at temperature 1 over the whole vocabulary, before
penalties, filters and temperature of the request: what the model held, not what the sampler made of it. The module
knows stored answers and loaded models; it does not know how logits are made or how anything is shown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from playground.errors import RunError, Stopped, UsageError
from playground.experiments.base import Job, Machine
from playground.experiments.teacher_forcing import Choice, perplexity
from playground.messages import Translatable, msg
from playground.records import Artifact, Comparison, DecodedTokens, LoadSpec, PromptView, Record, Variant
from playground.runtimes.generation.scoring import Scored, Task
from playground.workers import protocol

if TYPE_CHECKING:
    from playground.records import ModelRun, ModelSpec, Request

TOP = 10
"""Alternatives reported for each token, the likeliest first; the token itself is among them where it is one."""

HOW = msg(
    "The answer's own tokens were read once more by the same files, each behind the true ones before it. Probabilities "
    "are a softmax at temperature 1 over the whole vocabulary, before the request's temperature, filters and penalties."
)


@dataclass(frozen=True)
class TokenAt(Record):
    """One token of an answer.

    Attributes:
        id: In the model's own vocabulary.
        piece: What it adds to the text; empty for a control token, and for all but the last token of a character.
        name: The token alone, for a reader: control tokens and bytes that are no whole character are spelt out.
        probability: p of this token at its place, 0 to 1.
        rank: Its place among all tokens by falling probability, 1 for the likeliest.
        entropy: −Σ p ln p over the vocabulary at this place, in nats: 0 where the model was certain,
            ln(vocabulary) where all were alike to it. Divided by ln 2 it is in bits.
        alternatives: The likeliest tokens at this place.
        given: Whether it was given with the request (``Request.answer_ids``), not chosen by the sampler.
    """

    id: int
    piece: str
    name: str
    probability: float
    rank: int
    entropy: float
    alternatives: tuple[Choice, ...]
    given: bool = False

    @property
    def bits(self) -> float:
        """The entropy in bits."""
        return self.entropy / math.log(2)


@dataclass(frozen=True)
class TokenView(Record):
    """An answer token by token.

    Attributes:
        variant: Who answered.
        comparison, column: Where the answer is kept.
        perplexity: exp(−1/n Σ ln p) over all n tokens of the answer, the end of turn included: 1 where the model was
            certain of each, k where it was as unsure as among k equally likely ones.
        mean_entropy: Mean of the tokens' entropies, in nats.
        vocabulary: Tokens that a probability was shared among.
        how: How the figures were taken, as a sentence.
    """

    variant: Variant
    comparison: str
    column: int
    tokens: tuple[TokenAt, ...]
    perplexity: float
    mean_entropy: float
    vocabulary: int
    how: Translatable = HOW

    @property
    def text(self) -> str:
        """What the tokens say together. A stop string, which is cut from the answer, is still in it."""
        return "".join(token.piece for token in self.tokens)


class TokenViewer:
    """Starts token views; all share the machine through its queue."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def start(self, stored: Comparison, column: int) -> TokenViewJob:
        """Check what can be checked, then begin in the background.

        Raises:
            UsageError: There is no such column, or its answer can't be looked at; no work was begun.
        """
        if not 0 <= column < len(stored.runs):
            raise UsageError(
                msg("The comparison has no column {number}", number=column + 1),
                msg("Columns are counted from 1 to {most}.", most=len(stored.runs)),
            )
        run = stored.runs[column]
        spec, _ = self._machine.catalog.resolve(str(run.variant))
        check_run(run, remote=spec.remote is not None)
        job = TokenViewJob(self._machine, spec, stored, column)
        self._machine.begin(job)
        return job


def check_run(run: ModelRun, *, remote: bool) -> None:
    """Refuse what can't be looked at token by token.

    Raises:
        UsageError: Why, and what can.
    """
    if remote:
        raise UsageError(
            msg("{model} is served elsewhere: its server gives texts, not probabilities", model=run.variant),
            msg("Look at the answer of a model that runs on this machine."),
        )
    if run.token_ids is None:
        raise UsageError(
            msg("The tokens of this answer of {model} were not kept", model=run.variant),
            msg("Ask the model again: an answer taken now keeps them."),
        )
    if not run.token_ids:
        raise UsageError(msg("{model} gave no token", model=run.variant), msg("Ask the model again."))


class TokenViewJob(Job[TokenView]):
    """A token view that is being taken. Every method may be called from any thread; made by ``TokenViewer.start``."""

    def __init__(self, machine: Machine, spec: ModelSpec, stored: Comparison, column: int) -> None:
        self.run = stored.runs[column]
        super().__init__(machine, msg("The token view of {model}", model=self.run.variant))
        self._spec, self._stored, self._column = spec, stored, column

    def _run(self) -> TokenView:
        artifact = self._prepare(self.run.variant)
        self._check_files(artifact)
        load = LoadSpec(self._spec, artifact, self._machine.settings.threads)
        with self._hold() as mine:
            if not mine:
                raise Stopped(msg("{subject} was stopped", subject=self.subject))
            return self._taken(load)

    def _check_files(self, artifact: Artifact) -> None:
        """An artifact that was made again may be another model: its figures would be of an answer it did not give."""
        if self.run.artifact_sha256 and artifact.sha256 and self.run.artifact_sha256 != artifact.sha256:
            raise RunError(
                msg(
                    "{model} was prepared anew since it gave this answer: its files are others", model=self.run.variant
                ),
                msg("Ask it again, and look at that answer."),
            )

    def _taken(self, load: LoadSpec) -> TokenView:
        ask, stopped = self._machine.pool.ask, self._stop.is_set
        step = msg("{model}: reading its answer once more", model=load.artifact.variant)
        self._tell(step, 0.0)
        ids = self.run.token_ids or ()
        request = self._prompt()
        view = PromptView.from_json(ask(load, partial(protocol.inspect, request=request), stopped)["view"])
        task = Task(view.token_ids, ids, top=TOP)
        reply = ask(load, partial(protocol.score, task=task), stopped, lambda share: self._tell(step, share))
        scored = Scored.from_json(reply["scored"])
        decoded = DecodedTokens.from_json(ask(load, partial(protocol.decode_tokens, ids=ids), stopped)["decoded"])
        others = sorted({token for top in scored.top_ids for token in top})
        spelt = DecodedTokens.from_json(ask(load, partial(protocol.decode_tokens, ids=others), stopped)["decoded"])
        tokens = self._tokens(ids, scored, decoded, dict(zip(others, spelt.names, strict=True)))
        return TokenView(
            variant=self.run.variant,
            comparison=self._stored.id,
            column=self._column,
            tokens=tokens,
            perplexity=perplexity(scored.logprobs),
            mean_entropy=math.fsum(scored.entropies) / len(scored.entropies),
            vocabulary=scored.width,
        )

    def _prompt(self) -> Request:
        """What was asked, without the beginning of the answer: that is a part of its ids."""
        return replace(self._stored.asked(self._column), answer_ids=())

    def _tokens(
        self, ids: Sequence[int], scored: Scored, decoded: DecodedTokens, names: dict[int, str]
    ) -> tuple[TokenAt, ...]:
        given = len(self._stored.asked(self._column).answer_ids)
        return tuple(
            TokenAt(
                id=token,
                piece=decoded.pieces[place],
                name=decoded.names[place],
                probability=math.exp(scored.logprobs[place]),
                rank=scored.ranks[place],
                entropy=scored.entropies[place],
                alternatives=tuple(
                    Choice(other, names[other], probability)
                    for other, probability in zip(scored.top_ids[place], scored.top_probabilities[place], strict=True)
                ),
                given=place < given,
            )
            for place, token in enumerate(ids)
        )
