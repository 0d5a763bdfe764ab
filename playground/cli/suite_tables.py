"""A suite that was run, for people: the matrix of answers, each model's pass rate and figures, how models differ."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from playground.cli import output
from playground.messages import msg, plural, sentences

if TYPE_CHECKING:
    from rich.console import Console

    from playground.records import Cell, SuiteRun
    from playground.results.suite_summary import Regression, SuiteSummary
    from playground.service import Playground

MOST_ROWS = 60
"""Rows of the matrix that are printed; those that don't pass everywhere come first where there are more."""
LABEL_CHARS = 48
MOST_CHANGES = 20


def print_suite(playground: Playground, run: SuiteRun, summary: SuiteSummary) -> None:
    """Everything that is known of a suite, in the order a reader wants it: answers first, then what they come to."""
    from playground.results.suite_report import difference_lines, totals_words

    console = output.stdout()
    _print_matrix(playground, run, summary, console)
    _print_models(summary, console)
    lines = difference_lines(summary)
    if lines:
        console.print()
    for line, why in lines:
        console.print(output.clean(sentences(msg("{sentence}.", sentence=line), why)), soft_wrap=True)
    console.print(output.clean(totals_words(summary)), soft_wrap=True)


def _print_matrix(playground: Playground, run: SuiteRun, summary: SuiteSummary, console: Console) -> None:
    """Row a prompt, column a model: ✓ passed, ✗ not, ! failed, · nothing to pass, – not asked."""
    from rich.table import Table

    from playground.results.entries import one_line

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(output.say(msg("prompt")), overflow="ellipsis", no_wrap=True)
    for column in summary.columns:
        table.add_column(output.clean(column.heading), overflow="fold")
    is_long = len(run.rows) > MOST_ROWS
    shown = 0
    for row, group in itertools.groupby(playground.suite_cells_in_order(run.id), key=lambda cell: cell.row):
        cells = list(group)
        if is_long and all(cell.passed is not False and cell.run.error is None for cell in cells):
            continue
        if shown == MOST_ROWS:
            break
        shown += 1
        label = one_line(run.rows[row].label or run.rows[row].id, LABEL_CHARS)
        marks = [_mark([cell for cell in cells if cell.column == at], run.repeats) for at in range(len(run.columns))]
        table.add_row(output.clean(label), *marks)
    if shown:
        console.print(table)
    if is_long:
        words = plural(
            "{n} prompt that is not passed by all is shown, of {rows}; --output FILE.html has all.",
            "{n} prompts that are not passed by all are shown, of {rows}; --output FILE.html has all.",
            n=shown,
            rows=len(run.rows),
        )
        console.print(output.clean(words), soft_wrap=True)


def _mark(cells: list[Cell], repeats: int) -> str:
    if not cells:
        return "–"
    known = [cell.passed for cell in cells if cell.passed is not None]
    if any(cell.run.error is not None for cell in cells):
        return "!"
    if not known:
        return "·"
    return ("✓" if all(known) else "✗") + (f" {sum(known)}/{len(known)}" if repeats > 1 else "")


def _print_models(summary: SuiteSummary, console: Console) -> None:
    """A block a model: its pass rate and what may be behind it, speed, memory."""
    from playground.results.suite_report import notes_of, rate_words

    console.print()
    for column in summary.columns:
        parts = [rate_words(column.rate), *_figures(column.figures, column.spread)]
        if column.peak_memory_mb is not None:
            parts.append(msg("{mb:,.0f} MB at the peak", mb=column.peak_memory_mb))
        console.print(f"{output.clean(column.heading)}: {', '.join(map(output.clean, parts))}", soft_wrap=True)
        for note in notes_of(column):
            console.print(f"  {output.clean(note)}", soft_wrap=True)


def _figures(figures: dict[str, float], spread: dict[str, tuple[float, ...]]) -> list[str]:
    from playground.results.figures import FIGURES

    found: list[str] = []
    for name in ("decode_tok_s", "ttft_s"):
        if name not in figures:
            continue
        quantity = FIGURES[name]
        between = "–".join(quantity.shown(value) for value in spread[name]) if name in spread else ""
        found.append(
            msg(
                "{heading} {median} ({spread})",
                heading=quantity.heading,
                median=quantity.shown(figures[name]),
                spread=between,
            )
            if between
            else msg("{heading} {median}", heading=quantity.heading, median=quantity.shown(figures[name]))
        )
    return found


def print_regression(console: Console, found: Regression, run: SuiteRun) -> None:
    """What changed since an earlier suite."""
    from playground.results.entries import one_line
    from playground.results.suite_report import regression_words

    labels = {row.id: row.label for row in run.rows}
    console.print()
    console.print(output.clean(regression_words(found)), soft_wrap=True)
    for change in found.worse[:MOST_CHANGES]:
        label = one_line(labels.get(change.row) or change.row, LABEL_CHARS)
        words = msg(
            "worse: {label} ({model}): {before:.0%} → {now:.0%} passed",
            label=label,
            model=change.column,
            before=change.before,
            now=change.now,
        )
        console.print(output.clean(words), soft_wrap=True)
    if len(found.worse) > MOST_CHANGES:
        console.print(output.say(msg("and {n} more", n=len(found.worse) - MOST_CHANGES)))
    if found.new or found.gone:
        words = msg("New since then: {new}. Gone: {gone}.", new=found.new, gone=found.gone)
        console.print(output.clean(words), soft_wrap=True)
    for name, then in found.otherwise.items():
        words = msg("{model} is held against {then}, asked otherwise.", model=name, then=then)
        console.print(output.clean(words), soft_wrap=True)
    if found.unmatched:
        words = msg("The earlier suite has no column of {names}.", names=found.unmatched)
        console.print(output.clean(words), soft_wrap=True)
