"""One address among many: its connections, and its requests under way, leave room for those of others."""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from playground.api import room, serving
from playground.api.app import create_api
from playground.api.connections import SPARE
from playground.api.operations import Operations
from playground.config.hosts import Hosts
from playground.errors import ConfigError
from playground.service import Playground
from tests.support.watching import until

pytestmark = [pytest.mark.waits, pytest.mark.hostile]

ASKED = b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
BEGUN = "POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 9\r\n"


@contextmanager
def open_to_strangers(models: Playground, monkeypatch: pytest.MonkeyPatch, waiting: int) -> Iterator[int]:
    """The port of a door that anybody may ask, with twice so many connections."""
    limits = replace(models.settings.limits, max_api_waiting_of_all=waiting)
    settings = replace(models.settings, audience="public", limits=limits)
    config = serving._config
    known = Hosts("127.0.0.1")
    monkeypatch.setattr(serving, "_config", lambda app, given=None: config(app, settings))
    with Playground(settings) as playground:
        app: Any = Operations(create_api(playground, hosts=known), playground, known)
        with serving.opened(app) as port:
            yield port


def status(port: int, address: str = "", path: str = "/v1/models") -> int:
    headers = {"X-Forwarded-For": address} if address else {}
    return httpx2.get(f"http://127.0.0.1:{port}{path}", headers=headers, timeout=30, verify=False).status_code


def connected(port: int) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port))
    made.settimeout(10)
    return made


def test_connections_of_one_address_are_bounded_and_those_that_end_count_no_longer(
    models: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "192.0.2.99")  # so that 127.0.0.1 is no proxy, but somebody
    with open_to_strangers(models, monkeypatch, 8) as port:
        with ExitStack() as silent:
            for _ in range(8):
                silent.enter_context(connected(port))
            with connected(port) as more:
                more.sendall(ASKED)
                said = b""
                while part := more.recv(4000):
                    said += part
            head, _, words = said.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 429") and b"retry-after: 5" in head
            assert b"connections of your address" in words
            assert len(words) == int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
            assert status(port, path="/healthz") == 200
        until(lambda: status_or_none(port) == 200)


def test_a_full_server_refuses_visitors_and_answers_whoever_watches_it(
    models: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_to_strangers(models, monkeypatch, 4) as port, ExitStack() as silent:
        for _ in range(8):
            silent.enter_context(connected(port))
        until(lambda: status(port) == 503)
        refused = httpx2.get(f"http://127.0.0.1:{port}/v1/models", timeout=30, verify=False)
        assert (refused.headers["retry-after"], refused.headers["connection"]) == ("5", "close")
        assert refused.headers["x-content-type-options"] == "nosniff" and "connections" in refused.text
        assert [status(port, path=path) for path in ("/healthz", "/readyz")] == [200, 200]
        silent.close()
        until(lambda: status(port) == 200)


def test_of_silent_connections_beyond_all_the_eldest_goes_and_whoever_watches_is_answered(
    models: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_to_strangers(models, monkeypatch, 2) as port, ExitStack() as silent:
        kept = [silent.enter_context(connected(port)) for _ in range(4)]
        until(lambda: status(port) == 503)
        beyond = [silent.enter_context(connected(port)) for _ in range(SPARE)]
        assert status(port, path="/healthz") == 200
        assert beyond[0].recv(100) == b"", "it made room"
        for line in (*kept, beyond[-1]):
            line.setblocking(False)
            with pytest.raises(BlockingIOError):
                line.recv(100)


def status_or_none(port: int) -> int | None:
    with suppress(httpx2.TransportError):
        return status(port)
    return None


def test_behind_a_proxy_that_is_believed_connections_are_everybodys_and_requests_are_not(
    models: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_to_strangers(models, monkeypatch, 8) as port, ExitStack() as slow:
        for _ in range(8):
            line = slow.enter_context(connected(port))
            line.sendall(f"{BEGUN}X-Forwarded-For: 192.0.2.1\r\n\r\n".encode())
        until(lambda: status(port, "192.0.2.1") == 429)
        again = {"X-Forwarded-For": "192.0.2.1"}
        refused = httpx2.get(f"http://127.0.0.1:{port}/v1/models", headers=again, timeout=30, verify=False)
        assert refused.headers["retry-after"] == "5"
        assert "requests of your address" in refused.json()["error"]["message"]
        assert status(port, "192.0.2.1", "/healthz") == 200
        assert status(port, "192.0.2.2") == 200
        slow.close()
        until(lambda: status(port, "192.0.2.1") == 200)


def test_a_websocket_leaves_no_count_behind(models: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "192.0.2.99")
    upgrade = (
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    with open_to_strangers(models, monkeypatch, 3) as port:
        for _ in range(12):
            with connected(port) as line:
                line.sendall(upgrade)
                with suppress(OSError):
                    line.recv(100)
        until(lambda: status_or_none(port) == 200)


def test_a_machine_that_allows_fewer_files_is_told_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (1024, 4096))
    monkeypatch.setattr(resource, "setrlimit", lambda kind, given: told.append(given))
    room.allow(900)
    assert not told, "enough as it is"
    room.allow(3000)
    assert told == [(3000 + SPARE + room.OWN_FILES, 4096)], "a process may give itself what it may have"

    def refuse(kind: int, given: tuple[int, int]) -> None:
        raise ValueError("current limit exceeds maximum limit")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    with pytest.raises(ConfigError, match=r"6,000 connections, and 6,116 open files .* 4,096"):
        room.allow(6000)


def test_a_door_that_strangers_reach_does_not_open_without_files_for_all(
    models: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (1024, 1024))

    def refuse(kind: int, given: tuple[int, int]) -> None:
        raise ValueError

    monkeypatch.setattr(resource, "setrlimit", refuse)
    with pytest.raises(ConfigError, match="max_api_waiting_of_all"), open_to_strangers(models, monkeypatch, 2000):
        pass


def test_calls_without_a_key_are_counted_by_address(models: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = replace(models.settings.limits, max_calls_per_minute=3)
    settings = replace(models.settings, audience="public", limits=limits)
    with Playground(settings) as playground, serving.opened(create_api(playground, hosts=Hosts("127.0.0.1"))) as port:
        assert [status(port, "192.0.2.1") for _ in range(4)] == [200] * 3 + [429]
        assert status(port, "192.0.2.2") == 200
        assert httpx2.get(f"http://127.0.0.1:{port}/health", timeout=30, verify=False).status_code == 200


def test_on_a_space_callers_without_a_key_are_told_apart_by_what_its_proxy_wrote(models: Playground) -> None:
    limits = replace(models.settings.limits, max_calls_per_minute=3)
    settings = replace(models.settings, on_space=True, limits=limits)
    with Playground(settings) as playground, serving.opened(create_api(playground, hosts=Hosts("127.0.0.1"))) as port:
        told = {"1.1.1.1": [200] * 3 + [429], "8.8.8.8": [200] * 3 + [429]}
        for address, expected in told.items():
            assert [status(port, f"9.9.9.9, {address}, 10.0.0.1") for _ in range(4)] == expected
