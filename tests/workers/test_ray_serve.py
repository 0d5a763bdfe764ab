"""Suites on a Ray cluster, started on this machine: the work is shared, and a replica that dies loses no answer."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest

from playground.catalog.entries import load_catalog
from playground.errors import ConfigError
from playground.records import Artifact, Column, LoadSpec, ModelRun, Request
from playground.service import Playground
from playground.workers import ray_serve
from playground.workers.fleet import Fleet
from playground.workers.ray_cluster import Replica
from playground.workers.ray_serve import RayReplicas

DATA = Path(__file__).parent.parent / "data"
ANSWER_S = 0.5
TEXT = "one two three four five"
SOURCE = f"fake:text={TEXT.replace(' ', '+')}&prefill_s={ANSWER_S / 5}&step_s={ANSWER_S / 5}"

ray_only = [
    pytest.mark.integration,
    pytest.mark.skipif(find_spec("ray") is None, reason="the extra ray is not installed"),
    # Sockets that Ray leaves open, and forks beside its threads, are not ours to mend.
    pytest.mark.filterwarnings("ignore"),
]


def never() -> bool:
    return False


def load_of(source: str = SOURCE) -> LoadSpec:
    spec, variant = load_catalog(DATA / "fake_catalog.yaml").resolve(source)
    return LoadSpec(spec, Artifact(variant, "/nowhere", "none", "1", "", 0), threads=2)


def answer(executor: RayReplicas, load: LoadSpec, cancelled: Callable[[], bool] = never) -> ModelRun:
    events = list(executor.generate(load, Request("Hi"), cancelled))
    assert [event.run is not None for event in events] == [False] * (len(events) - 1) + [True]
    run = events[-1].run
    assert run is not None
    return run


def answers(executor: RayReplicas, load: LoadSpec, number: int) -> tuple[list[ModelRun], float]:
    with ThreadPoolExecutor(executor.lanes) as threads:
        began = time.monotonic()
        runs = list(threads.map(lambda _: answer(executor, load), range(number)))
        return runs, time.monotonic() - began


def replica_processes() -> list[int]:
    """The replicas of our clusters, and of nobody else's."""
    ours = psutil.Process().children(recursive=True)
    return [each.pid for each in ours if "ServeReplica" in " ".join(each.cmdline())]


@contextmanager
def cluster(replicas: int) -> Iterator[RayReplicas]:
    executor = RayReplicas("local", replicas, threads=1)
    try:
        yield executor
    finally:
        executor.close()


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """One cluster for all tests of the module; each joins it with as many replicas as it wants."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    module = pytest.importorskip("ray", reason="the extra ray is not installed")
    module.init(address="local", num_cpus=8, include_dashboard=False, log_to_driver=False)
    yield module
    from ray import serve

    serve.shutdown()
    module.shutdown()


@pytest.mark.alone
@pytest.mark.usefixtures("ray")
class TestOnACluster:
    pytestmark = ray_only

    def test_throughput_grows_with_the_replicas_and_figures_are_labelled(self) -> None:
        rates = {}
        for number in (1, 2, 4):
            with cluster(number) as executor:
                answers(executor, load_of(), 2 * number)  # started
                runs, took = answers(executor, load_of(), 6 * number)
                rates[number] = len(runs) / took
                assert {run.text.strip() for run in runs} == {TEXT}
                assert all(run.error is None and run.timings.decode_tok_s for run in runs)
                if number > 1:
                    assert {run.timings.mode for run in runs} == {"fast"}
                    assert all(any("rank nothing" in note for note in run.warnings) for run in runs)
        assert rates[2] / rates[1] > 0.9 * 2, rates
        assert rates[4] / rates[1] > 0.9 * 4, rates

    def test_a_replica_that_is_killed_loses_no_answer(self) -> None:
        with cluster(2) as executor:
            answers(executor, load_of(), 2)
            [victim, *_] = replica_processes()
            threading.Timer(0.7, os.kill, (victim, signal.SIGKILL)).start()
            runs, _ = answers(executor, load_of(), 8)
        assert [run.error for run in runs] == [None] * 8
        assert {run.text.strip() for run in runs} == {TEXT}
        assert any("Asked again" in note for run in runs for note in run.warnings)

    def test_stop_ends_an_answer_and_frees_its_replica(self) -> None:
        with cluster(2) as executor:
            load = load_of("fake:text=la+la+la+la+la+la&step_s=2")
            stop = threading.Event()
            with ThreadPoolExecutor(2) as threads:
                runs = [threads.submit(answer, executor, load, stop.is_set) for _ in range(2)]
                while not (models := list(executor._models.values())) or not models[0].ready.wait(0.1):
                    pass
                time.sleep(1)
                began = time.monotonic()
                stop.set()
                assert [run.result().finish_reason for run in runs] == ["stopped"] * 2
                assert time.monotonic() - began < 2

    def test_what_a_model_raises_is_its_own_error_and_nobody_is_asked_again(self) -> None:
        with cluster(2) as executor:
            failing = answer(executor, load_of("fake:text=one+two+three&fail_at=2"))
        assert failing.error is not None and "lost" not in failing.error
        assert failing.text.strip() == "one" and not any("Asked again" in note for note in failing.warnings)

    def test_a_suite_is_answered_by_the_cluster_and_a_comparison_is_not(self, make_settings: Any) -> None:
        settings = make_settings(PLAYGROUND_RAY="local", PLAYGROUND_RAY_REPLICAS="2", PLAYGROUND_THREADS="1")
        with Playground(settings) as playground:
            column = Column(*playground.variants(["fast"]), Request(max_new_tokens=16))
            suite = playground.read_suite("one\ntwo\nthree\nfour", "prompts.txt")
            run = playground.begin_suite(suite, [column]).result()
            cells = list(playground.suite_cells_in_order(run.id))
            compared = playground.compare(Request("Hi"), playground.variants(["fast"])).result()
        assert [cell.row for cell in cells] == [0, 1, 2, 3]
        assert all(any("Ray cluster" in note for note in cell.run.warnings) for cell in cells)
        assert {cell.run.timings.mode for cell in cells} == {"fast"}
        assert compared.runs[0].timings.mode == "fair" and not compared.runs[0].warnings


def said_by(replica: Replica) -> list[dict[str, Any]]:
    async def heard() -> list[dict[str, Any]]:
        return [json.loads(line) async for line in replica.generate(Request("Hi").to_json())]

    return asyncio.run(heard())


def test_a_replica_whose_model_can_not_be_loaded_says_so_to_whoever_asks() -> None:
    """Raised where Ray makes the replica, it would be in Ray's words, and tried for ever."""
    [error] = said_by(Replica(load_of("fake:fail_load=1").to_json()))
    assert error["say"] == "error" and error["error"]["kind"] == "RunError"


def test_a_replica_answers_in_the_workers_own_messages() -> None:
    messages = said_by(Replica(load_of("fake:text=one+two").to_json()))
    assert {message["say"] for message in messages} == {"event"}
    assert messages[-1]["event"]["run"]["text"].strip() == "one two"


def test_nothing_of_ray_is_loaded_without_the_setting(make_settings: Any) -> None:
    import sys

    before = "ray" in sys.modules
    with Fleet(make_settings()) as fleet:
        assert fleet.lanes(load_of().spec) == 1
    assert ("ray" in sys.modules) == before


def test_the_setting_without_the_extra_says_how_to_get_it(make_settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_serve, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="PLAYGROUND_RAY is set") as refused:
        Fleet(make_settings(PLAYGROUND_RAY="auto"))
    assert "pip install 'open-model-playground[ray]'" in str(refused.value)


@pytest.mark.skipif(find_spec("ray") is None, reason="the extra ray is not installed")
def test_local_models_have_the_lanes_of_the_cluster_and_served_ones_do_not(make_settings: Any) -> None:
    settings = make_settings(PLAYGROUND_RAY="local", PLAYGROUND_RAY_REPLICAS="3")
    with Fleet(settings) as fleet:
        assert fleet.lanes(load_of().spec) == 6
        assert [event.run.text.strip() for event in fleet.generate(load_of(), Request("Hi"), never) if event.run] == [
            TEXT
        ]
        assert len(fleet.loaded()) == 1, "figures that are taken one at a time are this machine's own"


def test_a_cluster_started_here_takes_no_more_memory_than_models_may() -> None:
    executor = RayReplicas("local", 4, threads=1, budget_mb=100.0)
    run = answer(executor, load_of("fake:memory_mb=60"))
    executor.close()
    assert run.error is not None and "replicas need" in run.error and "PLAYGROUND_RAY_REPLICAS" in run.error


def test_a_single_replica_is_refused(make_settings: Any) -> None:
    with pytest.raises(ConfigError, match="at least 2"):
        make_settings(PLAYGROUND_RAY="local", PLAYGROUND_RAY_REPLICAS="1")
