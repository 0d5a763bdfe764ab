"""The suite command, run whole on scripted models: what it prints, what it writes, and with which code it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from playground.cli import main
from playground.paths import ROOT
from tests.support.scripted_models import catalog_entry

Captured = pytest.CaptureFixture[str]

SUITE: dict[str, Any] = {
    "description": "Numbers",
    "prompts": ["Count to {{n}}."],
    "providers": ["alpha", "beta"],
    "tests": [
        {"vars": {"n": "one"}, "assert": [{"type": "contains", "value": "one"}]},
        {"vars": {"n": "eins"}, "assert": [{"type": "contains", "value": "eins"}]},
        {"vars": {"n": "four"}, "assert": [{"type": "icontains", "value": "FOUR"}]},
    ],
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home and a catalogue of the test's own, and a suite in the working directory; returns that."""
    catalogue = [
        catalog_entry("alpha", "text=one two three four&step_s=0.01"),
        catalog_entry("beta", "text=eins zwei one"),
        catalog_entry("broken", "fail_at=2"),
        catalog_entry("slow", "text=one two three four&step_s=0.2"),
    ]
    (tmp_path / "catalog.yaml").write_text(yaml.safe_dump({"schema_version": 1, "models": catalogue}))
    (tmp_path / "spaces.yaml").write_text("app: {models: [alpha]}\n")
    monkeypatch.setenv("PLAYGROUND_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PLAYGROUND_CATALOG", str(tmp_path / "catalog.yaml"))
    monkeypatch.setenv("PLAYGROUND_SPACE", str(tmp_path / "spaces.yaml"))
    monkeypatch.setenv("COLUMNS", "200")
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    write(work / "numbers.yaml")
    return work


def write(path: Path, **changes: Any) -> str:
    path.write_text(yaml.safe_dump({**SUITE, **changes}))
    return str(path)


def document(capsys: Captured) -> Any:
    return json.loads(capsys.readouterr().out)


def stored(capsys: Captured) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main(["suite", "--list", "--json"]) == 0
    suites: list[dict[str, Any]] = document(capsys)["suites"]
    return suites


# -- codes and words ----------------------------------------------------------------------------------------------


def test_all_passed_is_0_and_a_check_that_is_not_met_1(folder: Path, capsys: Captured) -> None:
    one = [SUITE["tests"][0]]
    assert main(["suite", write(folder / "one.yaml", tests=one)]) == 0
    out = capsys.readouterr().out
    assert "alpha@fake-none: 1 of 1 passed (100 %, 95 % interval 21 to 100 %)" in out
    assert main(["suite", "numbers.yaml"]) == 1
    printed = capsys.readouterr()
    assert [line.split() for line in printed.out.splitlines()[:4]] == [
        ["prompt", "alpha@fake-none", "beta@fake-none"],
        ["Count", "to", "one.", "✓", "✓"],
        ["Count", "to", "eins.", "✗", "✓"],
        ["Count", "to", "four.", "✓", "✗"],
    ]
    assert "alpha@fake-none against beta@fake-none: no difference seen." in printed.out
    assert "decode, tok/s" in printed.out
    assert "alpha@fake-none: done, 3 of 3, 2 of 3 passed" in printed.err


def test_a_model_that_fails_is_1_and_the_others_are_run(capsys: Captured) -> None:
    assert main(["suite", "numbers.yaml", "-m", "broken", "-m", "alpha", "--limit", "1", "--json"]) == 1
    results = document(capsys)["results"]["results"]
    assert [bool(each["error"]) for each in results] == [True, False]


def test_stopping_at_the_first_that_is_not_passed_is_1_and_can_be_gone_on_with(capsys: Captured) -> None:
    assert main(["suite", "numbers.yaml", "-m", "alpha", "-m", "beta", "--fail-fast"]) == 1
    printed = capsys.readouterr()
    assert "Stopped at the first answer that is not passed" in printed.err
    (entry,) = stored(capsys)
    assert (entry["status"], entry["done"], entry["cells"]) == ("paused", 2, 6)
    assert f"--resume {entry['id']}" in printed.err
    assert main(["suite", "--show", entry["id"]]) == 3
    capsys.readouterr()
    assert main(["suite", "--resume", entry["id"], "--json"]) == 1
    assert len(document(capsys)["results"]["results"]) == 6


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ([], "Neither a file nor a suite is named"),
        (["numbers.yaml", "--resume", "x"], "FILE, --resume are given"),
        (["numbers.yaml", "--list"], "--list stands alone"),
        (["none.yaml"], "none.yaml"),
        (["numbers.yaml", "-m", "alhpa"], "Did you mean alpha"),
        (["numbers.yaml", "--set", "temperature"], "has no value"),
        (["numbers.yaml", "--set", "warmth=3"], "no parameter 'warmth'"),
        (["numbers.yaml", "--set", "temperature=hot"], "must be a number"),
        (["numbers.yaml", "--limit", "0"], "--limit is 0"),
        (["numbers.yaml", "--repeat", "0"], "0 repeats"),
        (["numbers.yaml", "--output", "a.xlsx"], "no format 'xlsx'"),
        (["numbers.yaml", "--output", "nowhere/a.json"], "can't be written"),
        (["numbers.yaml", "--against", "nothing"], "No suite has the id 'nothing'"),
        (["numbers.yaml", "--against", "nothing.json"], "can't be read"),
        (["numbers.yaml", "--retry"], "--retry is given without --resume"),
        (["numbers.yaml", "--precision", "int8"], "--precision is of models that -m names"),
        (["--resume", "nothing"], "No suite has the id 'nothing'"),
        (["--resume", "nothing", "--repeat", "3"], "can't be changed in a suite that has begun"),
        (["--show", "nothing"], "No suite has the id 'nothing'"),
    ],
)
def test_a_wrong_command_is_2_before_anything_runs(command: list[str], words: str, capsys: Captured) -> None:
    assert main(["suite", *command]) == 2
    assert words in capsys.readouterr().err
    assert stored(capsys) == []


def test_a_wrong_file_is_2_with_its_place(folder: Path, capsys: Captured) -> None:
    write(folder / "wrong.yaml", tests=[{"vars": {"n": "x"}, "assert": [{"type": "contians", "value": "x"}]}])
    assert main(["suite", "wrong.yaml"]) == 2
    assert "contains" in capsys.readouterr().err
    write(folder / "unnamed.yaml", providers=[])
    assert main(["suite", "unnamed.yaml"]) == 2


def test_models_precisions_and_parameters_make_columns(capsys: Captured) -> None:
    command = ["suite", "numbers.yaml", "--models", "alpha,beta", "--precision", "fake-none", "--limit", "1"]
    assert main([*command, "--set", "temperature=0,0.7", "--set", "seed=1,2", "--json"]) == 0
    columns = document(capsys)["suite"]["columns"]
    assert len(columns) == 8
    assert {
        (each["variant"]["model"], each["request"]["temperature"], each["request"]["seed"]) for each in columns
    } == {(model, temperature, seed) for model in ("alpha", "beta") for temperature in (0.0, 0.7) for seed in (1, 2)}
    assert main(["suite", "numbers.yaml", "-m", "alpha?seed=3", "--set", "seed=1", "--limit", "1", "--json"]) == 0
    assert document(capsys)["suite"]["columns"][0]["request"]["seed"] == 3


def test_repeats_give_the_spread_and_the_distinct_answers(capsys: Captured) -> None:
    assert main(["suite", "numbers.yaml", "-m", "alpha", "--repeat", "3"]) == 1
    out = capsys.readouterr().out
    assert "✓ 3/3" in out
    assert "✗ 0/3" in out
    assert "asked again, 0 of 3 prompts were answered differently (1.0 distinct answers each)" in out


# -- files --------------------------------------------------------------------------------------------------------


def test_every_format_is_written_and_a_stored_suite_again(folder: Path, capsys: Captured) -> None:
    names = ["a.json", "a.jsonl", "a.csv", "a.xml", "a.html", "a.md"]
    assert main(["suite", "numbers.yaml", *(part for name in names for part in ("-o", name))]) == 1
    (entry,) = stored(capsys)
    assert (entry["status"], entry["done"], entry["passed"], entry["judged"]) == ("done", 6, 4, 6)
    for name in names:
        assert main(["suite", "--show", entry["id"], "--output", f"b{name}"]) == 1
        assert (folder / f"b{name}").read_bytes() == (folder / name).read_bytes()
    assert ElementTree.parse(folder / "a.xml").getroot().get("failures") == "2"
    assert json.loads((folder / "a.json").read_text())["suite"]["file"] == (folder / "numbers.yaml").read_text()
    assert sorted(path.name for path in folder.iterdir() if path.name.startswith(".")) == []


def test_a_file_in_utf_16_is_kept_as_it_was_written(folder: Path, capsys: Captured) -> None:
    (folder / "wide.txt").write_bytes("Grüße aus Köln?\n".encode("utf-16"))
    assert main(["suite", "wide.txt", "-m", "alpha", "--json"]) == 0
    found = document(capsys)["suite"]
    assert found["file"] == "Grüße aus Köln?\n"
    assert found["rows"][0]["prompt"] == "Grüße aus Köln?"


def test_a_file_that_cannot_be_written_leaves_the_one_before(
    folder: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["suite", "numbers.yaml", "-o", "a.csv"]) == 1
    (entry,) = stored(capsys)
    before = (folder / "a.csv").read_bytes()

    def full(*args: Any, **how: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("playground.service.suites.write", full)
    assert main(["suite", "--show", entry["id"], "-o", "a.csv"]) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert (folder / "a.csv").read_bytes() == before
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


# -- regression ---------------------------------------------------------------------------------------------------


def worse_catalogue(folder: Path) -> None:
    catalogue = yaml.safe_load((folder.parent / "catalog.yaml").read_text())
    catalogue["models"][0]["source"] = "fake:text=one two"
    (folder.parent / "catalog.yaml").write_text(yaml.safe_dump(catalogue))


@pytest.mark.parametrize("against", ["stored", "old.json", "old.jsonl"])
def test_what_got_worse_is_told_by_prompt_and_is_1(folder: Path, capsys: Captured, against: str) -> None:
    tests = [SUITE["tests"][0], SUITE["tests"][2]]
    write(folder / "numbers.yaml", tests=tests, providers=["alpha"])
    assert main(["suite", "numbers.yaml", "-o", "old.json", "-o", "old.jsonl"]) == 0
    (entry,) = stored(capsys)
    before = entry["id"] if against == "stored" else against
    assert main(["suite", "numbers.yaml", "--against", before]) == 0
    assert "0 cells got worse, 0 got better, 2 are as they were." in capsys.readouterr().out
    worse_catalogue(folder)
    assert main(["suite", "numbers.yaml", "--against", before]) == 1
    out = capsys.readouterr().out
    assert "1 cell got worse, 0 got better, 1 is as it was." in out
    assert "worse: Count to four. (alpha@fake-none): 100% → 0% passed" in out


def test_parameters_that_say_what_is_so_anyway_are_the_same_column(capsys: Captured) -> None:
    assert main(["suite", "numbers.yaml", "-m", "alpha", "-o", "old.json"]) == 1
    assert main(["suite", "numbers.yaml", "-m", "alpha", "--set", "temperature=0,0.7", "--against", "old.json"]) == 1
    out = capsys.readouterr().out
    assert "0 cells got worse, 0 got better, 3 are as they were." in out
    assert "The earlier suite has no column of alpha@fake-none?temperature=0.7" in out
    assert main(["suite", "numbers.yaml", "-m", "alpha", "--set", "temperature=0.7", "--against", "old.json"]) == 1
    assert (
        "alpha@fake-none?temperature=0.7 is held against alpha@fake-none, asked otherwise." in capsys.readouterr().out
    )


def test_what_has_nothing_in_common_is_refused_before_it_runs(folder: Path, capsys: Captured) -> None:
    assert main(["suite", "numbers.yaml", "-o", "old.json"]) == 1
    write(folder / "other.yaml", prompts=["Say {{n}}."])
    count = len(stored(capsys))
    assert main(["suite", "numbers.yaml", "-m", "slow", "-m", "broken", "--against", "old.json"]) == 2
    assert "in common" in capsys.readouterr().err
    assert len(stored(capsys)) == count


# -- interrupted --------------------------------------------------------------------------------------------------


@pytest.mark.fault
@pytest.mark.waits
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_suite_is_3_says_how_to_go_on_and_does(folder: Path, capsys: Captured, how: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "playground", "suite", "numbers.yaml", "-m", "slow", "-m", "alpha"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    assert process.stderr
    said = ""
    while "running, 1 of 3" not in said:
        assert time.monotonic() < deadline
        said += process.stderr.readline()
    process.send_signal(how)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 3
    (entry,) = stored(capsys)
    assert (entry["status"], entry["cells"]) == ("paused", 6)
    assert 1 <= entry["done"] < 3
    assert f"playground suite --resume {entry['id']}" in err
    assert "Traceback" not in err
    assert main(["suite", "--resume", entry["id"], "--json"]) == 1
    found = document(capsys)
    assert found["suite"]["status"] == "done"
    assert len(found["results"]["results"]) == 6
    assert main(["suite", "--resume", entry["id"]]) == 2
    assert "is done" in capsys.readouterr().err


def test_rows_of_a_table_are_put_into_prompts_that_are_given(folder: Path, capsys: Captured) -> None:
    (folder / "rows.csv").write_text("n,__expected\none,icontains:one\n")
    asked = ["suite", "rows.csv", "-m", "alpha", "--prompt", "Say {{n}}."]
    assert main([*asked, "--prompt", "Count to {{n}}!"]) == 0
    assert [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()[1:3]] == ["Say one.", "Count to one!"]
    assert main([*asked[:-1], "Say {{m}}."]) == 2
    assert "column m: {{m}} has no value" in capsys.readouterr().err


def test_help_names_the_options_and_loads_nothing_heavy(capsys: Captured) -> None:
    assert main(["suite", "--help"]) == 0
    out = capsys.readouterr().out
    for option in ("--resume", "--against", "--output", "--repeat", "--set", "--reuse"):
        assert option in out
