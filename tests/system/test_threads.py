"""A call that was refused, or that nobody waits for any more, is never run; those that are taken have a thread each."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from playground.system.reserve import NO_THREAD, is_shortage
from playground.system.threads import Threads

NAME = "threads-of-a-test"
WAIT_S = 20


class System:
    """Whether threads of the pool can be had; ``asked`` is called where one can't."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.has_room = True
        self.asked: Callable[[], object] = lambda: None
        start = threading.Thread.start

        def begin(thread: threading.Thread) -> None:
            if thread.name.startswith(NAME) and not self.has_room:
                self.asked()
                raise RuntimeError(NO_THREAD)
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", begin)


class Full:
    """A queue that takes one thing more, and then has no memory."""

    def __init__(self, queue: Any) -> None:
        self.qsize, self.get_nowait, self._put, self._room = queue.qsize, queue.get_nowait, queue.put, 1

    def put(self, item: object) -> None:
        if not self._room:
            raise MemoryError
        self._room -= 1
        self._put(item)


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> System:
    return System(monkeypatch)


@pytest.fixture
def held() -> Iterator[threading.Event]:
    """What calls wait for."""
    event = threading.Event()
    yield event
    event.set()


def each_has_a_thread(pool: ThreadPoolExecutor, number: int) -> bool:
    """Whether so many calls run at the same time."""
    meeting = threading.Barrier(number)
    calls = [pool.submit(meeting.wait, 3) for _ in range(number)]
    return all(call.exception(WAIT_S) is None for call in calls)


def test_a_call_that_there_is_no_thread_for_is_refused_and_never_run(system: System, held: threading.Event) -> None:
    done: list[str] = []
    with Threads(4, NAME) as pool:
        first = pool.submit(held.wait, WAIT_S)
        system.has_room = False
        for _ in range(3):
            with pytest.raises(RuntimeError) as refused:
                pool.submit(done.append, "refused")
            assert is_shortage(refused.value)
        held.set()
        assert first.result(WAIT_S)
        system.has_room = True
        pool.submit(done.append, "next").result(WAIT_S)
    assert done == ["next"]  # the pool has ended, and with it whatever was in its queue


def test_a_pool_that_could_start_no_thread_at_all_runs_what_comes_when_it_can(system: System) -> None:
    done: list[str] = []
    with Threads(2, NAME) as pool:
        system.has_room = False
        with pytest.raises(RuntimeError, match=NO_THREAD):
            pool.submit(done.append, "refused")
        system.has_room = True
        pool.submit(done.append, "next").result(WAIT_S)
    assert done == ["next"]


def test_when_there_is_room_again_no_call_waits_behind_another(system: System, held: threading.Event) -> None:
    with Threads(3, NAME) as pool:
        first = pool.submit(held.wait, WAIT_S)
        system.has_room = False
        for _ in range(3):
            with pytest.raises(RuntimeError):
                pool.submit(int)
        held.set()
        first.result(WAIT_S)
        system.has_room = True
        assert each_has_a_thread(pool, 3)


def test_a_call_for_whose_way_back_there_is_no_memory_is_told_so(
    system: System, held: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Threads(2, NAME) as pool:
        first = pool.submit(held.wait, WAIT_S)
        pool._max_workers = 1  # so that the next waits in the queue
        waits = pool.submit(int)
        pool._max_workers = 2
        queue = pool._work_queue
        monkeypatch.setattr(pool, "_work_queue", Full(queue))
        system.has_room = False
        with pytest.raises(RuntimeError, match=NO_THREAD):
            pool.submit(int)
        pool._work_queue = queue
        assert isinstance(waits.exception(WAIT_S), MemoryError)
        held.set()
        assert first.result(WAIT_S)


def test_a_call_that_a_thread_took_in_that_moment_is_run_and_not_refused(system: System, held: threading.Event) -> None:
    taken = threading.Event()

    def call() -> str:
        taken.set()
        return "answered"

    def another_ends() -> None:
        held.set()
        assert taken.wait(WAIT_S)

    with Threads(3, NAME) as pool:
        pool.submit(held.wait, WAIT_S)
        system.has_room, system.asked = False, another_ends
        assert pool.submit(call).result(WAIT_S) == "answered"
        system.has_room = True
        assert each_has_a_thread(pool, 3)


def test_calls_that_wait_keep_their_order_when_another_is_refused(system: System, held: threading.Event) -> None:
    done: list[int] = []
    with Threads(1, NAME) as pool:
        pool.submit(held.wait, WAIT_S)
        for number in range(4):
            pool.submit(done.append, number)
        pool._max_workers, system.has_room = 2, False  # a pool at its most asks for no thread
        with pytest.raises(RuntimeError):
            pool.submit(done.append, 99)
        held.set()
    assert done == [0, 1, 2, 3]


def test_arguments_results_errors_and_the_end_are_those_of_any_pool() -> None:
    def call(*given: Any, **more: Any) -> tuple[Any, ...]:
        return given, more

    with Threads(2, NAME) as pool:
        assert pool.submit(call, 1, fn=2).result(WAIT_S) == ((1,), {"fn": 2})
        assert isinstance(pool.submit(int, "no number").exception(WAIT_S), ValueError)
        assert pool.submit(lambda: threading.current_thread().name).result(WAIT_S).startswith(NAME)
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(int)


@pytest.mark.parametrize("way", ["to_thread", "run_in_executor"])
def test_who_leaves_before_a_thread_took_the_call_leaves_nothing_that_runs(held: threading.Event, way: str) -> None:
    """So it is with any pool, and what the page's and the API's functions hand to threads relies on it."""
    done: list[str] = []

    async def ask() -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(Threads(1, NAME))
        first = asyncio.ensure_future(asyncio.to_thread(held.wait, WAIT_S))
        await asyncio.sleep(0)
        left: asyncio.Future[None]
        if way == "to_thread":
            left = asyncio.ensure_future(asyncio.to_thread(done.append, "left"))
        else:
            left = loop.run_in_executor(None, done.append, "left")
        await asyncio.sleep(0)
        left.cancel()
        await asyncio.wait([left])
        await asyncio.sleep(0)
        held.set()
        assert await first
        await asyncio.to_thread(done.append, "next")

    asyncio.run(ask())
    assert done == ["next"]
