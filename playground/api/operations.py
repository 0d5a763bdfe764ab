"""What whoever runs a server asks it: ``/healthz``, ``/readyz`` and ``/metrics``. All other requests are counted.

The first two hold nothing that a visitor does not see on the page, and answer under any name, since a container's probe
knows an address alone. Metrics tell how much a server is used: beyond this machine they need a key.
"""

from __future__ import annotations

import asyncio
import hmac
import math
import re
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from playground.api.headers import with_headers
from playground.config import hosts
from playground.config.hosts import Hosts
from playground.errors import Busy
from playground.messages import msg
from playground.service.addresses import whence
from playground.service.guesses import Guesses
from playground.service.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from playground.service import Playground

HEALTH, READY, METRICS = "/healthz", "/readyz", "/metrics"
OPERATIONS = frozenset({HEALTH, READY, METRICS})
"""Answered where all that others ask is refused: whoever watches a server ends one that says nothing."""
KEY = "PLAYGROUND_METRICS_KEY"
ROUTES = (
    (re.compile(r"/"), "page"),
    (re.compile(r"/(assets|static)/.*|/(config|theme\.css|favicon\.ico|robots\.txt)"), "assets"),
    (re.compile(r"/gradio_api/queue/data"), "events"),
    (re.compile(r"/gradio_api/heartbeat/.*"), "heartbeat"),
    (re.compile(r"/gradio_api/.*"), "gradio"),
    (re.compile(r"/watch/.*"), "watch"),
    (re.compile(r"/export/.*"), "export"),
    (re.compile(r"/suite/.*"), "suite"),
    (re.compile(r"/v1/(chat/)?completions"), "completions"),
    (re.compile(r"/v1(/.*)?|/(tokenize|detokenize|apply-template|props|health)"), "api"),
)
"""Paths by the name that they are counted under; all others are ``other``."""
Found = TypeVar("Found")
NO_STORE = {"cache-control": "no-store"}


class Operations:
    """ASGI middleware, to be the outermost.

    Args:
        known: The names that ``/metrics`` answers to.
    """

    def __init__(self, app: Any, playground: Playground, known: Hosts) -> None:
        self._app, self._playground, self._hosts = app, playground, known
        self._metrics = playground.meter()
        self._key = playground.settings.metrics_key.encode()
        self._guesses = Guesses(playground.settings.limits.max_wrong_passwords, playground.refused)
        # A thread of its own: it has to answer while all others wait for a disk or a lock.
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="operations")
        self._threads.submit(int)  # it is there before there is no room for one
        self._looking: dict[str, Future[Any]] = {}

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send = with_headers(send)
        if scope["path"] in OPERATIONS:
            await (await self._answer(Request(scope)))(scope, receive, send)
            return
        route = next((name for path, name in ROUTES if path.fullmatch(scope["path"])), "other")
        status = 499  # the client left before anything was said

        async def sent(message: dict[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, sent)
        except Exception:
            status = 500
            raise
        finally:
            self._metrics.requested(route, status)

    async def _answer(self, request: Request) -> Response:
        if request.method not in ("GET", "HEAD"):
            return Response(status_code=405, headers={"allow": "GET, HEAD"})
        path = request.scope["path"]
        if path == HEALTH:
            return JSONResponse({"status": "ok"}, headers=NO_STORE)
        if path == READY:
            state = await self._look(path, self._playground.readiness)
            return JSONResponse(state.to_json(), 200 if state.ready else 503, NO_STORE)
        if refused := self._refused(request):
            return refused
        return Response(await self._look(path, self._metrics.text), media_type=CONTENT_TYPE, headers=NO_STORE)

    async def _look(self, path: str, call: Callable[[], Found]) -> Found:
        """What ``call`` finds; who asks while it looks is told the same, so that a flood of requests is one look."""
        looking = self._looking.get(path)
        if looking is None or looking.done():
            looking = self._looking[path] = self._threads.submit(call)
        found: Found = await asyncio.shield(asyncio.wrap_future(looking))
        return found

    def _refused(self, request: Request) -> Response | None:
        """Why metrics are not told; None where they are."""
        if not self._key:
            host = request.headers.get("host", "")
            if self._playground.settings.strangers:
                words = msg(
                    "Metrics need a key where strangers come; whoever runs this app sets {setting}.", setting=KEY
                )
                return PlainTextResponse(f"{words}\n", 403)
            return None if self._hosts.answers(host) else PlainTextResponse(f"{hosts.refusal(host)}\n", 403)
        scheme, _, sent = request.headers.get("authorization", "").partition(" ")
        given = sent.strip().encode("utf-8", "replace") if scheme.lower() == "bearer" else b""
        address = whence(request.scope, behind_proxy=self._playground.settings.on_space)
        if given and not self._guesses.was_right(given, address):
            try:
                self._guesses.check(address)
            except Busy as busy:
                later = {"retry-after": str(math.ceil(busy.retry_after_s))}
                return PlainTextResponse(f"{busy.message}\n", 429, later)
        if hmac.compare_digest(self._key, given):
            self._guesses.right(given, address)
            return None
        if given:
            self._guesses.wrong(given, address)
        words = msg("Send the key as {header}.", header="Authorization: Bearer KEY")
        return PlainTextResponse(f"{words}\n", 401, {"www-authenticate": "Bearer"})
