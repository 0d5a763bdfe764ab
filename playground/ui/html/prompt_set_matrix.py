"""The rows of a suite as HTML: a row a prompt, a column a model; on a phone each row is a block of its own.

What a reader opens is told by ``data-suite`` and answered by scripts/prompt_set.js. Prompts and answers are somebody
else's words: they are shown as plain text. Knows records and the matrix, not gradio.
"""

from __future__ import annotations

from collections.abc import Sequence

from playground.messages import Translatable, msg, plural
from playground.records import Cell, CheckResult, ModelRun, SuiteRow
from playground.ui.html.format import FINISHED, count, esc, rate, seconds
from playground.ui.html.panel import Label
from playground.ui.matrix import Matrix, Place, prompt_of

PREVIEW_CHARS = 240
PROMPT_CHARS = 160
DETAIL_CHARS = 20_000
"""Of an answer in a row that is opened; all of it stands in Compare and in the files."""
SIGNS = {True: "✓", False: "✕"}


def row_html(matrix: Matrix, row: int, labels: Sequence[Label]) -> str:
    """One row: the prompt, then a cell for each model."""
    asked = matrix.run.rows[row]
    cells = "".join(_cell(matrix, row, label) for label in labels)
    return f'<tr data-row="{row}"><th scope="row">{_asked(asked, row)}{_tools(asked, row, matrix)}</th>{cells}</tr>'


def _asked(asked: SuiteRow, row: int) -> str:
    prompt = prompt_of(asked)
    name = asked.label or prompt
    more = "" if prompt.startswith(asked.label.rstrip("… ")) else _short(prompt, PROMPT_CHARS)
    shown = f'<span class="suite-prompt" dir="auto">{esc(more)}</span>' if more else ""
    return (
        f'<span class="suite-number">{row + 1}</span> '
        f'<span class="suite-label" dir="auto">{esc(_short(name, PROMPT_CHARS))}</span>{shown}'
    )


def _tools(asked: SuiteRow, row: int, matrix: Matrix) -> str:
    name = _short(asked.label or prompt_of(asked), 60)
    open_ = msg("Details of {row}", row=name)
    details = (
        f'<button type="button" data-suite="details" data-row="{row}" aria-expanded="false" '
        f'aria-label="{esc(open_)}">{esc(msg("Details"))}</button>'
    )
    compare = ""
    if any(matrix.place(row, column).samples for column in range(len(matrix.run.columns))):
        into = msg("Open {row} in Compare", row=name)
        compare = (
            f'<button type="button" data-suite="compare" data-row="{row}" aria-label="{esc(into)}">'
            f"{esc(msg('Open in Compare'))}</button>"
        )
    return f'<span class="suite-tools">{details}{compare}</span>'


def _cell(matrix: Matrix, row: int, label: Label) -> str:
    place = matrix.place(row, label.position)
    name = esc(f"{label.name} {label.tail}".strip())
    if not place.samples:
        waits = esc(msg("not answered yet") if matrix.run.status != "running" else msg("waiting"))
        return f'<td data-model="{name}" class="is-waiting"><span class="suite-wait">{waits}</span></td>'
    mark = matrix.marks.get((row, label.position), "")
    told = f"{_outcome(place, matrix.run.repeats)}{_change(mark)}"
    first = place.cells[0]
    return (
        f'<td data-model="{name}" class="{_state(place)}"><span class="suite-outcome">{told}</span>'
        f"{_said(first.run)}{_why(place)}<small>{_figures(place, matrix.run.repeats)}</small></td>"
    )


def _state(place: Place) -> str:
    if all(cell.run.error is not None for cell in place.cells):
        return "is-error"
    judged = place.judged
    if not judged:
        return "is-open"
    return "is-passed" if all(judged) else "is-failed"


def _outcome(place: Place, repeats: int) -> str:
    cells, judged = place.cells, place.judged
    if all(cell.run.error is not None for cell in cells):
        return _mark("error", "!", msg("error"))
    if not judged:
        return "" if repeats == 1 else esc(plural("{n} answer", "{n} answers", n=len(cells)))
    if repeats == 1:
        return _mark("passed", "✓", msg("passed")) if judged[0] else _mark("failed", "✕", msg("failed"))
    words = msg("{passed} of {n} passed", passed=sum(judged), n=len(judged))
    return _mark("passed" if all(judged) else "failed", SIGNS[all(judged)], words)


def _mark(kind: str, sign: str, words: Translatable) -> str:
    return f'<b class="mark-{kind}"><span aria-hidden="true">{sign}</span> {esc(words)}</b>'


def _change(mark: str) -> str:
    if mark == "worse":
        return f' <span class="suite-change is-worse">▼ {esc(msg("worse than before"))}</span>'
    if mark == "better":
        return f' <span class="suite-change is-better">▲ {esc(msg("better than before"))}</span>'
    return ""


def _said(run: ModelRun) -> str:
    if run.error is not None:
        return f'<span class="suite-problem">{esc(run.error)}</span>'
    text = run.text.strip()
    if not text:
        return f'<span class="suite-wait">{esc(msg("an empty answer"))}</span>'
    return f'<span class="suite-text" dir="auto">{esc(_short(text, PREVIEW_CHARS))}</span>'


def _why(place: Place) -> str:
    """The first check that was not met, and how many more."""
    missed = [check for cell in place.cells for check in cell.checks if not check.passed and check.weight > 0]
    if not missed:
        return ""
    more = len(missed) - 1
    rest = f" {esc(plural('and {n} more', 'and {n} more', n=more))}" if more else ""
    return f'<span class="suite-why"><code>{esc(missed[0].type)}</code> {esc(missed[0].reason)}{rest}</span>'


def _figures(place: Place, repeats: int) -> str:
    cells = [cell for cell in place.cells if cell.run.error is None]
    if not cells:
        return ""
    taken = cells[0].run.timings
    told = []
    if repeats == 1:
        told = [rate(taken.decode_tok_s, taken.unit), seconds(taken.total_s)]
    else:
        told = [
            esc(plural("{n} distinct answer", "{n} distinct answers", n=len(place.texts))),
            esc(msg("up to {time}", time=seconds(place.seconds or None))),
        ]
    cut = sum(cell.run.finish_reason == "length" for cell in cells)
    if cut:
        told.append(f'<span class="is-cut">{esc(msg("cut off"))}</span>')
    if any(cell.run.finish_reason == "stopped" for cell in cells):
        told.append(esc(msg("stopped")))
    return " · ".join(told)


def detail_html(matrix: Matrix, row: int, labels: Sequence[Label]) -> str:
    """What a row opens: the whole prompt, and every answer with every check."""
    asked = matrix.run.rows[row]
    about = "".join(f'<dt>{esc(name)}</dt><dd dir="auto">{esc(value)}</dd>' for name, value in _about(asked))
    answers = "".join(_answers(matrix.place(row, label.position), label, matrix.run.repeats) for label in labels)
    asked_html = f'<dl class="suite-asked">{about}</dl>'
    return f'<div class="suite-opened">{asked_html}<div class="suite-answers">{answers}</div></div>'


def _about(asked: SuiteRow) -> list[tuple[str, str]]:
    told: list[tuple[str, str]] = [(msg("System prompt"), asked.system)] if asked.system else []
    if asked.messages:
        names = {"system": msg("System prompt"), "user": msg("Asked"), "assistant": msg("Answer")}
        told += [(names[turn.role], turn.content) for turn in asked.messages]
    else:
        told.append((msg("Prompt"), asked.prompt))
    told += [(f"{{{{{name}}}}}", value) for name, value in asked.vars.items() if value != asked.prompt]
    told += list(asked.metadata.items())
    if asked.place:
        told.append((msg("In the file"), asked.place))
    return told


def _answers(place: Place, label: Label, repeats: int) -> str:
    name = f"{esc(label.name)} <code>{esc(label.tail)}</code>"
    if not place.samples:
        body = f'<p class="suite-wait">{esc(msg("not answered yet"))}</p>'
    else:
        body = "".join(_answer(cell, repeats) for cell in place.cells)
    head = f'<h4 class="series-{label.position}"><span class="swatch" aria-hidden="true"></span>{name}</h4>'
    return f"<section>{head}{body}</section>"


def _answer(cell: Cell, repeats: int) -> str:
    run = cell.run
    which = f"<h5>{esc(msg('Answer {n}', n=cell.sample + 1))}</h5>" if repeats > 1 else ""
    if run.error is not None:
        text = f'<p class="problem">{esc(run.error)}</p>'
    else:
        cut = "…" if len(run.text) > DETAIL_CHARS else ""
        text = f'<pre class="suite-whole" dir="auto">{esc(run.text[:DETAIL_CHARS])}{cut}</pre>'
    taken = run.timings
    told = [FINISHED[run.finish_reason]] if run.error is None else []
    figures = [rate(taken.decode_tok_s, taken.unit), seconds(taken.ttft_s), count(taken.output_tokens, taken.unit)]
    small = " · ".join([*map(esc, told), *figures]) if run.error is None else ""
    notes = "".join(f'<p class="note">{esc(note)}</p>' for note in (*run.fallbacks, *run.warnings))
    return f"{which}{text}<small>{small}</small>{_checks(cell.checks)}{notes}"


def _checks(checks: Sequence[CheckResult]) -> str:
    if not checks:
        return ""
    lines = "".join(_check(check) for check in checks)
    return f'<ul class="suite-checks" aria-label="{esc(msg("Checks"))}">{lines}</ul>'


def _check(check: CheckResult) -> str:
    kind = "passed" if check.passed else "failed"
    words = msg("met") if check.passed else msg("not met")
    value = f' <q dir="auto">{esc(check.value)}</q>' if check.value else ""
    score = "" if check.score in (0.0, 1.0) else f" · {check.score:.2f}"
    weight = "" if check.weight == 1 else f" · {esc(msg('weight {weight:g}', weight=check.weight))}"
    return (
        f'<li><b class="mark-{kind}"><span aria-hidden="true">{SIGNS[check.passed]}</span> {esc(words)}</b> '
        f"<code>{esc(check.type)}</code>{value} {esc(check.reason)}{score}{weight}</li>"
    )


def _short(text: str, most: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"
