"""``/v1/chat/completions``: https://platform.openai.com/docs/api-reference/chat.

It knows the shapes of chat completions; it does not know connections.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from playground.api import parameters, shapes
from playground.api.answering import Choice
from playground.api.errors import wrong
from playground.api.schema import ChatBody
from playground.api.spelling import by_number, of_chat
from playground.config.settings import Settings
from playground.messages import msg
from playground.records import Request


def requests(body: ChatBody, settings: Settings) -> list[Request]:
    """One for each choice.

    Raises:
        ApiError: Parameters contradict each other.
    """
    if body.max_tokens and body.max_completion_tokens and body.max_tokens != body.max_completion_tokens:
        what = msg("max_tokens and max_completion_tokens are both given")
        raise wrong("max_tokens", what, msg("Send one of them."))
    if body.top_logprobs and not body.logprobs:
        raise wrong("top_logprobs", msg("top_logprobs without logprobs"), msg("Send logprobs: true as well."))
    wanted = body.max_completion_tokens or body.max_tokens or settings.limits.max_new_tokens
    param = "max_completion_tokens" if body.max_completion_tokens else "max_tokens"
    request = Request(
        messages=parameters.conversation(body.messages),
        max_new_tokens=parameters.length(wanted, body.min_tokens, settings, param),
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        **parameters.sampling(body, strangers=settings.strangers),
    )
    return [replace(request, seed=parameters.with_seed(body.seed, choice)) for choice in range(body.n)]


class ChatShape:
    """One answer's shape, whole or in chunks."""

    def __init__(self, body: ChatBody, model: str) -> None:
        self._body = body
        self._common = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": model}
        self._begun: set[int] = set()

    def whole(self, choices: Sequence[Choice], more: dict[str, Any]) -> dict[str, Any]:
        """The answer at once.

        Args:
            more: Fields of the whole answer.
        """
        runs = [each.run for each in choices]
        return {
            **self._common,
            "object": "chat.completion",
            "choices": [self._choice(each, len(choices) > 1) for each in choices],
            "usage": shapes.usage(runs[:1], runs),
            **more,
        }

    def piece(self, choice: int, text: str) -> bytes:
        """A chunk with more text; a choice's first one says whose it is."""
        first = choice not in self._begun
        self._begun.add(choice)
        delta = {"role": "assistant", "content": text} if first else {"content": text}
        return self._chunk(choice, delta, None)

    def ended(self, choice: Choice, more: dict[str, Any]) -> bytes:
        """The last chunk of a choice. Log-probabilities are all in one chunk before: tokens are named when the model
        has said its last.

        Args:
            more: Fields of the whole answer, for its last choice.
        """
        number = choice.choice
        said = b"" if number in self._begun else self.piece(number, "")
        if self._body.logprobs:
            said += self._chunk(number, {"content": ""}, None, logprobs=self._logprobs(choice))
        return said + self._chunk(number, {}, choice.run.finish_reason, **shapes.ending(choice.run, more))

    def usage(self, choices: Sequence[Choice]) -> bytes:
        """The chunk that ``include_usage`` asks for."""
        runs = [each.run for each in choices]
        document = {**self._common, "object": "chat.completion.chunk", "choices": []}
        return shapes.event({**document, "usage": shapes.usage(runs[:1], runs)})

    def _chunk(self, choice: int, delta: dict[str, Any], finish: str | None, **more: Any) -> bytes:
        logprobs = more.pop("logprobs", None)
        each = {"index": choice, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        document = {**self._common, "object": "chat.completion.chunk", "choices": [each], **more}
        return shapes.event(document)

    def _choice(self, choice: Choice, one_of_many: bool) -> dict[str, Any]:
        found = {
            "index": choice.choice,
            "message": {"role": "assistant", "content": choice.run.text, "refusal": None},
            "logprobs": self._logprobs(choice) if self._body.logprobs else None,
            "finish_reason": choice.run.finish_reason,
        }
        return {**found, "timings": shapes.timings(choice.run.timings)} if one_of_many else found

    def _logprobs(self, choice: Choice) -> dict[str, Any]:
        names = by_number(choice.names) if self._body.return_tokens_as_token_ids else choice.names
        return of_chat(choice.logprobs, names, choice.names)
