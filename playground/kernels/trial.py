"""``python -m playground.kernels.trial LIBRARY SHA256``: runs a fresh library on numbers whose results are known.

Every kind of step is run as plans have it, on one row and on several, by two threads and by the caller alone, and held
against numpy. Exits with 0 if all are right, and else says which step is wrong and by how much. A process of its own,
for what a compiler made wrongly may crash.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Sequence
from ctypes import c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from playground.kernels.building import Built
from playground.kernels.library import (
    BLOCK,
    CHUNK,
    PANEL,
    Kind,
    Library,
    Matrix,
    Op,
    Plan,
    Ref,
    Room,
    Shape,
    Weights,
    large_pages,
    packed,
)
from playground.messages import msg

Array = NDArray[Any]

ALLOWED = 2e-3
"""Relative error of a product: scales are kept in half floats, activations rounded as the expectation rounds them."""
ALLOWED_ATTENTION = 1e-3
"""Of attention: a key that is turned in fp32 may become another half float than one that is turned in fp64."""
ALLOWED_ROW = 1e-5
"""Of what goes row by row, in fp32."""
ALLOWED_STATE = 1e-4
"""Of what goes from token to token, in fp32."""
THREADS = 2
BESIDE = 5
"""Columns on either side of each value in its buffer, which nobody may write to."""


def main(arguments: list[str]) -> int:
    library = Library(Built(Path(arguments[0]), arguments[1]))
    for bits in (8, 4):
        for rows in (1, 2, 7, 13):
            _check_product(library, bits, rows)
    # Widths that are whole vectors of sixteen, and such that leave some numbers over.
    for width in (64, 75):
        with _row_steps(library, width) as steps:
            steps.run((1, 2, 19))
        for taps, biased in ((3, False), (5, True)):
            with _conv_steps(library, width, taps, biased) as steps:
                steps.run((1, 2, 19))
                steps.run((2, 1, 1, 18))
    # Heads with keys of their own and shared ones, values of two vectors together and of one that is left over.
    for state, keys, corrects in (
        (Shape(6, 3, 48, 0, 1.0), 32, False),
        (Shape(4, 1, 16, 1, 0.5), 16, False),
        (Shape(4, 2, 64, 0, 0.3), 48, True),
        (Shape(2, 1, 32, 1, 0.7), 16, True),
    ):
        with _state_steps(library, state, keys, corrects) as steps:
            steps.run((1, 2, 19))
            steps.run((2, 1, 1, 18))
    # Several heads of keys, and one; heads of whole tiles and of tiles with vectors left over; windows within a chunk
    # of the cache and over the borders of chunks; angles for all of a head, a part of it, none; scores that are capped;
    # sinks.
    for heads, cap, sinks in (
        (Shape(6, 3, 48, 0, 0.2), 0.0, False),
        (Shape(6, 3, 48, 5, 0.2), 0.0, True),
        (Shape(8, 8, 16, 70, 0.3), 0.7, False),
        (Shape(2, 1, 64, CHUNK, 0.15), 0.0, False),
    ):
        for turned, interleaved in ((heads.size, 0), (heads.size // 2, 1), (0, 0)):
            with _attention_steps(library, heads, turned, interleaved, cap=cap, sinks=sinks) as steps:
                steps.run((3, CHUNK + 6, 40, 1, 1, 14, 1, 1))
    return 0


# -- products alone --------------------------------------------------------------------------------------------------


def _matrix(library: Library, bits: int, outputs: int, width: int) -> tuple[Matrix, Array, Array]:
    """A random matrix for the kernels, what it stands for [outputs, width], and the array to keep alive."""
    random = np.random.default_rng(bits)
    blocks = width // BLOCK
    levels = random.integers(0, 2**bits, (outputs, blocks, BLOCK)).astype(np.uint8)
    scales = random.uniform(1e-3, 1e-2, (outputs, blocks)).astype(np.float32)
    zeros = random.integers(0, 16, (outputs, blocks)).astype(np.uint8) if bits == 4 else None
    middle: Any = 128.0 if zeros is None else zeros[..., None].astype(np.float32)
    weights = ((levels - middle) * scales[..., None]).reshape(outputs, width)
    if zeros is None:
        stored = Weights(bits, levels, scales, None)
    else:
        stored = Weights(bits, packed(levels), scales, packed(zeros))
    panels = large_pages(stored.packed_bytes)
    return library.pack(stored, panels), weights, panels


def _check_product(library: Library, bits: int, rows: int) -> None:
    outputs, width = 70, 3 * BLOCK
    matrix, weights, panels = _matrix(library, bits, outputs, width)
    x = np.random.default_rng(bits * rows).normal(size=(rows, width)).astype(np.float32)
    off = _error(library.product(matrix, x)[:, :outputs], rounded(x) @ weights.T)
    del panels
    if not off < ALLOWED:
        raise SystemExit(
            msg("error: a product of {rows} rows in {bits} bits is off by {off:.2g}", rows=rows, bits=bits, off=off)
        )


def rounded(x: Array) -> Array:
    """Activations as the kernels see them: eight bits, a scale for each block."""
    blocks = x.reshape(len(x), -1, BLOCK)
    scale = np.abs(blocks).max(-1, keepdims=True) / np.float32(127)
    result: Array = (np.rint(blocks / np.where(scale > 0, scale, 1)) * scale).reshape(x.shape)
    return result


def _error(found: Array, expected: Array) -> float:
    """The largest, as a share of the largest number; NaN where there is one."""
    with np.errstate(invalid="ignore"):
        return float(np.abs(found - expected).max() / np.abs(expected).max())


# -- plans -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Value:
    """Rows of a buffer: ``whole`` with the columns beside it, which hold NaN, and ``rows``, the value's own columns."""

    place: int
    whole: Array
    rows: Array

    @property
    def ref(self) -> Ref:
        return Ref(self.place, BESIDE, self.whole.shape[1])


@dataclass(frozen=True)
class _Expected:
    kind: Kind
    value: _Value
    numbers: Array
    allowed: float
    one: bool


class _Steps:
    """Steps in a plan of their own, over a text of ``length`` tokens that is read in parts.

    Args:
        most: Tokens of the longest part.
        ids: The text.
        shape: Of attention; what it keeps of earlier tokens is here.
    """

    def __init__(self, library: Library, most: int, ids: Array, shape: Shape | None = None) -> None:
        self._library, self._most, self.ids, self._shape = library, most, ids, shape
        self._values: list[_Value] = []
        self._inputs: list[tuple[_Value, Array]] = []
        self._expected: list[_Expected] = []
        self._ops: list[Op] = []
        self._kept: list[Any] = []
        self._handle: Any = None
        self._looking: tuple[Kind, ...] = ()  # what must find numbers that are none

    def value(self, width: int) -> _Value:
        whole = np.full((self._most, width + 2 * BESIDE), np.nan, np.float32)
        self._values.append(_Value(len(self._values), whole, whole[:, BESIDE : BESIDE + width]))
        return self._values[-1]

    def given(self, numbers: Array) -> _Value:
        """What stands before the steps: a row for each token of the text."""
        value = self.value(numbers.shape[1])
        self._inputs.append((value, numbers))
        return value

    def add(
        self,
        kind: Kind,
        sources: Sequence[_Value],
        expected: Sequence[Array],
        *,
        into: _Value | None = None,
        tables: Sequence[Array | None] = (),
        allowed: float = ALLOWED_ROW,
        **fields: Any,
    ) -> _Value:
        """A step that gives ``expected``, of which there is a row for each token of the text; its first result.

        Args:
            into: The value it writes, where another step wrote some rows of it.
        """
        op = Op(kind=kind, **({"width": expected[0].shape[1] if expected else 0} | fields))
        results = [into] if into else [self.value(numbers.shape[1]) for numbers in expected]
        for refs, values in ((op.src, sources), (op.dst, results)):
            for place in range(len(refs)):
                refs[place] = values[place].ref if place < len(values) else Ref(-1, 0, 0)
        for place, table in enumerate(tables):
            op.data[place] = None if table is None else table.ctypes.data
        self._kept.append(tables)
        self._ops.append(op)
        for value, numbers in zip(results, expected, strict=True):
            self._expected.append(_Expected(kind, value, numbers, allowed, bool(op.one)))
        return results[0] if results else sources[0]

    def look_for_odd(self, *kinds: Kind) -> None:
        """Steps of ``kinds`` must find numbers that are infinite or none."""
        self._looking = kinds

    def keep(self, *arrays: Any) -> None:
        self._kept += arrays

    def __enter__(self) -> _Steps:
        count, library, shape = len(self._values), self._library, self._shape
        addresses = (c_void_p * count)(*(value.whole.ctypes.data for value in self._values))
        rooms = (Room * count)(*(Room(*value.whole.shape) for value in self._values))
        ops = (Op * len(self._ops))(*self._ops)
        blocks = max((op.extra for op in self._ops if op.kind in (Kind.QUANTISE, Kind.QUANTISE_ROWS)), default=1)
        acts, held = library.acts(self._most, blocks * BLOCK)
        plan = Plan(len(ops), THREADS, ops, addresses, acts, rooms, count, int(shape is not None), self._most, blocks)
        size = shape.size if shape else 16
        self._handle = library.open(plan, size, spinning=False)
        self.keep(addresses, rooms, ops, held, plan)
        if shape:
            heads, capacity = shape.heads // shape.groups, -(-len(self.ids) // CHUNK) * CHUNK
            # A cache that was gone back in holds other numbers behind the last token.
            keys = np.full((heads, capacity // CHUNK, size, CHUNK), 7.0, np.float16)
            values = np.full((heads, capacity, size), 7.0, np.float16)
            inputs = [np.full((capacity, op.width), 7.0, np.float32) for op in ops if op.kind == Kind.CAUSAL_CONV]
            states = [np.full(op.width * op.extra, 7.0, np.float32) for op in ops if op.kind == Kind.LINEAR_ATTN]
            self.keep(keys, values, inputs, states)
            more: dict[str, Any] = {"inputs": inputs, "states": states}
            self.keep(library.cache(self._handle, [keys], [values], shape.heads, size, **more))
        return self

    def __exit__(self, *_: object) -> None:
        self._library.close(self._handle)

    def run(self, parts: Sequence[int]) -> None:
        """Read the text in ``parts``, twice: by all threads, and by the caller alone.

        Raises:
            SystemExit: A number is wrong, or stands where none should.
        """
        for alone in (False, True):
            self._library.way(self._handle, alone)
            start = 0
            for count in parts:
                for value in self._values:
                    value.whole[:] = np.nan
                for value, numbers in self._inputs:
                    value.rows[:count] = numbers[start : start + count]
                odd = self._library.run(self._handle, self.ids[start:].ctypes.data, count, start)
                # Of one token ATTN_REDUCE puts partial results together; of several FLASH_ATTN does all of it.
                idle = Kind.FLASH_ATTN if count == 1 else Kind.ATTN_REDUCE
                for expected in self._expected:
                    if expected.kind != idle:
                        self._compare(expected, start, count)
                if odd >= 0:
                    step = Kind(self._ops[odd].kind).name
                    raise SystemExit(msg("error: {step} takes its numbers for infinite or none", step=step))
                start += count
            odd_ones = (np.nan, np.inf, -np.inf)
            for kind, number, count in itertools.product(self._looking, odd_ones, (1, self._most)):
                self._plant(kind, number, count)

    def _plant(self, kind: Kind, odd: float, count: int) -> None:
        """A number that is none, or infinite, in the last of ``count`` rows that the first step of ``kind`` reads: it
        must find it.

        Raises:
            SystemExit: It is not.
        """
        place = next(place for place, op in enumerate(self._ops) if op.kind == kind)
        for value, numbers in self._inputs:
            value.rows[:count] = numbers[:count]
        for source in self._ops[place].src[: {Kind.ROPE: 3, Kind.LINEAR_ATTN: 2}.get(kind, 1)]:
            last = self._values[source.buffer].rows[count - 1]
            right, last[-1] = last[-1], odd
            found = self._library.run(self._handle, self.ids.ctypes.data, count, 0)
            last[-1] = right
            if found != place:
                raise SystemExit(msg("error: {step} takes {number} for a number", step=kind.name, number=str(odd)))

    def _compare(self, expected: _Expected, start: int, count: int) -> None:
        rows = 1 if expected.one else count
        off = _error(expected.value.rows[:rows], expected.numbers[start + count - rows : start + count])
        if not off < expected.allowed:
            raise SystemExit(
                msg(
                    "error: {step} of {rows} rows is off by {off:.2g}",
                    step=f"{expected.kind.name} (width {expected.value.rows.shape[1]})",
                    rows=rows,
                    off=off,
                )
            )
        whole = expected.value.whole
        if np.isfinite(whole).sum() != rows * expected.value.rows.shape[1]:
            raise SystemExit(msg("error: {step} writes beside its numbers", step=expected.kind.name))


# -- steps that go row by row ------------------------------------------------------------------------------------------


def _row_steps(library: Library, width: int) -> _Steps:
    """Every step but attention's, each on sources of its own."""
    random = np.random.default_rng(width)
    length, words, outputs = 22, 11, 64
    steps = _Steps(library, length, random.integers(0, words, length))
    drawn = [random.normal(size=(length, width)).astype(np.float32) * 3 + place // 4 for place in range(6)]
    x, y, z, v, w, u = (steps.given(numbers) for numbers in drawn)
    a, b, _, n, c, d = (numbers.astype(np.float64) for numbers in drawn)
    row = random.normal(size=width).astype(np.float32)

    steps.add(Kind.ADD, (x, y), (a + b,))
    steps.add(Kind.MUL, (x, y), (a * b,))
    steps.add(Kind.ADD_ROW, (x,), (a + row,), tables=(row,))
    steps.add(Kind.SCALE, (x,), (a * 1.75,), number=1.75)
    steps.add(Kind.SOFTCAP, (y,), (1.5 * np.tanh(b / 1.5),), number=1.5)
    steps.add(Kind.CLAMP, (u,), (np.clip(d, -0.75, 0.75),), number=0.75)
    for kind, result in _activated(a).items():
        steps.add(kind, (x,), (result,))
        steps.add(kind, (x, y), (result * b,))
    for together in (width, width // 3 if width % 3 == 0 else width // 2):
        weight, epsilon = row[:together], 0.01
        steps.add(Kind.RMS_NORM, (v,), (_normed(n, weight, epsilon),), tables=(weight,), extra=together, number=epsilon)
        sums = (_normed(n + b, weight, epsilon), n + b)
        steps.add(Kind.RMS_NORM, (v, y), sums, tables=(weight,), extra=together, number=epsilon)
    for bias in (None, random.normal(size=width).astype(np.float32)):
        # Of numbers around something else than zero.
        for sources, numbers in (((w,), c), ((w, y), c + b)):
            tables, results = (row, bias), (_layer_normed(numbers, row, bias, 0.01), numbers)
            steps.add(Kind.LAYER_NORM, sources, results[: len(sources)], tables=tables, number=0.01)
    _add_embeddings(steps, random, words, width)
    _add_experts(steps, library, random, width)
    _add_heads(steps, random, width)

    blocks = -(-width // BLOCK)
    filled = np.pad(drawn[2], ((0, 0), (0, blocks * BLOCK - width)))
    for bits in (8, 4):
        matrix, weights, panels = _matrix(library, bits, outputs, blocks * BLOCK)
        steps.keep(panels)
        steps.add(Kind.QUANTISE, (z,), (), width=width, extra=blocks)
        steps.add(Kind.MUL_MAT, (), (rounded(filled) @ weights.T,), matrix=matrix, allowed=ALLOWED)
    last = steps.add(Kind.GET_ROWS_LAST, (x,), (a,), one=1)
    steps.add(Kind.SCALE, (last,), (a * -2,), one=1, number=-2.0)
    steps.look_for_odd(
        *(Kind.SOFTCAP, Kind.CLAMP, Kind.RELU, Kind.RMS_NORM, Kind.LAYER_NORM, Kind.QUANTISE),
        *(Kind.SOFT_MAX, Kind.TOP_K, Kind.SWIGLU, Kind.QUANTISE_ROWS, Kind.SOFTPLUS),
    )
    return steps


def _add_experts(steps: _Steps, library: Library, random: np.random.Generator, width: int) -> None:
    """How experts are chosen, on numbers of their own, and products with three of four for each token."""
    length, parts, experts, outputs = len(steps.ids), 3, 4, 2 * PANEL

    def drawn(columns: int) -> tuple[_Value, Array]:
        numbers = random.normal(size=(length, columns)).astype(np.float32)
        return steps.given(numbers), numbers.astype(np.float64)

    (x, a), (y, b), (column, c) = drawn(width), drawn(width), drawn(1)
    router = random.normal(size=(width, 21)).astype(np.float32)
    steps.add(Kind.MUL_MAT_F32, (x,), (a @ router,), tables=(router,), extra=width)
    steps.add(Kind.SOFT_MAX, (y,), (np.exp(b) / np.exp(b).sum(-1, keepdims=True),))
    steps.add(Kind.SUM_ROWS, (x,), (a.sum(-1, keepdims=True),), width=width)
    steps.add(Kind.MUL_COL, (x, column), (a * c,))
    steps.add(Kind.DIV_COL, (x, column), (a / c,))
    scores = random.integers(-9, 9, (length, width)).astype(np.float32)  # some of them are equal
    places = np.argsort(-scores, axis=-1, kind="stable")[:, :parts].astype(np.float64)
    best = np.take_along_axis(scores, places.astype(int), -1)
    steps.add(Kind.TOP_K, (steps.given(scores),), (best, places), width=width, extra=parts)
    chosen = np.stack([random.permutation(experts)[:parts] for _ in range(length)])
    at = steps.given(chosen.astype(np.float32))
    steps.add(Kind.GET_COLS, (x, at), (np.take_along_axis(a, chosen, -1),), extra=width)

    (gates, both), told = drawn(2 * width), np.array([1.7, 1.0, 0.9], np.float32)
    gate, other = np.minimum(both[:, ::2], told[2]), np.clip(both[:, 1::2], -told[2], told[2])
    steps.add(Kind.SWIGLU, (gates,), (gate / (1 + np.exp(-told[0] * gate)) * (other + told[1]),), tables=(told,))
    (wide, d), (weights, w) = drawn(parts * width), drawn(parts)
    table = random.normal(size=(experts, width)).astype(np.float32)
    sources = (wide, at)
    biased = (d + table[chosen].reshape(length, -1),)
    steps.add(Kind.ADD_ID, sources, biased, tables=(table,), width=width, extra=parts, layer=experts)
    summed = np.einsum("tpw,tp->tw", d.reshape(length, parts, width), w)
    steps.add(Kind.SUM_ID, (wide, weights), (summed,), extra=parts)

    blocks = -(-width // BLOCK)
    for bits, own in itertools.product((8, 4), (1, parts)):
        columns = width if own == 1 else own * blocks * BLOCK
        source, numbers = drawn(columns)
        matrix, each, panels = _matrix(library, bits, experts * outputs, blocks * BLOCK)
        steps.keep(panels)
        filled = np.pad(numbers, ((0, 0), (0, own * blocks * BLOCK - columns))).astype(np.float32)
        of = np.broadcast_to(rounded(filled).reshape(length, own, -1), (length, parts, blocks * BLOCK))
        result = np.einsum("tpi,tpoi->tpo", of, each.reshape(experts, outputs, -1)[chosen])
        steps.add(Kind.QUANTISE_ROWS, (source,), (), width=columns, extra=own * blocks)
        more: dict[str, Any] = {"width": outputs, "extra": parts, "layer": own, "matrix": matrix, "allowed": ALLOWED}
        steps.add(Kind.MUL_MAT_ID, (at,), (result.reshape(length, -1),), **more)


def _add_heads(steps: _Steps, random: np.random.Generator, width: int) -> None:
    """What stands around a recurrence, on numbers of its own."""
    length, size = len(steps.ids), width // 3 if width % 3 == 0 else width // 2

    def drawn(columns: int) -> tuple[_Value, Array]:
        numbers = 3 * random.normal(size=(length, columns)).astype(np.float32)
        return steps.given(numbers), numbers.astype(np.float64)

    (x, a), (y, b), (column, c) = drawn(width), drawn(width // size), drawn(3)
    steps.add(Kind.SOFTPLUS, (x,), (np.logaddexp(0, a),))
    steps.add(Kind.SOFTPLUS, (x, x), (np.logaddexp(0, a) * a,))
    row = random.normal(size=width).astype(np.float32)
    steps.add(Kind.MUL_ROW, (x,), (a * row,), tables=(row,))
    steps.add(Kind.MUL_HEADS, (x, y), (a * np.repeat(b, size, axis=1),), extra=size)
    steps.add(Kind.CONCAT, (x, column), (np.hstack((a, c)),), extra=width, layer=3)
    steps.add(Kind.CONCAT, (column, x, y), (np.hstack((c, a, b)),), extra=3, layer=width)


def _add_embeddings(steps: _Steps, random: np.random.Generator, words: int, width: int) -> None:
    table = random.normal(size=(words, width)).astype(np.float32)
    steps.add(Kind.GET_ROWS_F32, (), (table[steps.ids],), tables=(table,))
    places = random.normal(size=(len(steps.ids), width)).astype(np.float32)
    steps.add(Kind.GET_ROWS_POS, (), (places,), tables=(places,))
    blocks = -(-width // BLOCK)
    levels = random.integers(0, 256, (words, blocks * BLOCK)).astype(np.uint8)
    scales = random.uniform(1e-3, 1e-2, (words, blocks)).astype(np.float32)
    zeros = random.integers(0, 256, (words, blocks)).astype(np.uint8)
    for middles in (None, zeros):
        middle = np.float64(128) if middles is None else np.repeat(middles, BLOCK, axis=1).astype(np.float64)
        meant = (levels - middle) * np.repeat(scales, BLOCK, axis=1)
        steps.add(Kind.GET_ROWS_Q8, (), (meant[steps.ids],), tables=(levels, scales, middles))


def _activated(x: Array) -> dict[Kind, Array]:
    sigmoid = 1 / (1 + np.exp(-x))
    return {
        Kind.SILU: x * sigmoid,
        Kind.GELU: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        Kind.GELU_ERF: x / 2 * (1 + np.vectorize(math.erf)(x / math.sqrt(2))),
        Kind.RELU: np.maximum(x, 0),
        Kind.SIGMOID: sigmoid,
    }


def _normed(x: Array, weight: Array, epsilon: float) -> Array:
    parts = x.reshape(len(x), -1, len(weight))
    result: Array = parts / np.sqrt((parts**2).mean(-1, keepdims=True) + epsilon) * weight
    return result.reshape(x.shape)


def _layer_normed(x: Array, weight: Array, bias: Array | None, epsilon: float) -> Array:
    middle = x - x.mean(-1, keepdims=True)
    result: Array = middle / np.sqrt((middle**2).mean(-1, keepdims=True) + epsilon) * weight
    return result if bias is None else result + bias


# -- convolutions ------------------------------------------------------------------------------------------------------


def _conv_steps(library: Library, width: int, taps: int, biased: bool) -> _Steps:
    """Two convolutions, the second over what the first gives, and a step behind them."""
    random = np.random.default_rng(width * taps)
    length = 22
    steps = _Steps(library, length, np.zeros(length, np.int64), Shape(1, 1, 16, 0, 1.0))
    numbers = random.normal(size=(length, width)).astype(np.float32)
    value, expected = steps.given(numbers), numbers.astype(np.float64)
    for layer in range(2):
        weights = random.normal(size=(taps, width)).astype(np.float32)
        bias = random.normal(size=width).astype(np.float32) if biased else None
        padded = np.concatenate([np.zeros((taps - 1, width)), expected])
        expected = np.sum([weights[tap] * padded[tap : tap + length] for tap in range(taps)], axis=0)
        expected = expected if bias is None else expected + bias
        tables = (weights, bias)
        value = steps.add(Kind.CAUSAL_CONV, (value,), (expected,), tables=tables, extra=taps, layer=layer)
    steps.add(Kind.SCALE, (value,), (expected * 3,), number=3.0)
    steps.look_for_odd(Kind.CAUSAL_CONV)
    return steps


# -- recurrences -------------------------------------------------------------------------------------------------------


def _state_steps(library: Library, shape: Shape, size: int, corrects: bool) -> _Steps:
    """Two recurrences over keys of ``size`` numbers, the second over what the first gives, and a step behind them."""
    random = np.random.default_rng(shape.size + size + shape.window)
    length, heads, width = 22, shape.heads, shape.size
    steps = _Steps(library, length, np.zeros(length, np.int64), Shape(1, 1, 16, 0, 1.0))
    numbers = random.normal(size=(length, heads * width)).astype(np.float32)
    value, expected = steps.given(numbers), numbers.astype(np.float64)
    for layer in range(2):
        keys = [random.normal(size=(length, heads // shape.groups * size)).astype(np.float32) for _ in range(2)]
        keys = [each / np.float32(np.sqrt(size)) for each in keys]
        beside = [-random.uniform(0, 2, (length, heads * (size if shape.window else 1))).astype(np.float32)]
        beside += [random.uniform(0, 1, (length, heads)).astype(np.float32)] if corrects else []
        sources = [steps.given(each) for each in keys]
        parts: dict[str, Any] = {"extra": heads * width, "layer": beside[0].shape[1], "allowed": ALLOWED_STATE}
        row = (np.hstack((expected, *beside)),)
        joined = steps.add(Kind.CONCAT, (value, *map(steps.given, beside)), row, **parts)
        expected = _attended(shape, size, expected, keys, beside)
        fields = {"shape": shape, "extra": size, "number": float(corrects), "layer": layer}
        more: dict[str, Any] = {"allowed": ALLOWED_STATE} | fields
        value = steps.add(Kind.LINEAR_ATTN, (*sources, joined), (expected,), **more)
    steps.add(Kind.SCALE, (value,), (expected * 3,), number=3.0, allowed=ALLOWED_STATE)
    steps.look_for_odd(Kind.LINEAR_ATTN)
    return steps


def _attended(shape: Shape, size: int, values: Array, keys: Sequence[Array], beside: Sequence[Array]) -> Array:
    """Token by token in fp64; ``keys``: queries and keys."""
    heads, length = shape.heads, len(values)
    query, key = (np.repeat(each.astype(np.float64).reshape(length, -1, size), shape.groups, axis=1) for each in keys)
    decays = np.exp(beside[0].astype(np.float64).reshape(length, heads, -1, 1))
    state, found = np.zeros((heads, size, shape.size)), np.empty((length, heads, shape.size))
    for token, given in enumerate(values.reshape(length, heads, -1)):
        state, value = state * decays[token], given
        if len(beside) > 1:
            value = (given - np.einsum("hsw,hs->hw", state, key[token])) * beside[1][token][:, None]
        state = state + key[token][..., None] * value[:, None]
        found[token] = shape.scale * np.einsum("hsw,hs->hw", state, query[token])
    return found.reshape(length, -1)


# -- attention ---------------------------------------------------------------------------------------------------------


def _attention_steps(
    library: Library, shape: Shape, turned: int, interleaved: int, *, cap: float, sinks: bool
) -> _Steps:
    """Angles, the cache and attention over a text of two chunks and a bit."""
    random = np.random.default_rng(shape.size + shape.window + turned)
    length, heads, kv_heads, size = 2 * CHUNK + 3, shape.heads, shape.heads // shape.groups, shape.size
    drawn = [random.normal(size=(length, count * size)).astype(np.float32) for count in (heads, kv_heads, kv_heads)]
    angles = np.outer(np.arange(length), 1 / 50 ** np.linspace(0, 1, max(1, turned // 2)))
    tables = [np.ascontiguousarray(part(angles), np.float32) for part in (np.cos, np.sin)] if turned else []

    q, k, v = (numbers.astype(np.float64).reshape(length, -1, size) for numbers in drawn)
    if turned:
        q, k = (_turned(each, turned, interleaved, *tables) for each in (q, k))
    q = q * shape.scale
    kept = [np.repeat(each.astype(np.float16).astype(np.float64), shape.groups, axis=1) for each in (k, v)]
    scores = np.einsum("thd,shd->hts", q, kept[0])
    if cap:
        scores = cap * np.tanh(scores / cap)
    ahead = np.arange(length)[:, None] - np.arange(length)
    unseen = (ahead < 0) | (ahead >= (shape.window or length))
    weights = np.exp(np.where(unseen, -np.inf, scores))
    sunk = random.normal(size=heads).astype(np.float32) + 1 if sinks else None
    total = weights.sum(-1, keepdims=True) + (0.0 if sunk is None else np.exp(sunk[:, None, None].astype(np.float64)))
    attended = np.einsum("hts,shd->thd", weights / total, kept[1])

    steps = _Steps(library, CHUNK + 6, np.zeros(length, np.int64), shape)
    sources = [steps.given(numbers) for numbers in drawn]
    fields: dict[str, Any] = {"shape": shape, "layer": 0}
    queries = (q.reshape(length, -1),)
    asked = steps.add(Kind.ROPE, sources, queries, tables=tables, width=turned, extra=interleaved, **fields)
    out, wide = steps.value(heads * size), (attended.reshape(length, -1),)
    for kind, number in ((Kind.FLASH_ATTN, cap), (Kind.ATTN_REDUCE, 0.0)):
        more = {"allowed": ALLOWED_ATTENTION, "number": number} | fields
        steps.add(kind, (asked,), wide, into=out, tables=(sunk,), **more)
    if turned == size and not interleaved:
        alone = _turned(drawn[0].astype(np.float64).reshape(length, -1, size), size, 0, *tables)
        steps.add(Kind.ROTATE, sources[:1], (alone.reshape(length, -1),), tables=tables, extra=size)
    steps.look_for_odd(Kind.ROPE)
    return steps


def _turned(x: Array, turned: int, interleaved: int, cosine: Array, sine: Array) -> Array:
    """``x`` [tokens, heads, size] with the first ``turned`` numbers of each head turned in pairs by their angles."""
    half = turned // 2
    one, other = (slice(0, turned, 2), slice(1, turned, 2)) if interleaved else (slice(0, half), slice(half, turned))
    result, cosine, sine = x.copy(), cosine[:, None], sine[:, None]
    result[..., one] = x[..., one] * cosine - x[..., other] * sine
    result[..., other] = x[..., other] * cosine + x[..., one] * sine
    return result


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
