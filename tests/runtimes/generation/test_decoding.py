"""The loop around an engine: how prompts are handed over, how Stop reaches a long one. Engines here are scripted."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from playground.records import Event, LoadSpec, Request
from playground.runtimes.generation.decoding import DecodingRuntime
from playground.runtimes.generation.engine import PREFILL_CHUNK, Engine, Interrupted, Logits
from tests.support import tiny

PROMPT = "日本語 " * 60


class Scripted(Engine):
    """Always says token 70, and writes down what it was given."""

    def __init__(self, chunk: int = PREFILL_CHUNK, patience: float = 0.0) -> None:
        self.chunk, self.patience = chunk, patience
        self.parts: list[int] = []
        self.interrupted = threading.Event()

    def reset(self, length: int) -> None:
        self.parts.clear()
        self.interrupted.clear()

    def prefill(self, ids: Sequence[int]) -> Logits:
        self.parts.append(len(ids))
        if len(ids) > PREFILL_CHUNK and self.interrupted.wait(self.patience):
            raise Interrupted
        return self.step(0)

    def step(self, token: int) -> Logits:
        logits = np.zeros(tiny.VOCAB, np.float32)
        logits[70] = 1
        return logits

    def interrupt(self) -> None:
        self.interrupted.set()


class ScriptedRuntime(DecodingRuntime):
    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine = engine

    def open_engine(self, load: LoadSpec) -> Engine:
        return self.engine


def loaded(engine: Engine, folder: Path) -> ScriptedRuntime:
    tiny.write_tokenizer(folder, template=None)
    runtime = ScriptedRuntime(engine)
    runtime.load(LoadSpec(tiny.spec("base"), tiny.artifact(folder, "onnx"), threads=1))
    return runtime


@pytest.mark.parametrize("chunk", [0, 1, 50, 128])
def test_an_engine_gets_the_prompt_in_the_parts_it_wants(tmp_path: Path, chunk: int) -> None:
    engine = Scripted(chunk)
    runtime = loaded(engine, tmp_path)
    events: list[Event] = list(runtime.generate(Request(PROMPT, max_new_tokens=2), lambda: False))
    total = len(runtime.inspect(Request(PROMPT)).token_ids)
    assert sum(engine.parts) == total > 2 * PREFILL_CHUNK
    assert max(engine.parts) == (chunk or total)
    assert events[-1].kind == "done"


def test_stop_interrupts_a_prompt_that_is_read_at_once(tmp_path: Path) -> None:
    runtime = loaded(Scripted(chunk=0, patience=20), tmp_path)
    began = time.monotonic()
    events: list[Event] = list(runtime.generate(Request(PROMPT), lambda: time.monotonic() - began > 0.2))
    run = events[-1].run
    assert time.monotonic() - began < 5
    assert events[-1].kind == "stopped" and run is not None
    assert (run.finish_reason, run.text, run.timings.ttft_s) == ("stopped", "", None)
    assert not [thread for thread in threading.enumerate() if "listening" in thread.name]


def test_nobody_listens_when_the_parts_are_short(tmp_path: Path) -> None:
    """A thread that wakes twenty times a second would be noise in the figures."""
    seen: list[bool] = []

    class Watching(Scripted):
        def prefill(self, ids: Sequence[int]) -> Logits:
            seen.append(any("listening" in thread.name for thread in threading.enumerate()))
            return super().prefill(ids)

    list(loaded(Watching(), tmp_path).generate(Request(PROMPT, max_new_tokens=2), lambda: False))
    list(loaded(Watching(chunk=0), tmp_path).generate(Request("abc", max_new_tokens=2), lambda: False))
    assert len(seen) > 3 and not any(seen)


def test_an_engines_warnings_reach_the_run(tmp_path: Path) -> None:
    engine = Scripted()
    engine.warnings = ("It is slow.",)
    run = list(loaded(engine, tmp_path).generate(Request("abc", max_new_tokens=2), lambda: False))[-1].run
    assert run is not None and "It is slow." in run.warnings
