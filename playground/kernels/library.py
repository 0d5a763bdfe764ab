"""The compiled kernels as Python calls them; the calls check nothing again.

A library is loaded by what it is, not by what it is called: its bytes are compared with the checksum of what we
compiled, and its numbers and structures with those in ``layout``. Whoever calls keeps alive what it passes: the library
stores addresses. Calls give up the interpreter's lock.
"""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import os
import tempfile
from collections.abc import Callable, Sequence
from ctypes import POINTER, c_char_p, c_float, c_int, c_long, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from playground.errors import Reason
from playground.kernels.building import Built
from playground.kernels.layout import (
    ALONE,
    BLOCK,
    CHUNK,
    MAX_HEAD,
    MAX_QUERIES,
    PANEL,
    PANEL_BYTES,
    TOGETHER,
    Acts,
    Kind,
    Matrix,
    Op,
    Plan,
    Ref,
    Room,
    Shape,
    Stored,
    check,
)
from playground.messages import msg

MAX_SCALE = float(2**14)
"""What the largest scale of a matrix is brought to, so that half floats hold them all."""
HUGE = 1 << 21
"""Bytes of a large page."""
PART_BYTES = 1 << 24
"""Of a matrix packed at once: the file's pages behind it are given back before more are read."""

Array = NDArray[Any]


@dataclass(frozen=True)
class Weights:
    """A matrix as ``MatMulNBits`` stores it: ``values`` [outputs, blocks, 32 or 16 bytes], ``scales`` [outputs,
    blocks], ``zeros`` packed like the values, or None for the middle of the range. The last ``mean_blocks`` blocks
    belong to the means of the others' activations, one copy of them or ``mean_copies``.
    """

    bits: int
    values: Array
    scales: Array
    zeros: Array | None
    mean_blocks: int = 0

    @property
    def outputs(self) -> int:
        return int(self.values.shape[0])

    @property
    def blocks(self) -> int:
        return int(self.values.shape[1]) - self.mean_blocks

    @property
    def packed_bytes(self) -> int:
        return -(-self.outputs // PANEL) * self.blocks * PANEL_BYTES[self.bits]


class Library:
    """One loaded library.

    Raises:
        OSError: It can't be loaded.
        RuntimeError: It is not the one that was compiled, or another version's, whose numbers or structures differ.
    """

    def __init__(self, built: Built) -> None:
        self._dll = dll = _loaded(built)
        dll.pg_isa.restype = c_char_p
        self._lacking = check(dll)
        self._max_scale = dll.pg_max_scale if hasattr(dll, "pg_max_scale") else dll.pg_reach
        self._max_scale.restype = c_float
        self._max_scale.argtypes = [POINTER(Stored)]
        dll.pg_pack.restype = None
        dll.pg_pack.argtypes = [POINTER(Stored), c_float, c_int, c_int, c_void_p]
        self._repeats_means = hasattr(dll, "pg_mean_copies")
        self.packs_all = hasattr(dll, "pg_pack_all")
        if self.packs_all:
            dll.pg_pack_all.restype = None
            dll.pg_pack_all.argtypes = [POINTER(Stored), POINTER(c_float), POINTER(c_void_p), c_int, c_int, c_int]
        dll.pg_unsound.argtypes = [POINTER(Plan), c_int]
        dll.pg_open.restype = c_void_p
        dll.pg_open.argtypes = [POINTER(Plan), c_int, c_int]
        dll.pg_close.restype = None
        dll.pg_close.argtypes = [c_void_p]
        dll.pg_cache.argtypes = [c_void_p, POINTER(c_void_p), POINTER(c_void_p), c_int, c_int, c_int]
        self.narrows = hasattr(dll, "pg_cache_bits")
        if self.narrows:
            dll.pg_cache_bits.restype = None
            dll.pg_cache_bits.argtypes = [c_void_p, c_int]
        if hasattr(dll, "pg_conv_inputs"):  # before, there were no convolutions
            dll.pg_conv_inputs.restype = None
            dll.pg_conv_inputs.argtypes = [c_void_p, POINTER(c_void_p)]
        if hasattr(dll, "pg_states"):  # before, there were no recurrences
            dll.pg_states.restype = None
            dll.pg_states.argtypes = [c_void_p, POINTER(c_void_p)]
        dll.pg_settle.restype = None
        dll.pg_settle.argtypes = [c_void_p]
        self._tells = hasattr(dll, "pg_clamped")  # before, pg_run told nothing
        if self._tells:
            dll.pg_clamped.restype = c_long
            dll.pg_clamped.argtypes = [c_void_p]
        dll.pg_run.restype = c_int if self._tells else None
        dll.pg_run.argtypes = [c_void_p, c_void_p, c_int, c_int]
        dll.pg_way.restype = None
        dll.pg_way.argtypes = [c_void_p, c_int]
        dll.pg_product.restype = None
        dll.pg_product.argtypes = [POINTER(Matrix), Acts, c_void_p, c_int, c_int, c_void_p]
        self.isa = str(dll.pg_isa().decode())
        self.tile = int(dll.pg_tile())

    def pack(self, weights: Weights, panels: Array, read: Callable[[int, int], None] = lambda *_: None) -> Matrix:
        """Lay ``weights`` out in ``panels`` (uint8, ``packed_bytes``, on 64 bytes) and describe them.

        Args:
            read: Told of rows from, to, that were read and won't be again.

        Raises:
            ValueError: They are of a kind the kernels don't know.
        """
        stored, exponent, matrix = self._described(weights, panels)
        part = max(1, PART_BYTES // (weights.blocks * PANEL_BYTES[weights.bits]))
        for start in range(0, matrix.outputs // PANEL, part):
            end = min(matrix.outputs // PANEL, start + part)
            self._dll.pg_pack(ctypes.byref(stored), 2.0**exponent, start, end, panels.ctypes.data)
            read(start * PANEL, min(weights.outputs, end * PANEL))
        return matrix

    def packing(
        self, weights: Sequence[Weights], panels: Sequence[Array], threads: int, forget: bool
    ) -> tuple[list[Matrix], Callable[[], None]]:
        """Describe ``weights`` as ``pack`` would, each with its ``panels``, and say how all are packed: by one call,
        which does not hold the interpreter's lock and keeps both alive. Only a library that ``packs_all`` has it.

        Args:
            threads: How many work.
            forget: Values and scales are mapped from files, whose pages won't be needed again.

        Raises:
            ValueError: Some are of a kind the kernels don't know.
        """
        found = [self._described(*pair) for pair in zip(weights, panels, strict=True)]
        count = len(found)
        stored = (Stored * count)(*(each for each, _, _ in found))
        factors = (c_float * count)(*(2.0**exponent for _, exponent, _ in found))
        addresses = (c_void_p * count)(*(each.ctypes.data for each in panels))

        def pack(*_: object, alive: tuple[Sequence[Weights], Sequence[Array]] = (weights, panels)) -> None:
            # Their memory must stay, even if whoever asked is gone by now.
            self._dll.pg_pack_all(stored, factors, addresses, count, threads, forget)

        return [matrix for _, _, matrix in found], pack

    def _described(self, weights: Weights, panels: Array) -> tuple[Stored, int, Matrix]:
        """As C takes them, the power of two that scales are brought up by, and the packed matrix."""
        if weights.mean_blocks > -(-weights.blocks // BLOCK) and not self._repeats_means:
            raise Reason(msg("the library is an older version's: it has no {step}", step="mean_copies"))
        stored = Stored(
            weights.values.ctypes.data,
            weights.scales.ctypes.data,
            None if weights.zeros is None else weights.zeros.ctypes.data,
            weights.bits,
            weights.outputs,
            weights.blocks,
            weights.mean_blocks,
        )
        scale = self._max_scale(ctypes.byref(stored))
        if scale < 0:
            raise Reason(msg("weights of eight bits that are not around the middle of their range"))
        # A power of two, so that nothing is rounded by it.
        exponent = 0 if scale == 0 or not np.isfinite(scale) else int(np.floor(np.log2(MAX_SCALE / scale)))
        exponent = max(-100, min(100, exponent))
        outputs = -(-weights.outputs // PANEL) * PANEL
        return stored, exponent, Matrix(panels.ctypes.data, weights.bits, weights.blocks, outputs, 2.0**-exponent)

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
            ValueError: A step would reach beyond a buffer, so that it was not made by ``runtimes.native.lowering``; or
                the library was compiled before there were such steps.
            MemoryError: Memory or threads can't be had.
        """
        if self._lacking:
            ops = plan.list[: plan.ops]
            wanted = {Kind(op.kind).name for op in ops if 0 <= op.kind < len(Kind)}
            wanted |= {"SOFTCAP" for op in ops if op.kind == Kind.FLASH_ATTN and op.number}
            wanted |= {"SUM_ID" for op in ops if op.kind == Kind.FLASH_ATTN and op.data[0]}  # sinks came with it
            if missing := sorted(wanted & self._lacking):
                raise Reason(msg("the library is an older version's: it has no {step}", step=missing[0]))
        wrong = self._dll.pg_unsound(ctypes.byref(plan), head_size)
        if wrong >= 0:
            raise Reason(msg("step {step} of the plan reaches beyond its buffers", step=wrong))
        handle = self._dll.pg_open(ctypes.byref(plan), head_size, int(spinning))
        if not handle:
            raise MemoryError(msg("the kernels got no memory or threads"))
        return handle

    def cache(
        self,
        handle: Any,
        keys: Sequence[Array],
        values: Sequence[Array],
        heads: int,
        size: int,
        *,
        bits: int = 16,
        inputs: Sequence[Array] = (),
        states: Sequence[Array] = (),
    ) -> Any:
        """Give the cache, half floats for each layer: keys [heads, capacity / 64, size, 64], values [heads, capacity,
        size]; ``heads`` and ``size``: the most query heads and the largest head. Returns what to keep alive.

        Args:
            bits: 8 for bytes with scales, as ``attention.h`` has them: keys [heads, capacity / 64, bytes], values
                [heads, capacity, bytes]. Only a library that ``narrows`` has it.
            inputs: Room for what goes into each of the plan's convolutions, fp32 [capacity, width].
            states: Room for the state of each of its recurrences, fp32, in as many numbers as its heads have.

        Raises:
            MemoryError: Scratch memory can't be had.
        """
        given = (keys, values, inputs, states)
        tables = tuple((c_void_p * len(all_))(*(array.ctypes.data for array in all_)) for all_ in given)
        if self.narrows:
            self._dll.pg_cache_bits(handle, bits)
        if self._dll.pg_cache(handle, *tables[:2], values[0].shape[1], heads, size):
            raise MemoryError(msg("the kernels got no memory for attention"))
        if inputs:
            self._dll.pg_conv_inputs(handle, tables[2])
        if states:
            self._dll.pg_states(handle, tables[3])
        return tables

    def settle(self, handle: Any) -> None:
        """Wait until no thread is at a step that is over: before memory that it may be reading is given back."""
        self._dll.pg_settle(handle)

    def run(self, handle: Any, ids: int, count: int, start: int) -> int:
        """Read the ``count`` ids (int64) at the address ``ids`` behind ``start`` others.

        Returns:
            The first step that met numbers which are infinite or none, or -1. Behind such a step there is nothing to be
            had, in the cache either. Libraries of before don't tell: -1.
        """
        broken = self._dll.pg_run(handle, ids, count, start)
        return broken if self._tells else -1

    def clamped(self, handle: Any) -> int:
        """How many keys and values were too large for the cache's half floats, and became the largest of them, since
        ``open``.
        """
        return int(self._dll.pg_clamped(handle)) if self._tells else 0

    def way(self, handle: Any, alone: bool | None) -> None:
        """Whether every step from here on is taken by the caller alone, by all threads (False), or by what was lately
        faster (None), which it is until something else is said. For tests and measurements.
        """
        self._dll.pg_way(handle, -1 if alone is None else ALONE if alone else TOGETHER)

    def close(self, handle: Any) -> None:
        self._dll.pg_close(handle)


_LOADED: dict[str, ctypes.CDLL] = {}
"""By checksum: nothing that was loaded is ever given back, and one copy serves every engine."""


def _loaded(built: Built) -> ctypes.CDLL:
    """The library from memory that no other name leads to, so that what was compared is what runs."""
    if built.sha256 not in _LOADED:
        content = built.path.read_bytes()
        if hashlib.sha256(content).hexdigest() != built.sha256:
            raise RuntimeError(msg("{file} is not the library that was compiled here", file=built.path.name))
        _LOADED[built.sha256] = _load(built.path.name, content)
    return _LOADED[built.sha256]


def _load(name: str, content: bytes) -> ctypes.CDLL:
    if hasattr(os, "memfd_create"):
        # It stays open: the system's loader takes two libraries that had the same name in turn for one.
        memory = os.memfd_create(name)
        with open(memory, "wb", closefd=False) as file:
            file.write(content)
        return ctypes.CDLL(f"/proc/self/fd/{memory}")
    # macOS loads from files alone: one in a folder that only this user may write to, gone as soon as it is loaded.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(content)
        return ctypes.CDLL(str(path))


def mean_copies(blocks: int) -> int:
    """How often the means of ``blocks`` blocks are repeated, so that behind the last block that their first copy
    begins all of them stand once more.
    """
    return -(-(-(-blocks // BLOCK) * BLOCK) // blocks) + 1


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
    "MAX_HEAD",
    "MAX_QUERIES",
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
    "mean_copies",
    "packed",
]
