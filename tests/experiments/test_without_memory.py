"""Where the app gets no more memory, or no thread, a run ends with an answer or an error that says so, and is kept."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from playground.errors import OutOfMemory, StorageError
from playground.experiments import keeping
from playground.experiments.base import Job, Machine, failure
from playground.experiments.compare import CompareJob
from playground.experiments.keeping import Keeper
from playground.messages import msg
from playground.records import Request
from playground.service import Playground
from playground.system.reserve import NO_THREAD
from playground.workers import pool
from tests.support.watching import until

pytestmark = [pytest.mark.waits, pytest.mark.fault]

HELLO = Request("Hello")


@pytest.fixture
def machine(playground: Playground) -> Machine:
    return playground._machine


def no_threads(monkeypatch: pytest.MonkeyPatch, *named: str) -> None:
    """There is no room for threads whose names begin so."""
    start = threading.Thread.start

    def refused(thread: threading.Thread) -> None:
        if thread.name.startswith(named):
            raise RuntimeError(NO_THREAD)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refused)


def failing(monkeypatch: pytest.MonkeyPatch, place: Any, name: str, times: int) -> list[int]:
    """The first calls of a function get no memory."""
    real: Callable[..., Any] = getattr(place, name)
    calls: list[int] = []

    def without_memory(*given: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) <= times:
            raise MemoryError
        return real(*given, **more)

    monkeypatch.setattr(place, name, without_memory)
    return calls


def test_a_comparison_that_gets_no_thread_is_refused_in_our_words_and_the_next_one_works(
    playground: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        no_threads(patched, "The comparison")
        with pytest.raises(OutOfMemory, match="no memory left"):
            playground.compare(HELLO, playground.variants(["fast"]))
        assert not playground._machine.in_use() and not playground.going_on.jobs
    assert playground.compare(HELLO, playground.variants(["fast"])).result().runs[0].text


def test_without_a_thread_to_store_by_a_comparison_is_stored_as_a_whole(
    playground: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_threads(monkeypatch, "keeper")
    done = playground.compare(HELLO, playground.variants(["fast"])).result()
    assert done.runs[0].text and playground.comparison(done.id) == done


def test_what_gets_no_thread_of_its_own_in_fast_mode_is_answered_one_after_the_other(
    playground: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_threads(monkeypatch, "run ")
    done = playground.compare(HELLO, playground.variants(["fast", "slow"]), "fast").result()
    assert all(run.text and not run.error for run in done.runs)


def test_a_model_that_gets_no_thread_to_be_prepared_fails_alone(
    playground: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_threads(monkeypatch, "prepare ")
    done = playground.compare(HELLO, playground.variants(["fast", "slow-to-prepare"])).result()
    assert done.runs[0].text and not done.runs[0].error
    assert "no memory left" in str(done.runs[1].error)
    assert playground.comparison(done.id) == done


def test_a_worker_that_nobody_could_hear_is_an_error_that_says_so_and_the_next_prompt_works(
    playground: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        no_threads(patched, "hear ")
        done = playground.compare(HELLO, playground.variants(["fast"])).result()
        assert "no memory left" in str(done.runs[0].error)
        assert playground.comparison(done.id) == done and not playground.pool.loaded()
    assert playground.compare(HELLO, playground.variants(["fast"])).result().runs[0].text


def test_an_app_that_lives_on_its_reserve_loads_nothing_new_and_lets_warm_models_answer(
    playground: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast, slow = playground.variants(["fast", "slow"])
    assert playground.compare(HELLO, [fast]).result().runs[0].text
    monkeypatch.setattr(pool, "short", lambda: True)
    done = playground.compare(HELLO, [fast, slow]).result()
    assert done.runs[0].text and not done.runs[0].error
    assert done.runs[1].error_kind == "OutOfMemory" and "no memory left" in str(done.runs[1].error)
    assert playground.comparison(done.id) == done


def test_an_event_that_can_not_be_taken_in_ends_its_answer_with_what_was_said(
    playground: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = pool.Event.from_json

    def without_memory(data: dict[str, Any]) -> Any:
        if data["kind"] == "token" and data["n_tokens"] > 2:
            raise MemoryError
        return read(data)

    with monkeypatch.context() as patched:
        patched.setattr(pool.Event, "from_json", without_memory)
        (run,) = playground.compare(HELLO, playground.variants(["fast"])).result().runs
    assert run.text and "no memory left" in str(run.error)
    assert playground.compare(HELLO, playground.variants(["fast"])).result().runs[0].text.endswith("France.")


@pytest.mark.parametrize("name", ["_end", "_picture", "_complete"])
def test_a_comparison_whose_own_steps_get_no_memory_ends_and_is_stored(
    name: str, playground: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = failing(monkeypatch, CompareJob, name, 2)
    job = playground.compare(HELLO, playground.variants(["fails-to-prepare", "fast"]))
    assert job.wait(30), "it does not end"
    assert all(run.text or run.error for run in job.result().runs)
    assert len(calls) > (2 if name == "_end" else 1)
    assert playground.comparison(job.id) == job.result()


def test_a_job_says_that_it_is_done_whatever_fails_it_and_what_follows_is_done(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Work(Job[str]):
        def _run(self) -> str:
            raise MemoryError

    told: list[int] = []

    def afterwards() -> None:
        told.append(1)
        if len(told) == 1:
            raise MemoryError

    failing(monkeypatch, Job, "_say_done", 2)
    job = Work(machine, "The work")
    job.when_done(afterwards)
    machine.begin(job)
    assert job.wait(10)
    with pytest.raises(OutOfMemory, match="no memory left"):
        job.result()
    until(lambda: len(told) == 2)


def test_what_memory_failed_to_store_is_stored_when_there_is_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "AGAIN_S", 0.01)
    stored: list[str] = []
    tried: list[int] = []

    def save(result: str) -> None:
        tried.append(1)
        if len(tried) == 1:
            raise MemoryError
        if len(tried) == 2:
            raise StorageError(msg("It can't be kept")) from MemoryError()
        stored.append(result)

    keeper = Keeper(save, lambda: "part")
    keeper.finish("whole")
    assert stored == ["whole"] and not keeper.problem


def test_what_an_error_of_want_is_told_as() -> None:
    for error in (MemoryError(), RuntimeError(NO_THREAD), OSError(12, "Cannot allocate memory")):
        told = failure(error, "It")
        assert isinstance(told, OutOfMemory) and told.next_step
    assert not isinstance(failure(RuntimeError("another"), "It"), OutOfMemory)
