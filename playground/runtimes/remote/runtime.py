"""Models that somebody else serves: one request over the OpenAI protocol, its pieces stamped when they come.

What is measured here is what a user of the server would see: network, the server's queue and its prefill are in
``ttft_s`` and can't be told apart. It knows what the protocol calls the request's parameters and how to tell a reader
what went wrong; how bytes travel is ``client.py``'s. Neither torch nor onnxruntime is loaded.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from playground.errors import RunError
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
from playground.runtimes.remote import errors
from playground.runtimes.remote.client import CHAT, Retry, Wire, set_up
from playground.runtimes.remote.messages import Piece, Usage

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
                f"{load.spec.id}: nothing is known of this remote", "Add it to spaces.yaml (docs/remote.md)."
            )
        self._load, self._remote = load, remote
        self._key = _key(remote)
        set_up()
        try:
            listed = asyncio.run(Wire(remote, self._key).models())
        except errors.KNOWN as error:
            raise errors.explain(error, remote, self._key) from None
        self._listed = listed or ()

    def inspect(self, request: Request) -> PromptView:
        """What is sent. Template and tokenizer are the server's: there are no token ids to show."""
        body, warnings = request_body(self._remote, request)
        text = body["prompt"] if "prompt" in body else json.dumps(body["messages"], ensure_ascii=False, indent=2)
        unseen = "The server turns this into tokens" + (
            " with a template of its own" if self._remote.kind == "chat" else ""
        )
        return PromptView(self._load.spec.id, text, (), (), (f"{unseen}; they can't be seen from here.", *warnings))

    def generate(self, request: Request, cancelled: Cancelled) -> Iterator[Event]:
        return _Answer(self._load, self._remote, self._key, self._listed, request).events(cancelled)

    def score(self, prompt: Sequence[int], answer: Sequence[int], cancelled: Cancelled) -> Iterator[None]:
        raise self._no_tokens("logits")

    def decode(self, ids: Sequence[int]) -> DecodedTokens:
        raise self._no_tokens("token ids")

    def _no_tokens(self, what: str) -> RunError:
        return RunError(
            f"{self._load.spec.id}: the server gives texts, no {what}", "Compare a model that runs on this machine."
        )

    def close(self) -> None:
        self._key = ""


def request_body(remote: Remote, request: Request) -> tuple[dict[str, Any], list[str]]:
    """The request in the protocol's names, and what a reader should know of it.

    ``temperature`` and ``top_p`` are always sent, because servers fill in what is missing from the model's own
    generation_config. What OpenAI's protocol does not know goes out only where it is not its default.
    """
    extra, warnings = _extra(request)
    if request.min_new_tokens:
        warnings.append("The server decides where an answer ends: a least length can't be asked for.")
    body: dict[str, Any] = {
        "model": f"{remote.model}:{remote.provider}" if remote.provider not in ("", "auto") else remote.model,
        "max_tokens": request.max_new_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "stream_options": {"include_usage": True},
    }
    if request.seed is not None:
        body["seed"] = request.seed
    if request.stop:
        body["stop"] = list(request.stop)
    if extra:
        body["extra_body"] = extra
    messages = [message.to_json() for message in request.messages] or [{"role": "user", "content": request.prompt}]
    own_system = messages[0]["role"] == "system"
    if remote.kind == "chat":
        if request.system and own_system:
            warnings.append("The messages bring their own system message; the system prompt is not used.")
        elif request.system:
            messages.insert(0, {"role": "system", "content": request.system})
        return body | {"messages": messages}, warnings
    if request.system or own_system:
        warnings.append("This is a base model; the system prompt is not used.")
    said = [message["content"] for message in messages if message["role"] != "system"]
    if len(said) > 1:
        warnings.append("The messages were joined by blank lines: there is no template that marks who speaks.")
    return body | {"prompt": "\n\n".join(said)}, warnings


def _extra(request: Request) -> tuple[dict[str, Any], list[str]]:
    values = {"top_k": request.top_k, "min_p": request.min_p, "repetition_penalty": request.repetition_penalty}
    defaults = Request()
    extra = {name: value for name, value in values.items() if value != getattr(defaults, name)}
    if not extra:
        return {}, []
    names = " and ".join(extra)
    return extra, [
        f"{names}: not part of OpenAI's protocol; a server may ignore {'it' if len(extra) == 1 else 'them'}."
    ]


def _key(remote: Remote) -> str:
    if not remote.key_env:
        return ""
    key = os.environ.get(remote.key_env, "").strip()
    if not key:
        raise RunError(
            f"remote:{remote.name}: the environment variable {remote.key_env}, which should hold its key, is not set",
            f"Set {remote.key_env} and start again.",
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise RunError(
            f"remote:{remote.name}: what {remote.key_env} holds can't be a key",
            "It should be one word of plain characters.",
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
    warnings: list[str] = field(default_factory=list)
    usage: Usage | None = None
    finish: str = ""
    reasoned: int = 0
    waited_s: float = 0.0

    def events(self, cancelled: Cancelled) -> Iterator[Event]:
        """All that ``Runtime.generate`` promises."""
        body, self.warnings = request_body(self.remote, self.request)
        self._stop = StopStrings(self.request.stop)
        self._wire = Wire(self.remote, self.key)
        stopped = False
        try:
            with _Pull(self._wire.answer(CHAT if "messages" in body else "/completions", body)) as pull:
                yield self._event("prefill")
                for item in pull.items(cancelled):
                    if isinstance(item, Piece):
                        if self._has_enough(item):
                            break
                        yield from self._take(item)
                    elif not self.stamps:
                        self.waited_s += item.seconds if isinstance(item, Retry) else 0.0
                        yield self._event("prefill", text=_waiting(item))
                stopped = pull.cancelled
        except errors.KNOWN as error:
            pieces, extra = len(self.stamps), tuple(body.get("extra_body", ()))
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
            self.warnings.append(f"The server ignores max_tokens; it was cut off after {len(self.stamps)} pieces.")
            return "length"
        if self.finish not in ("stop", "length", "eos_token", "stop_sequence", "eos"):
            self.warnings.append(f"The server says that it ended because of: {self.finish[:40]}.")
        return "length" if self.finish == "length" else "stop"

    def _timings(self, ended: float) -> Timings:
        began = self._wire.began or ended
        if self.waited_s:
            self.warnings.append(
                f"The server had no room at first: {self.waited_s:.1f} s of waiting, and the refused requests, are not "
                "in the figures."
            )
        if self.reasoned:
            self.warnings.append(
                f"The server sent {self.reasoned} pieces of reasoning apart from the answer: they are in the figures, "
                "not in the text."
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
    stamps: list[float], usage: Usage | None, warnings: list[str]
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
            warnings.append("No count of tokens came from the server: the figures count the pieces it sent.")
        return "chunk", len(stamps), rate
    sent, pieces = usage.completion - usage.hidden, len(stamps)
    if rate is not None and sent not in (pieces, pieces + 1):
        # rate × sent / pieces = sent × (1 − 1 / pieces) / (last − first)
        rate *= sent / pieces
        warnings.append(f"The server sent its {sent} tokens in {pieces} pieces; tokens per second assumes equal ones.")
    return "token", usage.completion, rate


def _waiting(item: Retry | None) -> str:
    return f"HTTP {item.status}, asking again in {item.seconds:.1f} s" if item else "waiting for the server"


class _Pull:
    """An async iterator, pulled from a thread that has to look at Stop in between.

    Leaving the context closes the iterator, and with it the connection.
    """

    def __init__(self, source: AsyncGenerator[T]) -> None:
        self._source = source
        self._loop = asyncio.new_event_loop()
        self.cancelled = False

    def __enter__(self) -> _Pull:
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.run_until_complete(self._source.aclose())
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def items(self, cancelled: Cancelled) -> Iterator[Any]:
        """The items, and None every ``HEARTBEAT_S`` without one; ends early, with ``cancelled`` set, on Stop."""
        while True:
            task = self._loop.create_task(_one(self._source))
            silent_since = time.monotonic()
            while True:
                if cancelled():  # asked before each wait: items that come quicker must not drown Stop
                    self.cancelled = True
                    task.cancel()
                    self._loop.run_until_complete(asyncio.wait({task}))
                    return
                if self._done(task):
                    break
                if time.monotonic() - silent_since > HEARTBEAT_S:
                    silent_since = time.monotonic()
                    yield None
            items = task.result()
            if not items:
                return
            yield items[0]

    def _done(self, task: asyncio.Task[Any]) -> bool:
        self._loop.run_until_complete(asyncio.wait({task}, timeout=POLL_S))
        return task.done()


async def _one(source: AsyncGenerator[T]) -> list[T]:
    """The next item, or an empty list at the end: a task can't carry StopAsyncIteration out."""
    async for item in source:
        return [item]
    return []
