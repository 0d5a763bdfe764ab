"""A scripted model for tests and for showing how failures look: known text, known delays, told to fail, stall or die.

It goes through the same seam as every runtime and stamps real time; nothing it reports is computed from the script.
Words are its tokens. It knows no weights, no sampling and no other runtime.
"""

from __future__ import annotations

import os
import re
import signal
import time
import zlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from playground.errors import RunError, Stopped, UsageError
from playground.messages import Translatable, msg
from playground.records import (
    Cancelled,
    DecodedTokens,
    Event,
    EventKind,
    FinishReason,
    LoadSpec,
    ModelRun,
    PromptView,
    Request,
    TokenLogprob,
)
from playground.runtimes.fake_script import Script
from playground.runtimes.generation.logprobs import Row
from playground.runtimes.generation.notes import BASE_WITHOUT_SYSTEM, prompt_too_long
from playground.runtimes.generation.timing import Stamps, timings
from playground.runtimes.generation.token_scores import ScoredIds, ScoreIds

NOT_HELD = msg("A scripted model says its script: it is not held to a JSON schema.")
VOCABULARY = 50_000
PREFILL_CHUNKS = 4
_NAP_S = 0.02
"""Longest sleep between two looks at ``cancelled``."""


class FakeRuntime:
    """Plays a ``Script``."""

    def load(self, load: LoadSpec) -> None:
        """See ``Runtime.load``.

        Raises:
            RunError: The script says that loading fails.
            UsageError: There is no such script.
        """
        self._load = load
        self._script = Script.parse(load.spec.source)
        time.sleep(self._script.load_s)
        if self._script.fail_load:
            raise RunError(
                msg("{model}: its script says that loading fails", model=load.spec.id), msg("Choose another model.")
            )
        self._ballast = b"\x01" * int(self._script.memory_mb * 1_000_000)
        self._known = {_id(word): word for word in _words(self._script.text)}

    def inspect(self, request: Request) -> PromptView:
        warnings: list[Translatable] = []
        said = [f"{message.role}: {message.content}" for message in request.messages] or [request.prompt]
        templated = self._script.template and not request.plain and not request.prompt_ids
        if request.prompt_ids:
            said = ["".join(self.decode(request.prompt_ids).pieces)]
        if request.system and not templated:
            warnings.append(BASE_WITHOUT_SYSTEM)
        elif request.system:
            said.insert(0, f"system: {request.system}")
        text = "\n".join(said)
        rendered = f"[user] {text} [assistant]" if templated else text
        tokens = self.decode(request.prompt_ids).names if request.prompt_ids else tuple(_words(rendered))
        ids = request.prompt_ids or tuple(map(_id, tokens))
        self._known |= dict(zip(ids, tokens, strict=True))
        most = self._load.spec.context_length
        return PromptView(
            model=self._load.spec.id,
            rendered=rendered,
            token_ids=ids,
            tokens=tokens,
            warnings=tuple(warnings),
            control=(0, len(ids) - 1) if templated else (),
            answer=self.decode(request.answer_ids).names,
            context_length=most,
            room=max(0, most - len(ids) - len(request.answer_ids)) if most else None,
        )

    def generate(self, request: Request, cancelled: Cancelled) -> Iterator[Event]:
        """See ``Runtime.generate``.

        Raises:
            ContextOverflow: The prompt leaves no room.
            RunError: The script says so.
        """
        answer = _Answer(self._load, request, cancelled)
        view = self.inspect(request)
        answer.tokenized = time.monotonic()
        answer.view = view
        room = request.max_new_tokens if view.room is None else view.room
        if room < 1:
            raise prompt_too_long(self._load.spec.id, len(view.token_ids), view.context_length)
        if strange := [token for token in request.answer_ids if not 0 <= token < VOCABULARY]:
            raise RunError(
                msg("{model}: it has no token {id}", model=self._load.spec.id, id=str(strange[0])),
                msg("Give it tokens of its own."),
            )
        answer.given = self.decode(request.answer_ids).pieces
        _burn(self._script.cpu_s)
        yield from answer.prefill(self._script.prefill_s)
        yield from answer.decode(self._script, min(request.max_new_tokens, room), self._mishap)
        yield answer.last()

    def score(
        self, prompt: Sequence[int], answer: Sequence[int], cancelled: Cancelled
    ) -> Iterator[NDArray[np.float32]]:
        """Rows that expect the script's words one after the other, whatever came before; behind the last, nothing.

        Raises:
            Stopped: ``cancelled`` said so.
            RunError: The script says so.
        """
        script = self._script
        scripted = [_id(word) for word in _words(script.text)]
        time.sleep(script.prefill_s)
        for place in range(len(answer)):
            if cancelled():
                raise Stopped(msg("{model}: scoring was stopped", model=self._load.spec.id))
            if place + 1 == script.fail_score:
                raise RunError(
                    msg("{model}: its script says that scoring fails", model=self._load.spec.id),
                    msg("Choose another model."),
                )
            row = np.zeros(VOCABULARY, np.float32)
            if place < len(scripted):
                row[scripted[place]] = script.sure
            yield row
            time.sleep(script.step_s)

    def score_ids(self, task: ScoreIds, cancelled: Cancelled, tell: Callable[[float], object]) -> ScoredIds:
        """As if the script's words were expected one after the other in every text, whatever came before.

        Raises:
            Stopped: ``cancelled`` said so.
            UsageError: A text holds what is no token.
            RunError: The script says so.
        """
        if strange := [token for ids in task.prompts for token in ids if not 0 <= token < VOCABULARY]:
            raise UsageError(
                msg("{model}: it has no token {id}", model=self._load.spec.id, id=str(strange[0])),
                msg("Give it tokens of its own."),
            )
        found = []
        for place, ids in enumerate(task.prompts):
            rows = [Row(row, task.top) for row in self.score((), ids, cancelled)]
            each = [TokenLogprob(token, None) if not at else rows[at].of(token) for at, token in enumerate(ids)]
            found.append(each[task.start(place) :])
            tell((place + 1) / len(task.prompts))
        return ScoredIds(
            tuple(tuple(each.logprob for each in row) for row in found),
            tuple(tuple(each.top_ids for each in row) for row in found),
            tuple(tuple(each.top_logprobs for each in row) for row in found),
            sum(map(len, task.prompts)),
        )

    def encode(self, text: str, special: bool) -> tuple[int, ...]:
        """Its words."""
        words = _words(text)
        ids = tuple(map(_id, words))
        self._known |= dict(zip(ids, words, strict=True))
        return ids

    def decode(self, ids: Sequence[int]) -> DecodedTokens:
        """Words of the script and of prompts it has read; of others only the number is known."""
        words = tuple(self._known.get(index, f"<{index}>") for index in ids)
        return DecodedTokens(words, words, (self._script.tokenizer,))

    def _mishap(self, number: int) -> None:
        """What the script has in store for the token with this number."""
        script = self._script
        if number == script.die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        while number == script.stall_at:
            time.sleep(3600)
        if number == script.fail_at:
            raise RunError(
                msg("{model}: its script says that token {number} fails", model=self._load.spec.id, number=number),
                msg("The other models are not affected."),
            )

    def close(self) -> None:
        self._ballast = b""


class _Answer:
    """One answer in the making: events out, stamps kept."""

    def __init__(self, load: LoadSpec, request: Request, cancelled: Cancelled) -> None:
        self._load, self._request, self._cancelled = load, request, cancelled
        self._model = str(load.artifact.variant)
        self.began = time.monotonic()
        self.tokenized = self.began
        self.view = PromptView("", "", (), ())
        self._prefilled: float | None = None
        self._stamps: list[float] = []
        self._ids: list[int] = []
        self._text = ""
        self._logprobs: list[TokenLogprob] = []
        self._told = 0
        self.given: tuple[str, ...] = ()
        self._reason: FinishReason = "stop"

    def prefill(self, seconds: float) -> Iterator[Event]:
        total = len(self.view.token_ids) + len(self.given)
        began = time.monotonic()
        for chunk in range(1, PREFILL_CHUNKS + 1):
            if not self._sleep_until(began + seconds * chunk / PREFILL_CHUNKS):
                return
            done = chunk / PREFILL_CHUNKS
            if chunk == PREFILL_CHUNKS:
                self._prefilled = time.monotonic()
            yield Event(self._model, "prefill", n_tokens=int(total * done), progress=done, at=time.monotonic())

    def decode(self, script: Script, limit: int, mishap: Callable[[int], None]) -> Iterator[Event]:
        begun = "".join(self.given)
        self._text = begun
        for token in self._request.answer_ids:
            self._note(token, script.sure)
        if self._prefilled is None:
            yield from self._rest(0)
            return
        text, said = script.text, len(self.given)
        while 0 < len(_words(text)) < said + self._request.min_new_tokens:
            text += f" {script.text}"
        words = _words(text)[said:]
        text = begun + "".join(words)
        cut, end = _stop_at(text, self._request.stop)
        place, sent, pause = len(begun), 0, 0
        for number, word in enumerate(words, start=1):
            if place >= end:
                break
            if number > limit:
                self._reason = "length"
                break
            mishap(number)
            pause += number == script.pause_at
            if not self._sleep_until(self._prefilled + script.step_s * (number - 1) + script.pause_s * pause):
                break
            self._stamps.append(time.monotonic())
            self._ids.append(_id(word))
            self._note(_id(word), script.sure)
            place += len(word)
            self._text = text[: min(place, cut)]
            if number % max(1, script.chunk) == 0:
                yield self._token(sent)
                sent = len(self._text)
        yield from self._rest(sent)

    def _rest(self, sent: int) -> Iterator[Event]:
        if sent < len(self._text):
            yield self._token(sent)

    def _token(self, sent: int) -> Event:
        """What of the text was not ``sent`` yet."""
        at = self._stamps[-1] if self._stamps else time.monotonic()
        fresh, self._told = tuple(self._logprobs[self._told :]), len(self._logprobs)
        text, made = self._text[sent:], len(self._stamps)
        return Event(self._model, "token", text=text, n_tokens=made, at=at, logprobs=fresh)

    def _note(self, token: int, sure: float) -> None:
        """As of a row in which this token has the logit ``sure`` and all others 0."""
        if self._request.logprobs is not None:
            row = np.zeros(VOCABULARY, np.float32)
            row[token] = sure
            self._logprobs.append(Row(row, self._request.logprobs).of(token))

    def last(self) -> Event:
        ended = time.monotonic()
        stamps = Stamps(self.began, self.tokenized, self._prefilled, tuple(self._stamps), ended)
        variant = self._load.artifact.variant
        run = ModelRun(
            variant=variant,
            runtime=variant.runtime,
            precision=variant.precision,
            text=self._text,
            finish_reason=self._reason,
            timings=timings(
                stamps, len(self.view.token_ids), self._load.threads, given_tokens=len(self._request.answer_ids)
            ),
            warnings=(*self.view.warnings, *([NOT_HELD] if self._request.json_schema else [])),
            token_ids=(*self._request.answer_ids, *self._ids),
            logprobs=tuple(self._logprobs),
        )
        kind: EventKind = "stopped" if self._reason == "stopped" else "done"
        return Event(self._model, kind, n_tokens=len(self._stamps), at=ended, run=run)

    def _sleep_until(self, when: float) -> bool:
        """Sleep in naps; False once the reader pressed Stop."""
        while not self._cancelled():
            left = when - time.monotonic()
            if left <= 0:
                return True
            time.sleep(min(left, _NAP_S))
        self._reason = "stopped"
        return False


def _burn(seconds: float) -> None:
    """Compute nothing for so much CPU time of this thread."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def _id(word: str) -> int:
    return zlib.crc32(word.encode("utf-8", "surrogatepass")) % VOCABULARY


def _words(text: str) -> list[str]:
    """Words with the space behind them, and a space before the first: joined they are the text again."""
    return re.findall(r"\s*\S+\s*|\s+", text)


def _stop_at(text: str, stop: tuple[str, ...]) -> tuple[int, int]:
    """Where the text ends for the reader, and up to where tokens are made: before and behind the first stop string."""
    found = [(text.find(word) + len(word), text.find(word)) for word in stop if word and word in text]
    end, cut = min(found) if found else (len(text), len(text))
    return cut, end
