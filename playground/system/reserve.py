"""Memory that a server keeps back for the moment when the system gives it no more: with it runs are ended, stored and
told of, where otherwise not even an error could be raised.

What runs out is address space, where it is limited or the kernel promises no more than there is; where a container's
memory does, Linux ends a worker instead. The reserve is mapped and not touched, so it takes no memory itself. It is
given back when a thread can't be begun, when an error says that there is no memory, and by whoever looks now and then.
While it is out the app is ``short``: it loads nothing new. When there is room again the reserve is taken again.

Threads need care: one that was started and has no memory for its first call ends without a word, and Python's
``Thread.start`` waits for that word for ever. So where a reserve is kept there has to be room before one is started.
It knows memory and threads; it does not know what they are for.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import resource
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from playground.errors import OutOfMemory
from playground.messages import msg

RESERVE_BYTES = 64_000_000
"""Stacks of seven threads, or of a few and what ending a run takes."""
LOW_BYTES = 16_000_000
"""With less than this beside the reserve there are hardly two threads to be had, and a worker needs two."""
BEGIN_BYTES = 2_000_000
"""For a thread's first calls, beside its stack."""
AGAIN_S = 0.05
NO_THREAD = "can't start new thread"
"""What Python says where the system gives no stack."""
_ARENA_MAX = -8
"""``M_ARENA_MAX`` of glibc's <malloc.h>."""
_UNLIMITED_STACK = 2 << 20
"""What glibc gives a thread where stacks have no limit."""


def mapped(size: int) -> mmap.mmap:
    """So many bytes of the process's own, which take no memory until they are touched.

    Raises:
        OSError: The system does not give them.
    """
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def could_have(size: int) -> bool:
    """Whether the system would give so many bytes more at this moment."""
    try:
        mapped(size).close()
    except (OSError, MemoryError):
        return False
    return True


class Reserve:
    """Memory kept back.

    Args:
        size, low: In bytes: how much, and with how little beside it it is given back.
    """

    def __init__(self, size: int = RESERVE_BYTES, low: int = LOW_BYTES) -> None:
        self._size, self._low = size, low
        self._held: mmap.mmap | None = None
        self._is_kept = False

    @property
    def short(self) -> bool:
        """Whether it was given back and could not be taken again yet."""
        return self._is_kept and self._held is None

    def keep(self) -> None:
        """Take it, if it can be had."""
        self._is_kept = True
        with suppress(OSError, MemoryError):
            self._held = mapped(self._size)

    def spend(self) -> None:
        """Give it back: who asks next for memory may have it."""
        held, self._held = self._held, None
        if held is not None:
            held.close()

    def end(self) -> None:
        """Give it back for good."""
        self._is_kept = False
        self.spend()

    def look(self) -> None:
        """Give it back where little is left, take it again where there is enough."""
        if not self._is_kept:
            return
        if self._held is not None:
            if not could_have(self._low):
                self.spend()
        elif could_have(self._size + 2 * self._low):
            self.keep()


_reserve = Reserve()


@contextmanager
def kept() -> Iterator[Reserve]:
    """This process's reserve, until the block ends. Meanwhile a thread that there is no room for can't be started; to
    be entered before there are others.
    """
    start, needed = threading.Thread.start, _stack_bytes() + BEGIN_BYTES

    def begin(thread: threading.Thread) -> None:
        if not could_have(needed):
            spend()
            if not could_have(needed):
                raise RuntimeError(NO_THREAD)
        start(thread)

    _share_heap()
    _reserve.keep()
    threading.Thread.start = begin  # type: ignore[method-assign, assignment]
    try:
        yield _reserve
    finally:
        threading.Thread.start = start  # type: ignore[method-assign]
        _reserve.end()


def short() -> bool:
    """Whether this process lives on its reserve; never where none is kept."""
    return _reserve.short


def spend() -> None:
    """Give this process's reserve back, where it keeps one."""
    _reserve.spend()


def is_shortage(error: BaseException | None) -> bool:
    """Whether an error says that this process gets no more memory, or no thread."""
    if isinstance(error, RuntimeError):
        return str(error) == NO_THREAD
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)


def out_of_memory() -> OutOfMemory:
    """What is told of such an error."""
    what = msg("The app itself has no memory left")
    return OutOfMemory(what, msg("Wait for others to finish, or start it again with more."))


def insist(call: Callable[..., object], *given: object) -> None:
    """Call it, and again where memory fails it, until it was done: for what others wait for without end. What it does
    has to come to the same when it is done twice.
    """
    while True:
        try:
            call(*given)
            return
        except MemoryError:
            pass
        try:
            spend()
            time.sleep(AGAIN_S)
        except MemoryError:
            pass


def run_all(threads: Sequence[threading.Thread]) -> None:
    """Start these and wait for their ends. What there is no room for as a thread runs in the one that asks."""
    for thread in threads:
        with suppress(RuntimeError):
            thread.start()
    for thread in threads:
        if thread.ident is None:
            thread.run()
    for thread in threads:
        if thread.ident is not None:
            thread.join()


def _stack_bytes() -> int:
    limit, _ = resource.getrlimit(resource.RLIMIT_STACK)
    return threading.stack_size() or (_UNLIMITED_STACK if limit == resource.RLIM_INFINITY else limit)


def _share_heap() -> None:
    """Have all threads use one heap of the C library's. By default glibc reserves 64 or 128 MB of addresses for each of
    the first threads, and where it can't, that thread gets nothing though other heaps have room.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_ARENA_MAX, 1)
