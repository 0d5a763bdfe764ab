"""The tools that judge models: ``suite``, by prompts and checks of one's own, and ``choose``, by limits."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from playground.choose.constraints import Constraints, check_limits
from playground.choose.deciding import Decision, decide, difference_words, missing
from playground.choose.file import Choice, read_choice
from playground.errors import UsageError
from playground.mcp.arguments import ChooseArguments, SuiteArguments
from playground.mcp.calls import Call
from playground.mcp.documents import Document, document, named
from playground.messages import msg
from playground.records import Cell, Column, Request, SuiteRun
from playground.results.statistics import outcome_words, why_words
from playground.results.suite_summary import SuiteSummary, column_names

if TYPE_CHECKING:
    from playground.experiments.suite_job import SuiteJob
    from playground.service import Playground

SHOWN_CHARS = 600
"""Of an answer that did not pass."""

FAIR = "One answer at a time had the machine, so the figures may be held against each other."
SHARED = (
    "Columns marked shared were answered by machines that did other work at the same time: their figures rank nothing."
)


# -- suite ----------------------------------------------------------------------------------------------------------


async def suite(playground: Playground, asked: SuiteArguments, call: Call) -> Document:
    """Ask many prompts of several models, check each answer, and say what the checks come to."""

    def begin() -> SuiteJob:
        if bool(asked.file) == bool(asked.resume):
            raise UsageError(
                msg("suite wants a file to run or a suite to go on with, one of them"),
                msg("Give the text of the file in file, or the id in resume."),
            )
        if asked.resume:
            return playground.resume_suite(asked.resume, call.owner)
        read = playground.read_suite(asked.file, "suite" if asked.format == "auto" else f"suite.{asked.format}")
        base = Request(max_new_tokens=asked.max_new_tokens, temperature=asked.temperature, seed=asked.seed)
        named(playground, [column.model for column in read.columns])
        columns = [Column(variant, base) for variant in named(playground, asked.models)]
        return playground.begin_suite(
            read,
            columns or playground.suite_columns(read, base),
            repeats=asked.repeats,
            limit=asked.limit,
            file=asked.file,
            owner=call.owner,
        )

    before = await call.in_thread(lambda: playground.suite_outcomes(asked.against) if asked.against else None)
    job = await call.in_thread(begin)
    run = await call.follow(job)

    def tell() -> Document:
        told = of_suite(run, playground.suite_summary(run.id), _failures(playground, run, asked.failures_shown))
        if before:
            told["regression"] = document(playground.suite_regression(run.id, before))
        return told

    return await call.in_thread(tell)


def of_suite(run: SuiteRun, summary: SuiteSummary, failures: list[Document]) -> Document:
    """A suite for an agent: rates with their intervals, paired tests, and the answers that did not pass."""
    names = [column.heading for column in summary.columns]
    columns = []
    for column in summary.columns:
        told = document(column)
        columns.append({"model": told.pop("heading"), "shared": column.shared, **told})
    return {
        "id": run.id,
        "name": run.name,
        "status": run.status,
        "cells": summary.cells,
        "total": summary.total,
        "passed": summary.passed,
        "judged": summary.judged,
        "failed": summary.failed,
        "columns": columns,
        "differences": [
            {
                "first": names[each.first],
                "second": names[each.second],
                "first_is": outcome_words(each.test),
                "why": why_words(each.test),
                "p": each.test.p,
            }
            for each in summary.differences
        ],
        "failures": failures,
        "about_figures": SHARED if any(column.shared for column in summary.columns) else FAIR,
        "machine": document(run.environment),
    }


def _failures(playground: Playground, run: SuiteRun, most: int) -> list[Document]:
    """The first answers that did not pass, in the order of the file, with the checks that say why."""
    found: list[Document] = []
    names = column_names(run)
    for cell in playground.suite_cells_in_order(run.id):
        if len(found) == most:
            break
        if cell.passed is False or cell.run.error:
            found.append(_failure(run, cell, names[cell.column]))
    return found


def _failure(run: SuiteRun, cell: Cell, model: str) -> Document:
    text = cell.run.text
    return {
        "row": run.rows[cell.row].label,
        "place": run.rows[cell.row].place,
        "model": model,
        "sample": cell.sample,
        "answer": text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}…",
        "error": cell.run.error or None,
        "checks": [
            {"type": check.type, "value": check.value, "why": check.reason} for check in cell.checks if not check.passed
        ],
    }


# -- choose ---------------------------------------------------------------------------------------------------------


async def choose(playground: Playground, asked: ChooseArguments, call: Call) -> Document:
    """Which models meet stated limits, by figures and suites stored on this machine and facts with a source."""
    limits = Constraints(
        asked.max_memory,
        asked.max_ttft,
        asked.min_speed,
        asked.commercial,
        asked.min_openness,
        asked.min_context,
    )

    def work() -> Document:
        check_limits(limits)
        choice = _choice(asked.file, limits) if asked.file else Choice(Path(), limits)
        names = asked.models or list(choice.models)
        named(playground, names)
        return of_decision(decide(playground, choice, names, call.owner), asked.most)

    return await call.in_thread(work)


def _choice(text: str, beside: Constraints) -> Choice:
    """A choice's file from its text: the suite has to stand in it, as no other file is read for an agent.

    Raises:
        PlaygroundError: It is wrong; names the place.
    """
    if beside.stated:
        raise UsageError(msg("Limits are given beside the file"), msg("Write them into the file, below limits:."))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "choice.yaml"
        path.write_text(text, encoding="utf-8")
        return read_choice(path, alone=True)


def of_decision(decision: Decision, most: int) -> Document:
    """A decision for an agent: verdicts with what decided them, and what would have to be run to know more."""
    lacking = missing(decision)
    figures = {str(each.variant): each.figures for each in decision.board.candidates}
    rates = decision.board.suite.rates if decision.board.suite else {}
    pass_rates = {str(variant): document(rate) for variant, rate in rates.items()}
    states = [verdict.state for verdict in decision.verdicts]
    return {
        "limits": document(decision.limits),
        "counts": {state: states.count(state) for state in ("eligible", "close", "undecided", "out")},
        "verdicts": [
            {
                "model": str(verdict.variant),
                "state": verdict.state,
                "why": verdict.words,
                "decided_by": [document(check) for check in verdict.deciding],
                "pass_rate": pass_rates.get(str(verdict.variant)),
                "figures": {name: document(taken) for name, taken in figures[str(verdict.variant)].items()},
            }
            for verdict in decision.verdicts[:most]
        ],
        "differences": list(map(difference_words, decision.differences)),
        "missing": {
            "suite": [str(column.variant) for column in lacking.suite],
            "measure": [str(variant) for variant in lacking.measure],
            "scores": [{"model": str(variant), "task": task} for variant, task in lacking.scores],
        },
        "notes": list(decision.board.evidence.notes),
    }
