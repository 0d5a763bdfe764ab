"""Files of stored comparisons and measurements over HTTP: ``/export/ID.json`` and its kin, and ``/export/ID/code``.

Plain answers beside gradio's own. An id is a secret of 128 random bits: who has it may read it, as on the page. What
waits for its blind vote is refused, because a file names its models.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from playground.errors import PlaygroundError, UsageError
from playground.messages import Translatable, msg
from playground.records import Comparison
from playground.results.export_files import MEDIA, Document, file_name, text_of
from playground.ui.html.code import code_page
from playground.ui.html.page_export import POLICY, page_html
from playground.ui.i18n import say

if TYPE_CHECKING:
    from playground.service import Playground

_KEEP_NOTHING = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "X-Robots-Tag": "noindex"}
_BOM = "\ufeff"
"""Spreadsheets take a CSV without it for the old encoding of the reader's country."""


class NotHere(Exception):
    """There is no such file for this visitor: a status and what to say."""

    def __init__(self, status: int, words: Translatable) -> None:
        super().__init__(words)
        self.status, self.words = status, words


def routes(playground: Playground) -> list[Route]:
    """To stand before gradio's own."""

    async def file(request: Request) -> Response:
        id, ending = request.path_params["id"], request.path_params["ending"]
        return await _answered(asyncio.to_thread(_file, playground, id, ending))

    async def code(request: Request) -> Response:
        return await _answered(asyncio.to_thread(_code, playground, request.path_params["id"], base_of(request)))

    return [Route("/export/{id}.{ending}", file), Route("/export/{id}/code", code)]


def base_of(request: Request) -> str:
    """Where the reader reaches this app: a proxy before it speaks for the part it changes. The host was checked."""
    proto = request.headers.get("x-forwarded-proto", request.url.scheme).partition(",")[0].strip()
    return f"{proto if proto in ('http', 'https') else request.url.scheme}://{request.headers.get('host', '')}"


async def _answered(work: Awaitable[Response]) -> Response:
    try:
        return await work
    except NotHere as refused:
        return PlainTextResponse(say(refused.words) + "\n", refused.status, _KEEP_NOTHING)
    except UsageError as refused:  # a format that does not go with this document
        return PlainTextResponse(say(refused.message) + "\n", 404, _KEEP_NOTHING)
    except PlaygroundError as error:
        return PlainTextResponse(say(error.message) + "\n", 500, _KEEP_NOTHING)


def _file(playground: Playground, id: str, ending: str) -> Response:
    if ending not in MEDIA:
        raise NotHere(404, msg("There are no such files; there are {endings}.", endings=list(MEDIA)))
    document = _stored(playground, id)
    # Whose vote it is, an address does not know; where strangers come, the file has none.
    vote = playground.vote_on(id) if ending == "comparator" and playground.voted(id, "") else None
    text = page_html(document) if ending == "html" else text_of(document, ending, say, vote)
    headers = {**_KEEP_NOTHING, "Content-Disposition": f'attachment; filename="{file_name(document, ending)}"'}
    if ending == "html":
        headers["Content-Security-Policy"] = POLICY
    body = (_BOM + text if ending == "csv" else text).encode("utf-8", "replace")
    return Response(body, headers=headers, media_type=MEDIA[ending])


def _code(playground: Playground, id: str, base: str) -> Response:
    document = _stored(playground, id)
    if not isinstance(document, Comparison):
        raise NotHere(404, msg("There is code for comparisons alone."))
    served = [entry.spec.id for entry in playground.served()]
    headers = {**_KEEP_NOTHING, "Content-Security-Policy": POLICY}
    return Response(code_page(document, base, served), headers=headers, media_type=MEDIA["html"])


def _stored(playground: Playground, id: str) -> Document:
    """What is kept under this id, as whoever asks is told it.

    Raises:
        NotHere: Nothing is, or it may not be read yet.
    """
    if playground.blind(id):
        raise NotHere(403, msg("This comparison waits for its blind vote: vote first, then save it."))
    found: Document | None = playground.comparison(id) or playground.measurement(id)
    if found is None:
        raise NotHere(404, msg("Nothing is kept under this id: it was deleted, or its time is over."))
    return playground.all_told(found)
