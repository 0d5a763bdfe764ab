"""Clients that leave, and clients that crowd: the others are answered, in turn."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from playground.api import app
from playground.service import Playground
from playground.service.callers import Callers

pytestmark = [pytest.mark.waits, pytest.mark.alone]

STOPS_S = 2.0


def body(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Hi"}], **more}


def wait_until(holds: Callable[[], bool], within_s: float) -> float:
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < within_s
        time.sleep(0.01)
    return time.monotonic() - began


def busy(models: Playground) -> bool:
    return any(each.busy for each in models.pool.loaded())


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_ends_when_its_client_leaves_and_the_model_stays_loaded(
    door: str, models: Playground, *, stream: bool
) -> None:
    with (
        httpx2.Client(base_url=door, timeout=30, verify=False) as client,
        client.stream("POST", "/v1/chat/completions", json=body("endless", stream=True)) as answer,
    ):
        lines = answer.iter_lines()  # kept: the connection ends with it
        next(lines)  # loaded, and speaking
    wait_until(lambda: not busy(models), STOPS_S)
    (pid,) = [each.pid for each in models.pool.loaded() if each.variant.startswith("endless")]
    with pytest.raises(httpx2.ReadTimeout):
        httpx2.post(
            f"{door}/v1/chat/completions", json=body("endless", stream=stream, min_tokens=2), timeout=0.3, verify=False
        )
    assert busy(models) or not models.callers.waiting
    wait_until(lambda: not busy(models) and not models.callers.waiting, STOPS_S)
    assert [each.pid for each in models.pool.loaded() if each.variant.startswith("endless")] == [pid]


def test_who_waits_and_leaves_is_never_answered(door: str, models: Playground) -> None:
    with httpx2.stream(
        "POST", f"{door}/v1/chat/completions", json=body("endless", stream=True), timeout=30, verify=False
    ) as answer:
        lines = answer.iter_lines()
        next(lines)
        with pytest.raises(httpx2.ReadTimeout):
            httpx2.post(f"{door}/v1/chat/completions", json=body("fast"), timeout=0.3, verify=False)
        wait_until(lambda: models.callers.waiting == 1, STOPS_S)
    wait_until(lambda: not models.callers.waiting, STOPS_S)


@pytest.fixture
def crowd(door: str) -> Iterator[Callable[[str, str], None]]:
    """Begins a request of a caller, in a thread; all have ended when the test does."""
    threads: list[threading.Thread] = []
    order: list[str] = []

    def ask(user: str, model: str = "fast") -> None:
        def run() -> None:
            answer = httpx2.post(f"{door}/v1/chat/completions", json=body(model, user=user), timeout=30, verify=False)
            assert answer.status_code == 200
            order.append(user)

        threads.append(threading.Thread(target=run))
        threads[-1].start()

    ask.order = order  # type: ignore[attr-defined]
    ask.wait = lambda: [thread.join(30) for thread in threads]  # type: ignore[attr-defined]
    yield ask
    for thread in threads:
        thread.join(30)


def test_many_requests_of_one_caller_keep_another_waiting_for_one(door: str, models: Playground, crowd: Any) -> None:
    with httpx2.stream(
        "POST", f"{door}/v1/chat/completions", json=body("endless", stream=True), timeout=30, verify=False
    ) as answer:
        lines = answer.iter_lines()  # kept: the connection ends with it
        next(lines)
        for number in range(6):
            crowd("many")
            wait_until(lambda number=number: models.callers.waiting == number + 2, 5)
        crowd("one")
        wait_until(lambda: models.callers.waiting == 8, 5)
    crowd.wait()
    assert crowd.order.index("one") <= 1


def test_too_many_are_told_to_come_back(door: str, models: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "callers", Callers(most=0))
    answer = httpx2.post(f"{door}/v1/chat/completions", json=body("fast"), timeout=30, verify=False)
    assert answer.status_code == 429
    assert answer.json()["error"]["code"] == "rate_limit_exceeded"
    assert answer.headers["retry-after"] == "1", "nothing is known yet"
    monkeypatch.setattr(models, "callers", Callers(most=0, expected_s=lambda turns: 7.2 * turns))
    answer = httpx2.post(f"{door}/v1/chat/completions", json=body("fast"), timeout=30, verify=False)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "8")
    assert "Try again in 7 s" in answer.json()["error"]["message"]


def waiting(models: Playground, monkeypatch: pytest.MonkeyPatch, **limits: int) -> None:
    """So many requests may wait for a model, and none beside."""
    monkeypatch.setattr(app, "BESIDE", 0)
    monkeypatch.setattr(models, "settings", replace(models.settings, limits=replace(models.settings.limits, **limits)))


def test_one_caller_does_not_take_every_place_of_those_that_wait_for_a_model(
    door: str, models: Playground, monkeypatch: pytest.MonkeyPatch, crowd: Any
) -> None:
    waiting(models, monkeypatch, max_api_waiting=1)
    url = f"{door}/v1/chat/completions"
    with models.callers.turn("somebody", bool):
        crowd("many")
        wait_until(lambda: models.callers.waiting == 2, 5)
        assert httpx2.post(url, json=body("fast", user="many"), timeout=30, verify=False).status_code == 429
        crowd("one")
        wait_until(lambda: models.callers.waiting == 3, 5)
    crowd.wait()
    assert sorted(crowd.order) == ["many", "one"]
    assert httpx2.post(url, json=body("fast", user="many"), timeout=30, verify=False).status_code == 200


def test_a_stream_that_waits_begins_and_shows_that_it_lives(
    door: str, models: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "HEAD_S", 0.1)
    monkeypatch.setattr(app, "ALIVE_S", 0.1)
    with (
        models.callers.turn("somebody", bool),
        httpx2.stream(
            "POST", f"{door}/v1/chat/completions", json=body("fast", stream=True), timeout=30, verify=False
        ) as answer,
    ):
        assert answer.status_code == 200
        lines = answer.iter_lines()
        assert next(lines) == ": waiting"


def test_an_error_behind_signs_of_life_is_an_event(
    door: str, models: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "HEAD_S", 0.05)
    said: list[str] = []
    with models.callers.turn("somebody", bool):
        answer = httpx2.stream(
            "POST", f"{door}/v1/chat/completions", json=body("fails-to-load", stream=True), timeout=30, verify=False
        )
        stream = answer.__enter__()
        lines = stream.iter_lines()
        assert next(lines) == ": waiting"
    said = [line for line in lines if line.startswith("data: ")]
    answer.__exit__(None, None, None)
    assert json.loads(said[0].removeprefix("data: "))["error"]["code"] == "model_failed"
    assert said[1] == "data: [DONE]"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/tokenize"])
def test_when_all_threads_wait_more_is_refused_and_what_is_known_is_told(
    door: str, models: Playground, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    waiting(models, monkeypatch, max_api_waiting_of_all=0)
    asked = body("fast", stream=True) if path.startswith("/v1") else {"content": "a"}
    answer = httpx2.post(f"{door}{path}", json=asked, timeout=30, verify=False)
    assert answer.status_code == 429
    assert answer.json()["error"]["code"] == "rate_limit_exceeded"
    assert httpx2.get(f"{door}/v1/models", timeout=30, verify=False).status_code == 200
