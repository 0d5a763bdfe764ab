"""Names and passwords of a page: who knows one comes in, who guesses is slowed, and nobody is locked out by others."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from playground.service.guesses import ADDRESSES, MINUTES, Guesses
from playground.ui.signing_in import COOKIE, STARTING, SigningIn
from playground.ui.visitors import HEADER
from tests.conftest import MakeSettings
from tests.support.launched import launched, visitor

pytestmark = [pytest.mark.waits, pytest.mark.hostile]

MOST = 3
ANN, BOB = ("ann", "a-long-password"), ("bob", "another-password")


@pytest.fixture
def app(make_settings: MakeSettings) -> Iterator[str]:
    with launched(make_settings(), users=(ANN, BOB), max_wrong_passwords=MOST) as url:
        yield url


def asked(url: str, address: str, *auth: str, **more: Any) -> httpx2.Response:
    """A browser without cookies asks for something small."""
    with visitor(url, address) as browser:
        return browser.get("/theme.css", auth=auth or None, **more)


def guess(url: str, address: str, n: int = MOST, name: str = "ann") -> list[int]:
    return [asked(url, address, name, f"guess {number} of {address}").status_code for number in range(n)]


def test_after_some_wrong_passwords_an_address_waits_and_is_told_for_how_long(app: str) -> None:
    assert asked(app, "192.0.2.1").status_code == 401, "who sends none is asked for one, and has guessed nothing"
    assert guess(app, "192.0.2.1", MOST + 2) == [401] * MOST + [429] * 2
    refused = asked(app, "192.0.2.1", *ANN)
    assert refused.status_code == 429, "not even the right one is looked at: the answer would tell that it is"
    assert 1 <= int(refused.headers["retry-after"]) <= MINUTES * 60
    assert f"{MOST} wrong passwords" in refused.text and "Try again in" in refused.text
    said = asked(app, "192.0.2.1", *ANN, headers={"accept-language": "ja"}).text
    assert str(MOST) in said and any("぀" <= letter <= "ヿ" for letter in said)
    assert asked(app, "192.0.2.1").status_code == 401, "and the page still says how to sign in"


def test_a_right_password_from_another_address_is_not_kept_out_by_one_that_guesses(app: str) -> None:
    guess(app, "192.0.2.1", 10 * MOST)
    for who in (ANN, BOB):
        assert asked(app, "192.0.2.2", *who).status_code == 200


def test_of_one_name_so_many_are_wrong_from_all_addresses_together_and_other_names_are_untouched(app: str) -> None:
    for number in range(ADDRESSES):
        assert guess(app, f"192.0.2.{number}") == [401] * MOST
    refused = asked(app, "198.51.100.1", *ANN)
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= MINUTES * 60
    assert f"{MOST * ADDRESSES} wrong passwords for this name" in refused.text
    assert asked(app, "198.51.100.1", *BOB).status_code == 200


def test_a_browser_that_signed_in_before_comes_in_whoever_guesses(app: str) -> None:
    with visitor(app, "192.0.2.9", auth=ANN) as browser:
        page = browser.get("/")
        assert page.status_code == 200
        cookie = next(each for each in page.headers.get_list("set-cookie") if each.startswith(COOKIE))
        assert "HttpOnly" in cookie and "ann" not in cookie and ANN[1] not in cookie
        for number in range(ADDRESSES):
            guess(app, f"192.0.2.{number}")
        guess(app, "192.0.2.9")
        assert asked(app, "192.0.2.9", *ANN).status_code == 429
        assert browser.get("/theme.css").status_code == 200
        assert COOKIE not in str(browser.get("/").headers.get_list("set-cookie")), "one is enough"
        known = dict(browser.cookies)
        with visitor(app, "192.0.2.9", cookies=known) as thief:
            assert thief.get("/theme.css").status_code == 401, "it is no password"
            wrong = [thief.get("/theme.css", auth=("ann", f"wrong {n}")).status_code for n in range(MOST + 1)]
            assert wrong == [401] * MOST + [429]
            assert thief.get("/theme.css", auth=BOB).status_code == 200, "another name has a bound of its own"


def test_an_open_page_that_sends_an_old_password_again_and_again_guesses_once(app: str) -> None:
    for _ in range(5 * MOST):
        assert asked(app, "192.0.2.1", "ann", "the-old-password").status_code == 401
    assert asked(app, "192.0.2.1", *ANN).status_code == 200


def signing_in(secret: str = "s" * 32, users: Any = (ANN, BOB), most: int | None = MOST) -> TestClient:
    said = [Route(path, lambda request: PlainTextResponse(request.headers.get(HEADER, ""))) for path in ("/", STARTING)]
    return TestClient(SigningIn(Starlette(routes=said), users, Guesses(most), lambda scope: "192.0.2.1", secret))


def basic(sent: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(sent.encode()).decode()}


def test_only_who_knows_a_password_comes_in_and_nobody_says_who_they_are_by_themselves() -> None:
    client = signing_in(most=None)
    for _ in range(20):
        for wrong in (None, "ann:another-password", "ann:", ":", "ann", "carl:a-long-password"):
            refused = client.get("/", headers={HEADER: "login:bob"} | (basic(wrong) if wrong is not None else {}))
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"].startswith("Basic")
    assert client.get("/", headers={HEADER: "login:bob"} | basic("ann:a-long-password")).text == "login:ann"
    assert client.get("/", headers={"authorization": "Basic %%%"}).status_code == 401
    assert client.get(STARTING, headers={HEADER: "login:bob"}).text == ""


@pytest.mark.parametrize(
    ("secret", "users"), [("o" * 32, (ANN, BOB)), ("s" * 32, (("ann", "a-new-password"), BOB)), ("s" * 32, (BOB,))]
)
def test_a_browser_is_known_by_this_app_and_until_the_password_is_another(secret: str, users: Any) -> None:
    first = signing_in()
    first.get("/", headers=basic(":".join(ANN)))
    known = dict(first.cookies)
    assert known

    def left(client: TestClient) -> int:
        """Guesses until there are too many, with the cookie; those without were used up before."""
        for number in range(MOST):
            client.get("/", headers=basic(f"ann:used {number}"))
        client.cookies.update(known)
        return [client.get("/", headers=basic(f"ann:wrong {n}")).status_code for n in range(2 * MOST)].count(401)

    assert left(signing_in()) == MOST
    assert left(signing_in(secret, users)) == 0
