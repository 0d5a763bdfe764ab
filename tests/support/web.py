"""Programs that talk to a running app over HTTP, as its own page does and as strangers do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import httpx2

from tests.support.app import App

SPACE_HOST = "owner-name.hf.space"
SPACE_ENV = {"SPACE_ID": "owner/name", "SPACE_HOST": SPACE_HOST, "HOST": "127.0.0.1"}
MODELS = "fast, slow, base"
WEB = httpx2.Client(timeout=60, verify=False)
"""Everything here is plain HTTP; reading certificates would take longer than all of it."""


def routes_of(given: Any) -> Iterator[tuple[str, str]]:
    """Every method and path below a FastAPI app or router, also of routers that are included."""
    for route in given.routes:
        inner = getattr(route, "original_router", None) or getattr(route, "app", None)
        if hasattr(inner, "routes"):
            yield from routes_of(inner)
        else:
            yield from ((method, route.path) for method in route.methods)


def names(app: App) -> dict[str, str]:
    """Headers of the app's own page."""
    return {"Origin": app.url.rstrip("/")}


@cache
def config(url: str) -> dict[str, Any]:
    """What the page is told of itself."""
    found: dict[str, Any] = WEB.get(f"{url}config").json()
    return found


def functions(app: App) -> dict[int, dict[str, Any]]:
    """Gradio's functions by number, as the page is told of them."""
    return {each["id"]: each for each in config(app.url)["dependencies"]}


def number_of(app: App, name: str) -> int:
    return next(number for number, each in functions(app).items() if each["api_name"] == name)


def call(app: App, number: int, data: list[Any], session: str = "attacker", **headers: str) -> httpx2.Response:
    """Call a function as the page does."""
    queued = functions(app)[number]["queue"] is not False
    path = "gradio_api/queue/join" if queued else "gradio_api/run/predict"
    body = {"data": data, "fn_index": number, "session_hash": session}
    return WEB.post(app.url + path, json=body, headers={**names(app), **headers})


def heard(app: App, number: int, data: list[Any], session: str = "attacker") -> str:
    """All that a queued function says, and the ids of comparisons in it, as JSON."""
    call(app, number, data, session).raise_for_status()
    said: list[Any] = []
    with WEB.stream("GET", f"{app.url}gradio_api/queue/data?session_hash={session}") as stream:
        for line in stream.iter_lines():
            message = json.loads(line[6:]) if line.startswith("data: ") else {}
            said.append(message)
            if message.get("msg") in {"process_completed", "close_stream"}:
                break
    text = json.dumps(said, ensure_ascii=False)
    ids = list(dict.fromkeys(re.findall(r"\b\d{8}-\d{6}-[0-9a-f]{32}\b", text)))
    return json.dumps({"ids": ids, "said": said}, ensure_ascii=False)
