"""Which names the app answers to, and which pages it takes requests from."""

from __future__ import annotations

from typing import Any

import psutil
import pytest

from playground.config.hosts import Hosts, own_names, refusal
from playground.errors import ConfigError

OWN = frozenset({"box", "box.local", "192.168.1.5", "fe80::1"})
HERE = Hosts("127.0.0.1", own=lambda: OWN)
EVERYWHERE = Hosts("0.0.0.0", own=lambda: OWN)
SPACE = Hosts("0.0.0.0", ["owner-name.hf.space"], own=lambda: OWN)


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:7860", "LocalHost.:9000", "127.0.0.1", "127.0.0.1:7860", "[::1]", "[::1]:7860",
     "[0:0:0:0:0:0:0:1]:80"],
)  # fmt: skip
def test_loopbacks_own_names_are_answered_on_any_port_everywhere(host: str) -> None:
    assert all(hosts.answers(host) for hosts in (HERE, EVERYWHERE, SPACE))


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "evil.example:7860", "localhost.evil.example", "127.0.0.1.evil.example",
     "127.0.0.1@evil.example", "evil.example/127.0.0.1", "localhost:port", "localhost:7860:80", "::1", "[::1",
     "[::1].evil.example", "a localhost", "203.0.113.9", "localhost, evil.example"],
)  # fmt: skip
def test_any_other_name_is_not_answered_anywhere(host: str) -> None:
    assert not any(hosts.answers(host) for hosts in (HERE, EVERYWHERE, SPACE))


@pytest.mark.parametrize("host", ["box:7860", "BOX.local", "192.168.1.5:7860", "[fe80::1]:7860"])
def test_this_machines_own_names_are_answered_beyond_loopback_alone(host: str) -> None:
    assert EVERYWHERE.answers(host)
    assert not HERE.answers(host)


def test_a_name_that_was_set_is_answered_and_so_is_the_address_that_was_listened_on() -> None:
    assert SPACE.answers("owner-name.hf.space")
    assert Hosts("127.0.0.1", ["play.example.org"]).answers("play.example.org")
    assert Hosts("127.0.0.1", ["play.example.org:8443"]).answers("play.example.org:8443")
    assert Hosts("127.0.0.2").answers("127.0.0.2:7860")
    assert not HERE.answers("owner-name.hf.space")


def test_addresses_that_come_later_are_found() -> None:
    names: set[str] = set()
    hosts = Hosts("0.0.0.0", own=lambda: frozenset(names))
    assert not hosts.answers("10.0.0.7:7860")
    names.add("10.0.0.7")
    assert hosts.answers("10.0.0.7:7860")


def test_own_names_hold_this_machines_addresses() -> None:
    found = own_names()
    v4 = [each.address for known in psutil.net_if_addrs().values() for each in known if each.family.name == "AF_INET"]
    assert v4
    assert set(v4) <= found


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://localhost:7860", "localhost:7860"),
        ("http://127.0.0.1:7860", "127.0.0.1:7860"),
        ("http://[::1]:7860", "[::1]:7860"),
        ("http://localhost", "localhost"),
        ("https://owner-name.hf.space", "owner-name.hf.space"),
        ("https://owner-name.hf.space", "127.0.0.1:7860"),  # a proxy that keeps the name to itself
        ("https://owner-name.hf.space", "owner-name.hf.space:443"),
    ],
)
def test_the_apps_own_page_is_of_the_same_site(origin: str, host: str) -> None:
    assert SPACE.same_site(origin, host)


@pytest.mark.parametrize(
    "origin",
    ["null", "", "http://evil.example", "http://localhost:8888", "http://localhost", "https://localhost:7861",
     "http://127.0.0.1:7860", "http://localhost:7860@evil.example", "http://evil.example@localhost:7860",
     "http://localhost:7860/path", "file://", "ftp://localhost:7860", "http://localhost:port", "http://[::1",
     "https://huggingface.co", "https://owner-name.hf.space:8443", "localhost:7860"],
)  # fmt: skip
def test_a_page_of_another_site_or_port_or_of_none_is_not(origin: str) -> None:
    assert not SPACE.same_site(origin, "localhost:7860")


def test_the_refusal_names_the_name_and_the_setting_and_shows_no_control_characters() -> None:
    said = refusal("evil.example\x1b[2J" + "x" * 500)
    assert "'evil.example[2J" in said
    assert "PLAYGROUND_HOSTS" in said
    assert len(said) < 400


@pytest.mark.parametrize(
    ("env", "hosts", "strangers"),
    [
        ({}, (), False),
        ({"HOST": "localhost"}, (), False),
        ({"HOST": "::1"}, (), False),
        ({"HOST": "0.0.0.0"}, (), True),
        ({"HOST": "192.168.1.5"}, (), True),
        ({"PLAYGROUND_HOSTS": "a.example, b.example:8443"}, ("a.example", "b.example:8443"), True),
        ({"SPACE_ID": "o/n", "SPACE_HOST": "o-n.hf.space"}, ("o-n.hf.space",), True),
        ({"SPACE_ID": "o/n", "HOST": "127.0.0.1"}, (), True),
        ({"SPACE_HOST": "o-n.hf.space"}, (), False),
    ],
)
def test_settings_know_the_names_and_whether_strangers_come(
    make_settings: Any, env: dict[str, str], hosts: tuple[str, ...], strangers: bool
) -> None:
    settings = make_settings(**env)
    assert (settings.hosts, settings.strangers) == (hosts, strangers)


@pytest.mark.parametrize("given", ["https://a.example", "a.example/x", "*", "a b", "::1"])
def test_what_is_no_name_is_refused_with_how_to_write_one(make_settings: Any, given: str) -> None:
    with pytest.raises(ConfigError, match=r"PLAYGROUND_HOSTS.*without https://"):
        make_settings(PLAYGROUND_HOSTS=given)
