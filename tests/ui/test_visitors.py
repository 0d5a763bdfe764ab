"""Each browser is one visitor and stays that; nobody becomes another one by what they send."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from itsdangerous import Signer

from playground.config.settings import Settings
from playground.errors import ConfigError
from playground.ui.visitors import COOKIE, HEADER, SECRET_FILE, UNKNOWN, Visitors, secret_of, visitor

SECRET, OTHER = "s" * 32, "o" * 32


class Sent:
    """A request as gradio hands it to a function."""

    def __init__(self, headers: dict[str, str], session: str = "tab", username: str | None = None) -> None:
        self.headers, self.session_hash, self.username = headers, session, username


def ask(
    secret: str | None, *sent: tuple[str, str], path: str = "/", method: str = "GET", answer: tuple[str, str] = ("", "")
) -> tuple[str | None, list[str], dict[str, str]]:
    """The name the app is told, the cookies that are set, and the other headers of the answer."""
    told: list[str | None] = []
    headers: list[tuple[str, str]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        names = [value.decode() for name, value in scope["headers"] if name == HEADER.encode()]
        assert len(names) <= 1
        told.extend(names or [None])
        given = [(answer[0].encode(), answer[1].encode())] if answer[0] else []
        await send({"type": "http.response.start", "status": 200, "headers": given})
        await send({"type": "http.response.body", "body": b""})

    async def send(message: dict[str, Any]) -> None:
        headers.extend((name.decode(), value.decode()) for name, value in message.get("headers", ()))

    listed = [(name.encode(), value.encode("latin-1")) for name, value in sent]
    scope = {"type": "http", "method": method, "path": path, "scheme": "http", "headers": listed}
    asyncio.run(Visitors(app, secret)(scope, None, send))
    return told[0], [value for name, value in headers if name == "set-cookie"], dict(headers)


def first_visit(secret: str = SECRET) -> tuple[str, str]:
    """A new visitor's name and their cookie as a browser sends it back."""
    name, cookies, _ = ask(secret)
    assert name
    return name, cookies[0].split(";")[0]


def test_a_browser_gets_a_name_with_the_page_and_keeps_it() -> None:
    name, cookie = first_visit()
    for path, method in (("/", "GET"), ("/gradio_api/queue/join", "POST")):
        told, _, _ = ask(SECRET, ("cookie", f"other=1; {cookie}; more=2"), path=path, method=method)
        assert told == name
    _, cookies, _ = ask(SECRET, ("cookie", cookie))
    assert cookies[0].startswith(f"{cookie};")
    assert first_visit()[0] != name


def test_the_name_is_hidden_from_scripts_and_stays_on_this_site() -> None:
    _, (cookie,), headers = ask(SECRET)
    assert {"Path=/", "HttpOnly", "SameSite=Lax"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    assert headers["cache-control"] == "private"
    _, _, headers = ask(SECRET, answer=("cache-control", "no-store"))
    assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize("proto", ["https", "HTTPS, http"])
def test_by_https_the_cookie_works_in_a_frame_of_another_site(proto: str) -> None:
    _, (cookie,), _ = ask(SECRET, ("x-forwarded-proto", proto))
    assert {"SameSite=None", "Secure", "Partitioned", "HttpOnly"} <= set(cookie.split("; "))
    _, (cookie,), _ = ask(SECRET, ("x-forwarded-proto", "http"))
    assert "Secure" not in cookie


def test_only_the_page_sets_a_cookie() -> None:
    for path, method in (("/gradio_api/queue/join", "POST"), ("/config", "GET"), ("/", "HEAD")):
        told, cookies, _ = ask(SECRET, path=path, method=method)
        assert told == UNKNOWN
        assert cookies == []


def forged(cookie: str) -> dict[str, str]:
    name, _, signature = cookie.partition("=")[2].rpartition(".")
    return {
        "no signature": f"{COOKIE}={name}",
        "another's signature": f"{COOKIE}={'a' * 22}.{signature}",
        "cut": cookie[:-1],
        "empty": f"{COOKIE}=",
        "another secret": first_visit(OTHER)[1],
        "not ASCII": f"{COOKIE}=ü.{signature}",
        "another purpose": f"{COOKIE}=" + Signer(SECRET, salt="x").sign("a" * 22).decode(),
        "no name": f"{COOKIE}=" + Signer(SECRET, salt=COOKIE, digest_method=hashlib.sha256)
        .sign("../../etc")
        .decode(),
    }  # fmt: skip


@pytest.mark.parametrize("how", forged(first_visit()[1]))
def test_a_cookie_that_is_not_ours_is_as_good_as_none(how: str) -> None:
    name, cookie = first_visit()
    sent = forged(cookie)[how]
    told, _, _ = ask(SECRET, ("cookie", sent), path="/config")
    assert told == UNKNOWN
    told, cookies, _ = ask(SECRET, ("cookie", sent))
    assert told not in (name, UNKNOWN, "a" * 22)
    assert len(cookies) == 1
    told, _, _ = ask(SECRET, ("cookie", f"{sent}; {cookie}"), path="/config")
    assert told == name


def test_who_writes_the_inner_header_is_not_believed() -> None:
    name, _ = first_visit()
    for secret in (SECRET, None):
        told, _, _ = ask(secret, ("X-Playground-Visitor", name), (HEADER, name), path="/config")
        assert told == (UNKNOWN if secret else None)


def test_on_ones_own_machine_nobody_is_asked(settings: Settings) -> None:
    assert secret_of(settings) is None
    assert ask(None) == (None, [], {})
    assert visitor(Sent({})) == ""
    assert not (settings.home / SECRET_FILE).exists()


def test_without_cookies_a_tab_is_a_visitor_and_a_login_is_one_everywhere() -> None:
    def named(header: str, session: str, username: str | None = None) -> str:
        return visitor(Sent({HEADER: header}, session, username))

    assert named("me", "one") == named("me", "two") == "me"
    assert named(UNKNOWN, "one") == named(UNKNOWN, "one") != named(UNKNOWN, "two")
    assert "one" not in named(UNKNOWN, "one")
    assert named(UNKNOWN, "") == ""
    assert named("me", "one", "ann") == named(UNKNOWN, "two", "ann") == "login:ann"


def test_the_secret_outlives_a_restart_and_is_its_owners_alone(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(SPACE_ID="o/n")
    made = secret_of(settings)
    file = settings.home / SECRET_FILE
    assert made
    assert len(made) >= 32
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o644)
    assert secret_of(settings) == made
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.write_text(made[:5])
    assert secret_of(settings) not in (made, made[:5])
    assert secret_of(settings) == file.read_text()


def test_processes_that_start_at_once_share_one_secret(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(SPACE_ID="o/n")
    found: list[str | None] = []
    threads = [threading.Thread(target=lambda: found.append(secret_of(settings))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_replicas_share_the_secret_of_the_environment(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(SPACE_ID="o/n", PLAYGROUND_SECRET=SECRET)
    assert secret_of(settings) == SECRET
    assert SECRET not in repr(settings)
    assert not (settings.home / SECRET_FILE).exists()
    with pytest.raises(ConfigError, match="could be guessed") as caught:
        make_settings(PLAYGROUND_SECRET="hunter2")
    assert "hunter2" not in str(caught.value)


def test_where_it_cannot_be_kept_it_is_good_until_the_end_and_that_is_said(
    make_settings: Callable[..., Settings], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    settings = make_settings(SPACE_ID="o/n", PLAYGROUND_HOME=tmp_path / "file" / "home")
    with caplog.at_level(logging.WARNING):
        made = secret_of(settings)
    assert made
    assert "PLAYGROUND_SECRET" in caplog.text
    assert made not in caplog.text
