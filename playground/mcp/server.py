"""The tools in the words of the protocol: what is listed, what a call is given, and what becomes of its errors."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Any

from mcp.server.lowlevel import Server
from mcp.types import (
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    ToolAnnotations,
)
from mcp.types import Tool as ToolTold

from playground import __version__
from playground.config.validation import checked, closest
from playground.errors import PlaygroundError, RunError, UsageError
from playground.mcp.arguments import bounded, filled
from playground.mcp.calls import Call
from playground.mcp.documents import told
from playground.mcp.tools import TOOLS, Tool
from playground.messages import Translatable, msg

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext

    from playground.service import Playground

MOST_ENTRIES = 1000
MOST_NAMES = 100
_log = logging.getLogger(__name__)

INSTRUCTIONS = (
    "Small open models on this machine, compared by figures that say how they were taken. Names are MODEL or "
    "MODEL@RUNTIME-PRECISION; `choose` without arguments lists them. A model is prepared when it is first used, which "
    "takes minutes; progress is told, and a call can be cancelled. An error says what to do next."
)

Owner = Callable[["ServerRequestContext[Any, Any]"], str]
"""Whose call it is, by its request."""


def create_server(playground: Playground, owner: Owner = lambda context: "") -> Server[dict[str, Any]]:
    """A server with all tools on one playground, which the caller closes."""
    tools = {tool.name: tool for tool in TOOLS}

    async def list_tools(
        context: ServerRequestContext[Any, Any], params: PaginatedRequestParams | None
    ) -> ListToolsResult:
        return ListToolsResult(tools=[_told(playground, tool) for tool in TOOLS])

    async def call_tool(context: ServerRequestContext[Any, Any], params: CallToolRequestParams) -> CallToolResult:
        async def report(share: float, words: Translatable) -> None:
            await context.session.report_progress(share, 1.0, str(playground.told(words)))

        try:
            if params.name not in tools:
                raise UsageError(
                    msg("There is no tool '{name}'", name=params.name[:100]), closest(params.name, list(tools))
                )
            tool = tools[params.name]
            given = filled(tool.arguments, _few(tool.name, params.arguments or {}), playground.settings)
            asked = checked(tool.arguments, given, f"{tool.name}: ")
            return _answered(told(playground, await tool.run(playground, asked, Call(report, owner(context)))))
        except PlaygroundError as error:
            return _failed(playground, error)
        except Exception:
            number = secrets.token_hex(4)
            _log.exception("%s (%s)", params.name[:100], number)
            return _failed(
                playground,
                RunError(
                    msg("{tool} failed unexpectedly", tool=params.name[:100]),
                    msg("The server's log has the details under {number}; please report it.", number=number),
                ),
            )

    return Server(
        "open-model-playground",
        version=__version__,
        title="Open Model Playground",
        instructions=INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


def _few(tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a size that can be checked: each wrong entry of a list, and each unknown name, is an error of its
    own. More names than there are stand for the unknown one among them.

    Raises:
        UsageError: A list is longer than any that is meant.
    """
    for name, value in arguments.items():
        if isinstance(value, list) and len(value) > MOST_ENTRIES:
            what = msg("{tool}: {name} has {n:,} entries", tool=tool, name=name[:100], n=len(value))
            raise UsageError(what, msg("At most {most:,} are taken.", most=MOST_ENTRIES))
    return dict(islice(arguments.items(), MOST_NAMES))


def _told(playground: Playground, tool: Tool) -> ToolTold:
    return ToolTold(
        name=tool.name,
        title=tool.title,
        description=tool.description,
        input_schema=bounded(tool.arguments.model_json_schema(), playground.settings),
        output_schema=tool.answer,
        annotations=ToolAnnotations(
            title=tool.title,
            read_only_hint=tool.reads_only,
            destructive_hint=False,
            idempotent_hint=tool.reads_only,
            open_world_hint=tool.asks_others,
        ),
    )


def _answered(document: dict[str, Any]) -> CallToolResult:
    """The document as structure, and as text for clients that know no other."""
    text = json.dumps(document, ensure_ascii=False, allow_nan=False)
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=document)


def _failed(playground: Playground, error: PlaygroundError) -> CallToolResult:
    """An error that the agent can read and do something about: what went wrong and the next step."""
    said = str(playground.told(error.message))
    return CallToolResult(content=[TextContent(type="text", text=said)], is_error=True)
