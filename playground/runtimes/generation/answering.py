"""One answer of a local model: prefill in chunks, then one token at a time, with the playground's sampler.

An engine turns token ids into logits; everything else is here, so that two runtimes differ in their arithmetic only:
sampling, streaming text, stop strings, stamps, cancelling. The loop does not know what is inside an engine.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from playground.errors import ContextOverflow, RunError, SchemaNotHeld, reason_of
from playground.messages import Translatable, msg, plural, sentences
from playground.records import Cancelled, Event, EventKind, FinishReason, ModelRun, PromptView, Request, TokenLogprob
from playground.runtimes.generation.engine import PREFILL_CHUNK, Interrupted, Logits
from playground.runtimes.generation.loaded import Loaded
from playground.runtimes.generation.logprobs import Row
from playground.runtimes.generation.sampling import Sampler, own_rules
from playground.runtimes.generation.schemas import NotHeld
from playground.runtimes.generation.text_stream import TextStream
from playground.runtimes.generation.timing import Stamps, timings

if TYPE_CHECKING:  # llguidance is loaded for those who ask for it
    from playground.runtimes.generation.held import Held

POLL_S = 0.05
"""How often Stop is looked for while an engine reads a long prompt in one go."""

TELL_S = 0.2
"""Between two signs of progress while an answer is read again token by token."""

READ_AGAIN = msg(
    "The whole prompt was read again, though reuse was asked for: what this model keeps of a text can't be taken back "
    "to where two prompts part."
)


@dataclass
class Answer:
    """One answer on its way: what has come so far, and the loop that makes more."""

    loaded: Loaded
    request: Request
    cancelled: Cancelled
    ids: list[int] = field(default_factory=list)
    history: list[int] = field(default_factory=list)
    stamps: list[float] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)
    prefilled: float | None = None
    reused: int = 0
    began_with: str = ""
    logprobs: list[TokenLogprob] = field(default_factory=list)
    told: int = 0
    held: Held | None = None

    def events(self) -> Iterator[Event]:
        """All that ``Runtime.generate`` promises."""
        prompter = self.loaded.prompter
        self.held = self._hold()
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
            # Of a beginning that is in the cache already there would be no logits to tell.
            skipped = given if self.request.logprobs is None else ()
            self.reused = self.loaded.cache.begin(self.ids, length, self.request.reuse, skipped)
            logits = yield from self.prefill()
            if logits is not None:
                reason = yield from self._decode(logits, most, stream)
        except NotHeld as error:
            raise self._not_held(error) from error
        except (RuntimeError, MemoryError, FloatingPointError) as error:  # what onnxruntime, torch and numpy raise
            raise self.failed(error) from error
        if tail := self.began_with + stream.finish():  # after Stop: text that was held back
            yield self._token(tail)
        ended = time.monotonic()
        run = self._run(view, reason, Stamps(began, tokenized, self.prefilled, tuple(self.stamps), ended))
        yield self._event("stopped" if reason == "stopped" else "done", n_tokens=len(self.stamps), at=ended, run=run)

    def _hold(self) -> Held | None:
        """What holds the answer to its schema, made before the clock runs.

        Raises:
            UsageError: No answer can be held to it.
            SchemaNotHeld: This model's can't.
        """
        if not self.request.json_schema:
            return None
        try:
            return self.loaded.grammars.begin(self.request.json_schema, self.request.answer_ids)
        except NotHeld as error:
            raise self._not_held(error) from error

    def _not_held(self, error: NotHeld) -> SchemaNotHeld:
        return SchemaNotHeld(
            msg(
                "{model}: its answer can't be held to the JSON schema ({reason})", model=self.name, reason=error.reason
            ),
            msg("Leave the schema out and check the answer afterwards, or choose another model."),
        )

    def _given_text(self, stream: TextStream) -> str:
        """The text of the tokens that the answer begins with, as far as it can be shown.

        Raises:
            RunError: It is over in there.
        """
        text = "".join([stream.push(token) for token in self.request.answer_ids])
        if stream.stopped:
            raise RunError(
                msg("{model}: the answer to go on with already holds a stop string", model=self.name),
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
                model=self.name,
            )
            raise ContextOverflow(
                sentences(what, self.loaded.engine.context_note), msg("Shorten the prompt or choose that variant.")
            ) from error

    def failed(self, error: Exception) -> RunError:
        return RunError(
            msg("{model}: computing failed ({reason})", model=self.name, reason=reason_of(error)),
            msg("Try a shorter prompt or another variant."),
        )

    def _notes(self, view: PromptView) -> tuple[Translatable, ...]:
        """What the engine has to say about this answer."""
        engine, notes = self.loaded.engine, self.loaded.engine.warnings
        taken = len(view.token_ids) + len(self.request.answer_ids) + self.request.max_new_tokens
        if engine.context_limit and taken > engine.context_limit:
            notes += (engine.context_note,)
        if engine.cache_note:
            notes += (engine.cache_note,)
        notes = (*notes, *held_notes(self.held)) if self.held else notes
        return (*notes, READ_AGAIN) if self.loaded.cache.refused else notes

    def prefill(self) -> Generator[Event, None, Logits | None]:
        """Read the prompt and what the answer begins with; returns the logits behind it, None if it was cancelled."""
        total = len(self.ids) + len(self.request.answer_ids)
        logits, told = None, time.monotonic()
        yield self._event("prefill", n_tokens=total, progress=self.reused / total, at=told)
        for start, end in self._parts():
            if self.cancelled():
                return None
            if start >= len(self.ids) and logits is not None:
                self._note(logits, self.request.answer_ids[start - len(self.ids)])
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
        size = PREFILL_CHUNK if engine.alike_in_parts and self.request.logprobs is None else 1
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
        if self.held:
            rules = [*(own_rules(self.request) if rules is None else rules), self.held]
        sampler = Sampler(self.request, rules, chosen=given)
        while not self.cancelled():
            token = sampler.next(logits, self.history)
            if token in eos_ids and len(self.stamps) < self.request.min_new_tokens:
                token = sampler.next(_without(logits, eos_ids), self.history)
            self.stamps.append(time.monotonic())  # before text is made of it: that is not the model's time
            self._note(logits, token)
            self.history.append(token)
            piece = stream.push(token)
            over = self.held is not None and self.held.take(token)
            reason = self._reason(over or token in eos_ids or stream.stopped, most)
            shown, self.began_with = self.began_with + piece, ""
            yield self._token(shown + stream.finish() if reason else shown)
            if reason:
                return reason
            logits = cache.step(token)
        return "stopped"

    def _note(self, logits: Logits, token: int) -> None:
        """How likely the model held ``token`` before anything was done to its logits, where that is asked for."""
        if self.request.logprobs is not None:
            self.logprobs.append(Row(logits, self.request.logprobs).of(token))

    def _reason(self, stopped: bool, most: int) -> FinishReason | None:
        if stopped:
            return "stop"
        return "length" if len(self.stamps) == most else None

    @property
    def name(self) -> str:
        return str(self.loaded.artifact.variant)

    def _token(self, piece: str) -> Event:
        self.pieces.append(piece)
        at = self.stamps[-1] if self.stamps else time.monotonic()
        fresh, self.told = tuple(self.logprobs[self.told :]), len(self.logprobs)
        return self._event("token", n_tokens=len(self.stamps), at=at, text=piece, logprobs=fresh)

    def _event(self, kind: EventKind, n_tokens: int, at: float, **more: Any) -> Event:
        return Event(self.name, kind, n_tokens=n_tokens, at=at, **more)

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
            logprobs=tuple(self.logprobs),
        )


def held_notes(held: Held) -> Iterator[Translatable]:
    """What a reader should know of an answer that was held to a schema."""
    if held.steps:
        yield msg(
            "Held to a JSON schema while it was decoded: finding the allowed tokens took {ms:.2f} ms a token, which is "
            "in its figures.",
            ms=1000 * held.seconds / held.steps,
        )
    if not held.complete:
        yield msg("The answer ended before its JSON was complete: give it more tokens.")


def _without(logits: Logits, ids: Collection[int]) -> Logits:
    """A copy in which none of ``ids`` can be chosen. Choosing again from it draws from the same distribution as
    leaving them out at first, and costs a copy only where the model wanted to end.
    """
    left = logits.copy()
    left[[token for token in ids if token < len(left)]] = -np.inf
    return left
