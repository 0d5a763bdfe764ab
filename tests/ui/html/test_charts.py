"""The bars of a comparison: what stands below them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from playground.records import ModelRun, Timings, Variant
from playground.ui.html.charts import charts
from playground.ui.html.panel import labels


def drawn(*engines: str) -> str:
    variants = [Variant(f"m{place}", "onnx", "int8") for place in range(len(engines))]
    taken = Timings(ttft_s=0.1, decode_tok_s=5.0)
    runs = [
        ModelRun(each, "onnx", "int8", "x", "stop", taken, engine=by)
        for each, by in zip(variants, engines, strict=True)
    ]
    models: Any = SimpleNamespace(ids=lambda: ())
    popovers: Any = SimpleNamespace(wrap=lambda place, name, shown: shown)
    return charts(runs, labels(models, variants), popovers)


def test_bars_of_different_engines_say_so() -> None:
    assert "ONNX Runtime, kernels avx2" in drawn("kernels avx2", "ONNX Runtime")
    assert "engines" not in drawn("kernels avx2", "kernels avx2")
