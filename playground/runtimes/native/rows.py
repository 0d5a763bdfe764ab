"""Logits of many positions by the kernels: everything up to the last token's row, then what follows for any rows.

A program ends in a part for one row: the last token's hidden state, a norm perhaps, the product with the vocabulary.
Here that part is a plan of its own over as many rows as are wanted, and what stands before it another; weights and the
trunk's buffers are those of the engine. The kernels' row is the same bits in either (docs/engine.md). The module knows
programs and the library; it does not know texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from ctypes import c_void_p
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from playground.kernels.library import Kind, Library, Op, Plan, Room
from playground.runtimes.generation.engine import MAX_ROWS, PREFILL_CHUNK, EngineError
from playground.runtimes.native.program import Program, Step, Value, broken

Array = NDArray[Any]
MakeOp = Callable[[Step, Sequence[int], Sequence[int]], Op]
"""A step for the library: the place of each buffer, and the width of each."""


def split(program: Program) -> int | None:
    """Where the part for one row begins; None where a program has no such place."""
    steps = program.steps
    first = next((place for place, step in enumerate(steps) if step.kind == Kind.GET_ROWS_LAST), None)
    if first is None or not all(step.one for step in steps[first:]) or any(step.one for step in steps[:first]):
        return None
    return first


class ManyRows:
    """The two plans. Their threads sleep between two runs, for they are the engine's cores.

    Args:
        plan: The engine's own; its operations, buffers and rooms are used.
        first: See ``split``.
        places: Of each buffer of the program, its place among the engine's.
        make: Makes operations.
        head: The largest head.

    Attributes:
        most: Rows that one run of the second plan gives.
    """

    def __init__(
        self,
        library: Library,
        program: Program,
        plan: Plan,
        *,
        first: int,
        places: Sequence[int],
        make: MakeOp,
        head: int,
    ) -> None:
        self._library = library
        self.most = max(8, min(PREFILL_CHUNK, MAX_ROWS // program.vocab))
        trunk = Plan(first, plan.threads, plan.list, plan.buffers, plan.acts, plan.rooms, plan.places, plan.layers)
        trunk.tokens, trunk.blocks = plan.tokens, plan.blocks
        steps, widths, sources = _tail(program, first)
        self._sources = [(places[buffer], program.widths[buffer]) for buffer in sources]
        sizes = [(PREFILL_CHUNK, width) for _, width in self._sources]
        own = widths[len(sources) :]
        self._buffers = [np.zeros(self.most * width, np.float32) for width in own]
        sizes += [(self.most, width) for width in own]
        self._addresses = (c_void_p * len(sizes))()
        for place, buffer in enumerate(self._buffers, start=len(sources)):
            self._addresses[place] = buffer.ctypes.data
        self._trunk_buffers = plan.buffers
        self._steps = steps
        self._ops = (Op * len(steps))(*(make(step, range(len(sizes)), widths) for step in steps))
        self._rooms = (Room * len(sizes))(*(Room(*size) for size in sizes))
        tail = Plan(len(steps), plan.threads, self._ops, self._addresses, plan.acts, self._rooms, len(sizes))
        tail.layers, tail.tokens, tail.blocks = plan.layers, self.most, plan.blocks
        self._plans = trunk, tail
        self.trunk = library.open(trunk, head, spinning=False)
        try:
            self._tail = library.open(tail, head, spinning=False)
        except BaseException:
            library.close(self.trunk)
            raise
        logits = steps[-1].outputs[0]
        assert logits is not None
        width = widths[logits.buffer]
        rows = self._buffers[logits.buffer - len(sources)].reshape(self.most, width)
        self._rows: Array = rows[:, logits.offset : logits.offset + program.vocab]

    def give(self, addresses: Any, count: int, wanted: int, ids: int) -> Iterator[Array]:
        """The last ``wanted`` of ``count`` rows that the trunk has just computed into the engine's buffers.

        Args:
            addresses: Of the engine's buffers.
            ids: An address that may be read; this plan looks at no ids.

        Raises:
            EngineError: Activations became infinite or no numbers.
        """
        for start in range(count - wanted, count, self.most):
            rows = min(self.most, count - start)
            for place, (buffer, width) in enumerate(self._sources):
                self._addresses[place] = addresses[buffer] + start * width * np.dtype(np.float32).itemsize
            place = self._library.run(self._tail, ids, rows, 0)
            if place >= 0:
                raise EngineError(broken(self._steps[place]))
            yield from self._rows[:rows]

    def close(self) -> None:
        self._library.close(self.trunk)
        self._library.close(self._tail)
        self._buffers = []
        self._rows = self._rows[:0]


def _tail(program: Program, first: int) -> tuple[list[Step], list[int], list[int]]:
    """The part for one row as steps for many, in buffers of their own: those it reads of the trunk first.

    Returns:
        The steps, the width of each buffer, and which of the program's buffers the first of them are.
    """
    begun = [step for step in program.steps[first:] if step.kind == Kind.GET_ROWS_LAST]
    sources = list(dict.fromkeys(value.buffer for step in begun for value in step.inputs if value))
    widths = [program.widths[buffer] for buffer in sources]
    same: dict[int, Value] = {}  # a row that was the last token's is any token's, where it was computed
    for step in begun:
        source, row = step.inputs[0], step.outputs[0]
        assert source is not None and row is not None
        same[row.buffer] = replace(source, buffer=sources.index(source.buffer), one=False)
    new: dict[int, int] = {}

    def moved(value: Value | None) -> Value | None:
        if value is None:
            return None
        if value.buffer in same:
            source = same[value.buffer]
            return replace(source, offset=source.offset + value.offset, width=value.width)
        if value.buffer not in new:
            new[value.buffer] = len(widths)
            widths.append(program.widths[value.buffer])
        return replace(value, buffer=new[value.buffer], one=False)

    steps = [
        replace(step, inputs=tuple(map(moved, step.inputs)), outputs=tuple(map(moved, step.outputs)), one=False)
        for step in program.steps[first:]
        if step.kind != Kind.GET_ROWS_LAST
    ]
    return steps, widths, sources
