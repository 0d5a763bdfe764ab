"""The mechanism of every experiment: its end is told, Stop reaches it wherever it is, a fault of ours is named."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from playground.cli import main
from playground.errors import RunError, Stopped
from playground.experiments.base import Experiment, Job, Machine
from playground.experiments.diff import VariantDiff
from playground.experiments.progress import Snapshot
from playground.messages import msg
from playground.records import Request
from playground.service import Playground
from tests.support.suites import begin
from tests.support.watching import ASK, script, until

LONG = script(text="la " * 40, step_s=0.5)


class Work(Job[str]):
    """Does what it is told to."""

    def __init__(self, machine: Machine, work: Callable[[Work], str]) -> None:
        super().__init__(machine, "The work")
        self._do = work

    def _run(self) -> str:
        return self._do(self)


@pytest.fixture
def machine(playground: Playground) -> Machine:
    return playground._machine


def begun(machine: Machine, work: Callable[[Work], str]) -> Work:
    job = Work(machine, work)
    machine.begin(job)
    return job


def test_a_job_tells_its_steps_and_has_a_result_for_everybody_who_asks(machine: Machine) -> None:
    go = threading.Event()

    def work(job: Work) -> str:
        job._tell(msg("half of it"), 0.5)
        go.wait(5)
        return "done"

    job: Experiment[str] = begun(machine, work)
    until(lambda: job.snapshot() == Snapshot(msg("half of it"), 0.5))
    assert not job.done
    assert not job.wait(0.01)
    go.set()
    assert [job.result(), job.result()] == ["done", "done"]
    assert job.done


def test_even_what_is_no_ordinary_error_is_told_to_who_waits(machine: Machine) -> None:
    def leave(job: Work) -> str:
        raise SystemExit(3)

    with pytest.raises(RunError, match="The work: SystemExit: 3"):
        begun(machine, leave).result()


def test_the_machine_can_be_closed_while_jobs_begin(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Work, "begin", lambda job: None)
    interval, over = sys.getswitchinterval(), threading.Event()
    kept = [Work(machine, lambda job: "done") for _ in range(50)]

    def begin() -> None:
        for job in kept:
            machine.begin(job)
        while not over.is_set():
            machine.begin(Work(machine, lambda job: "done"))

    thread = threading.Thread(target=begin)
    sys.setswitchinterval(1e-5)
    thread.start()
    try:
        for _ in range(500):
            machine.close()
    finally:
        over.set()
        thread.join()
        sys.setswitchinterval(interval)


def test_closing_ends_the_workers_even_if_an_experiment_resists(
    playground: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resist() -> None:
        raise RuntimeError("no")

    playground.compare(ASK, playground.variants(["fast"])).result()
    (loaded,) = playground.pool.loaded()
    with monkeypatch.context() as patch:
        patch.setattr(Work, "stop", lambda job: resist())
        job = begun(playground._machine, lambda job: "done")
        with pytest.raises(RuntimeError, match="no"):
            playground.close()
        assert job.done or job.wait(30)
    with pytest.raises(ProcessLookupError):
        os.kill(loaded.pid, 0)


def test_an_error_of_ours_is_raised_as_it_is_and_another_one_as_our_bug(machine: Machine) -> None:
    expected = RunError("fast: it broke", "Mend it.")

    def fail(error: Exception) -> Callable[[Work], str]:
        def work(job: Work) -> str:
            raise error

        return work

    with pytest.raises(RunError) as raised:
        begun(machine, fail(expected)).result()
    assert raised.value is expected
    with pytest.raises(RunError, match=r"The work: ZeroDivisionError: oops\. This is a bug of the playground"):
        begun(machine, fail(ZeroDivisionError("oops"))).result()


def test_a_stopped_job_without_a_result_says_that_it_was_stopped_whatever_broke_it(machine: Machine) -> None:
    def work(job: Work) -> str:
        job._stop.wait(5)
        raise RunError("fast: its worker was killed")

    job = begun(machine, work)
    job.stop()
    with pytest.raises(Stopped, match="The work was stopped"):
        job.result()


def test_stop_reaches_a_job_that_waits_for_the_machine_and_the_line_moves_on(machine: Machine) -> None:
    held: list[bool] = []

    def work(job: Work) -> str:
        with job._hold() as mine:
            held.append(mine)
        return "over"

    with machine.pool.turns.hold(lambda: False, lambda _: None):
        job = begun(machine, work)
        until(lambda: job.snapshot().step == "waiting for the machine: 1 ahead")
        job.stop()
        assert job.wait(30)
    assert begun(machine, work).result() == "over"
    assert held == [False, True]


@pytest.mark.waits
def test_a_part_is_shown_with_the_whole_and_stopped_with_it(playground: Playground, machine: Machine) -> None:
    part = playground.compare(ASK, playground.variants([LONG]))
    whole = begun(machine, lambda job: job._wait_for(part).runs[0].finish_reason)
    until(lambda: whole.snapshot().lives and whole.snapshot().lives[0].kind == "token")
    whole.stop()
    assert whole.wait(30)
    assert part.done
    assert whole.result() == "stopped"


@pytest.mark.waits
@pytest.mark.parametrize(
    "start",
    [
        lambda playground: playground.compare(ASK, playground.variants([LONG])),
        lambda playground: playground.benchmark(ASK, playground.variants([LONG]), 5),
        lambda playground: playground.diff(ASK, LONG, f"{LONG}&sure=9"),
        lambda playground: begin(playground, [LONG]),
    ],
)
def test_closing_the_app_ends_whatever_experiment_goes_on(
    make_settings: Any, start: Callable[[Playground], Experiment[Any]]
) -> None:
    with Playground(make_settings()) as playground:
        experiment = start(playground)
        until(lambda: any(model.busy for model in playground.pool.loaded()), 20)
    assert experiment.wait(30)


@pytest.mark.parametrize(("old", "new"), [("twins", "diff"), ("again", "replay")])
def test_the_old_name_of_a_command_is_answered_with_the_new_one(
    old: str, new: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([old, "a", "b", "Hi"]) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    assert f"The command {old} is called {new} now. Run" in printed.err
    assert printed.out == ""
    assert main([old, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["type"] == "UsageError"
    assert main(["--help"]) == 0
    listed = capsys.readouterr().out
    assert new in listed
    assert f" {old} " not in listed


@pytest.mark.waits
def test_a_diff_printed_by_an_older_version_can_be_read(playground: Playground) -> None:
    one, other = ("fake:text=the+quick+brown+fox", "fake:text=the+quick+red+fox")
    found = playground.diff(Request("Say it."), one, other).result()
    text = json.dumps(found.to_json())
    for new, old in (
        ('"candidate":', '"twin":'),
        ('"probability":', '"chance":'),
        ('"reference_probability":', '"reference_chance":'),
        ('"candidate_probability":', '"twin_chance":'),
        ('"candidate_perplexity":', '"twin_perplexity":'),
        ('"divergence":', '"parting":'),
    ):
        assert new in text
        text = text.replace(new, old)
    assert VariantDiff.from_json(json.loads(text)) == found
