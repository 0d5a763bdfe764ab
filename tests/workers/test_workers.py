"""Workers answer from processes of their own, and whatever becomes of one stays its own affair."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from playground.config.settings import Settings
from playground.errors import ContextOverflow, RunError
from playground.records import Event, LoadSpec, ModelRun, Remote, Request
from playground.workers import protocol
from playground.workers.pool import Pool
from playground.workers.process import WorkerProcess, worker_environment
from tests.support.scripted_models import scripted

pytestmark = [pytest.mark.waits, pytest.mark.alone]

HELLO = Request("hello there")


def never() -> bool:
    return False


def answer(pool: Pool, load: LoadSpec, request: Request = HELLO, cancelled: Callable[[], bool] = never) -> ModelRun:
    """Run to the end; checks that exactly one event, the last, ends the answer."""
    events = list(pool.generate(load, request, cancelled))
    assert [event.run is not None for event in events] == [False] * (len(events) - 1) + [True]
    assert events[-1].run
    return events[-1].run


def in_background(pool: Pool, load: LoadSpec) -> tuple[threading.Thread, list[Event]]:
    events: list[Event] = []
    thread = threading.Thread(target=lambda: events.extend(pool.generate(load, HELLO, never)))
    thread.start()
    return thread, events


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_worker_is_started_for_the_first_prompt_and_kept_for_the_next(pool: Pool) -> None:
    load = scripted("fake:text=a+b+c&load_s=0.2")
    first = list(pool.generate(load, HELLO, never))
    assert first[0].kind == "loading"
    cold = first[-1].run
    assert cold is not None
    assert cold.timings.cold is True
    assert 0.2 < cold.timings.load_s < 5
    pid = pool.loaded()[0].pid
    second = list(pool.generate(load, HELLO, never))
    warm = second[-1].run
    assert warm is not None
    assert "loading" not in {event.kind for event in second}
    assert (warm.timings.cold, warm.timings.load_s) == (False, 0.0)
    assert pool.loaded()[0].pid == pid
    assert cold.text == warm.text == "a b c"


def test_no_other_figure_holds_the_load(pool: Pool) -> None:
    run = answer(pool, scripted("fake:load_s=0.3&text=a+b&prefill_s=0.05"))
    assert run.timings.ttft_s == pytest.approx(0.05, abs=0.04)
    assert run.timings.total_s < 0.2
    assert run.timings.queue_s < 0.05


def test_peak_memory_is_that_of_the_worker(pool: Pool) -> None:
    small = answer(pool, scripted("fake:", "small")).timings
    large = answer(pool, scripted("fake:memory_mb=80", "large")).timings
    assert large.peak_memory_mb - small.peak_memory_mb == pytest.approx(80, abs=8)
    assert large.memory_method
    by_name = {loaded.variant: loaded for loaded in pool.loaded()}
    assert by_name["large@fake-none"].rss_mb == pytest.approx(large.peak_memory_mb, abs=8)


def test_another_number_of_threads_is_another_process(pool: Pool) -> None:
    load = scripted("fake:text=a")
    assert answer(pool, load).timings.threads == 1
    pid = pool.loaded()[0].pid
    run = answer(pool, replace(load, threads=2))
    assert (run.timings.threads, run.timings.cold) == (2, True)
    assert [loaded.threads for loaded in pool.loaded()] == [2]
    assert gone(pid)


@pytest.mark.fault
def test_a_worker_killed_in_mid_answer_becomes_a_failed_run_with_its_text_and_comes_back(pool: Pool) -> None:
    load = scripted("fake:text=a+b+c+d+e+f+g+h&step_s=0.1")
    thread, events = in_background(pool, load)
    until(lambda: sum(event.kind == "token" for event in events) >= 2)
    os.kill(pool.loaded()[0].pid, signal.SIGKILL)
    killed_at = time.monotonic()
    thread.join(5)
    assert time.monotonic() - killed_at < 1.5
    run = events[-1].run
    assert run is not None
    assert events[-1].kind == "failed"
    assert run.finish_reason == "error"
    assert "scripted@fake-none" in run.error
    assert "killed by SIGKILL (9)" in run.error
    assert "memory" in run.error
    assert "a b c d e f g h".startswith(run.text.strip())
    assert run.timings.output_tokens == len(run.text.split()) >= 2
    assert pool.loaded() == []
    assert answer(pool, load).text == "a b c d e f g h"


@pytest.mark.fault
def test_a_worker_killed_between_two_prompts_is_not_missed(pool: Pool) -> None:
    load = scripted("fake:text=a+b")
    answer(pool, load)
    pid = pool.loaded()[0].pid
    os.kill(pid, signal.SIGKILL)
    until(lambda: not pool.loaded())
    run = answer(pool, load)
    assert (run.text, run.error, run.timings.cold) == ("a b", None, True)


@pytest.mark.fault
def test_a_model_that_ends_its_own_process_fails_alone(pool: Pool) -> None:
    run = answer(pool, scripted("fake:text=a+b+c&die_at=3", "dies"))
    assert run.text == "a b "
    assert "SIGKILL (9)" in run.error
    assert answer(pool, scripted("fake:text=fine", "other")).text == "fine"


@pytest.mark.fault
def test_an_error_of_the_model_keeps_its_worker_and_its_text(pool: Pool) -> None:
    load = scripted("fake:text=a+b+c&fail_at=3")
    run = answer(pool, load)
    assert (run.text, run.finish_reason) == ("a b ", "error")
    assert run.error.startswith("scripted: its script says that token 3 fails")
    assert run.timings.prompt_tokens == 4
    assert answer(pool, load).timings.cold is False


def test_errors_keep_their_kind_across_the_border(pool: Pool) -> None:
    message = protocol.error(7, ContextOverflow("too long", "Shorten it."))
    arrived = protocol.error_of(protocol.decode(protocol.encode(message)))
    assert type(arrived) is ContextOverflow
    assert (arrived.what, arrived.next_step) == ("too long", "Shorten it.")
    assert "the prompt has 602 tokens" in answer(pool, scripted("fake:"), Request("word " * 600)).error


@pytest.mark.fault
def test_a_model_that_fails_to_load_leaves_no_process(pool: Pool) -> None:
    run = answer(pool, scripted("fake:fail_load=1"))
    assert "loading fails" in run.error
    assert (run.timings.cold, run.timings.load_s) == (True, None)
    assert pool.loaded() == []


def test_an_unknown_runtime_is_a_failed_run(pool: Pool) -> None:
    load = scripted("fake:")
    variant = replace(load.artifact.variant, runtime="abacus")
    run = answer(pool, replace(load, artifact=replace(load.artifact, variant=variant)))
    assert "Unknown runtime 'abacus'" in run.error


def test_stop_ends_an_answer_at_once_and_keeps_the_worker(pool: Pool) -> None:
    load = scripted("fake:text=a+b+c+d&step_s=0.3")
    stop = threading.Event()
    stopped_at = 0.0
    events = []
    for event in pool.generate(load, HELLO, stop.is_set):
        events.append(event)
        if event.kind == "token" and not stop.is_set():
            stop.set()
            stopped_at = time.monotonic()
    assert time.monotonic() - stopped_at < 0.6
    assert events[-1].kind == "stopped"
    assert events[-1].run.text == "a "
    assert events[-1].run.error is None
    assert answer(pool, load).timings.cold is False


@pytest.mark.fault
def test_a_worker_that_ignores_stop_is_killed_within_two_seconds_and_comes_back(pool: Pool) -> None:
    load = scripted("fake:text=a+b+c&stall_at=2")
    stop = threading.Event()
    stopped_at = 0.0
    run = None
    for event in pool.generate(load, HELLO, stop.is_set):
        run = event.run
        if event.kind == "token":
            stop.set()
            stopped_at = time.monotonic()
    assert 1.0 < time.monotonic() - stopped_at < 2.0
    assert run is not None
    assert (run.text, run.finish_reason, run.error) == ("a ", "stopped", None)
    assert pool.loaded() == []
    assert answer(pool, load, replace(HELLO, max_new_tokens=1)).text == "a "


def test_stop_while_loading_ends_the_process(pool: Pool) -> None:
    began = time.monotonic()
    run = answer(pool, scripted("fake:load_s=30"), cancelled=lambda: time.monotonic() - began > 0.3)
    assert time.monotonic() - began < 2.0
    assert run.finish_reason == "stopped"
    assert pool.loaded() == []


@pytest.mark.fault
@pytest.mark.parametrize("script", ["text=a+b+c&stall_at=2", "load_s=60"])
def test_a_silent_worker_is_ended_and_named(settings: Settings, script: str) -> None:
    impatient = replace(settings, limits=replace(settings.limits, stall_timeout_s=1.5))
    began = time.monotonic()
    with Pool(impatient) as pool:
        run = answer(pool, scripted(f"fake:{script}", "mute"))
        assert 1.5 < time.monotonic() - began < 6
        assert "mute@fake-none: its worker reported nothing for 1.5 s" in run.error
        assert pool.loaded() == []


@pytest.mark.fault
def test_a_worker_that_takes_more_memory_than_models_may_is_ended_and_the_next_prompt_works(
    settings: Settings,
) -> None:
    with Pool(settings, budget_mb=100) as pool:
        run = answer(pool, scripted("fake:text=a+b+c&step_s=1&memory_mb=600", "large"))
        assert "large@fake-none: its worker took" in run.error and "300 MB" in run.error
        assert (run.error_kind, pool.lost) == ("DoesNotFit", {"memory": 1})
        assert pool.loaded() == []
        assert answer(pool, scripted("fake:text=a+b")).text == "a b"


@pytest.mark.fault
@pytest.mark.skipif(sys.platform != "linux", reason="other systems choose otherwise")
def test_where_memory_runs_out_a_worker_goes_before_the_app(pool: Pool) -> None:
    answer(pool, scripted("fake:text=a"))
    assert Path(f"/proc/{pool.loaded()[0].pid}/oom_score_adj").read_text().strip() == "500"


@pytest.mark.fault
def test_an_answer_that_can_not_be_taken_in_for_want_of_memory_ends(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: object) -> None:
        raise MemoryError

    monkeypatch.setattr("playground.system.child.JsonChild._take_in", full)
    began = time.monotonic()
    assert answer(pool, scripted("fake:text=a+b")).finish_reason == "error"
    assert time.monotonic() - began < 10
    monkeypatch.undo()
    assert answer(pool, scripted("fake:text=a+b")).text == "a b"


def test_an_answer_nobody_reads_on_does_not_leak_into_the_next(pool: Pool) -> None:
    load = scripted("fake:text=a+b+c+d&step_s=0.1")
    events = pool.generate(load, HELLO, never)
    for event in events:
        if event.kind == "token":
            break
    events.close()  # type: ignore[attr-defined]
    assert answer(pool, load).text == "a b c d"


def test_two_prompts_for_one_model_wait_for_each_other(pool: Pool) -> None:
    load = scripted("fake:text=a+b+c+d+e&step_s=0.1")
    answer(pool, load, replace(HELLO, max_new_tokens=1))
    thread, first = in_background(pool, load)
    until(lambda: any(event.kind == "token" for event in first))
    assert pool.loaded()[0].busy
    second = answer(pool, load)
    thread.join()
    assert first[-1].run.text == second.text == "a b c d e"
    assert 0.2 < second.timings.queue_s < 1.5
    assert second.timings.total_s < 0.6


def test_waiting_for_a_busy_worker_can_be_stopped(pool: Pool) -> None:
    load = scripted("fake:text=a+b+c&step_s=0.5")
    thread, events = in_background(pool, load)
    until(lambda: events)
    began = time.monotonic()
    run = answer(pool, load, cancelled=lambda: time.monotonic() - began > 0.1)
    assert run.finish_reason == "stopped"
    assert time.monotonic() - began < 0.5
    thread.join()


def test_inspect_shows_the_prompt_and_keeps_the_worker_whatever_its_threads(pool: Pool) -> None:
    load = scripted("fake:")
    assert pool.inspect(load, HELLO).rendered == "[user] hello there [assistant]"
    pid = pool.loaded()[0].pid
    assert pool.inspect(replace(load, threads=2), HELLO).tokens[1] == "hello "
    assert pool.loaded()[0].pid == pid


def test_inspect_raises_what_keeps_the_model_from_loading(pool: Pool) -> None:
    with pytest.raises(RunError, match="loading fails"):
        pool.inspect(scripted("fake:fail_load=1"), HELLO)


def test_the_longest_unused_model_makes_room_for_a_new_one(settings: Settings) -> None:
    def large(name: str) -> LoadSpec:
        return scripted(
            "fake:text=a&memory_mb=100", name, size_bytes=60_000_000
        )  # holds and is expected to take 120 MB

    with Pool(settings, budget_mb=300) as pool:
        answer(pool, large("first"))
        answer(pool, large("second"))
        answer(pool, large("first"))
        assert len(pool.loaded()) == 2
        answer(pool, large("third"))
        assert {loaded.variant for loaded in pool.loaded()} == {"first@fake-none", "third@fake-none"}


def test_a_busy_model_is_never_evicted(settings: Settings) -> None:
    with Pool(settings, budget_mb=200) as pool:
        thread, events = in_background(pool, scripted("fake:text=a+b+c+d&step_s=0.2", "busy"))
        until(lambda: any(event.kind == "token" for event in events))
        answer(pool, scripted("fake:text=a", "other"))
        thread.join()
        assert events[-1].run.text == "a b c d"


def test_unload_gives_the_process_back(pool: Pool) -> None:
    answer(pool, scripted("fake:"))
    pid = pool.loaded()[0].pid
    pool.unload("scripted@fake-none")
    pool.unload("never-loaded@fake-none")
    assert pool.loaded() == []
    assert gone(pid)


def test_closing_ends_busy_and_idle_workers_and_refuses_new_ones(settings: Settings) -> None:
    pool = Pool(settings)
    answer(pool, scripted("fake:", "idle"))
    thread, events = in_background(pool, scripted("fake:stall_at=1", "busy"))
    until(lambda: any(event.kind == "prefill" for event in events))
    pids = [loaded.pid for loaded in pool.loaded()]
    assert len(pids) == 2
    began = time.monotonic()
    pool.close()
    thread.join(2)
    assert time.monotonic() - began < 2
    assert all(gone(pid) for pid in pids)
    assert events[-1].kind == "failed"
    assert "closing" in answer(pool, scripted("fake:", "late")).error


MUCH = Request("\U0001f600" * 19_000)
"""More than a pipe holds."""


def suspended(pool: Pool, load: LoadSpec) -> int:
    """A warm worker that neither reads nor answers."""
    answer(pool, load)
    pid = pool.loaded()[0].pid
    os.kill(pid, signal.SIGSTOP)
    return pid


@pytest.mark.fault
def test_a_worker_that_reads_nothing_of_a_long_prompt_stalls(settings: Settings) -> None:
    load = scripted("fake:text=a")
    patient = replace(settings, limits=replace(settings.limits, stall_timeout_s=60.0))
    with Pool(patient) as pool:
        pid = suspended(pool, load)
        for process in pool._processes:  # only now: on a busy machine a start may take longer than that
            process._stall_s = 1.0  # type: ignore[union-attr]
        began = time.monotonic()
        run = answer(pool, load, MUCH)
        assert "reported nothing for 1 s and was ended" in run.error
        assert time.monotonic() - began < 4
        assert gone(pid)
        assert answer(pool, load).text == "a"


def test_stop_reaches_a_prompt_that_the_worker_does_not_read(pool: Pool) -> None:
    load = scripted("fake:text=a")
    suspended(pool, load)
    began = time.monotonic()
    run = answer(pool, load, MUCH, lambda: time.monotonic() - began > 0.5)
    assert run.finish_reason == "stopped"
    assert time.monotonic() - began < 2.5


def test_closing_does_not_wait_for_a_prompt_that_the_worker_does_not_read(settings: Settings) -> None:
    load = scripted("fake:text=a")
    pool = Pool(settings)
    pid = suspended(pool, load)
    events: list[Event] = []
    thread = threading.Thread(target=lambda: events.extend(pool.generate(load, MUCH, never)), daemon=True)
    thread.start()
    time.sleep(0.3)
    assert thread.is_alive()
    began = time.monotonic()
    pool.close()
    thread.join(3)
    assert time.monotonic() - began < 5
    assert events[-1].kind == "failed"
    assert gone(pid)


def test_text_no_encoding_can_hold_crosses_the_border(pool: Pool) -> None:
    odd = "line\nbreak\u2028 \ud800 \x00 🦙"
    assert "\ud800 \x00 🦙" in pool.inspect(scripted("fake:"), Request(odd)).rendered


def test_what_a_library_prints_cannot_disturb_and_is_found_in_the_log(settings: Settings) -> None:
    load = scripted("fake:")
    process = WorkerProcess(load, settings.home / "logs", 60.0)
    try:
        # An unknown command with a broken load makes the worker print a traceback to its stderr.
        process.send({"do": "load", "load": {"spec": 1}})
        message = process.receive(10)
        assert message is not None
        assert message["say"] == "error"
        os.kill(process.pid, signal.SIGTERM)
        died = process.death()
    finally:
        process.kill()
    assert "was killed by SIGTERM (15)" in died.what
    logs = list((settings.home / "logs").iterdir())
    assert [log.name for log in logs] == ["worker-scripted@fake-none.log"]
    assert str(logs[0]) in died.next_step
    assert "Traceback" in logs[0].read_text()


def test_a_worker_gets_no_secrets_and_no_network() -> None:
    env = {
        "PATH": "/bin",
        "HOME": "/root",
        "HF_TOKEN": "hf_x",
        "MY_DATABASE": "postgres://user:password@host",
        "PLAYGROUND_HOME": "/home",
        "HTTPS_PROXY": "http://proxy",
        "PYTHONPATH": "/extra",
        "OMP_NUM_THREADS": "64",
        "LC_ALL": "C.UTF-8",
        "GLIBC_TUNABLES": "glibc.malloc.check=1",
    }
    passed = worker_environment(scripted("fake:", threads=3), env)
    assert "hf_x" not in passed.values()
    assert not {"HF_TOKEN", "MY_DATABASE", "PLAYGROUND_HOME", "HTTPS_PROXY"} & passed.keys()
    assert passed["OMP_NUM_THREADS"] == "3"
    assert passed["TOKENIZERS_PARALLELISM"] == "false"
    assert passed["HF_HUB_OFFLINE"] == "1"
    assert passed["LC_ALL"] == "C.UTF-8"
    assert passed["PYTHONPATH"].endswith("/extra")
    assert passed["GLIBC_TUNABLES"] == "glibc.malloc.check=1:glibc.malloc.hugetlb=1"


def test_the_worker_of_a_remote_model_gets_its_key_and_no_other() -> None:
    env = {"BIG_KEY": "k1", "OTHER_KEY": "k2", "https_proxy": "http://proxy"}
    load = scripted("fake:")
    load = replace(load, spec=replace(load.spec, remote=Remote("big", "m", "http://127.0.0.1/v1", key_env="BIG_KEY")))
    passed = worker_environment(load, env)
    assert passed["BIG_KEY"] == "k1"
    assert passed["https_proxy"] == "http://proxy"
    assert "OTHER_KEY" not in passed
    assert "HF_HUB_OFFLINE" not in passed
