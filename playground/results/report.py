"""A comparison or a measurement as one Markdown document, every figure with its receipt.

It knows records and receipts; it does not know where the document goes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from playground.messages import Translatable, msg
from playground.records import Comparison, Request
from playground.results.figures import QUANTITIES, Measurement, Place, rank_note, ranks_of
from playground.results.receipts import (
    ModelReceipt,
    Receipts,
    condition_lines,
    machine_lines,
    number,
    of_comparison,
    of_measurement,
)
from playground.results.requests import headings, parameter_lines, turns

Say = Callable[[str], str]


def markdown(document: Comparison | Measurement, say: Say = str) -> str:
    """The document as GitHub's Markdown: the request, the figures side by side, the answers, all receipts.

    Args:
        say: Tells a message in the reader's language.
    """
    if isinstance(document, Measurement):
        made = of_measurement(document)
        title = msg("Measurement {id}", id=document.id)
        tokens = document.request.max_new_tokens
        repeats = msg("{repeats} repeats, answers of {tokens} tokens", repeats=document.repeats, tokens=tokens)
        parts = [repeats, *made.warnings]
        names = headings([model.variant for model in document.models])
        ranks = [_heading(msg("Order"), say), "", *_order(document, say), ""]
        answers: list[str] = []
    else:
        made = of_comparison(document)
        title = msg("Comparison {id}", id=document.id)
        names = headings([run.variant for run in document.runs])
        parts = [msg("{mode} mode", mode=document.mode)]
        if document.parent:
            parts.append(msg("goes on from comparison {id}", id=document.parent))
        ranks = []
        answers = [line for place, name in enumerate(names) for line in _answer(document, place, name, say)]
    head = [f"# {say(title)}", "", *(f"- {_plain(say(part))}" for part in (made.created_at, *parts)), ""]
    set_to = [f"- {say(label)}: {_plain(say(value))}" for label, value in parameter_lines(document.request)]
    asked = [_heading(msg("Request"), say), "", *_fenced(_asked(document.request)), "", *set_to, ""]
    figures = [_heading(msg("Figures"), say), "", *_table(made, names, say), ""]
    return "\n".join([*head, *asked, *figures, *ranks, *answers, *_receipts(made, names, say)]) + "\n"


def _heading(title: Translatable, say: Say) -> str:
    return f"## {say(title)}"


def _asked(request: Request) -> str:
    """The prompt as it stands; a conversation with who said what."""
    said = turns(request)
    if len(said) == 1 and said[0].role == "user":
        return said[0].content
    return "\n".join(f"{message.role}: {message.content}" for message in said)


def _table(made: Receipts, headed: Sequence[str], say: Say) -> list[str]:
    """A row a figure, a column a model; several values as their median and quartiles."""
    names = list(dict.fromkeys(name for model in made.models for name in model.figures))
    rows = [["", *headed]]
    for name in names:
        found = [model.figures[name] for model in made.models if name in model.figures]
        rows.append([say(found[0].title), *(_cell(model, name) for model in made.models)])
    if any(model.error for model in made.models):
        rows.append([say(msg("Error")), *(say(model.error or "") for model in made.models)])
    return _grid(rows)


def _cell(model: ModelReceipt, name: str) -> str:
    found = model.figures.get(name)
    if found is None:
        return "–"
    spread = f" ({number(found.low)} … {number(found.high)})" if len(found.values) > 1 else ""
    return f"{number(found.median)}{spread} {found.unit}"


def _order(measurement: Measurement, say: Say) -> list[str]:
    rows = [["", *(str(model.variant) for model in measurement.models)]]
    for name, quantity in QUANTITIES.items():
        found = ranks_of(measurement, name)
        if any(found):
            rows.append([say(quantity.title), *(say(_rank(place)) if place else "–" for place in found)])
    if len(rows) == 1:
        return [say(msg("Nothing can be ranked."))]
    note = rank_note(measurement)
    return [*_grid(rows), *(["", _plain(say(note))] if note else [])]


def _rank(place: Place) -> Translatable:
    if place.shared:
        return msg("{rank}, no difference seen", rank=f"{place.rank}{place.mark}")
    return msg("{rank}", rank=f"{place.rank}{place.mark}")


def _answer(comparison: Comparison, place: int, name: str, say: Say) -> list[str]:
    run = comparison.runs[place]
    lines = [_heading(msg("Answer of {model}", model=_plain(name)), say), ""]
    own, shared = comparison.asked(place), comparison.request
    if _asked(own) != _asked(shared):
        lines += [say(msg("It was asked:")), "", *_fenced(_asked(own)), ""]
    if run.error:
        lines += [say(msg("Failed: {error}", error=_plain(say(run.error)))), ""]
    return [*lines, *_fenced(run.text), ""]


def _receipts(made: Receipts, headed: Sequence[str], say: Say) -> list[str]:
    lines = []
    for model, name in zip(made.models, headed, strict=True):
        lines += [_heading(msg("Receipt of {model}", model=_plain(name)), say), ""]
        lines += [f"- {say(label)}: {_plain(say(text))}" for label, text in condition_lines(model)]
        rows = [[say(each) for each in (msg("Figure"), msg("Unit"), msg("Values"), msg("Definition"))]]
        rows += [
            [say(found.title), found.unit, ", ".join(map(number, found.values)), say(found.definition)]
            for found in model.figures.values()
        ]
        lines += ["", *_grid(rows), ""]
    machine = [f"- {say(label)}: {_plain(say(text))}" for label, text in machine_lines(made.machine)]
    return [*lines, _heading(msg("Machine"), say), "", *machine]


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
