"""The keys and values of one engine, in half floats or bytes: for each layer, memory that is taken as it is written.

A layer that sees a window of the text does not read what lies before it. Its memory is given back to the system there,
at the same addresses: positions stay where they are, and no kernel has to know. A short convolution is such a layer:
what goes into it is kept for each position, in fp32, and its window is a few tokens; so that a text can be gone back
in. A recurrence has one state, that behind the last token, and where there is one no text is gone back in: then
windows of convolutions are all that is kept of them. The module does not know what is computed.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from playground.kernels.library import BLOCK, CHUNK
from playground.runtimes.native.program import Convolution, Heads, Recurrence

Array = NDArray[Any]

BEHIND = 1024
"""Positions before its window that a layer keeps: an answer that is asked for again begins where the prompt ended."""

STRIDE = 256
"""Tokens between two times that memory is given back."""


class Cache:
    """Room for ``capacity`` tokens.

    Args:
        layers: The attention of each layer.
        capacity: A multiple of ``CHUNK``.
        bits: Of a key or value: 16, or 8 with a scale for each ``BLOCK`` of them.
        convolutions: The same of short convolutions.
        recurrences: The same of recurrences.

    Raises:
        MemoryError: There is no room.

    Attributes:
        keys: For each layer ``[heads, capacity / 64, size, 64]``; in eight bits ``[heads, capacity / 64, bytes]``.
        values: For each layer ``[heads, capacity, size]``; in eight bits ``[heads, capacity, bytes]``.
        inputs: For each convolution fp32 ``[capacity, width]``.
        states: For each recurrence fp32, as many numbers as its heads have; nothing without capacity.
        read: Tokens that the states stand behind; -1 where nobody knows.
        due: Tokens from which on ``forget`` has something to do.
    """

    def __init__(
        self,
        layers: Sequence[Heads],
        capacity: int,
        bits: int = 16,
        convolutions: Sequence[Convolution] = (),
        recurrences: Sequence[Recurrence] = (),
    ) -> None:
        self._layers = layers
        self.capacity, self.bits = capacity, bits
        if bits == 8:
            bytes_ = [each.size + 4 * -(-each.size // BLOCK) for each in layers]
            pairs = list(zip(layers, bytes_, strict=True))
            self.keys = [_zeros((each.kv_heads, capacity // CHUNK, CHUNK * size), np.uint8) for each, size in pairs]
            self.values = [_zeros((each.kv_heads, capacity, size), np.uint8) for each, size in pairs]
        else:
            self.keys = [_zeros((each.kv_heads, capacity // CHUNK, each.size, CHUNK)) for each in layers]
            self.values = [_zeros((each.kv_heads, capacity, each.size)) for each in layers]
        self.inputs = [_zeros((capacity, each.width), np.float32) for each in convolutions]
        sizes = [each.heads * each.size * each.width for each in recurrences]
        self.states = [_zeros((size if capacity else 0,), np.float32) for size in sizes]
        self._windows = [*(each.window for each in layers), *(each.taps for each in convolutions)]
        self._gone = [0] * len(self._windows)  # positions from the start that are given back
        self._narrowest = min(filter(None, self._windows), default=0)
        self._goes_back = not recurrences
        self.due = self.read = 0
        self.begin()

    def begin(self) -> None:
        """The next token is the first one."""
        for place, gone in enumerate(self._gone):
            if gone:  # or every text leaves what its windows held at its end
                self._give_back(place, gone, self.capacity)
        self._gone = [0] * len(self._windows)
        self.read = 0
        self.due = self._narrowest + self._kept[0] + self._kept[1] if self._narrowest else self.capacity + 1

    @property
    def _kept(self) -> tuple[int, int]:
        """Positions before a window, and tokens between two times that memory is given back."""
        return (BEHIND, STRIDE) if self._goes_back else (0, CHUNK)

    def holds(self, kept: int) -> bool:
        """Whether the token behind the first ``kept`` can be computed."""
        known = not self.states or kept == self.read
        return (
            known
            and kept <= self.capacity
            and all(gone <= max(0, kept + 1 - window) for gone, window in zip(self._gone, self._windows, strict=True))
        )

    def forget(self, length: int) -> None:
        """Give back what lies well before the windows of a text of ``length`` tokens."""
        for place, window in enumerate(self._windows):
            gone = max(0, length - window - self._kept[0]) // CHUNK * CHUNK if window else 0
            start = self._gone[place]
            if gone > start:
                self._give_back(place, start, gone)
                self._gone[place] = gone
        self.due = length + self._kept[1]

    def _give_back(self, place: int, start: int, end: int) -> None:
        if place >= len(self._layers):
            _give_back(self.inputs[place - len(self._layers)], start, end)
            return
        for head in range(self._layers[place].kv_heads):
            _give_back(self.keys[place][head], start // CHUNK, end // CHUNK)
            _give_back(self.values[place][head], start, end)

    def take_over(self, other: Cache, kept: int) -> None:
        """Copy what another cache holds of the first ``kept`` tokens."""
        self._gone, self.due = list(other._gone), min(other.due, self.due)
        for place, gone in enumerate(other._gone[: len(self._layers)]):
            chunks = slice(gone // CHUNK, -(-kept // CHUNK))
            self.keys[place][:, chunks] = other.keys[place][:, chunks]
            self.values[place][:, gone:kept] = other.values[place][:, gone:kept]
        for mine, theirs, gone in zip(self.inputs, other.inputs, other._gone[len(self._layers) :], strict=True):
            mine[gone:kept] = theirs[gone:kept]
        if kept:
            self.read = other.read
            for own, others in zip(self.states, other.states, strict=True):
                own[:] = others


def _zeros(shape: tuple[int, ...], dtype: type[np.generic] = np.float16) -> Array:
    """Numbers on pages of their own, none of which is there before it is written."""
    count = int(np.prod(shape))
    size = count * np.dtype(dtype).itemsize
    try:
        memory = mmap.mmap(-1, max(1, size), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError) as error:
        raise MemoryError from error
    return np.frombuffer(memory, dtype, count).reshape(shape)


def _give_back(rows: Array, start: int, end: int) -> None:
    """Whole pages of ``rows[start:end]``, a contiguous part of such an array, become zeros that take no memory.

    Args:
        rows: The first of them that are given back, up to ``start``, are given back already.
    """
    memory: Any = rows
    while not isinstance(memory, mmap.mmap):
        memory = memory.base if isinstance(memory, np.ndarray) else memory.obj
    first = rows.ctypes.data - np.frombuffer(memory, np.uint8).ctypes.data
    size = rows.nbytes // len(rows) if len(rows) else 0
    # From the page in which the last part ended, of which all that is this array's is given back as well.
    page = max(-(-first // mmap.PAGESIZE), (first + start * size) // mmap.PAGESIZE)
    last = (first + end * size) // mmap.PAGESIZE
    if last > page and hasattr(mmap, "MADV_DONTNEED"):
        memory.madvise(mmap.MADV_DONTNEED, page * mmap.PAGESIZE, (last - page) * mmap.PAGESIZE)
