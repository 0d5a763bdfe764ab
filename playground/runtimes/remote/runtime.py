"""Models that somebody else serves: one request over the OpenAI protocol, its pieces stamped when they come.

What is measured here is what a user of the server would see: network, the server's queue and its prefill are in
``ttft_s`` and can't be told apart. The module makes events and figures of pieces; how bytes travel is ``client``'s,
what is sent ``request``'s, what a reader is told of a failure ``errors``'. Neither torch nor onnxruntime is loaded.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from playground.errors import BadRequest, RunError, shortened
from playground.messages import Translatable, msg, plural
from playground.records import (
    Cancelled,
    DecodedTokens,
    Event,
    EventKind,
    FinishReason,
    LoadSpec,
    ModelRun,
    PromptView,
    Remote,
    Request,
    Timings,
)
from playground.runtimes.generation.text_stream import StopStrings
from playground.runtimes.generation.timing import decode_rate
from playground.runtimes.generation.token_scores import ScoredIds, ScoreIds
from playground.runtimes.remote import errors
from playground.runtimes.remote.client import CHAT, COMPLETION, Client, Retry
from playground.runtimes.remote.payload import Piece, Usage
from playground.runtimes.remote.request import extra_fields, request_body

POLL_S = 0.05
"""Between two looks at Stop while the server is silent."""
HEARTBEAT_S = 5.0
"""A server may think for longer than a silent worker is trusted; until its first piece, this tells that we wait."""

T = TypeVar("T")


class RemoteRuntime:
    """A model behind an address."""

    def load(self, load: LoadSpec) -> None:
        """Read the key and ask the server whether it is there.

        Raises:
            RunError: No key, no connection, or the key is refused.
        """
        remote = load.spec.remote
        if remote is None:
            raise RunError(
                msg("{model}: nothing is known of this remote", model=load.spec.id),
                msg("Add it to spaces.yaml (docs/remote.md)."),
            )
        self._load, self._remote = load, remote
        self._key = _key(remote)
        try:
            listed = asyncio.run(Client(remote, self._key).models())
        except errors.KNOWN as error:
            raise errors.explain(error, remote, self._key) from None
        self._listed = listed or ()

    def inspect(self, request: Request) -> PromptView:
        """What is sent. Template and tokenizer are the server's: there are no token ids to show.

        Raises:
            RunError: An answer is to be gone on with.
        """
        self._check(request)
        body, warnings = request_body(self._remote, request)
        if self._remote.kind == "chat":
            text = json.dumps(body["messages"], ensure_ascii=False, indent=2)
            unseen = msg("The server turns this into tokens with a template of its own; they can't be seen from here.")
        else:
            text = body["prompt"]
            unseen = msg("The server turns this into tokens; they can't be seen from here.")
        length = self._remote.context_length
        return PromptView(self._load.spec.id, text, (), (), (unseen, *warnings), context_length=length)

    def generate(self, request: Request, cancelled: Cancelled) -> Iterator[Event]:
        """See ``Runtime.generate``.

        Raises:
            ContextOverflow: The server says that prompt and answer are too long.
            RunError: It can't be reached, refuses the request, falls silent, breaks off or speaks another protocol. Or
                an answer is to be gone on with.
        """
        self._check(request)
        return _Answer(self._load, self._remote, self._key, self._listed, request).events(cancelled)

    def score(self, prompt: Sequence[int], answer: Sequence[int], cancelled: Cancelled) -> Iterator[None]:
        """
        Raises:
            RunError: Always: a server gives texts.
        """
        raise self._only_text(msg("{model}: the server gives texts, no logits", model=self._load.spec.id))

    def score_ids(self, task: ScoreIds, cancelled: Cancelled, tell: Callable[[float], object]) -> ScoredIds:
        """
        Raises:
            RunError: Always: a server gives texts.
        """
        raise self._only_text(msg("{model}: the server gives texts, no logits", model=self._load.spec.id))

    def encode(self, text: str, special: bool) -> tuple[int, ...]:
        """
        Raises:
            RunError: Always: a server takes texts.
        """
        raise self._only_text(msg("{model}: the server gives texts, no token ids", model=self._load.spec.id))

    def decode(self, ids: Sequence[int]) -> DecodedTokens:
        """
        Raises:
            RunError: Always: a server gives texts.
        """
        raise self._only_text(msg("{model}: the server gives texts, no token ids", model=self._load.spec.id))

    def _check(self, request: Request) -> None:
        if request.answer_ids:
            raise RunError(
                msg(
                    "{model}: a served model can't go on with an answer: its server takes texts, no token ids",
                    model=self._load.spec.id,
                ),
                msg("Ask it again with a larger max_new_tokens, or choose a model that runs on this machine."),
            )
        if request.prompt_ids or (request.plain and self._remote.kind == "chat"):
            raise BadRequest(
                msg(
                    "{model}: a model served elsewhere is not asked by token ids, nor past its chat template",
                    model=self._load.spec.id,
                ),
                msg("Send messages, or choose a model that runs on this machine."),
            )

    def _only_text(self, what: Translatable) -> RunError:
        return RunError(what, msg("Compare a model that runs on this machine."))

    def close(self) -> None:
        self._key = ""


def _key(remote: Remote) -> str:
    if not remote.key_env:
        return ""
    key = os.environ.get(remote.key_env, "").strip()
    named = {"name": remote.name, "variable": remote.key_env}
    if not key:
        raise RunError(
            msg("remote:{name}: the environment variable {variable}, which should hold its key, is not set", **named),
            msg("Set {variable} and start again.", variable=remote.key_env),
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise RunError(
            msg("remote:{name}: what {variable} holds can't be a key", **named),
            msg("It should be one word of plain characters."),
        )
    return key


@dataclass
class _Answer:
    """One answer on its way: what has come so far, and what becomes of the next piece."""

    load: LoadSpec
    remote: Remote
    key: str = field(repr=False)
    listed: tuple[str, ...]
    request: Request
    stamps: list[float] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    warnings: list[Translatable] = field(default_factory=list)
    usage: Usage | None = None
    finish: str = ""
    reasoned: int = 0
    waited_s: float = 0.0

    def events(self, cancelled: Cancelled) -> Iterator[Event]:
        """All that ``Runtime.generate`` promises."""
        body, self.warnings = request_body(self.remote, self.request)
        self._stop = StopStrings(self.request.stop)
        self._client = Client(self.remote, self.key)
        stopped = False
        try:
            yield self._event("prefill")
            source = self._client.answer(CHAT if self.remote.kind == "chat" else COMPLETION, body)
            with closing(_pulled(source, cancelled)) as items:
                for item in items:
                    if isinstance(item, Piece):
                        if self._has_enough(item):
                            break
                        yield from self._take(item)
                    elif not self.stamps:
                        self.waited_s += item.seconds if isinstance(item, Retry) else 0.0
                        yield self._event("prefill", text=_waiting(item))
        except _Interrupted:
            stopped = True
        except errors.KNOWN as error:
            pieces, extra = len(self.stamps), tuple(extra_fields(self.request))
            raise errors.explain(error, self.remote, self.key, pieces=pieces, listed=self.listed, extra=extra) from None
        if tail := self._stop.finish():
            yield self._event("token", text=self._add(tail))
        yield self._last(stopped)

    @property
    def _most(self) -> int:
        """Pieces after which the server must have ignored ``max_tokens``: each is a token or more, bar odd servers."""
        return 2 * self.request.max_new_tokens + 16

    def _has_enough(self, piece: Piece) -> bool:
        """Whether the server goes on behind a stop string (one that stopped has only its count to send) or for ever."""
        more = bool(piece.text or piece.reasoning)
        return more and (self._stop.stopped or len(self.stamps) == self._most)

    def _take(self, piece: Piece) -> Iterator[Event]:
        self.usage = piece.usage or self.usage
        self.finish = piece.finish or self.finish
        if not piece.text and not piece.reasoning:
            return
        self.stamps.append(piece.at)
        self.reasoned += not piece.text
        yield self._event("token", text=self._add(self._stop.push(piece.text)), at=piece.at)

    def _add(self, text: str) -> str:
        self.text.append(text)
        return text

    def _event(self, kind: EventKind, text: str = "", at: float | None = None) -> Event:
        at = time.monotonic() if at is None else at
        return Event(str(self.load.artifact.variant), kind, text=text, n_tokens=len(self.stamps), at=at)

    def _last(self, stopped: bool) -> Event:
        ended = time.monotonic()
        reason = "stopped" if stopped else self._reason()
        variant = self.load.artifact.variant
        run = ModelRun(
            variant=variant,
            runtime=variant.runtime,
            precision=variant.precision,
            text="".join(self.text),
            finish_reason=reason,
            timings=self._timings(ended),
            warnings=tuple(self.warnings),
        )
        kind: EventKind = "stopped" if stopped else "done"
        return Event(str(variant), kind, n_tokens=len(self.stamps), at=ended, run=run)

    def _reason(self) -> FinishReason:
        if self._stop.stopped:
            return "stop"
        if len(self.stamps) == self._most and not self.finish:
            self.warnings.append(
                plural(
                    "The server ignores max_tokens; it was cut off after {n} piece.",
                    "The server ignores max_tokens; it was cut off after {n} pieces.",
                    len(self.stamps),
                )
            )
            return "length"
        if self.finish not in ("stop", "length", "eos_token", "stop_sequence", "eos"):
            self.warnings.append(
                msg("The server says that it ended because of: {reason}.", reason=shortened(self.finish, 40))
            )
        return "length" if self.finish == "length" else "stop"

    def _timings(self, ended: float) -> Timings:
        began = self._client.began or ended
        if self.waited_s:
            self.warnings.append(
                msg(
                    "The server had no room at first: {waited_s:.1f} s of waiting, and the refused requests, are not "
                    "in the figures.",
                    waited_s=self.waited_s,
                )
            )
        if self.reasoned:
            self.warnings.append(
                plural(
                    "The server sent {n} piece of reasoning apart from the answer: it is in the figures, not in the "
                    "text.",
                    "The server sent {n} pieces of reasoning apart from the answer: they are in the figures, not in "
                    "the text.",
                    self.reasoned,
                )
            )
        unit, tokens, rate = counted(self.stamps, self.usage, self.warnings)
        return Timings(
            prompt_tokens=self.usage.prompt if self.usage else None,
            output_tokens=tokens,
            ttft_s=self.stamps[0] - began if self.stamps else None,
            decode_tok_s=rate,
            total_s=ended - began,
            token_stamps=tuple(stamp - began for stamp in self.stamps),
            unit=unit,
        )


def counted(
    stamps: list[float], usage: Usage | None, warnings: list[Translatable]
) -> tuple[Literal["token", "chunk"], int | None, float | None]:
    """Unit, count and rate of an answer that came in ``stamps``.

    With the server's own count the unit is the token, and the rate is exact where each piece was one token (the
    end-of-turn token, which is counted and has no text, aside). Where pieces hold several tokens it is the count
    without the first piece's share, over the time between the first and the last piece. Without a count there are
    pieces only, and they are called so.
    """
    rate = decode_rate(stamps)
    if usage is None:
        if stamps:
            warnings.append(msg("No count of tokens came from the server: the figures count the pieces it sent."))
        return "chunk", len(stamps), rate
    sent, pieces = usage.completion - usage.hidden, len(stamps)
    if rate is not None and sent not in (pieces, pieces + 1):
        # rate × sent / pieces = sent × (1 − 1 / pieces) / (last − first)
        rate *= sent / pieces
        warnings.append(
            msg(
                "The server sent its {tokens} tokens in {pieces} pieces; tokens per second assumes equal ones.",
                tokens=sent,
                pieces=pieces,
            )
        )
    return "token", usage.completion, rate


def _waiting(item: Retry | None) -> Translatable:
    if item is None:
        return msg("waiting for the server")
    return msg("HTTP {status}, asking again in {seconds:.1f} s", status=item.status, seconds=item.seconds)


class _Interrupted(Exception):
    """The reader pressed Stop."""


def _pulled(source: AsyncGenerator[T], cancelled: Cancelled) -> Generator[T | None]:
    """The items of ``source`` for a thread that looks at Stop in between; None every ``HEARTBEAT_S`` without one.

    Closing this iterator closes ``source``, and with it the connection.

    Raises:
        _Interrupted: ``cancelled`` said so.
    """
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        try:
            while True:
                task = loop.create_task(_one(source))
                silent_since = time.monotonic()
                while not task.done():
                    if cancelled():  # asked before each wait: items that come quicker must not drown Stop
                        raise _Interrupted
                    if time.monotonic() - silent_since > HEARTBEAT_S:
                        silent_since = time.monotonic()
                        yield None
                    loop.run_until_complete(asyncio.wait({task}, timeout=POLL_S))
                if not (items := task.result()):
                    return
                yield items[0]
        finally:
            task.cancel()
            loop.run_until_complete(_close(task, source))


async def _one(source: AsyncGenerator[T]) -> list[T]:
    """The next item, or an empty list at the end: a task can't carry StopAsyncIteration out."""
    async for item in source:
        return [item]
    return []


async def _close(task: asyncio.Task[Any], source: AsyncGenerator[Any]) -> None:
    await asyncio.wait({task})
    await source.aclose()
