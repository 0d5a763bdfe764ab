"""Where a request for a served model may go while strangers use the app: to public addresses and nowhere else.

A name is resolved once, every address it has is looked at, and one of those is what the connection goes to: a name that
resolves otherwise a moment later (DNS rebinding) gains nothing. TLS still checks the certificate against the name.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Iterable
from typing import Any

import httpcore2
import httpx2

PRIVATE = "a private address"
"""What an error says: the address itself would tell strangers about the network behind."""


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public Internet's, and so is any IPv4 address that it stands for."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        inner = [found.ipv4_mapped, found.sixtofour, *(found.teredo or ())]
        if any(each is not None and not is_public(str(each)) for each in inner):
            return False
        if found.ipv4_mapped is not None:
            return True
        if found.is_site_local:
            return False
    unwanted = (
        found.is_multicast or found.is_reserved or found.is_unspecified or found.is_loopback or found.is_link_local
    )
    return found.is_global and not (unwanted or found.is_link_local)


async def _resolved(host: str, port: int) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[4][0]) for address in found))


class PublicOnly(httpcore2.AsyncNetworkBackend):
    """Connections to public addresses.

    Raises:
        httpcore2.ConnectError: The name has none, or has a private one too; nothing was sent.
    """

    def __init__(self) -> None:
        self._inner = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        try:
            addresses = await asyncio.wait_for(_resolved(host, port), timeout)
        except TimeoutError:
            raise httpcore2.ConnectTimeout from None
        except (OSError, UnicodeError) as error:
            raise httpcore2.ConnectError(str(error)) from None
        if not addresses or not all(map(is_public, addresses)):
            raise httpcore2.ConnectError(PRIVATE)
        for address in addresses[:-1]:
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
        return await self._inner.connect_tcp(addresses[-1], port, timeout, local_address, socket_options)

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


class PublicTransport(httpx2.AsyncHTTPTransport):
    """httpx2's own, by connections of ``PublicOnly``; past any proxy, which would resolve the name by itself."""

    def __init__(self, certificates: ssl.SSLContext) -> None:
        super().__init__(verify=certificates, trust_env=False)
        self._pool = httpcore2.AsyncConnectionPool(ssl_context=certificates, network_backend=PublicOnly())
