"""Runs of suites as records, for tests that look at what came of one: no model runs for them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from playground.messages import msg
from playground.records import (
    Cell,
    CheckResult,
    Column,
    Environment,
    ModelRun,
    Request,
    SuiteRow,
    SuiteRun,
    Timings,
    Variant,
)

MACHINE = Environment("A processor", 2, 4000.0)


def suite_run(rows: int = 3, models: Sequence[str] = ("one", "two"), repeats: int = 1, **more: Any) -> SuiteRun:
    """A suite of so many prompts; each is asked of every model, ``fake-none``."""
    named = [
        SuiteRow(f"r{n}", f"Prompt {n}", prompt=f"What is {n}?", vars={"n": str(n)}, place=f"row {n}")
        for n in range(1, rows + 1)
    ]
    columns = tuple(Column(Variant(model, "fake", "none"), Request()) for model in models)
    given = {"id": "20260102-030405-" + "a" * 32, "created_at": "2026-01-02T03:04:05+00:00", "name": "A suite"}
    return SuiteRun(
        **{**given, "rows": tuple(named), "columns": columns, "environment": MACHINE, "repeats": repeats, **more}
    )


def cell(
    run: SuiteRun,
    row: int,
    column: int,
    passed: bool | None = True,
    sample: int = 0,
    *,
    text: str = "Well.",
    **more: Any,
) -> Cell:
    """A finished cell. ``more``: fields of ``Timings``, and ``finish`` and ``error`` of the run."""
    finish, error = more.pop("finish", "stop"), more.pop("error", "")
    taken = {"ttft_s": 0.1, "decode_tok_s": 20.0, "total_s": 1.0, "output_tokens": 4, "peak_memory_mb": 300.0}
    answer = ModelRun(
        run.columns[column].variant,
        "fake",
        "none",
        "" if error else text,
        "error" if error else finish,
        Timings(**{} if error else {**taken, "mode": "fair", **more}),
        error=msg("It failed: {why}", why=error) if error else None,
    )
    reason = msg("The answer has it") if passed else msg("The answer does not have {word}", word="it")
    checks = () if passed is None else (CheckResult("contains", passed, float(passed), reason, value="it"),)
    return Cell(row, column, sample, answer, checks, passed, None if passed is None else float(passed))


def outcomes(run: SuiteRun, *columns: str) -> list[Cell]:
    """A cell for each letter: ``+`` passed, ``-`` did not, ``.`` is not there yet; a column a text, a row a letter."""
    signs = {"+": True, "-": False}
    return [
        cell(run, row, column, signs[sign])
        for column, text in enumerate(columns)
        for row, sign in enumerate(text)
        if sign in signs
    ]


def close_to(value: float | None, expected: float) -> bool:
    return value is not None and math.isclose(value, expected, rel_tol=1e-9)
