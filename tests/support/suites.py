"""Suites for tests: made by hand, run, and run by a process that can be killed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from playground.config.settings import load_settings
from playground.experiments.suite_job import SuiteJob
from playground.records import Cell, Column, Request, SuiteRow, SuiteRun
from playground.service import Playground
from playground.suites.suite import Check, Suite

DATA = Path(__file__).parents[1] / "data"
SETTINGS = {
    "PLAYGROUND_SPACE": str(DATA / "fake_space.yaml"),
    "PLAYGROUND_CATALOG": str(DATA / "fake_catalog.yaml"),
    "PLAYGROUND_THREADS": "2",
}


def suite(rows: int, *, check: Check | None = None, name: str = "capitals", beginning: str = "") -> Suite:
    """A suite of so many prompts; every second one is passed by whoever says Paris, the others by nobody.

    Args:
        check: The check of every row instead.
        beginning: What all prompts begin with.
    """
    checks = [
        (check or (Check("icontains", value="paris") if row % 2 else Check("contains", value="nowhere")),)
        for row in range(rows)
    ]
    return Suite(
        name=name,
        rows=tuple(SuiteRow(f"r{row}", f"Row {row}", prompt=f"{beginning}Question {row}?") for row in range(rows)),
        checks=tuple(checks),
        thresholds=(None,) * rows,
        schemas=("",) * rows,
    )


def columns(playground: Playground, models: Sequence[str], **request: Any) -> list[Column]:
    """A column a model, all asked alike."""
    asked = Request(**{"max_new_tokens": 16, **request})
    return [Column(playground.resolve(model)[1], asked) for model in models]


def begin(playground: Playground, models: Sequence[str], rows: int = 4, **how: Any) -> SuiteJob:
    """A suite that has begun."""
    made = suite(rows, **{name: how.pop(name) for name in ("check", "name", "beginning") if name in how})
    request = how.pop("request", {})
    return playground.begin_suite(made, columns(playground, models, **request), **how)


def cells_of(playground: Playground, id: str) -> list[Cell]:
    return list(playground.suite_cells_in_order(id))


def table(cells: Sequence[Cell]) -> list[tuple[Any, ...]]:
    """What is the same whenever and wherever a suite of scripted models is run."""
    return [
        (
            *(cell.row, cell.column, cell.sample, str(cell.run.variant), cell.run.text, cell.run.finish_reason),
            *(cell.run.token_ids, str(cell.run.error), cell.passed, cell.score, cell.checks, cell.run.request),
        )
        for cell in cells
    ]


def run_and_note(home: str, models: str, rows: str, log: str, resume: str = "") -> None:
    """Run a suite, or go on with one, in this process, which may be killed; every cell that a model is asked for is
    noted in ``log`` before.
    """
    with Playground(load_settings({"PLAYGROUND_HOME": home, **SETTINGS})) as playground:
        generate = playground.pool.generate

        def noted(load: Any, request: Request, cancelled: Any) -> Any:
            with Path(log).open("a") as file:
                file.write(f"{load.artifact.variant} {request.prompt} {request.seed}\n")
            return generate(load, request, cancelled)

        playground.pool.generate = noted  # type: ignore[method-assign]
        begun = playground.resume_suite(resume) if resume else None
        job = begun or begin(playground, models.split(","), int(rows), repeats=2)
        run: SuiteRun = job.result()
        print(run.id, run.status)


if __name__ == "__main__":
    run_and_note(*sys.argv[1:])
