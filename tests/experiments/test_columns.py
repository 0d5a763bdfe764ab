"""Columns of a comparison: one variant in two of them, each asked its own, one stopped alone, some carried over."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest

from playground.errors import BadRequest, Busy, StorageError, UsageError
from playground.experiments.compare import BROKEN_OFF
from playground.experiments.memory_plan import plan_of
from playground.records import Column, Comparison, Variant
from playground.service import Playground
from tests.support.watching import ASK, everything, script, until

pytestmark = pytest.mark.waits

SHORT = replace(ASK, max_new_tokens=2)
FAST = Variant("fast", "fake", "none")


@pytest.mark.parametrize("mode", ["fair", "fast"])
def test_a_variant_in_two_columns_answers_both_one_after_the_other_by_one_worker(
    playground: Playground, mode: str
) -> None:
    running = playground.comparer.start(ASK, [FAST, "slow", Column(FAST, SHORT)], mode)  # type: ignore[arg-type]
    events = everything(running)
    first, _, second = running.result().runs
    assert (first.text, first.request) == ("Paris is the capital of France.", None)
    assert (second.text, second.request) == ("Paris is ", SHORT)
    assert {str(model.variant) for model in playground.pool.loaded()} == {"fast@fake-none", "slow@fake-none"}
    spans = {
        place: [event.at for event in events if event.column == place and event.kind not in ("queued", "preparing")]
        for place in range(3)
    }
    assert spans[0][-1] <= spans[2][0]
    told = ["".join(event.text for event in events if event.column == at and event.kind == "token") for at in (0, 2)]
    assert told == [first.text, second.text]
    if mode == "fair":
        assert not second.timings.cold


def test_the_same_question_twice_is_refused_and_each_request_is_checked(playground: Playground) -> None:
    for other in (FAST, Column(FAST), Column(FAST, ASK), "fast"):
        with pytest.raises(UsageError, match=r"fast@fake-none is chosen twice.*other parameters"):
            playground.comparer.start(ASK, [FAST, other])
    with pytest.raises(BadRequest, match="temperature"):
        playground.comparer.start(ASK, [FAST, Column(FAST, replace(ASK, temperature=-1))])
    assert playground.pool.loaded() == []


def test_of_a_variant_in_two_columns_the_plan_counts_what_takes_most_once(playground: Playground) -> None:
    long = replace(ASK, max_new_tokens=500)

    def total(*asked: tuple[Variant, object]) -> float:
        return plan_of(playground.catalog, playground.preparer, list(asked), 1e6).total_mb  # type: ignore[arg-type]

    assert total((FAST, ASK), (FAST, long)) == max(total((FAST, ASK)), total((FAST, long)))
    assert playground.memory_plan([FAST, Column(FAST, long)], ASK) == playground.memory_plan([FAST], long)


def test_a_column_is_stopped_alone_while_it_answers_and_while_it_waits(playground: Playground) -> None:
    endless = script(text="la " * 60, step_s=0.5)
    running = playground.comparer.start(ASK, [endless, "slow", "fast"])
    until(lambda: running.snapshot().lives[0].kind == "token")
    running.stop_column(1)
    assert running.snapshot().lives[1].kind == "stopped"
    running.stop_column(0)
    running.stop_column(7)
    runs = running.result().runs
    assert [run.finish_reason for run in runs] == ["stopped", "stopped", "stop"]
    assert runs[0].text
    assert runs[1].text == ""


@pytest.mark.alone
def test_who_is_stopped_column_by_column_gives_up_the_place_in_the_queue(playground: Playground) -> None:
    first = playground.comparer.start(ASK, [script(text="la " * 60, step_s=0.5)])
    until(lambda: first.snapshot().lives[0].kind == "token")
    second = playground.comparer.start(ASK, ["fast"])
    until(lambda: "ahead" in second.snapshot().lives[0].message)
    second.stop_column(0)
    assert second.wait(30)
    assert not first.done
    first.stop()


def test_a_column_that_fails_leaves_the_others(playground: Playground) -> None:
    runs = playground.comparer.start(ASK, [Column(FAST, SHORT), "fails", FAST]).result().runs
    assert [run.finish_reason for run in runs] == ["length", "error", "stop"]


def test_runs_that_are_carried_over_are_there_from_the_start_and_never_run(playground: Playground) -> None:
    done = playground.comparer.start(ASK, ["fast", "fails"]).result()
    old, failed = (replace(run, taken_in=done.id) for run in done.runs)
    running = playground.comparer.start(ASK, [old, Column(FAST, SHORT), failed], parent=done.id)
    lives = running.snapshot().lives
    assert [live.run for live in lives] == [old, None, failed]
    assert [live.kind for live in lives[::2]] == ["done", "failed"]
    assert {event.column for event in everything(running)} == {1}
    comparison = running.result()
    assert (comparison.runs[0], comparison.runs[2]) == (old, failed)
    assert comparison.parent == done.id
    with pytest.raises(UsageError, match="No model is chosen"):
        playground.comparer.start(ASK, [old])
    with pytest.raises(UsageError, match="at most 4"):
        playground.comparer.start(ASK, [old, old, old, old, "fast"])


# -- stored as it grows -------------------------------------------------------------------------------------------


def test_it_is_stored_when_it_begins_at_each_models_end_and_at_the_end(playground: Playground) -> None:
    saved: list[Comparison] = []
    running = playground.comparer.start(ASK, ["fast", "slow"], save=saved.append)
    whole = running.result()
    assert saved[-1] == whole
    finished = [sum(BROKEN_OFF not in run.warnings for run in one.runs) for one in saved]
    begun, halfway = saved[0], saved[finished.index(1)]
    assert {one.id for one in saved} == {whole.id}
    assert [(run.text, run.finish_reason) for run in begun.runs] == [("", "stopped")] * 2
    assert halfway.runs[0] == whole.runs[0]
    assert halfway.runs[1].finish_reason == "stopped"


def test_what_cannot_be_stored_breaks_no_run_and_is_told(playground: Playground) -> None:
    def full(comparison: Comparison) -> None:
        raise StorageError("The disk is full")  # type: ignore[arg-type]

    running = playground.comparer.start(ASK, ["fast"], save=full)
    assert running.result().runs[0].finish_reason == "stop"
    assert "disk is full" in running.snapshot().problem


@pytest.mark.fault
def test_a_database_that_hangs_holds_up_no_model(playground: Playground) -> None:
    let_go = threading.Event()
    running = playground.comparer.start(ASK, ["fast", "base"], save=lambda _: let_go.wait(10))
    until(lambda: all(live.run for live in running.snapshot().lives))
    assert not running.done
    let_go.set()
    assert running.wait(30)


def test_one_that_is_going_on_is_found_by_its_id_and_ends_stored(playground: Playground) -> None:
    running = playground.compare(ASK, [Variant("slow", "fake", "none")], owner="ann")
    assert playground.running(running.id) is running
    until(lambda: playground.comparison(running.id))
    whole = running.result()
    until(lambda: playground.running(running.id) is None)
    assert playground.comparison(running.id) == whole
    assert playground.store.owner(running.id) == "ann"
    other = playground.compare(ASK, [FAST], keep=False)
    assert other.result().runs[0].text
    assert playground.comparison(other.id) is None


def test_nobody_can_guess_an_id(playground: Playground) -> None:
    first, second = (playground.compare(ASK, [FAST]).id.rpartition("-")[2] for _ in range(2))
    assert len(first) == len(second) == 32
    assert first != second


def test_closing_ends_what_goes_on_and_keeps_it(playground: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    save = playground.store.save

    def slowly(comparison: Comparison, owner: str = "") -> None:
        time.sleep(0.4)
        save(comparison, owner)

    monkeypatch.setattr(playground.store, "save", slowly)
    running = playground.compare(ASK, playground.variants([script(text="la " * 60, step_s=0.5)]))
    until(lambda: running.snapshot().lives[0].kind == "token")
    playground.close()
    assert running.done
    with Playground(playground.settings) as later:
        kept = later.comparison(running.id)
    assert kept == running.result()
    assert kept.runs[0].finish_reason == "stopped"
    assert BROKEN_OFF in kept.runs[0].warnings
    assert kept.runs[0].text


def test_strangers_together_have_few_comparisons_going_on(playground: Playground) -> None:
    limits = replace(playground.settings.limits, max_unfinished_of_all=4)
    playground.settings = replace(playground.settings, on_space=True, limits=limits)
    (endless,) = playground.variants(["endless"])
    jobs = [playground.compare(ASK, [endless], owner=f"tab:{number}") for number in range(4)]
    for owner in ("tab:4", ""):
        with pytest.raises(Busy, match=r"4 comparisons of all visitors .* Try again"):
            playground.compare(ASK, [FAST], owner=owner)
    for job in jobs:
        job.stop()
        assert job.wait(30)
    until(lambda: playground.running(jobs[-1].id) is None)
    assert playground.compare(ASK, [FAST], owner="tab:4").wait(30)


def test_a_visitor_of_a_space_has_few_comparisons_going_on(playground: Playground) -> None:
    playground.settings = replace(playground.settings, on_space=True)
    (endless,) = playground.variants(["endless"])
    jobs = [playground.compare(ASK, [endless], owner="ann") for _ in range(3)]
    with pytest.raises(Busy, match=r"3 of your comparisons are still going on.*stop it"):
        playground.compare(ASK, [FAST], owner="ann")
    other = playground.compare(ASK, [FAST], owner="bob")
    for job in jobs:
        job.stop()
        assert job.wait(30)
    assert other.wait(30)
    until(lambda: playground.running(jobs[-1].id) is None)
    assert playground.compare(ASK, [FAST], owner="ann").wait(30)


def test_an_answer_that_grows_is_stored_before_it_ends(playground: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("playground.experiments.compare.KEEP_EVERY_S", 0.2)
    running = playground.compare(ASK, playground.variants([script(text="la " * 60, step_s=0.1)]))

    def kept() -> str:
        stored = playground.comparison(running.id)
        return stored.runs[0].text if stored else ""

    until(lambda: kept().count("la") > 3)
    assert not running.done
    stored = playground.comparison(running.id)
    assert stored and BROKEN_OFF in stored.runs[0].warnings
    running.stop()
    assert BROKEN_OFF not in running.result().runs[0].warnings
