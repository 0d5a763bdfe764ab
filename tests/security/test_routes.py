"""Every route of the app, gradio's and ours, was decided upon: a new one fails here until somebody does."""

from __future__ import annotations

import re

import gradio as gr
import pytest
from starlette.testclient import TestClient

from playground.api.app import create_api
from playground.api.beside import PATHS
from playground.config.hosts import Hosts
from playground.config.logins import HubLogin
from playground.service import Playground
from playground.ui import files, hub_login, middleware, suite_views, watching
from playground.ui.limiting import counted
from tests.support.web import routes_of

pytestmark = pytest.mark.hostile

OPEN = """
GET /; HEAD /; GET /assets/{path:path}; GET /static/{path:path}; GET /config; GET /theme.css; GET /favicon.ico;
GET /robots.txt; GET /gradio_api/info; GET /gradio_api/app_id; GET /gradio_api/startup-events;
GET /gradio_api/heartbeat/{session_hash}; GET /gradio_api/queue/data; GET /gradio_api/call/{api_name}/{event_id};
GET /gradio_api/call/v2/{api_name}/{event_id}; POST /gradio_api/call/{api_name}; POST /gradio_api/call/v2/{api_name};
POST /gradio_api/cancel; POST /gradio_api/queue/join; POST /gradio_api/run/{api_name}
"""
"""Of gradio's: what the page and the API are made of."""
CLOSED = """
GET /config/; POST /gradio_api/api/{api_name}; POST /gradio_api/api/{api_name}/; GET /gradio_api/app_id/;
POST /gradio_api/call/v2/{api_name}/; POST /gradio_api/call/{api_name}/; POST /gradio_api/component_server;
POST /gradio_api/component_server/; GET /gradio_api/custom_component/{id}/{environment}/{type}/{file_name};
GET /gradio_api/deep_link; GET /gradio_api/dev/reload; GET /gradio_api/file/{path:path};
GET /gradio_api/file={path_or_url:path}; HEAD /gradio_api/file={path_or_url:path}; GET /gradio_api/info/;
GET /gradio_api/login_check; GET /gradio_api/login_check/; GET /gradio_api/openapi.json;
POST /gradio_api/process_recording; GET /gradio_api/proxy={url_path:path}; HEAD /gradio_api/proxy={url_path:path};
GET /gradio_api/queue/status; POST /gradio_api/reset; POST /gradio_api/reset/; GET /gradio_api/run-history/buckets;
POST /gradio_api/run-history/connect; GET /gradio_api/run-history/records;
GET /gradio_api/run-history/records/{endpoint}/{record_id}/assets/{asset_id}; POST /gradio_api/run/{api_name}/;
GET /gradio_api/runs; GET /gradio_api/runs/; POST /gradio_api/stream/{event_id};
POST /gradio_api/stream/{event_id}/close; GET /gradio_api/stream/{session_hash}/{run}/{component_id}/playlist-file;
GET /gradio_api/stream/{session_hash}/{run}/{component_id}/playlist.m3u8;
GET /gradio_api/stream/{session_hash}/{run}/{component_id}/{segment_id}.{ext}; GET /gradio_api/theme.css;
GET /gradio_api/token; GET /gradio_api/token/; POST /gradio_api/undo-vibe-edit; POST /gradio_api/undo-vibe-edit/;
POST /gradio_api/upload; GET /gradio_api/upload_progress; GET /gradio_api/user; GET /gradio_api/user/;
GET /gradio_api/vibe-code; POST /gradio_api/vibe-code; GET /gradio_api/vibe-code/; POST /gradio_api/vibe-code/;
POST /gradio_api/vibe-edit; POST /gradio_api/vibe-edit/; POST /gradio_api/vibe-starter-queries;
POST /gradio_api/vibe-starter-queries/; POST /login; POST /login/; GET /logout; GET /manifest.json; GET /monitoring;
GET /monitoring/summary; GET /monitoring/{key}; GET /openapi.json; HEAD /openapi.json; GET /pwa_icon;
GET /pwa_icon/{size}; GET /svelte/{path:path}
"""
"""Of gradio's: uploads, files, other sites' addresses, its editor, its login, its numbers. Nothing here needs them."""
PAGE_LOADS = "GET /; HEAD /; GET /config; GET /gradio_api/info"
"""The largest answers, made anew for each request: counted by themselves."""
FREE = """
GET /assets/{path:path}; GET /static/{path:path}; GET /theme.css; GET /favicon.ico; GET /robots.txt;
GET /gradio_api/app_id; GET /gradio_api/startup-events
"""
"""Not counted: files of the package, which browsers keep, and two constants. What is fetched of them at the same time
is bounded for each address (``api.crowd``), as everything is."""
MADE_ONCE = {"/", "/health", "/v1/openapi.json", "/v1/docs"}
"""Of the door: not counted, for they are made once, say nothing of anybody and need no key."""
FILLED = {
    "api_name": "predict",
    "path": "js/x.js",
    "ending": "json",
    "id": "20260101-000000-" + "0" * 32,
    "row": "1",
    "number": "1",
}


def listed(text: str) -> set[tuple[str, str]]:
    return {(method, path) for method, path in (each.split() for each in text.split(";") if each.strip())}


def filled(path: str) -> str:
    return re.sub(r"\{(\w+)[^}]*\}", lambda name: FILLED.get(name[1], "x"), path)


def passes(method: str, path: str) -> bool:
    """Whether the guard lets this route's requests in."""
    try:
        middleware._check_route({"method": method, "path": filled(path)})
    except middleware.Refused as refused:
        assert refused.status == 404
        return False
    return True


@pytest.fixture(scope="module")
def gradios() -> set[tuple[str, str]]:
    with gr.Blocks() as demo:
        gr.Textbox()
    return set(routes_of(gr.routes.App.create_app(demo)))


def test_each_route_of_gradio_was_decided_upon(gradios: set[tuple[str, str]]) -> None:
    decided = listed(OPEN) | listed(CLOSED)
    assert not listed(OPEN) & listed(CLOSED)
    assert not gradios - decided, "new in gradio: read what it does and add it to one of the lists"
    assert not decided - gradios, "gone from gradio: take it off the list, and off the guard's"


def test_the_guard_lets_in_what_is_open_and_nothing_else(gradios: set[tuple[str, str]]) -> None:
    assert {each for each in gradios if passes(*each)} == listed(OPEN)


def test_the_login_with_hugging_face_answers_where_it_is_on_and_nowhere_else() -> None:
    ways = ("/login/huggingface", "/login/callback", "/logout")
    for path in ways:
        assert not passes("GET", path)
        middleware._check_route({"method": "GET", "path": path}, login=True)
    for method, path in [("POST", way) for way in ways] + [("GET", "/login"), ("GET", "/login/x"), ("GET", "/logout/")]:
        with pytest.raises(middleware.Refused):
            middleware._check_route({"method": method, "path": path}, login=True)
    given = HubLogin("owner-name.hf.space", "https://provider.example", "id", "secret")
    assert [route.path for route in hub_login.HubDoor(given).routes()] == list(ways)


def test_our_own_routes_pass_and_every_line_of_the_guard_is_of_use(
    playground: Playground, gradios: set[tuple[str, str]]
) -> None:
    ours = {
        (method, route.path)
        for part in (files, watching, suite_views)
        for route in part.routes(playground)
        for method in route.methods or ()
    }
    assert ours
    assert {each for each in ours if each[0] == "GET" and not passes(*each)} == set()
    every = {(method, filled(path)) for method, path in gradios | ours}
    for methods, pattern in middleware._ROUTES:
        assert any(method in methods and pattern.fullmatch(path) for method, path in every), pattern.pattern


def test_the_doors_routes_are_those_that_pass_beside_the_page(playground: Playground) -> None:
    door = create_api(playground, hosts=Hosts("127.0.0.1"))
    paths = {path for _, path in routes_of(door)}
    beside = {path for path in paths if PATHS.fullmatch(path.replace("{name:path}", "x").replace("{id}", "x"))}
    assert paths - beside == {"/"}


@pytest.mark.parametrize(
    "path",
    [
        "//config", "/config/", "/CONFIG", "/./config", "/assets/../config", "/config%00", "/config\n", "/config\x00",
        "/gradio_api/heartbeat/../../x", "/gradio_api/heartbeat/" + "a" * 65, "/export/../../etc/passwd.json",
        "/gradio_api/file=/etc/passwd", "/gradio_api/dev/reload", "/gradio_api/component_server", "/docs", "/redoc",
        "/.env", "/.git/config", "/metrics/", "/debug/pprof", "/wp-login.php", "/suite/x/row/99999999", "",
        "/watch/", "/watch/a/b", "*", "http://evil.example/config", "/gradio_api/proxy=http://127.0.0.1/",
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "get", "X"])
def test_what_is_nearly_a_route_is_none(method: str, path: str) -> None:
    assert not passes(method, path) or (method == "GET" and path == "/assets/../config")


def test_each_route_is_counted_or_there_is_a_reason_why_it_is_not(playground: Playground) -> None:
    given = HubLogin("owner-name.hf.space", "https://provider.example", "id", "secret")
    parts = [part.routes(playground) for part in (files, watching, suite_views)]
    ours = {
        (method, route.path)
        for routes in (*parts, hub_login.HubDoor(given).routes())
        for route in routes
        for method in route.methods or ()
    }
    for method, path in listed(OPEN) | ours:
        expected = "calls" if method == "POST" or path.startswith("/login/") else "reads"
        expected = "page_loads" if (method, path) in listed(PAGE_LOADS) else expected
        found = counted(method, filled(path))
        assert found == (None if (method, path) in listed(FREE) else expected), (method, path)


def test_each_call_of_the_door_is_counted_or_is_made_once(
    playground: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(playground, "count", lambda kind, who: told.append(f"{kind} of {who}"))
    door = create_api(playground, hosts=Hosts("127.0.0.1"))
    with TestClient(door, base_url="http://127.0.0.1") as client:
        for method, path in routes_of(door):
            told.clear()
            client.request(method, filled(path), follow_redirects=False)
            assert told == ([] if path in MADE_ONCE else ["calls of address:testclient"]), (method, path)
