"""The door on a port of its own, served by uvicorn until it is to end."""

from __future__ import annotations

import asyncio
import math
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import uvicorn

from playground.api.crowd import RETRY_S
from playground.api.errors import BUSY, ApiError
from playground.api.headers import Headers
from playground.api.room import Room
from playground.config.settings import Limits, Settings
from playground.errors import UsageError
from playground.messages import Translatable, foreign, msg
from playground.system.threads import Threads

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from playground.api.operations import Operations

END_S = 5
"""For connections that are still being answered when the server ends."""
END_IN_ALL_S = 15.0
"""For everything, models included; then a process that serves ends in any case."""


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are ours: the models are ended first, and their streams with them."""
        yield


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        UsageError: The address can't be had.
    """
    listening: socket.socket | None = None
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, proto)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen()  # a client that is quicker than the server waits
        return listening
    except OSError as error:
        if listening:
            listening.close()
        reason = foreign(error.strerror or str(error))
        raise UsageError(
            msg("Port {port} on {host} can't be used: {reason}", port=port, host=host, reason=reason),
            msg("Choose another one with --port, e.g. --port 8081; --port 0 takes any free one."),
        ) from error


@contextmanager
def opened(app: Starlette) -> Iterator[int]:
    """Answer on loopback for as long as the block runs, in a thread of its own.

    Yields:
        The port, a free one.
    """
    with bound("127.0.0.1", 0) as listening:
        listening.listen()  # who asks before the server runs waits
        server = _Server(_config(app))
        thread = threading.Thread(target=server.run, args=([listening],), name="door", daemon=True)
        thread.start()
        try:
            yield int(listening.getsockname()[1])
        finally:
            server.should_exit = server.force_exit = True
            thread.join(END_S)


async def serve(
    app: Starlette | Operations,
    listening: socket.socket,
    close: Callable[[], object],
    end: Callable[[], object],
    settings: Settings,
    *,
    refused: Callable[[str], object] = lambda limit: None,
) -> None:
    """Answer until the end.

    Args:
        close: Ends what is being answered, so that nobody waits for it.
        end: Returns when the server is to end. It is asked in a thread of its own.
        refused: Told the name of a limit whenever somebody reached it.

    Raises:
        ConfigError: The machine allows fewer connections than the limits mean.
    """
    server = _Server(_config(app, settings, refused))
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(Threads(name="serving"))

    def wait() -> None:
        end()
        with suppress(RuntimeError):  # the server ended before
            loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=wait, name="end", daemon=True).start()
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    waiting = asyncio.create_task(ended.wait())
    await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    await asyncio.to_thread(close)
    server.should_exit = True
    await serving


def _config(
    app: Starlette | Operations,
    settings: Settings | None = None,
    refused: Callable[[str], object] = lambda limit: None,
) -> uvicorn.Config:
    """How uvicorn serves an app.

    Args:
        settings: Of an app that others than this process ask.
    """
    room = Room(settings, (settings.limits if settings else Limits()).api_connections, refused)
    return uvicorn.Config(
        Headers(room.shared(app, _crowded)),
        http=room.protocol,
        log_level="warning",
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=END_S,
    )


async def _crowded(scope: dict[str, Any], receive: Any, send: Any, words: Translatable) -> None:
    headers = {"Retry-After": str(math.ceil(RETRY_S))}
    refusal = ApiError(429, words, kind=BUSY, code="rate_limit_exceeded", headers=headers)
    await refusal.response()(scope, receive, send)
