"""How often the page may be opened and asked, by real requests: each visitor, and everybody from one address."""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import httpx2
import pytest

from playground.config.settings import Limits
from playground.service import Playground
from playground.ui.limiting import NOBODYS, counted
from tests.conftest import MakeSettings
from tests.support.launched import launched, visitor
from tests.support.watching import until

pytestmark = [pytest.mark.waits, pytest.mark.hostile]

LOADS, READS, SHARE = 4, 6, 2
DATA = "/gradio_api/queue/data?session_hash=nobody"
KEY = "a-key-for-metrics-alone"
OPERATIONS = ("/healthz", "/readyz")
JA = {"accept-language": "ja"}


@pytest.fixture
def app(make_settings: MakeSettings) -> Iterator[str]:
    limits = {
        "max_page_loads_per_minute": LOADS,
        "max_reads_per_minute": READS,
        "visitors_per_address": SHARE,
        "max_pages_of_all": 10,
    }
    with launched(make_settings(), **limits) as url:
        yield url


def in_kana(text: str) -> bool:
    return any("぀" <= letter <= "ヿ" for letter in text)


def test_a_visitor_opens_the_page_so_often_and_is_told_when_to_come_back(app: str) -> None:
    with visitor(app) as me, visitor(app) as other, visitor(app, "192.0.2.2") as elsewhere:
        assert [me.get("/").status_code for _ in range(LOADS)] == [200] * LOADS
        for path in ("/", "/config", "/gradio_api/info"):
            refused = me.get(path)
            assert refused.status_code == 429
            assert 1 <= int(refused.headers["retry-after"]) <= 60
            assert f"{LOADS} times a minute" in refused.text and "Try again in" in refused.text
        said = me.get("/", headers=JA).text
        assert in_kana(said) and str(LOADS) in said
        assert me.head("/").status_code == 429
        assert me.get("/theme.css").status_code == 200  # a file of the package
        assert other.get("/").status_code == 200
        assert elsewhere.get("/").status_code == 200


def test_whoever_keeps_no_cookie_opens_it_as_often_as_their_address_may(app: str) -> None:
    def asked(address: str) -> int:
        with visitor(app, address) as new:
            return int(new.get("/").status_code)

    came = [asked("192.0.2.1") for _ in range(LOADS * SHARE + 3)]
    assert came == [200] * LOADS * SHARE + [429] * 3
    assert asked("192.0.2.2") == 200


def test_what_a_visitor_looks_at_is_counted_apart_from_pages_and_calls(app: str) -> None:
    paths = ["/export/x.json", "/suite/x/view", "/suite/x/row/1", "/watch/x", DATA, "/gradio_api/call/compare/x"]
    assert len(paths) == READS
    with visitor(app) as me, visitor(app) as other:
        for each in (me, other):
            each.get("/")
        assert [me.get(path).status_code for path in paths] == [404, 404, 404, 200, 404, 404]
        for path in [*paths, "/gradio_api/heartbeat/x"]:
            refused = me.get(path, headers=JA)
            assert refused.status_code == 429, path
            assert 1 <= int(refused.headers["retry-after"]) <= 60
            assert in_kana(refused.text) and str(READS) in refused.text
        assert f"{READS} looks a minute" in me.get(DATA).text
        assert me.get("/").status_code == 200
        assert other.get(DATA).status_code == 404


@pytest.mark.parametrize("path", [DATA, "/gradio_api/queue/data", "/gradio_api/call/compare/nobodys"])
def test_a_stream_that_nobody_waits_for_is_refused_in_few_words_and_one_line(
    app: str, path: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with visitor(app) as me, caplog.at_level(logging.INFO):
        refused = me.get(path)
        assert (refused.status_code, refused.text) == (404, f"{NOBODYS}\n")
        assert in_kana(me.get(path, headers=JA).text)
    own = [record for record in caplog.records if record.name.startswith("playground")]
    assert [record.getMessage() for record in own] == ["a stream of answers was asked for that nobody waits for"] * 2
    assert not any(record.exc_info for record in caplog.records)
    said = capfd.readouterr()
    assert "Traceback" not in said.out + said.err


def test_what_was_asked_for_is_streamed(app: str) -> None:
    with visitor(app) as me:
        event = me.post("/gradio_api/call/v2/models", json={}).json()["event_id"]
        assert "event: complete" in me.get(f"/gradio_api/call/v2/models/{event}").text
        number = next(each["id"] for each in me.get("/config").json()["dependencies"] if each["api_name"] == "models")
        sent = {"data": [], "fn_index": number, "session_hash": "mine"}
        me.post("/gradio_api/queue/join", json=sent).raise_for_status()
        with me.stream("GET", "/gradio_api/queue/data?session_hash=mine") as stream:
            assert any("process_completed" in line for line in stream.iter_lines())


def test_nothing_of_this_is_counted_on_ones_own_machine(playground: Playground) -> None:
    for kind in ("calls", "reads", "page_loads"):
        for _ in range(2000):
            playground.count(kind, "me", "192.0.2.1")


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("GET", "/", "page_loads"),
        ("HEAD", "/", "page_loads"),
        ("GET", "/config", "page_loads"),
        ("GET", "/gradio_api/info", "page_loads"),
        ("GET", "/gradio_api/information", "reads"),
        ("GET", "/assets/x.js", None),
        ("GET", "/static/img/x.svg", None),
        ("GET", "/gradio_api/app_id", None),
        ("GET", "/logout", "reads"),
        ("GET", "/login/huggingface", "calls"),
        ("POST", "/gradio_api/queue/join", "calls"),
        ("POST", "/assets/x.js", "calls"),
        ("GET", "/anything/new", "reads"),
    ],
)
def test_what_is_not_named_is_counted(method: str, path: str, kind: Any) -> None:
    assert counted(method, path) == kind


FEW = {"max_pages_of_all": 2, "max_api_waiting_of_all": 2}
BEGUN = (
    "POST /gradio_api/queue/join HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    "Content-Length: 9\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n"
)


def half() -> int:
    return Limits(**FEW).connections // 2


@contextmanager
def connected(url: str, n: int, sent: str = "") -> Iterator[None]:
    """So many connections that ask nothing, or that have sent so much."""
    with ExitStack() as lines:
        for _ in range(n):
            line = lines.enter_context(socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))))
            line.sendall(sent.encode())
        yield


def test_silent_connections_of_one_address_leave_half_to_others(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "192.0.2.99")  # so that 127.0.0.1 is no proxy, but somebody
    with launched(make_settings(), **FEW) as url:
        port = int(url.rpartition(":")[2])
        with connected(url, half()), socket.create_connection(("127.0.0.1", port)) as more:
            more.settimeout(10)
            more.sendall(b"GET /theme.css HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert more.recv(4000).startswith(b"HTTP/1.1 429")
            assert httpx2.get(f"{url}/healthz", timeout=30, verify=False).status_code == 200

        def answered() -> bool:
            with visitor(url) as me, suppress(httpx2.TransportError):
                return bool(me.get("/theme.css").status_code == 200)
            return False

        until(answered)


def test_a_full_app_refuses_visitors_and_answers_whoever_watches_it(make_settings: MakeSettings) -> None:
    with launched(make_settings(PLAYGROUND_METRICS_KEY=KEY), **FEW) as url:
        with connected(url, 2 * half()):
            until(lambda: httpx2.get(f"{url}/theme.css", timeout=30, verify=False).status_code == 503)
            seen = [httpx2.get(f"{url}{path}", timeout=30, verify=False).status_code for path in OPERATIONS]
            assert seen == [200, 200]
            told = httpx2.get(f"{url}/metrics", headers={"authorization": f"Bearer {KEY}"}, timeout=30, verify=False)
            assert told.status_code == 200
            assert re.search(r'playground_refusals_total\{limit="connections"\} [1-9]', told.text)
        until(lambda: httpx2.get(f"{url}/theme.css", timeout=30, verify=False).status_code == 200)


def test_requests_under_way_of_one_address_leave_half_to_others_behind_a_proxy_too(make_settings: MakeSettings) -> None:
    with launched(make_settings(), **FEW) as url, visitor(url) as me, visitor(url, "192.0.2.2") as other:
        with connected(url, half(), BEGUN):
            until(lambda: me.get("/theme.css").status_code == 429)
            refused = me.get("/", headers=JA)
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
            assert in_kana(refused.text)
            assert other.get("/").status_code == 200
            assert me.get("/healthz").status_code == 200
        until(lambda: me.get("/theme.css").status_code == 200)
