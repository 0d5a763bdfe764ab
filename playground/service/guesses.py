"""How often passwords and keys may be guessed: wrong ones are counted by the address they came from and by the name
they were for, whoever the audience is. The counting is the ``limits`` library's.

Nobody locks somebody else out for long. Beyond the bound of an address nothing that comes from there is looked at,
right or wrong, for five minutes at most; one address can't reach the bound of a name by itself; and who came in before
is not counted with strangers: a browser has a bound of its own (the caller says which it is), and a key that was right
is taken from where it came. The same wrong password again is no further guess: open pages send an old one with every
request.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from playground.errors import Busy
from playground.messages import Translatable, msg
from playground.service.limiter import wait_words

MINUTES = 5
"""Wrong ones are counted for so long."""
ADDRESSES = 4
"""Times the bound of an address: that of a name, from everywhere. One address alone never reaches it."""
REMEMBERED = 10_000


class Guesses:
    """Counts wrong passwords and keys. Safe to use from several threads.

    Args:
        most: Different wrong ones of one address within ``MINUTES``; None for any number.
        refused: Told the name of the limit whenever somebody reached it.
    """

    def __init__(self, most: int | None, refused: Callable[[str], object] = lambda limit: None) -> None:
        self._most, self._refused = most, refused
        self._counts = FixedWindowRateLimiter(MemoryStorage()) if most is not None else None
        self._secret = secrets.token_bytes(32)
        self._last: OrderedDict[str, bytes] = OrderedDict()
        self._right: OrderedDict[tuple[str, bytes], None] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, address: str, name: str = "", browser: str = "") -> None:
        """Refuse to look at what was sent, whether or not it is right.

        Args:
            name: Whose password it would be; empty for a key.
            browser: Which browser it is, if ``name`` signed in with it before.

        Raises:
            Busy: Too many were wrong; says when the next one is looked at.
        """
        with self._lock:
            for item, place in self._places(address, name, browser):
                if self._counts and not self._counts.test(item, place):
                    wait_s = max(1.0, self._counts.get_window_stats(item, place).reset_time - time.time())
                    break
            else:
                return
        self._refused("wrong_passwords")
        raise Busy(_words(place, item.amount), wait_words(wait_s), retry_after_s=wait_s)

    def wrong(self, given: bytes, address: str, name: str = "", browser: str = "") -> None:
        """Count what was sent, if it is not what came from there last."""
        digest = self._digest(given)
        with self._lock:
            if self._last.get(address) == digest:
                return
            self._last[address] = digest
            self._last.move_to_end(address)
            if len(self._last) > REMEMBERED:
                self._last.popitem(last=False)
            for item, place in self._places(address, name, browser):
                if self._counts:
                    self._counts.hit(item, place)

    def right(self, given: bytes, address: str) -> None:
        """Remember a key that was right: from there it is always looked at."""
        with self._lock:
            self._right[address, self._digest(given)] = None
            self._right.move_to_end((address, self._digest(given)))
            if len(self._right) > REMEMBERED:
                self._right.popitem(last=False)

    def was_right(self, given: bytes, address: str) -> bool:
        """Whether this key came from there before, and was right."""
        with self._lock:
            return (address, self._digest(given)) in self._right

    def _digest(self, given: bytes) -> bytes:
        """What is remembered in place of a password: nothing that could be tried elsewhere."""
        return hmac.digest(self._secret, given, "sha256")

    def _places(self, address: str, name: str, browser: str) -> list[tuple[RateLimitItem, str]]:
        """Under what a guess is counted, and how many may be. A browser whose guesses are used up is a stranger's."""
        if self._counts is None or self._most is None:
            return []
        each = RateLimitItemPerMinute(self._most, MINUTES, namespace="wrong")
        own = f"browser:{hashlib.sha256(browser.encode()).hexdigest()}"
        if browser and self._counts.test(each, own):
            return [(each, own)]
        places: list[tuple[RateLimitItem, str]] = [(each, f"at:{address}")]
        if name:
            of_all = RateLimitItemPerMinute(self._most * ADDRESSES, MINUTES, namespace="wrong")
            places.append((of_all, f"name:{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()}"))
        return places


def _words(place: str, n: int) -> Translatable:
    if place.startswith("name:"):
        return msg(
            "{n} wrong passwords for this name came within {minutes} minutes, as many as may", n=n, minutes=MINUTES
        )
    return msg(
        "{n} wrong passwords or keys came from your address within {minutes} minutes, as many as may",
        n=n,
        minutes=MINUTES,
    )
