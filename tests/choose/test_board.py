"""``choose`` in the terminal and the Choose tab's handlers, on scripted models and stored figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from playground.choose.board import board, candidates_of, with_figures
from playground.choose.board import stored as stored_figures
from playground.cli import main
from playground.config.settings import Settings
from playground.errors import UsageError
from playground.records import Comparison, ModelRun, Request, Timings, Variant
from playground.results.figures import CHOICE, Measured, Measurement, figure
from playground.service import Playground
from playground.system.environment import environment
from playground.ui.tabs import choose

FAST, SLOW = Variant("fast", "fake", "none"), Variant("slow", "fake", "none")


def measured(variant: Variant, speed: Sequence[float], memory: float = 300.0) -> Measured:
    figures = {
        "decode_tok_s": figure("decode_tok_s", CHOICE["decode_tok_s"].unit, speed),
        "ttft_s": figure("ttft_s", "s", [0.1, 0.1, 0.11]),
        "peak_memory_mb": figure("peak_memory_mb", "MB", [memory] * 3),
    }
    return Measured(variant, "fake", "none", prompt_tokens=8, figures=figures)


def keep(playground: Playground, *models: Measured) -> None:
    there = environment()
    playground.store.save_measurement(Measurement("m1", "2026-11-24T09:30:00.000Z", Request("hi"), 3, models, there))


@pytest.fixture
def stored(playground: Playground) -> Playground:
    keep(playground, measured(FAST, [90, 91, 92]), measured(SLOW, [19, 20, 21], memory=900.0))
    return playground


@pytest.fixture
def terminal(stored: Playground, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Any:
    """Runs ``choose`` with these arguments: exit code, and what it printed on stdout."""
    monkeypatch.setenv("PLAYGROUND_HOME", str(settings.home))
    monkeypatch.setenv("PLAYGROUND_SPACE", str(settings.space_file))
    monkeypatch.setenv("PLAYGROUND_CATALOG", str(settings.catalog_file))

    def run(*args: str) -> tuple[int, str]:
        code = main(["choose", *args])
        return code, capsys.readouterr().out

    return run


TWO = ("-m", "fast", "-m", "slow")


def test_the_exit_code_says_whether_any_model_is_eligible(terminal: Any) -> None:
    assert terminal(*TWO, "--min-speed", "50")[0] == 0
    assert terminal(*TWO, "--min-speed", "500")[0] == 1
    assert terminal("-m", "slow", "--min-speed", "20")[0] == 1, "too close to call is not eligible"
    assert terminal("-m", "base", "--min-speed", "1")[0] == 1, "not measured is not eligible"


@pytest.mark.parametrize(
    "args",
    [
        ("-m", "fsat"),
        ("--min-speed", "-1"),
        ("--min-openness", "6"),
        ("--max-ttft", "soon"),
        ("--scores", "no-such-file.csv"),
        (*TWO, "--quality", "MMLU"),
        (*TWO, "--quality", "MMLU", "--scores", "x.csv"),
    ],
)
def test_a_wrong_command_ends_with_2(terminal: Any, args: tuple[str, ...]) -> None:
    assert terminal(*args)[0] == 2


def test_json_has_the_verdicts_with_their_figures_and_sources(terminal: Any) -> None:
    code, out = terminal(*TWO, "--min-speed", "50", "--max-memory", "500", "--json")
    document = json.loads(out)
    assert code == 0
    assert [(v["variant"], v["state"]) for v in document["verdicts"]] == [
        ("fast@fake-none", "eligible"),
        ("slow@fake-none", "out"),
    ]
    broken = [check["limit"] for check in document["verdicts"][1]["checks"] if check["answer"] == "broken"]
    assert broken == ["max_memory_mb", "min_tok_s"]
    assert document["verdicts"][0]["figures"]["decode_tok_s"]["figure"]["values"] == [90, 91, 92]
    assert document["limits"]["min_tok_s"] == 50
    assert document["quality"] is None


def test_the_text_names_the_figure_that_decided_its_source_and_how_to_measure(terminal: Any) -> None:
    out = terminal(*TWO, "-m", "base", "--min-speed", "50")[1]
    assert "slow@fake-none: out" in out
    assert "decode rate 20.0 tokens/s (19.5 to 20.5), limit at least 50 tokens/s" in out
    assert "measured 2026-11-24 09:30, n = 3" in out
    assert "bench models -m base@fake-none" in out


def test_scores_of_ones_own_give_a_front_and_name_who_lacks_one(terminal: Any, tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("model,score\nfast,70\nslow,60\n")
    document = json.loads(terminal(*TWO, "-m", "base", "--scores", str(file), "--json")[1])
    assert document["quality"]["front"] == ["fast@fake-none"]
    assert document["quality"]["lacking"] == ["base@fake-none"]
    file.write_text("model,score\nfast,70\nslow,nan\n")
    assert terminal(*TWO, "--scores", str(file))[0] == 2


def test_without_models_the_whole_catalogue_is_judged_measured_ones_first(terminal: Any, stored: Playground) -> None:
    document = json.loads(terminal("--json")[1])
    kept = stored_figures(stored)
    assert len(document["verdicts"]) == len(stored.catalog.ids()) == len(candidates_of(stored, kept))
    assert set(with_figures(stored, kept)) == {FAST, SLOW}
    assert candidates_of(stored, kept)[:2] == with_figures(stored, kept)


def test_a_stored_fair_run_is_used_where_nothing_was_measured(playground: Playground) -> None:
    run = ModelRun(FAST, "fake", "none", "x", "stop", Timings(decode_tok_s=50.0))
    playground.store.save(Comparison("c1", "2026-11-24T09:30:00.000Z", Request("hi"), (run,), environment()))
    taken = board(playground, [FAST], stored_figures(playground)).candidates[0].figures["decode_tok_s"]
    assert (taken.kind, taken.figure.median) == ("comparison", 50.0)


EMPTY = ["", "", "", False, 0, ""]
"""The fields of the limits as the page first sends them."""


def fields(
    limits: Sequence[Any] = EMPTY, models: Any = (), quality: Any = None, own: Any = "", **more: Any
) -> list[Any]:
    return [*limits, list(models), more.get("every", False), quality, more.get("below", "decode_tok_s"), False, own]


def test_empty_fields_ask_for_nothing_and_numbers_may_have_thousands_separators() -> None:
    assert not choose.read_limits(EMPTY).stated
    assert choose.read_limits(["1,500", " 0.5 ", None, True, 2, "4096"]).max_memory_mb == 1500
    for wrong in ("many", "nan", "1e999", {"a": 1}, "0"):
        with pytest.raises(UsageError):
            choose.read_limits([wrong, *EMPTY[1:]])


def test_the_tab_takes_what_is_chosen_above_and_what_has_figures(stored: Playground) -> None:
    _, verdicts, picture = choose.shown(stored, fields(["", "", "50", False, 0, ""]), [["base"]])
    assert "Of 3 models: 1 eligible, 1 undecided, 1 out." in verdicts
    assert "No picture yet" in picture
    assert "bench models" in verdicts


def test_pasted_scores_draw_the_picture_and_a_wrong_line_keeps_the_verdicts(stored: Playground) -> None:
    choice, _, picture = choose.shown(stored, fields(own="model,score\nfast,70\nslow,60"), [], prefer_own=True)
    assert choice["value"] == "file:pasted scores"
    assert picture.count('class="dot"') == 4, "two models, in a wide and a narrow drawing"
    assert "on the Pareto front" in picture
    _, verdicts, picture = choose.shown(stored, fields(own="model,score\nfsat,70"), [])
    assert "eligible" in verdicts
    assert "Did you mean fast" in picture


def test_models_without_the_quality_or_the_figure_are_listed_beneath(stored: Playground) -> None:
    chosen = ["fast", "slow", "base"]
    _, _, picture = choose.shown(
        stored, fields(models=chosen, own="model,score\nfast,70\nbase,60"), [], prefer_own=True
    )
    beneath = picture.partition("Not in the picture")[2]
    assert "No Score (pasted scores):</strong> Slow" in beneath
    assert "Not measured here:</strong> " in beneath


@pytest.mark.parametrize(
    "values",
    [
        fields(models=["path:/etc", "no-such-model", "fast@onnx-int8", 3]),
        fields(quality={"a": 1}, below=["x"]),
        fields(limits=[[], "", "", "maybe", "x", ""]),
        fields(own="\ud800"),
    ],
)
def test_what_a_hostile_page_sends_is_answered_in_words(stored: Playground, values: list[Any]) -> None:
    _, verdicts, picture = choose.shown(stored, values, [["nonsense"], None, [""]])
    assert "Something broke" not in verdicts + picture


def test_a_database_that_cannot_be_read_is_told_in_the_tab(playground: Playground) -> None:
    playground.settings.home.mkdir(parents=True, exist_ok=True)
    playground.settings.database.write_bytes(b"no database" * 100)
    _, verdicts, _ = choose.shown(playground, fields(), [])
    assert 'data-say="alert"' in verdicts


def test_names_of_the_catalogue_are_escaped(stored: Playground) -> None:
    item = board(stored, [FAST], stored_figures(stored)).candidates[0]
    hostile = replace(item, name="<script>x</script>")
    from playground.choose.constraints import Constraints, judge
    from playground.ui.html.choose import verdicts_html

    limits = Constraints(min_tok_s=1)
    assert "<script>" not in verdicts_html([judge(limits, hostile)], limits)


def test_a_model_that_is_refused_is_out_whatever_the_limits_and_names_another(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PLAYGROUND_HOME", str(tmp_path))
    for limits in ([], ["--min-speed", "1"], ["--commercial"]):
        assert main(["choose", "-m", "openassistant-falcon-40b", *limits]) == 1
        printed = capsys.readouterr().out
        assert "openassistant-falcon-40b@onnx-int8: out" in printed
        assert "It needs code of its own, which is never run here." in printed
        assert "Instead: falcon-40b." in printed
        assert "easure" not in printed
