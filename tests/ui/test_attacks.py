"""A running app under attack, on loopback: by visitors with programs of their own and by other websites' pages."""

from __future__ import annotations

import http.server
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import httpx2
import psutil
import pytest

from playground.errors import UsageError
from playground.service import Playground
from playground.ui import api
from playground.ui.app import free_port, launch
from playground.ui.middleware import CALL_BYTES, NOTHING
from playground.ui.page import build_ui
from playground.ui.sessions import Sessions
from tests.support.app import App, serving
from tests.support.watching import until
from tests.support.web import MODELS, SPACE_HOST, WEB, call, functions, names, number_of, routes_of

pytestmark = pytest.mark.ui

REFUSED = {403, 404, 405, 413, 415}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The app's home and temporary folder lie in here."""
    made = tmp_path_factory.mktemp("attacked")
    (made / "tmp").mkdir()
    return made


@pytest.fixture(scope="module")
def app(folder: Path) -> Iterator[App]:
    with serving(folder, MODELS, TMPDIR=str(folder / "tmp")) as app:
        yield app


def written(folder: Path) -> dict[str, int]:
    """Sizes of the files in the app's temporary folders."""
    files = [*(folder / "tmp").rglob("*"), *(folder / "home" / "gradio").rglob("*")]
    return {str(file): file.stat().st_size for file in files if file.is_file()}


@pytest.mark.hostile
def test_of_all_routes_those_that_the_page_and_the_api_need_answer_and_no_others(playground: Playground) -> None:
    demo = build_ui(playground)
    port = free_port("127.0.0.1", 0)
    settings = replace(playground.settings, port=port)
    launch(demo, settings)
    try:
        every = set(routes_of(demo.app))
        answered = set()
        for method, path in every:
            filled = re.sub(r"\{[^}]*\}", "x", path)
            url = f"http://127.0.0.1:{port}{filled}"
            with WEB.stream(method, url, params={"session_hash": "x"}, follow_redirects=False) as answer:
                status = answer.status_code  # some are streams without an end
                nothing = status == 404 and answer.headers.get("content-length") == str(len(f"{NOTHING}\n"))
            if status not in REFUSED or (status == 404 and not nothing):
                answered.add((method, path))
            if method == "POST":
                assert status in REFUSED, "no body of no kind is JSON"
        assert len(every) > 60
        assert answered == {
            ("GET", "/"),
            ("HEAD", "/"),
            ("GET", "/assets/{path:path}"),
            ("GET", "/static/{path:path}"),
            ("GET", "/config"),
            ("GET", "/theme.css"),
            ("GET", "/favicon.ico"),
            ("GET", "/robots.txt"),
            ("GET", "/gradio_api/info"),
            ("GET", "/gradio_api/app_id"),
            ("GET", "/gradio_api/startup-events"),
            ("GET", "/gradio_api/heartbeat/{session_hash}"),
            ("GET", "/gradio_api/heartbeat/{session}"),  # ours, which stands before it
            ("GET", "/gradio_api/queue/data"),
            ("GET", "/gradio_api/call/{api_name}/{event_id}"),
            ("GET", "/gradio_api/call/v2/{api_name}/{event_id}"),
        }
    finally:
        demo.close(verbose=False)


BODIES = [
    "process_recording",
    "component_server",
    "upload",
    "vibe-edit",
    "queue/join",
    "run/predict",
    "cancel",
    "reset",
    "call/compare",
    "call/v2/compare",
    "api/predict",
    "stream/x",
]


@pytest.mark.hostile
@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=b", "application/json"])
@pytest.mark.parametrize("chunked", [True, False])
def test_no_route_takes_a_large_body_into_memory_or_onto_the_disk(
    app: App, folder: Path, kind: str, chunked: bool
) -> None:
    before, process = written(folder), psutil.Process(app.process.pid)
    held = process.memory_info().rss
    head = (
        b'--b\r\nContent-Disposition: form-data; name="video"; filename="a.webm"\r\n\r\n'
        if "form" in kind
        else b'{"data": ["'
    )
    total = 100 * CALL_BYTES
    most = 0

    def parts() -> Iterator[bytes]:
        nonlocal most
        yield head
        for _ in range(100):
            yield b"x" * CALL_BYTES
            most = max(most, process.memory_info().rss)

    for route in BODIES:
        length = {} if chunked else {"Content-Length": str(len(head) + total)}
        headers = {**names(app), "Content-Type": kind, **length}
        try:
            answer = WEB.post(f"{app.url}gradio_api/{route}", content=parts(), headers=headers)
        except httpx2.TransportError:
            continue  # the server hung up: as good as an answer
        assert answer.status_code in REFUSED, route
    assert written(folder) == before
    assert most - held < 60_000_000
    assert WEB.get(app.url).status_code == 200


@pytest.mark.hostile
def test_a_cut_upload_leaves_nothing(app: App, folder: Path) -> None:
    before = written(folder)
    host, port = re.match(r"http://([\d.]+):(\d+)", app.url).groups()  # type: ignore[union-attr]
    for route in BODIES:
        for kind in ("multipart/form-data; boundary=b", "application/json"):
            with socket.create_connection((host, int(port))) as connection:
                connection.sendall(
                    f"POST /gradio_api/{route} HTTP/1.1\r\nHost: {host}:{port}\r\nOrigin: {app.url.rstrip('/')}\r\n"
                    f"Content-Type: {kind}\r\nContent-Length: 900000\r\n\r\n".encode()
                    + b'--b\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
                    + b"x" * 300_000
                )
    time.sleep(1)
    until(lambda: written(folder) == before)
    assert WEB.get(app.url).status_code == 200


@pytest.mark.hostile
def test_what_was_written_for_the_page_goes_with_the_app_and_what_a_killed_one_left_goes_with_the_next(
    tmp_path: Path,
) -> None:
    left = tmp_path / "home" / "gradio" / "app-999999999"
    left.mkdir(parents=True)
    (left / "upload").write_bytes(b"x")
    (tmp_path / "tmp").mkdir()
    with serving(tmp_path, "fast", TMPDIR=str(tmp_path / "tmp")) as app:
        mine = tmp_path / "home" / "gradio" / f"app-{app.process.pid}"
        assert mine.is_dir()
        assert not left.exists()
        (mine / "upload").write_bytes(b"x")
    assert not mine.exists()
    assert written(tmp_path) == {}


@pytest.mark.hostile
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "0.0.0.0"])
def test_the_app_answers_to_the_name_it_listens_on_and_to_no_foreign_one(playground: Playground, host: str) -> None:
    try:
        port = free_port(host, 0)
    except UsageError:
        pytest.skip(f"no {host} here")
    demo = build_ui(playground)
    launch(demo, replace(playground.settings, host=host, port=port))
    try:
        base = {"::1": "[::1]", "0.0.0.0": "127.0.0.1"}.get(host, host)
        assert WEB.get(f"http://{base}:{port}/config").status_code == 200
        assert WEB.get(f"http://{base}:{port}/config", headers={"Host": "evil.example"}).status_code == 403
        own = WEB.get(f"http://{base}:{port}/config", headers={"Host": socket.gethostname()})
        assert own.status_code == (200 if host == "0.0.0.0" else 403)
    finally:
        demo.close(verbose=False)


@pytest.mark.hostile
def test_an_app_with_passwords_starts_and_answers_who_has_one(playground: Playground) -> None:
    """Gradio asks an address of its own app while it starts, and has no password."""
    demo = build_ui(playground)
    port = free_port("127.0.0.1", 0)
    launch(demo, replace(playground.settings, port=port, users=(("ann", "a-long-password"),)))
    try:
        base = f"http://127.0.0.1:{port}"
        assert [WEB.get(base + path).status_code for path in ("/", "/config", "/gradio_api/info")] == [401] * 3
        assert WEB.get(f"{base}/gradio_api/startup-events").text == "false"  # nothing is started twice
        assert WEB.get(f"{base}/config", auth=("ann", "a-long-password")).status_code == 200
    finally:
        demo.close(verbose=False)


def test_what_the_api_asks_for_by_default_is_within_the_limits(playground: Playground) -> None:
    playground.settings = replace(playground.settings, limits=replace(playground.settings.limits, max_new_tokens=64))
    with gr.Blocks() as demo:
        api.build(playground, Sessions())
    asked = demo.get_api_info()["named_endpoints"]["/compare"]["parameters"]
    assert [each["parameter_default"] for each in asked if each["parameter_name"] == "max_new_tokens"] == [64]


@pytest.mark.hostile
def test_made_up_sessions_push_each_other_out(playground: Playground) -> None:
    demo = build_ui(playground)
    kept = demo._queue.pending_event_ids_session
    assert kept.max_size == demo._queue.pending_messages_per_session.max_size  # type: ignore[attr-defined]
    kept.max_size = 5  # type: ignore[attr-defined]
    port = free_port("127.0.0.1", 0)
    limits = replace(playground.settings.limits, max_pages_of_all=5)
    launch(demo, replace(playground.settings, port=port, limits=limits))
    try:
        compare = next(number for number, fn in demo.fns.items() if fn.api_name == "models")
        for turn in range(12):
            sent = {"data": [], "fn_index": compare, "session_hash": f"made-up-{turn}"}
            WEB.post(f"http://127.0.0.1:{port}/gradio_api/queue/join", json=sent).raise_for_status()
        assert len(demo.app.state_holder.session_data) <= 5
        assert set(kept) <= {f"made-up-{turn}" for turn in range(7, 12)}
        with WEB.stream("GET", f"http://127.0.0.1:{port}/gradio_api/queue/data?session_hash=made-up-11") as stream:
            assert any("process_completed" in line for line in stream.iter_lines())
    finally:
        demo.close(verbose=False)


@pytest.fixture
def elsewhere() -> Iterator[tuple[str, list[str]]]:
    """A server that the app has no business with, and what it was asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"taken")

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


@pytest.mark.hostile
def test_no_function_takes_a_file_or_an_address_in_place_of_a_value(
    app: App, elsewhere: tuple[str, list[str]], folder: Path
) -> None:
    url, asked = elsewhere
    before = written(folder)
    every = functions(app)
    for path in (f"{url}/taken", "/etc/passwd", str(folder / "space.yaml")):
        file = {"path": path, "url": path, "meta": {"_type": "gradio.FileData"}}
        for value in (file, [file], [["x", [file]]], {"deep": [file]}):
            for number, each in every.items():
                answer = call(app, number, [value] * max(1, len(each["inputs"])))
                assert answer.status_code == 400
                assert "no files" in answer.text
            for route in ("call/compare", "call/v2/compare", "call/card"):
                sent = {"data": [value, ["fast"]]} if "v2" not in route else {"prompt": value, "models": ["fast"]}
                answer = WEB.post(f"{app.url}gradio_api/{route}", json=sent)
                assert answer.status_code == 400
    for path in (f"gradio_api/file={url}/x", f"gradio_api/proxy={url}/x", f"proxy={url}/x", f"file={url}/x"):
        assert WEB.get(app.url + path).status_code == 404
    assert asked == []
    assert written(folder) == before


@pytest.mark.hostile
def test_the_pages_functions_do_not_answer_programs_by_name_or_number(app: App) -> None:
    every = functions(app)
    private = {number: each for number, each in every.items() if each["api_visibility"] != "public"}
    assert len(private) >= 25
    for number, each in private.items():
        data = [None] * len(each["inputs"])
        for path in ("gradio_api/run/predict", "gradio_api/queue/join"):
            sent = {"data": data, "fn_index": number, "session_hash": "x"}
            assert WEB.post(app.url + path, json=sent).status_code in {403, 404}
        for path in ("run", "api", "call", "call/v2"):
            named = f"{app.url}gradio_api/{path}/{each['api_name']}"
            assert WEB.post(named, json={"data": data}).status_code == 404
            assert WEB.post(named, json={"data": data}, headers=names(app)).status_code == 404


@pytest.mark.hostile
@pytest.mark.parametrize("kind", ["host", "origin", "both", "null"])
def test_other_websites_drive_nothing(app: App, kind: str) -> None:
    foreign = {
        "host": {"Host": "evil.example"},
        "origin": {"Origin": "http://evil.example"},
        "both": {"Host": "evil.example:7860", "Origin": "http://evil.example:7860"},
        "null": {"Origin": "null"},
    }[kind]
    compare = {"data": ["Hi", ["fast"]]}
    for path, sent in (
        ("gradio_api/call/compare", compare),
        ("gradio_api/call/v2/compare", {"prompt": "Hi", "models": ["fast"]}),
        ("gradio_api/queue/join", {**compare, "fn_index": number_of(app, "compare"), "session_hash": "x"}),
        ("gradio_api/run/predict", {"data": [], "fn_index": number_of(app, "stop"), "session_hash": "x"}),
        ("gradio_api/cancel", {"session_hash": "x", "fn_index": 4, "event_id": "x"}),
    ):
        answer = WEB.post(app.url + path, json=sent, headers=foreign)
        assert answer.status_code == 403, path
        assert "PLAYGROUND_HOSTS" in answer.text
    for path in ("", "config", "gradio_api/info", "gradio_api/queue/data?session_hash=x", "gradio_api/heartbeat/x"):
        assert WEB.get(app.url + path, headers=foreign).status_code == 403, path


@pytest.mark.hostile
def test_a_web_socket_is_refused(app: App) -> None:
    host, port = re.match(r"http://([\d.]+):(\d+)", app.url).groups()  # type: ignore[union-attr]
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(
            f"GET /gradio_api/queue/join HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
            "\r\n".encode()
        )
        assert re.match(rb"HTTP/1.1 (403|404)", connection.recv(100))


@pytest.mark.hostile
def test_a_space_answers_to_its_own_name_and_to_its_own_page(space: App) -> None:
    own = {"Host": SPACE_HOST, "Origin": f"https://{SPACE_HOST}"}
    assert WEB.get(space.url, headers={"Host": SPACE_HOST, "Sec-Fetch-Site": "cross-site"}).status_code == 200
    assert call(space, number_of(space, "stop"), [""], **own).status_code == 200
    for origin in ("https://huggingface.co", "https://other-name.hf.space", "null"):
        assert call(space, number_of(space, "stop"), [""], **{**own, "Origin": origin}).status_code == 403
    assert WEB.get(space.url, headers={"Host": "evil.example"}).status_code == 403
