"""The end of a server: heard whatever state it is in, and over within a time.

Signals come through a pipe that the interpreter writes to by itself, so that nothing has to be allocated or locked to
hear one: a lock that the main thread waits for can't be taken by a handler that interrupts it. The thread that sees to
the time also looks after the reserve of memory. It knows signals, not what is ended.
"""

from __future__ import annotations

import mmap
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from playground.system import reserve

LAST_BYTES = 24_000_000
"""Given back when the end begins, beside the reserve, which may be out by then: an app without memory has to stop its
runs, store them and say so."""
LOOK_MS = 500
"""Between two looks at the memory there is."""
END_LOOK_S = 0.05


class Ending:
    """What ``heard`` gives.

    Args:
        pipe: Can be read when a signal came.
        kept: The reserve of memory.
    """

    def __init__(self, pipe: socket.socket, kept: reserve.Reserve) -> None:
        self._pipe, self._kept = pipe, kept
        self._last: mmap.mmap | None = None
        with suppress(OSError):
            self._last = reserve.mapped(LAST_BYTES)

    def wait(self) -> None:
        """Until a signal came; from then on there is what was kept back to work with."""
        try:
            select.select([self._pipe], [], [])
        except MemoryError:  # it came, and there was no room to say so
            pass
        self.give_back()

    def give_back(self) -> None:
        """All that was kept back."""
        last, self._last = self._last, None
        if last is not None:
            last.close()
        self._kept.end()


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
    signals = select.poll()
    signals.register(ours, select.POLLIN)
    with reserve.kept() as kept:
        ending = Ending(ours, kept)

        def guard() -> None:
            until: float | None = None
            while not over.is_set():
                try:
                    if until is None and signals.poll(LOOK_MS):
                        until = time.monotonic() + within_s
                    elif until is None:
                        kept.look()
                    elif time.monotonic() > until:
                        os._exit(1)
                    else:
                        time.sleep(END_LOOK_S)
                except MemoryError:
                    kept.spend()

        threading.Thread(target=guard, name="ending", daemon=True).start()
        try:
            yield ending
        finally:
            over.set()
            signal.set_wakeup_fd(wakes)
            for number, handler in before.items():
                signal.signal(number, handler)
            theirs.close()  # the guard still looks at ours: it is closed with the process
            ending.give_back()


def _nothing(number: int, frame: object) -> None:
    """What is to be done is done by whoever waits."""
