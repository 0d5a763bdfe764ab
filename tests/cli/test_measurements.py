"""How a measurement is shown where it is measured: terminal and page mark what different engines took."""

from __future__ import annotations

import re

import pytest

from playground.catalog.entries import Catalog
from playground.cli import benchmark as terminal
from playground.results.figures import Measurement
from playground.ui.html import benchmark as page
from tests.support.measurements import by_engines

NOTE = "†: Different engines took these figures: ONNX Runtime, kernels avx2."


def printed(measurement: Measurement, capsys: pytest.CaptureFixture[str]) -> str:
    terminal._print(measurement)
    return capsys.readouterr().out


def test_the_terminal_marks_ranks_between_engines_and_names_them(capsys: pytest.CaptureFixture[str]) -> None:
    said = printed(by_engines("kernels avx2", "ONNX Runtime"), capsys)
    assert re.search(r"#1†.*#2†", said)
    assert NOTE in said


def test_the_page_marks_ranks_between_engines_and_names_them(fake_catalog: Catalog) -> None:
    said = page.measurement_html(by_engines("kernels avx2", "ONNX Runtime"), fake_catalog)
    assert "#1†" in said and "#2†" in said and NOTE in said


def test_one_engine_has_no_mark(fake_catalog: Catalog, capsys: pytest.CaptureFixture[str]) -> None:
    alike = by_engines("kernels avx2", "kernels avx2")
    said = printed(alike, capsys)
    assert "#1" in said and "†" not in said
    assert "†" not in page.measurement_html(alike, fake_catalog)
