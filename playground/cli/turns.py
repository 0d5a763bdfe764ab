"""``reply`` and ``go-on``: take up a comparison that was kept, with another question or where an answer was cut off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from playground.cli import output
from playground.cli.common import JsonOption, read_prompt
from playground.errors import StorageError, UsageError
from playground.messages import msg

if TYPE_CHECKING:
    from collections.abc import Callable

    from playground.experiments.compare import CompareJob
    from playground.records import Comparison
    from playground.service import Playground

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="A comparison that was kept; history lists them.")]


def reply(
    id: IdArgument,
    text: Annotated[str, typer.Argument(help="What to say next; - reads it from stdin.", show_default=False)],
    *,
    column: Annotated[
        list[int] | None, typer.Option(help="Reply to this column alone, counted from 1; may be repeated.")
    ] = None,
    json: JsonOption = False,
) -> int:
    """Reply to the answers of a kept comparison: each model goes on with its own conversation."""
    said = read_prompt(text)
    columns = None if column is None else [number - 1 for number in column]
    return _run(id, lambda playground, stored: playground.reply(stored, said, columns), as_json=json)


def go_on(
    id: IdArgument,
    column: Annotated[int, typer.Argument(help="Whose answer, counted from 1.")] = 1,
    *,
    json: JsonOption = False,
) -> int:
    """Let a model go on with an answer that was cut off."""
    return _run(id, lambda playground, stored: playground.go_on(stored, column - 1), as_json=json)


def _run(id: str, begin: Callable[[Playground, Comparison], CompareJob], *, as_json: bool) -> int:
    from playground.cli.compare import print_answers
    from playground.cli.live import follow
    from playground.config.settings import own_settings
    from playground.results.receipts import with_receipts
    from playground.service import Playground

    with Playground(own_settings()) as playground:
        stored = playground.comparison(id)
        if stored is None:
            raise UsageError(msg("No comparison has the id '{id}'", id=id), msg("`playground history` lists them."))
        job = begin(playground, stored)
        with output.working_on(id):
            comparison = follow(job)
    if as_json:
        output.print_json(with_receipts(comparison))
    else:
        print_answers(comparison, "")
        output.stdout().print(f"\nKept as {comparison.id}")
    if problem := job.snapshot().problem:
        raise StorageError(problem)
    return output.FAILED if any(run.error for run in comparison.runs if not run.taken_in) else output.OK
