"""What is said of every answer of a server: that of the door, of whoever runs it, and refusals alike."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.testclient import TestClient

from playground.api.app import create_api
from playground.api.headers import PLAIN, Headers, with_headers
from playground.api.operations import Operations
from playground.config.hosts import Hosts
from playground.service import Playground

PATHS = (
    *("/", "/health", "/v1/models", "/v1/models/nothing", "/v1/receipts/x", "/v1/openapi.json", "/v1/docs"),
    *("/no/such/path", "/healthz", "/readyz", "/metrics"),
)


@pytest.mark.hostile
def test_no_answer_is_taken_for_what_it_is_not(playground: Playground) -> None:
    known = Hosts("testserver", ())
    app: Any = Operations(create_api(playground, hosts=known), playground, known)
    client = TestClient(app, follow_redirects=False)
    answers = [client.get(path) for path in PATHS]
    answers += [client.get("/v1/models", headers={"host": "foreign.example"}), client.post("/metrics")]
    answers.append(client.post("/v1/chat/completions", content=b"<script>alert(1)</script>"))
    for answer in answers:
        where = f"{answer.request.method} {answer.request.url}"
        assert answer.headers.get_list("x-content-type-options") == ["nosniff"], where
        assert answer.headers["referrer-policy"] == "no-referrer", where
        assert answer.headers["content-security-policy"].startswith("default-src 'none'"), where


def test_what_an_answer_says_by_itself_stays() -> None:
    page = [(b"X-Content-Type-Options", b"nosniff"), (b"content-security-policy", b"default-src 'self'")]
    seen: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await with_headers(send)({"type": "http.response.start", "status": 200, "headers": page})
        await send({"type": "http.response.body", "body": b""})

    async def send(message: dict[str, Any]) -> None:
        seen.append(message)

    asyncio.run(Headers(app)({"type": "http"}, None, send))
    assert seen[0]["headers"] == page
    asyncio.run(with_headers(send)({"type": "http.response.start", "status": 404}))
    assert seen[-1]["headers"] == list(PLAIN)
