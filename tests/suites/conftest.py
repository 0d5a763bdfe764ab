"""A run of a model as the checks see one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from playground.records import ModelRun, Timings, Variant
from playground.suites.judging import Judgement, judge
from playground.suites.suite import Check

TIMINGS = Timings(ttft_s=0.12, total_s=1.5, decode_tok_s=24.0, output_tokens=30, mode="fair")
RUN = ModelRun(Variant("tiny", "onnx", "int8"), "onnx", "int8", "", "stop", TIMINGS)


@pytest.fixture
def run() -> ModelRun:
    return RUN


@pytest.fixture
def said() -> Callable[..., Judgement]:
    """Holds an answer against one check, given by its fields; ``run`` has fields of the run, the rest goes to judge."""

    def hold(
        answer: str, kind: str, value: Any = None, *, run: dict[str, Any] | None = None, **given: Any
    ) -> Judgement:
        names = ("threshold", "weight", "metric", "checks", "options")
        check = Check(kind, value, **{name: given.pop(name) for name in names if name in given})
        return judge([check], replace(RUN, text=answer, **(run or {})), answer, **given)

    return hold
