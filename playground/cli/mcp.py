"""``mcp``: the playground as tools for agents, over the Model Context Protocol."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer

from playground.cli import output
from playground.errors import UsageError
from playground.messages import msg

if TYPE_CHECKING:
    from playground.config.settings import Settings


def mcp(
    http: Annotated[bool, typer.Option("--http", help="Over HTTP, at /mcp, instead of stdin and stdout.")] = False,
    host: Annotated[str, typer.Option(help="With --http: where to listen; beyond this machine keys are needed.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="With --http; 0 takes any free one.", min=0, max=65535)] = 7862,
) -> int:
    r"""Serve compare, inspect, card, choose and suite as tools for agents (Model Context Protocol).

    An agent starts it by itself: give it the command `playground mcp` (docs/mcp.md). Needs the extra: pip install
    'open-model-playground\[mcp]'.
    """
    if find_spec("mcp") is None:
        raise UsageError(
            msg("`playground mcp` needs the package mcp, which is no part of the default install"),
            msg("Run: pip install 'open-model-playground[mcp]'"),
        )
    from dataclasses import replace

    from playground.config.settings import load_settings
    from playground.mcp.serving import serve_stdio

    settings = load_settings()
    if http:
        _serve_http(replace(settings, host=host, port=port))
        return output.OK
    if sys.stdin.isatty():
        told = msg("An agent that starts this speaks to it on stdin; a person needs --http, or Ctrl-D to end it.")
        output.stderr().print(output.clean(told), soft_wrap=True)
    serve_stdio(settings)
    return output.OK


def _serve_http(settings: Settings) -> None:
    """Serve whoever may ask, until Ctrl-C or SIGTERM.

    Raises:
        UsageError: It would listen beyond this machine without a key, or can't listen there.
    """
    import asyncio
    import signal

    from playground.api.serving import END_IN_ALL_S, bound, serve
    from playground.mcp.serving import PATH, opened
    from playground.service import Playground
    from playground.system import ending

    if settings.strangers and not settings.api_keys:
        raise UsageError(
            msg("On {host} everybody who reaches this machine could run models", host=settings.host),
            msg("Set PLAYGROUND_API_KEYS, or leave --host and PLAYGROUND_HOSTS out to serve this machine alone."),
        )
    with (
        bound(settings.host, settings.port) as listening,
        ending.heard(END_IN_ALL_S, signal.SIGINT, signal.SIGTERM) as end,
        Playground(settings) as playground,
    ):
        shown = f"[{settings.host}]" if ":" in settings.host else settings.host
        url = f"http://{shown}:{listening.getsockname()[1]}{PATH}"
        told = msg("Tools for agents at {url} (Ctrl-C ends it)", url=url)
        output.stderr().print(output.clean(told), soft_wrap=True)

        async def run() -> None:
            async with opened(playground) as app:
                await serve(app, listening, playground.close, end.wait, settings, refused=playground.refused)

        asyncio.run(run())
