"""The server where agents reach it: on stdin and stdout of this process, or over HTTP.

Over HTTP it listens on this machine alone unless told otherwise, answers only to names it goes by and to pages of no
other site (a page could be made to resolve to this machine), and beyond this machine only with a key.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from playground.config.settings import Settings, is_loopback
from playground.errors import ConfigError
from playground.messages import msg

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

PATH = "/mcp"
LOCAL = ("127.0.0.1", "localhost", "[::1]")
MAX_BODY_BYTES = 4_000_000


def serve_stdio(settings: Settings) -> None:
    """Serve the one client that started this process, until it closes our stdin. Nothing else is on stdout."""
    import anyio
    from mcp.server.stdio import stdio_server

    from playground.mcp.server import create_server
    from playground.service import Playground

    async def serve(playground: Playground) -> None:
        server = create_server(playground)
        async with stdio_server() as (read, write):
            await server.run(read, write, server.create_initialization_options())

    with Playground(settings) as playground:
        anyio.run(serve, playground)


def serve_http(settings: Settings, host: str, port: int) -> None:
    """Serve whoever may ask, until Ctrl-C.

    Raises:
        ConfigError: It would listen beyond this machine without a key.
    """
    import uvicorn

    from playground.service import Playground

    if not is_loopback(host) and not settings.api_keys:
        raise ConfigError(
            msg("On {host} everybody who reaches this machine could run models and read what is kept", host=host),
            msg("Set PLAYGROUND_API_KEYS, or leave --host out to serve this machine alone."),
        )
    with Playground(replace(settings, host=host)) as playground:
        uvicorn.run(create_app(playground, host), host=host, port=port, log_level="warning", access_log=False)


def create_app(playground: Any, host: str) -> ASGIApp:
    """The server as an ASGI app."""
    from mcp.server.transport_security import TransportSecuritySettings

    from playground.mcp.server import create_server

    settings: Settings = playground.settings
    keys = settings.api_keys
    names = [*LOCAL, *settings.hosts, *([] if host in ("0.0.0.0", "::") else [host])]
    security = TransportSecuritySettings(
        allowed_hosts=[each for name in names for each in (name, f"{name}:*")],
        allowed_origins=[
            f"{way}://{each}" for name in names for way in ("http", "https") for each in (name, f"{name}:*")
        ],
    )
    server = create_server(playground, lambda context: _owner(context.request))
    app = server.streamable_http_app(
        streamable_http_path=PATH, transport_security=security, max_request_body_size=MAX_BODY_BYTES, host=host
    )
    return _Keys(app, keys) if keys else app


def _owner(request: Any) -> str:
    """Whose call it is, where keys tell callers apart: a digest of the key, which is stored nowhere."""
    sent = _sent(request.headers.get("authorization", "")) if request is not None else ""
    return f"key:{hashlib.sha256(sent.encode()).hexdigest()[:32]}" if sent else ""


def _sent(authorization: str) -> str:
    way, _, key = authorization.partition(" ")
    return key.strip() if way.lower() == "bearer" else ""


class _Keys:
    """Lets in whoever sends one of the keys."""

    def __init__(self, app: ASGIApp, keys: Sequence[str]) -> None:
        self._app = app
        self._keys = [key.encode() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._may(scope):
            from starlette.responses import JSONResponse

            told = msg("A key is needed: send one of PLAYGROUND_API_KEYS as 'Authorization: Bearer KEY'.")
            refusal = JSONResponse({"error": str(told)}, 401, {"WWW-Authenticate": "Bearer"})
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _may(self, scope: Scope) -> bool:
        headers = dict(scope["headers"])
        sent = _sent(headers.get(b"authorization", b"").decode("latin-1")).encode("latin-1")
        # All of them, in constant time each: the first that differs must not tell which one was nearly right.
        return sum(hmac.compare_digest(sent, key) for key in self._keys) > 0
