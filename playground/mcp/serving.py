"""The server where agents reach it: on stdin and stdout of this process, or over HTTP.

Over HTTP it answers only to names it goes by and to pages of no other site (a page could have its own name resolve to
this machine), and with keys only to those who send one.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from playground.config import hosts
from playground.config.hosts import Hosts
from playground.config.settings import Settings
from playground.errors import Busy
from playground.messages import Translatable, msg
from playground.service.addresses import whence
from playground.service.guesses import Guesses

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.types import ASGIApp, Receive, Scope, Send

    from playground.service import Playground

PATH = "/mcp"
MAX_BODY_BYTES = 4_000_000
HEADER = "Authorization: Bearer KEY"


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


@asynccontextmanager
async def opened(playground: Playground) -> AsyncIterator[Starlette]:
    """The server as an app at ``PATH``, ready to be asked for as long as the block runs."""
    from mcp.server.transport_security import TransportSecuritySettings

    from playground.mcp.server import create_server

    settings = playground.settings
    server = create_server(playground, lambda context: _owner(context.request))
    app = server.streamable_http_app(
        streamable_http_path=PATH,
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),  # ours stands before it
        max_request_body_size=MAX_BODY_BYTES,
    )
    guesses = Guesses(settings.limits.max_wrong_passwords, playground.refused)
    known = Hosts(settings.host, settings.hosts)
    app.add_middleware(_Door, keys=settings.api_keys, known=known, guesses=guesses, behind_proxy=settings.on_space)
    async with server.session_manager.run():
        yield app


def _owner(request: Any) -> str:
    """Whose call it is, where keys tell callers apart: a digest of the key, which is stored nowhere."""
    sent = _sent(request.headers.get("authorization", "")) if request is not None else ""
    return f"key:{hashlib.sha256(sent.encode()).hexdigest()[:16]}" if sent else ""


def _sent(authorization: str) -> str:
    way, _, key = authorization.partition(" ")
    return key.strip() if way.lower() == "bearer" else ""


class _Door:
    """Who may ask: whoever calls this server by a name of its own, from no other site's page, and with one of the keys
    where there are any, of which wrong ones are counted.
    """

    def __init__(
        self, app: ASGIApp, keys: Sequence[str], known: Hosts, guesses: Guesses, *, behind_proxy: bool
    ) -> None:
        self._app, self._hosts = app, known
        self._guesses, self._behind_proxy = guesses, behind_proxy
        self._keys = [key.encode() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: dict[str, str] = {}
        try:
            refused = self._refusal(scope) if scope["type"] == "http" else None
        except Busy as busy:
            refused, headers = (429, busy.message), {"Retry-After": str(math.ceil(busy.retry_after_s))}
        if refused is None:
            await self._app(scope, receive, send)
            return
        from starlette.responses import JSONResponse

        status, told = refused
        if status == 401:
            headers = {"WWW-Authenticate": "Bearer"}
        await JSONResponse({"error": str(told)}, status, headers)(scope, receive, send)

    def _refusal(self, scope: Scope) -> tuple[int, Translatable] | None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._hosts.answers(host):
            return 421, hosts.refusal(host)
        if origin is not None and not self._hosts.same_site(origin, host):
            return 403, msg("This server takes no requests from other websites' pages.")
        sent = _sent(headers.get("authorization", "")).encode("latin-1")
        if not self._keys:
            return None
        address = whence(scope, behind_proxy=self._behind_proxy)
        if sent and not self._guesses.was_right(sent, address):
            self._guesses.check(address)
        # All of them, in constant time each: the first that differs must not tell which one was nearly right.
        if not sum(hmac.compare_digest(sent, key) for key in self._keys):
            if sent:
                self._guesses.wrong(sent, address)
            return 401, msg("A key is needed: send the one that you were given as {header}.", header=HEADER)
        self._guesses.right(sent, address)
        return None
