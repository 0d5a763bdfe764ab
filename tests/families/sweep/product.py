"""What the product answers: the catalogue's ``path:``, preparation with every check, and the runtime that is named.

Process borders are left out, as start-up costs ten seconds each; other tests have them.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from playground.catalog.entries import load_catalog
from playground.config.settings import load_settings
from playground.errors import PlaygroundError
from playground.export import pipeline
from playground.records import Artifact, LoadSpec, ModelRun, ModelSpec, Request
from playground.runtimes import create_runtime
from playground.runtimes.base import Runtime
from tests.families.sweep.judge import Expected, Judge
from tests.families.sweep.prompts import PROMPTS, Prompt
from tests.families.sweep.rows import Row, compared, judged

if TYPE_CHECKING:
    from numpy.typing import NDArray

STOP_AFTER = 3
"""Tokens of the answer that is stopped."""


@dataclass
class Trial:
    """One model in one variant, step by step; ``row`` says how far it came."""

    row: Row
    folder: Path
    home: Path
    expected: dict[str, Expected]
    judge: Judge | None

    def run(self, variant: str) -> Row:
        """Prepare, load, answer and compare.

        Args:
            variant: RUNTIME-PRECISION.
        """
        row, began = self.row, time.monotonic()
        runtime: Runtime | None = None
        try:
            spec, artifact = self._prepared(variant)
            row.stage = "load"
            runtime = create_runtime(artifact.variant.runtime)
            runtime.load(LoadSpec(spec, artifact, threads=1))
            for prompt in PROMPTS:
                row.stage = f"answer {prompt.name}"
                self._answer(runtime, prompt)
            if self.expected:
                row.outcome, row.reason = judged(row.answers, self._rounded(artifact))
            row.stage = ""
        except PlaygroundError as error:
            row.outcome, row.reason = "refused", str(error)
        except Exception as error:  # whatever else comes out is what this looks for
            traceback.print_exc()
            row.outcome, row.reason = "crash", f"{type(error).__name__}: {str(error)[:300]} ({_where(error)})"
        finally:
            if runtime is not None:
                runtime.close()
            row.seconds = round(time.monotonic() - began, 1)
        return row

    def _prepared(self, variant: str) -> tuple[ModelSpec, Artifact]:
        row = self.row
        row.stage = "resolve"
        spec, wanted = load_catalog(load_settings().catalog_file).resolve(f"path:{self.folder}@{variant}")
        row.kind, row.stage = spec.kind, "prepare"
        artifact = pipeline.make(spec, wanted, self.home, lambda *_: None, lambda: False)
        row.way = "torch" if artifact.variant.runtime == "torch" else artifact.recipe
        row.engine = artifact.engine.split(" ")[0] or "torch"
        row.note, row.fallbacks = artifact.engine_note, list(artifact.fallbacks)
        return spec, artifact

    def _answer(self, runtime: Runtime, prompt: Prompt) -> None:
        request = Request(
            prompt=prompt.text,
            max_new_tokens=prompt.tokens,
            repetition_penalty=prompt.penalty,
            reuse=prompt.reuse,
        )
        behind = _run(runtime, request, stop_after=STOP_AFTER).finish_reason if prompt.stopped else ""
        run = _run(runtime, request)
        self.row.warnings = list(run.warnings)
        if expected := self.expected.get(prompt.name):
            ids = runtime.inspect(request).token_ids
            facts = compared(run.token_ids or (), run.text, ids, expected)
            facts |= {"reused": run.timings.reused_tokens, "behind": behind}
            if not facts["equal"]:
                facts["kl"] = self._divergence(runtime, expected)
            self.row.answers[prompt.name] = facts

    def _divergence(self, runtime: Runtime, expected: Expected) -> float | None:
        """Mean nats along the answer of transformers, None where either can't be asked."""
        assert self.judge is not None
        try:
            theirs = self.judge.rows(expected.ids, expected.new)
            scored = runtime.score(expected.ids, expected.new, lambda: False)
            ours = [row.astype(np.float64) for row in scored if row is not None]
            return _mean_kl(theirs, ours)
        except Exception:  # the answers themselves are compared already
            traceback.print_exc()
            return None

    def _rounded(self, artifact: Artifact) -> bool:
        return artifact.variant.runtime != "torch" and artifact.variant.precision != "fp32"


def _mean_kl(theirs: NDArray[Any], ours: Sequence[NDArray[Any]]) -> float:
    width = min(theirs.shape[-1], ours[0].shape[-1])  # some pad their vocabulary
    divergences = []
    for true, other in zip(theirs, ours, strict=True):
        log_p, log_q = (_log_softmax(row.astype(np.float64)[:width]) for row in (true, other))
        divergences.append(float(np.sum(np.exp(log_p) * (log_p - log_q))))
    return float(np.mean(divergences))


def _log_softmax(logits: NDArray[Any]) -> NDArray[Any]:
    shifted = logits - logits.max()
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))


def _run(runtime: Runtime, request: Request, stop_after: int = 0) -> ModelRun:
    """The finished run; ``stop_after`` so many tokens Stop is pressed."""
    pressed = threading.Event()
    run = None
    for event in runtime.generate(request, pressed.is_set):
        if stop_after and event.kind == "token" and event.n_tokens >= stop_after:
            pressed.set()
        run = event.run or run
    assert run is not None
    return run


def _where(error: BaseException) -> str:
    """The last line of the product, and the last of all."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/playground/" in frame.filename]
    picked = [*ours[-1:], *frames[-1:]]
    return " ← ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(picked))
