"""A suite for people: a web page of its own, and Markdown. Both come in pieces, a row of the suite at a time.

Prompts, answers and names are anybody's words: in the page they are escaped, and it has neither scripts nor anything
that is fetched.
"""

from __future__ import annotations

import html
import itertools
from collections.abc import Iterable, Iterator, Sequence

from playground.messages import NOTHING, Translatable, msg, plural
from playground.records import Cell, SuiteRun
from playground.results.entries import one_line
from playground.results.export_files import Say
from playground.results.figures import FIGURES
from playground.results.statistics import Rate, outcome_words, why_words
from playground.results.suite_summary import ColumnSummary, Regression, SuiteSummary

SHOWN = ("ttft_s", "decode_tok_s")
MARKS = {True: "✓", False: "✗", None: "·"}
FEW_PAIRS = 6
"""More pairs of columns than a reader reads one by one."""
LABEL_CHARS, ANSWER_CHARS = 80, 200
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
STYLE = """body{font:15px/1.45 system-ui,sans-serif;margin:2rem;color:#1c1c1c;background:#fff}
table{border-collapse:collapse;margin:1rem 0}th,td{border:1px solid #c8c8c8;padding:.3rem .5rem;text-align:left;
vertical-align:top}td.n{text-align:right}pre{white-space:pre-wrap;margin:.3rem 0;max-width:60ch}
.y{background:#e6f4e6}.f{background:#fbe6e4}summary{cursor:pointer}.small{color:#555;font-size:13px}
@media(prefers-color-scheme:dark){body{color:#e4e4e4;background:#161616}th,td{border-color:#444}
.y{background:#17351a}.f{background:#411c18}.small{color:#a8a8a8}}"""


# -- words ----------------------------------------------------------------------------------------------------------


def rate_words(rate: Rate) -> Translatable:
    """A pass rate with what it may be: ``34 of 40 passed (85 %, 95 % interval 71 to 93 %)``."""
    if rate.share is None:
        return msg("nothing to pass")
    return msg(
        "{passed:g} of {prompts} passed ({share:.0f} %, 95 % interval {low:.0f} to {high:.0f} %)",
        passed=round(rate.passed, 2),
        prompts=rate.prompts,
        share=100 * rate.share,
        low=100 * rate.interval.low,
        high=100 * rate.interval.high,
    )


def figure_words(column: ColumnSummary, name: str) -> str:
    """A median in the unit of ``FIGURES``' heading."""
    return FIGURES[name].shown(column.figures.get(name))


def notes_of(column: ColumnSummary) -> list[Translatable]:
    """What a reader should know of a column's figures."""
    notes: list[Translatable] = []
    if column.failed:
        failed = plural("{n} answer failed", "{n} answers failed", n=column.failed)
        notes.append(msg("{failed}, the first one so: {error}", failed=failed, error=column.error or NOTHING))
    if column.cut_off:
        notes.append(
            plural("{n} answer was cut off at its length", "{n} answers were cut off at their length", n=column.cut_off)
        )
    if column.reused:
        notes.append(
            msg(
                "{percent:.0f} % of the prompts' tokens stood in the cache from the prompt before, so the first tokens "
                "came sooner than alone",
                percent=100 * column.reused,
            )
        )
    if column.distinct is not None:
        notes.append(
            msg(
                "asked again, {varied} of {repeated} prompts were answered differently ({distinct:.1f} distinct "
                "answers each)",
                varied=column.varied,
                repeated=column.repeated,
                distinct=column.distinct,
            )
        )
    if column.shared:
        notes.append(msg("its answers shared what computed them: these timings rank nothing"))
    return notes


def difference_lines(summary: SuiteSummary) -> list[tuple[Translatable, Translatable]]:
    """Of each pair of columns: what is seen, and what stands behind it. Of many pairs, those between which a difference
    is seen, and how many others there are.
    """
    pairs = summary.differences
    told = pairs if len(pairs) <= FEW_PAIRS else tuple(each for each in pairs if each.test.seen != "none")
    lines = [
        (
            msg(
                "{first} against {second}: {outcome}",
                first=summary.columns[each.first].heading,
                second=summary.columns[each.second].heading,
                outcome=outcome_words(each.test),
            ),
            why_words(each.test),
        )
        for each in told
    ]
    if others := len(pairs) - len(told):
        seen = plural("between {n} pair of models", "between {n} other pairs of models", n=others)
        lines.append((msg("{pairs}: no difference seen", pairs=seen), NOTHING))
    return lines


def totals_words(summary: SuiteSummary) -> Translatable:
    """How much of a suite is there."""
    if summary.cells < summary.total:
        return msg(
            "{cells:,} of {total:,} answers are there, {failed} of them failed: the suite is not finished.",
            cells=summary.cells,
            total=summary.total,
            failed=summary.failed,
        )
    if not summary.failed:
        return plural("{n:,} answer, none failed.", "{n:,} answers, none failed.", n=summary.cells)
    return plural(
        "{n:,} answer, {failed} failed.", "{n:,} answers, {failed} failed.", n=summary.cells, failed=summary.failed
    )


def regression_words(found: Regression) -> Translatable:
    """``3 cells got worse, 1 got better, 36 are as they were.``"""
    worse = plural("{n} cell got worse", "{n} cells got worse", n=len(found.worse))
    better = plural("{n} got better", "{n} got better", n=len(found.better))
    same = plural("{n} is as it was", "{n} are as they were", n=found.same)
    return msg("{worse}, {better}, {same}.", worse=worse, better=better, same=same)


# -- Markdown -------------------------------------------------------------------------------------------------------


def as_markdown(run: SuiteRun, summary: SuiteSummary, cells: Iterable[Cell], say: Say = str) -> Iterator[str]:
    """The figures, the differences, and a table of all prompts.

    Args:
        cells: Row by row.
    """
    yield f"# {_md(run.name)}\n\n{say(totals_words(summary))}\n\n"
    heads = [say(msg("Model")), say(msg("Passed")), *(say(FIGURES[name].heading) for name in SHOWN)]
    heads += [say(msg("peak memory, MB")), say(msg("Notes"))]
    yield _md_row(heads) + _md_row(["---"] * len(heads))
    for column in summary.columns:
        notes = ", ".join(say(note) for note in notes_of(column))
        yield _md_row(
            [column.heading, say(rate_words(column.rate)), *(figure_words(column, name) for name in SHOWN),
             _mb(column.peak_memory_mb), notes]
        )  # fmt: skip
    lines = difference_lines(summary)
    yield "\n" + "".join(f"- {_md(say(line))}. {_md(say(why))}\n" for line, why in lines) + ("\n" if lines else "")
    yield _md_row([say(msg("Prompt")), *(column.heading for column in summary.columns)])
    yield _md_row(["---"] * (len(summary.columns) + 1))
    for row, group in _rows(cells):
        answers = [_md_cell(run, [cell for cell in group if cell.column == at], say) for at in range(len(run.columns))]
        yield _md_row([one_line(run.rows[row].label or run.rows[row].id, LABEL_CHARS), *answers])


def _md_cell(run: SuiteRun, cells: Sequence[Cell], say: Say) -> str:
    if not cells:
        return "–"
    first = cells[0]
    said = say(first.run.error) if first.run.error is not None else first.run.text
    return f"{_mark(run, cells)} {one_line(said, ANSWER_CHARS)}"


def _md_row(values: Sequence[str]) -> str:
    return "| " + " | ".join(_md(value) for value in values) + " |\n"


def _md(text: str) -> str:
    """Anybody's words in one line of a table, with nothing in them that Markdown or HTML would read."""
    line = html.escape(" ".join(text.split()), quote=False)
    return "".join(f"\\{char}" if char in "\\|`*_[]" else char for char in line)


# -- the page -------------------------------------------------------------------------------------------------------


def as_html(run: SuiteRun, summary: SuiteSummary, cells: Iterable[Cell], say: Say = str) -> Iterator[str]:
    """A page that stands alone.

    Args:
        cells: Row by row.
    """
    name = html.escape(run.name)
    yield (
        '<!doctype html>\n<html><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>{name}</title><style>{STYLE}</style></head><body>\n<h1>{name}</h1>\n"
        f"<p>{_say(say, totals_words(summary))} {html.escape(run.created_at)}, "
        f"{html.escape(run.environment.cpu)}, {run.environment.cores:g}.</p>\n"
    )
    heads = [msg("Model"), msg("Passed"), *(FIGURES[each].heading for each in SHOWN), msg("peak memory, MB")]
    yield f"<table><tr>{''.join(f'<th>{_say(say, head)}</th>' for head in [*heads, msg('Notes')])}</tr>\n"
    for column in summary.columns:
        notes = ", ".join(_say(say, note) for note in notes_of(column))
        figures = "".join(f'<td class="n">{figure_words(column, each)}</td>' for each in SHOWN)
        yield (
            f"<tr><th>{html.escape(column.heading)}</th><td>{_say(say, rate_words(column.rate))}</td>{figures}"
            f'<td class="n">{_mb(column.peak_memory_mb)}</td><td class="small">{notes}</td></tr>\n'
        )
    yield "</table>\n"
    if lines := difference_lines(summary):
        yield "<ul>" + "".join(f"<li>{_say(say, line)}. {_say(say, why)}</li>" for line, why in lines) + "</ul>\n"
    columns = "".join(f"<th>{html.escape(column.heading)}</th>" for column in summary.columns)
    yield f"<table><tr><th>{_say(say, msg('Prompt'))}</th>{columns}</tr>\n"
    for row, group in _rows(cells):
        answers = "".join(
            _html_cell(run, [cell for cell in group if cell.column == at], say) for at in range(len(run.columns))
        )
        yield f"<tr><th>{_asked(run, row)}</th>{answers}</tr>\n"
    yield "</table></body></html>\n"


def _asked(run: SuiteRun, row: int) -> str:
    here = run.rows[row]
    label = html.escape(one_line(here.label or here.id, LABEL_CHARS))
    prompt = here.prompt or "\n".join(f"{message.role}: {message.content}" for message in here.messages)
    return f"<details><summary>{label}</summary><pre>{html.escape(prompt)}</pre></details>"


def _html_cell(run: SuiteRun, cells: Sequence[Cell], say: Say) -> str:
    if not cells:
        return "<td>–</td>"
    outcome = _outcome(cells)
    parts = []
    for cell in cells:
        said = say(cell.run.error) if cell.run.error is not None else cell.run.text
        checks = "".join(
            f"<br>{MARKS[check.passed]} {html.escape(check.type)}: {_say(say, check.reason)}" for check in cell.checks
        )
        parts.append(f'<pre>{html.escape(said)}</pre><span class="small">{_figures(cell)}{checks}</span>')
    first = one_line(say(cells[0].run.error) if cells[0].run.error is not None else cells[0].run.text, LABEL_CHARS)
    kind = {True: ' class="y"', False: ' class="f"', None: ""}[outcome]
    summary = f"{_mark(run, cells)} {html.escape(first)}"
    return f"<td{kind}><details><summary>{summary}</summary>{''.join(parts)}</details></td>"


def _figures(cell: Cell) -> str:
    timings = cell.run.timings
    known = [
        f"{FIGURES[name].shown(value)} {FIGURES[name].heading.rpartition(', ')[2]}"
        for name in ("decode_tok_s", "ttft_s")
        if (value := getattr(timings, name)) is not None
    ]
    return html.escape(" · ".join([*known, cell.run.finish_reason]))


def _say(say: Say, words: str) -> str:
    return html.escape(say(words))


# -- both -----------------------------------------------------------------------------------------------------------


def _rows(cells: Iterable[Cell]) -> Iterator[tuple[int, list[Cell]]]:
    for row, group in itertools.groupby(cells, key=lambda cell: cell.row):
        yield row, list(group)


def _outcome(cells: Sequence[Cell]) -> bool | None:
    """Whether all samples that have an outcome passed."""
    known = [cell.passed for cell in cells if cell.passed is not None]
    return all(known) if known else None


def _mark(run: SuiteRun, cells: Sequence[Cell]) -> str:
    known = [cell.passed for cell in cells if cell.passed is not None]
    if any(cell.run.error is not None for cell in cells):
        return "!"
    return MARKS[_outcome(cells)] + (f" {sum(known)}/{len(known)}" if run.repeats > 1 and known else "")


def _mb(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"
