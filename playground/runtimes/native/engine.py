"""A decoder run by the playground's own kernels: weights packed once, a cache in half floats, one call a step.

The position is counted here and the cache lives here. A token gives the same bits alone and in company, so that it does
not matter how a prompt was cut, nor whether what was read before was a prompt or an answer. The module does not know
text, sampling, time, or where a graph came from.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from ctypes import c_void_p
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from playground.kernels.building import Built
from playground.kernels.library import (
    BLOCK,
    Kind,
    Library,
    Matrix,
    Op,
    Plan,
    Ref,
    Room,
    Shape,
    large_pages,
)
from playground.messages import Translatable, msg, plural
from playground.runtimes.generation.engine import CACHE_GROWTH, PREFILL_CHUNK, Engine, EngineError, Logits
from playground.runtimes.native.cache import Cache
from playground.runtimes.native.checks import check
from playground.runtimes.native.program import INT_MAX, Program, Step, Value, broken
from playground.runtimes.native.rows import ManyRows, split

Array = NDArray[Any]


_ROUNDING = (Kind.QUANTISE, Kind.QUANTISE_ROWS)


class KernelEngine(Engine):
    """One model.

    Args:
        library: The compiled kernels.
        program: What they are to do. Its weights are packed here, and the files not needed any more.
        threads: How many work on a step.
        spinning: Whether they wait awake between steps.

    Raises:
        ValueError: Weights are of a kind the kernels don't know, or a step would reach beyond its buffers.
        MemoryError: There is no room.
    """

    alike_in_parts = True

    def __init__(self, library: Library, program: Program, threads: int, spinning: bool = True) -> None:
        check(program)  # whoever made it: behind this line nothing is checked again
        assert program.logits is not None
        self._library, self._program = library, program
        self.name = f"kernels {library.isa}"
        self._matrices, self._panels, self._packing = _pack(library, program, threads)
        places, sizes = _placed(program)
        self._buffers = [np.zeros(rows * width, np.float32) for rows, width in sizes]
        self._addresses = (c_void_p * len(sizes))(*(buffer.ctypes.data for buffer in self._buffers))
        self._places, self._many = places, None  # type: list[int], ManyRows | None
        self._first = split(program)
        self._ops = (Op * len(program.steps))(*(self._op(step, places, program.widths) for step in program.steps))
        widest = max([step.extra * BLOCK for step in program.steps if step.kind in _ROUNDING], default=BLOCK)
        acts, self._acts = library.acts(PREFILL_CHUNK, widest)
        self._rooms = (Room * len(sizes))(*(Room(*size) for size in sizes))
        room = (self._rooms, len(sizes), len(program.layers), PREFILL_CHUNK, widest // BLOCK)
        plan = Plan(len(self._ops), threads, self._ops, self._addresses, acts, *room)
        self._head = max(layer.size for layer in program.layers)
        self._plan = plan
        self._handle: Any = library.open(plan, self._head, spinning)
        self._kv_bits = 16
        self._cache = self._empty()
        self._tables: Any = None
        self._length = self._clamped = 0
        buffer = self._buffers[places[program.logits.buffer]]
        self._row: Array = buffer[program.logits.offset : program.logits.offset + program.vocab]
        self._token = np.zeros(1, np.int64)
        self._token_address = self._token.ctypes.data
        self._vocabulary = program.tokens

    def reset(self, length: int) -> None:
        needed = -(-length // CACHE_GROWTH) * CACHE_GROWTH
        if not needed <= self._cache.capacity <= 4 * needed:
            self._settle()
            self._cache = self._empty()  # before there is a new one
            self._allocate(needed)
        self._cache.begin()
        self._length = 0
        self._clamped = self._all_clamped()

    @property
    def warnings(self) -> tuple[Translatable, ...]:  # type: ignore[override]
        """Keys and values since ``reset`` that the cache could not hold as they were."""
        count = self._all_clamped() - self._clamped if self._handle else 0
        if not count:
            return ()
        return (
            plural(
                "{n:,} number in the cache was beyond what half floats hold (65,504) and became the largest of them.",
                "{n:,} numbers in the cache were beyond what half floats hold (65,504) and became the largest of them.",
                count,
            ),
        )

    def _all_clamped(self) -> int:
        handles = [each for each in (self._handle, self._many.trunk if self._many else None) if each]
        return sum(map(self._library.clamped, handles))

    def keep_bits(self, bits: int) -> bool:
        """See ``Engine.keep_bits``: 16 or 8. Libraries compiled by earlier versions know 16 alone."""
        if bits not in (16, 8) or (bits == 8 and not self._library.narrows):
            return False
        if bits != self._kv_bits:
            self._settle()
            self._cache, self._kv_bits = self._empty(), bits
            self._length = 0
        return True

    def rewind(self, kept: int, length: int) -> bool:
        if not self._cache.holds(kept):
            return False  # memory ran out when it was to grow, or what windows need there was given back
        if self._cache.capacity < length:
            old = self._cache
            self._allocate(-(-length // CACHE_GROWTH) * CACHE_GROWTH)
            self._cache.take_over(old, kept)
        self._length = kept
        return True

    def prefill(self, ids: Sequence[int]) -> Logits:
        """See ``Engine.prefill``.

        Raises:
            EngineError: There are no tokens, one that the model does not have, or more than there is room for; or
                activations became infinite or no numbers.
        """
        if not ids:
            raise EngineError(msg("there is nothing to read"))
        if min(ids) < 0 or max(ids) >= self._vocabulary:
            raise EngineError(msg("a token the model does not have"))
        for start in range(0, len(ids), PREFILL_CHUNK):
            part = np.asarray(ids[start : start + PREFILL_CHUNK], np.int64)
            self._run(part.ctypes.data, len(part))
        return self._row

    def step(self, token: int) -> Logits:
        """See ``Engine.step``.

        Raises:
            EngineError: The model has no such token, there is no room for it, or activations became infinite or no
                numbers.
        """
        if not 0 <= token < self._vocabulary:
            raise EngineError(msg("a token the model does not have"))
        self._token[0] = token
        self._run(self._token_address, 1)
        return self._row

    def rows(self, ids: Sequence[int], wanted: int) -> Iterator[Logits]:
        """See ``Engine.rows``: every row in one run of the trunk, the last ones' logits in another."""
        if self._first is None or wanted == 1 or not self._handle:
            yield from super().rows(ids, wanted)
            return
        if min(ids) < 0 or max(ids) >= self._vocabulary:
            raise EngineError(msg("a token the model does not have"))
        many = self._many = self._many or self._open_many(self._first)
        for start in range(0, len(ids), PREFILL_CHUNK):
            part = np.asarray(ids[start : start + PREFILL_CHUNK], np.int64)
            self._run(part.ctypes.data, len(part), many.trunk)
            here = min(len(part), wanted - (len(ids) - start - len(part)))
            if here > 0:
                yield from many.give(self._addresses, len(part), here, part.ctypes.data)

    def _open_many(self, first: int) -> ManyRows:
        many = ManyRows(
            self._library,
            self._program,
            self._plan,
            first=first,
            places=self._places,
            make=self._op,
            head=self._head,
        )
        if self._cache.capacity:
            try:
                self._many_tables = self._give_cache(many.trunk, self._cache)
            except MemoryError:
                many.close()
                raise
        return many

    def take_steps(self, alone: bool | None) -> None:
        """By one thread or by all, or by what was lately faster (None), which it is from the start. No bit changes."""
        self._library.way(self._handle, alone)

    def close(self) -> None:
        self._wait()
        if self._many:
            self._many.close()
        if self._handle:
            self._library.close(self._handle)
        self._handle = self._many = None
        self._cache = self._empty()
        self._matrices, self._buffers = {}, []
        self._panels = np.empty(0, np.uint8)
        self._row = self._row[:0]

    def _run(self, ids: int, count: int, handle: Any = None) -> None:
        """``count`` ids at an address. What stands between two steps finds no cache warm, so there is little of it."""
        end = self._length + count
        longest = self._program.longest
        if not self._handle or end > self._cache.capacity or (longest and end > longest):
            raise EngineError(_no_room(end))
        if self._packing:
            self._wait()
        self._cache.read = -1  # states change where they stand
        place = self._library.run(handle or self._handle, ids, count, self._length)
        if place >= 0:
            raise EngineError(broken(self._program.steps[place]))
        self._length = self._cache.read = end
        if end >= self._cache.due:
            self._cache.forget(end)

    def _wait(self) -> None:
        """Until all weights are packed."""
        if self._packing:
            self._packing.result()
            self._packing = None

    def _allocate(self, capacity: int) -> None:
        """A cache for ``capacity`` tokens; its memory is taken as it is written, not now."""
        self._settle()
        self._cache = self._empty()  # should memory run out below, nothing may run on what was there
        if capacity > INT_MAX:
            raise EngineError(_no_room(capacity))
        cache = self._room(capacity, self._kv_bits)
        self._tables = self._give_cache(self._handle, cache)
        if self._many:
            self._many_tables = self._give_cache(self._many.trunk, cache)
        self._cache = cache

    def _empty(self) -> Cache:
        return self._room(0)

    def _room(self, capacity: int, bits: int = 16) -> Cache:
        program = self._program
        return Cache(program.layers, capacity, bits, program.convolutions, program.recurrences)

    def _settle(self) -> None:
        """Wait until no thread reads the cache any more: one may be late at a step that is over.

        Raises:
            EngineError: It was closed.
        """
        if not self._handle:
            raise EngineError(_no_room(self._length))
        self._library.settle(self._handle)
        if self._many:
            self._library.settle(self._many.trunk)

    def _give_cache(self, handle: Any, cache: Cache) -> Any:
        heads = max(layer.heads for layer in self._program.layers)
        more: dict[str, Any] = {"bits": cache.bits, "inputs": cache.inputs, "states": cache.states}
        return self._library.cache(handle, cache.keys, cache.values, heads, self._head, **more)

    def _op(self, step: Step, places: Sequence[int], widths: Sequence[int]) -> Op:
        def ref(value: Value | None) -> Ref:
            if value is None:
                return Ref(-1, 0, 0)
            return Ref(places[value.buffer], value.offset, widths[value.buffer])

        op = Op(kind=step.kind, one=step.one, width=step.width, extra=step.extra, number=step.number, layer=step.layer)
        for place in range(3):
            op.src[place] = ref(step.inputs[place] if place < len(step.inputs) else None)
        for place in range(2):
            op.dst[place] = ref(step.outputs[place] if place < len(step.outputs) else None)
        for place, tensor in enumerate(step.tensors):
            op.data[place] = None if tensor is None else tensor.ctypes.data
        if step.weights is not None:
            op.matrix = self._matrices[id(step.weights)]
        if step.heads is not None:
            heads = step.heads
            op.shape = Shape(heads.heads, heads.heads // heads.kv_heads, heads.size, heads.window, heads.scale)
        if step.kind == Kind.LINEAR_ATTN:
            state = self._program.recurrences[step.layer]
            by_key = int(state.decays > 1)
            op.shape = Shape(state.heads, state.heads // state.groups, state.width, by_key, state.scale)
        return op


def _no_room(tokens: int) -> Translatable:
    return plural("there is no room for {n:,} token", "there is no room for {n:,} tokens", tokens)


def open_kernels(built: Built, program: Program, threads: int, spinning: bool = True) -> KernelEngine:
    """The engine for ``program`` by the library ``built``.

    Raises:
        OSError: The library can't be loaded.
        RuntimeError: It is not the one that was compiled.
    """
    return KernelEngine(Library(built), program, threads, spinning)


def _pack(library: Library, program: Program, threads: int) -> tuple[dict[int, Matrix], Array, Future[None] | None]:
    """All matrices on large pages, one behind the other as they are read; by their weights' identity. They are being
    packed when this returns; the future, if there is one, says when that is done.
    """
    weights = [step.weights for step in program.steps if step.weights is not None]
    ends = np.cumsum([0, *(-(-each.packed_bytes // 64) * 64 for each in weights)])
    panels = large_pages(int(ends[-1]))
    parts = [panels[start:end] for start, end in pairwise(ends)]

    def pack(place: int) -> Matrix:
        of = weights[place]

        def read(start: int, end: int) -> None:
            _forget(of.values[start:end])
            _forget(of.scales[start:end])

        return library.pack(of, parts[place], read)

    if library.packs_all:
        forget = all(_mapped(array) is not None for of in weights for array in (of.values, of.scales))
        found, work = library.packing(weights, parts, threads, forget)
        with_one = ThreadPoolExecutor(1, "packing")
        future: Future[None] | None = with_one.submit(work)
        with_one.shutdown(wait=False)
    else:  # compiled by an earlier version
        with ThreadPoolExecutor(threads) as pool:
            found, future = list(pool.map(pack, range(len(weights)))), None
    return {id(of): matrix for of, matrix in zip(weights, found, strict=True)}, panels, future


def _mapped(array: Array | None) -> Any:
    """The map of a file that ``array`` lies in, if that can be forgotten."""
    base: Any = array
    while base is not None and not isinstance(base, mmap.mmap):
        base = getattr(base, "base", None)
    return base if hasattr(mmap, "MADV_DONTNEED") else None


def _forget(array: Array | None) -> None:
    """Pages of a mapped file that were read and won't be again need not count as this process's memory."""
    base = _mapped(array)
    if base is None or array is None:
        return
    whole = np.frombuffer(base, np.uint8)
    start = array.ctypes.data - whole.ctypes.data
    first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
    size = (start + array.nbytes - first) // mmap.PAGESIZE * mmap.PAGESIZE
    del whole
    if size > 0:
        base.madvise(mmap.MADV_DONTNEED, first, size)


def _placed(program: Program) -> tuple[list[int], list[tuple[int, int]]]:
    """Buffers that are not needed at the same time share memory: for each its place, and each place's rows and width.

    Only buffers of one width share: steps that go row by row don't wait for each other, and a row must stay with its
    thread.
    """
    last: dict[int, int] = {}
    for index, step in enumerate(program.steps):
        for value in (*step.inputs, *step.outputs):
            if value is not None:
                last[value.buffer] = index
    assert program.logits is not None
    last[program.logits.buffer] = len(program.steps)
    places, sizes = [-1] * len(program.widths), []  # type: list[int], list[tuple[int, int]]
    free: dict[tuple[int, int], list[int]] = {}
    for index, step in enumerate(program.steps):
        for buffer in _buffers(step.outputs):
            if places[buffer] < 0:
                size = (1 if buffer in program.singles else PREFILL_CHUNK, program.widths[buffer])
                if not free.get(size):
                    sizes.append(size)
                    free.setdefault(size, []).append(len(sizes) - 1)
                places[buffer] = free[size].pop()
        for buffer in {*_buffers(step.inputs), *_buffers(step.outputs)}:
            if last[buffer] == index:
                free.setdefault((1 if buffer in program.singles else PREFILL_CHUNK, program.widths[buffer]), []).append(
                    places[buffer]
                )
    return places, sizes


def _buffers(values: Sequence[Value | None]) -> Iterator[int]:
    return (value.buffer for value in values if value is not None)
