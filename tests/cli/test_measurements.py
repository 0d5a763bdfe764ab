"""How a measurement is shown where it is measured: terminal and page mark what different engines took."""

from __future__ import annotations

import re

import pytest

from playground.catalog.entries import Catalog
from playground.cli import benchmark as terminal
from playground.records import Environment, Request, Variant
from playground.results.figures import Measured, Measurement, figure
from playground.ui.html import benchmark as page

NOTE = "†: Different engines took these figures: ONNX Runtime, kernels avx2."


def measured(*engines: str) -> Measurement:
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
    here = Environment("A CPU", 2, 8000.0, {"onnxruntime": "1.32.0"}, "abc123")
    return Measurement("b", "", Request("a", max_new_tokens=4), 3, models, here)


def printed(measurement: Measurement, capsys: pytest.CaptureFixture[str]) -> str:
    terminal._print(measurement)
    return capsys.readouterr().out


def test_the_terminal_marks_ranks_between_engines_and_names_them(capsys: pytest.CaptureFixture[str]) -> None:
    said = printed(measured("kernels avx2", "ONNX Runtime"), capsys)
    assert re.search(r"#1†.*#2†", said)
    assert NOTE in said


def test_the_page_marks_ranks_between_engines_and_names_them(fake_catalog: Catalog) -> None:
    said = page.measurement_html(measured("kernels avx2", "ONNX Runtime"), fake_catalog)
    assert "#1†" in said and "#2†" in said and NOTE in said


def test_one_engine_has_no_mark(fake_catalog: Catalog, capsys: pytest.CaptureFixture[str]) -> None:
    alike = measured("kernels avx2", "kernels avx2")
    said = printed(alike, capsys)
    assert "#1" in said and "†" not in said
    assert "†" not in page.measurement_html(alike, fake_catalog)
