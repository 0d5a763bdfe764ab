"""Where a request came from, as what is counted for each address sees it."""

from __future__ import annotations

import pytest

from playground.service.addresses import network_of, whence


@pytest.mark.parametrize(
    ("client", "forwarded", "proxy", "found"),
    [
        ("192.0.2.7", "8.8.8.8", False, "192.0.2.7"),
        ("10.0.0.1", "1.1.1.1, 8.8.8.8, 10.2.3.4", True, "8.8.8.8"),
        ("10.0.0.1", "nonsense", True, "10.0.0.1"),
        ("10.0.0.1", "", True, "10.0.0.1"),
        ("2001:db8:1:2:3::4", "", False, "2001:db8:1:2::/64"),
        ("10.0.0.1", "2606:4700:1:2:3::4", True, "2606:4700:1:2::/64"),
    ],
)
def test_an_address_is_what_cant_be_made_up(client: str, forwarded: str, *, proxy: bool, found: str) -> None:
    headers = [(b"X-Forwarded-For", forwarded.encode())] if forwarded else []
    assert whence({"client": (client, 1), "headers": headers}, behind_proxy=proxy) == found


def test_who_has_one_address_of_a_network_has_them_all() -> None:
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:1") != network_of("2001:db8:0:1::1")
    assert network_of("192.0.2.1") != network_of("192.0.2.2")
    assert network_of("x" * 1000) == "x" * 64
    assert not whence({"client": None, "headers": []}, behind_proxy=False)
