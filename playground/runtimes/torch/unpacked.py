"""Numbers that were unpacked of a file, kept where they are asked for again and there is room for them.

The module knows tensors and how much memory there is; it does not know where numbers come from.
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy.typing as npt
import torch

from playground.catalog import footprint
from playground.system import memory

Array = npt.NDArray[Any]


class Room:
    """What is left of the memory for unpacked weights, of all networks of this process together."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._lock = threading.RLock()  # numbers may go, and give back, while some are taken

    def fits(self, size: int) -> bool:
        """Whether there is room for so many bytes."""
        return size <= self._left

    def keep(self, found: torch.Tensor) -> bool:
        """Whether there is room for these numbers; then it is taken until nobody has them any more."""
        size = found.nbytes
        with self._lock:
            if size > self._left:
                return False
            self._left -= size
        weakref.finalize(found, self._give_back, size)
        return True

    def _give_back(self, size: int) -> None:
        with self._lock:
            self._left += size


@functools.cache
def room_here() -> Room:
    """What this machine has for them."""
    return Room(int(footprint.UNPACKED * memory.limit_mb() * memory.MB))


class Once:
    """Numbers that stay where they are asked for again and there is room for them. Who writes a graph asks once; who
    computes asks for each token.

    Args:
        make: Gives them; they are not to be written into.
    """

    def __init__(self, make: Callable[[], Array], room: Room) -> None:
        self._make, self._room = make, room
        self._asked = False
        self.kept: torch.Tensor | None = None

    def __call__(self) -> torch.Tensor:
        if self.kept is not None:
            return self.kept
        found = torch.from_numpy(self._make())
        if self.again() and self._room.keep(found):
            self.kept = found
        return found

    def fits(self, size: int) -> bool:
        """Whether so many bytes of them are there, or may stay."""
        return self.kept is not None or self._room.fits(size)

    def again(self) -> bool:
        """Whether they were asked for before."""
        before, self._asked = self._asked, True
        return before
