"""Threads that wait for calls, of which none is left behind where there is no thread for it.

``ThreadPoolExecutor.submit`` puts a call into its queue and then starts a thread, where none is idle. Where the system
gives none it raises, and the call stays in the queue: one of the other threads runs it later, for somebody who was told
that it is refused. And whichever thread does so counts itself as idle once more often than it is, so that later calls
wait behind others although a thread could be had. Here such a call is taken out of the queue again.

What a pool does by itself: a call whose future is cancelled before a thread took it is not run, and who cancels what
``asyncio.to_thread`` or ``run_in_executor`` gave, or the task that awaits it, cancels that future. It knows calls; it
does not know what they do.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from queue import Empty
from typing import Any, ParamSpec, TypeVar

Given = ParamSpec("Given")
Found = TypeVar("Found")


class Threads(ThreadPoolExecutor):
    """A pool whose ``submit`` raises, or has the call run, and never both.

    Args:
        most: Threads at most; None for as many as a pool has by itself.
        name: What their names begin with.
    """

    def __init__(self, most: int | None = None, name: str = "") -> None:
        super().__init__(most, thread_name_prefix=name)
        self._submitting = threading.Lock()
        self._newest: Callable[[], object] | None = None

    def submit(self, fn: Callable[Given, Found], /, *args: Given.args, **kwargs: Given.kwargs) -> Future[Found]:
        """Have ``fn`` called in a thread.

        Raises:
            RuntimeError: The pool has ended, or there is no thread for the call (``reserve.is_shortage``).
            MemoryError: There is none for it either.
        """
        call = partial(fn, *args, **kwargs)
        with self._submitting:
            self._newest = call
            try:
                return super().submit(call)
            finally:
                self._newest = None

    def _adjust_thread_count(self) -> None:
        """Start a thread where none is idle. The pool asks for it when the newest call is the last in the queue, and
        lets no other in meanwhile.
        """
        try:
            super()._adjust_thread_count()
        except BaseException:
            if self._taken_back():
                raise
            self._idle_semaphore.acquire(timeout=0)  # a thread became idle meanwhile and took the call

    def _taken_back(self) -> bool:
        """Take the newest call out of the queue, where the others keep their order; False if a thread has it. Nothing
        is gathered meanwhile, for there may be no memory: a call that can't be put back is told so.
        """
        for _ in range(self._work_queue.qsize()):
            try:
                item: Any = self._work_queue.get_nowait()
            except Empty:
                break
            if item is not None and item.fn is self._newest:
                return True  # the last of them: all others stand as they stood
            try:
                self._work_queue.put(item)
            except MemoryError as error:
                if item is not None and item.future.set_running_or_notify_cancel():
                    item.future.set_exception(error)
        return False
