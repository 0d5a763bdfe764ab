"""The HTTP API: ``/compare``, ``/models``, ``/card`` and ``/inspect``, JSON in and out with the records' field names.

The docstrings are what the API page shows. Errors arrive as the client's error, with the message and the next step.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import gradio as gr

from playground.errors import PlaygroundError, UnknownModel, UsageError
from playground.experiments.admission import request_from
from playground.messages import msg
from playground.records import Column, Message, Request, Variant
from playground.results.receipts import with_receipts
from playground.results.requests import PARAMETERS
from playground.ui import jobs, offered
from playground.ui.i18n import say
from playground.ui.visitors import visitor

if TYPE_CHECKING:
    from playground.service import Playground
    from playground.ui.sessions import Sessions

T = TypeVar("T")

COLUMN_FIELDS = frozenset({"model", "prompt", "messages", *PARAMETERS, "system"}) - {"min_new_tokens"}
NO_TEXTS: list[str] = []
NO_OBJECTS: list[dict[str, Any]] = []
"""Defaults that the API page can show: of None it makes "...", which is refused where somebody copies it."""
LISTED = msg("/models lists those that are served here.")
A_MESSAGE = msg("Send a list of {example}.", example='{"role": "user", "content": "…"}')
A_COLUMN = msg("Send a list of {example}.", example='{"model": "NAME", "temperature": 0.7}')


def build(playground: Playground, sessions: Sessions) -> None:
    """Add the endpoints to the page that is being built."""

    limits = playground.settings.limits
    served = [entry.spec.id for entry in playground.served()][: limits.max_models]
    tokens = limits.usual_tokens()

    async def compare(  # noqa: PLR0917 (the API's parameters, which clients may give by position)
        prompt: str,
        request: gr.Request,
        models: list[str] | str = served,
        system: str = "",
        max_new_tokens: int = tokens,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        seed: int | None = 0,
        stop: list[str] = NO_TEXTS,
        mode: Literal["fair", "fast"] = "fair",
        reuse: bool = False,
        messages: list[dict[str, str]] = NO_OBJECTS,
        columns: list[dict[str, Any]] = NO_OBJECTS,
    ) -> dict[str, Any]:
        """Send one prompt to several models and wait for all of them. Returns the Comparison: request, environment,
        and for each model its text or error, finish_reason and timings (seconds, tokens, MB). `models` are written
        MODEL or MODEL@RUNTIME-PRECISION, of those that /models lists: no others are served here. One name, or several
        with commas between them, may be sent as a text. mode "fair" runs one at a time, "fast" all at once. With
        reuse, a warm model skips what the prompt has in common with its last one; timings.reused_tokens says how much.
        For a conversation leave prompt empty and send messages: [{"role": "user", "content": "…"}, …], roles user and
        assistant by turns. For parameters of each model's own send columns in place of models: [{"model": "…",
        "temperature": 0.7}, …]; what a column does not name is that of all."""
        given = locals()
        asked = await _told(asyncio.to_thread(_request, given))
        if columns:
            chosen = await _told(asyncio.to_thread(_columns, playground, columns, asked))
        else:
            chosen = await _told(asyncio.to_thread(_variants, playground, models))
        start = partial(playground.compare, asked, chosen, mode, owner=visitor(request), keep=False)
        result = await _told(jobs.finish(sessions, request.session_hash or "", start))
        return with_receipts(playground.all_told(result))

    def models() -> list[dict[str, Any]]:
        """The models served here: name, kind, variants (the default first), and the state of each variant."""
        return [playground.served_json(entry) for entry in playground.served()]

    async def card(model: str) -> dict[str, Any]:
        """What a model's card promises: each fact with its value, source, url and status, and the rest to read."""
        return await _told(asyncio.to_thread(_card, playground, model))

    async def inspect(model: str, prompt: str, system: str = "") -> dict[str, Any]:
        """What a model would really read: the rendered prompt, its token ids and tokens, and warnings."""
        return await _told(asyncio.to_thread(_inspect, playground, model, Request(prompt=prompt, system=system)))

    limit = limits.max_sessions
    gr.api(compare, api_name="compare", concurrency_limit=limit, concurrency_id="compare")
    gr.api(models, api_name="models", concurrency_limit=limit)
    gr.api(card, api_name="card", concurrency_limit=limit)
    gr.api(inspect, api_name="inspect", concurrency_limit=2)


async def _told(work: Awaitable[T]) -> T:
    """The result of ``work``; this product's errors become the client's, without a traceback in the log."""
    try:
        return await work
    except PlaygroundError as error:
        raise gr.Error(say(error.message), print_exception=False) from error


def _request(given: dict[str, Any]) -> Request:
    """The request in the parameters of ``compare``: what no list can be made of is refused as the rest is later."""
    if not isinstance(given["stop"], (list, tuple, type(None))):
        kind = type(given["stop"]).__name__
        raise UsageError(msg("stop is {kind}, not a list of texts", kind=kind), msg("Send a list of strings."))
    return request_from({**given, "messages": _messages(given["messages"])})


def _messages(sent: Any) -> tuple[Message, ...]:
    if sent is None:
        return ()
    if not isinstance(sent, (list, tuple)):
        raise UsageError(msg("messages is {kind}, not a list", kind=type(sent).__name__), A_MESSAGE)
    for place, each in enumerate(sent):
        if not isinstance(each, (dict, Message)) or (isinstance(each, dict) and set(each) != {"role", "content"}):
            field = f"messages[{place}]"
            raise UsageError(msg("{field} is not a role and a content", field=field), A_MESSAGE)
    return tuple(each if isinstance(each, Message) else Message(each["role"], each["content"]) for each in sent)


def _variants(playground: Playground, models: Any) -> list[Variant | Column]:
    names = [name for name in models.split(",") if name.strip()] if isinstance(models, str) else models
    if not isinstance(names, list):
        kind = type(models).__name__
        raise UsageError(
            msg("models is {kind}, not a list of names", kind=kind),
            msg("Send {example}, of the names that /models lists.", example=json.dumps(_example(playground))),
        )
    _check_number(playground, len(names))
    return [served_variant(playground, text) for text in names]


def _columns(playground: Playground, columns: Any, shared: Request) -> list[Variant | Column]:
    """Columns with what each model is asked, where that is not what all are."""
    if not isinstance(columns, list):
        raise UsageError(msg("columns is {kind}, not a list", kind=type(columns).__name__), A_COLUMN)
    _check_number(playground, len(columns))
    made: list[Variant | Column] = []
    for place, sent in enumerate(columns):
        name = f"columns[{place}]"
        if not isinstance(sent, dict) or "model" not in sent:
            raise UsageError(msg("{field} names no model", field=name), A_COLUMN)
        if unknown := sorted(set(sent) - COLUMN_FIELDS):
            raise UsageError(
                msg("{field} holds {unknown}, which no model is asked with", field=name, unknown=unknown),
                msg("A column may hold {names}.", names=sorted(COLUMN_FIELDS)),
            )
        variant = served_variant(playground, sent["model"])
        own = _own_request(shared, {key: value for key, value in sent.items() if key != "model"})
        made.append(Column(variant, own) if own != shared else variant)
    return made


def _own_request(shared: Request, own: dict[str, Any]) -> Request:
    given = {field.name: getattr(shared, field.name) for field in fields(Request)}
    if "messages" in own:  # a conversation of its own stands in place of the prompt of all, and the other way round
        given["prompt"] = ""
    elif "prompt" in own:
        given["messages"] = ()
    return _request(given | own)


def _check_number(playground: Playground, n: int) -> None:
    most = playground.settings.limits.max_models
    if n > most:
        raise UsageError(
            msg("{n:,} models are too many for one comparison", n=n), msg("Choose at most {most}.", most=most)
        )


def _example(playground: Playground) -> list[str]:
    return [entry.spec.id for entry in playground.served()][:2]


def served_variant(playground: Playground, text: Any) -> Variant:
    """The variant ``text`` names, of the models this app serves: a visitor may not make the app read other sources.

    Raises:
        UsageError: Not a served model; with the closest names.
        UnknownVariant: The model is not offered so.
    """
    if not isinstance(text, str) or len(text) > offered.MAX_LETTERS:
        raise UsageError(msg("A model is named by a short text"), LISTED)
    served = {entry.spec.id for entry in playground.served()}
    model = text.rpartition("@")[0] if "@" in text else text
    if not served & {model.strip(), model.strip().lower()}:
        unknown = UnknownModel(model.strip(), served, LISTED)
        raise UsageError(msg("'{model}' is not served by the API of this app", model=model.strip()), unknown.next_step)
    return playground.resolve(text)[1]


def _card(playground: Playground, model: str) -> dict[str, Any]:
    return playground.all_told(playground.card(str(served_variant(playground, model)))).to_json()


def _inspect(playground: Playground, model: str, request: Request) -> dict[str, Any]:
    return playground.all_told(playground.inspect(str(served_variant(playground, model)), request)).to_json()
