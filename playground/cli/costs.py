"""`costs`: memory, processor time and money of the models that were run or measured here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from playground.cli import output
from playground.cli.common import JsonOption
from playground.errors import UsageError
from playground.messages import msg

if TYPE_CHECKING:
    from playground.results.costs import ModelCost, Tier
    from playground.service import Playground

NEWEST = 100
"""So many stored comparisons and measurements are looked through."""


def costs(
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", metavar="MODEL[@RUNTIME-PRECISION]", help="Repeat for each; all without one."),
    ] = None,
    tier: Annotated[str, typer.Option(help="One tier of hardware.yaml, e.g. cpu-upgrade; all without one.")] = "",
    price: Annotated[float | None, typer.Option(help="Another price of an hour for --tier.")] = None,
    json: JsonOption = False,
) -> int:
    """What models cost that were compared (--save, or in the app) or measured here: memory, CPU time, money."""
    from playground.config.settings import load_settings
    from playground.results.costs import ASSUMPTION, chosen, load_tiers
    from playground.service import Playground

    settings = load_settings()
    tiers = chosen(load_tiers(settings.hardware_file), tier, price)
    with Playground(settings) as playground:
        wanted = list(map(str, playground.variants(model or ())))
        found = collect(playground, tiers)
    if missing := [name for name in wanted if name not in found]:
        raise UsageError(
            msg("{models}: no figures of it are kept here", models=" and ".join(missing)),
            msg("Measure it: `playground bench models -m {model}`.", model=missing[0]),
        )
    rows = [found[name] for name in wanted or found]
    if json:
        tables = {"tiers": [item.to_json() for item in tiers], "costs": [row.to_json() for row in rows]}
        output.print_json({**tables, "assumption": ASSUMPTION})
    elif rows:
        _print(rows, tiers)
        output.stdout().print(output.say(ASSUMPTION))
    else:
        output.stdout().print(
            "No figures are kept here yet: `playground compare --save` and `playground bench models` keep some.",
            soft_wrap=True,
        )
    return output.OK


def collect(playground: Playground, tiers: tuple[Tier, ...]) -> dict[str, ModelCost]:
    """The newest figures of each variant: its newest fair run, with the medians of its newest measurement."""
    from playground.results.costs import of_run, with_medians

    found: dict[str, ModelCost] = {}
    for comparison in playground.comparisons(NEWEST):
        for run in comparison.runs:
            if comparison.mode == "fair" and not run.error and run.timings.decode_tok_s:
                found.setdefault(str(run.variant), of_run(run, tiers))
    seen: set[str] = set()
    for measurement in playground.measurements(NEWEST):
        for measured in measurement.models:
            name = str(measured.variant)
            if measured.figures and name not in seen:
                seen.add(name)
                found[name] = with_medians(found.get(name) or _bare(name), measured, tiers)
    return found


def _bare(name: str) -> ModelCost:
    from playground.messages import NOTHING
    from playground.results.costs import ModelCost

    return ModelCost(name, NOTHING, None, None, None, None, None, None, ())


def _print(rows: list[ModelCost], tiers: tuple[Tier, ...]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("")
    for row in rows:
        table.add_column(f"{row.variant}\n{output.say(row.how)}", justify="right", overflow="fold")
    lines = [
        ("answer, tokens", [_number(row.output_tokens, 0) for row in rows]),
        ("CPU time of it, s", [_number(row.cpu_s_per_answer, 2) for row in rows]),
        ("peak memory, MB", [_number(row.peak_memory_mb, 0) for row in rows]),
        ("expected, MB", [_number(row.expected_memory_mb, 0) for row in rows]),
        ("weights on disk, MB", [_number(row.disk_mb, 0) for row in rows]),
        ("cache of 1,000 tokens, MB", [_number(row.cache_mb_per_1000, 1) for row in rows]),
    ]
    for place, tier in enumerate(tiers):
        money = f"{tier.flavor}, {tier.currency} for 10⁶"
        lines.append((f"{money} output tokens", [_number(row.tiers[place].output_million, 3) for row in rows]))
        lines.append((f"{money} prompt tokens", [_number(row.tiers[place].prompt_million, 3) for row in rows]))
    for title, cells in lines:
        table.add_row(title, *cells)
    console = output.stdout()
    console.print(table)
    for tier in tiers:
        console.print(
            f"{tier.name}: {tier.vcpu} vCPU, {tier.memory_gb:g} GB, {tier.per_hour:g} {tier.currency} an hour "
            f"({tier.source}, {tier.as_of}). {output.say(tier.note)}",
            soft_wrap=True,
        )


def _number(value: float | None, decimals: int) -> str:
    return "–" if value is None else f"{value:,.{decimals}f}"
