"""The OpenAI-compatible door on a port of its own, served from this process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import uvicorn

from playground.api.app import create_api
from playground.api.serving import bound
from playground.config.hosts import Hosts
from playground.service import Playground


@contextmanager
def served(playground: Playground, keys: Sequence[str] = (), names: Sequence[str] = ()) -> Iterator[str]:
    """The address of a door to ``playground`` until the block ends."""
    app = create_api(playground, keys=keys, hosts=Hosts("127.0.0.1", names))
    with bound("127.0.0.1", 0) as listening:
        config = uvicorn.Config(app, log_level="error", access_log=False, lifespan="off", timeout_graceful_shutdown=2)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listening])))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)
