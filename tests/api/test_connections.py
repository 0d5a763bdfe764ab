"""Connections that ask nothing, or never end asking: closed, while the others are answered."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import suppress

import httpx2
import pytest

from playground.api import connections
from playground.api.app import create_api
from playground.api.serving import opened
from playground.config.hosts import Hosts
from playground.service import Playground

pytestmark = pytest.mark.waits

BEGUN = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n"
REFUSED = (
    b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\nhalf"
)


@pytest.fixture(scope="module")
def port(models: Playground) -> Iterator[int]:
    with opened(create_api(models, hosts=Hosts("127.0.0.1"))) as port:
        yield port


def line(port: int) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port))
    made.settimeout(15)  # what was answered is kept for five seconds in case of another request
    return made


def rest(connection: socket.socket) -> bytes:
    """All that comes until the connection is closed."""
    said = b""
    try:
        while part := connection.recv(65536):
            said += part
    except ConnectionResetError:
        pass
    return said


@pytest.mark.parametrize("sent", [b"", b"GET", BEGUN, BEGUN + b"\r\n" + BEGUN, REFUSED, REFUSED + b" body" + BEGUN])
def test_what_asks_nothing_is_closed_after_a_time(port: int, monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 0.3)
    with line(port) as connection:
        connection.sendall(sent)
        with suppress(OSError):
            while sent == BEGUN:  # a byte now and then
                connection.sendall(b"x")
                time.sleep(0.02)
        answers = rest(connection)
    assert answers.count(b"HTTP/1.1") == (1 if b"\r\n\r\n" in sent else 0)


@pytest.mark.alone
def test_a_head_without_an_end_is_not_kept(port: int) -> None:
    with line(port) as connection, pytest.raises(OSError):
        connection.sendall(BEGUN + b"X-Long: ")
        for _ in range(200):
            connection.sendall(b"x" * 100_000)
            time.sleep(0.005)


@pytest.mark.alone
def test_who_asks_again_and_slowly_within_the_time_is_answered(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 1.0)
    with line(port) as connection:
        for _ in range(3):
            connection.sendall(BEGUN)
            time.sleep(0.5)
            connection.sendall(b"\r\n")
            assert b"200 OK" in connection.recv(4000)


@pytest.mark.alone
def test_an_answer_may_take_longer_than_a_head(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 0.1)
    body = {"model": "slow", "messages": [{"role": "user", "content": "Hi"}]}
    with httpx2.Client(verify=False, timeout=30) as client:
        for _ in range(2):
            assert client.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=body).status_code == 200
