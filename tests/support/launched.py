"""The app in this process, asked by real requests: its playground, settings and log are at hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import httpx2

from playground.config.settings import Settings
from playground.service import Playground
from playground.ui import files, suite_views, watching
from playground.ui.app import free_port, launch
from playground.ui.page import build_ui


@contextmanager
def launched(settings: Settings, users: tuple[tuple[str, str], ...] = (), **limits: Any) -> Iterator[str]:
    """The address of an app for strangers with these limits, until the block ends."""
    port = free_port("127.0.0.1", 0)
    given = replace(settings, audience="public", users=users, port=port, limits=replace(settings.limits, **limits))
    with Playground(given) as playground:
        demo = build_ui(playground)
        routes = [each for part in (files, watching, suite_views) for each in part.routes(playground)]
        launch(demo, given, routes, playground=playground)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            playground.close()
            demo.close(verbose=False)


def visitor(url: str, address: str = "192.0.2.1", **more: Any) -> httpx2.Client:
    """A browser with cookies of its own, from this address: uvicorn believes a proxy on loopback."""
    return httpx2.Client(base_url=url, timeout=30, verify=False, headers={"X-Forwarded-For": address}, **more)
