"""Who may open a page that asks for a name and a password: plain ASGI, in front of the middleware that names visitors.

Wrong passwords are counted (``service.guesses``). So that nobody is locked out by those of others, a browser that
signed in keeps a signed cookie for that name, and has a bound of its own from then on: "device cookies", as OWASP
describes them. The cookie opens nothing by itself, and a new password ends it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Sequence
from typing import Any

from itsdangerous import BadSignature, Signer

from playground.errors import Busy
from playground.messages import msg
from playground.service.guesses import Guesses
from playground.ui import i18n, short
from playground.ui.visitors import HEADER, sent_cookies, with_cookie

COOKIE = "playground_browser"
STARTING = "/gradio_api/startup-events"
"""Gradio asks this of itself, without a password, and does not start where it is refused. It starts the queue, once,
and says no more than whether it did."""
_NAME = re.compile(r"[\w-]{22}", re.ASCII)


class SigningIn:
    """ASGI middleware: lets in who sends a name and a password that were set, by HTTP's own way (RFC 7617), and tells
    the page who they are. Passwords are compared in constant time and never written down.

    Args:
        users: Names and passwords.
        guesses: Counts wrong ones.
        whence: The address that a request came from.
        secret: What cookies are signed with.
    """

    def __init__(
        self,
        app: Any,
        users: Sequence[tuple[str, str]],
        guesses: Guesses,
        whence: Callable[[dict[str, Any]], str],
        secret: str,
    ) -> None:
        self.app = app
        self._users = [(name, f"{name}:{password}".encode()) for name, password in users]
        self._guesses, self._whence = guesses, whence
        self._signers = {
            name: Signer(f"{secret} {password}", salt=f"{COOKIE} {name}", digest_method=hashlib.sha256)
            for name, password in users
        }

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        sent = [value for key, value in scope["headers"] if key.lower() == b"authorization"]
        given = _given(sent[0] if len(sent) == 1 else b"")
        try:
            name, browser = self._checked(scope, given) if given else ("", "")
        except Busy as busy:
            language, wait_s = i18n.wanted(headers), busy.retry_after_s
            await short.answer(send, 429, busy.message, language, retry_after_s=wait_s)
            return
        if not name and scope["path"] != STARTING:
            words = msg("Sign in with the name and the password that you were given.")
            asks = [(b"www-authenticate", b'Basic realm="Open-Model Playground", charset="UTF-8"')]
            await short.answer(send, 401, words, i18n.wanted(headers), headers=asks)
            return
        rest = [
            (key, value) for key, value in scope["headers"] if key.lower() not in (b"authorization", HEADER.encode())
        ]
        who = [(HEADER.encode(), f"login:{name}".encode())] if name else []
        if name and not browser and scope["path"] == "/" and scope["method"] == "GET":
            made = self._signers[name].sign(secrets.token_urlsafe(16)).decode()
            send = with_cookie(send, COOKIE, made, scope)
        await self.app({**scope, "headers": [*rest, *who]}, receive, send)

    def _checked(self, scope: dict[str, Any], given: bytes) -> tuple[str, str]:
        """Who it is, empty for a wrong password, and the name of their browser, empty for one that is not known.

        Raises:
            Busy: There were too many wrong ones to look at this one.
        """
        address = self._whence(scope)
        claimed = given.partition(b":")[0].decode("utf-8", "replace")
        browser = self._browser(scope, claimed)
        self._guesses.check(address, claimed, browser)
        found = ""
        for name, expected in self._users:  # all of them, so that the time tells nothing
            found = name if hmac.compare_digest(expected, given) else found
        if not found:
            self._guesses.wrong(given, address, claimed, browser)
        return found, browser

    def _browser(self, scope: dict[str, Any], claimed: str) -> str:
        """The name of the browser, if ``claimed`` signed in with it before (compared in constant time)."""
        signer = self._signers.get(claimed)
        for value in sent_cookies(scope["headers"], COOKIE) if signer else ():
            try:
                found = signer.unsign(value).decode("ascii", "replace") if signer else ""
            except BadSignature:
                continue
            if _NAME.fullmatch(found):
                return f"{claimed} {found}"
        return ""


def _given(sent: bytes) -> bytes:
    """``NAME:PASSWORD``; empty where that is not what was sent."""
    scheme, _, coded = sent.partition(b" ")
    try:
        return base64.b64decode(coded.strip(), validate=True) if scheme.lower() == b"basic" else b""
    except ValueError:
        return b""
