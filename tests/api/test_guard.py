"""Who may ask, and what is read of what is sent."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import urlsplit

import httpx2
import pytest

from playground.api import guard
from playground.service import Playground
from tests.support.door import served
from tests.support.watching import until

pytestmark = pytest.mark.waits

KEYS = ("first-key-of-this-door", "second-key-of-this-door")
ASKED = {"model": "fast", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture(scope="module")
def locked(models: Playground) -> Iterator[str]:
    with served(models, keys=KEYS) as url:
        yield url


def status(url: str, **headers: str) -> int:
    answer = httpx2.post(f"{url}/v1/chat/completions", json=ASKED, headers=headers, timeout=30, verify=False)
    return answer.status_code


@pytest.mark.parametrize("key", KEYS)
def test_any_of_the_keys_opens(locked: str, key: str) -> None:
    assert status(locked, Authorization=f"Bearer {key}") == 200
    assert status(locked, Authorization=f"bearer {key}", Host="any.name.example") == 200


@pytest.mark.parametrize(
    "sent", ["", "Bearer", "Bearer wrong", f"Basic {KEYS[0]}", f"Bearer {KEYS[0]}x", f"Bearer {KEYS[0][:-1]}"]
)
def test_nothing_else_does(locked: str, sent: str) -> None:
    answer = httpx2.get(f"{locked}/v1/models", headers={"Authorization": sent}, timeout=30, verify=False)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"
    assert answer.headers["www-authenticate"] == "Bearer"
    assert KEYS[0][:-1] not in answer.text


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/fast", "/props", "/v1/receipts/x"])
def test_everything_that_tells_of_models_is_locked(locked: str, path: str) -> None:
    assert httpx2.get(locked + path, timeout=30, verify=False).status_code == 401


def test_that_it_lives_and_how_it_is_asked_is_no_secret(locked: str) -> None:
    for path in ("/health", "/v1/openapi.json", "/v1/docs"):
        assert httpx2.get(locked + path, timeout=30, verify=False).status_code == 200


def test_without_keys_other_names_and_other_sites_are_refused(door: str) -> None:
    port = urlsplit(door).port
    assert status(door, Host=f"localhost:{port}") == 200
    assert status(door, Origin=door) == 200
    assert status(door, Host="attacker.example") == 403
    assert status(door, Origin="https://attacker.example") == 403
    assert status(door, Origin="null") == 403
    assert status(door, **{"Sec-Fetch-Site": "cross-site"}) == 403


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b'"text"', "application/json", 400),
        (b'{"model": NaN}', "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b'{"n": ' + b"9" * 10_000 + b"}", "application/json", 400),
        (json.dumps(ASKED).encode(), "text/plain", 415),
        (json.dumps(ASKED).encode(), "", 415),
    ],
)
def test_what_is_no_json_object_is_refused(door: str, body: bytes, kind: str, expected: int) -> None:
    answer = httpx2.post(
        f"{door}/v1/completions", content=body, headers={"Content-Type": kind}, timeout=30, verify=False
    )
    assert answer.status_code == expected
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_a_body_that_is_too_large_is_refused_before_it_is_read(door: str) -> None:
    with speaking(door, f"Content-Length: {guard.BODY_BYTES + 1}\r\n") as line:
        assert b"413" in line.recv(4000)


def test_a_body_of_unknown_length_is_refused_when_it_is_too_large(models: Playground) -> None:
    limits = replace(models.settings.limits, max_api_call_bytes=1000)
    with Playground(replace(models.settings, limits=limits)) as small, served(small) as door:
        answer = httpx2.post(
            f"{door}/v1/completions",
            content=(b"x" * 500 for _ in range(5)),
            headers={"Content-Type": "application/json"},
            verify=False,
        )
    assert answer.status_code == 413
    assert "larger than 1,000 bytes" in answer.json()["error"]["message"]


def test_a_body_that_does_not_come_is_not_waited_for(door: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "READ_S", 0.2)
    with speaking(door, "Content-Length: 100\r\n") as line:
        line.sendall(b'{"model"')
        assert b"408" in line.recv(4000)


@pytest.mark.fault
def test_half_a_body_disturbs_nobody(door: str) -> None:
    for _ in range(20):
        with speaking(door, "Content-Length: 100\r\n") as line:
            line.sendall(b'{"model": "fast"')
    time.sleep(0.1)
    assert status(door) == 200


def test_slow_bodies_of_one_caller_leave_room_for_those_of_others(locked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "READING", 3000 / guard.BODY_BYTES)
    monkeypatch.setattr(guard, "READING_EACH", 2000 / guard.BODY_BYTES)
    key = f"Authorization: Bearer {KEYS[0]}\r\n"
    with speaking(locked, f"{key}Content-Length: 5000\r\n") as slow:
        slow.sendall(b" " * 1990)
        until(lambda: status(locked, Authorization=f"Bearer {KEYS[0]}") == 503)
        assert status(locked, Authorization=f"Bearer {KEYS[1]}") == 200
    until(lambda: status(locked, Authorization=f"Bearer {KEYS[0]}") == 200)


def test_unknown_addresses_and_methods_are_told_in_openais_shape(door: str) -> None:
    assert httpx2.get(f"{door}/v1/embeddings", timeout=30, verify=False).json()["error"]["message"]
    answer = httpx2.get(f"{door}/v1/completions", timeout=30, verify=False)
    assert answer.status_code == 405
    assert answer.json()["error"]["type"] == "invalid_request_error"


def speaking(door: str, header: str) -> socket.socket:
    """A connection that has begun to send a completion's body."""
    parts = urlsplit(door)
    line = socket.create_connection((parts.hostname or "", parts.port or 0), timeout=5)
    head = f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:{parts.port}\r\nContent-Type: application/json\r\n"
    line.sendall(f"{head}{header}\r\n".encode())
    return line


@pytest.mark.hostile
def test_wrong_keys_of_one_address_are_slowed_and_programs_with_a_key_are_not(models: Playground) -> None:
    limits = replace(models.settings.limits, max_wrong_passwords=3)
    with Playground(replace(models.settings, limits=limits)) as few, served(few, keys=KEYS) as url:

        def asked(key: str, address: str = "192.0.2.1") -> httpx2.Response:
            headers = {"Authorization": f"Bearer {key}", "X-Forwarded-For": address}
            return httpx2.get(f"{url}/v1/models", headers=headers, timeout=30, verify=False)

        assert asked(KEYS[0]).status_code == 200
        assert [asked("the-same-wrong-one").status_code for _ in range(9)] == [401] * 9, "one guess"
        assert [asked(f"guess {number}").status_code for number in range(4)] == [401] * 2 + [429] * 2
        refused = asked(KEYS[1])
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["retry-after"]) <= 300
        assert "3 wrong passwords or keys" in refused.json()["error"]["message"]
        assert asked(KEYS[0]).status_code == 200, "it came from there before"
        assert asked(KEYS[1], "192.0.2.2").status_code == 200
