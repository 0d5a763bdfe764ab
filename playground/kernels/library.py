"""The compiled kernels as Python sees them: structures like those in source/, and calls that check nothing again.

A library is loaded by what it is, not by what it is called: its bytes are compared with the checksum of what we
compiled. Whoever calls keeps alive what it passes: the library stores addresses. Calls give up the interpreter's lock.
"""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import os
from collections.abc import Callable, Sequence
from ctypes import POINTER, Structure, c_char_p, c_float, c_int, c_void_p
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from playground.kernels.building import Built

BLOCK = 32
PANEL = 32
"""Outputs that lie together."""
PANEL_BYTES = {8: 1088, 4: 640}
"""Of a panel's block, by the bits of a weight."""
CHUNK = 64
"""Positions of the cache that lie together."""
REACH = float(2**14)
"""What the largest scale of a matrix is brought to, so that half floats hold them all."""
HUGE = 1 << 21
"""Bytes of a large page."""
PART_BYTES = 1 << 24
"""Of a matrix packed at once: the file's pages behind it are given back before more are read."""

Array = NDArray[Any]


class Kind(IntEnum):
    """Steps of a program, as in program.c."""

    EMBED8 = 0
    EMBED32 = 1
    NORM = 2
    QUANTISE = 3
    PRODUCT = 4
    ROTATE = 5
    ATTEND = 6
    MERGE = 7
    ADD = 8
    ADD_ROW = 9
    SCALE = 10
    TIMES = 11
    SILU = 12
    GELU = 13
    GELU_ERF = 14
    RELU = 15
    SIGMOID = 16
    LAST = 17


class Ref(Structure):
    """Where a value lies: a buffer, its first column, the width of the buffer's rows."""

    _fields_ = (("buffer", c_int), ("offset", c_int), ("stride", c_int))


class Matrix(Structure):
    _fields_ = (("panels", c_void_p), ("bits", c_int), ("blocks", c_int), ("outputs", c_int), ("post", c_float))


class Shape(Structure):
    _fields_ = (("heads", c_int), ("groups", c_int), ("size", c_int), ("window", c_int), ("scale", c_float))


class Op(Structure):
    _fields_ = (
        ("kind", c_int),
        ("one", c_int),
        ("width", c_int),
        ("extra", c_int),
        ("inputs", Ref * 3),
        ("outputs", Ref * 2),
        ("number", c_float),
        ("data", c_void_p * 4),
        ("matrix", Matrix),
        ("shape", Shape),
        ("layer", c_int),
    )


class Acts(Structure):
    _fields_ = (("bytes", c_void_p), ("scales", c_void_p), ("sums", c_void_p), ("bias", c_void_p))


class Room(Structure):
    """What a buffer has: rows of so many numbers."""

    _fields_ = (("rows", c_int), ("width", c_int))


class Plan(Structure):
    """``places``: how many buffers and rooms; ``layers``: of the cache; ``tokens``: the most of one run; ``blocks``:
    the most of rounded activations there is room for.
    """

    _fields_ = (
        ("ops", c_int),
        ("threads", c_int),
        ("list", POINTER(Op)),
        ("buffers", POINTER(c_void_p)),
        ("acts", Acts),
        ("rooms", POINTER(Room)),
        ("places", c_int),
        ("layers", c_int),
        ("tokens", c_int),
        ("blocks", c_int),
    )


class Stored(Structure):
    _fields_ = (
        ("values", c_void_p),
        ("scales", c_void_p),
        ("zeros", c_void_p),
        ("bits", c_int),
        ("outputs", c_int),
        ("blocks", c_int),
        ("rest", c_int),
    )


@dataclass(frozen=True)
class Weights:
    """A matrix as ``MatMulNBits`` stores it: ``values`` [outputs, blocks, 32 or 16 bytes], ``scales`` [outputs,
    blocks], ``zeros`` packed like the values, or None for the middle of the range. The last ``rest`` blocks belong to
    the means of the others' activations.
    """

    bits: int
    values: Array
    scales: Array
    zeros: Array | None
    rest: int = 0

    @property
    def outputs(self) -> int:
        return int(self.values.shape[0])

    @property
    def blocks(self) -> int:
        return int(self.values.shape[1]) - self.rest

    @property
    def packed_bytes(self) -> int:
        return -(-self.outputs // PANEL) * self.blocks * PANEL_BYTES[self.bits]


class Library:
    """One loaded library.

    Raises:
        OSError: It can't be loaded.
        RuntimeError: It is not the one that was compiled, or another version's.
    """

    def __init__(self, built: Built) -> None:
        self._dll = dll = _loaded(built)
        dll.pg_isa.restype = c_char_p
        dll.pg_reach.restype = c_float
        dll.pg_reach.argtypes = [POINTER(Stored)]
        dll.pg_pack.restype = None
        dll.pg_pack.argtypes = [POINTER(Stored), c_float, c_int, c_int, c_void_p]
        dll.pg_unsound.argtypes = [POINTER(Plan), c_int]
        dll.pg_open.restype = c_void_p
        dll.pg_open.argtypes = [POINTER(Plan), c_int, c_int]
        dll.pg_close.restype = None
        dll.pg_close.argtypes = [c_void_p]
        dll.pg_cache.argtypes = [c_void_p, POINTER(c_void_p), POINTER(c_void_p), c_int, c_int, c_int]
        dll.pg_run.restype = None
        dll.pg_run.argtypes = [c_void_p, c_void_p, c_int, c_int]
        dll.pg_way.restype = None
        dll.pg_way.argtypes = [c_void_p, c_int]
        dll.pg_product.restype = None
        dll.pg_product.argtypes = [POINTER(Matrix), Acts, c_void_p, c_int, c_int, c_void_p]
        if dll.pg_op_size() != ctypes.sizeof(Op):
            raise RuntimeError("the library is another version's")
        self.isa = str(dll.pg_isa().decode())
        self.tile = int(dll.pg_tile())

    def pack(self, weights: Weights, panels: Array, read: Callable[[int, int], None] = lambda *_: None) -> Matrix:
        """Lay ``weights`` out in ``panels`` (uint8, ``packed_bytes``, on 64 bytes) and describe them.

        Args:
            read: Told of rows from, to, that were read and won't be again.

        Raises:
            ValueError: They are of a kind the kernels don't know.
        """
        stored = Stored(
            weights.values.ctypes.data,
            weights.scales.ctypes.data,
            None if weights.zeros is None else weights.zeros.ctypes.data,
            weights.bits,
            weights.outputs,
            weights.blocks,
            weights.rest,
        )
        reach = self._dll.pg_reach(ctypes.byref(stored))
        if reach < 0:
            raise ValueError("weights of eight bits that are not around the middle of their range")
        # A power of two, so that nothing is rounded by it.
        power = 0 if reach == 0 or not np.isfinite(reach) else int(np.floor(np.log2(REACH / reach)))
        power = max(-100, min(100, power))
        count = -(-weights.outputs // PANEL)
        part = max(1, PART_BYTES // (weights.blocks * PANEL_BYTES[weights.bits]))
        for start in range(0, count, part):
            end = min(count, start + part)
            self._dll.pg_pack(ctypes.byref(stored), 2.0**power, start, end, panels.ctypes.data)
            read(start * PANEL, min(weights.outputs, end * PANEL))
        return Matrix(panels.ctypes.data, weights.bits, weights.blocks, count * PANEL, 2.0**-power)

    def acts(self, rows: int, width: int) -> tuple[Acts, tuple[Array, ...]]:
        """Room for ``rows`` rounded activations of ``width`` (whole blocks), and the arrays to keep alive."""
        blocks = -(-width // BLOCK)
        held = (
            np.zeros(rows * blocks * BLOCK, np.int8),
            np.zeros(rows * blocks, np.float32),
            np.zeros(rows * blocks, np.float32),
            np.zeros(rows * blocks, np.int32),
        )
        return Acts(*(array.ctypes.data for array in held)), held

    def product(self, matrix: Matrix, x: Array) -> Array:
        """``x`` [rows, width] times the matrix: [rows, outputs], on one thread."""
        rows, width = x.shape
        acts, held = self.acts(rows, matrix.blocks * BLOCK)
        out = np.empty((rows, matrix.outputs), np.float32)
        self._dll.pg_product(ctypes.byref(matrix), acts, x.ctypes.data, width, rows, out.ctypes.data)
        del held
        return out

    def open(self, plan: Plan, head_size: int, spinning: bool) -> Any:
        """A handle to run ``plan`` with.

        Raises:
            ValueError: A step would reach beyond a buffer; it was not made by ``runtimes.kernel_reader``.
            MemoryError: Memory or threads can't be had.
        """
        wrong = self._dll.pg_unsound(ctypes.byref(plan), head_size)
        if wrong >= 0:
            raise ValueError(f"step {wrong} of the plan reaches beyond its buffers")
        handle = self._dll.pg_open(ctypes.byref(plan), head_size, int(spinning))
        if not handle:
            raise MemoryError("the kernels got no memory or threads")
        return handle

    def cache(self, handle: Any, keys: Sequence[Array], values: Sequence[Array], heads: int, size: int) -> Any:
        """Give the cache, half floats for each layer: keys [heads, capacity / 64, size, 64], values [heads, capacity,
        size]; ``heads`` and ``size``: the most query heads and the largest head. Returns what to keep alive.

        Raises:
            MemoryError: Scratch memory can't be had.
        """
        tables = tuple((c_void_p * len(all_))(*(array.ctypes.data for array in all_)) for all_ in (keys, values))
        if self._dll.pg_cache(handle, *tables, values[0].shape[1], heads, size):
            raise MemoryError("the kernels got no memory for attention")
        return tables

    def run(self, handle: Any, ids: int, count: int, start: int) -> None:
        """Read the ``count`` ids (int64) at the address ``ids`` behind ``start`` others."""
        self._dll.pg_run(handle, ids, count, start)

    def way(self, handle: Any, alone: bool | None) -> None:
        """Whether every step from here on is taken by the caller alone, by all threads (False), or by what was lately
        faster (None), which it is until something else is said. For tests and measurements.
        """
        self._dll.pg_way(handle, -1 if alone is None else int(alone))

    def close(self, handle: Any) -> None:
        self._dll.pg_close(handle)


_LOADED: dict[str, ctypes.CDLL] = {}
"""By checksum: nothing that was loaded is ever given back, and one copy serves every engine."""


def _loaded(built: Built) -> ctypes.CDLL:
    """The library from memory that no other name leads to, so that what was compared is what runs."""
    if built.sha256 not in _LOADED:
        content = built.path.read_bytes()
        if hashlib.sha256(content).hexdigest() != built.sha256:
            raise RuntimeError(f"{built.path.name} is not the library that was compiled here")
        # It stays open: the system's loader takes two libraries that had the same name in turn for one.
        memory = os.memfd_create(built.path.name)
        with open(memory, "wb", closefd=False) as file:
            file.write(content)
        _LOADED[built.sha256] = ctypes.CDLL(f"/proc/self/fd/{memory}")
    return _LOADED[built.sha256]


def packed(values: Array) -> Array:
    """Values below 16, two in a byte along the last axis, the first in the low half."""
    if values.shape[-1] % 2:
        values = np.concatenate([values, np.zeros_like(values[..., :1])], axis=-1)
    halves: Array = values[..., 0::2] | (values[..., 1::2] << 4)
    return halves


def large_pages(size: int) -> Array:
    """``size`` zeros of uint8 on pages of 2 MB where the system grants them: a token reads all weights, and finding
    tens of thousands of small pages takes time.
    """
    memory = mmap.mmap(-1, size + HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        try:
            memory.madvise(mmap.MADV_HUGEPAGE)
        except OSError:
            pass  # a kernel without them
    whole: Array = np.frombuffer(memory, np.uint8)
    first = -whole.ctypes.data % HUGE
    return whole[first : first + size]


__all__ = [
    "BLOCK",
    "CHUNK",
    "PANEL",
    "Acts",
    "Kind",
    "Library",
    "Matrix",
    "Op",
    "Plan",
    "Ref",
    "Room",
    "Shape",
    "Weights",
    "large_pages",
    "packed",
]
