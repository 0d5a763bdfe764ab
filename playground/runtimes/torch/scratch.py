"""Memory that large weights are widened into, again and again.

A network whose weights stay in their files makes each of them in fp32 for every step. Memory that is asked for anew
each time comes as pages that the system has to find and to clear: half of the time of a network of 7 B. This module
keeps the last such memory and gives it out again once nobody holds what was in it.
"""

from __future__ import annotations

import threading
import weakref
from typing import Any

import numpy as np
import torch

LARGE = 1 << 20
"""Numbers from which on; smaller memory the allocator itself gives out again."""


class Scratch:
    """Room for one tensor at a time; who comes while it is taken gets memory of their own."""

    def __init__(self) -> None:
        self._memory = np.empty(0, np.float32)
        self._held: Any = lambda: None
        self._lock = threading.Lock()

    def widened(self, stored: torch.Tensor) -> torch.Tensor:
        """``stored.float()``."""
        if stored.dtype is torch.float32 or stored.numel() < LARGE or not stored.is_contiguous():
            return stored.float()
        with self._lock:
            if self._held() is not None:
                return stored.float()
            if self._memory.size < stored.numel():
                self._memory = np.empty(0, np.float32)  # never the old and the new one at once
                self._memory = np.empty(stored.numel(), np.float32)
            room = self._memory[: stored.numel()]
            # Whoever holds the tensor, or a view of it, holds this.
            self._held = weakref.ref(room)
        return torch.from_numpy(room).view(stored.shape).copy_(stored)


SCRATCH = Scratch()
"""Of this process."""
