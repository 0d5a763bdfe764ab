"""What the loops around ONNX graphs have in common: a session that can be interrupted, and tensors in and out of it.

The module does not know which kind of graph it is, nor what is kept between two runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from playground.messages import msg
from playground.runtimes.generation.engine import PREFILL_CHUNK, Engine, EngineError, Interrupted, Logits
from playground.runtimes.onnx.graph import CACHE_POSITION, KEEP_LOGITS, MASK, POSITIONS, TOKENS, USE_CACHE, DecoderGraph

MAX_LOGITS = 16_000_000
"""Logits one run may return where a graph gives all positions': 64 MB in fp32. Wide vocabularies get shorter chunks."""

Array = NDArray[Any]


class OnnxEngine(Engine):
    """What the kinds have in common: a session, a run that can be interrupted, the inputs beside the cache."""

    name = "onnxruntime"

    def __init__(
        self, session: ort.InferenceSession, graph: DecoderGraph, options: ort.RunOptions | None = None
    ) -> None:
        self._session: ort.InferenceSession | None = session
        self.graph = graph
        self._options = options or ort.RunOptions()
        self.chunk = PREFILL_CHUNK if graph.last_only else max(16, min(PREFILL_CHUNK, MAX_LOGITS // graph.vocab))

    def reset(self, length: int) -> None:
        self._options.terminate = False  # a Stop that came when nothing was running

    def interrupt(self) -> None:
        self._options.terminate = True

    def close(self) -> None:
        self._session = None

    @property
    def session(self) -> ort.InferenceSession:
        """
        Raises:
            EngineError: It was closed.
        """
        if self._session is None:
            raise EngineError(msg("the session is closed"))
        return self._session

    def _values(self, ids: Sequence[int], start: int, wanted: int = 1) -> dict[str, Array]:
        """Everything but the cache, for ``ids`` behind ``start`` tokens: ``[1, len(ids)]``, the mask ``[1, end]``.

        transformers.js numbers Gemma 3's positions from 1. Rotary attention sees differences only: from 0 is the same.
        """
        end = start + len(ids)
        positions = np.arange(start, end)
        given = {
            TOKENS: np.asarray([ids]),
            MASK: np.ones((1, end)),
            POSITIONS: positions[None],
            CACHE_POSITION: positions,
            USE_CACHE: np.asarray([start > 0]),
            KEEP_LOGITS: np.asarray(wanted),
        }
        inputs = self.graph.inputs
        return {name: np.ascontiguousarray(array, inputs[name]) for name, array in given.items() if name in inputs}

    def _run(self, outputs: Sequence[str], feeds: dict[str, ort.OrtValue]) -> Sequence[ort.OrtValue]:
        try:
            found: Sequence[ort.OrtValue] = self.session.run_with_ort_values(outputs, feeds, self._options)
        except Exception as error:
            if self._options.terminate:
                raise Interrupted from error
            raise
        return found


def ort_value(array: Array) -> ort.OrtValue:
    return ort.OrtValue.ortvalue_from_numpy(array)


def bind(how: Any, name: str, array: Array) -> None:
    how(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)


def last_row(rows: Array) -> Logits:
    """The last position's logits ``[vocab]``; half precision is widened, for the sampler adds up many."""
    return next(each_row(rows, 1))


def each_row(rows: Array, wanted: int) -> Iterator[Logits]:
    """Like ``last_row``, of the last ``wanted`` positions."""
    for row in rows[0, -wanted:]:
        yield row.astype(np.float32) if row.dtype == np.float16 else row
