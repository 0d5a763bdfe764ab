"""What the web server lets in, as plain ASGI around gradio's app. Knows paths, headers and bodies, not the page.

gradio opens some sixty routes: for uploads, recordings, files, other sites' addresses, its own editor. The page and the
four endpoints of the API need those of ``ROUTES``, and of gradio's functions those of ``Doors``; nothing else answers.
What is sent is read here, up to a size, before gradio sees it: plain JSON values and no objects but the API's
messages and columns (``API_FIELDS``), because gradio takes an object with a ``path`` for a file and fetches it.

A request must call the app by a name of its own and, if a page sends it, come from the app's own page (``hosts``). The
functions of the page answer to the page alone. This keeps honest programs and other websites out; whoever writes the
headers by hand is not kept out, so each function checks what it is given as well (``offered``).

The headers of every answer keep pictures and fonts of other hosts off the page, whatever text a model or a card brings
(``policy``).
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from playground.config import hosts
from playground.config.hosts import Hosts
from playground.config.settings import Limits
from playground.messages import Translatable, msg, sentences
from playground.ui import policy, short

CALL_BYTES = Limits.max_call_bytes
"""Of a call's body. The longest text that the page sends is the reader's own scores (``choose.OWN_CHARS``)."""
SIGNAL_BYTES = 4_000
"""Of a body that only names a session and an event."""
API_FIELDS = frozenset(
    {
        *(
            "model",
            "prompt",
            "messages",
            "role",
            "content",
            "system",
            "max_new_tokens",
            "temperature",
            "top_k",
            "top_p",
        ),
        *("min_p", "repetition_penalty", "seed", "stop", "reuse"),
    }
)
"""Keys of the objects that the API takes: messages, and columns with parameters of their own. No ``path``, ``url`` or
``meta``: nothing here can be taken for a file."""
READ_S = 30.0
"""A body has arrived by then, or is dropped."""
READING = 32
"""Times a call's bytes: all bodies together that are arriving."""
READING_OF_ONE = 8
"""Times a call's bytes: those of one address. They are read before anybody signs in, and slow ones stay for READ_S."""

NOTHING = msg("There is nothing here.")
OTHERS = msg("This app takes no requests from other websites' pages.")

_NAME = r"[\w-]{1,64}"
ROUTES: tuple[tuple[str, str], ...] = (
    ("GET HEAD", r"/"),
    ("GET", r"/(?:assets|static)/.+"),
    ("GET", r"/(?:config|theme\.css|favicon\.ico|robots\.txt)"),
    ("GET", r"/gradio_api/(?:info|startup-events|app_id)"),
    ("GET", rf"/gradio_api/heartbeat/{_NAME}"),
    ("GET", r"/gradio_api/queue/data"),
    ("GET", rf"/gradio_api/call/(?:v2/)?{_NAME}/{_NAME}"),
    ("GET HEAD", rf"/export/{_NAME}\.(?:json|jsonl|csv|md|html|comparator)"),
    ("GET HEAD", rf"/export/{_NAME}/code"),
    ("GET", rf"/watch/{_NAME}"),
    ("GET", rf"/suite/{_NAME}/(?:view|row/\d{{1,7}})"),
    ("GET HEAD", rf"/export/suite/{_NAME}\.(?:json|jsonl|csv|xml|md|html|comparator)"),
    ("POST", r"/gradio_api/run/predict"),
    ("POST", r"/gradio_api/queue/join"),
    ("POST", rf"/gradio_api/call/(?:v2/)?{_NAME}"),
    ("POST", r"/gradio_api/cancel"),
)
"""Methods and paths that answer. A new one needs a reason: what it reads and what it may be sent."""

LOGIN_ROUTES: tuple[tuple[str, str], ...] = (("GET", r"/login/(?:huggingface|callback)"), ("GET", r"/logout"))
"""These answer where visitors sign in with Hugging Face, and nowhere else (``hub_login``)."""
INNER = ("/gradio_api/", "/config", "/watch/", "/suite/", "/logout")
"""What no other website's page asks for, nor leads to."""

_ROUTES = tuple((frozenset(methods.split()), re.compile(path)) for methods, path in ROUTES)
_LOGIN_ROUTES = tuple((frozenset(methods.split()), re.compile(path)) for methods, path in LOGIN_ROUTES)


@dataclass(frozen=True)
class Doors:
    """The functions of gradio's app that may be called, by number.

    Attributes:
        direct: Functions of the page that answer at once.
        queued: Functions of the page that wait their turn.
        public: The endpoints of the API, number by name.
    """

    direct: frozenset[int] = frozenset()
    queued: frozenset[int] = frozenset()
    public: Mapping[str, int] | None = None


class Refused(Exception):
    """A request that is not let in.

    Args:
        status: Of HTTP.
        words: What the answer says.
    """

    def __init__(self, status: int, words: Translatable) -> None:
        super().__init__(words)
        self.status = status
        self.words = words


class Guard:
    """ASGI middleware: lets in what is named above and answers everything else with the reason.

    Args:
        known: The names that the app answers to.
        frames: Websites that may show it in a frame.
        login: Whether visitors sign in with Hugging Face.
        call_bytes: Of a call's body.
        whence: The address that a request came from; without it, none has a bound of its own.
    """

    def __init__(
        self,
        app: Any,
        known: Hosts,
        doors: Doors,
        frames: Sequence[str] = (),
        *,
        login: bool = False,
        call_bytes: int = CALL_BYTES,
        whence: Callable[[dict[str, Any]], str] | None = None,
    ) -> None:
        self.app = app
        self._whence = whence
        self._login, self._most = login, call_bytes
        self._headers = policy.headers(frames)
        self._hosts = known
        self._doors = doors
        self._public = dict(doors.public or {})
        self._reading: Counter[str] = Counter()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # the page uses no web sockets
            await send({"type": "websocket.close", "code": 1008})
            return

        async def with_headers(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                if message["status"] == 500 and scope["path"] == "/gradio_api/run/predict":
                    message["status"] = 422  # gradio's word for whatever a function could not answer (``failures``)
                message["headers"] = [*message.get("headers", ()), *self._headers]
            await send(message)

        headers = _headers(scope)
        try:
            from_page = self._sender(scope, headers)
            _check_route(scope, login=self._login)
            if scope["method"] == "POST":
                receive = await self._checked(scope, headers, receive, from_page=from_page)
        except Refused as refused:
            language = ",".join(headers.get("accept-language", ()))
            await short.answer(with_headers, refused.status, refused.words, language)
            return
        await self.app({**scope, "headers": self._believed(scope)}, receive, with_headers)

    def _believed(self, scope: dict[str, Any]) -> list[tuple[bytes, bytes]]:
        """The headers of a request without those from which gradio would take another address for its own, and write
        it into the page; a proxy may name the app as its owner did.
        """
        return [
            (name, value)
            for name, value in scope["headers"]
            if name.lower() != b"x-gradio-server"
            and (name.lower() != b"x-forwarded-host" or self._hosts.named(value.decode("latin-1")))
        ]

    def _sender(self, scope: dict[str, Any], headers: dict[str, list[str]]) -> bool:
        """Whether the app's own page sends this, as far as headers tell.

        Raises:
            Refused: It is sent to another name, or by another site's page.
        """
        called = headers.get("host", [])
        host = called[0] if len(called) == 1 else ""
        if not self._hosts.answers(host):
            raise Refused(403, hosts.refusal(host))
        origins, came = headers.get("origin", []), headers.get("sec-fetch-site", ["none"])[0]
        if any(not self._hosts.same_site(origin, host) for origin in origins):
            proxy = msg(
                "Behind a proxy, whoever runs this app sets {setting} to the name that browsers use.",
                setting=hosts.SETTING,
            )
            raise Refused(403, sentences(OTHERS, proxy))
        inner = scope["path"].startswith(INNER)
        if inner and came not in ("same-origin", "none"):
            raise Refused(403, OTHERS)
        return bool(origins) or came == "same-origin"

    async def _checked(
        self, scope: dict[str, Any], headers: dict[str, list[str]], receive: Any, *, from_page: bool
    ) -> Any:
        """Read and check what is sent; returns a ``receive`` that gives it once more.

        Raises:
            Refused: It is too large, too slow, no JSON, or asks for what is not offered.
        """
        kind = headers.get("content-type", [""])[0].partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Refused(415, msg("Send JSON, with Content-Type: application/json."))
        path = scope["path"]
        most = SIGNAL_BYTES if path.endswith("/cancel") else self._most
        body = await self._read(headers, receive, most, self._whence(scope) if self._whence else "")
        try:
            sent = json.loads(body)
        except (ValueError, RecursionError):
            raise Refused(400, msg("The body is not JSON.")) from None
        _check_plain(sent, API_FIELDS if self._is_public(path, sent) else frozenset())
        if not path.endswith("/cancel"):
            self._check_function(path, sent, from_page=from_page)
        if b"\\u" in body or not body.isascii():  # halves of surrogate pairs are no text that could be answered in
            body = json.dumps(sent, ensure_ascii=False).encode("utf-8", "replace")
        given = False

        async def again() -> dict[str, Any]:
            nonlocal given
            if given:
                message: dict[str, Any] = await receive()
                return message
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        return again

    async def _read(self, headers: dict[str, list[str]], receive: Any, most: int, address: str = "") -> bytes:
        too_large = Refused(413, msg("The body is larger than {most:,} bytes.", most=most))
        length = headers.get("content-length", ["0"])[0]
        if not length.isdecimal() or int(length) > most:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(READ_S):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Refused(400, msg("The body was cut."))
                    part = message.get("body", b"")
                    if len(body) + len(part) > most:
                        raise too_large
                    if self._too_much(address, len(part)):
                        raise Refused(503, msg("Too much is being sent at once. Try again."))
                    body += part
                    self._reading[address] += len(part)
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            raise Refused(408, msg("The body took longer than {read_s:.0f} s.", read_s=READ_S)) from None
        finally:
            self._reading[address] -= len(body)
            if self._reading[address] <= 0:
                del self._reading[address]

    def _too_much(self, address: str, more: int) -> bool:
        """Whether so many bytes more would pass what arrives at once, of all or of one address."""
        own = self._reading[address] + more > READING_OF_ONE * self._most
        return bool(address and own) or self._reading.total() + more > READING * self._most

    def _is_public(self, path: str, sent: Any) -> bool:
        """Whether an endpoint of the API is called."""
        if "/call/" in path:
            return True
        number = sent.get("fn_index") if isinstance(sent, dict) else None
        return path.endswith("/join") and type(number) is int and number in self._public.values()

    def _check_function(self, path: str, sent: dict[str, Any], *, from_page: bool) -> None:
        """Hold what is called against what may be.

        Raises:
            Refused: No such door, or one that opens for the page alone.
        """
        nothing = Refused(404, msg("There is no such function."))
        if "/call/" in path:  # by name; the number is gradio's to find
            if path.rpartition("/")[2] not in self._public or "fn_index" in sent:
                raise nothing
            return
        number = sent.get("fn_index")
        if type(number) is not int:
            raise nothing
        if path.endswith("/join") and number in self._public.values():
            return
        if number not in (self._doors.queued if path.endswith("/join") else self._doors.direct):
            raise nothing
        if not from_page:
            names = [f"/{name}" for name in self._public]
            raise Refused(403, msg("This function is the page's own. Programs may call {names}.", names=names))


def _headers(scope: dict[str, Any]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return found


def _check_route(scope: dict[str, Any], *, login: bool = False) -> None:
    for methods, path in (*_ROUTES, *(_LOGIN_ROUTES if login else ())):
        if scope["method"] in methods and path.fullmatch(scope["path"]):
            return
    raise Refused(404, NOTHING)


def _check_plain(sent: Any, names: frozenset[str]) -> None:
    """Hold a body against what the page and the API send: texts, numbers, lists of them, names of sessions and events.

    ``event_data`` may be one flat object (gradio's own, of which tab was opened); it is never taken for a value.

    Args:
        names: The keys that objects among the values may have; without any, there may be no objects.

    Raises:
        Refused: There is an object among the values, or a name that is none.
    """
    if not isinstance(sent, dict):
        raise Refused(400, msg("The body is not a JSON object."))
    for name in ("session_hash", "event_id"):
        value = sent.get(name)
        if value is not None and not (isinstance(value, str) and re.fullmatch(_NAME, value, re.ASCII)):
            raise Refused(400, msg("{name} is not a name of letters, digits and dashes.", name=name))
    about = sent.get("event_data")
    flat = list(about.values()) if isinstance(about, dict) else about
    waiting = [flat, *(value for name, value in sent.items() if name != "event_data")]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if not (value and value.keys() <= names):
                raise Refused(
                    400, msg("Send texts, numbers and lists: this app takes no files, addresses or other objects.")
                )
            waiting.extend(value.values())
        if isinstance(value, list):
            waiting.extend(value)
