"""What the guard lets through to the app behind it, message by message."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from playground.config.hosts import Hosts
from playground.ui import middleware
from playground.ui.middleware import CALL_BYTES, SIGNAL_BYTES, Doors, Guard, Refused

DOORS = Doors(frozenset({7}), frozenset({4}), {"compare": 30})
OWN = {"origin": "http://localhost:7860"}
CALL = {"data": [], "fn_index": 7, "session_hash": "abc"}


class Behind:
    """The app behind the guard: remembers what reached it."""

    def __init__(self) -> None:
        self.reached: list[tuple[str, bytes]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"] if scope["method"] == "POST" else b""
        self.reached.append((scope["path"], body))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"reached"})


def ask(
    behind: Any, method: str, path: str, parts: list[bytes] | None = None, *, pause_s: float = 0.0, **headers: str
) -> tuple[int, str, dict[bytes, bytes]]:
    """Status, text and headers of the guard's answer."""
    given = {"host": "localhost:7860", **({"content_type": "application/json"} if method == "POST" else {}), **headers}
    listed = [(name.replace("_", "-").encode(), value.encode()) for name, value in given.items()]
    scope = {"type": "http", "method": method, "path": path, "headers": listed}
    waiting = list(parts or [b""])
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(pause_s)
        if not waiting:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(Guard(behind, Hosts("127.0.0.1"), DOORS)(scope, receive, send))
    return sent[0]["status"], sent[1]["body"].decode(), dict(sent[0]["headers"])


def post(path: str, sent: Any, **headers: str) -> tuple[int, str]:
    """Status and text for a JSON body; whatever is not 200 has not reached the app."""
    behind = Behind()
    status, text, _ = ask(behind, "POST", path, [json.dumps(sent).encode()], **headers)
    assert bool(behind.reached) == (status == 200)
    return status, text


def test_a_body_that_came_in_parts_reaches_the_app_whole() -> None:
    behind = Behind()
    body = json.dumps(CALL).encode()
    status, _, headers = ask(behind, "POST", "/gradio_api/run/predict", [body[:9], b"", body[9:]], **OWN)
    assert status == 200
    assert behind.reached == [("/gradio_api/run/predict", body)]
    assert headers[b"x-content-type-options"] == b"nosniff"
    assert b"content-security-policy" in headers


@pytest.mark.parametrize(
    ("path", "most"), [("/gradio_api/run/predict", CALL_BYTES), ("/gradio_api/cancel", SIGNAL_BYTES)]
)
def test_a_body_is_refused_at_its_limit_whether_or_not_it_says_its_length(path: str, most: int) -> None:
    behind = Behind()
    assert ask(behind, "POST", path, [b"{}"], **OWN, content_length=str(most + 1))[0] == 413
    assert ask(behind, "POST", path, [b" " * 1000] * (most // 1000 + 1), **OWN)[0] == 413
    assert ask(behind, "POST", path, [b"{}"], **OWN, content_length="-1")[0] == 413
    assert not behind.reached


def test_bodies_that_arrive_at_once_are_limited_together_and_count_no_longer_when_they_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(middleware, "READING", 10 / CALL_BYTES)
    behind = Behind()
    held = Guard(behind, Hosts("127.0.0.1"), DOORS)

    async def read(parts: list[bytes], *, cut: bool) -> Any:
        async def receive() -> dict[str, Any]:
            await asyncio.sleep(0.01)
            if not parts:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts) or cut}

        return await held._read({}, receive, 100)

    async def both() -> list[Any]:
        return await asyncio.gather(
            read([b"12345678"], cut=True), read([b"12345678"], cut=False), return_exceptions=True
        )

    first, second = asyncio.run(both())
    assert sorted(refused.status for refused in (first, second)) == [400, 503]
    assert asyncio.run(read([b"12345678"], cut=False)) == b"12345678"


def test_slow_bodies_of_one_address_leave_room_for_those_of_others() -> None:
    held = Guard(Behind(), Hosts("127.0.0.1"), DOORS, call_bytes=10)

    async def reading() -> None:
        never = asyncio.Event()

        def sent(parts: list[bytes]) -> Any:
            async def receive() -> dict[str, Any]:
                if not parts:
                    await never.wait()
                return {"type": "http.request", "body": parts.pop(), "more_body": True}

            return receive

        slow = [asyncio.create_task(held._read({}, sent([b"123456789"]), 10, "192.0.2.7")) for _ in range(20)]
        await asyncio.sleep(0.01)
        refused = [task.exception() for task in slow if task.done()]
        assert [each.status for each in refused if isinstance(each, Refused)] == [503] * 12
        other = asyncio.create_task(held._read({}, sent([b"123456789"]), 10, "192.0.2.8"))
        await asyncio.sleep(0.01)
        assert not other.done()
        for task in (*slow, other):
            task.cancel()
        await asyncio.gather(*slow, other, return_exceptions=True)
        assert not held._reading  # no address is remembered

    asyncio.run(reading())


def test_a_body_that_does_not_arrive_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "READ_S", 0.05)
    assert ask(Behind(), "POST", "/gradio_api/cancel", [b"{", b"}"], pause_s=0.1)[0] == 408


@pytest.mark.parametrize(
    "kind", ["text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded", ""]
)
def test_only_json_is_read(kind: str) -> None:
    behind = Behind()
    body = [json.dumps(CALL).encode()]
    assert ask(behind, "POST", "/gradio_api/run/predict", body, **OWN, content_type=kind)[0] == 415
    assert not behind.reached


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 100_000, b"\xff\xfe\x00", b"9" * 5000, b"[]", b"null", b'"text"'])
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    behind = Behind()
    assert ask(behind, "POST", "/gradio_api/run/predict", [body], **OWN)[0] == 400
    assert not behind.reached


FILE = {"path": "http://127.0.0.1:9/x", "meta": {"_type": "gradio.FileData"}}


@pytest.mark.parametrize(
    "more",
    [
        {"data": [FILE]},
        {"data": [[[[FILE]]]]},
        {"data": {"a": 1}},
        {"data": [{}]},
        {"data": ["x", [1, {"deep": [FILE]}]]},
        {"event_data": {"value": FILE}},
        {"event_data": [FILE]},
        {"other": FILE},
        {"session_hash": "x" * 65},
        {"session_hash": "../x"},
        {"session_hash": ["x"]},
        {"event_id": "a b"},
    ],
)
def test_files_addresses_and_other_objects_are_refused_wherever_they_stand(more: dict[str, Any]) -> None:
    for path, number in (
        ("/gradio_api/run/predict", 7),
        ("/gradio_api/queue/join", 30),
        ("/gradio_api/call/compare", None),
    ):
        body = {**CALL, "fn_index": number, **more}
        if number is None:
            del body["fn_index"]
        assert post(path, body, **OWN)[0] == 400
    assert post("/gradio_api/call/v2/compare", {"prompt": FILE})[0] == 400


COLUMNS = [{"model": "fast", "temperature": 0.5, "messages": [{"role": "user", "content": "Hi"}]}]


def test_the_apis_columns_and_messages_pass_and_the_pages_functions_take_none() -> None:
    assert post("/gradio_api/call/v2/compare", {"prompt": "", "columns": COLUMNS})[0] == 200
    assert post("/gradio_api/queue/join", {**CALL, "data": [COLUMNS], "fn_index": 30})[0] == 200
    assert post("/gradio_api/queue/join", {**CALL, "data": [COLUMNS], "fn_index": 4}, **OWN)[0] == 400
    assert post("/gradio_api/run/predict", {**CALL, "data": [COLUMNS]}, **OWN)[0] == 400
    for more in ({"path": "/etc/passwd"}, {"url": "http://x"}, {"meta": {}}, {"stop": [{"path": "/"}]}):
        assert post("/gradio_api/call/v2/compare", {"columns": [{**COLUMNS[0], **more}]})[0] == 400


def test_gradios_word_of_which_tab_was_opened_passes() -> None:
    assert post("/gradio_api/run/predict", {**CALL, "event_data": {"value": "Choose", "index": 6}}, **OWN)[0] == 200
    assert post("/gradio_api/run/predict", {**CALL, "event_data": ["a"]}, **OWN)[0] == 200


@pytest.mark.parametrize("number", [0, 4, 30, 999, -1, None, True, "7", 7.0, [7]])
def test_only_functions_of_the_page_answer_at_once_and_only_by_their_number(number: Any) -> None:
    assert post("/gradio_api/run/predict", {**CALL, "fn_index": number}, **OWN)[0] == 404


def test_the_page_may_queue_its_own_functions_and_anybody_the_apis() -> None:
    assert post("/gradio_api/queue/join", {**CALL, "fn_index": 4}, **OWN)[0] == 200
    assert post("/gradio_api/queue/join", {**CALL, "fn_index": 4}, sec_fetch_site="same-origin")[0] == 200
    assert post("/gradio_api/queue/join", {**CALL, "fn_index": 30})[0] == 200
    assert post("/gradio_api/call/compare", {"data": []})[0] == 200
    assert post("/gradio_api/call/v2/compare", {"prompt": "Hi", "models": ["fast"]})[0] == 200
    status, said = post("/gradio_api/queue/join", {**CALL, "fn_index": 4})
    assert status == 403
    assert "/compare" in said
    assert post("/gradio_api/run/predict", CALL)[0] == 403
    assert post("/gradio_api/queue/join", {**CALL, "fn_index": 7}, **OWN)[0] == 404
    assert post("/gradio_api/call/choose", {"data": []}, **OWN)[0] == 404
    assert post("/gradio_api/call/compare", {"data": [], "fn_index": 7}, **OWN)[0] == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/gradio_api/file=/etc/passwd"),
        ("GET", "/gradio_api/file=http://127.0.0.1:9/"),
        ("GET", "/gradio_api/proxy=http://127.0.0.1:9/"),
        ("GET", "/monitoring/summary"),
        ("GET", "/gradio_api/runs"),
        ("GET", "/gradio_api/heartbeat/" + "x" * 65),
        ("GET", "/gradio_api/run/predict"),
        ("GET", "//config"),
        ("GET", "/config/../gradio_api/runs"),
        ("GET", "/assets/\n"),
        ("POST", "/"),
        ("POST", "/config"),
        ("POST", "/gradio_api/upload"),
        ("POST", "/gradio_api/run/compare"),
        ("POST", "/gradio_api/api/predict"),
        ("PUT", "/gradio_api/cancel"),
        ("DELETE", "/"),
    ],
)
def test_what_is_not_on_the_list_does_not_answer(method: str, path: str) -> None:
    behind = Behind()
    assert ask(behind, method, path, **OWN)[0] == 404
    assert not behind.reached


@pytest.mark.parametrize(
    "path", ["/", "/config", "/assets/x.js", "/gradio_api/queue/data", "/gradio_api/heartbeat/abc"]
)
def test_other_names_and_other_sites_pages_are_refused_on_every_route(path: str) -> None:
    for headers in ({"host": "evil.example"}, {"origin": "null"}, {"origin": "http://evil.example"}):
        behind = Behind()
        status, said, _ = ask(behind, "GET", path, **headers)
        assert status == 403
        assert "PLAYGROUND_HOSTS" in said
        assert not behind.reached


def test_a_link_from_elsewhere_opens_the_page_and_an_image_tag_opens_nothing_else() -> None:
    assert ask(Behind(), "GET", "/", sec_fetch_site="cross-site")[0] == 200
    for path in ("/config", "/gradio_api/heartbeat/abc", "/gradio_api/queue/data"):
        assert ask(Behind(), "GET", path, sec_fetch_site="cross-site")[0] == 403
        assert ask(Behind(), "GET", path, sec_fetch_site="same-origin")[0] == 200


def test_a_web_socket_is_closed_unopened() -> None:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    asyncio.run(Guard(Behind(), Hosts("127.0.0.1"), DOORS)({"type": "websocket", "path": "/"}, receive, send))
    assert [message["type"] for message in sent] == ["websocket.close"]
