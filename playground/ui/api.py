"""The HTTP API: ``/compare``, ``/models``, ``/card`` and ``/inspect``, JSON in and out with the records' field names.

The docstrings are what the API page shows. Errors arrive as the client's error, with the message and the next step.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import gradio as gr

from playground.errors import PlaygroundError, UnknownModel, UsageError
from playground.experiments.admission import request_from
from playground.messages import msg, sentences
from playground.records import Request, Variant
from playground.results.receipts import with_receipts
from playground.ui import jobs, offered
from playground.ui.i18n import say

if TYPE_CHECKING:
    from playground.service import Playground
    from playground.ui.sessions import Sessions

T = TypeVar("T")


def build(playground: Playground, sessions: Sessions) -> None:
    """Add the endpoints to the page that is being built."""

    async def compare(  # noqa: PLR0917 (the API's parameters, which clients may give by position)
        prompt: str,
        models: list[str],
        request: gr.Request,
        system: str = "",
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        seed: int | None = 0,
        stop: list[str] | None = None,
        mode: Literal["fair", "fast"] = "fair",
        reuse: bool = False,
    ) -> dict[str, Any]:
        """Send one prompt to several models and wait for all of them. Returns the Comparison: request, environment,
        and for each model its text or error, finish_reason and timings (seconds, tokens, MB). `models` are written
        MODEL or MODEL@RUNTIME-PRECISION, of those that /models lists: no others are served here. mode "fair" runs one
        at a time, "fast" all at once. With reuse, a warm model skips what the prompt has in common with its last one;
        timings.reused_tokens says how much."""
        given = locals()
        asked = await _told(asyncio.to_thread(_request, given))
        variants = await _told(asyncio.to_thread(_variants, playground, models))
        start = partial(playground.compare, asked, variants, mode)
        result = await _told(jobs.finish(sessions, request.session_hash or "", start))
        return with_receipts(result)

    def models() -> list[dict[str, Any]]:
        """The models served here: name, kind, variants (the default first), and the state of each variant."""
        return [playground.served_json(entry) for entry in playground.served()]

    async def card(model: str) -> dict[str, Any]:
        """What a model's card promises: each fact with its value, source, url and status, and the rest to read."""
        return await _told(asyncio.to_thread(_card, playground, model))

    async def inspect(model: str, prompt: str, system: str = "") -> dict[str, Any]:
        """What a model would really read: the rendered prompt, its token ids and tokens, and warnings."""
        return await _told(asyncio.to_thread(_inspect, playground, model, Request(prompt=prompt, system=system)))

    limit = playground.settings.limits.max_sessions
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
    if not isinstance(given["stop"], (list, type(None))):
        kind = type(given["stop"]).__name__
        raise UsageError(msg("stop is {kind}, not a list of texts", kind=kind), msg("Send a list of strings."))
    return request_from(given)


def _variants(playground: Playground, models: Any) -> list[Variant]:
    if not isinstance(models, list):
        kind = type(models).__name__
        raise UsageError(msg("models is {kind}, not a list of names", kind=kind), msg("Send a list of strings."))
    most = playground.settings.limits.max_models
    if len(models) > most:
        raise UsageError(
            msg("{n:,} models are too many for one comparison", n=len(models)), msg("Choose at most {most}.", most=most)
        )
    return [served_variant(playground, text) for text in models]


def served_variant(playground: Playground, text: Any) -> Variant:
    """The variant ``text`` names, of the models this app serves: a visitor may not make the app read other sources.

    Raises:
        UsageError: Not a served model; with the closest names.
        UnknownVariant: The model is not offered so.
    """
    if not isinstance(text, str) or len(text) > offered.MAX_LETTERS:
        raise UsageError(msg("A model is named by a short text"), msg("/models lists those that are served here."))
    served = {entry.spec.id for entry in playground.served()}
    model = text.rpartition("@")[0] if "@" in text else text
    if not served & {model.strip(), model.strip().lower()}:
        closest = UnknownModel(model.strip(), served).next_step
        raise UsageError(
            msg("'{model}' is not served by the API of this app", model=model.strip()),
            sentences(closest, msg("It serves what app.models in spaces.yaml names; /models lists them.")),
        )
    return playground.resolve(text)[1]


def _card(playground: Playground, model: str) -> dict[str, Any]:
    return playground.card(str(served_variant(playground, model))).to_json()


def _inspect(playground: Playground, model: str, request: Request) -> dict[str, Any]:
    return playground.inspect(str(served_variant(playground, model)), request).to_json()
