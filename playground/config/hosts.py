"""By which names a browser may call this app, and which pages it may be called from.

A page of another website can't read what this app answers, but it can have its own name resolve to this machine (DNS
rebinding) and is then, for the browser, the same site. What it can't do is hide that name, which stands in ``Host``. So
the app answers to names that are its own, and to pages whose ``Origin`` is the name they called. The file knows names
and headers; it does not know what is served.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

import psutil

from playground.config.settings import is_loopback
from playground.messages import Translatable, msg

SETTING = "PLAYGROUND_HOSTS"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
PORTS = {"http": 80, "https": 443}
MAX_SHOWN = 80
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/@\[\]]+)(?::(\d{1,5}))?")


def own_names() -> frozenset[str]:
    """This machine's name, as it is and as a local network knows it, and its addresses. Asks no name server."""
    name = socket.gethostname().lower().rstrip(".")
    short = name.partition(".")[0]
    addresses = {entry.address.partition("%")[0] for found in psutil.net_if_addrs().values() for entry in found}
    return frozenset({name, short, f"{short}.local"} | {_plain(address) for address in addresses if _is_ip(address)})


class Hosts:
    """The names one app answers to.

    Args:
        listening: The address that the app listens on. On loopback only loopback's names count, elsewhere this
            machine's own names and addresses too.
        named: Further names, each with a port if it is not the usual one.
        own: Gives this machine's names; asked again when a name is not known, as addresses come and go.
    """

    def __init__(
        self, listening: str, named: Iterable[str] = (), own: Callable[[], frozenset[str]] = own_names
    ) -> None:
        self._named = frozenset(filter(None, map(split, named)))
        self._always = frozenset([*LOOPBACK, _plain(listening), *(name for name, _ in self._named)])
        self._own = None if is_loopback(listening) else own

    def answers(self, host: str) -> bool:
        """Whether a request with this ``Host`` header is meant for this app."""
        called = split(host)
        if called is None:
            return False
        return called[0] in self._always or (self._own is not None and called[0] in self._own())

    def named(self, host: str) -> bool:
        """Whether whoever runs the app, or the Hub, gave it this name, port and all."""
        return split(host) in self._named

    def same_site(self, origin: str, host: str) -> bool:
        """Whether a page with this ``Origin`` is the app's own, called as in ``host``.

        The scheme does not count: behind a proxy that takes care of HTTPS the two differ. A page of another port does
        not belong to the app, nor does one without a name (``null``).
        """
        try:
            parts = urlsplit(origin)
            name, port = parts.hostname, parts.port
        except ValueError:
            return False
        usual = PORTS.get(parts.scheme)
        if usual is None or not name or "@" in origin or parts.netloc != origin.partition("://")[2]:
            return False
        called = split(host)
        from_page = (_plain(name), port or usual)
        ours = {*self._named, *([called] if called else [])}
        return from_page in {(known, number or usual) for known, number in ours}


def refusal(host: str) -> Translatable:
    """What to tell somebody who called the app by a name that is not its own."""
    shown = "".join(letter for letter in host if letter.isprintable())[:MAX_SHOWN]
    return msg(
        "This app does not answer to the name '{shown}'. If you run it and the name is right, set {setting} to it "
        "(several with commas between them) and start the app again.",
        shown=shown,
        setting=SETTING,
    )


def split(host: str) -> tuple[str, int | None] | None:
    """Name and port of ``NAME[:PORT]`` as they are compared; None if it is no such thing."""
    match = _HOST.fullmatch(host.strip())
    return (_plain(match[1]), int(match[2]) if match[2] else None) if match else None


def _plain(name: str) -> str:
    name = name.strip("[]").lower().removesuffix(".")
    return str(ipaddress.ip_address(name)) if _is_ip(name) else name


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True
