"""Measurements that nobody took, for tests of how they are shown."""

from __future__ import annotations

from playground.records import Environment, Request, Variant
from playground.results.figures import Measured, Measurement, figure

HERE = Environment("A CPU", 2, 8000.0, {"onnxruntime": "1.32.0"}, "abc123")


def by_engines(*engines: str | None) -> Measurement:
    """A model for each engine, each slower to its first token than the one before; None: stored before engines were."""
    models = tuple(
        Measured(
            Variant(f"m{place}"),
            "onnx",
            engine=engine,
            output_tokens=4,
            figures={"ttft_s": figure("ttft_s", "s", [place + 0.1, place + 0.2, place + 0.3])},
        )
        for place, engine in enumerate(engines)
    )
    return Measurement("b", "", Request("a", max_new_tokens=4), 3, models, HERE)
