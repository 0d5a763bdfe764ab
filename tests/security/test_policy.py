"""What browsers are told: the page runs its own scripts and no others, in frames of websites that were named."""

from __future__ import annotations

import base64
import hashlib
import re
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from playground.config.settings import load_settings
from playground.errors import ConfigError
from playground.ui import policy
from tests.support.app import App, chromium, serving
from tests.support.web import SPACE_ENV, SPACE_HOST, WEB

pytestmark = pytest.mark.ui


def directives(policies: list[str]) -> dict[str, str]:
    """Each directive of a page's policies with what it allows; of two policies both hold."""
    found: dict[str, str] = {}
    for each in ", ".join(policies).split(","):
        for one in filter(None, map(str.strip, each.split(";"))):
            name, _, allowed = one.partition(" ")
            found[name] = f"{found.get(name, '')} {allowed}".strip()
    return found


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with serving(tmp_path_factory.mktemp("policy"), "fast, base") as app:
        yield app


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with serving(tmp_path_factory.mktemp("space"), "fast", **SPACE_ENV) as app:
        yield app


def test_every_answer_says_what_a_browser_may_do_with_it(app: App) -> None:
    for path in (
        "",
        "config",
        "theme.css",
        "static/js/iframeResizer.contentWindow.min.js",
        "no/such/page",
    ):
        answer = WEB.get(app.url + path)
        told = directives(answer.headers.get_list("content-security-policy"))
        assert answer.headers["x-content-type-options"] == "nosniff", path
        assert answer.headers["referrer-policy"] == "same-origin", path
        assert "camera=()" in answer.headers["permissions-policy"], path
        assert told["frame-ancestors"] == "'self'", path
        assert set(told["object-src"].split()) == {"'none'"}, path


ALLOWED = {
    **{name: {"'self'"} for name in ("default-src", "connect-src", "media-src", "manifest-src")},
    **{name: {"'self'"} for name in ("base-uri", "form-action", "frame-ancestors")},
    "img-src": {"'self'", "data:", "blob:"},
    "font-src": {"'self'", "data:"},
    "object-src": {"'none'"},
    "worker-src": {"'self'", "blob:"},
    "style-src": {"'self'", "'unsafe-inline'"},
    "script-src": {"'self'", "'unsafe-eval'"},
}
"""Of the page: no other host for anything, and no script without its number or its checksum."""
OF_EVERY_ANSWER = {"img-src", "font-src", "media-src", "object-src", "base-uri", "form-action", "frame-ancestors"}


@pytest.mark.parametrize("path", ["", "config", "theme.css", "no/such/page"])
def test_no_other_host_is_asked_for_anything(app: App, path: str) -> None:
    told = directives(WEB.get(app.url + path).headers.get_list("content-security-policy"))
    assert set(told) == (OF_EVERY_ANSWER if path else set(ALLOWED))
    for name, allowed in told.items():
        drawn = {each for each in allowed.split() if re.match(r"'(nonce|sha256)-[\w+/=-]+'$", each)}
        assert not drawn or name == "script-src"
        assert set(allowed.split()) - drawn <= ALLOWED[name], name


def test_the_pages_scripts_carry_a_number_drawn_anew(app: App) -> None:
    seen = set()
    for _ in range(2):
        answer = WEB.get(app.url)
        told = directives(answer.headers.get_list("content-security-policy"))
        nonce = re.findall(r"'nonce-([\w-]{20,})'", told["script-src"])
        assert len(nonce) == 1
        tags = re.findall(r"<script[^>]*>(?=[^<]|\n|<)", re.sub(r"(?s)(<script[^>]*>).*?</script", r"\1", answer.text))
        assert len(tags) >= 5
        assert all(f'nonce="{nonce[0]}"' in tag for tag in tags)
        assert "unsafe-inline" not in told["script-src"]
        seen.add(nonce[0])
    assert len(seen) == 2


def test_a_text_of_a_script_that_names_tags_stays_as_it_is() -> None:
    page = b"<head><script>let a = '<script>'; </script><p><SCRIPT></p><script src=x></script><script>"
    assert policy.with_nonce(page, "N") == (
        b"<head><script nonce=\"N\">let a = '<script>'; </script><p><SCRIPT></p>"
        b'<script nonce="N" src=x></script><script nonce="N">'
    )


def test_scripts_that_gradio_adds_are_known_by_their_text() -> None:
    told = policy.page_policy("N", ["one", "two"]).decode()
    for text in ("one", "two"):
        assert f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" in told


def test_a_space_may_be_shown_by_the_hub_and_another_app_by_those_it_names(
    space: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = WEB.get(space.url, headers={"Host": SPACE_HOST})
    ancestors = directives(answer.headers.get_list("content-security-policy"))["frame-ancestors"].split()
    assert ancestors == ["'self'", "https://huggingface.co", "https://*.huggingface.co", "https://*.hf.space"]
    monkeypatch.setenv("PLAYGROUND_FRAMES", "https://intranet.example.org, *.example.com:8443")
    assert load_settings().frames == ("https://intranet.example.org", "*.example.com:8443")
    for wrong in ("https://a.example/path", "'unsafe-inline'", "a.example; script-src *", "a.example\nX: y", "*"):
        monkeypatch.setenv("PLAYGROUND_FRAMES", wrong)
        with pytest.raises(ConfigError, match="PLAYGROUND_FRAMES"):
            load_settings()


@pytest.mark.parametrize("header", ["X-Forwarded-Host", "x-gradio-server"])
def test_an_address_that_a_stranger_writes_into_a_header_is_not_in_the_page(space: App, header: str) -> None:
    for value in ("evil.example", "http://evil.example", f"{SPACE_HOST}.evil.example", f"evil.example,{SPACE_HOST}"):
        for path in ("", "config", "gradio_api/startup-events"):
            answer = WEB.get(space.url + path, headers={"Host": SPACE_HOST, header: value})
            assert "evil.example" not in answer.text, (path, value)
    named = WEB.get(f"{space.url}config", headers={"Host": SPACE_HOST, "X-Forwarded-Host": SPACE_HOST})
    assert named.json()["root"] == f"http://{SPACE_HOST}"


def test_in_the_browser_every_tab_opens_without_complaint_and_foreign_scripts_do_not_run(app: App) -> None:
    said: list[str] = []
    with chromium() as browser:
        page = browser.new_page()
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(app.url)
        page.wait_for_selector("button#run")
        page.click("button#run")
        page.wait_for_function("document.querySelector('#notice').innerText.trim().startsWith('Done')", timeout=60_000)
        tabs: Any = page.get_by_role("tab")
        opened = 0
        for number in range(tabs.count()):
            if tabs.nth(number).is_visible():
                tabs.nth(number).click()
                opened += 1
        page.wait_for_timeout(500)
        assert opened >= 6
        assert said == []
        page.evaluate(
            """() => {
            const box = document.createElement("div");
            box.innerHTML = '<img src="data:," onerror="window.ran = 1"><a id="js" href="javascript:window.ran = 2">';
            const script = document.createElement("script");
            script.textContent = "window.ran = 3";
            box.append(script);
            document.body.append(box);
            document.querySelector("#js").click();
        }"""
        )
        page.wait_for_timeout(500)
        assert page.evaluate("window.ran") is None
        assert len([each for each in said if "Content Security Policy" in each]) >= 3


def test_a_head_without_an_end_is_cut(app: App) -> None:
    """The app's connections are those of the door beside it (``api.connections``), which a head of any size fills."""
    host, port = re.match(r"http://([\d.]+):(\d+)", app.url).groups()  # type: ignore[union-attr]
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        try:
            connection.sendall(f"GET /config HTTP/1.1\r\nHost: {host}:{port}\r\n".encode())
            for number in range(200):
                connection.sendall(f"X-{number}: {'x' * 1000}\r\n".encode())
            answer = connection.recv(100)
        except ConnectionError:
            answer = b""
    assert not answer or re.match(rb"HTTP/1.1 4", answer)
    assert WEB.get(f"{app.url}config").status_code == 200
