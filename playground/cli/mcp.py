"""``mcp``: the playground as tools for agents, over the Model Context Protocol."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated

import typer

from playground.cli import output
from playground.errors import UsageError
from playground.messages import msg


def mcp(
    http: Annotated[bool, typer.Option("--http", help="Over HTTP, at /mcp, instead of stdin and stdout.")] = False,
    host: Annotated[str, typer.Option(help="With --http: where to listen; beyond this machine keys are needed.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="With --http.", min=0, max=65535)] = 7862,
) -> int:
    """Serve compare, inspect, card, choose and suite as tools for agents (Model Context Protocol).

    An agent starts it by itself: give it the command `playground mcp`. Needs the extra: pip install
    'open-model-playground[mcp]'.
    """
    if find_spec("mcp") is None:
        raise UsageError(
            msg("`playground mcp` needs the package mcp, which is no part of the default install"),
            msg("Run: pip install 'open-model-playground[mcp]'"),
        )
    from playground.config.settings import load_settings
    from playground.mcp.serving import serve_http, serve_stdio

    settings = load_settings()
    if not http:
        serve_stdio(settings)
        return output.OK
    told = msg("Tools for agents at {url}. Ctrl-C ends it.", url=f"http://{host}:{port}/mcp")
    output.stderr().print(output.clean(told), soft_wrap=True)
    serve_http(settings, host, port)
    return output.OK
