"""``compare`` and ``history``: run a comparison, print it, keep it, find it again."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from playground.cli import output
from playground.cli.common import MOST_TOKENS, JsonOption, print_terms, read_prompt
from playground.errors import UsageError
from playground.messages import msg

if TYPE_CHECKING:
    from playground.config.settings import Settings
    from playground.records import Comparison, ModelRun, Request, Timings

ROWS = (
    *("ttft_s", "prefill_tok_s", "decode_tok_s", "prompt_tokens", "reused_tokens", "output_tokens", "total_s", "cpu_s"),
    *("queue_s", "load_s", "peak_memory_mb", "expected_memory_mb"),
)
"""The figures of the table, in its order."""

ONCE = ("queue_s", "load_s")
"""Figures that repeats do not repeat: only the first run may load, so their median says nothing."""

MAX_REPEATS = 100
BACKUP = "backup"
"""In the place of an id, which begins with a date."""


def compare(
    prompt: Annotated[str, typer.Argument(help="The prompt; - reads it from stdin.", show_default=False)],
    *,
    model: Annotated[
        list[str],
        typer.Option(
            *("--model", "-m"),
            metavar="MODEL[@RUNTIME-PRECISION][?NAME=VALUE&…]",
            help="Repeat for each model. Behind a question mark: its own parameters, such as temperature=0.7&seed=1.",
        ),
    ],
    system: Annotated[str, typer.Option(help="System prompt, for models that have a template for it.")] = "",
    max_new_tokens: Annotated[int | None, typer.Option(help=MOST_TOKENS)] = None,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    top_k: Annotated[int, typer.Option(help="0 is off.")] = 0,
    top_p: Annotated[float, typer.Option(help="1 is off.")] = 1.0,
    min_p: Annotated[float, typer.Option(help="0 is off.")] = 0.0,
    repetition_penalty: Annotated[float, typer.Option(help="1 is off.")] = 1.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same answer.")] = 0,
    stop: Annotated[list[str] | None, typer.Option(help="Stop before this text; may be repeated.")] = None,
    reuse: Annotated[
        bool, typer.Option("--reuse", help="With --repeat: skip what the prompt has in common with the last one.")
    ] = False,
    mode: Annotated[
        Literal["fair", "fast"], typer.Option(help="fair: one at a time, all threads. fast: all at once.")
    ] = "fair",
    repeat: Annotated[int, typer.Option(help="Run it so many times; the median is shown too.")] = 1,
    json: JsonOption = False,
    save: Annotated[bool, typer.Option("--save", help="Keep it in the history.")] = False,
) -> int:
    """Send one prompt to several models and show answers and timings."""
    options = dict(locals())
    from playground.config.settings import own_settings
    from playground.experiments.admission import request_from

    if not 1 <= repeat <= MAX_REPEATS:
        raise UsageError(msg("--repeat is {n}", n=repeat), msg("It must be from 1 to {most}.", most=MAX_REPEATS))
    settings = own_settings()
    if max_new_tokens is None:
        options["max_new_tokens"] = settings.limits.usual_tokens()
    request = request_from({**options, "prompt": read_prompt(prompt)})
    comparisons = _run(settings, request, model, mode, repeat=repeat, save=save, quiet=json)
    if json:
        output.print_json(_json(comparisons))
    failed = any(run.error for comparison in comparisons for run in comparison.runs)
    return output.FAILED if failed else output.OK


def history(
    id: Annotated[str | None, typer.Argument(metavar="[ID]", help="Show this comparison again.")] = None,
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="`history backup FILE` copies all that is kept to FILE.")
    ] = None,
    *,
    limit: Annotated[int, typer.Option(help="At most so many, the newest first.")] = 50,
    json: JsonOption = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="As --format md.")] = False,
    format: Annotated[
        Literal["json", "jsonl", "csv", "md", "comparator"] | None,
        typer.Option(help="Print it as a file with all receipts, or as LLM Comparator's JSON."),
    ] = None,
    pair: Annotated[str, typer.Option(metavar="N,M", help="With --format comparator: which two columns.")] = "",
) -> None:
    """List the comparisons that were kept, or show one. `history backup FILE` copies the database while it is used."""
    from playground.config.settings import own_settings
    from playground.results.export_files import as_comparator, text_of
    from playground.results.receipts import with_receipts
    from playground.service import Playground

    if id == BACKUP:
        _back_up(file)
        return
    if file is not None:
        raise UsageError(msg("'{file}' follows the id", file=str(file)), msg("Leave it out."))
    ending = "md" if markdown else format
    if ending and (json or id is None):
        option = "--markdown" if markdown else "--format"
        raise UsageError(msg("{option} is of one comparison", option=option), msg("Give its id, and not --json."))
    if limit < 1:
        raise UsageError(msg("--limit is {n}", n=limit), msg("It must be at least 1."))
    if pair and ending != "comparator":
        raise UsageError(msg("--pair is given without --format comparator"), msg("Leave it out."))
    columns = _pair(pair) if pair else (0, 1)
    with Playground(own_settings()) as playground:
        vote = playground.vote_on(id) if id and ending == "comparator" else None
        kept = list(playground.comparisons(limit)) if id is None else [playground.comparison(id)]
    comparisons = [comparison for comparison in kept if comparison is not None]
    if id is not None and not comparisons:
        raise UsageError(msg("No comparison has the id '{id}'", id=id), msg("`playground history` lists them."))
    if json:
        documents = [with_receipts(comparison) for comparison in comparisons]
        output.print_json({"comparisons": documents} if id is None else documents[0])
    elif ending == "comparator":
        output.print_file(as_comparator(comparisons[0], columns, vote))
    elif ending:
        output.print_file(text_of(comparisons[0], ending, output.say))
    elif id is None:
        _print_list(comparisons)
    else:
        _print_comparison(comparisons[0])


def _pair(text: str) -> tuple[int, int]:
    """``1,3`` as places from 0."""
    first, _, second = text.partition(",")
    try:
        return int(first) - 1, int(second) - 1
    except ValueError:
        raise UsageError(msg("--pair is '{text}'", text=text), msg("Write two columns, such as 1,3.")) from None


def medians(comparisons: list[Comparison]) -> dict[str, dict[str, float | None]]:
    """By column, the median of each figure over the runs that have it; a run with an error has none."""
    from playground.results.requests import headings

    found: dict[str, dict[str, float | None]] = {}
    for position, heading in enumerate(headings([run.variant for run in comparisons[0].runs])):
        runs = [comparison.runs[position] for comparison in comparisons]
        timings = [run.timings for run in runs if run.error is None]
        found[heading] = {name: _median([getattr(item, name) for item in timings]) for name in ROWS if name not in ONCE}
    return found


def _median(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _run(
    settings: Settings,
    request: Request,
    models: list[str],
    mode: Literal["fair", "fast"],
    *,
    repeat: int,
    save: bool,
    quiet: bool,
) -> list[Comparison]:
    from playground.cli.columns import columns
    from playground.cli.live import follow
    from playground.records import Variant
    from playground.service import Playground

    done: list[Comparison] = []
    with Playground(settings) as playground:
        asked = columns(playground, models, request)
        variants = [each if isinstance(each, Variant) else each.variant for each in asked]
        if words := playground.memory_plan(asked, request).words(mode):
            output.stderr().print(output.clean(words), soft_wrap=True)
        for number in range(1, repeat + 1):
            with output.working_on(", ".join(map(str, variants))):
                comparison = follow(playground.compare(request, asked, mode, keep=False))
            done.append(comparison)
            if save:
                playground.keep(comparison)
            if not quiet:
                print_answers(comparison, f"run {number} of {repeat}" if repeat > 1 else "")
        if not quiet:
            print_terms(playground, [variant.model for variant in variants])
    if repeat > 1 and not quiet:
        _print_medians(done)
    return done


def _json(comparisons: list[Comparison]) -> dict[str, Any]:
    """One comparison as it is; several under ``comparisons``, with the medians. ``receipts`` say how each was taken."""
    from playground.results.receipts import of_comparisons, with_receipts

    if len(comparisons) == 1:
        return with_receipts(comparisons[0])
    return {
        "comparisons": [comparison.to_json() for comparison in comparisons],
        "medians": medians(comparisons),
        "receipts": of_comparisons(comparisons).to_json(),
    }


def _print_comparison(comparison: Comparison) -> None:
    request = comparison.request
    asked = request.prompt or _conversation(request)
    output.stdout().print(f"{comparison.id}  {comparison.created_at}\n\n{output.clean(asked)}\n", soft_wrap=True)
    print_answers(comparison, "", whole=True)


def _conversation(request: Request) -> str:
    return "\n".join(f"{message.role}: {message.content}" for message in request.messages)


def print_answers(comparison: Comparison, title: str, *, whole: bool = False) -> None:
    """Each column's answer and the figures.

    Args:
        whole: With the conversation before each answer.
    """
    from playground.results.requests import headings, own_words

    console = output.stdout()
    for heading, run in zip(headings([run.variant for run in comparison.runs]), comparison.runs, strict=True):
        console.rule(heading, align="left")
        if run.taken_in:
            console.print(f"carried over from {run.taken_in}", soft_wrap=True)
        for words in own_words(comparison.request, run.request):
            console.print(f"asked otherwise: {output.clean(output.say(words))}", soft_wrap=True)
        if whole and run.request and run.request.messages:
            console.print(output.clean(_conversation(run.request)) + "\nassistant:", soft_wrap=True)
        if run.error:
            console.print(f"failed: {output.clean(run.error)}", soft_wrap=True)
        if run.text:
            console.print(output.clean(run.text), soft_wrap=True)
        elif not run.error:
            console.print(f"(no visible text in {run.timings.output_tokens or 0} tokens)")
        console.print(f"[{run.finish_reason}]")
        for note in run.warnings:
            console.print(f"note: {output.clean(note)}", soft_wrap=True)
        if run.fallbacks:
            way = f"onnx-{run.precision} by {run.recipe}" if run.runtime == "onnx" else f"{run.runtime}-{run.precision}"
            console.print(f"ran as: {way}")
        for reason in run.fallbacks:
            console.print(f"not used: {output.clean(reason)}", soft_wrap=True)
    _print_timings(comparison, title)


def _print_timings(comparison: Comparison, title: str) -> None:
    from playground.results.requests import headings

    threads = sorted({run.timings.threads for run in comparison.runs if run.timings.threads})
    about = [comparison.mode, f"{'/'.join(map(str, threads))} threads" if threads else "", title]
    names = headings([run.variant for run in comparison.runs])
    rows = {name: _figures(run.timings) for name, run in zip(names, comparison.runs, strict=True)}
    if not any(value is not None for figures in rows.values() for value in figures.values()):
        return  # nothing ran
    taken = [run.timings for run in comparison.runs]
    _print_table("Timings (" + ", ".join(filter(None, about)) + ")", rows, comparison.runs, taken)
    if comparison.mode == "fast":
        output.stdout().print("Fast mode: the models shared the machine; these figures rank nothing.")
    elif not title:
        output.stdout().print("One run each: before ranking, repeat (--repeat N, or: bench models).")


def _print_medians(comparisons: list[Comparison]) -> None:
    every = [run.timings for comparison in comparisons for run in comparison.runs]
    _print_table(f"Median of {len(comparisons)} runs", medians(comparisons), comparisons[0].runs, every)


def _figures(timings: Timings) -> dict[str, float | None]:
    return {name: getattr(timings, name) for name in ROWS}


def _unit(run: ModelRun) -> str:
    return "" if run.timings.unit == "token" else " (counted in chunks)"


def _print_table(
    title: str, figures: dict[str, dict[str, float | None]], runs: Sequence[ModelRun], taken: Sequence[Timings]
) -> None:
    """A row for each figure, a column for each model.

    Args:
        taken: All that the figures are of, each repeat.
    """
    from rich.table import Table

    from playground.results.figures import FIGURES, engine_of, engines_note, others_note

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("")
    for name, run in zip(figures, runs, strict=True):
        table.add_column(name + _unit(run), justify="right", overflow="fold")
    for figure in ROWS:
        values = [by_name.get(figure) for by_name in figures.values()]
        if any(value is not None for value in values):
            quantity = FIGURES[figure]
            table.add_row(output.say(quantity.heading), *(quantity.shown(value) for value in values))
    if any(run.engine for run in runs):
        table.add_row("computed by", *(run.engine or "–" for run in runs))
    console = output.stdout()
    console.print(f"\n{title}")
    console.print(table)
    if note := engines_note(engine_of(run.engine, run.runtime) for run in runs if run.error is None):
        console.print(output.clean(note), soft_wrap=True)
    if note := others_note(taken):
        console.print(output.clean(note), soft_wrap=True)


LIST_CHARS = 48
"""Of a prompt, in the list of what is kept."""


def _back_up(file: Path | None) -> None:
    from playground.config.settings import load_settings
    from playground.service import Playground

    if file is None:
        raise UsageError(msg("A backup needs a file"), msg("Run playground history backup FILE."))
    with Playground(load_settings()) as playground:
        size = playground.back_up(file)
    print(output.say(msg("{file}: {mb:.1f} MB", file=str(file), mb=size / 1e6)))


def _print_list(comparisons: list[Comparison]) -> None:
    from rich.table import Table

    from playground.results.entries import one_line

    if not comparisons:
        output.stdout().print("Nothing is kept yet: compare --save keeps a comparison, the web app keeps each.")
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("id", "when", "mode", "models", "prompt"):
        # An id is for copying: it stays whole, and gives nothing up to a long prompt.
        table.add_column(title, overflow="ellipsis", no_wrap=title == "prompt", min_width=48 if title == "id" else None)
    for comparison in comparisons:
        names = ", ".join(str(run.variant) + (" (failed)" if run.error else "") for run in comparison.runs)
        asked = output.clean(comparison.request.prompt or comparison.request.messages[-1].content)
        table.add_row(comparison.id, comparison.created_at, comparison.mode, names, one_line(asked, LIST_CHARS))
    output.stdout().print(table)
