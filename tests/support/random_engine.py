"""An engine that says anything: logits at random, so that whatever a rule lets through is said sooner or later."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from playground.records import LoadSpec
from playground.runtimes.generation.decoding import DecodingRuntime
from playground.runtimes.generation.engine import Engine, Logits
from tests.support import tiny


class RandomEngine(Engine):
    """Args:
    width: Of its rows, which may be more than the tokenizer knows.
    liked: Tokens that it would say at once, if it were let.
    """

    alike_in_parts = True

    def __init__(self, width: int, seed: int = 0, liked: Sequence[int] = ()) -> None:
        self._width, self._random, self._liked = width, np.random.default_rng(seed), list(liked)

    def reset(self, length: int) -> None:
        pass

    def prefill(self, ids: Sequence[int]) -> Logits:
        row: Logits = self._random.normal(0, 4, self._width).astype(np.float32)
        row[self._liked] += 100
        return row

    def step(self, token: int) -> Logits:
        return self.prefill((token,))


class RandomRuntime(DecodingRuntime):
    """A runtime around such an engine, with the tokenizer in ``folder``."""

    def __init__(self, folder: Path, engine: RandomEngine) -> None:
        super().__init__()
        self._engine = engine
        self.load(LoadSpec(tiny.spec("base"), tiny.artifact(folder, "onnx"), threads=1))

    def open_engine(self, load: LoadSpec) -> Engine:
        return self._engine
