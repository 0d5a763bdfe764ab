"""What a tool takes for what was not said: within what the operator allows, as its schema tells."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("mcp", reason="the extra mcp is not installed")

from mcp import Client

from playground.mcp.server import create_server
from playground.records import Request
from playground.service import Playground
from tests.conftest import MakeSettings

pytestmark = pytest.mark.waits

FEW = 7


@pytest.fixture
def few(make_settings: MakeSettings) -> Iterator[Playground]:
    settings = make_settings()
    with Playground(replace(settings, limits=replace(settings.limits, max_new_tokens=FEW))) as playground:
        yield playground


def call(playground: Playground, tool: str, **arguments: Any) -> Any:
    async def run() -> Any:
        async with Client(create_server(playground)) as client:
            return await client.call_tool(tool, arguments)

    return asyncio.run(run())


def schema(playground: Playground, tool: str) -> dict[str, Any]:
    async def run() -> Any:
        async with Client(create_server(playground)) as client:
            return next(each for each in (await client.list_tools()).tools if each.name == tool)

    found: dict[str, Any] = asyncio.run(run()).input_schema["properties"]
    return found


@pytest.mark.parametrize("tool", ["compare", "suite"])
def test_the_default_length_is_within_the_limit_and_the_schema_says_so(few: Playground, tool: str) -> None:
    told = schema(few, tool)["max_new_tokens"]
    assert (told["default"], told["maximum"]) == (FEW, FEW)


@pytest.mark.parametrize("tool", ["compare", "suite"])
def test_where_more_is_allowed_the_default_is_what_it_is_everywhere(make_settings: MakeSettings, tool: str) -> None:
    settings = make_settings()
    with Playground(replace(settings, limits=replace(settings.limits, max_new_tokens=9999))) as playground:
        assert schema(playground, tool)["max_new_tokens"]["default"] == Request.max_new_tokens


def test_who_says_nothing_is_answered_and_who_asks_for_more_is_told_the_limit(few: Playground) -> None:
    told = call(few, "compare", prompt="Hi", models=["endless"])
    assert not told.is_error, told.content
    answer = told.structured_content["answers"][0]
    assert answer["finish_reason"] == "length"
    assert answer["figures"]["output_tokens"]["value"] == FEW
    refused = call(few, "compare", prompt="Hi", models=["fast"], max_new_tokens=FEW + 1)
    assert refused.is_error and f"from 1 to {FEW}" in refused.content[0].text


def test_a_suite_and_a_look_at_the_prompt_need_no_length_either(few: Playground) -> None:
    told = call(few, "suite", file="One\nTwo", models=["fast"])
    assert not told.is_error, told.content
    assert told.structured_content["status"] == "done"
    assert told.structured_content["failures"] == []
    looked = call(few, "inspect", model="fast", prompt="Hi")
    assert not looked.is_error, looked.content


def test_no_more_stop_strings_are_promised_than_are_allowed(make_settings: MakeSettings) -> None:
    settings = make_settings()
    with Playground(replace(settings, limits=replace(settings.limits, max_stop_strings=2))) as playground:
        assert schema(playground, "compare")["stop"]["maxItems"] == 2
