"""An end in the middle of what torch computes: a look at Stop before each module.

The module does not know who says Stop, nor what is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from playground.runtimes.generation.engine import Interrupted


@contextmanager
def interruptible(modules: Iterable[Any], stopped: Callable[[], bool]) -> Iterator[None]:
    """While this is entered, ``stopped`` is asked before each of these modules of torch computes. Hooks cost time, so
    single steps go without.

    Raises:
        Interrupted: It said so.
    """

    def look(*_: Any) -> None:
        if stopped():
            raise Interrupted

    hooks = [module.register_forward_pre_hook(look) for module in modules]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
