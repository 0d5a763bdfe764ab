"""Signing in with Hugging Face, on a Space: OpenID Connect's code flow, by Authlib.

A visitor is led to the Hub and comes back with a code, for which the Hub says who they are. Of its answer the name and
the number of the account are kept, in a signed cookie; tokens that come with it are dropped there and then. Gradio's
own login would keep the token in its cookie, which browsers drop in the Hub's frame, and off a Space signs everybody in
as whoever's token lies on the server's disk. Nobody has to sign in: what it changes, ``service.audience`` knows.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from playground.messages import Translatable, msg
from playground.ui.html.login import failed_html
from playground.ui.visitors import HEADER, HUB

if TYPE_CHECKING:
    from playground.config.logins import HubLogin

COOKIE = "playground_login"
LASTS_S = 8 * 3600
"""Of being signed in: as long as the token that the Hub gives would."""
SCOPE = "openid profile"
"""Who they are, and nothing that they have."""
ASK_S = 10.0
"""For each answer of the Hub."""
REGISTERED = "huggingface"
BEGUN = f"_state_{REGISTERED}_"
"""How Authlib names what it keeps of the way that was begun last, in the cookie."""
WHO = "who"
LED = "led"
"""Says that the Space's first name was called already: a proxy may name the app otherwise to itself."""

_USERNAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_NUMBER = re.compile(r"[A-Za-z0-9_-]{1,64}")
log = logging.getLogger(__name__)


def middleware(secret: str) -> list[Middleware]:
    """What reads and writes the cookie, and tells the page who is signed in: before the visitors' own.

    Args:
        secret: What cookies are signed with; this one with a key of its own made of it.
    """
    key = hashlib.sha256(f"{COOKIE} {secret}".encode()).hexdigest()
    session = Middleware(
        SessionMiddleware,
        secret_key=key,
        session_cookie=COOKIE,
        max_age=LASTS_S,
        same_site="none",  # the page stands in a frame of the Hub's, with cookies of that frame's own
        https_only=True,
        partitioned=True,
    )
    return [session, Middleware(HubNames)]


class HubNames:
    """ASGI middleware: says of every request which account of the Hub it is from, if it is from one. What a browser
    sends under the header's name is dropped.
    """

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            headers = [(name, value) for name, value in scope["headers"] if name.lower() != HEADER.encode()]
            who = scope["session"].get(WHO)
            if who:
                headers.append((HEADER.encode(), f"{HUB}{who}".encode()))
            scope = {**scope, "headers": headers}
        await self.app(scope, receive, send)


class HubDoor:
    """The three addresses: to the Hub, back from it, and out.

    Args:
        given: What the Hub gave the Space.
    """

    def __init__(self, given: HubLogin) -> None:
        from authlib.integrations.starlette_client import OAuth  # with its cryptography, where it is needed alone

        self._host = given.host
        oauth = OAuth()
        oauth.register(
            name=REGISTERED,
            client_id=given.client_id,
            client_secret=given.client_secret,
            client_kwargs={"scope": SCOPE, "timeout": ASK_S},
            server_metadata_url=f"{given.provider}/.well-known/openid-configuration",
        )
        self._hub = oauth.create_client(REGISTERED)

    def routes(self) -> list[Route]:
        """To stand before gradio's own."""
        return [
            Route("/login/huggingface", self._begin, methods=["GET"]),
            Route("/login/callback", self._back, methods=["GET"]),
            Route("/logout", self._out, methods=["GET"]),
        ]

    async def _begin(self, request: Request) -> Response:
        """To the Hub, which leads back to the Space's first name alone: a cookie of another would be missing there."""
        if request.headers.get("host", "").lower() != self._host.lower() and LED not in request.query_params:
            return _to(f"https://{self._host}/login/huggingface?{LED}")
        try:
            led: Response = await self._hub.authorize_redirect(request, f"https://{self._host}/login/callback")
        except Exception as error:  # whatever the way to another host brings
            return self._failed(error)
        led.headers["cache-control"] = "no-store"
        return led

    async def _back(self, request: Request) -> Response:
        from authlib.integrations.base_client.errors import MismatchingStateError, OAuthError

        try:
            told = await self._hub.authorize_access_token(request)
        except MismatchingStateError:
            words = msg("This way of signing in was not begun in this browser, or too long ago. Sign in again.")
            return _said(words, 400)
        except OAuthError as error:
            if error.error == "access_denied":  # they thought better of it
                _forget_begun(request.session)
                return _to("/")
            return self._failed(error)
        except Exception as error:  # whatever the way to another host brings
            return self._failed(error)
        who = who_of(told.get("userinfo") or {})
        if not who:
            return _said(msg("Hugging Face did not say who you are. Sign in again."), 502)
        request.session.clear()  # the ways that were begun with the rest; of the tokens nothing was kept
        request.session[WHO] = who
        return _to("/")

    async def _out(self, request: Request) -> Response:
        request.session.clear()
        return _to("/")

    def _failed(self, error: Exception) -> Response:
        """The class alone is told: an error's words may hold a code or a token."""
        log.warning("Signing in with Hugging Face failed: %s", type(error).__name__)
        return _said(msg("Hugging Face could not be asked who you are. Try again in a moment."), 502)


def who_of(told: Mapping[str, Any]) -> str:
    """``NAME/NUMBER`` of an account: the number, which is nobody else's when a name is given up and taken again; empty
    where it is not both.

    Args:
        told: The claims of an ID token that was checked.
    """
    name, number = told.get("preferred_username"), told.get("sub")
    if not (isinstance(name, str) and _USERNAME.fullmatch(name)):
        return ""
    return f"{name}/{number}" if isinstance(number, str) and _NUMBER.fullmatch(number) else ""


def _forget_begun(session: Any) -> None:
    for name in [name for name in session if name.startswith(BEGUN)]:
        session.pop(name)


def _to(address: str) -> Response:
    return RedirectResponse(address, 303, {"cache-control": "no-store"})


def _said(words: Translatable, status: int) -> Response:
    return HTMLResponse(failed_html(words), status, {"cache-control": "no-store"})
