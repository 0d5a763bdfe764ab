"""What the page hands to threads runs for whoever still wants it: not for those who left before there was a thread, nor
for those who were told that there is none.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from playground.api.app import create_api
from playground.api.serving import bound, serve
from playground.config.hosts import Hosts
from playground.config.settings import Settings
from playground.records import Request
from playground.results.store import Store
from playground.service import Playground
from playground.system.reserve import NO_THREAD
from playground.ui import jobs
from playground.ui.sessions import Sessions
from playground.ui.tabs.what_they_read import Events
from tests.support.app import App
from tests.support.launched import launched
from tests.support.watching import until
from tests.support.web import heard, number_of

pytestmark = pytest.mark.waits

WAIT_S = 30
THREADS = "page_"
"""How names of the threads begin that the page's functions hand work to."""


def asked(prompt: str) -> list[Any]:
    """What Run sends."""
    return [["fast"], "", False, "fair", prompt, "", 8, 0, 0, 1, 0, 1, 0, "", False]


def with_one_thread(visit: Callable[[Callable[[], None]], Any]) -> None:
    """Run ``visit`` where the only thread for blocking work is taken, until it calls what it is given."""
    free = threading.Event()

    async def run() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        first = asyncio.ensure_future(asyncio.to_thread(free.wait, WAIT_S))
        await asyncio.sleep(0)
        try:
            await visit(free.set)
            await asyncio.sleep(0.05)  # what was cancelled is so some turns of the loop later
        finally:
            free.set()
            await first
        await asyncio.to_thread(int)  # whatever was in the queue before has been taken

    asyncio.run(run())


def test_what_still_waits_for_a_thread_is_not_started_when_its_client_leaves(playground: Playground) -> None:
    started: list[str] = []

    def start() -> Any:
        started.append("it")
        return playground.compare(Request("Hi", max_new_tokens=8), playground.variants(["fast"]))

    async def leave(free: Callable[[], None]) -> None:
        task = asyncio.ensure_future(jobs.finish(Sessions(), "visitor", start))
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    with_one_thread(leave)
    assert started == []


@pytest.mark.parametrize("how", ["Stop", "the page is gone"])
def test_a_prompt_that_waits_for_a_thread_is_not_read_for_who_has_gone(playground: Playground, how: str) -> None:
    read: list[Any] = []
    tab = SimpleNamespace(prompts="prompts", read=SimpleNamespace(busy=lambda words: {}, idle=dict))
    readers = Sessions()
    events: Any = SimpleNamespace(tab=tab, playground=playground, readers=readers, _prompt=lambda *it: read.append(it))
    (fast,) = playground.variants(["fast"])

    async def look(free: Callable[[], None]) -> None:
        steps = Events._read(events, "visitor", [(fast, Request("Hi"))])
        for _ in range(2):
            await anext(steps)
        if how == "Stop":
            readers.stop("visitor")
            last = [step async for step in steps][-1]
            assert "stopped by you" in last["prompts"]
        else:
            await steps.aclose()

    with_one_thread(look)
    assert read == []


class System:
    """An app that gets no more threads for the page's work from some moment on; comparisons begin when they may."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.has_room, self.may_begin = True, threading.Event()
        self.begun: list[str] = []
        start, compare = threading.Thread.start, Playground.compare

        def begin(thread: threading.Thread) -> None:
            if thread.name.startswith(THREADS) and not self.has_room:
                raise RuntimeError(NO_THREAD)
            start(thread)

        def when_it_may(playground: Playground, request: Request, *given: Any, **more: Any) -> Any:
            self.begun.append(request.prompt)
            assert self.may_begin.wait(WAIT_S)
            return compare(playground, request, *given, **more)

        monkeypatch.setattr(threading.Thread, "start", begin)
        monkeypatch.setattr(Playground, "compare", when_it_may)


@pytest.mark.fault
def test_a_comparison_that_no_thread_was_there_for_is_refused_never_begun_and_the_next_prompt_works(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = System(monkeypatch)
    with (
        launched(settings, max_sessions=8, max_unfinished=20, max_waiting=20) as url,
        ThreadPoolExecutor(12) as visitors,
    ):
        app: Any = App(f"{url}/", None, 0)  # type: ignore[arg-type]
        run = number_of(app, "run")

        def ask(prompt: str) -> Future[str]:
            return visitors.submit(heard, app, run, asked(prompt), prompt)

        waiting = {"first": ask("first")}
        until(lambda: system.begun == ["first"])
        system.has_room = False
        refused = ""
        for number in range(6):  # a thread that was idle takes one more
            prompt = f"number{number}"
            call = ask(prompt)
            until(partial(lambda call, prompt: call.done() or prompt in system.begun, call, prompt))
            if call.done():
                refused = prompt
                break
            waiting[prompt] = call
        assert refused, "each found a thread"
        assert "no memory left" in call.result() and not json.loads(call.result())["ids"]
        system.has_room = True
        system.may_begin.set()
        answered = {json.loads(call.result(WAIT_S))["ids"][0] for call in waiting.values()}
        (last,) = json.loads(ask("next").result(WAIT_S))["ids"]
        store = Store(settings.database)
        until(lambda: all(is_answered(store, id) for id in {*answered, last}))
        store.close()
    assert system.begun == [*waiting, "next"]  # the app has ended, and with it its threads


def is_answered(store: Store, id: str) -> bool:
    found = store.get(id)
    return found is not None and all(run.finish_reason == "stop" for run in found.runs)


def test_the_api_by_itself_has_such_threads_too(playground: Playground) -> None:
    names: list[str] = []
    door = create_api(playground, hosts=Hosts("127.0.0.1"))
    with bound("127.0.0.1", 0) as listening:

        def close() -> None:
            names.append(threading.current_thread().name)

        asyncio.run(serve(door, listening, close, lambda: None, playground.settings))
    assert [name.partition("_")[0] for name in names] == ["serving"]
