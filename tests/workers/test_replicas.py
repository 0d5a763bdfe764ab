"""Answers by several servers: the work is shared, a server that is lost loses nothing, and nothing counts twice."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from playground.config.endpoints import load_remotes, remote_artifact, remote_spec
from playground.errors import RunError, Stopped
from playground.records import Event, LoadSpec, ModelRun, Request, Variant
from playground.workers import balancing
from playground.workers.balancing import Balancer, Place
from playground.workers.fleet import Fleet
from playground.workers.replicas import Replicas
from playground.workers.sharing import TRIES
from tests.support import misbehaving_server as odd
from tests.support.replica_server import replicas as serving
from tests.support.replica_server import start, turned

pytestmark = [pytest.mark.waits, pytest.mark.alone]


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def never() -> bool:
    return False


def load_of(urls: Sequence[str], **fields: Any) -> LoadSpec:
    block = {"name": "x", "url": urls[0], "replicas": list(urls[1:]), "model": "paced", "timeout_s": 5} | fields
    [remote] = load_remotes([block], {}, "test")
    spec = remote_spec(remote)
    return LoadSpec(spec, remote_artifact(Variant(spec.id, "remote", "served")), threads=2)


def answer(executor: Replicas, load: LoadSpec, prompt: str, cancelled: Callable[[], bool] = never) -> ModelRun:
    events = list(executor.generate(load, Request(prompt), cancelled))
    assert [event.run is not None for event in events] == [False] * (len(events) - 1) + [True]
    run = events[-1].run
    assert run is not None
    return run


def all_answers(executor: Replicas, load: LoadSpec, prompts: Sequence[str]) -> tuple[list[ModelRun], float]:
    """As a suite asks: as many at once as the executor says."""
    with ThreadPoolExecutor(executor.lanes(load.spec)) as threads:
        began = time.monotonic()
        runs = list(threads.map(lambda prompt: answer(executor, load, prompt), prompts))
        return runs, time.monotonic() - began


PROMPTS = [f"prompt number {place} of a suite" for place in range(24)]


# -- which one is asked ---------------------------------------------------------------------------------------------


def test_the_place_with_the_fewest_answers_under_way_is_next() -> None:
    a, b = Place("a"), Place("b")
    balancer = Balancer([a, b], at_once=2)
    taken = [balancer.take((), never, 0.0) for _ in range(4)]
    assert taken in ([a, b, a, b], [b, a, b, a])
    assert taken[0]
    balancer.give_back(taken[0], True)
    assert balancer.take((), never, 0.0) is taken[0]


def test_a_full_balancer_waits_for_the_next_free_place_and_for_stop() -> None:
    place = Place("a")
    balancer = Balancer([place], at_once=1)
    assert balancer.take((), never, 0.0) is place
    with pytest.raises(Stopped):
        balancer.take((), lambda: True, 0.0)
    threading.Timer(0.1, balancer.give_back, (place, True)).start()
    assert balancer.take((), never, 0.0) is place


def test_a_place_that_failed_rests_longer_each_time_and_is_tried_with_one_answer() -> None:
    place = Place("a")
    balancer = Balancer([place], at_once=4)
    rests = []
    for _ in range(7):
        place.under_way += 1
        balancer.give_back(place, False)
        rests.append(round(place.rests_until - time.monotonic(), 1))
    assert rests == [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0]
    assert balancer.take((), never, 0.0) is None
    place.rests_until = 0.0
    assert balancer.take((), never, 0.0) is place
    assert balancer._room(place) == 1
    balancer.give_back(place, True)
    assert balancer._room(place) == 4


def test_a_request_comes_back_to_where_it_failed_only_if_nobody_else_is_well() -> None:
    a, b = Place("a"), Place("b")
    balancer = Balancer([a, b], at_once=1)
    assert balancer.take([a], never, 0.0) is b
    threading.Timer(0.1, balancer.give_back, (b, True)).start()
    assert balancer.take([a], never, 0.0) is b, "b is busy, and well: it is waited for"
    assert balancer.take([a, b], never, 0.0) is a


# -- answers --------------------------------------------------------------------------------------------------------


def test_throughput_grows_with_the_replicas(tmp_path: Path) -> None:
    """Servers that wait cost this machine nothing, so what is lost is the executor's own."""
    rates = {}
    for number in (1, 2, 4):
        with serving(tmp_path, number, delay=0.25) as servers:
            load = load_of([server.url for server in servers], at_once=1)
            executor = Replicas()
            all_answers(executor, load, PROMPTS[:number])  # reached
            prompts = PROMPTS[: 4 * number]
            runs, took = all_answers(executor, load, prompts)
            assert [run.text for run in runs] == list(map(turned, prompts))
            rates[number] = len(prompts) / took
    assert rates[2] / rates[1] > 0.9 * 2, rates
    assert rates[4] / rates[1] > 0.9 * 4, rates


@pytest.mark.fault
def test_a_replica_killed_amid_its_answers_loses_none_and_none_counts_twice(tmp_path: Path) -> None:
    with serving(tmp_path, 3, delay=0.3, at_once=2) as servers:
        load = load_of([server.url for server in servers], at_once=2)
        executor = Replicas()
        threading.Timer(0.5, servers[1].kill).start()
        runs, _ = all_answers(executor, load, PROMPTS)
        assert [run.error for run in runs] == [None] * len(PROMPTS)
        assert [run.text for run in runs] == list(map(turned, PROMPTS))
        again = [run for run in runs if any("Asked again" in warning for warning in run.warnings)]
        assert 1 <= len(again) <= 3, "its answers under way, and perhaps one that found it gone"
        finished = [prompt for server in servers for prompt in server.answered]
        assert set(PROMPTS) <= set(finished)
        assert all(run.finish_reason == "stop" for run in runs)


def test_a_replica_that_comes_back_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balancing, "MOST_REST_S", 0.2)
    with serving(tmp_path, 2, delay=0.1) as servers:
        load, executor = load_of([server.url for server in servers]), Replicas()
        servers[0].kill()
        all_answers(executor, load, PROMPTS[:4])
        assert servers[0].answered == []
        back = start(tmp_path, "back", delay=0.1, port=servers[0].port)
        try:
            time.sleep(0.3)
            all_answers(executor, load, PROMPTS[:8])
            assert len(back.answered) >= 2
        finally:
            back.kill()


def test_what_shared_its_machines_is_labelled_and_what_was_alone_is_not(tmp_path: Path) -> None:
    with serving(tmp_path, 2, delay=0.2) as servers:
        load, executor = load_of([server.url for server in servers]), Replicas()
        single = answer(executor, load, "all by itself")
        shared, _ = all_answers(executor, load, PROMPTS[:2])
    assert single.timings.mode is None
    assert not any("rank nothing" in warning for warning in single.warnings)
    assert [run.timings.mode for run in shared] == ["fast", "fast"]
    assert all(any("rank nothing" in warning for warning in run.warnings) for run in shared)


@pytest.mark.fault
def test_servers_that_are_all_gone_are_waited_for_and_then_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tmp_path, 2, delay=0.1) as servers:
        pass
    run = answer(Replicas(), load_of([server.url for server in servers], timeout_s=1.0), "anybody?")
    assert run.error is not None and "none of its 2 servers was there for 1 s" in run.error
    assert all(f"127.0.0.1:{server.port}" in run.error for server in servers)
    assert "take those that are gone out" in run.error


def test_a_request_at_which_every_server_fails_ends_and_leaves_the_others_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(balancing, "REST_S", 0.01)
    broken = odd.cut_off(*odd.chat("Hel", finish=None))
    with odd.serving(broken) as first, odd.serving(broken) as second:
        urls = [f"http://{server.host}" for server in (first, second)]
        run = answer(Replicas(), load_of(urls), "a poisonous prompt")
        assert len(first.posts) + len(second.posts) == TRIES
    assert run.error is not None and f"{TRIES} servers failed at this request" in run.error
    assert run.text == "" and run.finish_reason == "error"


def test_a_refusal_is_the_requests_own_fault_and_nobody_else_is_asked(tmp_path: Path) -> None:
    with odd.serving(odd.refusal(400, "temperature is wrong")) as first, serving(tmp_path, 1, delay=0.05) as [second]:
        executor = Replicas()
        load = load_of([f"http://{first.host}", second.url])
        run = answer(executor, load, "Hi")
        assert run.error is not None and "temperature is wrong" in run.error
        assert answer(executor, load, "Hi").error is None


@pytest.mark.parametrize("status", [401, 404])
def test_a_server_that_was_set_up_wrongly_takes_no_answer_from_the_others(tmp_path: Path, status: int) -> None:
    """It fails at once, and would be the one with the fewest answers under way for ever."""
    with odd.serving(odd.refusal(status, "not mine")) as wrong, serving(tmp_path, 1, delay=0.05) as [well]:
        runs, _ = all_answers(Replicas(), load_of([f"http://{wrong.host}", well.url], at_once=2), PROMPTS[:8])
        assert [run.error for run in runs] == [None] * 8
        assert 1 <= len(wrong.posts) <= 3


@pytest.mark.parametrize(
    "reply",
    [
        odd.silence,
        odd.then_stall(*odd.chat("Hel", finish=None)),
        odd.hang_up,
        odd.refusal(500),
        odd.raw(b"<html>", 502),
    ],
    ids=["silent", "stalls", "hangs up", "500", "gateway"],
)
def test_an_answer_that_one_server_does_not_give_is_given_by_another(tmp_path: Path, reply: odd.Reply) -> None:
    with odd.serving(reply) as broken, serving(tmp_path, 1, delay=0.05) as [well]:
        load, executor = load_of([f"http://{broken.host}", well.url], timeout_s=1.0), Replicas()
        runs = [answer(executor, load, prompt) for prompt in PROMPTS[:2]]
        assert [(run.text, run.error) for run in runs] == [(turned(prompt), None) for prompt in PROMPTS[:2]]
        assert len(broken.posts) == 1, "it rests then"


def test_a_key_that_nobody_takes_is_told_at_once(tmp_path: Path) -> None:
    with odd.serving(odd.refusal(401, "no")) as first, odd.serving(odd.refusal(401, "no")) as second:
        began = time.monotonic()
        run = answer(Replicas(), load_of([f"http://{server.host}" for server in (first, second)], timeout_s=30), "Hi")
    assert run.error is not None and "refused the key" in run.error
    assert time.monotonic() - began < 3


def test_stop_ends_an_answer_and_a_wait_at_once(tmp_path: Path) -> None:
    with serving(tmp_path, 1, delay=3.0) as servers:
        load, executor, stop = load_of([servers[0].url], at_once=2), Replicas(), threading.Event()
        with ThreadPoolExecutor(3) as threads:
            runs = [threads.submit(answer, executor, load, prompt, stop.is_set) for prompt in PROMPTS[:3]]
            time.sleep(0.5)
            began = time.monotonic()
            stop.set()
            assert [run.result().finish_reason for run in runs] == ["stopped"] * 3
            assert time.monotonic() - began < 1.5


def test_closing_the_executor_stops_its_answers(tmp_path: Path) -> None:
    with serving(tmp_path, 1, delay=3.0) as servers, ThreadPoolExecutor(1) as threads:
        executor = Replicas()
        run = threads.submit(answer, executor, load_of([servers[0].url], at_once=2), "Hi")
        time.sleep(0.3)
        executor.close()
        assert run.result(timeout=30).finish_reason == "stopped"


def test_an_answer_begun_anew_says_that_its_pieces_no_longer_count(tmp_path: Path) -> None:
    with (
        odd.serving(odd.cut_off(*odd.chat("Hel", "lo", finish=None))) as broken,
        serving(tmp_path, 1, delay=0.05) as [well],
    ):
        load, executor = load_of([f"http://{broken.host}", well.url]), Replicas()
        events: list[Event] = []
        while not any(event.kind == "loading" for event in events):
            events = list(executor.generate(load, Request("one two"), never))
        place = [event.kind for event in events].index("loading")
        assert "".join(event.text for event in events[:place] if event.kind == "token") == "Hello"
        assert "".join(event.text for event in events[place:] if event.kind == "token") == "two one"
        assert events[-1].run is not None and events[-1].run.text == "two one"


def test_what_is_sent_is_shown_by_whichever_server_is_there(tmp_path: Path) -> None:
    with serving(tmp_path, 2, delay=0.05) as servers:
        load, executor = load_of([server.url for server in servers]), Replicas()
        servers[0].kill()
        assert '"content": "Hi"' in executor.inspect(load, Request("Hi")).rendered
        servers[1].kill()
        lost = Replicas()
        with pytest.raises(RunError, match="can't be reached"):
            lost.inspect(load, Request("Hi"))


# -- as the app has it ----------------------------------------------------------------------------------------------


def test_the_fleet_gives_replicated_models_to_their_servers_and_the_others_to_the_pool(
    make_settings: Any, tmp_path: Path
) -> None:
    with serving(tmp_path, 2, delay=0.05) as servers, Fleet(make_settings()) as fleet:
        load = load_of([server.url for server in servers], at_once=3)
        assert fleet.lanes(load.spec) == 6
        events = list(fleet.generate(load, Request("a b"), never))
        assert events[-1].run is not None and events[-1].run.text == "b a"
        assert fleet.loaded() == [], "no process was started for it"
        plain = load_of([servers[0].url])
        assert fleet.lanes(plain.spec) == 1
        run = list(fleet.generate(plain, Request("a b"), never))[-1].run
        assert run is not None and run.text == "b a"
        assert len(fleet.loaded()) == 1


def test_a_comparison_asks_replicas_one_at_a_time(make_settings: Any, tmp_path: Path) -> None:
    from playground.service import Playground

    with serving(tmp_path, 2, delay=0.05) as servers:
        remotes = [{"name": "x", "url": servers[0].url, "replicas": [servers[1].url], "model": "paced"}]
        with Playground(make_settings(PLAYGROUND_REMOTES=json.dumps(remotes))) as playground:
            comparison = playground.compare(Request("a b"), playground.variants(["remote:x"])).result()
    [run] = comparison.runs
    assert (run.text, run.error, run.timings.mode) == ("b a", None, "fair")
