"""A visitor who leaves ends what they can't come back to, while it runs and while it is just starting; a comparison of
the page goes on without them, and is there when they come back.

First the loop that every tab rides on, then the real app, whose visitors are programs that close their connections as a
browser does when its tab is closed.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from playground.errors import StorageError, UsageError
from playground.experiments.base import Experiment
from playground.records import Comparison, Request
from playground.results.store import Store
from playground.service import Playground
from playground.ui import jobs
from playground.ui.sessions import Sessions
from tests.support.app import App, serving
from tests.support.watching import script, until
from tests.support.web import WEB, call, config, functions, number_of

Start = Callable[[], Experiment[Any]]

LONG = script(text="la " * 40, step_s=0.5)
ASK = Request("Sing.", max_new_tokens=40)


def stored(playground: Playground) -> Comparison:
    """A comparison of the past that takes long to be run again."""
    done = playground.compare(replace(ASK, max_new_tokens=4), playground.variants(["fast"])).result()
    (variant,) = playground.variants([LONG])
    return replace(done, request=ASK, runs=(replace(done.runs[0], variant=variant),))


STARTS: dict[str, Callable[[Playground], Start]] = {
    "compare": lambda playground: partial(playground.compare, ASK, playground.variants([LONG])),
    "benchmark": lambda playground: partial(playground.benchmark, ASK, playground.variants([LONG]), 5),
    "diff": lambda playground: partial(playground.diff, ASK, LONG, f"{LONG}&sure=9"),
    "replay": lambda playground: partial(playground.replay, stored(playground)),
}
every_experiment = pytest.mark.parametrize("name", STARTS)


class Starting:
    """A start that takes a while; what it started is in ``begun``."""

    def __init__(self, start: Start) -> None:
        self._start = start
        self.is_on, self.may_go = threading.Event(), threading.Event()
        self.begun: Experiment[Any] | None = None

    def __call__(self) -> Experiment[Any]:
        self.is_on.set()
        assert self.may_go.wait(10)
        self.begun = self._start()
        return self.begun


def assert_ended(playground: Playground, experiment: Experiment[Any]) -> None:
    """It is over within the two seconds that Stop has, and somebody else gets the machine."""
    assert experiment.wait(3)
    assert playground.compare(ASK, playground.variants(["fast"])).wait(5)


# -- the loop -----------------------------------------------------------------------------------------------------


@pytest.mark.waits
@pytest.mark.alone
@every_experiment
def test_a_page_that_is_closed_ends_what_runs_for_it(playground: Playground, name: str) -> None:
    start, sessions = Starting(STARTS[name](playground)), Sessions()
    start.may_go.set()

    async def visit() -> None:
        updates = jobs.follow(sessions, "visitor", start)
        async for update in updates:
            if any(live.kind == "token" for live in update.at.lives) or "warm-up" in update.at.step:
                break
        await updates.aclose()

    asyncio.run(visit())
    assert start.begun
    assert_ended(playground, start.begun)


@pytest.mark.waits
@pytest.mark.alone
@every_experiment
@pytest.mark.parametrize("how", ["the event is cancelled", "the tab is gone", "Stop"])
def test_who_leaves_or_stops_while_it_starts_leaves_nothing_behind(playground: Playground, name: str, how: str) -> None:
    start, sessions = Starting(STARTS[name](playground)), Sessions()

    async def visit() -> None:
        task = asyncio.ensure_future(jobs.finish(sessions, "visitor", start))
        await asyncio.to_thread(start.is_on.wait, 10)
        if how == "the tab is gone":
            sessions.leave("visitor")
        elif how == "Stop":
            sessions.stop("visitor")
        else:
            task.cancel()
        start.may_go.set()
        await asyncio.wait([task], timeout=10)
        assert task.done()
        task.cancelled() or task.exception()
        await asyncio.to_thread(until, lambda: start.begun)

    asyncio.run(visit())
    assert start.begun
    assert_ended(playground, start.begun)


@pytest.mark.waits
@pytest.mark.alone
@every_experiment
def test_stop_ends_it_and_only_for_who_pressed_it(playground: Playground, name: str) -> None:
    start, sessions = Starting(STARTS[name](playground)), Sessions()
    start.may_go.set()

    async def visit() -> None:
        task = asyncio.ensure_future(jobs.finish(sessions, "visitor", start))
        await asyncio.to_thread(until, lambda: start.begun)
        sessions.stop("somebody else")
        await asyncio.sleep(0.5)
        assert not task.done()
        sessions.stop("visitor")
        await asyncio.wait([task], timeout=3)
        assert task.done()
        task.exception()

    asyncio.run(visit())
    assert start.begun
    assert_ended(playground, start.begun)


# -- comparisons of the page: watched, and nobody's leaving ends them ---------------------------------------------


def test_what_does_not_go_on_is_not_stopped(playground: Playground) -> None:
    assert jobs.stop(playground, "nothing", "") is False


@pytest.mark.waits
@pytest.mark.alone
def test_a_comparison_is_stopped_by_its_owner_alone(make_settings: Callable[..., Any]) -> None:
    with Playground(make_settings(PLAYGROUND_HOSTS="play.example.org")) as shared:
        job = shared.compare(ASK, shared.variants([LONG]), owner="ann")
        for other in ("bob", ""):
            with pytest.raises(UsageError, match="somebody else's"):
                jobs.stop(shared, job.id, other)
        assert not job.wait(0.5)
        assert jobs.stop(shared, job.id, "ann")
        assert job.wait(3)
        assert job.result().runs[0].finish_reason == "stopped"


def test_what_cannot_be_started_says_why_and_leaves_no_trace(playground: Playground) -> None:
    sessions = Sessions()
    with pytest.raises(UsageError, match="No model is chosen"):
        asyncio.run(jobs.finish(sessions, "visitor", partial(playground.compare, ASK, [])))
    assert sessions._running == {}


@pytest.mark.waits
@pytest.mark.alone
def test_the_last_update_has_the_result_and_the_session_is_free_again(playground: Playground) -> None:
    sessions = Sessions()

    async def visit() -> list[jobs.Update[Comparison]]:
        start = partial(playground.compare, ASK, playground.variants(["fast"]))
        return [update async for update in jobs.follow(sessions, "visitor", start)]

    *before, last = asyncio.run(visit())
    assert all(update.result is None for update in before)
    assert last.result
    assert last.at.lives[0].text == last.result.runs[0].text
    assert sessions._running == {}


def test_why_a_result_could_not_be_stored_is_returned() -> None:
    def full() -> None:
        raise StorageError("The disk is full")

    assert asyncio.run(jobs.keep(lambda: None)) is None
    assert str(asyncio.run(jobs.keep(full))) == "The disk is full."


def test_what_arrives_just_after_its_tab_left_is_stopped_and_a_tab_that_came_back_is_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Work:
        stopped = False

        def stop(self) -> None:
            self.stopped = True

    sessions, late, back = Sessions(), Work(), Work()
    sessions.leave("visitor")
    sessions.begin("visitor")
    sessions.add("visitor", late)
    assert late.stopped
    monkeypatch.setattr(time, "monotonic", lambda now=time.monotonic: now() + 5)
    sessions.begin("visitor")
    sessions.add("visitor", back)
    assert not back.stopped


def test_stop_reaches_what_is_starting_and_not_what_is_asked_for_afterwards() -> None:
    class Work:
        stopped = False

        def stop(self) -> None:
            self.stopped = True

    sessions, starting, next_one, other = Sessions(), Work(), Work(), Work()
    before, others = sessions.begin("visitor"), sessions.begin("somebody else")
    sessions.stop("visitor")
    after = sessions.begin("visitor")
    sessions.add("visitor", starting, before)
    sessions.add("visitor", next_one, after)
    sessions.add("somebody else", other, others)
    assert [work.stopped for work in (starting, next_one, other)] == [True, False, False]


# -- the page -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A home with a stored comparison of a model that takes 30 s, and its id."""
    from playground.config.settings import load_settings

    home = tmp_path_factory.mktemp("home")
    data = Path(__file__).parents[1] / "data"
    env = {"HOME": home, "SPACE": data / "fake_space.yaml", "CATALOG": data / "fake_catalog.yaml"}
    settings = load_settings({f"PLAYGROUND_{name}": str(value) for name, value in env.items()})
    with Playground(settings) as playground:
        done = playground.compare(ASK, playground.variants(["fast"])).result()
        (variant,) = playground.variants(["endless"])
        playground.keep(replace(done, runs=(replace(done.runs[0], variant=variant),)))
    return home, done.id


@pytest.fixture(scope="module")
def app(old: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with serving(tmp_path_factory.mktemp("app"), "fast, slow, endless", home=old[0], stall_s=10) as app:
        yield app


def form(app: App, function: str, *models: str) -> list[Any]:
    """What the page sends when ``models`` are chosen, "Sing." is asked, and the rest is as it was."""
    parts = {part["id"]: part for part in config(app.url)["components"]}
    given = {"models": [f"{model}@fake-none" for model in models], "prompt": "Sing."}
    sent = [parts[at]["props"] for at in functions(app)[number_of(app, function)]["inputs"]]
    return [given.get(str(each.get("elem_id")), each.get("value")) for each in sent]


def asked(app: App, name: str, comparison: str) -> tuple[str, list[Any]]:
    """The page's function and what it is sent; a diff starts from a comparison of variants, and there is none here."""
    if name == "benchmark":
        return "measure", [[], 5, 40, *form(app, "measure", "endless")[3:]]
    return "replay", [comparison]


def lines(app: App, session: str, stack: ExitStack) -> Iterator[dict[str, Any]]:
    address = f"{app.url}gradio_api/queue/data?session_hash={session}"
    for line in stack.enter_context(WEB.stream("GET", address)).iter_lines():
        if line.startswith("data: "):
            yield json.loads(line[6:])


@pytest.mark.ui
@pytest.mark.parametrize("name", ["benchmark", "replay"])
@pytest.mark.parametrize("looks", [0, 2])
def test_a_closed_tab_gives_the_machine_back(app: App, old: tuple[Path, str], name: str, looks: int) -> None:
    """``looks`` updates are waited for: none is the moment after the click."""
    leave(app, f"{name}{looks}", *asked(app, name, old[1]), looks)
    began = time.monotonic()
    assert "Paris" in answer_of(app, old[0], f"after{name}{looks}", "fast")
    assert time.monotonic() - began < 20


@pytest.mark.ui
@pytest.mark.parametrize("looks", [0, 2])
def test_a_comparison_goes_on_when_its_tab_is_closed(app: App, old: tuple[Path, str], looks: int) -> None:
    with ExitStack() as visit:
        _, watched = begun(app, f"compare{looks}", "slow", visit)
        for _ in range(looks):
            next(line for line in watched if line.startswith("event: grow"))
    store = Store(old[0] / "playground.sqlite3")

    def ended() -> bool:
        (entry,) = store.entries(limit=1, search="Sing.", model="slow")
        kept = store.get(entry.id)
        return bool(kept and kept.runs and kept.runs[0].finish_reason in ("stop", "length"))

    until(lambda: store.entries(limit=1, search="Sing.", model="slow"))
    until(ended, 30)
    (entry,) = store.entries(limit=1, model="slow")
    store.delete(entry.id)
    store.close()


def leave(app: App, session: str, function: str, data: list[Any], looks: int) -> None:
    """Press a button in a tab and close it."""
    with ExitStack() as visit:
        beats = visit.enter_context(WEB.stream("GET", f"{app.url}gradio_api/heartbeat/{session}")).iter_lines()
        next(beats)
        call(app, number_of(app, function), data, session).raise_for_status()
        said = 0
        for message in lines(app, session, visit) if looks else ():
            assert message["msg"] != "process_completed", message
            said += message["msg"] == "process_generating"
            if said == looks:
                break


def begun(app: App, session: str, model: str, visit: ExitStack) -> tuple[str, Iterator[str]]:
    """Press Run in a tab, which then watches: the comparison, and the lines that the tab is sent."""
    call(app, number_of(app, "run"), form(app, "run", model), session).raise_for_status()
    told = next(json.dumps(message) for message in lines(app, session, visit) if message["msg"] == "process_generating")
    id = re.findall(r"\d{8}-\d{6}-[0-9a-f]{32}", told)[0]
    return id, visit.enter_context(WEB.stream("GET", f"{app.url}watch/{id}")).iter_lines()


def answer_of(app: App, home: Path, session: str, model: str) -> str:
    """What is kept of a comparison that a page watched to its end; a quick one may be over before the page looks."""
    with ExitStack() as visit:
        id, watched = begun(app, session, model, visit)
        assert "event: end" in list(watched)
    store = Store(home / "playground.sqlite3")
    until(lambda: store.get(id))
    kept = store.get(id)
    store.close()
    return kept.runs[0].text
