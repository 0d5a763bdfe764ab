"""How visitors sign in is a setting: what lacks for it is told before the app opens, and commands need none of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from playground.config.logins import check_login
from playground.config.settings import load_settings
from playground.errors import ConfigError
from playground.ui import app
from tests.conftest import MakeSettings

pytestmark = pytest.mark.parallel

USERS = {"PLAYGROUND_USERS": "ann:a-long-password"}
SPACE = {"SPACE_ID": "o/n", "SPACE_HOST": "o-n.hf.space, play.example.org"}
OAUTH = SPACE | {
    "OPENID_PROVIDER_URL": "https://huggingface.co/",
    "OAUTH_CLIENT_ID": "id",
    "OAUTH_CLIENT_SECRET": "the-clients-secret",
}
HUB = {"PLAYGROUND_LOGIN": "hugging-face"}


@pytest.mark.parametrize(
    ("env", "how"),
    [
        ({}, "none"),
        (USERS, "password"),
        (SPACE, "none"),
        (OAUTH, "none"),
        (HUB | OAUTH, "hugging-face"),
        (HUB | USERS, "password"),
        ({"PLAYGROUND_LOGIN": "password"} | USERS, "password"),
        ({"PLAYGROUND_LOGIN": "none"} | OAUTH, "none"),
    ],
)
def test_the_login_is_what_was_set_else_whether_there_are_passwords(
    make_settings: MakeSettings, env: dict[str, str], how: str
) -> None:
    settings = make_settings(**env)
    assert settings.signing_in == how
    check_login(settings)


@pytest.mark.parametrize(
    ("env", "told"),
    [
        (HUB, r"on a Space alone.*PLAYGROUND_USERS=NAME:PASSWORD"),
        (HUB | {"HOST": "0.0.0.0"}, "on a Space alone"),
        (HUB | {"HF_TOKEN": "hf_of_whoever_runs_it"}, "on a Space alone"),
        (HUB | SPACE, r"OPENID_PROVIDER_URL, OAUTH_CLIENT_ID, OAUTH_CLIENT_SECRET.*hf_oauth: true"),
        (HUB | OAUTH | {"OAUTH_CLIENT_SECRET": ""}, "was not given OAUTH_CLIENT_SECRET"),
        (HUB | OAUTH | {"SPACE_HOST": ""}, "was not given SPACE_HOST"),
        (HUB | OAUTH | {"OPENID_PROVIDER_URL": "http://provider.example"}, "was not given OPENID_PROVIDER_URL"),
        (HUB | OAUTH | {"OPENID_PROVIDER_URL": "http://localhost.evil.example"}, "OPENID_PROVIDER_URL"),
        (HUB | OAUTH | USERS, "as well"),
        (HUB | OAUTH | {"PLAYGROUND_AUDIENCE": "own"}, "audience is own"),
        ({"PLAYGROUND_LOGIN": "password"}, "names nobody"),
        ({"PLAYGROUND_LOGIN": "none"} | USERS, "names people"),
    ],
)
def test_what_lacks_is_told_with_the_next_step(make_settings: MakeSettings, env: dict[str, str], told: str) -> None:
    settings = make_settings(**env)  # a command in a terminal works all the same
    with pytest.raises(ConfigError, match=f"(?s){told}") as caught:
        check_login(settings)
    assert "the-clients-secret" not in str(caught.value.message)


def test_a_login_that_is_none_of_them_is_refused(make_settings: MakeSettings, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="PLAYGROUND_LOGIN is 'github'"):
        make_settings(PLAYGROUND_LOGIN="github")
    space = tmp_path / "spaces.yaml"
    space.write_text("app: {models: [fast], login: github}")
    with pytest.raises(ConfigError, match=r"login is 'github'"):
        make_settings(PLAYGROUND_SPACE=space)
    space.write_text("app: {models: [fast], login: hugging-face}")
    assert make_settings(PLAYGROUND_SPACE=space).login == "hugging-face"
    assert make_settings(PLAYGROUND_SPACE=space, PLAYGROUND_LOGIN="none").signing_in == "none"


def test_the_clients_secret_is_not_in_what_settings_print(make_settings: MakeSettings) -> None:
    settings = make_settings(**HUB, **OAUTH)
    assert settings.hub_login.client_secret == "the-clients-secret"
    assert settings.hub_login.host == "o-n.hf.space"
    assert "the-clients-secret" not in repr(settings)
    assert not load_settings({k: v for k, v in OAUTH.items() if not k.startswith("SPACE")}).hub_login.client_secret


def test_off_a_space_the_app_does_not_open_and_says_why(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(app, "load_settings", lambda: make_settings(**HUB))
    monkeypatch.setattr(app, "serve", lambda settings: pytest.fail("it opened"))
    assert app.main(["--port", "0"]) == app.WRONG
    assert "PLAYGROUND_USERS" in capsys.readouterr().err
