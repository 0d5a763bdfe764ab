"""``serve-api``: the OpenAI-compatible door alone, without the page."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Annotated

import typer

from playground.cli import output
from playground.errors import UsageError
from playground.messages import msg

if TYPE_CHECKING:
    from collections.abc import Callable

    from playground.config.settings import Settings

log = logging.getLogger(__name__)


def serve_api(
    model: Annotated[
        list[str] | None,
        typer.Option(
            *("--model", "-m"),
            metavar="MODEL[@RUNTIME-PRECISION]",
            help="Serve this one; repeat for more. The first is meant where a call names none. Default: spaces.yaml's.",
        ),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. Default: 127.0.0.1, or HOST.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes any free one.")] = 8080,
) -> int:
    """Serve models to programs that speak OpenAI's API, under /v1 (docs/api.md).

    Keys that callers have to send are in PLAYGROUND_API_KEYS, with commas between them.
    """
    import signal
    from dataclasses import replace

    from playground.api.serving import END_IN_ALL_S
    from playground.config.settings import load_settings
    from playground.service import Playground
    from playground.system import ending

    settings = load_settings()
    settings = replace(settings, host=host or settings.host, port=port, models=tuple(model or settings.models))
    _check_open(settings)
    with ending.heard(END_IN_ALL_S, signal.SIGINT, signal.SIGTERM) as end, Playground(settings) as playground:
        served = playground.default_variants()  # a wrong name is told before anything is opened
        _serve(playground, ", ".join(map(str, served)), end.wait)
    return output.OK


def _check_open(settings: Settings) -> None:
    """
    Raises:
        UsageError: Strangers could ask, and nothing says that they may.
    """
    if settings.strangers and not settings.api_keys and not settings.api:
        raise UsageError(
            msg("Beyond this machine everybody could ask: {host} is not loopback", host=settings.host),
            msg(
                "Set PLAYGROUND_API_KEYS to a key, or leave --host, HOST and PLAYGROUND_HOSTS out. To let everybody "
                "ask, write api: true under app in spaces.yaml."
            ),
        )


def _serve(playground: object, served: str, end: Callable[[], object]) -> None:
    """Answer until ``end`` returns, which Ctrl-C and SIGTERM bring."""
    import asyncio

    from playground.api.app import create_api
    from playground.api.operations import Operations
    from playground.api.serving import bound, serve
    from playground.config.hosts import Hosts
    from playground.service import Playground
    from playground.system.logs import written

    assert isinstance(playground, Playground)
    settings = playground.settings
    with bound(settings.host, settings.port) as listening:
        port = listening.getsockname()[1]
        shown = f"[{settings.host}]" if ":" in settings.host else settings.host
        known = Hosts(settings.host, settings.hosts)
        app = Operations(create_api(playground, keys=settings.api_keys, hosts=known), playground, known)
        told = msg("Serving {models} on http://{host}:{port}/v1 (Ctrl-C ends it)", models=served, host=shown, port=port)
        print(output.clean(told), flush=True)
        with written(settings.log):
            log.info("listening", extra={"port": port})
            playground.prepare_served()
            asyncio.run(serve(app, listening, playground.close, end, settings, refused=playground.refused))
            log.info("ended")
