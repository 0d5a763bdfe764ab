"""Following a suite on stderr: a table of its columns that fills on a terminal, one line for each tenth elsewhere.

It draws what the job says; it takes no figures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from playground.cli.live import STOP_WAIT_S, step_line
from playground.cli.output import clean, say, stderr, tenth
from playground.messages import foreign, msg, plural

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from playground.experiments.progress import Snapshot
    from playground.experiments.suite_job import SuiteJob
    from playground.experiments.suite_progress import ColumnProgress, SuiteProgress
    from playground.records import SuiteRun

POLL_S = 0.25
"""Between two looks: a suite goes on for long, and whoever draws takes time from the model that is measured."""
ANSWER_CHARS = 200
"""Of the answer that is being given, its end."""


def follow_suite(job: SuiteJob, names: list[str]) -> SuiteRun:
    """Show the suite until it is over and return it. Ctrl-C stops the answers that are being given, then passes on.

    Args:
        names: Of the columns.

    Raises:
        KeyboardInterrupt: After everything that was finished is stored.
        PlaygroundError: It could not go on; says why.
    """
    console = stderr()
    try:
        if console.is_terminal:
            _draw(job, names, console)
        else:
            _print_changes(job, names, console)
        return job.result()
    except KeyboardInterrupt:
        job.stop()
        job.wait(STOP_WAIT_S)
        raise


def _draw(job: SuiteJob, names: list[str], console: Console) -> None:
    from rich.live import Live

    shown: object = None
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while not job.wait(POLL_S):
            at, progress = job.snapshot(), job.progress()
            if (at, progress) != shown:
                shown = at, progress
                live.update(_screen(at, progress, names), refresh=True)


def _screen(at: Snapshot, progress: SuiteProgress, names: list[str]) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(say(msg("model")), overflow="fold")
    for title in (msg("answers"), msg("passed"), msg("failed"), msg("tok/s"), msg("now")):
        table.add_column(say(title), justify="right" if title != "now" else "left")
    for name, column in zip(names, progress.columns, strict=True):
        rate = "–" if column.decode_tok_s is None else f"{column.decode_tok_s:.1f}"
        passed = f"{column.passed}/{column.judged}" if column.judged else "–"
        table.add_row(
            clean(name), f"{column.done}/{column.total}", passed, str(column.failed), rate, say(state_words(column))
        )
    parts: list[RenderableType] = [table, Text(step_line(at), overflow="ellipsis", no_wrap=True)]
    parts += [
        Text(" ".join(clean(live.text[-ANSWER_CHARS:]).split()), style="dim", overflow="ellipsis", no_wrap=True)
        for live in at.lives[:1]
    ]
    parts += [Text(clean(column.note), style="dim") for column in progress.columns if column.note]
    if at.problem:
        parts.append(Text(clean(msg("not stored yet: {problem}", problem=at.problem))))
    return Group(*parts)


def state_words(column: ColumnProgress) -> str:
    """What a column is doing."""
    return {
        "waiting": msg("waiting"),
        "preparing": msg("preparing"),
        "running": msg("running"),
        "done": msg("done"),
        "failed": msg("failed"),
    }[column.state]


def _print_changes(job: SuiteJob, names: list[str], console: Console) -> None:
    """A line when a column changes what it is doing or a tenth of it is done, and when answers can't be stored."""
    from playground.experiments.suite_progress import left_words

    shown: dict[str, object] = {}
    is_over = False
    while not is_over:
        is_over = job.wait(POLL_S)
        at, progress = job.snapshot(), job.progress()
        left = say(left_words(progress.left_s))
        for name, column in zip(names, progress.columns, strict=True):
            doing = (column.state, tenth(column.done / column.total))
            if column.state != "waiting" and shown.get(name) != doing:
                shown[name] = doing
                console.print(_line(name, column, left if column.state == "running" else ""), soft_wrap=True)
        if shown.get("") != at.problem:
            shown[""] = at.problem
            if at.problem:
                console.print(clean(msg("not stored yet: {problem}", problem=at.problem)), soft_wrap=True)


def _line(name: str, column: ColumnProgress, left: str) -> str:
    said = msg("{model}: {state}, {done} of {total}", model=name, state=state_words(column), done=column.done,
               total=column.total)  # fmt: skip
    parts = [said]
    if column.judged:
        parts.append(msg("{passed} of {judged} passed", passed=column.passed, judged=column.judged))
    if column.failed:
        parts.append(plural("{n} failed", "{n} failed", n=column.failed))
    if column.note:
        parts.append(column.note)
    elif left:
        parts.append(foreign(left))
    return ", ".join(clean(part) for part in parts)
