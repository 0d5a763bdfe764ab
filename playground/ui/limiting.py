"""How often a visitor may call, and where they come from: plain ASGI behind the middleware that says who they are."""

from __future__ import annotations

import logging
import math
import re
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from playground.errors import Busy
from playground.messages import msg
from playground.service.addresses import whence
from playground.ui import i18n, short
from playground.ui.pages import ADDRESS, Pages
from playground.ui.visitors import HEADER, UNKNOWN

if TYPE_CHECKING:
    from playground.service import Playground
    from playground.service.limiter import Kind

_CALL = re.compile(r"/gradio_api/call/(?:v2/)?[\w-]+/([\w-]+)")
_QUEUED = re.compile(r"/gradio_api/(?:queue/join|call/.+)")
_PAGE = re.compile(r"/(?:config)?|/gradio_api/info")
_FREE = re.compile(
    r"/(?:assets|static)/.+|/(?:theme\.css|favicon\.ico|robots\.txt)|/gradio_api/(?:startup-events|app_id)"
)
DATA = "/gradio_api/queue/data"
NOBODYS = msg("Nothing was asked for under this name, or its answer was not fetched in time. Ask again.")

log = logging.getLogger(__name__)


def counted(method: str, path: str) -> Kind | None:
    """Under what a request of the page's side is counted, by visitor and by address; None where it is not.

    What is sent is a call, and so is signing in with the Hub, which is asked for it. The page, its configuration and
    its description are the largest answers there are, and made anew for each request. Everything else that is asked
    for is a read: streams of answers, heartbeats, rows of suites, files of comparisons. Not counted are files of the
    package, which browsers keep and no function makes, and two constants that gradio's page asks for; how many are
    fetched at the same time is bounded (``api.crowd``). A route that is new is a read until it is named here.
    """
    if method == "POST" or path.startswith("/login/"):
        return "calls"
    if _PAGE.fullmatch(path):
        return "page_loads"
    return None if _FREE.fullmatch(path) else "reads"


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
        address = whence(scope, behind_proxy=self._settings.on_space)
        visitor, posted = headers.get(HEADER, ""), scope["method"] == "POST"
        if visitor == UNKNOWN:
            visitor = f"address:{address}"
        kind = counted(scope["method"], scope["path"])
        if kind:
            try:
                self._playground.count(kind, visitor, address)
            except Busy as busy:
                language, wait_s = i18n.wanted(headers), busy.retry_after_s
                await short.answer(send, 429, busy.message, language, retry_after_s=wait_s, as_json=posted)
                return
            self._playground.came_from(visitor, address)  # not of a file, nor of what was refused
        queued = posted and _QUEUED.fullmatch(scope["path"]) is not None

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
            if self._pages and scope["method"] == "GET" and (asked := _stream(scope)):
                session, event = asked
                if not self._pages.has(session, event):  # gradio would begin a stream and break it off with a traceback
                    log.info("a stream of answers was asked for that nobody waits for")
                    await short.answer(send, 404, NOBODYS, i18n.wanted(headers))
                    return
                open_.enter_context(self._pages.listening(session, event))
            await self.app({**scope, ADDRESS: address}, receive, told)


def _stream(scope: dict[str, Any]) -> tuple[str, str] | None:
    """The session or the event whose answers are asked for; None where it is another request."""
    if called := _CALL.fullmatch(scope["path"]):
        return "", called[1]
    if scope["path"] != DATA:
        return None
    return parse_qs(scope.get("query_string", b"").decode("latin-1")).get("session_hash", [""])[0], ""
