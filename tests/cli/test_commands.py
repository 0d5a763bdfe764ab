"""The terminal commands, run whole on scripted models: what goes to which stream, and with which exit code."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from playground import __version__
from playground.cli import main
from playground.cli.live import status
from playground.cli.output import clean, steps
from playground.experiments.progress import LiveRun
from playground.paths import ROOT
from playground.records import Variant
from tests.support.scripted_models import catalog_entry

TERMS = {"text": "Mind the terms.", "url": "https://terms.example/t", "policy_url": "https://terms.example/p"}


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home, a catalogue of scripted models and a spaces.yaml of the test's own; returns the home."""
    card = {
        "license": {"id": "mit", "name": "MIT"},
        "parameters": 5_000_000,
        "verified": ["license"],
        "sources": ["https://a.example"],
    }
    catalogue = [
        catalog_entry("alpha", "text=one two three four&step_s=0.01", card=card),
        catalog_entry("beta", "text=eins zwei", terms=TERMS),
        catalog_entry("broken", "fail_at=2", card={**card, "verified": ["license", "parameters"]}),
        catalog_entry("slow", "text=a b c d e f g h&step_s=5"),
        catalog_entry("unmade", "prepare_error=no such weights"),
        catalog_entry("colourful", "text=%1b]0;title%07 red"),
    ]
    (tmp_path / "catalog.yaml").write_text(yaml.safe_dump({"schema_version": 1, "models": catalogue}))
    (tmp_path / "spaces.yaml").write_text("app: {models: [alpha], limits: {max_prompt_chars: 20000}}\n")
    monkeypatch.setenv("PLAYGROUND_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PLAYGROUND_CATALOG", str(tmp_path / "catalog.yaml"))
    monkeypatch.setenv("PLAYGROUND_SPACE", str(tmp_path / "spaces.yaml"))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "home"


Captured = pytest.CaptureFixture[str]


def document(capsys: Captured) -> Any:
    """Stdout as one JSON document: anything else beside it would not parse."""
    return json.loads(capsys.readouterr().out)


def test_compare_prints_one_document_with_every_run(capsys: Captured) -> None:
    assert main(["compare", "-m", "alpha", "-m", "beta", "Hi", "--json"]) == 0
    comparison = document(capsys)
    assert [run["variant"]["model"] for run in comparison["runs"]] == ["alpha", "beta"]
    assert [run["text"].split() for run in comparison["runs"]] == [["one", "two", "three", "four"], ["eins", "zwei"]]
    assert comparison["runs"][0]["timings"]["output_tokens"] == 4
    assert comparison["mode"] == "fair"


def test_compare_tells_people_the_answers_the_figures_and_the_terms(capsys: Captured) -> None:
    assert main(["compare", "-m", "alpha", "-m", "beta", "Hi"]) == 0
    printed = capsys.readouterr()
    assert "one two three four" in printed.out
    assert "decode, tok/s" in printed.out
    assert TERMS["policy_url"] in printed.out
    assert "alpha@fake-none" in printed.err


def test_one_failing_model_gives_exit_code_1_and_the_others_answers(capsys: Captured) -> None:
    assert main(["compare", "-m", "broken", "-m", "beta", "Hi", "--json"]) == 1
    broken, beta = document(capsys)["runs"]
    assert broken["error"]
    assert beta["text"].split() == ["eins", "zwei"]


def test_repeats_report_each_run_and_the_median(capsys: Captured) -> None:
    assert main(["compare", "-m", "alpha", "Hi", "--repeat", "3", "--json"]) == 0
    printed = document(capsys)
    rates = sorted(comparison["runs"][0]["timings"]["decode_tok_s"] for comparison in printed["comparisons"])
    assert len(rates) == 3
    assert printed["medians"]["alpha@fake-none"]["decode_tok_s"] == rates[1]
    assert "load_s" not in printed["medians"]["alpha@fake-none"]
    assert [comparison["runs"][0]["timings"]["cold"] for comparison in printed["comparisons"]] == [True, False, False]


def test_only_what_was_saved_is_in_the_history(capsys: Captured) -> None:
    main(["compare", "-m", "alpha", "not kept", "--json"])
    capsys.readouterr()
    main(["compare", "-m", "beta", "kept", "--save", "--json"])
    kept = document(capsys)
    assert main(["history", "--json"]) == 0
    assert [item["id"] for item in document(capsys)["comparisons"]] == [kept["id"]]
    assert main(["history", kept["id"], "--json"]) == 0
    assert document(capsys) == kept
    assert main(["history"]) == 0
    assert "kept" in capsys.readouterr().out
    for ending, begins in (
        ("json", "{"),
        ("jsonl", '{"comparison": '),
        ("csv", "comparison,"),
        ("md", "# Comparison "),
    ):
        capsys.readouterr()
        assert main(["history", kept["id"], "--format", ending]) == 0
        printed = capsys.readouterr().out
        assert printed.startswith(begins)
        assert kept["id"] in printed
    assert main(["history", "--format", "csv"]) == 2
    assert "--format is of one comparison" in capsys.readouterr().err


def test_an_unknown_comparison_is_a_wrong_command(capsys: Captured) -> None:
    assert main(["history", "nope"]) == 2
    assert "No comparison has the id 'nope'" in capsys.readouterr().err


@pytest.mark.parametrize("written", ["{}", "{}\n", "{}\r\n", "{}\r", "\ufeff{}\r\n"])
@pytest.mark.parametrize("prompt", ["grüß dich", "two\r\nlines\n"])
def test_the_prompt_can_come_from_stdin_however_an_editor_ends_it(
    prompt: str, written: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    if written == "{}" and prompt.endswith("\n"):
        pytest.skip("its last line end is the file's")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(written.format(prompt).encode())))
    assert main(["compare", "-m", "beta", "-", "--json"]) == 0
    assert document(capsys)["request"]["prompt"] == prompt


DASHES = ["-5 + 3", "-m is what?", "--help me"]


@pytest.mark.parametrize("prompt", DASHES)
@pytest.mark.parametrize(
    "command",
    [["inspect", "alpha"], ["compare", "-m", "alpha"], ["diff", "alpha", "alpha"], ["bench", "models", "-m", "alpha"]],
    ids=" ".join,
)
def test_a_prompt_that_begins_with_a_dash_is_told_where_to_stand(
    command: list[str], prompt: str, capsys: Captured
) -> None:
    if command[0] == "bench" and prompt.startswith("-m"):
        pytest.skip("this command has a prompt of its own, and -m is an option of it")
    assert main([*command, prompt]) == 2
    assert f'behind two dashes: -- "{prompt.split(maxsplit=1)[0]}' in capsys.readouterr().err


@pytest.mark.parametrize("prompt", DASHES)
def test_a_prompt_behind_two_dashes_may_begin_with_a_dash(prompt: str, capsys: Captured) -> None:
    assert main(["compare", "-m", "alpha", "--json", "--", prompt]) == 0
    assert document(capsys)["request"]["prompt"] == prompt
    assert main(["inspect", "alpha", "--json", "--", prompt]) == 0
    assert prompt in document(capsys)["rendered"]
    assert main(["bench", "models", "-m", "alpha", "--repeats", "1", "--tokens", "2", "--json", "--", prompt]) == 0
    assert document(capsys)["request"]["prompt"] == prompt


def test_stdin_that_is_not_text_is_a_wrong_command(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\xff")))
    assert main(["compare", "-m", "beta", "-"]) == 2
    assert "not UTF-8 (byte 1)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["compare", "-m", "alpha", ""], "prompt is empty"),
        (["compare", "-m", "alpha", " \n "], "prompt is empty"),
        (["compare", "-m", "alpha", "x" * 100_000], "100,000 characters"),
        (["compare", "-m", "alpha", "a\0b"], "NUL character at position 1"),
        (["compare", "-m", "alpha", "a\udc80"], "lone surrogate U+DC80"),
        (["compare", "-m", "alfa", "Hi"], "Did you mean alpha?"),
        (["compare", "-m", "alpha@onnx-int8", "Hi"], "alpha@fake-none"),
        (["compare", "-m", "alpha", "Hi", "--temperature", "-1"], "temperature is -1.0"),
        (["compare", "-m", "alpha", "Hi", "--temperature", "nan"], "temperature is nan"),
        (["compare", "-m", "alpha", "Hi", "--max-new-tokens", "0"], "max_new_tokens is 0"),
        (["compare", "-m", "alpha", "Hi", "--max-new-tokens", "99999"], "max_new_tokens is 99999"),
        (["compare", "-m", "alpha", "Hi", "--max-new-tokens", "many"], "valid integer"),
        (["compare", "-m", "alpha", "Hi", "--repeat", "0"], "--repeat is 0"),
        (["compare", "-m", "alpha", "Hi", "--mode", "quick"], "quick"),
        (["compare", "Hi"], "model"),
        (["compare", "-m", "alpha"], "prompt"),
        (["inspect", "alpha", ""], "prompt is empty"),
        (["inspect", "alfa", "Hi"], "Did you mean alpha?"),
        (["prepare", "alfa"], "Did you mean alpha?"),
        (["card", "alfa"], "Did you mean alpha?"),
        (["card", "hub:nobody"], "is not hub:OWNER/NAME"),
        (["card", "alpha", "--online"], "alpha is not on the Hub"),
        (["models", "--commercial", "maybe"], "Known: yes, conditional."),
        (["models", "--min-openness", "6"], "less than or equal to 5"),
        (["models", "--max-params", "big"], "'big' is not a number of parameters"),
        (["history", "--limit", "0"], "--limit is 0"),
        (["bench", "nothing"], "no measurement 'nothing'"),
        (["nonsense"], "nonsense"),
    ],
)
def test_a_wrong_command_says_what_is_wrong_and_exits_with_2(args: list[str], message: str, capsys: Captured) -> None:
    assert main(args) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.out == ""
    assert "Traceback" not in printed.err


@pytest.mark.parametrize("args", [["compare", "-m", "alfa", "Hi"], ["compare", "Hi"], ["compare", "-m", "alpha", ""]])
def test_with_json_an_error_is_one_document_too(args: list[str], capsys: Captured) -> None:
    assert main([*args, "--json"]) == 2
    error = document(capsys)["error"]
    assert error["type"]
    assert error["message"]
    assert error["next_step"]


def test_models_lists_state_licence_and_terms(capsys: Captured) -> None:
    assert main(["models", "--json"]) == 0
    rows = {row["id"]: row for row in document(capsys)["models"]}
    assert rows["alpha"]["license"] == "mit"
    assert rows["alpha"]["variants"][0]["variant"] == "alpha@fake-none"
    assert rows["beta"]["terms"]["url"] == TERMS["url"]
    assert main(["models", "--max-params", "10M"]) == 0
    printed = capsys.readouterr().out
    assert "broken" in printed
    assert "alpha" not in printed  # nobody read how large it is
    assert "beta" not in printed


def test_models_can_be_filtered_searched_and_sorted(capsys: Captured) -> None:
    def listed(*options: str) -> list[str]:
        assert main(["models", "--json", *options]) == 0
        return [row["id"] for row in document(capsys)["models"]]

    assert listed("--license", "MIT") == ["alpha", "broken"]
    assert listed("--search", "colour") == ["colourful"]
    assert listed("--sort", "name") == sorted(listed())
    assert listed("--sort", "parameters")[0] == "broken"
    assert listed("--runs-here", "--search", "alpha") == ["alpha"]
    assert listed("--min-openness", "1") == []
    assert main(["models", "--sort", "siez"]) == 2
    assert "'siez' is no value of --sort" in capsys.readouterr().err


def test_a_configuration_error_exits_with_2(surroundings: Path, capsys: Captured) -> None:
    (surroundings.parent / "catalog.yaml").write_text("schema_version: 1\nmodels: [{id: x}]\n")
    assert main(["models"]) == 2
    assert "catalog.yaml: x: the key" in capsys.readouterr().err


def test_prepare_reports_artifacts_and_errors_apart(capsys: Captured) -> None:
    assert main(["prepare", "alpha", "unmade", "--json"]) == 1
    printed = document(capsys)
    assert [item["variant"]["model"] for item in printed["artifacts"]] == ["alpha"]
    assert "no such weights" in printed["errors"][0]["message"]
    assert printed["errors"][0]["variant"] == "unmade@fake-none"


def test_card_shows_each_fact_with_its_status_and_source(capsys: Captured) -> None:
    assert main(["card", "alpha"]) == 0
    printed = capsys.readouterr().out
    assert "✓" in printed
    assert "https://a.example" in printed
    assert "Openness: 0 of 5" in printed
    assert main(["card", "alpha", "--json"]) == 0
    facts = document(capsys)
    assert facts["license"]["status"] == "card"
    assert facts["parameters"]["value"] is None
    assert facts["openness_score"] == [0, 5]


def test_inspect_shows_what_the_model_reads(capsys: Captured) -> None:
    assert main(["inspect", "alpha", "Hello there", "--json"]) == 0
    view = document(capsys)
    assert "Hello there" in view["rendered"]
    assert len(view["token_ids"]) == len(view["tokens"]) > 0


def test_a_models_control_characters_do_not_reach_the_terminal(capsys: Captured) -> None:
    assert main(["compare", "-m", "colourful", "Hi"]) == 0
    printed = capsys.readouterr()
    assert "\x1b" not in printed.out + printed.err
    assert r"\x1b]0;title" in printed.out
    assert clean("a\tb\r\nc\x07\x9b") == "a\tb\nc\\x07\\x9b"


def test_an_unforeseen_error_names_the_model_and_a_log_file(
    surroundings: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*_: object) -> None:
        raise ZeroDivisionError("surprise")

    monkeypatch.setattr("playground.cli.live.follow", explode)
    assert main(["compare", "-m", "alpha", "Hi"]) == 1
    printed = capsys.readouterr().err
    assert "alpha@fake-none" in printed
    assert "Traceback" not in printed
    (log,) = (surroundings / "logs").iterdir()
    assert str(log) in printed
    assert "ZeroDivisionError: surprise" in log.read_text()


def start(*args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "playground", *args],
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_ctrl_c_stops_the_models_and_exits_with_130() -> None:
    process = start("compare", "-m", "slow", "Hi", "--json")
    assert process.stderr is not None
    for line in process.stderr:
        if "prefill" in line or "token" in line:
            break
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert time.monotonic() - began < 5
    assert json.loads(out)["error"]["type"] == "Interrupted"
    assert "Traceback" not in err


def test_a_reader_that_leaves_early_is_no_traceback() -> None:
    with start("compare", "--help") as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
        process.wait(timeout=20)


def test_help_comes_within_a_second_of_processor_time() -> None:
    code = "import time; from playground.cli import main; main(['--help']); raise SystemExit(time.process_time() > 1.0)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False).returncode == 0


def test_a_dry_run_lists_what_a_deployment_would_upload(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    for name in ("PLAYGROUND_SPACE", "PLAYGROUND_CATALOG"):
        monkeypatch.delenv(name)
    assert main(["deploy", "space", "owner/name", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    listed = [line.split()[-1] for line in shown.splitlines() if re.match(r" *[\d,]+  \S+$", line)]
    assert {"app.py", "README.md", "requirements.txt", "playground/catalog/catalog.yaml"} <= set(listed)
    assert not [name for name in listed if name.startswith((".", "tests/"))]
    assert "hardware: cpu-basic" in shown
    assert "\ntitle: Open-Model Playground\n" in shown
    assert re.search(r"smollm2-135m-instruct@onnx-int8( +[\d,]+){4}", shown)
    assert shown.endswith("Nothing was uploaded: this is what would be.\n")


def test_a_deployment_is_refused_while_the_configuration_disagrees(surroundings: Path, capsys: Captured) -> None:
    broken = (ROOT / "spaces.yaml").read_text().replace("colorTo: green", "colorTo: teal")
    (surroundings.parent / "spaces.yaml").write_text(broken)
    assert main(["deploy", "space", "owner/name"]) == 1
    printed = capsys.readouterr().err
    assert "space.colorTo is 'teal'" in printed
    assert "Nothing was uploaded" in printed


def test_a_deployment_is_refused_while_the_app_would_not_start(surroundings: Path, capsys: Captured) -> None:
    wrong = "deploy:\n  variables: {PLAYGROUND_THREADS: many}\n"
    broken = (ROOT / "spaces.yaml").read_text().replace("deploy:\n", wrong)
    (surroundings.parent / "spaces.yaml").write_text(broken)
    for command in (["deploy", "space", "owner/name", "--dry-run"], ["space", "check"]):
        assert main(command) == 1
        printed = capsys.readouterr()
        assert "deploy.variables: PLAYGROUND_THREADS='many' is not a whole number" in printed.err + printed.out


def test_a_log_gets_a_line_for_each_step_and_tenth_and_none_in_between(capsys: Captured) -> None:
    with steps("alpha") as progress:
        for share in range(100):
            progress("building", share / 100)
        progress("checking", 0.27)
        progress("checking", 0.27)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [*(f"alpha: building {share / 100:4.0%}" for share in range(0, 100, 10)), "alpha: checking  27%"]


def test_the_version_is_one_line(capsys: Captured) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"open-model-playground {__version__}\n"


def test_one_token_is_no_tokens() -> None:
    told = [status(LiveRun(Variant("alpha", "fake", "none"), kind="token", n_tokens=n)) for n in (1, 2)]
    assert told == ["1 token", "2 tokens"]


def test_a_scripted_entry_without_a_context_length_answers(surroundings: Path, capsys: Captured) -> None:
    entry = {**catalog_entry("least", "text=one two"), "kind": "chat"}
    least = {key: value for key, value in entry.items() if key not in ("context_length", "revision")}
    (surroundings.parent / "catalog.yaml").write_text(yaml.safe_dump({"schema_version": 1, "models": [least]}))
    assert main(["compare", "-m", "least", "--json", "Hi"]) == 0
    assert document(capsys)["runs"][0]["text"] == "one two"


def test_a_misspelt_command_is_asked_about_in_one_sentence(capsys: Captured) -> None:
    assert main(["compar"]) == 2
    assert "?." not in capsys.readouterr().err


def test_bench_tells_which_measurements_there_are(capsys: Captured) -> None:
    assert main(["bench", "--help"]) == 0
    told = capsys.readouterr().out
    assert {"models", "engine"} <= set(told.split())
    assert "How decoding goes with the size of a model" in told


def test_a_comparison_in_which_nothing_ran_has_no_empty_table(capsys: Captured) -> None:
    assert main(["compare", "-m", "fake:prepare_error=Gone.", "Hi"]) == 1
    assert "Timings" not in capsys.readouterr().out


def test_the_history_is_backed_up_by_one_command(surroundings: Path, tmp_path: Path, capsys: Captured) -> None:
    assert main(["history", "backup", str(tmp_path / "copy")]) == 2  # nothing was kept yet
    assert main(["compare", "-m", "beta", "--save", "hi"]) == 0
    assert main(["history", "backup", str(tmp_path / "copy")]) == 0
    assert (tmp_path / "copy").read_bytes().startswith(b"SQLite format 3")
    assert main(["history", "backup"]) == 2
    assert main(["history", "20261128-000000-abc", "file"]) == 2
    capsys.readouterr()
    (surroundings / "playground.sqlite3").unlink()
    (tmp_path / "copy").rename(surroundings / "playground.sqlite3")
    assert main(["history", "--json"]) == 0
    assert [each["request"]["prompt"] for each in document(capsys)["comparisons"]] == ["hi"]
