"""Scripts that stand in the page before Gradio's own: ``gr.Blocks(head=…)`` is added by Gradio's program when that
already runs. It knows nothing of what they do. Which scripts the page has is known here, so its browser is told here.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from playground.ui import policy

SCRIPTS = tuple(Path(__file__).resolve().parent / name for name in ("frames.js", "streams.js"))
HEAD = b"<head>"


class Early:
    """ASGI middleware: the scripts are the first thing in the head of the page.

    Args:
        added: Texts of the scripts that Gradio's program adds.
    """

    def __init__(self, app: Any, added: Sequence[str] = ()) -> None:
        self.app = app
        self._added = tuple(added)
        self._scripts = HEAD + b"".join(b"<script>" + script.read_bytes() + b"</script>" for script in SCRIPTS)

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] != "GET" or scope["path"] != "/":
            await self.app(scope, receive, send)
            return
        start: dict[str, Any] = {}
        body = bytearray()

        async def sent(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
                return
            body.extend(message.get("body", b""))
            if message.get("more_body", False):
                return
            nonce = secrets.token_urlsafe(16)
            page = policy.with_nonce(bytes(body).replace(HEAD, self._scripts, 1), nonce)
            told = (b"content-security-policy", policy.page_policy(nonce, self._added))
            headers = [(name, value) for name, value in start["headers"] if name.lower() != b"content-length"]
            start["headers"] = [*headers, (b"content-length", str(len(page)).encode()), told]
            await send(start)
            await send({"type": "http.response.body", "body": page})

        await self.app(scope, receive, sent)
