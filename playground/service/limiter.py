"""What one visitor may ask for in a time: calls, reads and page loads a minute, tokens a day. One limiter for the page,
gradio's endpoints and the OpenAI-compatible API.

A visitor is counted under their own name and, with everybody else who comes from there, under their address: a new name
costs nothing, an address does. It counts where the audience is public, and never whoever has a key: the keys were given
out by whoever runs the app. The counting is the ``limits`` library's.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Literal

from limits import RateLimitItem, RateLimitItemPerDay, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from playground.config.settings import Settings
from playground.errors import Busy
from playground.messages import Translatable, msg

Kind = Literal["calls", "reads", "page_loads"]
"""What is counted each minute: what is sent, what is asked for, and the page itself."""
REMEMBERED = 10_000
"""Visitors whose addresses are known: more than can be here at once."""


def wait_words(wait_s: float) -> Translatable:
    """When to try again, for a reader."""
    if wait_s < 90:
        return msg("Try again in {wait_s:.0f} s.", wait_s=wait_s)
    return msg("Try again in {minutes:.0f} min.", minutes=wait_s / 60)


class Limiter:
    """Counts what visitors ask for. Safe to use from several threads.

    Args:
        refused: Told the name of a limit whenever somebody reached it.
    """

    def __init__(self, settings: Settings, refused: Callable[[str], object] = lambda limit: None) -> None:
        limits = settings.limits
        self._on = settings.strangers
        self.refused = refused
        self._share = limits.visitors_per_address
        self._tokens = limits.max_tokens_per_day
        self._most: dict[Kind, int | None] = {
            "calls": limits.max_calls_per_minute,
            "reads": limits.max_reads_per_minute,
            "page_loads": limits.max_page_loads_per_minute,
        }
        self._counts = FixedWindowRateLimiter(MemoryStorage()) if self._on else None
        self._addresses: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()

    def came_from(self, visitor: str, address: str) -> None:
        """Remember where a visitor is, for what they ask for later in another thread."""
        if not self._on or not visitor:
            return
        with self._lock:
            self._addresses[visitor] = address
            self._addresses.move_to_end(visitor)
            if len(self._addresses) > REMEMBERED:
                self._addresses.popitem(last=False)

    def address(self, visitor: str) -> str:
        """Where a visitor came from last; empty where that is not known."""
        with self._lock:
            return self._addresses.get(visitor, "")

    def count(self, kind: Kind, visitor: str, address: str = "") -> None:
        """Count what a visitor asks for. What is refused is not counted.

        Args:
            address: Where it comes from; empty for where they came from last.

        Raises:
            Busy: There was too much within a minute; says when the next one is answered.
        """
        if self._counts is None:
            return
        names = [
            (RateLimitItemPerMinute(most, namespace=kind), name)
            for name, most in self._names(visitor, self._most[kind], address)
        ]
        for item, name in names:  # before one is counted: a made-up name of a full address leaves nothing behind
            if not self._counts.test(item, name):
                wait_s = self._wait_s(item, name)
                self.refused(kind)
                raise Busy(_too_many(kind, item.amount), wait_words(wait_s), retry_after_s=wait_s)
        for item, name in names:
            self._counts.hit(item, name)

    def check_tokens(self, visitor: str) -> None:
        """Refuse to begin what a visitor asks for when they have had the tokens of a day.

        Raises:
            Busy: They had; says when they may go on.
        """
        per = RateLimitItemPerDay
        for name, most in self._names(visitor, self._tokens):
            if self._counts and not self._counts.test(per(most, namespace="tokens"), name):
                wait_s = self._wait_s(per(most, namespace="tokens"), name)
                self.refused("tokens")
                raise Busy(
                    msg("{n:,} tokens a day are read and written here for one visitor, and these are used up", n=most),
                    msg("Come back in {hours:.1f} hours, or run the playground on your own machine.",
                        hours=wait_s / 3600),
                    retry_after_s=wait_s,
                )  # fmt: skip

    def spend(self, visitor: str, tokens: int) -> None:
        """Count tokens that were read and written for a visitor."""
        for name, most in self._names(visitor, self._tokens) if tokens > 0 else ():
            if self._counts:
                self._counts.hit(RateLimitItemPerDay(most, namespace="tokens"), name, cost=tokens)

    def fair_name(self, visitor: str) -> str:
        """Under which name a visitor takes turns with others: who comes from one address shares its turns."""
        return (self.address(visitor) or visitor) if self._on else ""

    def _names(self, visitor: str, most: int | None, address: str = "") -> list[tuple[str, int]]:
        if not self._on or most is None or not visitor or visitor.startswith("key:"):
            return []
        address = address or self.address(visitor)
        return [(visitor, most), *([(f"at:{address}", most * self._share)] if address else [])]

    def _wait_s(self, item: RateLimitItem, name: str) -> float:
        assert self._counts
        return max(1.0, self._counts.get_window_stats(item, name).reset_time - time.time())


def _too_many(kind: Kind, n: int) -> Translatable:
    if kind == "page_loads":
        return msg("The page may be opened {n} times a minute, and it was opened more often", n=n)
    if kind == "reads":
        return msg("{n} looks a minute are answered here, and there were more", n=n)
    return msg("{n} calls a minute are answered here, and there were more", n=n)
