"""A request in the words of the OpenAI protocol, and what of it a server may not do.

The module knows both ways of asking, ``/chat/completions`` and ``/completions``; it sends nothing.
"""

from __future__ import annotations

import json
from typing import Any

from playground.errors import all_of
from playground.messages import Translatable, msg, plural
from playground.records import Remote, Request
from playground.runtimes.generation.notes import BASE_WITHOUT_SYSTEM, JOINED_MESSAGES, OWN_SYSTEM_MESSAGE


def request_body(remote: Remote, request: Request) -> tuple[dict[str, Any], list[Translatable]]:
    """The request in the protocol's names, and what a reader should know of it.

    ``temperature`` and ``top_p`` are always sent, because servers fill in what is missing from the model's own
    generation_config. What OpenAI's protocol does not know goes out only where it is not its default.
    """
    body: dict[str, Any] = {
        "model": f"{remote.model}:{remote.provider}" if remote.provider not in ("", "auto") else remote.model,
        "max_tokens": request.max_new_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if request.seed is not None:
        body["seed"] = request.seed
    if request.stop:
        body["stop"] = list(request.stop)
    warnings = []
    if request.json_schema:
        body["response_format"] = _format(request.json_schema)
        warnings.append(msg("The server was asked to hold the answer to a schema; whether it does is its own affair."))
    if extra := extra_fields(request):
        warnings.append(
            plural(
                "{names}: not part of OpenAI's protocol; a server may ignore it.",
                "{names}: not part of OpenAI's protocol; a server may ignore them.",
                len(extra),
                names=all_of(list(extra)),
            )
        )
    if request.min_new_tokens:
        warnings.append(msg("The server decides where an answer ends: a least length can't be asked for."))
    if request.logprobs is not None:
        warnings.append(msg("Log-probabilities are told of models that run on this machine; a server's are not read."))
    said, about_said = _said(remote, request)
    return body | extra | said, warnings + about_said


def extra_fields(request: Request) -> dict[str, Any]:
    """What of the request is not its default and not part of OpenAI's protocol."""
    values = {"top_k": request.top_k, "min_p": request.min_p, "repetition_penalty": request.repetition_penalty}
    defaults = Request()
    return {name: value for name, value in values.items() if value != getattr(defaults, name)}


def _format(schema: str) -> dict[str, Any]:
    """``response_format``, https://platform.openai.com/docs/guides/structured-outputs."""
    wanted = json.loads(schema)
    if not wanted:
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": wanted, "strict": True}}


def _said(remote: Remote, request: Request) -> tuple[dict[str, Any], list[Translatable]]:
    """``messages`` for a chat model and ``prompt`` for a base model, and what a reader should know of it."""
    messages = [message.to_json() for message in request.messages] or [{"role": "user", "content": request.prompt}]
    own_system = messages[0]["role"] == "system"
    warnings = []
    if remote.kind == "chat":
        if request.system and own_system:
            warnings.append(OWN_SYSTEM_MESSAGE)
        elif request.system:
            messages.insert(0, {"role": "system", "content": request.system})
        return {"messages": messages}, warnings
    if request.system or own_system:
        warnings.append(BASE_WITHOUT_SYSTEM)
    texts = [message["content"] for message in messages if message["role"] != "system"]
    if len(texts) > 1:
        warnings.append(JOINED_MESSAGES)
    return {"prompt": "\n\n".join(texts)}, warnings
