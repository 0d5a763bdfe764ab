"""Single answers for programs: in turn between callers, complete when they end, with a receipt."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from playground.errors import BadRequest, Busy, Stopped, UnknownModel
from playground.records import ModelRun, Request, TokenLogprob, Variant
from playground.service import Playground, answers
from playground.service.callers import Callers
from tests.conftest import MakeSettings

NEVER = bool


def wait_until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.005)


def begin(callers: Callers, owner: str, said: list[str]) -> threading.Thread:
    """A request of its own thread, which says whose turn it had; it waits in line when this returns."""
    before = callers.waiting

    def ask() -> None:
        with callers.turn(owner, NEVER):
            said.append(owner)

    thread = threading.Thread(target=ask)
    thread.start()
    wait_until(lambda: callers.waiting == before + 1)
    return thread


def test_callers_are_served_by_turns_and_each_in_their_own_order() -> None:
    callers, said = Callers(), list[str]()
    with callers.turn("first", NEVER):
        threads = [begin(callers, owner, said) for owner in ("a", "a", "a", "b", "c", "c")]
    for thread in threads:
        thread.join(5)
    assert said == ["a", "b", "c", "a", "c", "a"]
    assert callers.waiting == 0


def test_who_leaves_the_line_holds_up_nobody() -> None:
    callers, said = Callers(), list[str]()
    gone = threading.Event()
    raised: list[type[Exception]] = []

    def ask() -> None:
        try:
            with callers.turn("a", gone.is_set):
                said.append("left")
        except Stopped as error:
            raised.append(type(error))

    with callers.turn("first", NEVER):
        leaver = threading.Thread(target=ask)
        leaver.start()
        wait_until(lambda: callers.waiting == 2)
        after = begin(callers, "a", said)
        gone.set()
        leaver.join(5)
        assert raised == [Stopped]
    after.join(5)
    assert said == ["a"]


def test_a_caller_with_too_much_waiting_is_refused_and_others_are_not() -> None:
    callers, said = Callers(most=1), list[str]()
    with callers.turn("first", NEVER):
        threads = [begin(callers, "a", said)]
        with pytest.raises(Busy, match="1 requests are waiting"), callers.turn("a", NEVER):
            pass
        threads.append(begin(callers, "b", said))
    for thread in threads:
        thread.join(5)
    assert said == ["a", "b"]


def test_who_comes_while_another_is_served_is_next() -> None:
    callers, said = Callers(), list[str]()
    with callers.turn("a", NEVER):
        threads = [begin(callers, owner, said) for owner in ("a", "a", "b", "c")]
    for thread in threads:
        thread.join(5)
    assert said == ["b", "c", "a", "a"]


def test_an_answer_is_complete_and_has_a_receipt(playground: Playground) -> None:
    request = Request("Hi")
    run = list(playground.answer("fast", request))[-1].run
    assert run
    assert run.text == "Paris is the capital of France."
    assert run.timings.mode == "fair"
    assert run.timings.queue_s is not None
    assert run.tokenizer
    id = playground.receipt([run])
    kept = playground.answered(id)
    assert kept
    assert kept.runs[0].text == run.text
    assert playground.comparison(id) is None
    assert playground.comparison(playground.receipt([run], store=True)) is not None


def test_what_is_wrong_is_told_before_any_work(playground: Playground) -> None:
    with pytest.raises(BadRequest):
        playground.answer("fast", Request(""))
    with pytest.raises(UnknownModel):
        playground.answer("nothing", Request("Hi"))
    assert playground.callers.waiting == 0


def test_a_failed_answer_names_the_class_of_its_error(playground: Playground) -> None:
    run = list(playground.answer("fast", Request("word " * 390)))[-1].run
    assert run
    run = list(playground.answer("fails", Request("Hi")))[-1].run
    assert run
    assert run.error_kind == "RunError"


def test_strangers_name_no_folders(make_settings: MakeSettings) -> None:
    with Playground(make_settings(HOST="0.0.0.0")) as playground:
        assert playground.asked("fast") == Variant("fast", "fake", "none")
        with pytest.raises(UnknownModel):
            playground.asked("path:/etc")


def test_large_answers_are_held_for_less_long_than_small_ones(
    playground: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "MOST_HELD_PARTS", 10_000)
    run = ModelRun(Variant.parse("fast@fake-none"), "fake", "none", "Paris", "stop")
    small = [playground.receipt([replace(run, request=Request("Hi"))]) for _ in range(20)]
    assert all(map(playground.answered, small))
    large = Request(prompt_ids=tuple(range(300, 4300)))
    ids = [playground.receipt([replace(run, request=replace(large, prompt_ids=large.prompt_ids))]) for _ in range(4)]
    assert [bool(playground.answered(id)) for id in (small[0], *ids)] == [False, False, False, True, True]
    choices = [replace(run, request=replace(large, seed=seed)) for seed in range(100)]
    assert playground.answered(playground.receipt(choices)), "what choices share counts once"
    top = TokenLogprob(1, -0.1, tuple(range(20)), (-0.1,) * 20)
    huge = playground.receipt([replace(run, request=Request("Hi"), logprobs=(top,) * 1000)])
    assert playground.answered(huge), "the last one is held, whatever its size"
    assert playground.lately.held.keys() == playground.lately.parts.keys() == {huge}
