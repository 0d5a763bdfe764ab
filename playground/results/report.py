"""A comparison or a measurement as one Markdown document, every figure with its receipt.

It knows records and receipts; it does not know where the document goes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from playground.records import Comparison, Request
from playground.results.figures import QUANTITIES, Measurement, ranks_of
from playground.results.receipts import (
    ModelReceipt,
    Receipts,
    condition_lines,
    machine_lines,
    number,
    of_comparison,
    of_measurement,
)


def markdown(document: Comparison | Measurement) -> str:
    """The document as GitHub's Markdown: the request, the figures side by side, the answers, all receipts."""
    if isinstance(document, Measurement):
        made = of_measurement(document)
        title = f"Measurement {document.id}"
        parts = [f"{document.repeats} repeats, answers of {document.request.max_new_tokens} tokens", *made.warnings]
        ranks = ["## Order", "", *_order(document), ""]
        answers: list[str] = []
    else:
        made = of_comparison(document)
        title = f"Comparison {document.id}"
        parts = [f"{document.mode} mode"]
        ranks = []
        answers = [line for run in document.runs for line in _answer(str(run.variant), run.text, run.error)]
    head = [f"# {title}", "", *(f"- {_plain(part)}" for part in (made.created_at, *parts)), ""]
    asked = ["## Request", "", *_fenced(_asked(document.request)), ""]
    return "\n".join([*head, *asked, "## Figures", "", *_table(made), "", *ranks, *answers, *_receipts(made)]) + "\n"


def _asked(request: Request) -> str:
    said = [f"{message.role}: {message.content}" for message in request.messages] or [request.prompt]
    return "\n".join(([f"system: {request.system}"] if request.system else []) + said)


def _table(made: Receipts) -> list[str]:
    """A row a figure, a column a model; several values as their median and quartiles."""
    names = list(dict.fromkeys(name for model in made.models for name in model.figures))
    rows = [["", *(str(model.variant) for model in made.models)]]
    for name in names:
        found = [model.figures[name] for model in made.models if name in model.figures]
        rows.append([f"{found[0].title}", *(_cell(model, name) for model in made.models)])
    if any(model.error for model in made.models):
        rows.append(["Error", *(model.error or "" for model in made.models)])
    return _grid(rows)


def _cell(model: ModelReceipt, name: str) -> str:
    found = model.figures.get(name)
    if found is None:
        return "–"
    spread = f" ({number(found.low)} … {number(found.high)})" if len(found.values) > 1 else ""
    return f"{number(found.median)}{spread} {found.unit}"


def _order(measurement: Measurement) -> list[str]:
    rows = [["", *(str(model.variant) for model in measurement.models)]]
    for name, quantity in QUANTITIES.items():
        found = ranks_of(measurement, name)
        if any(found):
            rows.append(
                [
                    quantity.title,
                    *(f"{place.rank}{', no difference seen' * place.shared}" if place else "–" for place in found),
                ]
            )
    return _grid(rows) if len(rows) > 1 else ["Nothing can be ranked."]


def _answer(name: str, text: str, error: str | None) -> list[str]:
    return [
        f"## Answer of {_plain(name)}",
        "",
        *([f"Failed: {_plain(error)}", ""] if error else []),
        *_fenced(text),
        "",
    ]


def _receipts(made: Receipts) -> list[str]:
    lines = []
    for model in made.models:
        lines += [f"## Receipt of {_plain(str(model.variant))}", ""]
        lines += [f"- {label}: {_plain(text)}" for label, text in condition_lines(model)]
        rows = [["Figure", "Unit", "Values", "Definition"]]
        rows += [
            [found.title, found.unit, ", ".join(map(number, found.values)), found.definition]
            for found in model.figures.values()
        ]
        lines += ["", *_grid(rows), ""]
    return [*lines, "## Machine", "", *(f"- {label}: {_plain(text)}" for label, text in machine_lines(made.machine))]


def _grid(rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(_plain(cell) or " " for cell in row) + " |" for row in rows]
    return [lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]


def _plain(text: str) -> str:
    """One line of text that Markdown leaves as it is."""
    return re.sub(r"([\\`*_<>|\[\]#])", r"\\\1", " ".join(text.split()))


def _fenced(text: str) -> list[str]:
    """Text as it stands, in a fence longer than any in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}text", text, fence]
