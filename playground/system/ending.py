"""The end of a server: heard whatever state it is in, and over within a time.

Signals come through a pipe that the interpreter writes to by itself, so that nothing has to be allocated or locked to
hear one: a lock that the main thread waits for can't be taken by a handler that interrupts it. It knows signals, not
what is ended.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

RESERVE_BYTES = 8_000_000
"""Given back when the end begins: an app without memory has to stop its runs, store them and say so."""


class Ending:
    """What ``heard`` gives.

    Args:
        pipe: Can be read when a signal came.
    """

    def __init__(self, pipe: socket.socket) -> None:
        self._pipe = pipe
        self._reserve: bytearray | None = bytearray(RESERVE_BYTES)

    def wait(self) -> None:
        """Until a signal came; from then on there is the reserve to work with."""
        select.select([self._pipe], [], [])
        self._reserve = None


@contextmanager
def heard(within_s: float, *numbers: int) -> Iterator[Ending]:
    """Hear these signals, from the main thread, until the block ends. ``within_s`` seconds after the first one the
    process ends in any case, with code 1; children of ours end with it.
    """
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    over = threading.Event()
    before = {number: signal.signal(number, _nothing) for number in numbers}
    wakes = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    ending = Ending(ours)

    def guard() -> None:
        while not select.select([ours], [], [], 1.0)[0]:
            if over.is_set():
                return
        if not over.wait(within_s):
            os._exit(1)

    threading.Thread(target=guard, name="ending", daemon=True).start()
    try:
        yield ending
    finally:
        over.set()
        signal.set_wakeup_fd(wakes)
        for number, handler in before.items():
            signal.signal(number, handler)
        theirs.close()  # the guard still looks at ours: it is closed with the process


def _nothing(number: int, frame: object) -> None:
    """What is to be done is done by whoever waits."""
