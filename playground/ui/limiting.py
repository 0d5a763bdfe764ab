"""How often a visitor may call, and where they come from: plain ASGI behind the middleware that says who they are."""

from __future__ import annotations

import base64
import hmac
import ipaddress
import math
import re
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from playground.errors import Busy
from playground.messages import msg
from playground.ui import short
from playground.ui.pages import ADDRESS, Pages
from playground.ui.visitors import HEADER, UNKNOWN

if TYPE_CHECKING:
    from playground.service import Playground

_CALL = re.compile(r"/gradio_api/call/(?:v2/)?[\w-]+/([\w-]+)")
_QUEUED = re.compile(r"/gradio_api/(?:queue/join|call/.+)")
STARTING = "/gradio_api/startup-events"
"""Gradio asks this of itself, without a password, and does not start where it is refused. It starts the queue, once,
and says no more than whether it did."""


class Limiting:
    """ASGI middleware: counts calls, says who listens for answers, and when to try again.

    Args:
        pages: Told who listens; None where gradio's queue is as it was.
    """

    def __init__(self, app: Any, playground: Playground, pages: Pages | None = None) -> None:
        self.app = app
        self._playground, self._settings = playground, playground.settings
        self._pages = pages

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        address = address_of(scope, headers.get("x-forwarded-for", ""), behind_proxy=self._settings.on_space)
        visitor = headers.get(HEADER, "")
        if visitor == UNKNOWN:
            visitor = f"address:{address}"
        self._playground.came_from(visitor, address)
        if scope["method"] == "POST" or scope["path"].startswith("/login/"):  # there the app asks another host
            try:
                self._playground.count_call(visitor)
            except Busy as busy:
                language, wait_s = headers.get("accept-language", ""), busy.retry_after_s
                await short.answer(send, 429, busy.message, language, retry_after_s=wait_s, as_json=True)
                return
        queued = scope["method"] == "POST" and _QUEUED.fullmatch(scope["path"]) is not None

        async def told(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start" and message["status"] in (429, 503):
                has = any(name.lower() == b"retry-after" for name, _ in message.get("headers", ()))
                wait_s = math.ceil(self._playground.try_again()[0])
                later = [] if has else [(b"retry-after", str(wait_s).encode())]
                # Gradio says 503 where its queue is full, for which its page has words of its own.
                status = 429 if queued else message["status"]
                message = {**message, "status": status, "headers": [*message.get("headers", ()), *later]}
            await send(message)

        with ExitStack() as open_:
            if self._pages and scope["method"] == "GET":
                called = _CALL.fullmatch(scope["path"])
                if called:
                    open_.enter_context(self._pages.listening("", called[1]))
                elif scope["path"] == "/gradio_api/queue/data":
                    session = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("session_hash", [""])[0]
                    open_.enter_context(self._pages.listening(session))
            await self.app({**scope, ADDRESS: address}, receive, told)


class SigningIn:
    """ASGI middleware: lets in who sends a name and a password that were set, by HTTP's own way (RFC 7617), and tells
    the page who they are. Passwords are compared in constant time and never written down.

    Args:
        users: Names and passwords.
    """

    def __init__(self, app: Any, users: Sequence[tuple[str, str]]) -> None:
        self.app = app
        self._users = [(name, f"{name}:{password}".encode()) for name, password in users]

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        sent = [value for name, value in scope["headers"] if name.lower() == b"authorization"]
        name = self._name(sent[0] if len(sent) == 1 else b"")
        if not name and scope["path"] != STARTING:
            words = msg("Sign in with the name and the password that you were given.")
            language = next((v.decode("latin-1") for n, v in scope["headers"] if n.lower() == b"accept-language"), "")
            asks = [(b"www-authenticate", b'Basic realm="Open-Model Playground", charset="UTF-8"')]
            await short.answer(send, 401, words, language, headers=asks)
            return
        rest = [
            (key, value) for key, value in scope["headers"] if key.lower() not in (b"authorization", HEADER.encode())
        ]
        who = [(HEADER.encode(), f"login:{name}".encode())] if name else []
        await self.app({**scope, "headers": [*rest, *who]}, receive, send)

    def _name(self, sent: bytes) -> str:
        scheme, _, coded = sent.partition(b" ")
        try:
            given = base64.b64decode(coded.strip(), validate=True) if scheme.lower() == b"basic" else b""
        except ValueError:
            given = b""
        found = ""
        for name, expected in self._users:  # all of them, so that the time tells nothing
            found = name if hmac.compare_digest(expected, given) else found
        return found


def whence(scope: dict[str, Any], *, behind_proxy: bool) -> str:
    """``address_of`` a request whose headers nobody has read yet."""
    sent = [value.decode("latin-1") for name, value in scope["headers"] if name.lower() == b"x-forwarded-for"]
    return address_of(scope, sent[-1] if sent else "", behind_proxy=behind_proxy)


def address_of(scope: dict[str, Any], forwarded: str, *, behind_proxy: bool) -> str:
    """Where a request came from. Behind a Space's proxy it is the last public address that proxies wrote down: what
    stands before it anybody can write. Elsewhere uvicorn knows which proxies to believe (FORWARDED_ALLOW_IPS). Of IPv6
    the network counts, as whoever has one address has them all.
    """
    client = scope.get("client")
    found = client[0] if client else ""
    if behind_proxy:
        found = next((each for each in reversed(forwarded.replace(" ", "").split(",")) if _is_public(each)), found)
    try:
        ip = ipaddress.ip_address(found)
    except ValueError:
        return found[:64]
    return str(ip) if ip.version == 4 else str(ipaddress.ip_network(f"{ip}/64", strict=False))


def _is_public(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_global
    except ValueError:
        return False
