"""``suite``: a file of prompts and checks, asked of several models unattended; stored, resumed, compared, exported.

Exit codes: 0 all passed; 1 a check is not met, a model failed, or something got worse; 2 the command or the file was
wrong; 3 interrupted, and can be resumed.
"""

from __future__ import annotations

import codecs
import itertools
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from playground.cli import output
from playground.cli.common import JsonOption, print_terms
from playground.cli.suite_files import checked_outputs, export, print_document
from playground.errors import StorageError, UsageError
from playground.messages import msg, plural

if TYPE_CHECKING:
    from playground.experiments.suite_job import SuiteJob
    from playground.records import Column, Request
    from playground.results.suite_summary import Outcomes, Regression
    from playground.service import Playground
    from playground.suites.suite import Suite

RESUMABLE = 3


def suite(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="YAML or JSON as promptfoo's, CSV, JSONL, or a prompt a line (.txt)."),
    ] = None,
    *,
    model: Annotated[
        list[str] | None,
        typer.Option(
            *("--model", "-m"),
            metavar="MODEL[@RUNTIME-PRECISION][?NAME=VALUE&…]",
            help="Repeat for each model; instead of those that the file names.",
        ),
    ] = None,
    models: Annotated[str, typer.Option(help="The same, several with commas between.")] = "",
    precision: Annotated[
        list[str] | None,
        typer.Option(metavar="[RUNTIME-]PRECISION", help="Each model without an @ in each of these; may be repeated."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE[,VALUE…]", help="A parameter of all models; several values make columns."
        ),
    ] = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option(help="A prompt with {{name}} for each row, instead of the file's own; may be repeated."),
    ] = None,
    repeat: Annotated[int | None, typer.Option(help="Ask each prompt so many times, for the spread.")] = None,
    limit: Annotated[int | None, typer.Option(help="The first so many prompts alone.")] = None,
    reuse: Annotated[
        bool, typer.Option("--reuse", help="Skip what a prompt has in common with the one before; figures say so.")
    ] = False,
    price_per_hour: Annotated[
        float | None, typer.Option(help="Of this machine in US dollars, for checks of what an answer costs.")
    ] = None,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="Stop at the first answer that fails or is not passed.")
    ] = False,
    resume: Annotated[str | None, typer.Option(metavar="ID", help="Go on with a suite that was interrupted.")] = None,
    retry: Annotated[bool, typer.Option("--retry", help="With --resume: ask again where an answer failed.")] = False,
    show: Annotated[str | None, typer.Option(metavar="ID", help="Show or export a stored suite; run nothing.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the suites that are kept.")] = False,
    against: Annotated[
        str | None, typer.Option(metavar="ID|FILE", help="What got worse since a stored suite, or an exported file.")
    ] = None,
    output_: Annotated[
        list[Path] | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Export: .json .jsonl .csv .xml (JUnit) .html .md .comparator.json"
        ),
    ] = None,
    json: JsonOption = False,
) -> int:
    """Ask many prompts of several models, one answer at a time, and check each answer.

    Each answer is stored when it is finished. Ctrl-C, a crash or a restart lose none: --resume goes on where it was.
    """
    from playground.config.settings import own_settings
    from playground.service import Playground

    given = [name for name, value in (("FILE", file), ("--resume", resume), ("--show", show)) if value is not None]
    if list_ and (given or against or output_):
        raise UsageError(msg("--list stands alone"), msg("Leave the rest out."))
    if not list_ and len(given) != 1:
        raise UsageError(
            msg("{given} are given", given=given) if given else msg("Neither a file nor a suite is named"),
            msg("Name a file to run, --resume ID to go on with one, --show ID to see one, or --list."),
        )
    options: dict[str, Any] = {
        "-m": model,
        "--models": models,
        "--precision": precision,
        "--set": settings,
        "--prompt": prompt,
        "--repeat": repeat,
    }
    options |= {"--limit": limit, "--reuse": reuse, "--price-per-hour": price_per_hour, "--fail-fast": fail_fast}
    if file is None and (beside := [name for name, value in options.items() if value]):
        raise UsageError(
            msg("{options} can't be changed in a suite that has begun", options=beside), msg("Leave them out.")
        )
    if retry and not resume:
        raise UsageError(msg("--retry is given without --resume"), msg("Name the suite: --resume ID --retry."))
    outputs = checked_outputs(output_ or [])
    with Playground(own_settings()) as playground:
        if list_:
            _list(playground, as_json=json)
            return output.OK
        before = _outcomes(playground, against) if against else None
        if show is not None:
            return _tell(playground, show, before, outputs, as_json=json)
        if file is not None:
            begun = _begin(playground, file, options, before)
        else:
            assert resume is not None
            begun = playground.resume_suite(resume, retry=retry)
        return _follow(playground, begun, before, outputs, as_json=json)


# -- what is asked ----------------------------------------------------------------------------------------------------


def _begin(playground: Playground, file: Path, options: dict[str, Any], before: Outcomes | None) -> SuiteJob:
    read = playground.read_suite_file(file, options["--prompt"] or ())
    repeat, limit = options["--repeat"], options["--limit"]
    if limit is not None and limit < 1:
        raise UsageError(msg("--limit is {n}", n=limit), msg("It must be at least 1."))
    for note in read.notes:
        output.stderr().print(output.clean(msg("note: {note}", note=note)), soft_wrap=True)
    asked = _columns(playground, read, options)
    if before:
        _check_comparable(before, read, asked)
    return playground.begin_suite(
        read,
        asked,
        repeats=repeat,
        limit=limit,
        file=_written(file),
        price_per_hour=options["--price-per-hour"],
        fail_fast=options["--fail-fast"],
    )


def _written(file: Path) -> str:
    """A file's text as it was written, to be kept with its suite."""
    data = file.read_bytes()
    is_wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data.decode("utf-16" if is_wide else "utf-8-sig", errors="replace")


def _check_comparable(before: Outcomes, read: Suite, asked: list[Column]) -> None:
    """What can't be compared is refused before hours are spent."""
    from playground.results.suite_summary import keys_of, matched

    pairs = matched(list(before.shares), keys_of(asked))
    rows = {row.id for row in read.rows}
    if not any(rows & before.shares[old].keys() for old in pairs.values()):
        raise UsageError(
            msg("{name} has no prompt and model in common with {before}", name=read.name, before=before.name),
            msg("It has {columns}.", columns=list(before.shares)),
        )


def _columns(playground: Playground, read: Suite, options: dict[str, Any]) -> list[Column]:
    """Models × precisions × parameters."""
    from dataclasses import replace

    from playground.cli.columns import columns
    from playground.records import Column, Request

    grid = list(_grid(options["--set"] or []))
    if options["--reuse"]:
        grid = [{**each, "reuse": True} for each in grid]
    named = [*(options["-m"] or []), *(each.strip() for each in options["--models"].split(",") if each.strip())]
    if not named and not read.columns:
        raise UsageError(msg("No model is chosen, and {file} names none", file=read.name), msg("Choose one: -m MODEL."))
    if not named:
        if options["--precision"]:
            raise UsageError(msg("--precision is of models that -m names"), msg("Name them, or edit the file."))
        return [
            replace(column, request=replace(column.request or Request(), **own))
            for column in playground.suite_columns(read)
            for own in grid
        ]
    found: list[Column] = []
    for text, own in itertools.product(_in_precisions(named, options["--precision"] or []), grid):
        base: Request = replace(Request(), **own)
        (column,) = columns(playground, [text], base)
        found.append(column if isinstance(column, Column) else Column(column, base))
    return found


def _in_precisions(named: list[str], precisions: list[str]) -> Iterator[str]:
    for text in named:
        model, mark, own = text.partition("?")
        if "@" in model or not precisions:
            yield text
            continue
        for precision in precisions:
            yield f"{model}@{precision if '-' in precision else f'onnx-{precision}'}{mark}{own}"


def _grid(settings: list[str]) -> Iterator[dict[str, Any]]:
    """Every combination of the parameters' values; of none, one that says nothing."""
    from playground.cli.columns import TEXTS, split

    choices: list[list[tuple[str, Any]]] = []
    for text in settings:
        name, mark, values = text.partition("=")
        if not mark:
            raise UsageError(msg("--set {text} has no value", text=text), msg("Write it as --set temperature=0.7."))
        each = [values] if name in TEXTS else values.split(",")
        choices.append([next(iter(split(f"?{name}={value.strip()}")[1].items())) for value in each])
    for chosen in itertools.product(*choices):
        yield dict(chosen)


# -- while it runs ----------------------------------------------------------------------------------------------------


def _follow(
    playground: Playground, job: SuiteJob, before: Outcomes | None, outputs: list[Path], *, as_json: bool
) -> int:
    from playground.cli.suite_live import follow_suite
    from playground.results.suite_summary import column_names

    run = job.run
    for note in job.notes:
        output.stderr().print(output.clean(msg("note: {note}", note=note)), soft_wrap=True)
    output.stderr().print(
        output.clean(
            msg(
                "{name}: {prompts}, {columns}, {answers}, suite {id}",
                name=run.name,
                prompts=plural("{n:,} prompt", "{n:,} prompts", n=len(run.rows)),
                columns=plural("{n} column", "{n} columns", n=len(run.columns)),
                answers=plural(
                    "{n:,} answer", "{n:,} answers", n=len(run.rows) * len(run.columns) * max(1, run.repeats)
                ),
                id=run.id,
            )
        ),
        soft_wrap=True,
    )
    try:
        with _terminated_as_interrupted():
            ended = follow_suite(job, column_names(run))
    except KeyboardInterrupt:
        ended = None
    except StorageError as error:
        _say_resume(run.id)
        output.report(error, as_json)
        return RESUMABLE
    if ended is None or (ended.status != "done" and not job.failed_fast):
        if as_json:
            print_document(playground, run.id)
        _say_resume(run.id)
        return RESUMABLE
    if job.failed_fast:
        words = msg(
            "Stopped at the first answer that is not passed. Go on with: playground suite --resume {id}", id=run.id
        )
        output.stderr().print(output.clean(words), soft_wrap=True)
    if not as_json:
        print_terms(playground, [column.variant.model for column in run.columns])
    return _tell(playground, run.id, before, outputs, as_json=as_json, failed_fast=job.failed_fast)


def _say_resume(id: str) -> None:
    words = msg("Interrupted; what was finished is stored. Go on with: playground suite --resume {id}", id=id)
    output.stderr().print(output.clean(words), soft_wrap=True)


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """A polite end (SIGTERM, as a system sends that shuts down) is an interruption like Ctrl-C."""

    def interrupt(signal: int, frame: object) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread: whoever runs us there has its own way
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# -- what came of it --------------------------------------------------------------------------------------------------


def _tell(
    playground: Playground,
    id: str,
    before: Outcomes | None,
    outputs: list[Path],
    *,
    as_json: bool,
    failed_fast: bool = False,
) -> int:
    """Print a suite, export it, and return what its exit code is."""
    from playground.cli.suite_tables import print_regression, print_suite

    run, summary = playground.suite_run(id), playground.suite_summary(id)
    assert run
    found: Regression | None = playground.suite_regression(id, before) if before else None
    if found and run.status == "done" and not found.compared:
        raise UsageError(
            msg("Nothing of {name} can be held against {before}", name=run.name, before=before.name if before else ""),
            msg("Its models or its prompts are others: playground suite --show {id} shows it.", id=id),
        )
    for path in outputs:
        export(playground, id, path)
    if as_json:
        print_document(playground, id)
    else:
        print_suite(playground, run, summary)
    if found and before:
        print_regression(output.stderr() if as_json else output.stdout(), found, run)
    for path in outputs:
        output.stderr().print(output.clean(msg("Written: {file}", file=str(path))), soft_wrap=True)
    is_wrong = summary.failed or any(column.wrong for column in summary.columns) or (found and found.worse)
    if is_wrong and not outputs and not as_json:
        words = msg(
            "What was answered, and why it was not passed: playground suite --show {id} --output FILE.html", id=id
        )
        output.stderr().print(output.clean(words), soft_wrap=True)
    if run.status != "done" and not failed_fast:
        return RESUMABLE
    return output.FAILED if is_wrong else output.OK


def _outcomes(playground: Playground, against: str) -> Outcomes:
    from playground.results.suite_outcomes import ENDINGS, read_outcomes

    if against.endswith(ENDINGS) or Path(against).is_file():
        return read_outcomes(Path(against))
    return playground.suite_outcomes(against)


def _list(playground: Playground, *, as_json: bool) -> None:
    from rich.table import Table

    entries = playground.suites(limit=200)
    if as_json:
        output.print_json({"suites": [entry.to_json() for entry in entries]})
        return
    if not entries:
        output.stdout().print(output.say(msg("No suite is kept yet: playground suite FILE runs one.")))
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in (msg("id"), msg("when"), msg("suite"), msg("status"), msg("answers"), msg("passed"), msg("models")):
        table.add_column(output.say(title), overflow="fold")
    for entry in entries:
        passed = f"{entry.passed}/{entry.judged}" if entry.judged else "–"
        names = ", ".join(map(str, entry.variants))
        table.add_row(entry.id, entry.created_at, output.clean(entry.name), entry.status,
                      f"{entry.done}/{entry.cells}", passed, names)  # fmt: skip
    output.stdout().print(table)
