"""Columns with parameters of their own, replies and answers gone on with, from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from playground.cli import main
from playground.cli.columns import split
from playground.errors import UsageError
from playground.service import Playground

Captured = pytest.CaptureFixture[str]

pytestmark = pytest.mark.waits


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Path(__file__).parents[1] / "data"
    env = {"HOME": tmp_path / "home", "SPACE": data / "fake_space.yaml", "CATALOG": data / "fake_catalog.yaml"}
    for name, value in env.items():
        monkeypatch.setenv(f"PLAYGROUND_{name}", str(value))
    monkeypatch.setenv("COLUMNS", "160")


def asked(capsys: Captured, *args: str, code: int = 0) -> Any:
    assert main([*args, "--json"]) == code
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("text", "model", "own"),
    [
        ("fast", "fast", {}),
        ("fast@fake-none?temperature=0.7&seed=1", "fast@fake-none", {"temperature": 0.7, "seed": 1}),
        ("fast?system=Be+brief.&stop=a&stop=b", "fast", {"system": "Be brief.", "stop": ("a", "b")}),
        ("fake:text=Why?&step_s=0.1", "fake:text=Why?&step_s=0.1", {}),
        ("path:/a?b?top_k=3", "path:/a?b", {"top_k": 3}),
    ],
)
def test_a_model_with_its_own_parameters_is_read(text: str, model: str, own: dict[str, Any]) -> None:
    assert split(text) == (model, own)


@pytest.mark.parametrize(
    ("text", "words"), [("fast?heat=1", "'heat'"), ("fast?", "has no parameter"), ("fast?seed=one", "seed is 'one'")]
)
def test_a_wrong_parameter_is_told(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        split(text)


def test_by_itself_no_answer_is_longer_than_the_limit(
    capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = (Path(__file__).parents[1] / "data" / "fake_space.yaml").read_text(encoding="utf-8")
    (tmp_path / "space.yaml").write_text(space.replace("max_new_tokens: 256", "max_new_tokens: 3"), encoding="utf-8")
    monkeypatch.setenv("PLAYGROUND_SPACE", str(tmp_path / "space.yaml"))
    assert asked(capsys, "compare", "-m", "fast", "Hi")["request"]["max_new_tokens"] == 3
    measured = asked(capsys, "bench", "models", "-m", "fast", "--repeats", "2", "--no-save")
    assert measured["request"]["max_new_tokens"] == 3
    assert main(["diff", "fast", "fast", "Hi"]) != 0
    assert "max_new_tokens" not in capsys.readouterr().err, "it is refused for being one model twice"
    assert main(["compare", "-m", "fast", "Hi", "--max-new-tokens", "4"]) != 0
    assert "max_new_tokens is 4" in capsys.readouterr().err


def test_one_model_in_two_columns_is_told_apart(capsys: Captured) -> None:
    found = asked(capsys, "compare", "-m", "fast", "-m", "fast?max_new_tokens=2", "--repeat", "2", "Hi")
    first, second = found["comparisons"][0]["runs"]
    assert (first["request"], second["request"]["max_new_tokens"]) == (None, 2)
    assert list(found["medians"]) == ["fast@fake-none #1", "fast@fake-none #2"]
    assert found["medians"]["fast@fake-none #2"]["output_tokens"] == 2
    assert main(["compare", "-m", "fast", "-m", "fast?max_new_tokens=2", "Hi"]) == 0
    printed = capsys.readouterr()
    assert "fast@fake-none #2" in printed.out
    assert "asked otherwise: Most tokens of the answer: 2 (of all: 128)" in printed.out
    assert "fast@fake-none #2: done (length), 2 tokens" in printed.err


def test_a_kept_comparison_is_replied_to_gone_on_with_and_shown_whole(capsys: Captured) -> None:
    models = ("-m", "slow", "-m", "base", "--max-new-tokens", "3", "--save")
    first = asked(capsys, "compare", *models, "Hello?")
    second = asked(capsys, "reply", first["id"], "Sure?", "--column", "1")
    assert second["parent"] == first["id"]
    assert [message["content"] for message in second["runs"][0]["request"]["messages"]] == [
        "Hello?",
        first["runs"][0]["text"],
        "Sure?",
    ]
    assert second["runs"][1]["taken_in"] == first["id"]
    third = asked(capsys, "go-on", second["id"], "1")
    assert third["runs"][0]["text"].startswith(second["runs"][0]["text"])
    assert main(["history", third["id"]]) == 0
    shown = capsys.readouterr().out
    assert f"assistant: {first['runs'][0]['text'].strip()}" in shown
    assert f"carried over from {first['id']}" in shown
    assert main(["replay", third["id"]]) == 0
    capsys.readouterr()
    refused = asked(capsys, "reply", first["id"], "Sure?", "--column", "2", code=2)
    assert "base model" in refused["error"]["message"]
    assert "no column 3" in asked(capsys, "go-on", first["id"], "3", code=2)["error"]["message"]
    assert "No comparison has the id" in asked(capsys, "reply", "nothing", "Sure?", code=2)["error"]["message"]


def test_what_is_not_saved_is_not_kept_while_it_runs_either(capsys: Captured) -> None:
    found = asked(capsys, "compare", "-m", "fast", "Hi")
    from playground.config.settings import load_settings

    with Playground(load_settings()) as playground:
        assert playground.comparison(found["id"]) is None
