"""The loop that the local runtimes share: prefill in chunks, then one token at a time, with the playground's sampler.

An engine turns token ids into logits; everything else is here, so that two runtimes differ in their arithmetic only:
tokenising, sampling, streaming text, stop strings, stamps, cancelling. The loop does not know what is inside an engine.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from playground.errors import ContextOverflow, RunError, Stopped, UsageError, reason_of
from playground.messages import Translatable, msg, plural, sentences
from playground.records import (
    Artifact,
    Cancelled,
    DecodedTokens,
    Event,
    EventKind,
    FinishReason,
    LoadSpec,
    ModelRun,
    PromptView,
    Request,
)
from playground.runtimes.generation.engine import PREFILL_CHUNK, Engine, Interrupted, Logits
from playground.runtimes.generation.ids_scorer import Cut, IdsScorer, Tell, wrong_start
from playground.runtimes.generation.prefix_cache import PrefixCache
from playground.runtimes.generation.prompt import Prompter
from playground.runtimes.generation.sampling import Sampler
from playground.runtimes.generation.settings import OwnSettings, read_settings
from playground.runtimes.generation.text_stream import TextStream
from playground.runtimes.generation.timing import Stamps, timings
from playground.runtimes.generation.token_scores import ScoredIds, ScoreIds
from playground.runtimes.generation.vocabulary import decode_tokens, vocabulary_digests

POLL_S = 0.05
"""How often Stop is looked for while an engine reads a long prompt in one go."""

TELL_S = 0.2
"""Between two signs of progress while an answer is read again token by token."""

READ_AGAIN = msg(
    "The whole prompt was read again, though reuse was asked for: what this model keeps of a text can't be taken back "
    "to where two prompts part."
)


class DecodingRuntime:
    """A ``Runtime`` around an engine; a subclass says how the engine is opened."""

    def __init__(self) -> None:
        self._loaded: _Loaded | None = None

    def open_engine(self, load: LoadSpec) -> Engine:
        """Bring the weights into memory.

        Raises:
            RunError: They can't be read.
        """
        raise NotImplementedError

    def load(self, load: LoadSpec) -> None:
        folder = Path(load.artifact.path)
        prompter = Prompter(folder, load.spec)
        engine = self.open_engine(load)
        if engine.context_limit and engine.context_limit < prompter.context_length:
            prompter.context_length = engine.context_limit
        else:
            engine.context_limit = None
        own = read_settings(folder)
        self._loaded = _Loaded(prompter, engine, PrefixCache(engine), own, load.artifact, load.threads)
        # A first run allocates scratch memory and wakes the threads: not the first user's to pay.
        warm = Request(prompt="a", max_new_tokens=2)
        for _ in self.generate(warm, cancelled=lambda: False):
            pass

    def inspect(self, request: Request) -> PromptView:
        return self._ready().prompter.view(request)

    def generate(self, request: Request, cancelled: Cancelled) -> Iterator[Event]:
        return _Answer(self._ready(), request, cancelled).events()

    def score(self, prompt: Sequence[int], answer: Sequence[int], cancelled: Cancelled) -> Iterator[Logits | None]:
        return _Answer(self._ready(), Request(), cancelled).rows(prompt, answer)

    def score_ids(self, task: ScoreIds, cancelled: Cancelled, tell: Tell) -> ScoredIds:
        loaded = self._ready()
        answer = _Answer(loaded, Request(), cancelled)
        answer.check_texts(task)
        try:
            return loaded.scorer.score(task, cancelled, tell)
        except (Cut, Interrupted):
            raise answer.stopped() from None
        except (RuntimeError, MemoryError, FloatingPointError) as error:
            raise answer.failed(error) from error

    def encode(self, text: str, special: bool) -> tuple[int, ...]:
        return self._ready().prompter.encode(text, special=special)

    def decode(self, ids: Sequence[int]) -> DecodedTokens:
        loaded = self._ready()
        return decode_tokens(loaded.prompter, ids, loaded.vocabulary)

    def close(self) -> None:
        if self._loaded:
            self._loaded.engine.close()
            self._loaded = None

    def _ready(self) -> _Loaded:
        if self._loaded is None:
            raise RunError(msg("No model is loaded"), msg("Load one first."))
        return self._loaded


@dataclass(frozen=True)
class _Loaded:
    prompter: Prompter
    engine: Engine
    cache: PrefixCache
    own: OwnSettings
    artifact: Artifact
    threads: int

    @cached_property
    def scorer(self) -> IdsScorer:
        return IdsScorer(self.cache)

    @cached_property
    def vocabulary(self) -> tuple[str, ...]:
        return vocabulary_digests(self.prompter.tokenizer)


@dataclass
class _Answer:
    """One answer on its way: what has come so far, and the loop that makes more."""

    loaded: _Loaded
    request: Request
    cancelled: Cancelled
    ids: list[int] = field(default_factory=list)
    history: list[int] = field(default_factory=list)
    stamps: list[float] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)
    prefilled: float | None = None
    reused: int = 0
    began_with: str = ""

    def events(self) -> Iterator[Event]:
        """All that ``Runtime.generate`` promises."""
        prompter = self.loaded.prompter
        began = time.monotonic()
        view = prompter.view(self.request)
        tokenized = time.monotonic()
        most = self._fit(view)
        self.ids = list(view.token_ids)
        given, starts_with = self.request.answer_ids, self.loaded.engine.starts_with
        self.history = [*(self.ids if starts_with is None else starts_with), *given]
        stream = TextStream(prompter.detokenizer, self.request.stop + self.loaded.own.stop_strings, prompter.eos_ids)
        self.began_with = self._given_text(stream)
        reason: FinishReason = "stopped"
        try:
            length = len(self.ids) + len(given) + most
            self.reused = self.loaded.cache.begin(self.ids, length, self.request.reuse, given)
            logits = yield from self._prefill()
            if logits is not None:
                reason = yield from self._decode(logits, most, stream)
        except (RuntimeError, MemoryError, FloatingPointError) as error:  # what onnxruntime, torch and numpy raise
            raise self.failed(error) from error
        if tail := self.began_with + stream.finish():  # after Stop: text that was held back
            yield self._token(tail)
        ended = time.monotonic()
        run = self._run(view, reason, Stamps(began, tokenized, self.prefilled, tuple(self.stamps), ended))
        yield self._event("stopped" if reason == "stopped" else "done", n_tokens=len(self.stamps), at=ended, run=run)

    def rows(self, prompt: Sequence[int], answer: Sequence[int]) -> Iterator[Logits | None]:
        """All that ``Runtime.score`` promises."""
        self._check_room(len(prompt), len(answer))
        self.ids = list(prompt)
        try:
            # Read as a prompt and then step by step, as when it was generated: the same kernels, the same rounding.
            self.loaded.cache.begin(self.ids, len(prompt) + len(answer), reuse=False)
            logits = yield from _signs(self._prefill())
            for token in answer[:-1]:
                self._check_running(logits)
                yield logits
                logits = self.loaded.cache.step(token)
            self._check_running(logits)
            yield logits
        except (RuntimeError, MemoryError, FloatingPointError) as error:
            raise self.failed(error) from error

    def _given_text(self, stream: TextStream) -> str:
        """The text of the tokens that the answer begins with, as far as it can be shown.

        Raises:
            RunError: It is over in there.
        """
        text = "".join([stream.push(token) for token in self.request.answer_ids])
        if stream.stopped:
            raise RunError(
                msg("{model}: the answer to go on with already holds a stop string", model=self._name),
                msg("Leave that stop string out, or go on from before it."),
            )
        return text

    def _fit(self, view: PromptView) -> int:
        """See ``Prompter.fit``; where the engine holds less than the model, an error says so."""
        try:
            return self.loaded.prompter.fit(view, self.request)
        except ContextOverflow as error:
            if self.loaded.engine.context_limit is None:
                raise
            what = plural(
                "{model}: the prompt has {n:,} token.",
                "{model}: the prompt has {n:,} tokens.",
                len(view.token_ids),
                model=self._name,
            )
            raise ContextOverflow(
                sentences(what, self.loaded.engine.context_note), msg("Shorten the prompt or choose that variant.")
            ) from error

    def failed(self, error: Exception) -> RunError:
        return RunError(
            msg("{model}: computing failed ({reason})", model=self._name, reason=reason_of(error)),
            msg("Try a shorter prompt or another variant."),
        )

    def _notes(self, view: PromptView) -> tuple[Translatable, ...]:
        """What the engine has to say about this answer."""
        engine, notes = self.loaded.engine, self.loaded.engine.warnings
        taken = len(view.token_ids) + len(self.request.answer_ids) + self.request.max_new_tokens
        if engine.context_limit and taken > engine.context_limit:
            notes += (engine.context_note,)
        return (*notes, READ_AGAIN) if self.loaded.cache.refused else notes

    def _check_running(self, logits: Logits | None) -> None:
        if logits is None or self.cancelled():
            raise self.stopped()

    def stopped(self) -> Stopped:
        return Stopped(msg("{model}: scoring was stopped", model=self._name))

    def check_texts(self, task: ScoreIds) -> None:
        """Refuse texts that can't be scored, all of them before any work.

        Raises:
            UsageError: A token that the model does not have, or no place where an encoder's answer starts.
            ContextOverflow: A text is longer than the model's context.
        """
        rows = self.loaded.prompter.rows
        if wrong := wrong_start(task, self.loaded.engine):
            raise UsageError(
                msg("{model}: {reason}", model=self._name, reason=wrong),
                msg("Give a start of 1 or more for each text."),
            )
        for place, ids in enumerate(task.prompts):
            start = task.start(place)
            if strange := [token for token in ids if not 0 <= token < rows]:
                raise UsageError(
                    msg(
                        "{model}: text {number} holds the token {id}, and it has {rows:,} tokens",
                        model=self._name,
                        number=place + 1,
                        id=str(strange[0]),
                        rows=rows,
                    ),
                    msg("Encode the text by this model's own tokenizer."),
                )
            self._check_room(
                *((start, len(ids) - start) if self.loaded.engine.starts_with is not None else (len(ids), 0))
            )

    def _check_room(self, prompt: int, answer: int) -> None:
        room = self.loaded.prompter.context_length
        apart = self.loaded.engine.starts_with is not None  # an encoder's prompt takes none of the decoder's room
        if (max(prompt, answer) if apart else prompt + answer) > room:
            raise ContextOverflow(
                msg(
                    "{model}: prompt ({prompt:,} tokens) and answer ({answer:,}) exceed its context of {context:,}",
                    model=self._name,
                    prompt=prompt,
                    answer=answer,
                    context=room,
                ),
                msg("Shorten the prompt or the answer."),
            )

    def _prefill(self) -> Generator[Event, None, Logits | None]:
        """Read the prompt and what the answer begins with; returns the logits behind it, None if it was cancelled."""
        total = len(self.ids) + len(self.request.answer_ids)
        logits, told = None, time.monotonic()
        yield self._event("prefill", n_tokens=total, progress=self.reused / total, at=told)
        for start, end in self._parts():
            if self.cancelled():
                return None
            try:
                logits = self._read(start, end)
            except Interrupted:
                return None
            at = time.monotonic()
            self.prefilled = at if end == total else None
            if end == total or end - start > 1 or at - told > TELL_S:
                told = at
                yield self._event("prefill", n_tokens=total, progress=end / total, at=at)
        return logits

    def _parts(self) -> Iterator[tuple[int, int]]:
        """Where each part of what is still to be read begins and ends: the prompt's, then what the answer begins with.
        That is read as it was written, for the same rounding: token by token, where it makes a difference.
        """
        engine, prompt = self.loaded.engine, len(self.ids)
        total = prompt + len(self.request.answer_ids)
        chunk = engine.chunk if engine.reads_in_parts(prompt) else prompt
        for start in range(self.reused, prompt, chunk):
            yield start, min(start + chunk, prompt)
        size = PREFILL_CHUNK if engine.alike_in_parts else 1
        for start in range(max(prompt, self.reused), total, size):
            yield start, min(start + size, total)

    def _read(self, start: int, end: int) -> Logits:
        cache, prompt = self.loaded.cache, len(self.ids)
        if start >= prompt:
            given = self.request.answer_ids[start - prompt : end - prompt]
            return cache.step(given[0]) if len(given) == 1 else cache.prefill(given)
        with self._interrupting(end - start):
            return cache.prefill(tuple(self.ids[start:end]))

    @contextmanager
    def _interrupting(self, tokens: int) -> Iterator[None]:
        """While a long part of the prompt is read, a thread of its own listens for Stop."""
        if tokens <= PREFILL_CHUNK:
            yield
            return
        finished = threading.Event()

        def listen() -> None:
            while not finished.wait(POLL_S):
                if self.cancelled():
                    self.loaded.engine.interrupt()
                    return

        listener = threading.Thread(target=listen, name="listening for Stop", daemon=True)
        listener.start()
        try:
            yield
        finally:
            finished.set()
            listener.join()

    def _decode(self, logits: Logits, most: int, stream: TextStream) -> Generator[Event, None, FinishReason]:
        """Choose a token and compute the next logits, until something ends the answer; returns what it was."""
        cache, eos_ids = self.loaded.cache, self.loaded.prompter.eos_ids
        given = len(self.request.answer_ids)
        rules = self.loaded.own.rules(self.request, self.ids, len(self.history) - given, given + most, eos_ids)
        sampler = Sampler(self.request, rules, chosen=given)
        while not self.cancelled():
            token = sampler.next(logits, self.history)
            if token in eos_ids and len(self.stamps) < self.request.min_new_tokens:
                token = sampler.next(_without(logits, eos_ids), self.history)
            self.stamps.append(time.monotonic())  # before text is made of it: that is not the model's time
            self.history.append(token)
            piece = stream.push(token)
            reason = self._reason(token in eos_ids or stream.stopped, most)
            shown, self.began_with = self.began_with + piece, ""
            yield self._token(shown + stream.finish() if reason else shown)
            if reason:
                return reason
            logits = cache.step(token)
        return "stopped"

    def _reason(self, stopped: bool, most: int) -> FinishReason | None:
        if stopped:
            return "stop"
        return "length" if len(self.stamps) == most else None

    @property
    def _name(self) -> str:
        return str(self.loaded.artifact.variant)

    def _token(self, piece: str) -> Event:
        self.pieces.append(piece)
        at = self.stamps[-1] if self.stamps else time.monotonic()
        return self._event("token", n_tokens=len(self.stamps), at=at, text=piece)

    def _event(self, kind: EventKind, n_tokens: int, at: float, **more: Any) -> Event:
        return Event(self._name, kind, n_tokens=n_tokens, at=at, **more)

    def _run(self, view: PromptView, reason: FinishReason, stamps: Stamps) -> ModelRun:
        artifact, given = self.loaded.artifact, len(self.request.answer_ids)
        begun = len(self.history) - len(self.stamps) - given
        return ModelRun(
            variant=artifact.variant,
            runtime=artifact.variant.runtime,
            precision=artifact.variant.precision,
            text="".join(self.pieces),
            finish_reason=reason,
            timings=timings(
                stamps, len(view.token_ids), self.loaded.threads, reused_tokens=self.reused, given_tokens=given
            ),
            fallbacks=artifact.fallbacks,
            warnings=view.warnings + self.loaded.own.warnings(self.request, begun) + self._notes(view),
            recipe=artifact.recipe,
            engine=self.loaded.engine.name or None,
            fidelity=artifact.fidelity,
            token_ids=tuple(self.history[begun:]),
        )


def _without(logits: Logits, ids: Collection[int]) -> Logits:
    """A copy in which none of ``ids`` can be chosen. Choosing again from it draws from the same distribution as
    leaving them out at first, and costs a copy only where the model wanted to end.
    """
    left = logits.copy()
    left[[token for token in ids if token < len(left)]] = -np.inf
    return left


def _signs(events: Generator[Event, None, Logits | None]) -> Generator[None, None, Logits | None]:
    """The same work, with None for each event."""
    while True:
        try:
            next(events)
        except StopIteration as end:
            logits: Logits | None = end.value
            return logits
        yield None
