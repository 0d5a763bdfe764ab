"""What one visitor may ask for: tokens a day, calls a minute, comparisons at once, time of a run; and giving way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from playground.config.settings import Settings
from playground.errors import Busy
from playground.records import Request
from playground.service import Playground
from playground.service.limiter import Limiter
from playground.service.presence import Presence
from tests.conftest import MakeSettings
from tests.support.watching import until

pytestmark = pytest.mark.parallel

ASK = Request("Hello", max_new_tokens=40)


def limited(settings: Settings, **limits: Any) -> Settings:
    return replace(settings, audience="public", limits=replace(settings.limits, **limits))


@pytest.fixture
def public(make_settings: MakeSettings) -> Iterator[Playground]:
    with Playground(limited(make_settings(), max_unfinished=2, max_unfinished_of_all=8, left_s=0.1)) as playground:
        yield playground


def test_calls_of_a_minute_are_counted_by_visitor_and_the_refusal_says_when(settings: Settings) -> None:
    told: list[str] = []
    limiter = Limiter(limited(settings, max_calls_per_minute=3), told.append)
    for _ in range(3):
        limiter.count("calls", "me")
    with pytest.raises(Busy) as caught:
        limiter.count("calls", "me")
    assert 1 <= caught.value.retry_after_s <= 60
    assert told == ["calls"]
    limiter.count("calls", "another")
    for _ in range(10):
        limiter.count("calls", "key:0123")  # whoever has a key was given it


def test_new_names_from_one_address_share_its_bound(settings: Settings) -> None:
    limiter = Limiter(limited(settings, max_calls_per_minute=3, visitors_per_address=2))
    for n in range(20):
        limiter.came_from(f"name{n}", "192.0.2.1")
    for n in range(6):
        limiter.count("calls", f"name{n}")
    with pytest.raises(Busy):
        limiter.count("calls", "name7")
    limiter.came_from("elsewhere", "192.0.2.2")
    limiter.count("calls", "elsewhere")


def test_what_is_refused_takes_nothing_from_others_and_leaves_no_name_behind(settings: Settings) -> None:
    limiter = Limiter(limited(settings, max_page_loads_per_minute=2, visitors_per_address=2))

    def refused(name: str) -> bool:
        try:
            limiter.count("page_loads", name, "192.0.2.1")
        except Busy:
            return True
        return False

    assert [refused("greedy") for _ in range(50)].count(False) == 2
    assert not refused("other"), "one visitor's many have not used up what their address may have"
    assert not refused("other")
    assert all(refused(f"made up {n}") for n in range(500))
    assert limiter._counts is not None
    assert len(limiter._counts.storage.storage) == 3  # type: ignore[attr-defined]
    assert not limiter._addresses


def test_calls_reads_and_page_loads_are_counted_apart(settings: Settings) -> None:
    told: list[str] = []
    each = {"max_calls_per_minute": 1, "max_reads_per_minute": 2, "max_page_loads_per_minute": 3}
    limiter = Limiter(limited(settings, **each), told.append)
    for kind, most in (("calls", 1), ("reads", 2), ("page_loads", 3)):
        for _ in range(most):
            limiter.count(kind, "me")  # type: ignore[arg-type]
        with pytest.raises(Busy, match=str(most)):
            limiter.count(kind, "me")  # type: ignore[arg-type]
    assert told == ["calls", "reads", "page_loads"]


def test_on_ones_own_machine_nothing_is_counted(settings: Settings) -> None:
    limiter = Limiter(replace(settings, limits=replace(settings.limits, max_calls_per_minute=1)))
    for _ in range(5):
        limiter.count("calls", "me")
    assert not limiter.fair_name("me")


def test_the_tokens_of_a_day_are_counted_whoever_reads_them(make_settings: MakeSettings) -> None:
    with Playground(limited(make_settings(), max_tokens_per_day=10)) as playground:
        served = playground.default_variants()[1]
        playground.compare(ASK, [served], owner="me").result()
        until(lambda: not playground.going_on.jobs)
        for again in (
            lambda: playground.compare(ASK, [served], owner="me"),
            lambda: playground.benchmark(ASK, [served], 1, owner="me"),
            lambda: list(playground.answer(str(served), ASK, owner="me")),
        ):
            with pytest.raises(Busy, match="tokens a day") as caught:
                again()
            assert 0 < caught.value.retry_after_s <= 24 * 3600
        playground.compare(ASK, [served], owner="another").result()


def test_a_visitor_has_so_many_comparisons_at_once_and_others_have_theirs(public: Playground) -> None:
    slow = public.default_variants()[1]
    jobs = [public.compare(replace(ASK, seed=n), [slow], owner="me") for n in range(2)]
    with pytest.raises(Busy, match="2 of your comparisons"):
        public.compare(ASK, [slow], owner="me")
    jobs.append(public.compare(ASK, [slow], owner="another"))
    for job in jobs:
        job.stop()


def test_one_address_leaves_half_of_the_places_to_others(public: Playground) -> None:
    slow = public.default_variants()[1]
    for n in range(8):
        public.limiter.came_from(f"name{n}", "192.0.2.1")
    jobs = [public.compare(ASK, [slow], owner=f"name{n}") for n in range(4)]
    with pytest.raises(Busy, match="from your address"):
        public.compare(ASK, [slow], owner="name5")
    jobs.append(public.compare(ASK, [slow], owner="elsewhere"))
    for job in jobs:
        job.stop()


def test_one_who_asks_for_much_does_not_keep_another_waiting(make_settings: MakeSettings) -> None:
    with Playground(limited(make_settings(), max_unfinished=6)) as playground:
        slow, fast = playground.default_variants()[1], playground.default_variants()[0]
        many = [playground.compare(replace(ASK, seed=n), [slow], owner="greedy") for n in range(6)]
        playground.compare(ASK, [fast], owner="other").result()
        assert sum(job.done for job in many) <= 2
        for job in many:
            job.stop()


def test_a_run_that_takes_too_long_is_stopped_and_says_so(make_settings: MakeSettings) -> None:
    with Playground(limited(make_settings(), max_run_s=0.4)) as playground:
        slow = playground.default_variants()[1]
        run = playground.compare(ASK, [slow], owner="me").result().runs[0]
        assert run.finish_reason == "stopped"
        assert any("as long as one run may take here" in warning for warning in run.warnings)
        last = list(playground.answer(str(slow), ASK, owner="me"))[-1]
        assert last.run is not None
        assert last.run.finish_reason == "length"


def test_who_left_gives_way_to_who_waits_and_to_nobody_else(public: Playground) -> None:
    slow, fast = public.default_variants()[1], public.default_variants()[0]
    for visitor in ("left", "here"):
        public.presence.enter(visitor)
    alone = public.compare(ASK, [slow], owner="left")
    public.presence.leave("left")
    until(lambda: public.presence.left("left", 0.1))
    public.make_room()
    assert alone.result().runs[0].finish_reason != "stopped"
    left = public.compare(replace(ASK, seed=7), [slow], owner="left")
    until(lambda: left.snapshot().lives[0].kind == "token")
    public.compare(ASK, [fast], owner="here").result()
    assert left.result().runs[0].finish_reason == "stopped"


def test_a_visitor_with_two_pages_has_left_when_both_are_closed() -> None:
    presence = Presence()
    assert not presence.left("me", 0)  # a program has no page to close
    presence.enter("me")
    presence.enter("me")
    assert not presence.leave("me")
    assert not presence.left("me", 0)
    assert presence.leave("me")
    assert presence.left("me", 0)
    assert not presence.left("me", 5)
    presence.enter("me")
    assert not presence.left("me", 0)
    assert presence.pages == 1
