"""``choose FILE --run`` on scripted models: it judges, runs what is missing, judges again, and runs nothing twice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from playground.choose.answers import digest
from playground.choose.deciding import decide, missing, paused
from playground.choose.file import read_choice
from playground.cli import main
from playground.config.settings import Settings
from playground.records import Cell, Column, ModelRun, Request, Timings, Variant
from playground.service import Playground

FAST, SLOW = (Variant(name, "fake", "none") for name in ("fast", "slow"))


def questions(n: int, word: str = "capital") -> dict[str, Any]:
    """Every prompt is passed by whoever says the word."""
    asked = [
        {"vars": {"q": f"Question {number}?"}, "assert": [{"type": "contains", "value": word}]} for number in range(n)
    ]
    return {"prompts": ["{{q}}"], "tests": asked}


def write(
    folder: Path, limits: dict[str, Any], n: int = 6, models: Sequence[str] = ("fast", "slow"), **more: Any
) -> Path:
    path = folder / "choice.yaml"
    path.write_text(yaml.safe_dump({"suite": questions(n), "models": list(models), "limits": limits, **more}))
    return path


@pytest.fixture
def terminal(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Any:
    """Runs ``choose`` with these arguments: exit code, the document, and what stood on stderr."""
    monkeypatch.setenv("PLAYGROUND_HOME", str(settings.home))
    monkeypatch.setenv("PLAYGROUND_SPACE", str(settings.space_file))
    monkeypatch.setenv("PLAYGROUND_CATALOG", str(settings.catalog_file))

    def run(*args: Any) -> tuple[int, Any, str]:
        code = main(["choose", *map(str, args), "--json"])
        printed = capsys.readouterr()
        return code, json.loads(printed.out) if printed.out else None, printed.err

    return run


def states(document: Any) -> dict[str, str]:
    return {verdict["variant"]: verdict["state"] for verdict in document["verdicts"]}


@pytest.mark.waits
def test_the_loop_closes(terminal: Any, tmp_path: Path) -> None:
    file = write(tmp_path, {"min_pass_rate": 0.5})
    code, document, _ = terminal(file)
    assert (code, states(document)) == (1, {str(FAST): "undecided", str(SLOW): "undecided"})
    code, document, _ = terminal(file, "--run")
    assert (code, states(document)) == (0, {str(FAST): "eligible", str(SLOW): "out"})
    (check,) = document["verdicts"][0]["checks"]
    assert "pass rate 100% (6 of 6 prompts, 95 % interval 61% to 100%)" in str(check["words"])
    assert document["verdicts"][0]["pass_rate"]["rate"]["prompts"] == 6
    (difference,) = document["differences"] or [None]
    assert difference is None, "one of the two is out"
    assert document["quality"]["kind"] == "suite"
    again, document, said = terminal(file, "--run")
    assert again == 0 and "running" not in said, "nothing is run twice"


@pytest.mark.waits
def test_speed_comes_of_the_suites_own_answers(terminal: Any, tmp_path: Path) -> None:
    file = write(tmp_path, {"min_pass_rate": 0.3, "min_speed": 40}, n=4)
    _, document, said = terminal(file, "--run")
    by_name = {verdict["variant"]: verdict for verdict in document["verdicts"]}
    taken = by_name[str(FAST)]["figures"]["decode_tok_s"]
    assert (taken["kind"], taken["answers"]) == ("suite", 4)
    assert by_name[str(FAST)]["state"] == "eligible"
    assert "measuring" not in said.lower()


@pytest.mark.waits
def test_a_model_that_is_out_by_its_licence_is_not_asked(terminal: Any, tmp_path: Path, playground: Playground) -> None:
    file = write(tmp_path, {"min_pass_rate": 0.5, "min_context": 100_000})
    playground.close()
    code, document, said = terminal(file, "--run")
    assert code == 1 and "running" not in said
    assert all(verdict["state"] != "eligible" for verdict in document["verdicts"])


def stored(playground: Playground, n: int, passed: dict[str, int], done: int | None = None) -> Path:
    """A run of ``questions(n)`` as it would be stored, each model passing the first so many."""
    folder = playground.settings.home.parent
    file = write(folder, {"min_pass_rate": 0.5}, n=n, models=list(passed))
    suite = playground.read_suite(read_choice(file).suite, "choice.yaml")
    columns = [Column(Variant(name, "fake", "none"), Request()) for name in passed]
    job = playground.begin_suite(suite, columns)
    job.stop()
    job.wait()
    for place, (name, right) in enumerate(passed.items()):
        for row in range(n if done is None else done):
            run = ModelRun(Variant(name, "fake", "none"), "fake", "none", "x", "stop", Timings(mode="fair"))
            cell = Cell(row, place, 0, run, passed=row < right, score=float(row < right))
            playground.suites_kept.put(job.id, [cell])
    playground._count_anew(job.id)
    return file


@pytest.mark.waits
def test_two_that_are_eligible_are_compared_prompt_by_prompt(playground: Playground) -> None:
    file = stored(playground, 40, {"fast": 40, "slow": 30})
    decision = decide(playground, read_choice(file))
    assert {verdict.variant: verdict.state for verdict in decision.verdicts} == {FAST: "eligible", SLOW: "eligible"}
    (difference,) = decision.differences
    assert (difference.first, difference.test.better, difference.test.seen) == (FAST, 10, "better")
    assert not missing(decision).anything


@pytest.mark.fault
@pytest.mark.waits
def test_what_an_interrupted_run_lacks_is_missing_and_the_run_is_gone_on_with(playground: Playground) -> None:
    file = stored(playground, 40, {"fast": 20, "slow": 20}, done=20)
    decision = decide(playground, read_choice(file))
    lacking = missing(decision).suite
    assert {column.variant for column in lacking} == {FAST, SLOW}
    (entry,) = playground.suites()
    assert paused(playground, decision, lacking) == entry.id
    assert paused(playground, decision, lacking[:1]) == "", "a run of other columns"
    changed = replace(decision, digest="of another suite")
    assert paused(playground, changed, lacking) == ""


@pytest.mark.waits
def test_answers_to_other_questions_are_no_evidence(playground: Playground) -> None:
    file = stored(playground, 40, {"fast": 40})
    document = yaml.safe_load(file.read_text())
    document["suite"] = questions(40, word="Berlin")
    file.write_text(yaml.safe_dump(document))
    (verdict,) = decide(playground, read_choice(file)).verdicts
    assert verdict.state == "undecided"


def test_the_command_refuses_what_does_not_go_together(terminal: Any, tmp_path: Path) -> None:
    file = write(tmp_path, {"min_speed": 1})
    assert terminal(file, "--min-speed", "3")[0] == 2
    assert terminal("--run")[0] == 2
    assert terminal(tmp_path / "none.yaml")[0] == 2
    assert terminal(write(tmp_path, {"min_speed": 1}, models=["fsat"]))[0] == 2
    (tmp_path / "broken.yaml").write_text("suite: {prompts: [x], testz: []}\nlimits: {min_pass_rate: 0.5}")
    code, document, _ = terminal(tmp_path / "broken.yaml")
    assert code == 2 and "testz" in str(document)


def test_a_digest_is_the_same_for_what_was_read_and_what_was_kept(playground: Playground, tmp_path: Path) -> None:
    suite = playground.read_suite(yaml.safe_dump(questions(2)), "x.yaml")
    again = type(suite).from_json(json.loads(json.dumps(suite.to_json())))
    assert digest(again.to_json()) == digest(suite.to_json())


# -- the page ---------------------------------------------------------------------------------------------------------


def page_fields(
    suite: str = "", rate: str = "", task: str = "", score: str = "", models: Sequence[str] = ()
) -> list[Any]:
    return ["", "", "", False, 0, "", suite, rate, task, score, list(models), False, None, "decode_tok_s", False, ""]


@pytest.mark.waits
def test_the_page_says_the_same(playground: Playground) -> None:
    from playground.ui.tabs import choose

    stored(playground, 40, {"fast": 40, "slow": 30})
    suites, _ = choose.offers(playground, "")
    (_, (name, mark)) = suites["choices"]
    assert name == "choice"
    models = ["fast", "slow"]
    quality, table, _ = choose.shown(playground, page_fields(mark, "90", models=models), [])
    assert "Of 2 models: 1 eligible, 1 out." in table
    assert "pass rate 75% (30 of 40 prompts, 95 % interval 60% to 86%), limit at least 90 %" in table
    assert any(key == "suite:choice" for _, key in quality["choices"])
    _, table, _ = choose.shown(playground, page_fields(mark, "50", models=models), [])
    assert "passes more than" in table
    _, table, _ = choose.shown(playground, page_fields("gone", "50", models=models), [])
    assert "Run the suite with it" in table


def test_the_page_refuses_a_rate_without_a_suite(playground: Playground) -> None:
    from playground.ui.tabs import choose

    for values, said in (
        (page_fields(rate="80"), "no prompt set is chosen"),
        (page_fields(score="0.4"), "no benchmark is chosen"),
        (page_fields("x", rate="many"), "is no limit"),
        (page_fields("x", rate="101"), "at most 1"),
    ):
        _, table, _ = choose.shown(playground, values, [])
        assert said in table and 'data-say="alert"' in table
