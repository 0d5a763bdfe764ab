"""Where served models are configured: spaces.yaml and PLAYGROUND_REMOTES, every mistake named, no secret repeated."""

from __future__ import annotations

import json
import traceback
from pathlib import Path
from typing import Any

import pytest

from playground.config.endpoints import ENV, ROUTER, host, load_remotes, remote_artifact, remote_spec
from playground.config.settings import load_settings
from playground.deploy.check import check_space
from playground.errors import ConfigError, UnknownModel, UnknownVariant
from playground.records import LoadSpec, ModelSpec, Remote, Request, Variant
from playground.service import Playground
from tests.support.misbehaving_server import chat, serving, stream

pytestmark = pytest.mark.waits

SECRET = "sk-very-secret-0123456789"
GOOD = {"name": "big", "url": "http://127.0.0.1:8000/v1", "model": "m"}


def read(*blocks: Any, **env: str) -> tuple[Remote, ...]:
    return load_remotes(list(blocks), env, "spaces.yaml")


def test_spaces_yaml_and_the_environment_are_read_together_and_the_environment_wins(tmp_path: Path) -> None:
    space = tmp_path / "spaces.yaml"
    space.write_text(
        "app:\n  models: [m]\n  remotes:\n"
        "    - {name: big, url: 'http://127.0.0.1:8000', model: a, key_env: BIG_KEY,"
        " context_length: 4096, timeout_s: 5}\n"
        "    - {name: other, url: 'http://127.0.0.1:8001', model: b, kind: base}\n"
    )
    given = json.dumps([{"name": "other", "provider": "auto", "model": "OWNER/NAME", "key_env": "HF_TOKEN"}])
    settings = load_settings({"PLAYGROUND_SPACE": str(space), ENV: given})
    assert settings.remotes == (
        Remote("big", "a", "http://127.0.0.1:8000/v1", key_env="BIG_KEY", context_length=4096, timeout_s=5),
        Remote("other", "OWNER/NAME", ROUTER, provider="auto", key_env="HF_TOKEN"),
    )


def test_without_remotes_there_are_none(tmp_path: Path) -> None:
    assert load_remotes(None, {}, "spaces.yaml") == ()
    assert load_remotes(None, {ENV: "  "}, "spaces.yaml") == ()


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://localhost:11434", "http://localhost:11434/v1"),
        ("http://localhost:11434/", "http://localhost:11434/v1"),
        ("http://localhost:8000/v1/", "http://localhost:8000/v1"),
        ("https://example.org/v1/chat/completions", "https://example.org/v1"),
        ("https://example.org/openai", "https://example.org/openai"),
        ("http://[::1]:8000", "http://[::1]:8000/v1"),
    ],
)
def test_the_address_is_what_stands_before_chat_completions(url: str, base: str) -> None:
    assert read(GOOD | {"url": url})[0].url == base


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "Big Model"}, r"remotes\[0\]\.name may have"),
        ({"name": None}, r"remotes\[0\]\.name may have"),
        ({"url": "127.0.0.1:8000"}, r"remotes\[0\]\.url is not an http"),
        ({"url": "ftp://host"}, r"remotes\[0\]\.url is not an http"),
        ({"url": "http://"}, r"remotes\[0\]\.url is not an http"),
        ({"url": "http://host:99999"}, r"remotes\[0\]\.url is not an http"),
        ({"url": "http://ho st"}, r"remotes\[0\]\.url is not an http"),
        ({"url": 7}, r"remotes\[0\]\.url is not an http"),
        ({"model": " "}, r"remotes\[0\]\.model must be text"),
        ({"kind": "text2text"}, r"remotes\[0\]\.kind is none of chat, base"),
        ({"context_length": 0}, r"remotes\[0\]\.context_length"),
        ({"timeout_s": 0}, r"remotes\[0\]\.timeout_s must be a number"),
        ({"timeout_s": float("nan")}, r"remotes\[0\]\.timeout_s must be a number"),
        ({"timeout_s": True}, r"remotes\[0\]\.timeout_s must be a number"),
        ({"timeout_s": 3600}, r"600 at most"),
        ({"timeout": 5}, r"unknown key 'timeout'. Did you mean timeout_s"),
        ({"provider": "auto"}, r"both url and provider"),
    ],
)
def test_a_wrong_field_is_named_with_its_place(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(GOOD | change)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"name": "x", "model": "m"}, "neither url nor provider"),
        ({"url": "http://h", "model": "m"}, "'name' is missing"),
        ({"name": "x", "url": "http://h"}, "'model' is missing"),
        ({"name": "x", "provider": "auto", "model": "m"}, "no key_env"),
        (
            {"name": "x", "provider": "Together AI", "model": "m", "key_env": "K"},
            "not the name of an Inference Provider",
        ),
        ({"name": "x", "provider": "auto", "model": "m", "key_env": "K", "kind": "base"}, "reached by chat only"),
        ("x", "is not a block of keys"),
        (None, "is not a block of keys"),
    ],
)
def test_a_wrong_block_says_what_is_missing(block: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(block)


def test_a_name_stands_once() -> None:
    with pytest.raises(ConfigError, match="the name big stands twice"):
        read(GOOD, GOOD)


@pytest.mark.parametrize("block", [{"big": GOOD}, "big", 3])
def test_remotes_are_a_list(block: Any) -> None:
    with pytest.raises(ConfigError, match=r"spaces\.yaml: app\.remotes is not a list"):
        load_remotes(block, {}, "spaces.yaml")


@pytest.mark.parametrize(
    "change",
    [
        {"url": f"http://me:{SECRET}@127.0.0.1:8000"},
        {"url": f"http://{SECRET}@127.0.0.1:8000"},
        {"url": f"http://127.0.0.1:8000/v1?api_key={SECRET}"},
        {"url": f"http://127.0.0.1:8000/v1#{SECRET}"},
        {"url": f"http//{SECRET}"},
        {"key_env": SECRET},
        {"key_env": "hf_abcdefgSECRETabcdefg"},
        {"api_key": SECRET},
        {"key": SECRET},
        {"token": SECRET},
        {"model": f"{SECRET}\n"},
        {"provider": SECRET.upper()},
        {"kind": SECRET},
        {"kind": [SECRET]},
        {"context_length": SECRET},
        {"context_length": {"a": SECRET}},
        {"timeout_s": SECRET},
        {"timeout_s": [SECRET]},
        {SECRET: 1},
        {SECRET: {"a": 1}},
        {(SECRET,): 1},
    ],
)
def test_a_key_in_the_wrong_place_is_refused_and_not_repeated(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        read(GOOD | change)
    assert "secret" not in str(caught.value).lower()


@pytest.mark.parametrize(
    "text", [f'[{{"name": "x", "key": "{SECRET}"', f'"{SECRET}"', f'{{"api_key": "{SECRET}"}}', "[" * 99999]
)
def test_a_broken_environment_variable_is_not_repeated_either(text: str) -> None:
    with pytest.raises(ConfigError, match=ENV) as caught:
        load_remotes(None, {ENV: text}, "spaces.yaml")
    assert SECRET not in str(caught.value) and len(str(caught.value)) < 300
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_the_spec_travels_through_json_and_holds_the_variables_name_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIG_KEY", SECRET)
    remote = read(GOOD | {"key_env": "BIG_KEY", "kind": "base", "context_length": 2048})[0]
    spec = remote_spec(remote)
    load = LoadSpec(spec, remote_artifact(Variant(spec.id, "remote", "served")), threads=2)
    text = json.dumps(load.to_json())
    assert LoadSpec.from_json(json.loads(text)) == load
    assert SECRET not in text and "BIG_KEY" in text
    assert (spec.id, spec.kind, spec.context_length, spec.precisions) == (
        "remote:big",
        "base",
        2048,
        ("remote-served",),
    )
    assert host(remote) == "127.0.0.1:8000"


def test_specs_of_other_models_name_nobody_who_serves_them() -> None:
    spec = ModelSpec("a", "A", "path:x", "", "onnx", "int8", 0, "chat")
    assert ModelSpec.from_json(spec.to_json()) == spec and spec.remote is None


def test_a_remote_is_compared_like_any_model_from_the_catalogue_to_the_worker(
    make_settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name is resolved, nothing is prepared, and the worker's process gets the key and no other secret."""
    monkeypatch.setenv("BIG_KEY", SECRET)
    monkeypatch.setenv("OTHER_KEY", "sk-of-somebody-else")
    with serving(stream(chat("Hel", "lo", usage=(3, 2)))) as server:
        remotes = [{"name": "big", "url": f"http://{server.host}", "model": "m", "key_env": "BIG_KEY"}]
        with Playground(make_settings(**{ENV: json.dumps(remotes)})) as playground:
            spec, variant = playground.catalog.resolve("remote:big")
            assert str(variant) == "remote:big@remote-served"
            state = playground.preparer.state(variant)
            assert state.status == "ready" and state.artifact is not None
            events = list(playground.pool.generate(LoadSpec(spec, state.artifact, 2), Request("hi"), lambda: False))
            run = events[-1].run
            assert run is not None and run.error is None
            assert (run.text, run.timings.cold, run.timings.peak_memory_mb) == ("Hello", True, None)
            [worker] = playground.pool.loaded()
            environment = Path(f"/proc/{worker.pid}/environ")
            if environment.exists():
                assert SECRET.encode() in environment.read_bytes()
                assert b"somebody-else" not in environment.read_bytes()
            comparison = playground.comparer.start(Request("hi"), [variant], "fair").result()
    assert [run.text for run in comparison.runs] == ["Hello"]
    assert {seen.headers["authorization"] for seen in server.seen} == {f"Bearer {SECRET}"}
    assert SECRET not in json.dumps([comparison.to_json(), *(event.to_json() for event in events)])


def test_a_remote_that_breaks_off_keeps_its_text_and_counts_pieces(make_settings: Any) -> None:
    with serving(stream(chat("Hel", "lo", finish=None))) as server:
        remotes = [{"name": "big", "url": f"http://{server.host}", "model": "m"}]
        with Playground(make_settings(**{ENV: json.dumps(remotes)})) as playground:
            spec, variant = playground.catalog.resolve("remote:big")
            load = LoadSpec(spec, remote_artifact(variant), 2)
            run = list(playground.pool.generate(load, Request("hi"), lambda: False))[-1].run
    assert run is not None and run.error is not None and "broke off" in run.error
    assert (run.text, run.finish_reason) == ("Hello", "error")
    assert (run.timings.output_tokens, run.timings.unit, run.timings.threads) == (2, "chunk", None)


def test_an_unknown_remote_is_told_with_those_there_are(make_settings: Any) -> None:
    with Playground(make_settings(**{ENV: json.dumps([GOOD])})) as playground:
        with pytest.raises(UnknownModel, match="Did you mean remote:big"):
            playground.catalog.resolve("remote:bigg")
        with pytest.raises(UnknownVariant, match="remote:big@remote-served"):
            playground.catalog.resolve("remote:big@onnx-int8")


def test_a_space_may_serve_a_remote(make_settings: Any, tmp_path: Path) -> None:
    space = tmp_path / "spaces.yaml"
    space.write_text(
        "space: {title: x}\napp:\n  models: ['remote:big', 'remote:nobody']\n"
        "  remotes: [{name: big, url: 'http://h', model: m}]\n"
    )
    catalog = make_settings().catalog_file
    (tmp_path / "README.md").write_text("")
    for name in ("pre-requirements.txt", "requirements.txt"):
        (tmp_path / name).write_text("")
    problems = check_space(space, tmp_path, catalog)
    assert [problem for problem in problems if "remote:" in problem] == [
        next(problem for problem in problems if "remote:nobody" in problem)
    ]
