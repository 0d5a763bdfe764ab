"""A suite as a file: JSON, JSONL, CSV, JUnit XML, a web page or Markdown, written cell by cell.

No format holds more than one row's cells in memory, so that a suite of any length can be exported. JSON has promptfoo's
names where the same thing is meant (``results.results[]`` with ``success``, ``score``, ``latencyMs``, ``gradingResult``
and ``componentResults``), and our own records beside them (``suite``, ``summary``, ``run``). All but the page and
Markdown, which are made in ``suite_report``, are the same in every language.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TextIO
from xml.sax.saxutils import escape, quoteattr

from playground.errors import UsageError
from playground.messages import msg
from playground.records import Cell, Request, SuiteRun, plain_json
from playground.results.comparator import write_suite
from playground.results.export_files import LONGER, MEDIA, Say
from playground.results.figures import FIGURES
from playground.results.requests import PARAMETERS
from playground.results.spreadsheet import cell as table_cell
from playground.results.suite_report import as_html, as_markdown
from playground.results.suite_summary import SuiteSummary, column_keys, column_names
from playground.results.suites import Order, asked

Cells = Callable[[Order], Iterator[Cell]]
"""All cells of a suite in an order of places; may be called several times."""

SUITE_MEDIA = {ending: MEDIA[ending] for ending in ("json", "jsonl", "csv", "md", "html")} | {
    "xml": "application/xml",
    "comparator": MEDIA["comparator"],
}
"""The formats by the ending of their file, and what each is on the web; ``xml`` is JUnit's, ``comparator`` is LLM
Comparator's, of the first two columns.
"""
TIMINGS = (
    *("ttft_s", "decode_tok_s", "prefill_tok_s", "total_s", "load_s", "queue_s", "prompt_tokens", "reused_tokens"),
    *("output_tokens", "peak_memory_mb", "cpu_s"),
)
CHECK_SEPARATOR = "; "
NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 has no place for (https://www.w3.org/TR/xml/#charsets)."""


@dataclass(frozen=True)
class SuiteDocument:
    """What is exported.

    Attributes:
        cells: May be asked for again; what is finished between two calls may be in one of them alone.
    """

    run: SuiteRun
    summary: SuiteSummary
    cells: Cells


def write(document: SuiteDocument, ending: str, file: TextIO, say: Say = str) -> None:
    """Write the file of that ending, one of ``SUITE_MEDIA``.

    Raises:
        UsageError: There is no such format.
    """
    run, summary, cells = document.run, document.summary, document.cells
    made: Mapping[str, Callable[[], Iterable[str]]] = {
        "json": lambda: as_json(run, summary, cells("rows")),
        "jsonl": lambda: as_jsonl(run, cells("rows")),
        "xml": lambda: as_junit(run, summary, cells("columns")),
        "html": lambda: as_html(run, summary, cells("rows"), say),
        "md": lambda: as_markdown(run, summary, cells("rows"), say),
    }
    check_ending(ending)
    if ending == "csv":
        write_csv(run, cells("rows"), file)
        return
    if ending == "comparator":
        write_suite(run, column_names(run), (0, 1), cells("rows"), file)
        return
    for piece in made[ending]():
        file.write(piece)


def check_ending(ending: str) -> None:
    """
    Raises:
        UsageError: There is no format of that ending.
    """
    if ending not in SUITE_MEDIA:
        raise UsageError(
            msg("There is no format '{ending}' for a suite", ending=ending),
            msg("Formats by the ending of the file: {known}.", known=sorted(SUITE_MEDIA)),
        )


def suite_file_name(run: SuiteRun, ending: str) -> str:
    """A name that is one on every system, whatever the suite's holds."""
    return f"suite-{re.sub(r'[^A-Za-z0-9_-]', '', run.id)[:64] or 'unnamed'}.{LONGER.get(ending, ending)}"


# -- JSON -----------------------------------------------------------------------------------------------------------


def as_json(run: SuiteRun, summary: SuiteSummary, cells: Iterable[Cell]) -> Iterator[str]:
    """One document in pieces; ``results.results`` comes a cell at a time."""
    keys = column_keys(run)
    stats = {
        "successes": summary.cells - summary.failed - sum(column.wrong for column in summary.columns),
        "failures": sum(column.wrong for column in summary.columns),
        "errors": summary.failed,
        "tokenUsage": {"completion": sum(column.tokens for column in summary.columns)},
    }
    prompts = [
        {
            "provider": key,
            "label": column.heading,
            "metrics": {
                "score": column.score,
                "testPassCount": column.cells - column.failed - column.wrong,
                "testFailCount": column.wrong,
                "testErrorCount": column.failed,
                "totalLatencyMs": column.seconds * 1000,
                "tokenUsage": {"completion": column.tokens},
            },
        }
        for key, column in zip(keys, summary.columns, strict=True)
    ]
    about = {"version": 3, "timestamp": run.created_at, "prompts": prompts, "stats": stats}
    yield f'{{"evalId": {_json(run.id)},\n"config": {_json({"description": run.name})},\n'
    yield f'"suite": {_json(run)},\n"summary": {_json(summary)},\n"results": {{'
    for name, value in about.items():
        yield f'"{name}": {_json(value)},\n'
    yield '"results": ['
    between = "\n"
    for cell in cells:
        yield between + _json(_result(run, summary, keys, cell))
        between = ",\n"
    yield "\n]}}\n"


def as_jsonl(run: SuiteRun, cells: Iterable[Cell]) -> Iterator[str]:
    """A line a cell, each whole in itself: what was asked of whom, what came, what the checks said."""
    keys = column_keys(run)
    for cell in cells:
        about = {"suite": run.id, "name": run.name, "created_at": run.created_at}
        row, asked_here = run.rows[cell.row], request_of(run, cell)
        line = {
            **about,
            "row": row.id,
            "label": row.label,
            "vars": row.vars,
            "metadata": row.metadata,
            "column": cell.column,
            "model": keys[cell.column],
            "sample": cell.sample,
            "passed": cell.passed,
            "score": cell.score,
            "checks": cell.checks,
            "request": asked_here,
            "run": replace(cell.run, request=None),
        }
        yield _json(line) + "\n"


def request_of(run: SuiteRun, cell: Cell) -> Request:
    """What the model of a cell was asked."""
    return cell.run.request or asked(run, cell.row, cell.column, cell.sample)


def _result(run: SuiteRun, summary: SuiteSummary, keys: list[str], cell: Cell) -> dict[str, Any]:
    row, timings = run.rows[cell.row], cell.run.timings
    asked_here = request_of(run, cell)
    failed_by = [check.reason for check in cell.checks if not check.passed]
    usage = {
        "prompt": timings.prompt_tokens,
        "completion": timings.output_tokens,
        "cached": timings.reused_tokens,
        "total": (timings.prompt_tokens or 0) + (timings.output_tokens or 0),
    }
    return {
        "id": f"{run.id}/{cell.row}/{cell.column}/{cell.sample}",
        "row": row.id,
        "testIdx": cell.row,
        "promptIdx": cell.column,
        "sample": cell.sample,
        "provider": {"id": keys[cell.column], "label": summary.columns[cell.column].heading},
        "prompt": {"raw": asked_here.prompt or _json(asked_here.messages), "label": row.label},
        "vars": row.vars,
        "metadata": row.metadata,
        "success": cell.passed is not False and cell.run.error is None,
        "passed": cell.passed,
        "score": cell.score,
        "latencyMs": None if timings.total_s is None else timings.total_s * 1000,
        "response": {"output": cell.run.text, "tokenUsage": usage},
        "error": None if cell.run.error is None else str(cell.run.error),
        "gradingResult": {
            "pass": cell.passed,
            "score": cell.score,
            "reason": CHECK_SEPARATOR.join(failed_by) or None,
            "componentResults": [
                {
                    "pass": check.passed,
                    "score": check.score,
                    "reason": str(check.reason),
                    "assertion": {"type": check.type, "value": check.value, "weight": check.weight},
                }
                for check in cell.checks
            ],
        },
        "namedScores": {check.metric: check.score for check in cell.checks if check.metric},
        "run": cell.run,
    }


def _json(value: Any) -> str:
    return json.dumps(plain_json(value), allow_nan=False)


# -- CSV ------------------------------------------------------------------------------------------------------------


def write_csv(run: SuiteRun, cells: Iterable[Cell], file: TextIO) -> None:
    """A row a cell, by RFC 4180, with the units of figures in their headings. A cell that a spreadsheet would run as a
    formula begins with an apostrophe.
    """
    names = column_names(run)
    variables = list(dict.fromkeys(name for row in run.rows for name in row.vars))
    metadata = list(dict.fromkeys(name for row in run.rows for name in row.metadata))
    table = csv.writer(file, lineterminator="\r\n")
    heads = [
        "suite",
        "row",
        "label",
        "place",
        "column",
        "model",
        "sample",
        "passed",
        "score",
        "failed_checks",
        "answer",
    ]
    heads += ["finish_reason", "error", *(f"{name} [{_unit(name)}]" for name in TIMINGS), "mode", "engine"]
    heads += ["prompt", "messages", "system", *PARAMETERS]
    heads += [*(f"vars.{name}" for name in variables), *(f"metadata.{name}" for name in metadata)]
    table.writerow(map(table_cell, heads))
    for cell in cells:
        row, asked_here, timings = run.rows[cell.row], request_of(run, cell), cell.run.timings
        failed_by = CHECK_SEPARATOR.join(f"{check.type}: {check.reason}" for check in cell.checks if not check.passed)
        values: list[Any] = [run.id, row.id, row.label, row.place, cell.column, names[cell.column], cell.sample]
        values += [cell.passed, cell.score, failed_by, cell.run.text, cell.run.finish_reason]
        values += [None if cell.run.error is None else str(cell.run.error)]
        values += [getattr(timings, name) for name in TIMINGS]
        values += [timings.mode, cell.run.engine, asked_here.prompt, asked_here.messages or None, asked_here.system]
        values += [getattr(asked_here, name) for name in PARAMETERS]
        values += [row.vars.get(name) for name in variables] + [row.metadata.get(name) for name in metadata]
        table.writerow(map(table_cell, values))


def _unit(name: str) -> str:
    if name in FIGURES:
        return FIGURES[name].unit
    return "tokens" if name.endswith("_tokens") else "s" if name.endswith("_s") else "MB"


# -- JUnit ----------------------------------------------------------------------------------------------------------


def as_junit(run: SuiteRun, summary: SuiteSummary, cells: Iterable[Cell]) -> Iterator[str]:
    """What Jenkins, GitLab and others read: a ``testsuite`` a column, a ``testcase`` an answer.

    Args:
        cells: Column by column.
    """
    total = {name: sum(getattr(column, name) for column in summary.columns) for name in ("cells", "wrong", "failed")}
    time = sum(column.seconds for column in summary.columns)
    yield '<?xml version="1.0" encoding="UTF-8"?>\n'
    yield (
        f"<testsuites name={_attribute(run.name)} {_counts(total['cells'], total['wrong'], total['failed'], time)}>\n"
    )
    at = -1
    for cell in cells:
        if cell.column != at:
            if at >= 0:
                yield "</testsuite>\n"
            at = cell.column
            column = summary.columns[at]
            counts = _counts(column.cells, column.wrong, column.failed, column.seconds)
            yield (
                f'<testsuite name={_attribute(column.heading)} {counts} skipped="0" '
                f'timestamp="{run.created_at[:19]}" hostname="localhost">\n<properties>'
                f'<property name="suite" value={_attribute(run.id)}/></properties>\n'
            )
        yield _case(run, summary.columns[at].heading, cell)
    if at >= 0:
        yield "</testsuite>\n"
    yield "</testsuites>\n"


def _case(run: SuiteRun, heading: str, cell: Cell) -> str:
    row = run.rows[cell.row]
    name = f"{row.id}: {row.label}" + (f" #{cell.sample + 1}" if run.repeats > 1 else "")
    begin = (
        f"<testcase classname={_attribute(f'{run.name}.{heading}')} name={_attribute(name)} "
        f'time="{cell.run.timings.total_s or 0:.6f}">'
    )
    found = ""
    if cell.run.error is not None:
        said = str(cell.run.error)
        found = f'<error type="error" message={_attribute(said)}>{_text(said)}</error>'
    elif cell.passed is False:
        failing = [check for check in cell.checks if not check.passed]
        said = CHECK_SEPARATOR.join(f"{check.type}: {check.reason}" for check in failing)
        kinds = ",".join(dict.fromkeys(check.type for check in failing)) or "score"
        found = f"<failure type={_attribute(kinds)} message={_attribute(said)}>{_text(said)}</failure>"
    return f"{begin}{found}<system-out>{_text(cell.run.text)}</system-out></testcase>\n"


def _counts(tests: int, failures: int, errors: int, seconds: float) -> str:
    return f'tests="{tests}" failures="{failures}" errors="{errors}" time="{seconds:.3f}"'


def _attribute(text: str) -> str:
    return quoteattr(NO_XML.sub("�", text))


def _text(text: str) -> str:
    return escape(NO_XML.sub("�", text))
