"""Suites of scripted models in real worker processes: in order, alone, paused, killed, and gone on with."""

from __future__ import annotations

import itertools
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from playground.config.settings import Settings
from playground.errors import BadRequest, Stopped, StorageError, UnknownModel, UsageError
from playground.experiments import keeping
from playground.experiments.suite import SuiteRunner
from playground.experiments.suite_plan import SuitePlan
from playground.experiments.suite_progress import ColumnProgress, Counter, left, left_words
from playground.paths import ROOT
from playground.records import Cell, Column, ModelRun, Request, SuiteRow, Timings, Variant
from playground.service import Playground
from playground.suites.suite import Check
from tests.support.suites import SETTINGS, begin, cells_of, columns, suite, table
from tests.support.watching import ASK, script, until

pytestmark = pytest.mark.waits


def places(cells: list[Cell]) -> list[tuple[int, int, int]]:
    return [(cell.column, cell.row, cell.sample) for cell in cells]


def in_the_order_they_ended(playground: Playground, id: str) -> list[Cell]:
    return list(playground.suite_cells(id, limit=10_000).cells)


# -- what is checked first ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("models", "how", "error", "words"),
    [
        ([], {}, UsageError, "No model is chosen"),
        (["fst"], {}, UnknownModel, "Did you mean fast"),
        (["fast", "fast@fake-none"], {}, UsageError, "chosen twice"),
        (["fast"], {"repeats": 0}, UsageError, "0 repeats"),
        (["fast"], {"repeats": 101}, UsageError, "1 to 100"),
        (["fast"], {"request": {"max_new_tokens": 10_000}}, BadRequest, r"fast@fake-none, r0: max_new_tokens is 10000"),
        (["fast"], {"check": Check("same-answer", value=3), "repeats": 2}, UsageError, "--repeat 3"),
        (["fast"], {"check": Check("cost", threshold=1.0)}, UsageError, "--price-per-hour"),
    ],
)
def test_a_wrong_suite_is_refused_before_any_work(
    playground: Playground, models: list[str], how: dict[str, Any], error: type[UsageError], words: str
) -> None:
    with pytest.raises(error, match=words):
        begin(playground, models, **how)
    assert playground.suites() == []
    assert playground.pool.loaded() == []


def test_a_prompt_that_is_too_long_is_named_by_its_place(playground: Playground) -> None:
    rows = (SuiteRow("a", "a", prompt="Hi"), SuiteRow("b", "b", prompt="x" * 5000, place="row 12"))
    plan = SuitePlan(suite(2))
    plan = SuitePlan(type(plan.suite)(**{**vars(plan.suite), "rows": rows}))
    with pytest.raises(BadRequest, match="row 12: The prompt has 5,000 characters"):
        playground.suite_runner.plan(plan, columns(playground, ["fast"]))


def test_more_columns_than_a_comparison_may_have_are_no_trouble_on_ones_own_machine(playground: Playground) -> None:
    many = [Column(Variant("fast", "fake", "none"), Request(seed=seed)) for seed in range(12)]
    run = playground.suite_runner.plan(SuitePlan(suite(1)), many)
    assert len(run.columns) == 12


# -- order, fairness ----------------------------------------------------------------------------------------------


def test_columns_of_one_model_stand_together_each_model_is_loaded_once_and_nothing_overlaps(
    playground: Playground,
) -> None:
    fast, slow = columns(playground, ["fast", script(text="a b c", step_s=0.02)])
    warm = Column(fast.variant, Request(max_new_tokens=16, temperature=0.5))
    job = playground.begin_suite(suite(3), [fast, slow, warm], repeats=2)
    assert job.result().status == "done"
    cells = in_the_order_they_ended(playground, job.id)
    assert places(cells) == list(itertools.product((0, 2, 1), range(3), range(2)))
    assert [cell.run.timings.cold for cell in cells] == [place in (0, 12) for place in range(18)]
    assert {(cell.run.timings.mode, cell.run.timings.threads) for cell in cells} == {("fair", 2)}
    assert {cell.passed for cell in cells if cell.row == 1 and cell.column != 1} == {True}
    assert {cell.passed for cell in cells if cell.row == 0} == {False}


def test_where_a_model_may_skip_what_prompts_share_they_come_by_their_texts(playground: Playground) -> None:
    job = begin(playground, ["fast"], 11, request={"reuse": True})
    job.result()
    rows = [cell.row for cell in in_the_order_they_ended(playground, job.id)]
    assert rows == sorted(range(11), key=lambda row: f"Question {row}?")
    assert rows != sorted(rows)
    assert [cell.row for cell in cells_of(playground, job.id)] == sorted(rows)


def test_models_that_are_ready_do_not_wait_for_those_that_are_prepared(playground: Playground) -> None:
    job = begin(playground, ["slow-to-prepare", "fast"], 2)
    job.result()
    assert [cell.column for cell in in_the_order_they_ended(playground, job.id)] == [1, 1, 0, 0]


def test_repeats_are_the_next_seeds_and_say_so(playground: Playground) -> None:
    job = begin(playground, ["fast"], 1, repeats=3, request={"seed": 7, "temperature": 1.0})
    job.result()
    from playground.results.suites import asked

    run = playground.suite_run(job.id)
    assert run
    assert [asked(run, 0, 0, sample).seed for sample in range(3)] == [7, 8, 9]
    (column,) = playground.suite_summary(job.id).columns
    assert (column.repeated, column.varied, column.distinct) == (1, 0, 1.0)
    assert column.rate.prompts == 1


def test_the_answers_of_other_people_go_between_two_cells(playground: Playground) -> None:
    job = begin(playground, [script(text="a b c d", step_s=0.05)], 12)
    until(lambda: job.progress().done >= 2)
    before = job.progress().done
    comparison = playground.compare(ASK, playground.variants(["fast"])).result()
    assert comparison.runs[0].error is None
    assert not job.done
    assert job.progress().done - before <= 3
    assert job.result().status == "done"
    at = [cell.run.timings.queue_s or 0.0 for cell in in_the_order_they_ended(playground, job.id)]
    assert max(at) > comparison.runs[0].timings.total_s  # type: ignore[operator]
    assert sorted(at)[-2] < max(at) / 2


@pytest.mark.alone
def test_a_preparation_gets_its_time_while_a_suite_goes_on(playground: Playground) -> None:
    job = begin(playground, [script(text="a b c d e f", step_s=0.05)], 40)
    until(lambda: job.progress().done >= 1)
    rested: list[bool] = []
    artifact = playground.prepare(
        playground.variants(["slow-to-prepare"])[0],
        lambda step, share: rested.append(playground.preparer._pauses > 0),
    )
    assert artifact
    assert not job.done
    assert rested.count(False) > len(rested) / 4
    assert rested.count(True) > 0
    job.stop()
    assert job.wait(30)


# -- failures -----------------------------------------------------------------------------------------------------


def test_one_model_that_fails_leaves_the_others_running(playground: Playground) -> None:
    job = begin(playground, ["fails", "fails-to-prepare", "fails-to-load", "dies", "fast"], 5)
    assert job.result().status == "done"
    by_column: dict[int, list[Cell]] = {}
    for cell in cells_of(playground, job.id):
        by_column.setdefault(cell.column, []).append(cell)
    assert {column: len(cells) for column, cells in by_column.items()} == dict.fromkeys(range(5), 5)
    for column in range(4):
        assert all(cell.run.error and cell.passed is False for cell in by_column[column])
    assert all(cell.run.error is None for cell in by_column[4])
    assert "no recipe fits it" in str(by_column[1][4].run.error)
    # A model that answers wrongly is asked every time; one whose worker ends or can't be loaded is given up.
    assert "token 3" in str(by_column[0][4].run.error)
    for column in (2, 3):
        assert "could not be run 3 times in a row" not in str(by_column[column][2].run.error)
        assert "could not be run 3 times in a row" in str(by_column[column][3].run.error)
    states = [column.state for column in job.progress().columns]
    assert states == ["done", "failed", "failed", "failed", "done"]
    assert playground.suite_summary(job.id).failed == 20


def test_what_failed_is_asked_again_where_that_is_wanted(playground: Playground) -> None:
    job = begin(playground, ["fails", "fast"], 2)
    job.result()
    before = table(cells_of(playground, job.id))
    with pytest.raises(UsageError, match=r"is done.*--retry"):
        playground.resume_suite(job.id)
    assert playground.resume_suite(job.id, retry=True).result().status == "done"
    assert table(cells_of(playground, job.id)) == before
    assert [cell.column for cell in in_the_order_they_ended(playground, job.id)] == [1, 1, 0, 0]
    assert playground.suite_summary(job.id).failed == 2


def test_a_judge_that_breaks_is_a_check_that_is_not_met(
    playground: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **how: Any) -> Any:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("playground.experiments.suite_plan.judge", broken)
    job = begin(playground, ["fast"], 2)
    assert job.result().status == "done"
    cells = cells_of(playground, job.id)
    assert [cell.passed for cell in cells] == [False, False]
    assert "ZeroDivisionError" in str(cells[0].checks[0].reason)


# -- pause, stop, go on -------------------------------------------------------------------------------------------


@pytest.mark.alone
def test_a_pause_lets_the_answer_end_and_a_stop_does_not(playground: Playground) -> None:
    slow = script(text="a b c d e f g h", step_s=0.1)
    whole = begin(playground, [slow, "fast"], 3)
    whole.result()
    undisturbed = table(cells_of(playground, whole.id))

    job = begin(playground, [slow, "fast"], 3)
    until(lambda: job.snapshot().lives and job.snapshot().lives[0].kind == "token")
    job.pause()
    assert job.result().status == "paused"
    assert job.progress().done == 1
    assert playground.suites()[0].status == "paused"

    job = playground.resume_suite(job.id)
    until(lambda: job.snapshot().lives and job.snapshot().lives[0].kind == "token")
    began = time.monotonic()
    job.stop()
    assert job.result().status == "paused"
    assert time.monotonic() - began < 2
    assert len(cells_of(playground, job.id)) == 1

    job = playground.resume_suite(job.id)
    assert job.result().status == "done"
    assert table(cells_of(playground, job.id)) == undisturbed
    assert job.progress().done == job.progress().total == 6


@pytest.mark.alone
def test_a_suite_that_runs_cannot_be_begun_again_nor_one_that_is_not_there(playground: Playground) -> None:
    job = begin(playground, [script(text="la " * 30, step_s=0.1)], 2)
    with pytest.raises(UsageError, match="is being run already"):
        playground.resume_suite(job.id)
    assert playground.suites()[0].status == "running"
    job.stop()
    job.wait(30)
    with pytest.raises(UsageError, match="No suite has the id 'nothing'"):
        playground.resume_suite("nothing")


@pytest.mark.alone
def test_closing_the_app_pauses_a_suite_and_another_app_goes_on(make_settings: Callable[..., Settings]) -> None:
    with Playground(make_settings()) as playground:
        job = begin(playground, [script(text="a b c d e f", step_s=0.05)], 6)
        until(lambda: job.progress().done >= 2)
    assert job.wait(30)
    with Playground(make_settings()) as playground:
        (entry,) = playground.suites()
        assert (entry.status, entry.done) == ("paused", job.progress().done)
        assert playground.resume_suite(job.id).result().status == "done"
        assert len(cells_of(playground, job.id)) == 6


def test_a_suite_that_is_deleted_ends(playground: Playground) -> None:
    job = begin(playground, [script(text="a b c", step_s=0.05)], 50)
    until(lambda: job.progress().done >= 2)
    playground.delete_suite(job.id)
    with pytest.raises(Stopped):
        job.result()
    assert playground.suites() == []
    assert playground.suite_run(job.id) is None


def test_samples_of_earlier_sessions_count_where_samples_are_judged_together(playground: Playground) -> None:
    job = begin(playground, [script(text="a b c d", step_s=0.05)], 1, check=Check("same-answer", value=3), repeats=3)
    until(lambda: job.progress().done >= 1)
    job.pause()
    assert job.result().status == "paused"
    paused_at = job.progress().done
    assert 1 <= paused_at < 3
    assert playground.resume_suite(job.id).result().status == "done"
    cells = cells_of(playground, job.id)
    assert [cell.sample for cell in cells] == [0, 1, 2]
    assert cells[-1].passed is True


# -- killed -------------------------------------------------------------------------------------------------------


@pytest.mark.fault
def test_killed_three_times_the_table_is_that_of_an_undisturbed_run_and_no_cell_is_run_twice(
    playground: Playground, tmp_path: Path
) -> None:
    models = [script(text="a b c paris", step_s=0.02), script(text="d e f", step_s=0.02)]
    whole = begin(playground, models, 10, repeats=2)
    whole.result()
    undisturbed = table(cells_of(playground, whole.id))

    home, log = tmp_path / "killed", tmp_path / "asked.log"
    id, stored = "", 0
    for most in (9, 18, 30, 1000):
        args = [str(home), ",".join(models), "10", str(log), id]
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.suites", *args], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        try:
            while process.poll() is None and stored < most:
                time.sleep(0.01)
                id, stored = in_the_file(home)
        finally:
            if most < 1000:
                os.kill(process.pid, signal.SIGKILL)
        out, _ = process.communicate(timeout=60)
        if most < 1000:
            assert process.returncode == -signal.SIGKILL
            (id, stored), before = in_the_file(home), stored
            assert stored >= before
    assert out.split() == [id, "done"]

    asked = log.read_text().splitlines()
    assert len(undisturbed) == 40
    twice = {line for line in asked if asked.count(line) > 1}
    assert len(asked) <= 40 + 3  # the answer that was being given when it was killed
    assert len(twice) <= 3
    with Playground(playground_settings(home)) as again:
        assert table(cells_of(again, id)) == undisturbed
        assert len(in_the_order_they_ended(again, id)) == 40
        assert again.suites()[0].status == "done"


def playground_settings(home: Path) -> Settings:
    from playground.config.settings import load_settings

    return load_settings({"PLAYGROUND_HOME": str(home), **SETTINGS})


def in_the_file(home: Path) -> tuple[str, int]:
    """The suite of a home, and how many cells it has, read past the product."""
    paths = list(home.glob("*.sqlite3"))
    if not paths:
        return "", 0
    with closing(sqlite3.connect(paths[0])) as connection:
        try:
            found = connection.execute("SELECT id FROM suite").fetchone()
            return (found[0], connection.execute("SELECT count(*) FROM suite_cell").fetchone()[0]) if found else ("", 0)
        except sqlite3.OperationalError:  # not there yet
            return "", 0


# -- a store that fails -------------------------------------------------------------------------------------------


def test_a_database_that_another_process_has_holds_up_no_answer_and_loses_none(
    playground: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("playground.results.database.BUSY_S", 0.1)
    job = begin(playground, [script(text="a b", step_s=0.02)], 30)
    until(lambda: job.progress().done >= 2)
    with closing(sqlite3.connect(playground.store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        stored = len(in_the_order_they_ended(playground, job.id))
        until(lambda: job.progress().done >= stored + 4, 10)
        until(lambda: job.snapshot().problem)
        assert "locked" in str(job.snapshot().problem)
        other.execute("ROLLBACK")
    assert job.result().status == "done"
    assert not job.snapshot().problem
    assert len(cells_of(playground, job.id)) == 30


@pytest.mark.fault
def test_a_disk_that_stays_full_pauses_the_suite_and_nothing_that_was_kept_is_lost(
    playground: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "MOST_UNSAVED", 3)
    monkeypatch.setattr(keeping, "MOST_UNSAVED_S", 5.0)
    job = begin(playground, [script(text="a b", step_s=0.02)], 80)
    until(lambda: len(cells_of(playground, job.id)) >= 3)  # kept, not only answered
    writer = playground.store._writer.connection
    assert writer
    (pages,) = writer.execute("PRAGMA page_count").fetchone()
    original = playground.store._connect

    def small() -> sqlite3.Connection:
        connection = original()
        connection.execute(f"PRAGMA max_page_count = {pages}")
        return connection

    with monkeypatch.context() as patch:
        patch.setattr(playground.store._writer, "_connect", small)
        writer.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StorageError, match=r"full.*Free some space"):
            job.result()
    kept = len(cells_of(playground, job.id))
    assert 3 <= kept < job.progress().done
    playground.store.close()
    assert playground.suites()[0].status == "paused"
    assert playground.resume_suite(job.id).result().status == "done"
    assert len(cells_of(playground, job.id)) == 80


# -- models that several servers serve ------------------------------------------------------------------------------


def test_where_a_model_may_be_asked_several_things_at_once_rows_go_side_by_side(
    playground: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy, most, lock = 0, 0, threading.Lock()
    generate = playground.pool.generate

    def counted(load: Any, request: Request, cancelled: Any) -> Any:
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        try:
            yield from generate(load, request, cancelled)
        finally:
            with lock:
                busy -= 1

    monkeypatch.setattr(playground.pool, "lanes", lambda spec: 4)
    monkeypatch.setattr(playground.pool, "generate", counted)
    job = begin(playground, ["fast"], 8, repeats=2)
    assert job.result().status == "done"
    cells = cells_of(playground, job.id)
    assert len(cells) == 16
    assert most == 4
    assert {cell.run.timings.mode for cell in cells} == {"fast"}
    assert playground.suite_summary(job.id).columns[0].shared


def test_time_left_of_answers_side_by_side_is_by_the_clock_and_not_by_their_sum() -> None:
    column = counter(100, [])
    column.share()
    column.shared_since = time.monotonic() - 10.0
    for place in range(40):
        column.add(Cell(place, 0, 0, ModelRun(Variant("m"), "", "", "", "stop", Timings(total_s=1.0))))
    assert left([column]) == pytest.approx(15.0, abs=0.5)


# -- time left ----------------------------------------------------------------------------------------------------


def counter(total: int, seconds: list[float], expected_mb: float | None = None) -> Counter:
    made = Counter(ColumnProgress(Variant("m"), total), expected_mb)
    for at, taken in enumerate(seconds):
        made.add(Cell(at, 0, 0, ModelRun(Variant("m"), "", "", "", "stop", Timings(total_s=taken))))
    return made


def test_time_left_is_a_columns_own_mean_and_for_others_by_their_memory() -> None:
    assert left([counter(10, [])]) is None
    assert left([counter(10, [2.0, 4.0])]) == pytest.approx(8 * 3.0)
    assert left([counter(10, [2.0] * 10, 100.0), counter(10, [], 300.0)]) == pytest.approx(60.0)
    assert left([counter(10, [2.0] * 10), counter(10, [])]) == pytest.approx(20.0)
    assert left_words(None) == ""
    assert [str(left_words(each)) for each in (0.2, 30.4, 300, 9000)] == [
        "about 1 second left",
        "about 30 seconds left",
        "about 5 minutes left",
        "about 2.5 hours left",
    ]


def test_a_runner_alone_checks_as_the_service_does(playground: Playground) -> None:
    with pytest.raises(UsageError, match="no prompt"):
        SuiteRunner(playground._machine).plan(SuitePlan(suite(0)), columns(playground, ["fast"]))


def test_where_memory_is_short_one_model_is_loaded_at_a_time_and_each_once(
    make_settings: Callable[..., Settings],
) -> None:
    models = [script(text="a b c", memory_mb=60), script(text="d e f", memory_mb=61)]
    with Playground(make_settings()) as roomy:
        begin(roomy, models, 1).result()
        held = [model.rss_mb for model in roomy.pool.loaded()]
        assert len(held) == 2
    with Playground(make_settings(PLAYGROUND_MEMORY_MB=round(1.5 * max(mb or 0.0 for mb in held)))) as tight:
        job = begin(tight, models, 4)
        assert job.result().status == "done"
        cells = cells_of(tight, job.id)
        assert not [cell.run.error for cell in cells if cell.run.error]
        assert sum(bool(cell.run.timings.cold) for cell in cells) == 2
        assert len(tight.pool.loaded()) == 1
