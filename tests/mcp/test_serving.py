"""``playground mcp`` as agents start and reach it: its own process on stdin and stdout, and over HTTP."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest

from playground.config.settings import Settings
from playground.paths import ROOT

pytest.importorskip("mcp", reason="the extra mcp is not installed")

from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

pytestmark = pytest.mark.waits

KEY = "a-key-of-the-tests-0123456789"


def environment(settings: Settings, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    named = {"HOME": settings.home, "SPACE": settings.space_file, "CATALOG": settings.catalog_file}
    return kept | {f"PLAYGROUND_{name}": str(value) for name, value in named.items()} | more


@contextmanager
def serving(settings: Settings, *options: str, **more: str) -> Iterator[str]:
    """The address of a server over HTTP, as the command tells it."""
    command = [sys.executable, "-m", "playground", "mcp", "--http", "--port", "0", *options]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(settings, **more), stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        told = process.stderr.readline()
        try:
            assert "http://" in told, told + process.stderr.read()
            yield told.partition(" at ")[2].split()[0]
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0


def test_an_agent_that_starts_it_compares_over_stdin_and_stdout(settings: Settings) -> None:
    async def work() -> Any:
        parameters = StdioServerParameters(
            command=sys.executable, args=["-m", "playground", "mcp"], env=environment(settings), cwd=str(ROOT)
        )
        async with Client(parameters) as client:
            listed = await client.list_tools()
            result = await client.call_tool("compare", {"prompt": "Hi", "models": ["fast"]})
            return [tool.name for tool in listed.tools], result

    names, result = asyncio.run(work())
    assert {"compare", "inspect", "card", "choose"} <= set(names)
    assert result.structured_content["answers"][0]["text"].startswith("Paris")


def test_nothing_but_the_protocol_is_on_stdout_and_closing_stdin_ends_everything(settings: Settings) -> None:
    import json

    def message(number: int, method: str, **params: Any) -> str:
        return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}) + "\n"

    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}}
    with subprocess.Popen(
        [sys.executable, "-m", "playground", "mcp"],
        cwd=ROOT,
        env=environment(settings),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin and process.stdout
        process.stdin.write(message(1, "initialize", **hello))
        process.stdin.write('{"jsonrpc": "2.0", "method": "notifications/initialized"}\nno json at all\n')
        process.stdin.write(message(2, "tools/call", name="compare", arguments={"prompt": "Hi", "models": ["fails"]}))
        process.stdin.flush()
        heard = [json.loads(process.stdout.readline())]
        while heard[-1].get("id") != 2:
            heard.append(json.loads(process.stdout.readline()))
        process.stdin.close()
        rest = process.stdout.read()
        assert process.wait(30) == 0
    assert rest == ""
    assert all(each["jsonrpc"] == "2.0" for each in heard)
    assert heard[0]["result"]["serverInfo"]["name"] == "open-model-playground"


def test_over_http_an_agent_compares_and_hears_of_progress(settings: Settings) -> None:
    heard: list[str | None] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        heard.append(message)

    async def work(url: str) -> Any:
        async with Client(url) as client:
            arguments = {"prompt": "Hi", "models": ["slow"]}
            return await client.call_tool("compare", arguments, progress_callback=on_progress)

    with serving(settings) as url:
        result = asyncio.run(work(url))
    assert result.structured_content["answers"][0]["text"].startswith("Let me think")
    assert any("slow@fake-none" in (message or "") for message in heard)


def test_pages_of_other_sites_and_other_names_of_this_machine_are_refused(settings: Settings) -> None:
    """A page that resolves to this machine (DNS rebinding) names its own host, or its own origin."""
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    headers = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
    with serving(settings) as url:

        def status(**more: str) -> int:
            return httpx2.post(url, json=body, headers=headers | more, timeout=30).status_code

        assert status(host="evil.example.org") == 421
        assert status(host="127.0.0.1.evil.example.org") == 421
        assert status(origin="https://evil.example.org") == 403
        assert status(origin="null") == 403
        assert status(origin="http://localhost:3000") == 403, "a page of another program on this machine"
        assert status(origin=url.removesuffix("/mcp")) == status() != 403
        assert httpx2.post(url, content=b"x" * 5_000_000, headers=headers, timeout=30).status_code == 413


def test_a_key_is_needed_where_there_are_keys(settings: Settings) -> None:
    async def work(url: str, key: str) -> Any:
        async with (
            httpx2.AsyncClient(headers={"authorization": f"Bearer {key}"}) as http,
            Client(streamable_http_client(url, http_client=http)) as client,
        ):
            return await client.call_tool("card", {"model": "fast"})

    with serving(settings, PLAYGROUND_API_KEYS=KEY) as url:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": KEY}, {"authorization": "Bearer é"}):
            encoded = {name: value.encode("latin-1") for name, value in headers.items()}
            refused = httpx2.post(url, json={}, headers=encoded, timeout=30)
            assert refused.status_code == 401 and "Authorization: Bearer KEY" in refused.json()["error"]
            assert refused.headers["www-authenticate"] == "Bearer"
        assert asyncio.run(work(url, KEY)).structured_content["model"] == "fast"


def test_beyond_this_machine_it_listens_with_keys_only(
    settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from playground.cli import main

    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    assert main(["mcp", "--http", "--host", "0.0.0.0"]) == 2
    told = capsys.readouterr().err
    assert "everybody who reaches this machine" in told and "PLAYGROUND_API_KEYS" in told


def test_a_port_that_is_taken_is_told_with_the_next_step(
    settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from playground.cli import main

    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main(["mcp", "--http", "--port", str(taken.getsockname()[1])]) == 2
    assert "--port" in capsys.readouterr().err


def test_an_agent_that_leaves_ends_its_comparison(settings: Settings) -> None:
    async def work(url: str) -> float:
        async with Client(url) as client:
            asking = asyncio.create_task(client.call_tool("compare", {"prompt": "Hi", "models": ["endless"]}))
            await asyncio.sleep(2)
            asking.cancel()
        async with Client(url) as client:  # waits for the machine as long as somebody has it
            began = time.monotonic()
            await client.call_tool("compare", {"prompt": "Hi", "models": ["fast"]})
            return time.monotonic() - began

    with serving(settings) as url:
        assert asyncio.run(work(url)) < 6


def test_without_the_extra_the_command_says_how_to_get_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from playground.cli import main
    from playground.cli import mcp as command

    monkeypatch.setattr(command, "find_spec", lambda name: None)
    assert main(["mcp"]) == 2
    assert "pip install 'open-model-playground[mcp]'" in capsys.readouterr().err


def test_neither_the_app_nor_the_terminal_loads_the_protocol() -> None:
    code = (
        "import sys\nfrom playground.cli import main\nmain(['mcp', '--help'])\nmain(['models', '--json'])\n"
        "import playground.ui.app, playground.service\nassert 'mcp' not in sys.modules and 'ray' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
