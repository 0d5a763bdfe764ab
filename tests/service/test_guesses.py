"""Wrong passwords and keys: how many of an address, of a name, of a browser; and for how long."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from playground import translations
from playground.errors import Busy
from playground.messages import render
from playground.service.guesses import ADDRESSES, MINUTES, Guesses

pytestmark = pytest.mark.parallel

MOST = 3


def guess(guesses: Guesses, n: int, address: str = "here", name: str = "ann", browser: str = "") -> int:
    """How many of ``n`` wrong passwords were looked at."""
    looked = 0
    for number in range(n):
        try:
            guesses.check(address, name, browser)
        except Busy:
            continue
        looked += 1
        guesses.wrong(f"{address} {browser} {number}".encode(), address, name, browser)
    return looked


def test_an_address_is_slowed_and_another_one_is_not() -> None:
    told: list[str] = []
    guesses = Guesses(MOST, told.append)
    assert guess(guesses, 10) == MOST
    assert told == ["wrong_passwords"] * (10 - MOST)
    assert guess(guesses, 1, name="bob") == 0
    guesses.check("elsewhere", "ann")


def test_one_address_never_reaches_the_bound_of_a_name() -> None:
    guesses = Guesses(MOST)
    assert guess(guesses, 50) == MOST
    guesses.check("elsewhere", "ann")
    assert [guess(guesses, 10, f"address {n}") for n in range(ADDRESSES)] == [MOST] * (ADDRESSES - 1) + [0]
    with pytest.raises(Busy, match=f"{MOST * ADDRESSES} wrong passwords for this name"):
        guesses.check("elsewhere", "ann")
    guesses.check("elsewhere", "bob")


def test_after_some_minutes_all_are_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    guesses = Guesses(MOST)
    guess(guesses, MOST)
    with pytest.raises(Busy) as caught:
        guesses.check("here", "ann")
    assert MINUTES * 60 - 5 < caught.value.retry_after_s <= MINUTES * 60
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + caught.value.retry_after_s + 1)
    guesses.check("here", "ann")


def test_a_known_browser_has_a_bound_of_its_own_and_then_that_of_everybody() -> None:
    guesses = Guesses(MOST)
    guess(guesses, MOST)
    assert guess(guesses, 10, browser="ann's") == MOST
    assert guess(guesses, 10, "elsewhere", browser="ann's") == MOST, "then it counts with strangers"


def test_a_key_that_was_right_is_looked_at_from_where_it_came_and_from_nowhere_else() -> None:
    guesses = Guesses(MOST)
    guesses.right(b"key", "here")
    assert guesses.was_right(b"key", "here")
    assert not guesses.was_right(b"key", "elsewhere")
    assert not guesses.was_right(b"other", "here")


def test_nothing_that_was_sent_is_remembered_as_it_was() -> None:
    guesses = Guesses(MOST)
    guesses.wrong(b"a-secret", "here", "ann")
    guesses.right(b"a-secret", "here")
    assert "a-secret" not in str(vars(guesses))


def test_it_remembers_no_more_addresses_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("playground.service.guesses.REMEMBERED", 5)
    guesses = Guesses(MOST)
    for number in range(50):
        guesses.wrong(b"x", f"address {number}", "ann")
        guesses.right(b"x", f"address {number}")
    assert len(guesses._last) == len(guesses._right) == 5


def test_without_a_limit_none_are_counted() -> None:
    assert guess(Guesses(None), 1000) == 1000


@pytest.mark.parametrize("reached", [lambda g: guess(g, MOST), lambda g: [guess(g, MOST, str(n)) for n in range(5)]])
def test_the_refusal_says_how_many_and_for_how_long_in_both_languages(reached: Callable[[Guesses], Any]) -> None:
    guesses = Guesses(MOST)
    reached(guesses)
    with pytest.raises(Busy) as caught:
        guesses.check("here", "ann")
    words = render(caught.value.message, translations.for_page("ja", {}))
    assert str(MOST) in words or str(MOST * ADDRESSES) in words
    assert re.search(r"[ぁ-ヿ]", words)
