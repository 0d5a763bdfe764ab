"""``bench models``: measure models on this machine, print medians and spreads, keep the measurement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from playground.cli import output
from playground.cli.common import JsonOption, read_prompt
from playground.errors import UsageError
from playground.messages import msg

if TYPE_CHECKING:
    from playground.results.figures import Figure, Measurement, Quantity

PROMPT = "Explain in two sentences why the sky is blue."
TOKENS = 64
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def models(
    prompt: Annotated[str, typer.Argument(help="The prompt; - reads it from stdin.")] = PROMPT,
    *,
    model: Annotated[
        list[str], typer.Option("--model", "-m", metavar="MODEL[@RUNTIME-PRECISION]", help="Repeat for each model.")
    ],
    repeats: Annotated[int, typer.Option(help="Answers of each model that count, after a warm-up.")] = 5,
    tokens: Annotated[
        int | None,
        typer.Option(help="Length of every answer: 64 by itself, or less where the limit of spaces.yaml is lower."),
    ] = None,
    json: JsonOption = False,
    save: Annotated[bool, typer.Option("--save/--no-save", help="Keep it, for verdicts and the web app.")] = True,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print one Markdown document with all receipts.")
    ] = False,
) -> int:
    """Measure models one after the other, in rotated order, with answers of equal length."""
    from playground.cli.live import follow
    from playground.config.settings import own_settings
    from playground.records import Request
    from playground.results.receipts import with_receipts
    from playground.results.report import markdown as written
    from playground.service import Playground

    if json and markdown:
        raise UsageError(msg("--json and --markdown are both given"), msg("Choose one."))
    settings = own_settings()
    most = settings.limits.usual_tokens(TOKENS) if tokens is None else tokens
    request = Request(prompt=read_prompt(prompt), max_new_tokens=most)
    with Playground(settings) as playground:
        variants = playground.variants(model)
        with output.working_on(", ".join(map(str, variants))):
            measurement = follow(playground.benchmark(request, variants, repeats))
        if save:
            playground.keep(measurement)
    if json:
        output.print_json(with_receipts(measurement))
    elif markdown:
        output.stdout().print(output.clean(written(measurement, output.say)), soft_wrap=True, end="")
    else:
        _print(measurement)
    return output.FAILED if any(found.error for found in measurement.models) else output.OK


def main(args: list[str], name: str) -> int:
    """Run the command with the arguments behind ``bench models``; ``name`` is what the reader typed before them."""
    return int(app(args=args, prog_name=name, standalone_mode=False) or output.OK)


def _print(measurement: Measurement) -> None:
    """A row a figure, a column a model: median, quartiles and rank."""
    from rich.table import Table

    from playground.results.figures import ONE_LOAD, QUANTITIES, rank_note, ranks_of
    from playground.results.receipts import machine_lines

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column("")
    for found in measurement.models:
        table.add_column(str(found.variant), overflow="fold")
    for name, quantity in QUANTITIES.items():
        figures = [found.figures.get(name) for found in measurement.models]
        if not any(figures):
            continue
        ranks = [
            "" if place is None else f"  #{place.rank}" + ("=" if place.shared else "") + place.mark
            for place in ranks_of(measurement, name)
        ]
        cells = [_cell(taken, quantity) for taken in figures]
        table.add_row(output.say(quantity.heading), *(cell + rank for cell, rank in zip(cells, ranks, strict=True)))
    for heading, values in (
        ("prompt, tokens", [found.prompt_tokens for found in measurement.models]),
        ("computed by", [found.engine for found in measurement.models]),
    ):
        if any(values):
            table.add_row(heading, *("–" if value is None else str(value) for value in values))
    console = output.stdout()
    threads = {str(found.threads) for found in measurement.models if found.threads}
    about = f"{measurement.repeats} repeats, {measurement.request.max_new_tokens} tokens each"
    console.print(f"Median [quartiles] of {about}, {'/'.join(sorted(threads)) or 'no'} threads  ({measurement.id})")
    console.print(table)
    console.print("#: rank, only where the spreads do not overlap; =: no difference seen.", soft_wrap=True)
    if note := rank_note(measurement):
        console.print(output.clean(note), soft_wrap=True)
    console.print(output.say(ONE_LOAD), soft_wrap=True)
    for warning in measurement.warnings:
        console.print(f"warning: {output.clean(warning)}", soft_wrap=True)
    for found in measurement.models:
        if found.error:
            console.print(f"{found.variant}: failed: {output.clean(found.error)}", soft_wrap=True)
        for note in found.notes:
            console.print(f"{found.variant}: {output.clean(note)}", soft_wrap=True)
    for label, text in machine_lines(measurement.environment):
        console.print(f"{output.say(label)}: {output.clean(text)}", soft_wrap=True)


def _cell(taken: Figure | None, quantity: Quantity) -> str:
    """One digit more than a single run has: what differs is often the last."""
    if taken is None:
        return "–"
    low, median, high = (quantity.shown(value, more=1) for value in (taken.low, taken.median, taken.high))
    return f"{median} [{low} … {high}]" + (f" {taken.unit}" if taken.unit != quantity.unit else "")
