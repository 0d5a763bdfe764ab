"""Texts as a loaded model sees them: as its tokens, and how likely each of them was to it.

It knows models by name, turns and workers; it knows neither how a row of logits is made nor who asks for figures.
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from playground.config.settings import Settings
from playground.errors import Stopped, UsageError
from playground.experiments.base import ASKING
from playground.export import Preparer
from playground.messages import msg
from playground.records import Artifact, Cancelled, DecodedTokens, LoadSpec, ModelSpec, TokenLogprob, Variant
from playground.runtimes.generation.token_scores import MAX_TOP, ScoredIds, ScoreIds
from playground.sources.files import Progress
from playground.workers import protocol
from playground.workers.fleet import Fleet

MAX_TEXTS = 4096
"""Texts of one call."""
PART_TOKENS = 20_000
"""Tokens that one message to a worker may hold, alternatives counted: replies stay small, and Stop is heard."""


class Scoring(ABC):
    """A part of ``Playground``: tokens of texts, and what a model makes of them."""

    settings: Settings
    preparer: Preparer
    pool: Fleet

    def __init__(self) -> None:
        self._scored_for: dict[Variant, str] = {}

    @abstractmethod
    def resolve(self, text: str) -> tuple[ModelSpec, Variant]: ...

    @abstractmethod
    def prepare(self, variant: Variant, progress: Progress, cancelled: Cancelled = ...) -> Artifact: ...

    def score_tokens(
        self,
        model: str,
        prompts: Sequence[Sequence[int]],
        *,
        top: int = 0,
        starts: Sequence[int] = (),
        owner: str = "",
        cancelled: Cancelled = lambda: False,
        tell: Callable[[float], object] = lambda _: None,
    ) -> list[tuple[TokenLogprob, ...]]:
        """How likely each token of ``prompts`` was to ``model``, behind the true ones before it. Prepares the model
        first and waits for turns of the machine, one for each part of many texts. What they share is read once.

        Args:
            model: ``MODEL[@RUNTIME-PRECISION]``.
            prompts: The texts, as the model's own token ids.
            top: Most likely tokens to report at each place, at most ``MAX_TOP``.
            starts: From which token of each text on figures are wanted; from the first one where left out. A model
                with an encoder needs one: its encoder reads what stands before.
            owner: Who asks. Where strangers share the app, only the owner of the last texts goes on from them.
            tell: Told the share that is done, 0 to 1.

        Returns:
            A tuple a text, with an entry a token from its start on; the first token of a text has no logprob.

        Raises:
            UsageError: No such model, or the texts, ``top`` or ``starts`` are wrong.
            Stopped: ``cancelled`` said so.
            ContextOverflow: A text is longer than the model's context.
            PlaygroundError: It can't be prepared or loaded, or gives no logits.
        """
        spec, variant = self.resolve(model)
        _check(prompts, top, starts)
        if spec.remote:
            raise UsageError(
                msg("{model} is served elsewhere: its server gives texts, no logits", model=variant),
                msg("Score by a model that runs on this machine."),
            )
        if not prompts:
            return []
        artifact = self.prepare(variant, lambda step, share: None, cancelled)
        load = LoadSpec(spec, artifact, self.settings.threads)
        task = ScoreIds(tuple(map(tuple, prompts)), top, tuple(starts))
        found: list[tuple[TokenLogprob, ...]] = [()] * len(prompts)
        done, total = 0, sum(map(len, prompts)) or 1
        owner = owner or secrets.token_hex(8)  # what this very call has read is nobody else's
        for places, part in _parts(task):
            with self.pool.turns.hold(
                cancelled, lambda _: None, ASKING.get()
            ) as mine:  # given back between: others come in
                if not mine:
                    raise Stopped(msg("{model}: scoring was stopped", model=variant))
                with self.preparer.paused():
                    task = replace(part, reuse=self._may_go_on(variant, owner))
                    reply = self.pool.ask(load, partial(protocol.score_ids, task=task), cancelled)
            for place, tokens in zip(places, _scored(reply, part), strict=True):
                found[place] = tokens
            done += sum(map(len, part.prompts))
            tell(done / total)
        return found

    def _may_go_on(self, variant: Variant, owner: str) -> bool:
        """Whether what a model scored last may be gone on from: how long it takes would tell a stranger what it was.
        Asked in a turn of the machine.
        """
        last, self._scored_for[variant] = self._scored_for.get(variant), owner
        return not self.settings.strangers or bool(owner and owner == last)

    def encode(self, model: str, text: str, *, special: bool, cancelled: Cancelled = lambda: False) -> tuple[int, ...]:
        """A text's token ids by a model's own tokenizer; names of control tokens in it are read as such.

        Args:
            special: With what the tokenizer puts around a text.

        Raises:
            UsageError: No such model.
            PlaygroundError: It can't be prepared or loaded, or only a server knows its tokens.
        """
        _check_text(text, self.settings.limits.max_prompt_chars)
        reply = self._in_a_turn(model, partial(protocol.encode_text, text=text, special=special), cancelled)
        return tuple(reply["ids"])

    def decode(self, model: str, ids: Sequence[int], *, cancelled: Cancelled = lambda: False) -> list[str]:
        """What each id adds to the text of those before it: joined, the pieces are the text. Control tokens add
        nothing, and of a character spread over several tokens the last one adds it.

        Raises:
            UsageError: No such model, or what is no token id.
            PlaygroundError: It can't be prepared or loaded, or only a server knows its tokens.
        """
        return list(self.decoded(model, ids, cancelled=cancelled).pieces)

    def decoded(self, model: str, ids: Sequence[int], *, cancelled: Cancelled = lambda: False) -> DecodedTokens:
        """Like ``decode``, with each token's name for a reader.

        Raises:
            UsageError, PlaygroundError: See ``decode``.
        """
        _check([ids] if ids else [], 0, ())
        reply = self._in_a_turn(model, partial(protocol.decode_tokens, ids=tuple(ids)), cancelled)
        return DecodedTokens.from_json(reply["decoded"])

    def _in_a_turn(
        self, model: str, question: Callable[[int], protocol.Message], cancelled: Cancelled
    ) -> protocol.Message:
        """A worker's answer in a turn of the machine: loading a model beside others would spoil their figures."""
        spec, variant = self.resolve(model)
        artifact = self.prepare(variant, lambda step, share: None, cancelled)
        load = LoadSpec(spec, artifact, self.settings.threads)
        with self.pool.turns.hold(cancelled, lambda _: None, ASKING.get()) as mine:
            if not mine:
                raise Stopped(msg("{model}: what was asked was stopped", model=variant))
            return self.pool.ask(load, question, cancelled)


def _scored(reply: protocol.Message, task: ScoreIds) -> list[tuple[TokenLogprob, ...]]:
    return ScoredIds.from_json(reply["scored"]).tokens(task)


def _parts(task: ScoreIds) -> Iterator[tuple[list[int], ScoreIds]]:
    """The texts in the order of their ids, so that what they share is in one part or the end of the last one."""
    places: list[int] = []
    size = 0

    def part() -> tuple[list[int], ScoreIds]:
        texts = tuple(task.prompts[place] for place in places)
        return places, ScoreIds(texts, task.top, tuple(map(task.start, places)))

    for place in sorted(range(len(task.prompts)), key=task.prompts.__getitem__):
        weight = len(task.prompts[place]) * (1 + task.top)
        if places and size + weight > PART_TOKENS:
            yield part()
            places, size = [], 0
        places.append(place)
        size += weight
    yield part()


def _check(prompts: Sequence[Sequence[int]], top: int, starts: Sequence[int]) -> None:
    """
    Raises:
        UsageError: Something is no list of token ids, or out of range.
    """
    if not _is_whole(top) or not 0 <= top <= MAX_TOP:
        raise UsageError(
            msg("{n} likeliest tokens can't be told", n=str(top)), msg("Ask for 0 to {most}.", most=MAX_TOP)
        )
    if len(prompts) > MAX_TEXTS:
        raise UsageError(
            msg("{n:,} texts are too many for one call", n=len(prompts)), msg("Send at most {most:,}.", most=MAX_TEXTS)
        )
    if starts and len(starts) != len(prompts):
        raise UsageError(
            msg("{texts:,} texts have {starts:,} starts", texts=len(prompts), starts=len(starts)),
            msg("Give one for each text, or none."),
        )
    for place, ids in enumerate(prompts):
        if not ids:
            raise UsageError(msg("Text {number} has no token", number=place + 1), msg("Leave it out."))
        strange = next((token for token in ids if not _is_whole(token) or token < 0), None)
        if strange is not None:
            raise UsageError(
                msg("Text {number} holds {value}, which is no token id", number=place + 1, value=repr(strange)[:40]),
                msg("Token ids are whole numbers of 0 or more."),
            )
        if starts and not (_is_whole(starts[place]) and 0 <= starts[place] <= len(ids)):
            raise UsageError(
                msg("Text {number} starts at {value}", number=place + 1, value=repr(starts[place])[:40]),
                msg("A start is a place in the text, from 0 to {most:,}.", most=len(ids)),
            )


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_text(text: str, most: int) -> None:
    if len(text) > most:
        raise UsageError(
            msg("The text has {size:,} characters, {most:,} are allowed", size=len(text), most=most),
            msg("Shorten it."),
        )
