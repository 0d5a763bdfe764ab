"""What the web server refuses, as plain ASGI around gradio's app. Knows paths and headers, not the page.

The page neither takes nor hands out files, so gradio's routes for uploads, for files and for fetching other sites'
addresses (``file=http…``) stay closed. The header keeps pictures and fonts of other hosts off the page, whatever text a
model or a card brings.
"""

from __future__ import annotations

from typing import Any

CLOSED = ("/file=", "/file/", "/upload", "/upload_progress", "/proxy=", "/stream/", "/deep_link")
HEADERS = (
    (
        b"content-security-policy",
        b"img-src 'self' data: blob:; font-src 'self' data:; media-src 'self'; object-src 'none'",
    ),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)


class Guard:
    """ASGI middleware: 404 for ``CLOSED`` routes (with or without gradio's prefix), ``HEADERS`` on every answer."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["path"].removeprefix("/gradio_api").startswith(CLOSED):
            await send({"type": "http.response.start", "status": 404, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": b"This app serves no files."})
            return

        async def with_headers(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        await self.app(scope, receive, with_headers)
