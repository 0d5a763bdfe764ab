"""The command ``tokens``, on a scripted model."""

from __future__ import annotations

import json
from typing import Any

import pytest

from playground.cli import main
from playground.records import Request
from playground.service import Playground


@pytest.fixture
def stored(make_settings: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    settings = make_settings()
    monkeypatch.setenv("PLAYGROUND_HOME", str(settings.home))
    with Playground(settings) as playground:
        job = playground.comparer.start(Request("Say it."), ["fake:text=the+quick\x1b+fox&sure=11"], "fair")
        result = job.result()
        playground.keep(result)
    return str(result.id)


def test_tokens_of_a_stored_answer_as_a_table_and_as_json(stored: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tokens", stored]) == 0
    shown = capsys.readouterr().out
    assert "'quick\\x1b '" in shown and "\x1b" not in shown, "what a model said can't steer the terminal"
    assert "perplexity" in shown and "softmax at temperature 1" in shown
    assert main(["tokens", stored, "1", "--json"]) == 0
    read = json.loads(capsys.readouterr().out)
    assert [token["rank"] for token in read["tokens"]] == [1, 1, 1]
    assert read["comparison"] == stored and len(read["tokens"][0]["alternatives"]) >= 5


def test_what_is_not_there_is_said(stored: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tokens", "nothing"]) == 2
    assert "No comparison has the id 'nothing'" in capsys.readouterr().err
    assert main(["tokens", stored, "2"]) == 2
    assert "no column 2" in capsys.readouterr().err
