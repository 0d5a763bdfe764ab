"""Who a visitor is where strangers share an app: a random name in a signed cookie, so that each sees their own history.

The cookie holds no more than the name. The middleware ``Visitors`` reads and sets it; the page's functions ask
``visitor`` and never see a cookie. A cookie that was forged, cut or signed with another secret is as good as none. A
browser that keeps no cookies has the tab's name instead: its history lasts as long as the tab.

On one's own machine nobody is asked who they are.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import secrets
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock
from itsdangerous import BadSignature, Signer

if TYPE_CHECKING:
    import gradio as gr

    from playground.config.settings import Settings

COOKIE = "playground_visitor"
HEADER = "x-playground-visitor"
"""How the middleware tells the page who is asking. What a browser sends under this name is dropped."""
UNKNOWN = "unknown"
HUB = "login:hf/"
"""How the name of a visitor begins who is signed in with Hugging Face; their account's name and its number follow. No
name of PLAYGROUND_USERS has a slash, so neither kind can be the other.
"""
LASTS_S = 180 * 24 * 3600
"""Of the cookie, since the page was last opened."""
SECRET_FILE = "visitors.secret"
SECRET_CHARS = 32
"""One in the file that is shorter was cut."""
LOCK_S = 10.0

_NAME = re.compile(r"[\w-]{22}", re.ASCII)
log = logging.getLogger(__name__)


def visitor(request: gr.Request) -> str:
    """Whoever sent this event; empty on one's own machine, where everything is everybody's.

    A name that somebody logged in with, if the app asks for one, is theirs in every browser.
    """
    return name_of(request.headers, request.session_hash or "", request.username)


def name_of(headers: Mapping[str, str], tab: str, username: str | None = None) -> str:
    """As ``visitor``, of a request that is no event.

    Args:
        tab: Gradio's name of the tab.
    """
    if username:
        return f"login:{username}"
    name = str(headers.get(HEADER) or "")
    if name != UNKNOWN:
        return name
    return f"tab:{hashlib.sha256(tab.encode()).hexdigest()[:32]}" if tab else ""


def account_of(name: str) -> str:
    """The account of the Hub that a visitor is signed in with; empty for any other visitor."""
    return name.removeprefix(HUB).partition("/")[0] if name.startswith(HUB) else ""


class Visitors:
    """ASGI middleware: sets the cookie with the page, and says with every request whose it is.

    Args:
        secret: What cookies are signed with; None where nobody is asked who they are.
        signed_in: Whether a middleware before this one finds out who asks, if they are signed in, and drops what the
            browser sent.
    """

    def __init__(self, app: Any, secret: str | None, *, signed_in: bool = False) -> None:
        self.app = app
        self._signed_in = signed_in
        self._signer = Signer(secret, salt=COOKIE, digest_method=hashlib.sha256) if secret else None

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        told = [value for name, value in scope["headers"] if name.lower() == HEADER.encode()]
        headers = [(name, value) for name, value in scope["headers"] if name.lower() != HEADER.encode()]
        if self._signed_in and len(told) == 1:
            await self.app(scope, receive, send)
            return
        if self._signer is None:
            await self.app({**scope, "headers": headers}, receive, send)
            return
        name = self._name(self._signer, headers)
        if scope["path"] == "/" and scope["method"] == "GET":  # the page: a cookie set there is sent with its events
            name = name or secrets.token_urlsafe(16)
            send = with_cookie(send, COOKIE, self._signer.sign(name).decode(), scope)
        told = [*headers, (HEADER.encode(), (name or UNKNOWN).encode())]
        await self.app({**scope, "headers": told}, receive, send)

    @staticmethod
    def _name(signer: Signer, headers: list[tuple[bytes, bytes]]) -> str:
        """The visitor's name, if a cookie has one with our signature (compared in constant time)."""
        for value in sent_cookies(headers, COOKIE):
            try:
                found = signer.unsign(value).decode("ascii", "replace")
            except BadSignature:
                continue
            if _NAME.fullmatch(found):
                return found
        return ""


def secret_of(settings: Settings) -> str | None:
    """What the cookies of this app are signed with; None on one's own machine.

    It is made once and kept under PLAYGROUND_HOME, for its owner alone to read; several replicas share that of
    PLAYGROUND_SECRET. Where neither works, cookies are good until the app ends.
    """
    if not settings.strangers:
        return None
    if settings.secret:
        return settings.secret
    try:
        return _kept(settings.home / SECRET_FILE)
    except OSError as error:
        log.warning(
            "The secret that visitors' cookies are signed with can't be kept in %s (%s): everybody's history is out of "
            "sight after a restart. Set PLAYGROUND_SECRET, or PLAYGROUND_HOME to a folder that can be written.",
            settings.home,
            error.strerror or error,
        )
        return secrets.token_urlsafe(SECRET_CHARS)


def _kept(path: Path) -> str:
    """The secret in ``path``, which is made whole or not at all; one process makes it, and others that start at the
    same time wait and read it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock", timeout=LOCK_S):
        found = path.read_text(encoding="ascii", errors="replace").strip() if path.exists() else ""
        if len(found) >= SECRET_CHARS:
            path.chmod(0o600)
            return found
        handle, made = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # 0600 from its first moment
        try:
            with os.fdopen(handle, "w", encoding="ascii") as file:
                secret = secrets.token_urlsafe(SECRET_CHARS)
                file.write(secret)
            Path(made).replace(path)
        finally:
            Path(made).unlink(missing_ok=True)
        return secret


def sent_cookies(headers: Iterable[tuple[bytes, bytes]], name: str) -> Iterator[bytes]:
    """What a browser sends as the cookie of this name, which may be several."""
    sent = b";".join(value for key, value in headers if key.lower() == b"cookie")
    for each in sent.split(b";"):
        key, _, value = each.strip().partition(b"=")
        if key == name.encode():
            yield value.strip()


def _is_https(scope: dict[str, Any], headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether the browser asked by https; in front of a Space, and of most servers, a proxy did."""
    sent = [value for name, value in headers if name.lower() == b"x-forwarded-proto"]
    return scope.get("scheme") == "https" or any(b.split(b",")[0].strip().lower() == b"https" for b in sent)


def with_cookie(send: Any, name: str, value: str, scope: dict[str, Any]) -> Any:
    """An ASGI ``send`` that sets a cookie. By https it is one of this page in that frame (a Space's page is shown
    inside of another site's, which keeps cookies apart for each of those); by http browsers take no such cookie.
    """
    secure = _is_https(scope, scope["headers"])
    where = "SameSite=None; Secure; Partitioned" if secure else "SameSite=Lax"
    cookie = f"{name}={value}; Path=/; Max-Age={LASTS_S}; HttpOnly; {where}"

    async def sending(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            headers = [*message.get("headers", ()), (b"set-cookie", cookie.encode())]
            if not any(key.lower() == b"cache-control" for key, _ in headers):
                headers.append((b"cache-control", b"private"))  # no cache gives one visitor's cookie to another
            message = {**message, "headers": headers}
        await send(message)

    return sending
