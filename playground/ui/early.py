"""Scripts that stand in the page before Gradio's own: ``gr.Blocks(head=…)`` is added by Gradio's program when that
already runs. It knows nothing of what they do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

SCRIPTS = tuple(Path(__file__).resolve().parent / name for name in ("frames.js", "streams.js"))
HEAD = b"<head>"


class Early:
    """ASGI middleware: the scripts are the first thing in the head of the page."""

    def __init__(self, app: Any) -> None:
        self.app = app
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
            page = bytes(body).replace(HEAD, self._scripts, 1)
            headers = [(name, value) for name, value in start["headers"] if name.lower() != b"content-length"]
            start["headers"] = [*headers, (b"content-length", str(len(page)).encode())]
            await send(start)
            await send({"type": "http.response.body", "body": page})

        await self.app(scope, receive, sent)
