"""Where a request came from: what is counted for each address asks here. It knows headers of proxies, not requests."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any


def whence(scope: Mapping[str, Any], *, behind_proxy: bool) -> str:
    """``address_of`` an ASGI request whose headers nobody has read yet."""
    sent = [value.decode("latin-1") for name, value in scope["headers"] if name.lower() == b"x-forwarded-for"]
    return address_of(scope, sent[-1] if sent else "", behind_proxy=behind_proxy)


def address_of(scope: Mapping[str, Any], forwarded: str, *, behind_proxy: bool) -> str:
    """Where a request came from. Behind a Space's proxy it is the last public address that proxies wrote down: what
    stands before it anybody can write. Elsewhere uvicorn knows which proxies to believe (FORWARDED_ALLOW_IPS).
    """
    client = scope.get("client")
    found = client[0] if client else ""
    if behind_proxy:
        found = next((each for each in reversed(forwarded.replace(" ", "").split(",")) if _is_public(each)), found)
    return network_of(found)


def network_of(address: str) -> str:
    """An address as it is counted: of IPv6 the network, as whoever has one address has them all."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    return str(ip) if ip.version == 4 else str(ipaddress.ip_network(f"{ip}/64", strict=False))


def _is_public(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_global
    except ValueError:
        return False
