"""Who has the machine next, where several owners wait: by turns, whatever one of them asks for."""

from __future__ import annotations

import random
import threading
import time

import pytest

from playground.workers.fair_lock import FairLock
from tests.support.watching import until

pytestmark = pytest.mark.parallel


def served(lock: FairLock, owners: list[str], leaving: frozenset[int] = frozenset()) -> list[str]:
    """The order in which these are served who ask one after the other while somebody has the machine."""
    order: list[str] = []
    gone = threading.Event()

    def ask(place: int, owner: str) -> None:
        with lock.hold(lambda: place in leaving and gone.is_set(), lambda ahead: None, owner) as mine:
            if mine:
                order.append(owner)

    with lock.hold(lambda: False, lambda ahead: None, "first"):
        threads = []
        for place, owner in enumerate(owners):
            threads.append(threading.Thread(target=ask, args=(place, owner)))
            threads[-1].start()
            until(lambda: lock.waiting == len(threads))
        gone.set()
        until(lambda: lock.waiting == len(owners) - len(leaving))
    for thread in threads:
        thread.join(10)
    return order


def test_who_asks_for_a_hundred_things_holds_up_another_by_one() -> None:
    assert served(FairLock(), [*["greedy"] * 40, "other"]).index("other") <= 1


def test_what_one_owner_asks_for_is_served_in_its_order_and_owners_by_turns() -> None:
    assert served(FairLock(), list("aaabbc")) == list("abcaba")


def test_without_owners_it_is_first_come_first_served() -> None:
    lock, order = FairLock(), []

    def ask(place: int) -> None:
        with lock.hold(lambda: False, lambda ahead: None):
            order.append(place)

    with lock.hold(lambda: False, lambda ahead: None):
        threads = [threading.Thread(target=ask, args=(place,)) for place in range(8)]
        for n, thread in enumerate(threads):
            thread.start()
            until(lambda n=n: lock.waiting == n + 1)
    for thread in threads:
        thread.join(10)
    assert order == list(range(8))


def test_what_was_taken_back_costs_its_owner_no_turn() -> None:
    """Who pressed Run and Stop twenty times is served as soon as who came after that once."""
    assert served(FairLock(), [*["a"] * 20, "a", "b"], frozenset(range(20))) == ["a", "b"]


def test_newcomers_under_new_names_do_not_keep_somebody_waiting_for_ever() -> None:
    order = served(FairLock(), ["patient", "patient", *(f"new{n}" for n in range(90))])
    assert [n for n, owner in enumerate(order) if owner == "patient"] == [0, 64]


def test_it_says_how_long_so_many_turns_take() -> None:
    lock = FairLock()
    assert lock.expected_s(3) is None
    with lock.hold(lambda: False, lambda ahead: None):
        time.sleep(0.1)
    assert (lock.expected_s(3) or 0) >= 0.3


def test_a_turn_that_takes_long_is_expected_to_take_longer_and_whoever_waits_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("playground.workers.fair_lock.TELL_S", 0.05)
    lock, told, ended = FairLock(), list[float](), threading.Event()

    def note(ahead: int) -> None:
        told.append(lock.expected_s(ahead) or 0.0)

    def wait() -> None:
        with lock.hold(ended.is_set, note):
            pass

    with lock.hold(lambda: False, lambda ahead: None):
        pass  # a short one
    with lock.hold(lambda: False, lambda ahead: None):
        waiting = threading.Thread(target=wait)
        waiting.start()
        time.sleep(1)
        ended.set()
        waiting.join(10)
    assert len(told) > 3 and told == sorted(told)
    assert told[-1] > 0.5
    assert (lock.expected_s(1) or 0) < 1  # the usual time again


def test_owners_at_random_lose_nothing_and_the_line_ends_empty() -> None:
    chance = random.Random(7)
    owners = [chance.choice("abcd") for _ in range(40)]
    leaving = frozenset(chance.sample(range(40), 15))
    lock = FairLock()
    kept = sorted(owner for place, owner in enumerate(owners) if place not in leaving)
    assert sorted(served(lock, owners, leaving)) == kept
    assert lock.waiting == 0
    with lock.hold(lambda: False, lambda ahead: None) as mine:
        assert mine


@pytest.mark.fault
def test_who_leaves_without_memory_gives_the_machine_back_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    lock, leave, failed = FairLock(), FairLock._leave, []

    def without_memory(self: FairLock, ticket: object) -> None:
        if len(failed) < 2:
            failed.append(ticket)
            raise MemoryError
        leave(self, ticket)  # type: ignore[arg-type]

    monkeypatch.setattr(FairLock, "_leave", without_memory)
    with lock.hold(lambda: False, lambda ahead: None):
        pass
    assert len(failed) == 2
    until_s = time.monotonic() + 5
    with lock.hold(lambda: time.monotonic() > until_s, lambda ahead: None) as mine:
        assert mine
