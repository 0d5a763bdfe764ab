"""``playground votes``: the table, the document and the files say the same."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from playground.cli import main
from playground.config.settings import Settings
from playground.service import Playground
from tests.support.votes import vote

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def voted(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three of four votes for ``fast``, one of them on code."""
    data = Path(__file__).parents[1] / "data"
    monkeypatch.setenv("PLAYGROUND_HOME", str(settings.home))
    monkeypatch.setenv("PLAYGROUND_CATALOG", str(data / "fake_catalog.yaml"))
    monkeypatch.setenv("PLAYGROUND_SPACE", str(data / "fake_space.yaml"))
    with Playground(settings) as playground:
        vote(playground, "c1", "best", 0, tag="code")
        for id in ("c22", "c333"):
            vote(playground, id, "best", 0)
        vote(playground, "c4444", "best", 1)


def test_people_read_a_table_with_intervals(capsys: Captured) -> None:
    assert main(["votes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:2] == ["fast@fake-none", "67%"]
    assert any("Fewer than 5 votes" in line for line in lines)
    assert lines[-1] == "4 blind votes"


def test_programs_read_one_document(capsys: Captured) -> None:
    assert main(["votes", "--json", "--by", "model"]) == 0
    told = json.loads(capsys.readouterr().out)
    first = told["ratings"]["models"][0]
    assert (first["name"], first["wins"], first["losses"], len(told["votes"])) == ("fast", 3, 1, 4)
    assert first["win_rate"] == pytest.approx(2 / 3, abs=1e-6)


def test_files_have_a_line_a_pair(capsys: Captured) -> None:
    assert main(["votes", "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["winner"] for row in rows] == ["model_a", "model_a", "model_a", "model_b"]
    assert main(["votes", "--jsonl"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["tag"] == "code"
    assert main(["votes", "--arena"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["winner"] for line in lines] == ["model_a", "model_a", "model_a", "model_b"]
    assert lines[0]["conversation_a"][-1] == {"role": "assistant", "content": "Answer 0."}
    assert main(["votes", "--arena", "--csv"]) == 2


def test_the_vote_is_the_score_of_a_comparison_that_is_exported_for_llm_comparator(capsys: Captured) -> None:
    assert main(["history", "c1", "--format", "comparator"]) == 0
    (example,) = json.loads(capsys.readouterr().out)["examples"]
    assert (example["output_text_a"], example["score"], example["tags"]) == ("Answer 0.", 1.5, ["code"])
    assert main(["history", "c1", "--format", "comparator", "--pair", "2,1"]) == 0
    (example,) = json.loads(capsys.readouterr().out)["examples"]
    assert (example["output_text_a"], example["score"]) == ("Answer 1.", -1.5)
    for wrong in ("1,3", "1", "a,b", "1,1"):
        assert main(["history", "c1", "--format", "comparator", "--pair", wrong]) == 2
    assert main(["history", "c1", "--pair", "1,2"]) == 2


def test_a_tag_that_nobody_gave_is_answered_with_those_in_use(capsys: Captured) -> None:
    assert main(["votes", "--tag", "Code"]) == 0
    assert "1 blind vote" in capsys.readouterr().out
    assert main(["votes", "--tag", "poems"]) == 2
    assert "Tags in use: code." in capsys.readouterr().err


@pytest.mark.parametrize("options", [["--csv", "--json"], ["--by", "size"], ["--csv", "--tag", "code"]])
def test_options_that_mean_nothing_together_are_refused(options: list[str], capsys: Captured) -> None:
    assert main(["votes", *options]) == 2
