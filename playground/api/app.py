"""The door as an ASGI app: its routes, and how a call is answered, whole or as a stream.

It knows Starlette and everything in this package; what is behind the door, the service knows.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import unquote

from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from playground.api import chat, completions, errors, models, openapi, parameters, shapes, tokens
from playground.api.answering import Asker, Choice, Piece, answers
from playground.api.chat import ChatShape
from playground.api.completions import CompletionShape, Prompt
from playground.api.errors import ApiError
from playground.api.flow import Flow, Gone, leaving
from playground.api.guard import Guard
from playground.api.schema import ChatBody, CompletionBody, DetokenizeBody, TemplateBody, TokenizeBody
from playground.api.spelling import Spelling
from playground.config.hosts import Hosts
from playground.messages import foreign, msg
from playground.service.answers import MOST_HELD
from playground.service.guesses import Guesses
from playground.system.threads import Threads

if TYPE_CHECKING:
    from playground.service import Playground

HEAD_S = 5.0
"""An error within this time has a status of its own; then the stream begins, and says what becomes of it."""
BESIDE = 8
"""Requests, of one caller and of all, beside those in the queue of callers: their model is being prepared, or their
answer is not read."""
QUICK_THREADS = 8
ALIVE_S = 15.0
"""Between two signs of life of a stream that has nothing to say."""
STREAM = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-store", "x-accel-buffering": "no"}

Body = TypeVar("Body", bound=BaseModel)
Answer = TypeVar("Answer")
Item = Piece | Choice | Prompt


class Shape(Protocol):
    """How an answer is told."""

    def whole(self, choices: Sequence[Choice], more: dict[str, Any]) -> dict[str, Any]: ...

    def piece(self, choice: int, text: str) -> bytes: ...

    def ended(self, choice: Choice, more: dict[str, Any]) -> bytes: ...

    def usage(self, choices: Sequence[Choice]) -> bytes: ...


@dataclass(frozen=True)
class Job:
    """A call that was checked.

    Attributes:
        items: Makes what is answered.
        choices: How many there will be.
        stream, usage, store: What the body says of them.
    """

    items: Callable[[Asker], Iterator[Item]]
    shape: Shape
    choices: int
    stream: bool
    usage: bool
    store: bool = False


def create_api(
    playground: Playground, *, keys: Sequence[str] = (), hosts: Hosts, keys_alone: bool = False
) -> Starlette:
    """The door.

    Args:
        keys: One of them has to be sent, where there are any.
        hosts: The names that the server answers to, where there are none.
        keys_alone: Whether nobody may ask without a key, not even where there are none.
    """
    settings = playground.settings
    guard = Guard(
        keys,
        hosts,
        settings.limits.max_api_call_bytes,
        keys_alone=keys_alone,
        guesses=Guesses(settings.limits.max_wrong_passwords, playground.refused),
        behind_proxy=settings.on_space,
    )
    door = Door(playground, guard)

    async def refused(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        words = {404: msg("There is nothing here."), 405: msg("This address takes another method.")}
        headers = getattr(error, "headers", None)
        return ApiError(status, words.get(status, foreign(str(error))), code="not_found", headers=headers).response()

    return Starlette(routes=door.routes(), exception_handlers={HTTPException: refused})


class Door:
    """The endpoints of one server."""

    def __init__(self, playground: Playground, guard: Guard) -> None:
        self._playground, self._guard = playground, guard
        self._spelling = Spelling(lambda model, ids, left: playground.decoded(model, ids, cancelled=left))
        # A thread waits for each request that waits for a model; what is answered at once has threads of its own.
        most = playground.settings.limits.max_api_waiting_of_all + BESIDE
        self._waiting = Threads(most, "api-answer")
        self._quick = Threads(QUICK_THREADS, "api")
        self._under_way: Counter[str] = Counter()

    def routes(self) -> list[Route]:
        """Paths and what answers there."""
        post, get = ["POST"], ["GET"]
        return [
            Route("/", self._front, methods=get),
            Route("/health", self._health, methods=get),
            Route("/props", self._told(self._props), methods=get),
            Route("/tokenize", self._told(partial(self._ask, TokenizeBody, tokens.tokenize)), methods=post),
            Route("/detokenize", self._told(partial(self._ask, DetokenizeBody, tokens.detokenize)), methods=post),
            Route("/apply-template", self._told(partial(self._ask, TemplateBody, tokens.apply_template)), methods=post),
            Route("/v1/models", self._told(self._models), methods=get),
            Route("/v1/models/{name:path}", self._told(self._model), methods=get),
            Route("/v1/receipts/{id}", self._told(self._receipt), methods=get),
            Route("/v1/chat/completions", self._told(partial(self._answer, self._chat)), methods=post),
            Route("/v1/completions", self._told(partial(self._answer, self._completion)), methods=post),
            Route("/v1/openapi.json", self._document, methods=get),
            Route("/v1/docs", self._page, methods=get),
        ]

    def _told(self, call: Callable[[Request, str], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """The endpoint of a call: who asks is known and counted, and errors are told in OpenAI's shape. What has none
        (the front, the documents, that it lives) is made once, needs no key, and is not counted.
        """

        async def endpoint(request: Request) -> Response:
            try:
                owner = self._guard.caller(request)
                self._playground.count("calls", owner)
                return await call(request, owner)
            except (Gone, ClientDisconnect):
                return Response(status_code=499)  # nobody reads it
            except Exception as error:
                return self.refusal(error).response()

        return endpoint

    def refusal(self, error: BaseException) -> ApiError:
        """An error as whoever asks here is told it."""
        found = errors.of(error)
        found.message = self._playground.told(found.message)
        return found

    # -- what is known -----------------------------------------------------------------------------------------------

    async def _front(self, request: Request) -> Response:
        return RedirectResponse("/v1/docs")

    async def _health(self, request: Request) -> Response:
        return JSONResponse(models.health())

    async def _document(self, request: Request) -> Response:
        return JSONResponse(openapi.document())

    async def _page(self, request: Request) -> Response:
        return HTMLResponse(openapi.page(), headers=openapi.PAGE_HEADERS)

    async def _models(self, request: Request, owner: str) -> Response:
        return JSONResponse(await self._in_thread(partial(models.listed, self._playground)))

    async def _model(self, request: Request, owner: str) -> Response:
        name = unquote(request.path_params["name"])
        return JSONResponse(await self._in_thread(partial(models.one, self._playground, name)))

    async def _props(self, request: Request, owner: str) -> Response:
        name = request.query_params.get("model", "")
        return JSONResponse(await self._in_thread(partial(models.props, self._playground, name)))

    async def _receipt(self, request: Request, owner: str) -> Response:
        found = await self._in_thread(partial(self._playground.answered_json, request.path_params["id"]))
        if found is None:
            what = msg("No answer of the last {n} has this receipt.", n=MOST_HELD)
            raise ApiError(404, what, code="receipt_not_found")
        return JSONResponse(found)

    async def _in_thread(self, call: Callable[[], Answer]) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._quick, call)

    @contextmanager
    def counted(self, owner: str) -> Iterator[None]:
        """One more of this caller that waits for a model.

        Raises:
            Busy: There are as many as may be.
        """
        own, all_ = self._under_way[owner], self._under_way.total()
        limits = self._playground.settings.limits
        of_one = own >= limits.max_api_waiting + BESIDE
        if of_one or all_ >= limits.max_api_waiting_of_all + BESIDE:
            raise self._playground.too_many(own if of_one else all_, of_one=of_one)
        self._under_way[owner] += 1
        try:
            yield
        finally:
            self._under_way[owner] -= 1
            if not self._under_way[owner]:
                del self._under_way[owner]

    async def _ask(
        self, kind: type[Body], call: Callable[[Asker, Body], dict[str, Any]], request: Request, owner: str
    ) -> Response:
        body = parameters.read(kind, await self._guard.json(request, owner))
        async with leaving(request.receive) as left:
            asker = Asker(self._playground, self._spelling, owner, left.is_set)
            with self.counted(owner):
                loop = asyncio.get_running_loop()
                return JSONResponse(await loop.run_in_executor(self._waiting, partial(call, asker, body)))

    # -- answers -----------------------------------------------------------------------------------------------------

    def _chat(self, sent: dict[str, Any], owner: str) -> tuple[Job, ChatBody]:
        body = parameters.read(ChatBody, sent)
        model = str(self._playground.asked(body.model, owner))
        wanted = chat.requests(body, self._playground.settings)
        self._check(model, wanted)
        usage = bool(body.stream_options and body.stream_options.include_usage)
        items = partial(answers, model=model, requests=wanted)
        return Job(items, ChatShape(body, model), len(wanted), body.stream, usage, body.store), body

    def _completion(self, sent: dict[str, Any], owner: str) -> tuple[Job, CompletionBody]:
        body = parameters.read(CompletionBody, sent)
        model = str(self._playground.asked(body.model, owner))
        asked = completions.prompts(body)
        wanted = completions.requests(body, asked, self._playground.settings)
        self._check(model, wanted)
        usage = bool(body.stream_options and body.stream_options.include_usage)
        items = partial(completions.answered, model=model, body=body, asked=asked, wanted=wanted)
        return Job(items, CompletionShape(body, model), len(wanted), body.stream, usage), body

    def _check(self, model: str, wanted: Sequence[Any]) -> None:
        if wanted[0].logprobs is not None and self._playground.resolve(model)[0].remote:
            what = msg("{model} is served elsewhere: its server gives texts, no log-probabilities", model=model)
            raise errors.wrong("logprobs", what, msg("Leave it out, or ask a model that runs on this machine."))
        for request in wanted:
            self._playground.check(request)

    async def _answer(
        self, read: Callable[[dict[str, Any], str], tuple[Job, Any]], request: Request, owner: str
    ) -> Response:
        sent = await self._guard.json(request, owner)
        job, body = await self._in_thread(partial(read, sent, owner))
        if body.user and not self._playground.settings.strangers:
            owner = f"{owner} {body.user}"
        asker = partial(Asker, self._playground, self._spelling, owner)
        if job.stream:
            return Stream(job, asker, self)
        async with leaving(request.receive) as left:
            with self.counted(owner):
                items = await self.flow(job, asker(left.is_set)).all()
        choices = [each for each in items if isinstance(each, Choice)]
        _take(job.shape, items)
        receipt = await self.receipt(choices, owner, store=job.store)
        about = self.about(choices, receipt)
        return await self._in_thread(lambda: JSONResponse(job.shape.whole(choices, about)))  # of many megabytes

    def flow(self, job: Job, asker: Asker) -> Flow[Item]:
        """What is answered, from a thread of its own."""
        return Flow(self._waiting, partial(job.items, asker))

    def about(self, choices: Sequence[Choice], receipt: str) -> dict[str, Any]:
        """Our own fields of a whole answer, as whoever asks here is told them."""
        return shapes.told([each.run for each in choices], receipt, self._playground.told)

    async def receipt(self, choices: Sequence[Choice], owner: str, *, store: bool) -> str:
        """Hold an answer for its receipt, and store it where that was asked for."""
        return str(await self._in_thread(partial(self._receipt_of, choices, owner, store)))

    def _receipt_of(self, choices: Sequence[Choice], owner: str, store: bool) -> str:
        return self._playground.receipt([each.run for each in choices], owner, store=store)


def _take(shape: Shape, items: Sequence[Item]) -> None:
    """Tell a completion's shape of the prompts that were read."""
    if isinstance(shape, CompletionShape):
        for item in items:
            if isinstance(item, Prompt):
                shape.read(item)


class Stream(Response):
    """An answer while it comes.

    Args:
        asker: Makes the asker, from what tells whether the client left.
    """

    def __init__(self, job: Job, asker: Callable[[Callable[[], bool]], Asker], door: Door) -> None:
        super().__init__()
        self._job, self._asker, self._door = job, asker, door
        self._choices: list[Choice] = []
        self._begun = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async with leaving(receive) as left:
            asker = self._asker(left.is_set)
            try:
                with self._door.counted(asker.owner):
                    await self._tell(self._door.flow(self._job, asker), asker, send)
            except Gone:
                return
            except Exception as error:
                await self._failed(self._door.refusal(error), scope, receive, send)

    async def _tell(self, flow: Flow[Item], asker: Asker, send: Any) -> None:
        while True:
            try:
                items = await flow.next(ALIVE_S if self._begun else HEAD_S)
            except TimeoutError:
                await self._send(send, shapes.WAITING)
                continue
            if not items:
                break
            _take(self._job.shape, items)
            if said := b"".join([await self._said(item, asker) for item in items if not isinstance(item, Prompt)]):
                await self._send(send, said)
        usage = self._job.shape.usage(self._choices) if self._job.usage else b""
        await self._send(send, usage + shapes.DONE, more=False)

    async def _said(self, item: Piece | Choice, asker: Asker) -> bytes:
        if isinstance(item, Piece):
            return self._job.shape.piece(item.choice, item.text)
        self._choices.append(item)
        more: dict[str, Any] = {}
        if len(self._choices) == self._job.choices:
            receipt = await self._door.receipt(self._choices, asker.owner, store=self._job.store)
            more = self._door.about(self._choices, receipt)
        return self._job.shape.ended(item, more)

    async def _send(self, send: Any, said: bytes, *, more: bool = True) -> None:
        if not self._begun:
            self._begun = True
            headers = [(name.encode(), value.encode()) for name, value in STREAM.items()]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": said, "more_body": more})

    async def _failed(self, error: ApiError, scope: Any, receive: Any, send: Any) -> None:
        if self._begun:
            await self._send(send, shapes.event(error.body()) + shapes.DONE, more=False)
        else:
            await error.response()(scope, receive, send)
