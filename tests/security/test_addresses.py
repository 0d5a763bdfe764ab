"""While strangers use the app, its requests reach public addresses alone; for its owner, a server on loopback works."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from playground.config.settings import Settings
from playground.records import Remote
from playground.runtimes.remote import addresses
from playground.runtimes.remote.addresses import PRIVATE, is_public
from playground.runtimes.remote.client import Client, Unreachable

pytestmark = [pytest.mark.waits, pytest.mark.hostile]

PRIVATE_ADDRESSES = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.2.1",
    "192.168.0.1",
    "192.168.255.255",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a00:1",
    "100::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a00:1::",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "2001:0:7f00:1::",
    "x",
    "1.2.3",
    "localhost",
]
PUBLIC_ADDRESSES = ["1.1.1.1", "8.8.8.8", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1"]


@pytest.mark.parametrize("address", PRIVATE_ADDRESSES)
def test_private_addresses_and_what_is_none_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC_ADDRESSES)
def test_public_addresses_are(address: str) -> None:
    assert is_public(address)


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    """A service behind the app's network, which counts who came."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.server.came.append(self.path)  # type: ignore[attr-defined]
            if self.path.startswith("/moved"):
                self.send_response(302)
                self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/v1/models")  # type: ignore[attr-defined]
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(b'{"data": [{"id": "m"}]}')

        def log_message(self, *_: Any) -> None:
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.came = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


def asked(url: str, public: bool) -> tuple[str, ...] | None:
    remote = Remote("x", "m", url, timeout_s=2, public=public)

    async def ask() -> tuple[str, ...] | None:
        return await Client(remote, "").models()

    return asyncio.run(ask())


HOSTS = ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0", "0.0.0.0", "[::ffff:127.0.0.1]"]


@pytest.mark.parametrize("host", HOSTS)
def test_no_way_of_writing_loopback_is_reached_for_strangers(server: Any, host: str) -> None:
    with pytest.raises(Unreachable):
        asked(f"http://{host}:{server.server_port}/v1", public=True)
    assert server.came == []


def test_the_owners_own_server_on_loopback_answers(server: Any) -> None:
    assert asked(f"http://127.0.0.1:{server.server_port}/v1", public=False) == ("m",)


def test_a_redirect_is_not_followed_for_anybody(server: Any) -> None:
    assert asked(f"http://127.0.0.1:{server.server_port}/moved", public=False) is None
    assert server.came == ["/moved/models"]


def resolving(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Names resolve to these addresses, one list after the other; returns the names that were asked."""
    names: list[str] = []

    async def resolved(host: str, port: int) -> list[str]:
        names.append(host)
        return answers[min(len(names), len(answers)) - 1]

    monkeypatch.setattr(addresses, "_resolved", resolved)
    return names


def test_one_private_address_among_public_ones_is_enough_to_refuse(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(monkeypatch, ["93.184.216.34", "127.0.0.1"])
    with pytest.raises(Unreachable, match=PRIVATE):
        asked(f"http://two.example:{server.server_port}/v1", public=True)
    assert server.came == []


def test_a_name_is_resolved_once_and_the_checked_address_is_what_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    names = resolving(monkeypatch, ["93.184.216.34"], ["127.0.0.1"])
    called: list[str] = []

    class Inner:
        async def connect_tcp(self, host: str, *_: Any) -> Any:
            called.append(host)
            raise addresses.httpcore2.ConnectError("no network in tests")

    monkeypatch.setattr(addresses.httpcore2, "AnyIOBackend", Inner)
    with pytest.raises(Unreachable, match="no network"):
        asked("http://rebinds.example:9/v1", public=True)
    assert names == ["rebinds.example"]
    assert called == ["93.184.216.34"]


def test_a_proxy_of_the_environment_is_no_way_round(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{server.server_port}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    resolving(monkeypatch, ["10.0.0.1"])
    with pytest.raises(Unreachable, match=PRIVATE):
        asked("http://inside.example/v1", public=True)
    assert server.came == []


def test_the_audience_decides(settings: Settings) -> None:
    remote = Remote("x", "m", "http://127.0.0.1:8000/v1")
    for audience, public in (("own", False), ("public", True)):
        found = replace(settings, audience=audience, remotes=(remote,)).reached_remotes  # type: ignore[arg-type]
        assert [each.public for each in found] == [public]
