"""One loop for each kind of decoder graph: what is bound, what is fed, what is kept between two runs.

The sequence position is counted here and the cache lives here; kinds and names come from ``graph``. The module
does not know text, sampling, time, or where a graph came from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort

from playground.messages import msg
from playground.runtimes.generation.engine import (
    CACHE_GROWTH,
    MAX_ROWS,
    Engine,
    Interrupted,
    Logits,
)
from playground.runtimes.onnx.file import GraphError
from playground.runtimes.onnx.graph import (
    CACHE_POSITION,
    KEEP_LOGITS,
    MASK,
    POSITIONS,
    ROWS,
    TOKENS,
    DecoderGraph,
)
from playground.runtimes.onnx.sessions import Array, OnnxEngine, bind, each_row, last_row, ort_value

MIN_PART = 8
"""Tokens read at once, at least, where the rows of all of them are wanted and a vocabulary is wide."""
PROBE_TOKENS = 12
"""Tokens of the check that a graph may be given a prompt in parts."""


def open_decoder(
    session: ort.InferenceSession, graph: DecoderGraph, with_any_rows: Callable[[], ort.InferenceSession | None]
) -> Engine:
    """The engine for a graph's kind.

    Args:
        with_any_rows: Opens the same graph anew, so that it gives any rows (``any_rows``), where that can be done.
    """
    if graph.kind == "shared":
        return SharedEngine(session, graph, with_any_rows)
    if graph.kind == "growing":
        return GrowingEngine(session, graph)
    return WholeEngine(session, graph)


class SharedEngine(OnnxEngine):
    """GroupQueryAttention: one buffer is past and present, bound once; a step allocates nothing.

    How much of a buffer counts is said by the mask, not by the buffer's shape. States of fixed size (LFM2's
    convolutions) are not known to be safe in place: they have two buffers each, which take turns.
    """

    def __init__(
        self,
        session: ort.InferenceSession,
        graph: DecoderGraph,
        with_any_rows: Callable[[], ort.InferenceSession | None] = lambda: None,
    ) -> None:
        super().__init__(session, graph)
        self._with_any_rows: Callable[[], ort.InferenceSession | None] | None = with_any_rows
        self._any_rows = False
        self._last: Array = np.asarray([-1])
        self._growing = [slot for slot in graph.slots if slot.axis is not None]
        self._fixed = [slot for slot in graph.slots if slot.axis is None]
        self._states: list[list[Array]] = [[np.zeros(slot.shape, slot.dtype) for slot in self._fixed] for _ in range(2)]
        self._cache: list[Array] = []
        self._capacity = self._length = self._turn = 0
        self._token: Array = np.zeros((1, 1), graph.inputs[TOKENS])
        self._position: Array = np.zeros((1, 1), graph.inputs.get(POSITIONS, np.int64))
        self._row: Array = np.zeros((1, 1, graph.vocab), graph.logits_type)
        self._keep: Array = np.asarray(1, graph.inputs.get(KEEP_LOGITS, np.int64))
        self._steps: list[Any] = []

    def reset(self, length: int) -> None:
        super().reset(length)
        needed = -(-length // CACHE_GROWTH) * CACHE_GROWTH
        if self._capacity < needed or self._capacity > 4 * needed:
            self._allocate(needed)
        self._length = self._turn = 0
        for array in self._states[0]:
            array[:] = 0

    def rewind(self, kept: int, length: int) -> bool:
        if self._fixed and kept != self._length:  # a state of fixed size is that behind the last token, of no other
            return False
        super().reset(length)
        if self._capacity < length:
            read = self._cache
            self._allocate(-(-length // CACHE_GROWTH) * CACHE_GROWTH)
            for slot, old, new in zip(self._growing, read, self._cache, strict=True):
                first = (slice(None),) * (slot.axis or 0) + (slice(kept),)
                new[first] = old[first]
        self._length = kept
        return True

    def prefill(self, ids: Sequence[int]) -> Logits:
        rows = self._row if self.graph.last_only else np.empty((1, len(ids), self.graph.vocab), self.graph.logits_type)
        self._read(ids, rows)
        return last_row(rows)

    def rows(self, ids: Sequence[int], wanted: int) -> Iterator[Logits]:
        """See ``Engine.rows``: in one run, of a graph that gives more than the last row or can be made to."""
        if wanted == 1 or not self._can_give_rows():
            yield from super().rows(ids, wanted)
            return
        most = max(MIN_PART, MAX_ROWS // self.graph.vocab)
        while ids:
            # What is read alone rounds otherwise: no part of one token is left over.
            size = len(ids) if len(ids) <= most + 1 else most
            part, ids = ids[:size], ids[size:]
            here = min(len(part), wanted - len(ids))
            if here < 1:
                self.prefill(part)
                continue
            count = here if self.graph.last_only else len(part)
            rows: Array = np.empty((1, count, self.graph.vocab), self.graph.logits_type)
            self._read(part, rows)
            yield from each_row(rows, here)

    def _read(self, ids: Sequence[int], rows: Array) -> None:
        """Logits into ``rows`` [1, wanted, vocab]."""
        end = self._length + len(ids)
        tokens = np.asarray([ids], self._token.dtype)
        positions = np.arange(self._length, end, dtype=self._position.dtype)[None]
        wanted = rows.shape[1] if self.graph.last_only else 1
        self._advance(self._bound(tokens, positions, rows, self._turn, wanted), end)

    def _can_give_rows(self) -> bool:
        """A graph that picks the last row is opened anew, once, so that it can be told which."""
        if not self.graph.last_only or KEEP_LOGITS in self.graph.inputs:
            return True
        if self._with_any_rows:
            opened, self._with_any_rows = self._with_any_rows(), None
            if opened:
                self._session, self._any_rows = opened, True
                self._steps = [self._bound(self._token, self._position, self._row, turn) for turn in (0, 1)]
        return self._any_rows

    def step(self, token: int) -> Logits:
        self._token[0, 0] = token
        self._position[0, 0] = self._length
        self._advance(self._steps[self._turn], self._length + 1)
        return last_row(self._row)

    def close(self) -> None:
        self._steps.clear()
        self._cache.clear()
        super().close()

    def _advance(self, binding: Any, end: int) -> None:
        if MASK in self.graph.inputs:
            # Cut to what was read: graphs derive positions, and attention its scratch memory, from its width.
            bind(binding.bind_input, MASK, self._mask[:, :end])
        self._length = end
        self.session.run_with_iobinding(binding, self._options)
        self._turn = 1 - self._turn

    def _allocate(self, capacity: int) -> None:
        """A cache for ``capacity`` tokens; its memory is taken as it is written, not now."""
        self._cache = [np.zeros(slot.sized(capacity), slot.dtype) for slot in self._growing]
        self._mask: Array = np.ones((1, capacity), self.graph.inputs.get(MASK, np.int64))
        self._capacity = capacity
        self._steps = [self._bound(self._token, self._position, self._row, turn) for turn in (0, 1)]

    def _bound(self, tokens: Array, positions: Array, rows: Array, turn: int, wanted: int = 1) -> Any:
        """Everything a run reads and writes but the mask, bound by address; the arrays must outlive the binding."""
        binding = self.session.io_binding()
        if self._any_rows:
            self._places = self._last if wanted == 1 else np.arange(-wanted, 0)
            bind(binding.bind_input, ROWS, self._places)
        beside = {
            TOKENS: tokens,
            POSITIONS: positions,
            CACHE_POSITION: positions[0],
            KEEP_LOGITS: self._keep if wanted == 1 else np.asarray(wanted, self._keep.dtype),
        }
        self._beside = beside  # what a binding of one run reads must live as long
        for name, array in beside.items():
            if name in self.graph.inputs:
                bind(binding.bind_input, name, array)
        bind(binding.bind_output, "logits", rows)
        for slot, array in zip(self._growing, self._cache, strict=True):
            bind(binding.bind_input, slot.past, array)
            bind(binding.bind_output, slot.present, array)
        for slot, past, present in zip(self._fixed, self._states[turn], self._states[1 - turn], strict=True):
            bind(binding.bind_input, slot.past, past)
            bind(binding.bind_output, slot.present, present)
        return binding


class GrowingEngine(OnnxEngine):
    """Past in, past and new out: what a run returned is handed to the next as it is, without a copy to numpy.

    onnxruntime allocates the returned tensors. Two sets of buffers of our own, bound by address in turns, were
    measured beside it and were not faster (SmolLM2-135M fp32: 12.4 and 11.4 tok/s in the same noisy minutes): the
    graph copies the whole past in each step either way.
    """

    def __init__(self, session: ort.InferenceSession, graph: DecoderGraph) -> None:
        super().__init__(session, graph)
        self._outputs = ["logits", *(slot.present for slot in graph.slots)]
        empty = {slot.past: ort_value(np.zeros(slot.shape, slot.dtype)) for slot in graph.slots}
        self._empty, self._past = empty, dict(empty)
        self._length = 0
        if graph.one_token:
            self.chunk = 1
        elif not self._reads_in_parts():
            self.chunk = 0

    def reset(self, length: int) -> None:
        super().reset(length)
        self._past = dict(self._empty)
        self._length = 0

    def rewind(self, kept: int, length: int) -> bool:
        slots = self.graph.slots
        if kept != self._length:
            if any(slot.axis is None for slot in slots):
                return False
            for slot in slots:
                first = (slice(None),) * (slot.axis or 0) + (slice(kept),)
                self._past[slot.past] = ort_value(np.ascontiguousarray(self._past[slot.past].numpy()[first]))
        super().reset(length)
        self._length = kept
        return True

    def prefill(self, ids: Sequence[int]) -> Logits:
        return last_row(self._rows(ids))

    def rows(self, ids: Sequence[int], wanted: int) -> Iterator[Logits]:
        """See ``Engine.rows``: most graphs of this kind give all rows anyway."""
        if self.graph.one_token or (self.graph.last_only and KEEP_LOGITS not in self.graph.inputs):
            yield from super().rows(ids, wanted)
            return
        yield from each_row(self._rows(ids, wanted), wanted)

    def step(self, token: int) -> Logits:
        return last_row(self._rows((token,)))

    def close(self) -> None:
        self._past.clear()
        super().close()

    def _rows(self, ids: Sequence[int], wanted: int = 1) -> Array:
        """Logits ``[1, len(ids) or wanted, vocab]``."""
        feeds = {name: ort_value(array) for name, array in self._values(ids, self._length, wanted).items()}
        logits, *presents = self._run(self._outputs, feeds | self._past)
        self._past = dict(zip(self._past, presents, strict=True))
        self._length += len(ids)
        rows: Array = logits.numpy()
        return rows

    def _reads_in_parts(self) -> bool:
        """Whether several tokens behind a past give the logits that all at once give.

        Some graphs were traced with one new token only and mask nothing within a part. What the same rows of a short
        text look like both ways decides, not the name of a family.
        """
        ids = [(7 * place + 1) % self.graph.vocab for place in range(PROBE_TOKENS)]
        whole = self._rows(ids)
        self.reset(0)
        try:
            self._rows(ids[: PROBE_TOKENS // 2])
            parts = self._rows(ids[PROBE_TOKENS // 2 :])
        except Interrupted:
            raise
        except Exception:  # a shape that was fixed when the graph was traced
            return False
        finally:
            self.reset(0)
        whole = whole[:, -parts.shape[1] :].astype(np.float32)
        error = float(np.sqrt(np.mean((whole - parts.astype(np.float32)) ** 2)))
        # Activations that are rounded together make results depend on the company; a missing mask costs far more.
        allowed = 0.1 if self.graph.quantised else 0.02 if self.graph.logits_type == np.float16 else 1e-3
        return error <= allowed * float(whole.std())


class WholeEngine(OnnxEngine):
    """No cache: each run reads the whole text again. Right, and slower with every token.

    Raises:
        GraphError: The graph reads one token at a time.
    """

    warnings = (msg("This export keeps no KV cache: each token computes the whole text again, slower and slower."),)

    def __init__(self, session: ort.InferenceSession, graph: DecoderGraph) -> None:
        super().__init__(session, graph)
        if graph.one_token:
            raise GraphError(msg("the graph reads one token at a time and keeps nothing of those before"))
        self.chunk = 0
        self._ids: list[int] = []

    def reset(self, length: int) -> None:
        super().reset(length)
        self._ids = []

    def rewind(self, kept: int, length: int) -> bool:
        super().reset(length)
        self._ids = self._ids[:kept]
        return True

    def prefill(self, ids: Sequence[int]) -> Logits:
        return last_row(self._rows(ids, 1))

    def rows(self, ids: Sequence[int], wanted: int) -> Iterator[Logits]:
        """See ``Engine.rows``."""
        if self.graph.last_only and KEEP_LOGITS not in self.graph.inputs:
            yield from super().rows(ids, wanted)
            return
        yield from each_row(self._rows(ids, wanted), wanted)

    def _rows(self, ids: Sequence[int], wanted: int) -> Array:
        self._ids.extend(ids)
        feeds = {name: ort_value(array) for name, array in self._values(self._ids, 0, wanted).items()}
        (logits,) = self._run(["logits"], feeds)
        rows: Array = logits.numpy()
        return rows

    def step(self, token: int) -> Logits:
        return self.prefill((token,))
