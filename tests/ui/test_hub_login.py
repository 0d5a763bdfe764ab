"""Signing in with Hugging Face as a browser does it, by plain HTTP: through the app's real redirects to a provider on
loopback and back. The app is told that it is a Space, and asked by https as the Space's proxy asks it.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from itsdangerous import TimestampSigner
from starlette.applications import Starlette
from starlette.testclient import TestClient

from playground.config.logins import HubLogin
from playground.ui.hub_login import COOKIE, HubDoor, middleware, who_of
from playground.ui.visitors import HEADER, HUB, account_of
from tests.support.app import App, serving
from tests.support.openid import CLIENT, SECRET, Provider, openid
from tests.support.watching import until
from tests.support.web import SPACE_ENV, SPACE_HOST, names

pytestmark = [pytest.mark.waits, pytest.mark.hostile]

CALLS = 30
SPACE = f"""
app:
  models: [fast]
  login: hugging-face
  may_add: signed-in
  limits: {{max_calls_per_minute: {CALLS}, visitors_per_address: 1000}}
"""
BASE = f"https://{SPACE_HOST}"


class Proxy(httpx2.HTTPTransport):
    """What stands before a Space: https for whoever asks, http to the app behind it."""

    def __init__(self, app: App) -> None:
        super().__init__(verify=False)
        self._to = httpx2.URL(app.url)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        url = request.url.copy_with(scheme="http", host=self._to.host, port=self._to.port)
        headers = [*request.headers.multi_items(), ("X-Forwarded-Proto", "https")]
        return super().handle_request(
            httpx2.Request(request.method, url, headers=headers, stream=request.stream, extensions=request.extensions)
        )


class Browser(httpx2.Client):
    """One browser's cookies."""

    def __init__(self, app: App) -> None:
        super().__init__(
            timeout=30, verify=False, follow_redirects=True, base_url=BASE, mounts={BASE: Proxy(app)},
            headers={"Sec-Fetch-Site": "none"},
        )  # fmt: skip

    def __enter__(self) -> Browser:
        super().__enter__()
        self.get("/")  # a visitor's name of its own
        return self

    def signed_in(self) -> str:
        """The account's name, as the page shows it."""
        config = self.get("/config").json()
        box = next(part["id"] for part in config["components"] if part["props"].get("elem_id") == "login")
        number = next(each["id"] for each in config["dependencies"] if each["outputs"] == [box])
        body = {"data": [], "fn_index": number, "session_hash": "tab"}
        shown = self.post("/gradio_api/run/predict", json=body, headers={"Origin": BASE}).json()["data"][0]
        found = re.search(r"Signed in as ([\w.-]+)<", shown if isinstance(shown, str) else "")
        return found[1] if found else ""

    def run(self, model: str, language: str = "en") -> str:
        """All that the page is told when Run is pressed with this model."""
        number = next(each["id"] for each in self.get("/config").json()["dependencies"] if each["api_name"] == "run")
        session = secrets.token_hex(6)
        asked = ["fair", "Hi", "", 8, 0, 0, 1, 0, 1, 0, "", False]
        body = {"data": [[model], "", False, *asked], "fn_index": number, "session_hash": session}
        headers = {"Origin": BASE, "Accept-Language": language}
        self.post("/gradio_api/queue/join", json=body, headers=headers).raise_for_status()
        said = []
        with self.stream("GET", f"/gradio_api/queue/data?session_hash={session}") as stream:
            for line in stream.iter_lines():
                said.append(json.loads(line[6:]) if line.startswith("data: ") else {})
                if said[-1].get("msg") in {"process_completed", "close_stream"}:
                    break
        return json.dumps(said, ensure_ascii=False)

    def answered(self, told: str, words: str) -> None:
        """The comparison that began is stored with this answer, in time."""
        found = re.search(r"\b\d{8}-\d{6}-[0-9a-f]{32}\b", told)
        assert found, told
        until(lambda: words in self.get(f"/export/{found[0]}.json").text, 30)

    def calls(self) -> int:
        """The status of one more call."""
        nothing = {"session_hash": "tab", "event_id": "none", "fn_index": 0}
        return self.post("/gradio_api/cancel", json=nothing, headers={"Origin": BASE}).status_code


@pytest.fixture(scope="module")
def hub() -> Iterator[Provider]:
    with openid() as provider:
        yield provider


@pytest.fixture(autouse=True)
def honest(hub: Provider) -> None:
    hub.account, hub.refuses, hub.claims = ("ann", "0123456789abcdef"), "", {}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the Space: its home is in it."""
    return tmp_path_factory.mktemp("space")


@pytest.fixture(scope="module")
def space(hub: Provider, folder: Path) -> Iterator[App]:
    (folder / "spaces.yaml").write_text(SPACE)
    env = SPACE_ENV | {
        "PLAYGROUND_SPACE": str(folder / "spaces.yaml"),
        "OPENID_PROVIDER_URL": hub.url,
        "OAUTH_CLIENT_ID": CLIENT,
        "OAUTH_CLIENT_SECRET": SECRET,
        "OAUTH_SCOPES": "openid profile email inference-api",
    }
    with serving(folder, "fast", **env) as app:
        yield app


@pytest.fixture
def browser(space: App) -> Iterator[Browser]:
    with Browser(space) as browser:
        yield browser


def cookie_of(browser: Browser) -> str:
    return next((each.value or "" for each in browser.cookies.jar if each.name == COOKIE), "")


def test_a_visitor_signs_in_and_out_and_no_token_stays(browser: Browser, hub: Provider) -> None:
    assert browser.signed_in() == ""
    end = browser.get("/login/huggingface")
    assert end.url == f"{BASE}/" and end.status_code == 200
    assert browser.signed_in() == "ann"
    back = end.history[-1]
    assert str(back.url).startswith(f"{BASE}/login/callback?")
    flags = {each.strip().lower() for each in back.headers["set-cookie"].split(";")}
    assert {"httponly", "secure", "samesite=none", "partitioned", "path=/"} <= flags
    assert back.headers["cache-control"] == "no-store"
    held = base64.b64decode(cookie_of(browser).split(".")[0]).decode()
    assert json.loads(held) == {"who": "ann/0123456789abcdef"}
    assert hub.tokens and not any(token in held for token in hub.tokens)
    asked = hub.asked[-1]
    assert set(asked["scope"].split()) == {"openid", "profile"}, "nothing that a visitor has is asked for"
    assert asked["redirect_uri"] == f"{BASE}/login/callback"
    browser.get("/logout")
    assert cookie_of(browser) == "" and browser.signed_in() == ""


def test_a_forged_cookie_is_none(browser: Browser) -> None:
    for who, key in (("ann/0123456789abcdef", "a-key-of-somebody-else"), ("ann/1", "")):
        data = base64.b64encode(json.dumps({"who": who}).encode())
        browser.cookies.set(COOKIE, TimestampSigner(key).sign(data).decode(), domain=SPACE_HOST)
        assert browser.signed_in() == ""
    assert "playground_login" not in browser.get("/", headers={HEADER: f"{HUB}ann/1"}).text
    browser.headers[HEADER] = f"{HUB}ann/0123456789abcdef"
    assert browser.signed_in() == ""


def test_a_code_comes_in_by_the_way_alone_that_its_browser_began(space: App, browser: Browser, hub: Provider) -> None:
    given = len(hub.tokens)
    queries = ("?code=x&state=x", "?code=x", "", "?state=" + "x" * 4000, "?error=access_denied", "?code=%00&state[]=1")
    for query in queries:
        end = browser.get(f"/login/callback{query}")
        assert end.status_code in (200, 400), query
        assert browser.signed_in() == ""
    browser.follow_redirects = False
    led = browser.get(browser.get("/login/huggingface").headers["location"]).headers["location"]
    with Browser(space) as other:  # whose visitor was sent a link with somebody's code
        answer = other.get(led)
        assert answer.status_code == 400 and "Sign in again" in answer.text
        assert "もう一度ログイン" in other.get(led, headers={"Accept-Language": "ja"}).text
        assert other.signed_in() == ""
    assert len(hub.tokens) == given, "no code of theirs was taken to the Hub"
    assert browser.get(led).status_code == 303
    assert browser.signed_in() == "ann"
    assert browser.get(led).status_code == 400, "once"


@pytest.mark.parametrize(
    "claims",
    [{"aud": "another-space"}, {"iss": "https://other.example"}, {"nonce": "x"}, {"exp": 1}, {"sub": ""},
     {"preferred_username": "../ann"}, {"preferred_username": None}],
)  # fmt: skip
def test_what_the_hub_says_is_looked_at(browser: Browser, hub: Provider, claims: dict[str, Any]) -> None:
    hub.claims = claims
    end = browser.get("/login/huggingface")
    assert end.status_code == 502 and not any(token in end.text for token in hub.tokens)
    assert browser.signed_in() == ""


def test_an_id_token_that_another_key_signed_says_nothing(
    browser: Browser, hub: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = hub.jwks()
    monkeypatch.setattr(hub, "jwks", lambda: keys)
    monkeypatch.setattr(hub, "key", rsa.generate_private_key(public_exponent=65537, key_size=2048))
    assert browser.get("/login/huggingface").status_code == 502
    assert browser.signed_in() == ""


def test_whoever_thinks_better_of_it_is_back_and_another_error_is_told(browser: Browser, hub: Provider) -> None:
    hub.refuses = "access_denied"
    assert browser.get("/login/huggingface").url == f"{BASE}/"
    hub.refuses = "server_error"
    assert browser.get("/login/huggingface").status_code == 502
    assert browser.signed_in() == ""


def test_many_ways_that_were_begun_keep_the_cookie_small_and_the_last_one_works(browser: Browser) -> None:
    browser.follow_redirects = False
    for _ in range(8):
        way = browser.get("/login/huggingface").headers["location"]
    assert len(cookie_of(browser)) < 2000
    browser.follow_redirects = True
    assert browser.get(way).url == f"{BASE}/"
    assert browser.signed_in() == "ann"


def test_another_name_of_the_space_leads_to_its_first_one(space: App, hub: Provider) -> None:
    asked = httpx2.get(f"{space.url}login/huggingface", headers={"Sec-Fetch-Site": "none"}, verify=False)
    assert asked.status_code == 303
    assert asked.headers["location"] == f"{BASE}/login/huggingface?led"
    again = httpx2.get(f"{space.url}login/huggingface?led", headers={"Sec-Fetch-Site": "none"}, verify=False)
    assert again.headers["location"].startswith(hub.url), "and in no circle"


def test_no_other_website_signs_a_visitor_out(browser: Browser) -> None:
    browser.get("/login/huggingface")
    assert browser.get("/logout", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert browser.get("/logout", headers={"Origin": "https://other.example"}).status_code == 403
    assert browser.signed_in() == "ann"


def test_only_who_is_signed_in_may_add_models_and_others_are_told_in_their_language(browser: Browser) -> None:
    assert "Or sign in: then you may add models" in browser.run("slow-to-prepare")
    assert "ログインするとモデルを追加できます" in browser.run("slow-to-prepare", "ja")
    browser.answered(browser.run("fast"), "Paris is the capital")
    browser.get("/login/huggingface")
    told = browser.run("slow-to-prepare")
    assert "then you may add models" not in told
    browser.answered(told, "Ready at last")


def test_calls_are_counted_for_the_account_in_every_browser(space: App, hub: Provider) -> None:
    hub.account = ("bob", "b0b")
    with Browser(space) as one, Browser(space) as two, Browser(space) as stranger:
        one.get("/login/huggingface")
        two.get("/login/huggingface")
        calls = 0
        while one.calls() == 200 and calls <= 2 * CALLS:  # a new minute may have begun among them
            calls += 1
        assert CALLS - 1 <= calls <= 2 * CALLS
        assert two.calls() == 429
        assert stranger.calls() == 200
        hub.account = ("bob", "another-bob")  # who took the name when it was given up
        stranger.get("/login/huggingface")
        assert stranger.calls() == 200


@pytest.mark.parametrize(
    ("told", "who"),
    [
        ({"preferred_username": "ann", "sub": "1"}, "ann/1"),
        ({"preferred_username": "a/b", "sub": "1"}, ""),
        ({"preferred_username": "ann\r\nx: y", "sub": "1"}, ""),
        ({"preferred_username": "ann", "sub": 1}, ""),
        ({}, ""),
    ],
)
def test_an_account_is_a_name_and_a_number(told: dict[str, Any], who: str) -> None:
    assert who_of(told) == who
    assert account_of(f"{HUB}{who}") == who.partition("/")[0]
    assert account_of("login:ann") == account_of("ann") == ""


def test_the_api_beside_is_as_closed_as_without_a_login(space: App) -> None:
    assert httpx2.get(f"{space.url}v1/models", headers=names(space), verify=False).status_code == 404


def test_no_token_and_no_code_is_in_what_the_app_wrote(browser: Browser, hub: Provider, folder: Path) -> None:
    browser.get("/login/huggingface")
    written = [path for path in folder.rglob("*") if path.is_file()]
    assert hub.tokens and written
    for path in written:
        text = path.read_bytes()
        assert not any(token.encode() in text for token in hub.tokens), path


def test_no_token_no_code_and_no_secret_is_logged(hub: Provider, caplog: pytest.LogCaptureFixture) -> None:
    """Of the door alone, whose log can be read here: as a visitor signs in, and as the Hub says what can't be so."""
    door = HubDoor(HubLogin(SPACE_HOST, hub.url, CLIENT, SECRET))
    app = Starlette(routes=door.routes(), middleware=middleware("s" * 32))
    with caplog.at_level(logging.DEBUG), TestClient(app, BASE, follow_redirects=False) as visitor:
        for claims, status in (({}, 303), ({"nonce": "x"}, 502), ({"sub": ""}, 502)):
            hub.claims = claims
            led = visitor.get("/login/huggingface").headers["location"]
            back = httpx2.get(led, verify=False).headers["location"]
            assert visitor.get(back).status_code == status
    # What a server writes: its own lines, and others' warnings. The browser here has lines of its own.
    written = [each for each in caplog.records if each.name.startswith("playground") or each.levelno >= logging.WARNING]
    said = "\n".join(map(logging.Formatter().format, written))
    assert "Signing in with Hugging Face failed" in said
    assert hub.tokens and not any(each in said for each in (*hub.tokens, SECRET))
