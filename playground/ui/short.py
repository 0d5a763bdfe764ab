"""An answer of one sentence, in its reader's language: what middleware sends where gradio is not asked."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from playground.api.crowd import RETRY_S
from playground.messages import Translatable
from playground.ui import i18n


async def answer(
    send: Any,
    status: int,
    words: Translatable,
    language: str = "",
    *,
    headers: Sequence[tuple[bytes, bytes]] = (),
    retry_after_s: float | None = None,
    as_json: bool = False,
) -> None:
    """Send it, whole.

    Args:
        status: Of HTTP.
        language: ``Accept-Language`` of the request.
        retry_after_s: When to try again, in seconds.
        as_json: As ``detail`` of an object, where gradio's page looks for words.
    """
    with i18n.reading(language):
        said = i18n.say(words)
    body = (json.dumps({"detail": said}) if as_json else f"{said}\n").encode("utf-8", "replace")
    kind = b"application/json" if as_json else b"text/plain; charset=utf-8"
    told = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), *headers]
    if retry_after_s is not None:
        told.append((b"retry-after", str(math.ceil(retry_after_s)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": told})
    await send({"type": "http.response.body", "body": body})


async def crowded(scope: dict[str, Any], receive: Any, send: Any, words: Translatable) -> None:
    """What whoever asks for too much at the same time is told (``api.crowd``)."""
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    await answer(send, 429, words, i18n.wanted(headers), retry_after_s=RETRY_S)
