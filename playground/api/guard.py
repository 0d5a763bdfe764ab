"""Who may ask, and what is read of what is sent: keys, names, sizes, times.

With keys, whoever has one may ask by any name; wrong ones are counted (``service.guesses``). Without, a request has to
call this server by a name of its own and may come from no other website's page: what a browser does for a stranger's
page, it does not do here. The module knows headers and bodies; it does not know models.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request

from playground.api.errors import ApiError
from playground.config import hosts
from playground.config.hosts import Hosts
from playground.config.settings import Limits
from playground.messages import msg, sentences
from playground.service.addresses import whence
from playground.service.guesses import Guesses

BODY_BYTES = Limits.max_api_call_bytes
"""Of one request: a thousand texts of a thousand tokens, as numbers."""
READ_S = 30.0
"""A body has arrived by then, or is dropped."""
READING = 8
"""Times a body's bytes: all bodies together that are arriving."""
READING_EACH = 2
"""Those of one caller: slow ones leave room for the others'."""


class Guard:
    """
    Args:
        keys: One of them has to be sent, where there are any.
        known: The names that the server answers to.
        body_bytes: Of one request.
        keys_alone: Whether nobody may ask without a key, not even where there are none.
        guesses: Counts wrong keys; without it none are.
        behind_proxy: Whether addresses are those that a Space's proxy writes down.
    """

    def __init__(
        self,
        keys: Sequence[str],
        known: Hosts,
        body_bytes: int = BODY_BYTES,
        *,
        keys_alone: bool = False,
        guesses: Guesses | None = None,
        behind_proxy: bool = False,
    ) -> None:
        self._guesses, self._behind_proxy = guesses or Guesses(None), behind_proxy
        self._keys_alone = keys_alone
        self._most = body_bytes
        self._keys = tuple(key.encode() for key in keys)
        self._hosts = known
        self._reading: Counter[str] = Counter()

    def caller(self, request: Request) -> str:
        """Who asks: a word for one key, or for one address.

        Raises:
            ApiError: They may not.
            Busy: Too many wrong keys came from there.
        """
        if self._keys:
            return self._by_key(request)
        if self._keys_alone:
            what = msg("This app asks people for a name and a password, and programs for a key: none was given out.")
            step = msg("Whoever runs it sets PLAYGROUND_API_KEYS.")
            raise ApiError(401, sentences(what, step), code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})
        host = request.headers.get("host", "")
        if not self._hosts.answers(host):
            raise ApiError(403, hosts.refusal(host), code="unknown_host")
        origin = request.headers.get("origin")
        other_site = request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
        if other_site or (origin is not None and not self._hosts.same_site(origin, host)):
            raise ApiError(403, msg("This server takes no requests from other websites' pages."), code="other_site")
        return f"address:{self._address(request)}"

    def _address(self, request: Request) -> str:
        return whence(request.scope, behind_proxy=self._behind_proxy)

    def _by_key(self, request: Request) -> str:
        scheme, _, sent = request.headers.get("authorization", "").partition(" ")
        given = sent.strip().encode("utf-8", "replace") if scheme.lower() == "bearer" else b""
        address = self._address(request)
        if given and not self._guesses.was_right(given, address):
            self._guesses.check(address)
        found = 0
        for key in self._keys:  # all of them, so that the time tells nothing
            found |= hmac.compare_digest(key, given)
        if given and not found:
            self._guesses.wrong(given, address)
        if not found:
            what = msg("The API key is wrong.") if given else msg("An API key is missing.")
            step = msg("Send it as {header}.", header="Authorization: Bearer KEY")
            headers = {"WWW-Authenticate": "Bearer"}
            raise ApiError(401, sentences(what, step), code="invalid_api_key", headers=headers)
        self._guesses.right(given, address)
        return f"key:{hashlib.sha256(given).hexdigest()[:16]}"

    async def json(self, request: Request, caller: str = "") -> dict[str, Any]:
        """The JSON object that was sent.

        Args:
            caller: Who sends it.

        Raises:
            ApiError: It is none, or too large, or too slow.
            ClientDisconnect: Only a part of it came.
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise ApiError(415, msg("Send JSON, with Content-Type: application/json."))
        body = await self._body(request, caller)
        try:
            sent = json.loads(body, parse_constant=_no_number)
        except (ValueError, RecursionError):
            raise ApiError(400, msg("The body is not JSON.")) from None
        if not isinstance(sent, dict):
            raise ApiError(400, msg("The body is not a JSON object."))
        return sent

    async def _body(self, request: Request, caller: str) -> bytes:
        too_large = ApiError(413, msg("The body is larger than {most:,} bytes.", most=self._most))
        length = request.headers.get("content-length", "0")
        if not (length.isascii() and length.isdecimal()) or len(length) > 12 or int(length) > self._most:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(READ_S):
                async for part in request.stream():
                    if len(body) + len(part) > self._most:
                        raise too_large
                    mine, all_ = self._reading[caller] + len(part), self._reading.total() + len(part)
                    if mine > READING_EACH * self._most or all_ > READING * self._most:
                        raise ApiError(503, msg("Too much is being sent at once. Try again."))
                    body += part
                    self._reading[caller] += len(part)
            return bytes(body)
        except TimeoutError:
            raise ApiError(408, msg("The body took longer than {read_s:.0f} s.", read_s=READ_S)) from None
        finally:
            self._reading -= Counter({caller: len(body)})  # what is at 0 is dropped


def _no_number(name: str) -> float:
    raise ValueError(name)
