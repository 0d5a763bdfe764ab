"""What a browser is told of every answer of a server: what it was called is what it is, and it is shown by itself.

Answers are JSON, plain text and events, with words of models in them. A browser that took one for a page would run
what stands in it. An answer that says such a thing by itself, as the page does, keeps what it says.
"""

from __future__ import annotations

from typing import Any

PLAIN = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
)


def with_headers(send: Any) -> Any:
    """An ASGI ``send`` that adds to the head of an answer what it does not say of ``PLAIN``.

    An answer that says ``nosniff`` by itself comes from the page's guard, which says all that holds for a page.
    """

    async def sent(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            said = {bytes(name).lower() for name, _ in headers}
            if PLAIN[0][0] not in said:
                headers += [each for each in PLAIN if each[0] not in said]
            message = {**message, "headers": headers}
        await send(message)

    return sent


class Headers:
    """ASGI middleware: ``with_headers`` for every answer of an app."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        await self._app(scope, receive, with_headers(send) if scope["type"] == "http" else send)
