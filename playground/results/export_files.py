"""A comparison or a measurement as a file: JSON, JSONL, CSV or Markdown, each with all receipts.

Pure functions of a record. JSON, JSONL and CSV have the names of the records and are the same in every language; only
Markdown speaks to a reader. The page in HTML is made where HTML is (``ui/html/page_export.py``).
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from playground.errors import UsageError
from playground.messages import Translatable, msg
from playground.records import Comparison, ModelRun, Request, plain_json
from playground.results.comparator import comparison_json
from playground.results.figures import FIGURES, Measured, Measurement
from playground.results.receipts import (
    RECEIPTS,
    ModelReceipt,
    Receipts,
    machine_lines,
    of_comparison,
    of_measurement,
    with_receipts,
)
from playground.results.report import markdown
from playground.results.requests import PARAMETERS
from playground.results.spreadsheet import cell

if TYPE_CHECKING:
    from playground.results.votes import Vote

Document = Comparison | Measurement
Say = Callable[[str], str]

MEDIA = {
    "json": "application/json",
    "jsonl": "application/jsonl",
    "csv": "text/csv; charset=utf-8",
    "md": "text/markdown; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "comparator": "application/json",
}
"""The formats by the ending of their file, and what each is on the web; ``comparator`` is LLM Comparator's JSON."""

LONGER = {"comparator": "comparator.json"}
"""What a file's name ends with, where that is more than the format's name."""


def as_json(document: Document) -> str:
    return json.dumps(with_receipts(document), indent=1, allow_nan=False) + "\n"


def as_jsonl(document: Document) -> str:
    """A line a run (of a measurement: a model), each whole in itself: what was asked, what came, on what, how taken."""
    made = _receipts(document)
    about = {"created_at": document.created_at, "environment": document.environment}
    lines: list[dict[str, Any]] = []
    for place, receipt in enumerate(made.models):
        head: dict[str, Any]
        body: dict[str, Any]
        if isinstance(document, Comparison):
            head = {"comparison": document.id, "parent": document.parent, "mode": document.mode}
            body = {"request": document.asked(place), "run": _without_request(document.runs[place])}
        else:
            head = {"measurement": document.id, "repeats": document.repeats, "warnings": document.warnings}
            body = {"request": document.request, "measured": document.models[place]}
        lines.append({**head, "column": place, "model": str(receipt.variant), **about, **body, "receipt": receipt})
    return "".join(json.dumps(plain_json(line), allow_nan=False) + "\n" for line in lines)


def _without_request(run: ModelRun) -> dict[str, Any]:
    return {name: value for name, value in run.to_json().items() if name != "request"}


def as_csv(document: Document) -> str:
    """A row a run (of a measurement: a model), by RFC 4180, with the units of figures in their headings. A cell that a
    spreadsheet would run as a formula begins with an apostrophe.
    """
    made = _receipts(document)
    rows = []
    for place, receipt in enumerate(made.models):
        if isinstance(document, Comparison):
            row = _run_cells(document, place) | _figure_cells(document.runs[place], receipt)
        else:
            row = _measured_cells(document, document.models[place], place) | _spread_cells(receipt)
        rows.append(row | _condition_cells(receipt) | _machine_cells(made))
    names = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO()
    table = csv.DictWriter(out, names, restval="", lineterminator="\r\n")
    table.writeheader()
    table.writerows({name: cell(value) for name, value in row.items()} for row in rows)
    return out.getvalue()


def as_markdown(document: Document, say: Say = str) -> str:
    return markdown(document, say)


def text_of(document: Document, ending: str, say: Say = str, vote: Vote | None = None) -> str:
    """The file of that ending, one of ``MEDIA`` but ``html``.

    Args:
        vote: On the comparison, for a format that has scores.

    Raises:
        KeyError: There is none of that ending.
        UsageError: The format is of two answers, and there are not two.
    """
    made: Mapping[str, Callable[[], str]] = {
        "json": lambda: as_json(document),
        "jsonl": lambda: as_jsonl(document),
        "csv": lambda: as_csv(document),
        "md": lambda: as_markdown(document, say),
        "comparator": lambda: as_comparator(document, vote=vote),
    }
    return made[ending]()


def as_comparator(document: Document, pair: tuple[int, int] = (0, 1), vote: Vote | None = None) -> str:
    """Two columns for LLM Comparator.

    Raises:
        UsageError: There are no two such columns.
    """
    if not isinstance(document, Comparison):
        raise UsageError(
            msg("A measurement has no answers to compare"), msg("LLM Comparator's file is of a comparison.")
        )
    return comparison_json(document, *pair, vote)


def file_name(document: Document, ending: str) -> str:
    """A name that is one on every system, whatever the id holds."""
    kind = "comparison" if isinstance(document, Comparison) else "measurement"
    return f"{kind}-{re.sub(r'[^A-Za-z0-9_-]', '', document.id)[:64] or 'unnamed'}.{LONGER.get(ending, ending)}"


def _receipts(document: Document) -> Receipts:
    return of_comparison(document) if isinstance(document, Comparison) else of_measurement(document)


def _run_cells(comparison: Comparison, place: int) -> dict[str, Any]:
    run, asked = comparison.runs[place], comparison.asked(place)
    return {
        "comparison": comparison.id,
        "created_at": comparison.created_at,
        "parent": comparison.parent,
        "column": place,
        "model": str(run.variant),
        **_asked_cells(asked),
        "own_request": run.request is not None,
        "taken_in": run.taken_in,
        "answer": run.text,
        "finish_reason": run.finish_reason,
        "error": run.error,
        "answer_begins_with [tokens read]": len(asked.answer_ids),
    }


def _measured_cells(measurement: Measurement, model: Measured, place: int) -> dict[str, Any]:
    return {
        "measurement": measurement.id,
        "created_at": measurement.created_at,
        "column": place,
        "model": str(model.variant),
        **_asked_cells(measurement.request),
        "error": model.error,
        "warnings": " ".join(measurement.warnings),
    }


def _asked_cells(request: Request) -> dict[str, Any]:
    """The prompt is the last thing that was asked; ``messages`` the whole conversation, as JSON."""
    last = request.messages[-1].content if request.messages else request.prompt
    told = {name: getattr(request, name) for name in PARAMETERS}
    return {
        "prompt": last,
        "messages": request.messages or None,
        "system": request.system,
        **told,
        "stop": request.stop or None,
    }


def _figure_cells(run: ModelRun, receipt: ModelReceipt) -> dict[str, Any]:
    """Every figure has its column, known or not, so that the files of two comparisons fit together."""
    cells: dict[str, Any] = {}
    for name, known in FIGURES.items():
        found = receipt.figures.get(name)
        if name in RECEIPTS:
            cells[f"{name} [{found.unit if found else known.unit}]"] = found.median if found else None
        elif hasattr(run.timings, name):
            cells[f"{name} [{known.unit}]"] = getattr(run.timings, name)
    return cells


def _spread_cells(receipt: ModelReceipt) -> dict[str, Any]:
    cells: dict[str, Any] = {}
    for name, found in receipt.figures.items():
        cells[f"{name} median [{found.unit}]"] = found.median
        if len(found.values) > 1:
            cells[f"{name} low [{found.unit}]"] = found.low
            cells[f"{name} high [{found.unit}]"] = found.high
            cells[f"{name} values [{found.unit}]"] = found.values
    return cells


def _condition_cells(receipt: ModelReceipt) -> dict[str, Any]:
    fidelity = receipt.fidelity
    return {
        "runtime": receipt.runtime,
        "precision": receipt.precision,
        "recipe": receipt.recipe,
        "engine": receipt.engine,
        "start": receipt.start,
        "mode": receipt.mode,
        "threads": receipt.threads,
        "repeats": receipt.repeats,
        "warm_ups": receipt.warm_ups,
        "counted_in": receipt.unit,
        "tokenizer": receipt.tokenizer,
        "memory_method": receipt.memory_method,
        "other_programs [cores]": receipt.other_cpu_cores,
        "export_check": fidelity.verdict if fidelity else None,
        "export_check_same_top_token [share]": fidelity.top1_agreement if fidelity else None,
        "export_check_mean_kl [nats]": fidelity.mean_kl if fidelity else None,
        "notes": " ".join(receipt.notes),
    }


def _machine_cells(made: Receipts) -> dict[str, Any]:
    names = ("processor", "cores", "memory_limit", "versions", "commit")
    told: list[Translatable] = [text for _, text in machine_lines(made.machine)]
    return dict(zip(names, told, strict=True))
