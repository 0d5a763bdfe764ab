"""Whether a program stays inside its buffers and its constants, looked at once, before the kernels see it.

The kernels check nothing while they run, and a program is made of a graph that anybody may have written. So every
place, size and type of every step is compared here with what there is; ``lowering`` need not be right for a graph
to be harmless. The module knows what each step reads and writes; it knows neither ONNX nor why a step is there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from playground.kernels.library import BLOCK, MAX_HEAD, MAX_QUERIES, PANEL, Kind, Weights, mean_copies
from playground.messages import Translatable, msg
from playground.runtimes.native.program import (
    Array,
    Convolution,
    Heads,
    Program,
    Recurrence,
    Step,
    Value,
    refuse,
    whole,
)

VECTOR = 16
"""Numbers a head has a multiple of."""

_BY_HEADS = frozenset((Kind.MUL_HEADS, Kind.CONCAT, Kind.LINEAR_ATTN))
_OF_OTHER_WIDTHS = _BY_HEADS | frozenset(
    (
        *(Kind.MUL_MAT_F32, Kind.SOFT_MAX, Kind.TOP_K, Kind.GET_COLS, Kind.SUM_ROWS, Kind.MUL_COL, Kind.DIV_COL),
        *(Kind.MUL_MAT_ID, Kind.ADD_ID, Kind.SWIGLU, Kind.SUM_ID),
    )
)
_ACTIVATIONS = frozenset((Kind.SILU, Kind.GELU, Kind.GELU_ERF, Kind.RELU, Kind.SIGMOID))


def check(program: Program) -> None:
    """Look at all of ``program``.

    Raises:
        NotForKernels: A step would reach beyond what it was given.
    """
    whole(lambda found: msg("the graph has a vocabulary of {value}", value=found), program.tokens)
    if program.longest is not None:
        whole(lambda found: msg("the graph has positions for {value}", value=found), program.longest)
    for width in program.widths:
        whole(lambda found: msg("the graph has a buffer of {value}", value=found), width)
    if not program.layers:
        refuse(msg("the graph has no attention"))
    for heads in program.layers:
        check_heads(heads)
    for convolution in program.convolutions:
        for size in (convolution.width, convolution.taps):
            whole(lambda found: msg("the graph has a convolution over {value}", value=found), size)
    for recurrence in program.recurrences:
        check_recurrence(recurrence)
    walk = _Walk(program)
    for step in program.steps:
        walk.step(step)
    logits = program.logits
    if logits is None or not walk.can_read(logits) or not logits.one or logits.width != program.vocab:
        refuse(msg("the graph has logits that no step gives"))


def check_heads(heads: Heads) -> None:
    """Whether the kernels have room for such heads.

    Raises:
        NotForKernels: They have not.
    """
    for name in ("heads", "kv_heads", "size"):
        whole(partial(_attention_whose, name), getattr(heads, name))
    whole(lambda found: msg("the graph has a window of {value}", value=found), heads.window, least=0)
    if not 0 <= heads.softcap < math.inf:
        refuse(msg("the graph has a softcap of {value}", value=str(heads.softcap)))
    groups, odd = divmod(heads.heads, heads.kv_heads)
    if heads.size % VECTOR or heads.size > MAX_HEAD or odd or groups > MAX_QUERIES:
        refuse(
            msg(
                "the graph has heads of {size} numbers, {heads} over {kv_heads}",
                size=heads.size,
                heads=heads.heads,
                kv_heads=heads.kv_heads,
            )
        )


def check_recurrence(each: Recurrence) -> None:
    """Whether the kernels have room for such a state.

    Raises:
        NotForKernels: They have not.
    """
    said = partial(recurrence_whose, "size")
    for size in (each.heads, each.groups, each.size, each.width, each.heads * each.size * each.width):
        whole(said, size)
    for size in (each.size, each.width):
        if size % VECTOR or size > MAX_HEAD:
            refuse(said(str(size)))
    if each.heads % each.groups:
        refuse(recurrence_whose("groups", str(each.groups)))
    if each.decays not in (1, each.size) or type(each.corrects) is not bool:
        refuse(recurrence_whose("decays", str(each.decays)))
    if not math.isfinite(each.scale):
        refuse(recurrence_whose("scale", str(each.scale)))


def recurrence_whose(name: str, found: str) -> Translatable:
    """What is said of a recurrence that is refused."""
    return msg("the graph has a recurrence whose {name} is {value}", name=name, value=found)


def _attention_whose(name: str, found: str) -> Translatable:
    return msg("the graph has attention whose {name} is {value}", name=name, value=found)


class _Walk:
    """The steps in order: what was written so far, and what the last rounding left."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._written: set[int] = set()
        # Blocks, whether of the last row alone, and whether of each row by itself.
        self._rounded: tuple[int, bool, bool] | None = None
        self._layers = self._convolutions = self._recurrences = 0
        self._attending: Value | None = None
        self._sinks: tuple[Array | None, ...] = ()

    def step(self, step: Step) -> None:
        """Look at one step, which the kernels take behind those before."""
        kind = step.kind
        if kind in (Kind.ROPE, Kind.FLASH_ATTN, Kind.ATTN_REDUCE):
            self._attention(step)
            return
        width = whole(
            lambda found: msg("the graph has a step {kind} of {value}", kind=kind.name, value=found), step.width
        )
        if kind in _OF_OTHER_WIDTHS:
            (self._by_heads if kind in _BY_HEADS else self._of_parts)(step, width)
            return
        if kind in (Kind.QUANTISE, Kind.QUANTISE_ROWS):
            self._takes(step, width, 1, 1)
            self._fits(not step.outputs and step.extra == -(-width // BLOCK), step)
            self._rounded = (step.extra, step.one, kind == Kind.QUANTISE_ROWS)
            return
        if kind == Kind.MUL_MAT:
            self._fits(not step.inputs and step.weights is not None, step)
            self._weights(step, step.weights)
        elif kind in (Kind.GET_ROWS_Q8, Kind.GET_ROWS_F32, Kind.GET_ROWS_POS):
            self._fits(not step.inputs and not step.one, step)
            self._table(step, width)
        elif kind == Kind.GET_ROWS_LAST:
            self._fits(step.one and not any(value and value.one for value in step.inputs), step)
            self._takes(step, width, 1, 1, one=False)
        else:
            self._takes(step, width, *((2, 2) if kind in (Kind.ADD, Kind.MUL) else (1, 2)))
        if kind == Kind.RMS_NORM:
            size = whole(lambda found: msg("the graph has a norm of {value}", value=found), step.extra)
            self._fits(width % size == 0, step)
            self._tensors(step, (np.float32, (size,)))
        elif kind == Kind.LAYER_NORM:
            biases = [(np.float32, (width,))] if len(step.tensors) > 1 and step.tensors[1] is not None else []
            self._tensors(step, (np.float32, (width,)), *biases)
        elif kind in (Kind.ROTATE, Kind.CAUSAL_CONV):
            (self._rotates if kind == Kind.ROTATE else self._convolves)(step, width)
        elif kind in (Kind.ADD_ROW, Kind.MUL_ROW):
            self._tensors(step, (np.float32, (width,)))
        elif kind in (Kind.SOFTCAP, Kind.CLAMP):
            self._fits(0 < step.number < math.inf and not any(step.inputs[1:]), step)
        self._gives(step, width, 2 if kind in (Kind.RMS_NORM, Kind.LAYER_NORM) else 1)

    def can_read(self, value: Value) -> bool:
        """Whether its columns are in its buffer, of which a step before has written rows."""
        room = self._program.widths[value.buffer] if 0 <= value.buffer < len(self._program.widths) else 0
        inside = value.offset >= 0 and value.width >= 1 and value.offset + value.width <= room
        return inside and value.buffer in self._written and value.one == (value.buffer in self._program.singles)

    def _takes(self, step: Step, width: int, least: int, most: int, *, one: bool | None = None) -> None:
        """``least`` to ``most`` inputs of ``width``, all rows or the last as the step has them."""
        given = [value for value in step.inputs if value is not None]
        rows = step.one if one is None else one
        good = least <= len(given) <= len(step.inputs) <= most and step.inputs[0] is not None
        self._fits(good and all(self._reads(value, width, rows) for value in given), step)

    def _reads(self, value: Value, width: int, one: bool) -> bool:
        return self.can_read(value) and value.width == width and value.one == one

    def _gives(self, step: Step, width: int, most: int = 1) -> None:
        """Outputs of ``width``, each in a buffer that nothing was written to before."""
        given = [value for value in step.outputs if value is not None]
        self._fits(len(given) >= 1 and step.outputs[0] is not None and not any(step.outputs[most:]), step)
        for value in given:
            self._fits(value.buffer not in self._written, step)
            self._written.add(value.buffer)
            self._fits(self._reads(value, width, step.one), step)

    def _weights(self, step: Step, weights: Weights | None) -> None:
        """The matrix has what it says, fits what was rounded for it, and its panels fit its buffer."""
        assert weights is not None
        outputs, blocks, means, bits = step.width, weights.blocks, weights.mean_blocks, weights.bits
        self._fits(bits in (4, 8) and blocks >= 1, step)
        self._fits(means in (0, *(-(-copies * blocks // BLOCK) for copies in (1, mean_copies(blocks)))), step)
        self._fits(weights.outputs == outputs and self._rounded == (blocks, step.one, False), step)
        self._matrix(step, weights)
        out = step.outputs[0] if step.outputs else None
        panels = whole(
            lambda found: msg("the graph has outputs of a product, {value}", value=found), -(-outputs // PANEL) * PANEL
        )
        self._fits(out is not None and out.offset == 0 and self._width(out) >= panels, step)

    def _matrix(self, step: Step, weights: Weights) -> None:
        """The matrix has what it says."""
        outputs, blocks, means, bits = weights.outputs, weights.blocks, weights.mean_blocks, weights.bits
        stored = outputs, blocks + means
        self._array(step, weights.values, np.uint8, (*stored, BLOCK * bits // 8))
        self._array(step, weights.scales, np.float32, stored)
        if weights.zeros is not None:
            size = outputs * (stored[1] if bits == 8 else -(-stored[1] // 2))
            self._fits(weights.zeros.size == size, step)
            self._array(step, weights.zeros, np.uint8, weights.zeros.shape)

    def _of_parts(self, step: Step, width: int) -> None:
        """Steps whose sources and results have several widths: those of a mixture of experts."""
        kind = step.kind

        def said(found: str) -> Translatable:
            return msg("the graph has a step {kind} of {value}", kind=kind.name, value=found)

        parts = whole(said, step.extra)
        whole(said, 2 * width * parts)
        reads, writes = {
            Kind.MUL_MAT_F32: ((parts,), (width,)),
            Kind.SOFT_MAX: ((width,), (width,)),
            Kind.TOP_K: ((width,), (parts, parts)),
            Kind.GET_COLS: ((parts, width), (width,)),
            Kind.SUM_ROWS: ((width,), (1,)),
            Kind.MUL_COL: ((width, 1), (width,)),
            Kind.DIV_COL: ((width, 1), (width,)),
            Kind.MUL_MAT_ID: ((parts,), (width * parts,)),
            Kind.ADD_ID: ((width * parts, parts), (width * parts,)),
            Kind.SWIGLU: ((2 * width,), (width,)),
            Kind.SUM_ID: ((width * parts, parts), (width,)),
        }[kind]
        self._fits(len(step.inputs) == len(reads) and len(step.outputs) == len(writes), step)
        pairs = zip(step.inputs, reads, strict=True)
        self._fits(all(value is not None and self._reads(value, each, step.one) for value, each in pairs), step)
        if kind == Kind.MUL_MAT_F32:
            self._tensors(step, (np.float32, (parts, width)))
        elif kind == Kind.TOP_K:
            self._fits(parts <= width, step)
        elif kind == Kind.SWIGLU:
            self._tensors(step, (np.float32, (3,)))
        elif kind == Kind.ADD_ID:
            self._tensors(step, (np.float32, (step.layer, width)))
        elif kind == Kind.MUL_MAT_ID:
            self._experts(step, width, parts)
        for value, each in zip(step.outputs, writes, strict=True):
            self._fits(value is not None and value.buffer not in self._written, step)
            assert value is not None
            self._written.add(value.buffer)
            self._fits(self._reads(value, each, step.one), step)

    def _experts(self, step: Step, width: int, parts: int) -> None:
        """Matrices of one size, one behind the other."""
        weights = step.weights
        self._fits(weights is not None, step)
        assert weights is not None
        self._fits(width % PANEL == 0 and weights.outputs % width == 0 and weights.mean_blocks == 0, step)
        self._fits(weights.blocks >= 1 and weights.bits in (4, 8) and step.layer in (1, parts), step)
        self._fits(self._rounded == (weights.blocks * step.layer, step.one, True), step)
        whole(lambda found: msg("the graph has outputs of a product, {value}", value=found), weights.outputs)
        self._matrix(step, weights)

    def _width(self, value: Value) -> int:
        return self._program.widths[value.buffer] if 0 <= value.buffer < len(self._program.widths) else 0

    def _table(self, step: Step, width: int) -> None:
        """An embedding has a row for each token there may be, a table of positions one for each position."""
        table = step.tensors[0] if step.tensors else None
        known = self._program.longest if step.kind == Kind.GET_ROWS_POS else self._program.tokens
        rows = len(table) if table is not None and table.ndim == 2 else 0
        self._fits(known is not None and rows >= known, step)
        if step.kind != Kind.GET_ROWS_Q8:
            self._tensors(step, (np.float32, (rows, width)))
            return
        blocks = rows, width // BLOCK
        self._fits(width % BLOCK == 0, step)
        zeros = [(np.uint8, blocks)] if len(step.tensors) > 2 and step.tensors[2] is not None else []
        self._tensors(step, (np.uint8, (rows, width)), (np.float32, blocks), *zeros)

    def _attention(self, step: Step) -> None:
        """Three steps for each layer: turn and keep, attend, put together."""
        layer = self._layers if step.kind == Kind.ROPE else self._layers - 1
        self._fits(step.layer == layer and 0 <= layer < len(self._program.layers) and not step.one, step)
        heads = self._program.layers[layer]
        self._fits(step.heads == heads, step)
        wide, narrow = heads.heads * heads.size, heads.kv_heads * heads.size
        if step.kind == Kind.ROPE:
            self._layers += 1
            widths = (wide, narrow, narrow)
            good = len(step.inputs) == len(widths)
            pairs = zip(step.inputs, widths, strict=False)
            self._fits(good and all(value and self._reads(value, width, False) for value, width in pairs), step)
            self._angles(step, heads)
            self._gives(step, wide)
            return
        self._takes(step, wide, 1, 1)
        if step.kind == Kind.FLASH_ATTN:
            self._fits(step.number == heads.softcap, step)
            self._gives(step, wide)
            self._attending, self._sinks = step.outputs[0], step.tensors
        else:  # of one token; FLASH_ATTN wrote there for several
            self._fits(self._attending is not None and step.outputs == (self._attending,), step)
            self._fits(len(step.tensors) == len(self._sinks), step)
            self._attending = None
        self._tensors(step, *[(np.float32, (heads.heads,))] * len(step.tensors))

    def _angles(self, step: Step, heads: Heads) -> None:
        """Cosines and sines for every position there may be, of a part of a head at most."""
        turned, longest = (
            whole(lambda found: msg("the graph has angles for {value}", value=found), step.width, least=0),
            self._program.longest,
        )
        self._fits(turned % 2 == 0 and turned <= heads.size and (turned == 0) == (not any_of(step.tensors)), step)
        whole(lambda found: msg("the graph has angles that are interleaved {value}", value=found), step.extra, least=0)
        if turned:
            rows = len(step.tensors[0]) if step.tensors[0] is not None else 0
            self._fits(longest is not None and longest <= rows, step)
            self._tensors(step, *[(np.float32, (rows, turned // 2))] * 2)

    def _rotates(self, step: Step, width: int) -> None:
        """Cosines and sines of all of a head, for every position there may be."""
        size, longest = (
            whole(lambda found: msg("the graph has angles for {value}", value=found), step.extra),
            self._program.longest,
        )
        self._fits(size % 2 == 0 and width % size == 0 and not step.one and not any(step.inputs[1:]), step)
        rows = len(step.tensors[0]) if step.tensors and step.tensors[0] is not None else 0
        self._fits(longest is not None and longest <= rows, step)
        self._tensors(step, *[(np.float32, (rows, size // 2))] * 2)

    def _convolves(self, step: Step, width: int) -> None:
        """The next of the convolutions that the cache has room for."""
        taps, known = step.extra, self._program.convolutions[self._convolutions :]
        whole(lambda found: msg("the graph has a convolution over {value}", value=found), taps)
        self._fits(bool(known) and known[0] == Convolution(width, taps) and step.layer == self._convolutions, step)
        self._fits(not step.one and not any(step.inputs[1:]), step)
        biases = [(np.float32, (width,))] if len(step.tensors) > 1 and step.tensors[1] is not None else []
        self._tensors(step, (np.float32, (taps, width)), *biases)
        self._convolutions += 1

    def _by_heads(self, step: Step, width: int) -> None:
        """What stands side by side, and heads of numbers with numbers of their own."""

        def said(found: str) -> Translatable:
            return msg("the graph has a step {kind} of {value}", kind=step.kind.name, value=found)

        part = whole(said, step.extra)
        if step.kind == Kind.LINEAR_ATTN:
            reads = self._recurs(step, width)
        elif step.kind == Kind.MUL_HEADS:
            self._fits(width % part == 0, step)
            reads = [width, width // part]
        else:
            rest = width - part - whole(said, step.layer)
            self._fits(rest >= 0, step)
            reads = [part, step.layer, *([rest] if rest else [])]
        self._fits(len(step.inputs) == len(reads), step)
        pairs = zip(step.inputs, reads, strict=True)
        self._fits(all(value is not None and self._reads(value, each, step.one) for value, each in pairs), step)
        self._tensors(step)
        self._gives(step, width)

    def _recurs(self, step: Step, width: int) -> list[int]:
        """The next of the recurrences that the cache has room for; what it reads."""
        known = self._program.recurrences[self._recurrences :]
        self._fits(bool(known) and step.layer == self._recurrences and not step.one, step)
        each = known[0]
        self._fits(width == each.heads * each.width and step.extra == each.size, step)
        self._fits(step.number == float(each.corrects), step)
        self._recurrences += 1
        keys = each.groups * each.size
        return [keys, keys, width + each.beside]

    def _tensors(self, step: Step, *wanted: tuple[Any, tuple[int, ...]]) -> None:
        """The step's constants, no more and no fewer."""
        self._fits(len([each for each in step.tensors if each is not None]) == len(wanted), step)
        for tensor, (kind, shape) in zip(step.tensors, wanted, strict=False):
            self._array(step, tensor, kind, shape)

    def _array(self, step: Step, array: Array | None, kind: Any, shape: tuple[int, ...]) -> None:
        good = array is not None and array.dtype == kind and array.flags.c_contiguous and array.flags.aligned
        self._fits(good and array is not None and array.shape == shape, step)

    @staticmethod
    def _fits(good: bool | None, step: Step) -> None:
        if not good:
            refuse(msg("the graph has a step {kind} that does not fit what there is for it", kind=step.kind.name))


def any_of(tensors: Sequence[Array | None]) -> bool:
    return any(each is not None for each in tensors)
