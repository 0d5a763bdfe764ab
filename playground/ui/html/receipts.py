"""Receipts on the page: a figure is a button, and what it opens says how the figure was taken.

The browser's own popovers do it: they open by touch, by keyboard and without a script, close with Escape, and stand
above everything. Knows receipts, not gradio.
"""

from __future__ import annotations

from urllib.parse import quote

from playground.messages import msg
from playground.records import Comparison
from playground.results.figures import Measurement
from playground.results.receipts import (
    Receipts,
    condition_lines,
    figure_lines,
    machine_lines,
    of_comparison,
    of_measurement,
)
from playground.ui.html.format import esc
from playground.ui.i18n import say


class ReceiptPopovers:
    """The receipts of one piece of the page: figures are wrapped first, then ``html`` gives what they open.

    Args:
        place: A word for this piece. The same receipt may be drawn in several, and a popover inside a tab that is
            hidden can't be opened.
    """

    def __init__(self, receipts: Receipts, place: str) -> None:
        self._receipts, self._place = receipts, place
        self._used: dict[str, tuple[int, str]] = {}

    def wrap(self, model: int, name: str, shown: str) -> str:
        """The figure as a button, or as it was where it has no receipt; ``shown`` is HTML of phrases."""
        taken = self._receipts.models[model]
        if name not in taken.figures:
            return shown
        key = f"slip-{self._place}-{esc(self._receipts.id)}-{model}-{name}"
        self._used[key] = (model, name)
        return (
            f'<button type="button" class="slip-opener" popovertarget="{key}" title="{esc(msg("How it was taken"))}">'
            f"{shown}</button>"
        )

    def html(self) -> str:
        """What the wrapped figures open; to stand in the same piece of HTML, outside of any table."""
        return "".join(self._popover(key, model, name) for key, (model, name) in self._used.items())

    def _popover(self, key: str, model: int, name: str) -> str:
        taken = self._receipts.models[model]
        parts = {
            msg("This figure"): figure_lines(taken, name),
            msg("How it was taken"): condition_lines(taken),
            msg("On what"): machine_lines(self._receipts.machine),
        }
        drawn = "".join(
            f"<h4>{esc(title)}</h4><dl>"
            + "".join(f"<dt>{esc(label)}</dt><dd>{esc(text)}</dd>" for label, text in lines)
            + "</dl>"
            for title, lines in parts.items()
        )
        title = taken.figures[name].title
        label = esc(msg("Receipt: {figure}", figure=title))
        close = esc(msg("Close"))
        return (
            f'<div popover id="{key}" class="slip" role="dialog" aria-label="{label}"><header><h3>{esc(title)}</h3>'
            f'<button type="button" popovertarget="{key}" popovertargetaction="hide" autofocus>{close}</button>'
            f"</header>{drawn}</div>"
        )


def popovers(document: Comparison | Measurement, place: str) -> ReceiptPopovers:
    """The receipts of a comparison or a measurement."""
    made = of_comparison(document) if isinstance(document, Comparison) else of_measurement(document)
    return ReceiptPopovers(made, place)


SAVED_AS = (
    ("html", msg("Web page"), msg("one file for any browser, without a script")),
    ("md", msg("Markdown"), msg("for a report or an issue")),
    ("csv", msg("CSV"), msg("a row a model, for a spreadsheet")),
    ("jsonl", msg("JSONL"), msg("a line a model, for a program")),
    ("json", msg("JSON"), msg("all of it, as it is kept")),
)
"""The endings of the files that ``ui/files.py`` serves, the most read first."""


def save_menu_html(id: str) -> str:
    """What saves a stored comparison with its receipts; a blind one has none until the vote. The server makes a file
    when it is asked for, so that the page carries none.
    """
    if not id:
        return ""
    files = "".join(
        f'<li><a href="{_address(id, ending)}" download>{esc(say(title))}</a> <small>{esc(say(what))}</small></li>'
        for ending, title, what in SAVED_AS
    )
    code = esc(say(msg("Code of this run")))
    ways = esc(say(msg("curl, Python, JavaScript and terminal, to ask the same again")))
    save = esc(say(msg("Save")))
    return (
        f'<details class="save-menu"><summary>{save}</summary><ul>{files}<li>'
        f'<a href="export/{quote(id, safe="")}/code" target="_blank" rel="noopener">{code}</a> <small>{ways}</small>'
        "</li></ul></details>"
    )


def downloads(document: Comparison | Measurement) -> str:
    """The same as one line of links, for below a table."""
    links = " · ".join(
        f'<a href="{_address(document.id, ending)}" download>{esc(say(title))}</a>' for ending, title, _ in SAVED_AS
    )
    label = esc(say(msg("Save with all receipts:")))
    return f'<p class="note downloads"><strong>{label}</strong> {links}</p>'


def _address(id: str, ending: str) -> str:
    return f"export/{quote(id, safe='')}.{ending}"
