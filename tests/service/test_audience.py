"""Public and own are a setting: what each lets a visitor name, run and add, wherever the app listens."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from starlette.testclient import TestClient

from playground.api.app import create_api
from playground.config.hosts import Hosts
from playground.config.settings import load_settings, own_settings
from playground.errors import ConfigError, StorageError, UsageError
from playground.messages import msg
from playground.owners import MEND
from playground.records import Request, Variant
from playground.service import Playground
from playground.ui.app import door_of
from tests.conftest import MakeSettings

pytestmark = pytest.mark.parallel

ASK = Request("Hello", max_new_tokens=3)


@pytest.mark.parametrize(
    ("env", "public"),
    [
        ({}, False),
        ({"SPACE_ID": "o/n"}, True),
        ({"HOST": "0.0.0.0"}, True),
        ({"PLAYGROUND_HOSTS": "play.example.org"}, True),
        ({"PLAYGROUND_AUDIENCE": "public"}, True),
        ({"PLAYGROUND_AUDIENCE": "own", "HOST": "0.0.0.0"}, False),
        ({"PLAYGROUND_AUDIENCE": "own", "SPACE_ID": "o/n"}, False),
    ],
)
def test_the_audience_is_what_was_set_else_where_the_app_listens(
    make_settings: MakeSettings, env: dict[str, str], public: bool
) -> None:
    settings = make_settings(**env)
    assert settings.strangers is public
    assert settings.adding == ("nobody" if public else "everyone")


def test_what_is_typed_at_the_machine_is_never_a_strangers(make_settings: MakeSettings) -> None:
    home = {"PLAYGROUND_HOME": str(make_settings().home)}
    assert load_settings({"SPACE_ID": "o/n"} | home).strangers
    assert not own_settings({"SPACE_ID": "o/n"} | home).strangers


def test_an_audience_that_is_none_is_refused(make_settings: MakeSettings) -> None:
    with pytest.raises(ConfigError, match="PLAYGROUND_AUDIENCE"):
        make_settings(PLAYGROUND_AUDIENCE="everybody")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("ann", "entry 1 is no NAME:PASSWORD"),
        ("ann:short", "the password of entry 1 is shorter than"),
        ("ann:a-long-password,ann:another-password", "the name of entry 2 was given before"),
        ("a b:a-long-password", "entry 1 is no NAME:PASSWORD"),
    ],
)
def test_users_that_are_wrong_are_told_by_place_and_no_password_is_repeated(
    make_settings: MakeSettings, given: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=f"PLAYGROUND_USERS: {words}") as caught:
        make_settings(PLAYGROUND_USERS=given)
    assert "password," not in str(caught.value.message) and "another" not in str(caught.value.message)


def test_users_are_not_in_what_settings_print(make_settings: MakeSettings) -> None:
    settings = make_settings(PLAYGROUND_USERS="ann:a-long-password")
    assert settings.users == (("ann", "a-long-password"),)
    assert "a-long-password" not in repr(settings)


def test_where_people_need_a_password_programs_need_a_key(make_settings: MakeSettings) -> None:
    users = {"PLAYGROUND_USERS": "ann:a-long-password", "PLAYGROUND_AUDIENCE": "own"}
    with Playground(make_settings(**users)) as playground:
        door = door_of(playground)
        assert door is not None
        asked = TestClient(door, "http://127.0.0.1").get("/v1/models", headers={"Authorization": "Bearer "})
        assert asked.status_code == 401
        assert "PLAYGROUND_API_KEYS" in asked.text
    with Playground(make_settings(**users, PLAYGROUND_API_KEYS="the-key-of-a-program")) as playground:
        client = TestClient(door_of(playground), "http://127.0.0.1")  # type: ignore[arg-type]
        assert client.get("/v1/models").status_code == 401
        key = {"Authorization": "Bearer the-key-of-a-program"}
        assert client.get("/v1/models", headers=key).status_code == 200


@pytest.mark.parametrize("login", ["none", "hugging-face"])
def test_nobody_is_told_to_sign_in_where_they_cant(make_settings: MakeSettings, login: str) -> None:
    settings = replace(make_settings(SPACE_ID="o/n", PLAYGROUND_LOGIN=login), may_add="signed-in")
    with Playground(settings) as playground, pytest.raises(UsageError) as caught:
        playground.check_may_run([Variant("slow-to-prepare", "fake", "none")], "anyone")
    assert ("sign in" in str(caught.value.message)) is (login != "none")


@pytest.mark.parametrize("name", ["path:/etc", "fake:text=x", "hub:o/n", "ollama:x", "remote:theirs", "/etc/passwd"])
def test_the_public_names_the_catalogue_and_nothing_else(make_settings: MakeSettings, name: str) -> None:
    with Playground(make_settings(PLAYGROUND_AUDIENCE="public")) as playground:
        assert playground.may_be_named("fast") and not playground.may_be_named(name)
    with Playground(make_settings(PLAYGROUND_AUDIENCE="own", HOST="0.0.0.0")) as playground:
        assert playground.may_be_named(name)


def test_the_public_runs_what_is_served_or_ready_whichever_way_it_is_asked(make_settings: MakeSettings) -> None:
    with Playground(make_settings(PLAYGROUND_AUDIENCE="public")) as playground:
        other = playground.resolve("slow-to-prepare")[1]
        served = playground.default_variants()[0]
        refused = pytest.raises(UsageError, match="not prepared here")
        for ask in (
            lambda: playground.compare(ASK, [other], owner="me"),
            lambda: playground.benchmark(ASK, [served, other], 1, owner="me"),
            lambda: playground.diff(ASK, served, other, owner="me"),
            lambda: playground.asked("slow-to-prepare", "me"),
        ):
            with refused:
                ask()
        assert playground.asked("slow-to-prepare") == other  # to read of it
        playground.compare(ASK, [served], owner="me").result()
        playground.prepare(other, lambda step, share: None)
        assert playground.may_run(other, "me")


@pytest.mark.parametrize(
    ("adding", "owner", "may"),
    [
        ("everyone", "anyone", True),
        ("signed-in", "anyone", False),
        ("signed-in", "login:ann", True),
        ("signed-in", "key:0123", True),
        ("nobody", "login:ann", False),
    ],
)
def test_who_may_add_models_is_a_setting(make_settings: MakeSettings, adding: str, owner: str, may: bool) -> None:
    settings = replace(make_settings(SPACE_ID="o/n"), may_add=adding)  # type: ignore[arg-type]
    with Playground(settings) as playground:
        missing = Variant("slow-to-prepare", "fake", "none")
        assert playground.may_run(missing, owner) is may


# -- what visitors are told ----------------------------------------------------------------------------------------

OWNERS = ("playground models", "path:", "spaces.yaml", "PLAYGROUND_", "terminal")


def refused(playground: Playground, sent: dict[str, Any]) -> dict[str, Any]:
    """What ``/v1`` says to a chat with these fields."""
    client = TestClient(create_api(playground, hosts=Hosts("127.0.0.1")), "http://127.0.0.1")
    body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1} | sent
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code >= 400
    error: dict[str, Any] = answer.json()["error"]
    return error | {"status": answer.status_code}


@pytest.mark.parametrize(
    ("model", "status", "told"),
    [
        ("path:/etc/passwd", 404, "Known models: base, "),
        ("hub:owner/name", 404, "written like fast@fake-none."),
        ("fasst", 404, "Did you mean fast? GET /v1/models lists"),
        ("fast@onnx-int8", 404, "Known variants: fast@fake-none, slow@fake-none, base@fake-none"),
        ("slow-to-prepare", 400, "Ask for one of fast@fake-none, slow@fake-none, base@fake-none"),
    ],
)
def test_a_program_of_the_public_is_told_what_it_can_ask_for_and_how(
    make_settings: MakeSettings, model: str, status: int, told: str
) -> None:
    with Playground(make_settings(PLAYGROUND_AUDIENCE="public")) as playground:
        error = refused(playground, {"model": model})
    assert error["status"] == status
    assert told in error["message"]
    assert not [word for word in OWNERS if word in error["message"].replace(model, "")]


def test_its_owner_is_told_of_files_and_commands(make_settings: MakeSettings) -> None:
    with Playground(make_settings()) as playground:
        assert "path:FOLDER_OR_GGUF" in refused(playground, {"model": "ftp:x"})["message"]
        assert "spaces.yaml" in refused(playground, {"model": "fast", "max_tokens": 9999})["message"]


def test_limits_and_failures_name_no_settings_to_the_public(make_settings: MakeSettings) -> None:
    with Playground(make_settings(PLAYGROUND_AUDIENCE="public")) as playground:
        long = refused(playground, {"model": "fast", "max_tokens": 9999})["message"]
        assert long == "max_tokens is 9999. This server allows 256 at most."
        sent = {"model": "fast", "messages": [{"role": "user", "content": "x" * 3000}]}
        assert "spaces.yaml" not in refused(playground, sent)["message"]


@pytest.mark.parametrize("stream", [False, True])
def test_advice_for_the_owner_reaches_no_program_of_the_public(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    def full(*_: Any) -> Any:
        raise StorageError(msg("The disk is full"), msg("Free some space on that disk."))

    for audience, step in (("public", MEND), ("own", "Free some space on that disk.")):
        with Playground(make_settings(PLAYGROUND_AUDIENCE=audience)) as playground:
            monkeypatch.setattr(playground, "make_ready", full)
            error = refused(playground, {"model": "fast", "stream": stream})
        assert error["message"] == f"The disk is full. {step}"


def test_a_page_of_the_public_names_what_it_offers(make_settings: MakeSettings) -> None:
    with Playground(make_settings(PLAYGROUND_AUDIENCE="public")) as playground:
        with pytest.raises(UsageError, match="are served") as caught:
            playground.check_may_run([Variant("slow-to-prepare", "fake", "none")], "anyone")
        assert "fast@fake-none" in caught.value.message
