"""``choose``: which models meet the limits of a reader, what decided it, and which of them nobody beats.

With a file, the limits and the suite are the file's, and ``--run`` runs what is missing to judge by them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from playground.cli import output
from playground.cli.common import JsonOption
from playground.errors import UsageError, some
from playground.messages import msg

if TYPE_CHECKING:
    from collections.abc import Collection

    from playground.choose.board import Board
    from playground.choose.constraints import Eligibility
    from playground.choose.deciding import Decision
    from playground.choose.quality import Quality

MARKS = {"met": "✓", "conditions": "✓", "close": "≈", "unknown": "?", "broken": "✕"}


def choose(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE.yaml]", help="A suite and limits in one file; see docs/choose.md.")
    ] = None,
    *,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", metavar="MODEL[@RUNTIME-PRECISION]", help="Repeat for each; without it, all."),
    ] = None,
    max_memory: Annotated[float | None, typer.Option(help="Peak memory of the process, MB.")] = None,
    max_ttft: Annotated[float | None, typer.Option(help="Time to first token, s.")] = None,
    min_speed: Annotated[float | None, typer.Option(help="Decode rate, tokens per second.")] = None,
    commercial: Annotated[bool, typer.Option("--commercial", help="The licence must allow commercial use.")] = False,
    min_openness: Annotated[int | None, typer.Option(help="Open items of five that are a plain yes.")] = None,
    min_context: Annotated[int | None, typer.Option(help="Context length, tokens.")] = None,
    quality: Annotated[
        str, typer.Option(help="A benchmark of the cards, or fidelity: shows the Pareto front of quality and speed.")
    ] = "",
    scores: Annotated[
        Path | None, typer.Option(help="CSV (model,score) or JSON with scores of your own, as the quality.")
    ] = None,
    run: Annotated[bool, typer.Option("--run", help="Run what the file's limits need and is not stored yet.")] = False,
    json: JsonOption = False,
) -> int:
    """Say which models meet your limits, by figures measured here and facts with a source.

    Exit code 0: at least one is eligible; 1: none is; 2: the command was wrong; 3: --run was interrupted, and goes on
    where it was when it is called again.
    """
    from playground.choose.constraints import Constraints, check_limits
    from playground.choose.deciding import decide
    from playground.choose.file import Choice, read_choice
    from playground.choose.quality import file_scores
    from playground.cli.choose_run import INTERRUPTED, close_the_loop
    from playground.config.settings import own_settings
    from playground.service import Playground

    limits = Constraints(max_memory, max_ttft, min_speed, commercial, min_openness, min_context)
    check_limits(limits)
    if run and file is None:
        raise UsageError(msg("--run is given without a file"), msg("Write the limits into a file; see docs/choose.md."))
    if file is not None and limits.stated:
        raise UsageError(
            msg("Limits are given beside {file}", file=str(file)), msg("Write them into the file, below limits:.")
        )
    choice = read_choice(file) if file is not None else Choice(Path(), limits)
    if quality and scores:
        raise UsageError(msg("Both --quality and --scores are given"), msg("Choose one quality figure."))
    own = read_scores(scores) if scores else None
    with Playground(own_settings()) as playground:
        decision = decide(playground, choice, model or ())
        if run and not close_the_loop(playground, choice, decision):
            return INTERRUPTED
        if run:
            decision = decide(playground, choice, model or ())
        found, verdicts = decision.board, decision.verdicts
        ready = set() if json else {str(variant) for variant in playground.ready_variants()}
        chosen = _quality(found, quality) if quality else None
        if scores and own is not None:
            variants = [candidate.variant for candidate in found.candidates]
            chosen = file_scores(own, scores.name, variants, playground.ids())
        if not quality and not scores and decision.suite:
            chosen = next((each for each in found.qualities if each.kind == "suite"), None)
    if json:
        output.print_json(_json(decision, chosen))
    else:
        _print(decision, chosen, ready)
    return output.OK if any(verdict.state == "eligible" for verdict in verdicts) else output.FAILED


def read_scores(path: Path) -> bytes:
    """A score file's bytes, no more of them than it takes to refuse a large one."""
    from playground.choose.quality import MAX_BYTES

    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(
            msg("{path} can't be read ({reason})", path=str(path), reason=error.strerror),
            msg("Check the path of the score file."),
        ) from None


def _quality(found: Board, name: str) -> Quality:
    """The quality figure called ``name``: a benchmark, ``fidelity``, or ``fidelity:MODEL`` where there are several."""
    from playground.config.validation import closest

    names: dict[str, Quality] = {}
    for quality in found.qualities:
        names.setdefault(quality.key.removeprefix("card:"), quality)
        names.setdefault(quality.key.partition(":")[0] if quality.kind == "fidelity" else quality.key, quality)
    for known, quality in names.items():
        if known.lower() == name.lower():
            return quality
    shown = [known for known in names if not known.startswith("card:")]
    if not shown:
        raise UsageError(
            msg("No two of these models have a quality figure in common"), msg("Bring your own: --scores FILE.")
        )
    raise UsageError(msg("No two of these models have the quality figure '{name}'", name=name), closest(name, shown))


def _json(decision: Decision, quality: Quality | None) -> dict[str, Any]:
    limits, found, verdicts = decision.limits, decision.board, decision.verdicts
    rates = found.suite.rates if found.suite else {}
    figures = {
        str(item.variant): {name: taken.to_json() for name, taken in item.figures.items()} for item in found.candidates
    }
    return {
        "limits": limits.to_json(),
        "verdicts": [
            {
                **verdict.to_json(),
                "variant": str(verdict.variant),
                "verdict": verdict.words,
                "figures": figures[str(verdict.variant)],
                "pass_rate": rates.get(verdict.variant),
            }
            for verdict in verdicts
        ],
        "notes": list(found.evidence.notes),
        "qualities": [known.key for known in found.qualities],
        "quality": _quality_json(found, quality) if quality else None,
        "suite": decision.suite.name if decision.suite else None,
        "differences": list(decision.differences),
    }


def _quality_json(found: Board, quality: Quality) -> dict[str, Any]:
    axes = ["decode_tok_s"]
    return {
        **quality.to_json(),
        "lacking": [str(variant) for variant in quality.lacking(item.variant for item in found.candidates)],
        "axes": ["quality", *axes],
        "front": sorted(found.pareto_front(quality, axes)),
    }


def _is_only_unmeasured(verdict: Eligibility) -> bool:
    """Whether nothing is known of a model but that it has to be measured."""
    from playground.choose.checks import MEASURE_IT

    return verdict.state == "undecided" and all(check.next_step == MEASURE_IT for check in verdict.deciding)


def _print(decision: Decision, quality: Quality | None, ready: Collection[str]) -> None:
    """
    Args:
        ready: Models that are prepared here: those are named first where something is to be measured.
    """
    from playground.choose.checks import MEASURE_IT
    from playground.choose.deciding import difference_words, missing

    limits, found, verdicts = decision.limits, decision.board, decision.verdicts
    console = output.stdout()
    if not limits.stated:
        console.print(
            "No limit is stated: every model is eligible that is not refused here. See --help for the limits.\n"
        )
    for verdict in verdicts:
        if _is_only_unmeasured(verdict):
            continue
        console.print(f"{verdict.variant}: {output.clean(verdict.words)}", soft_wrap=True)
        for check in verdict.deciding:
            where = f"  [{output.clean(check.url or check.source)}]" if check.url or check.source else ""
            console.print(f"  {MARKS[check.answer]} {output.clean(check.words)}{where}", soft_wrap=True)
            if check.next_step:
                console.print(f"    {output.clean(check.next_step)}", soft_wrap=True)
    if names := ", ".join(str(verdict.variant) for verdict in verdicts if _is_only_unmeasured(verdict)):
        console.print(f"undecided, for nothing of them was measured here: {names}", soft_wrap=True)
    for difference in decision.differences:
        console.print(output.clean(difference_words(difference)), soft_wrap=True)
    unmeasured = [str(v.variant) for v in verdicts if any(check.next_step == MEASURE_IT for check in v.checks)]
    unmeasured.sort(key=lambda variant: variant not in ready)
    if decision.suite and missing(decision).anything:
        console.print(output.clean(msg("To run what is missing: the same command with --run.")), soft_wrap=True)
    elif unmeasured:
        models = " ".join(f"-m {variant}" for variant in unmeasured[:4])
        console.print(f"\nTo measure: playground bench models {models}", soft_wrap=True)
    best = next(
        (each.variant for each in verdicts if each.state == "eligible" and each.variant.runtime == "onnx"), None
    )
    if best and limits.stated:
        console.print(output.clean(msg("To ship it: playground ship {variant} FOLDER", variant=best)), soft_wrap=True)
    if quality:
        _print_quality(found, quality)
    for note in found.evidence.notes:
        console.print(f"note: {output.clean(note)}", soft_wrap=True)


FRONT = (
    "Pareto front: nobody is at least as good in quality and speed and better in one of them, "
    "beyond the spread of the figures."
)


def _print_quality(found: Board, quality: Quality) -> None:
    from rich.table import Table

    from playground.choose.wording import number, spread_words

    axes = ("decode_tok_s",)
    first = found.pareto_front(quality, axes)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("", "model", "quality", "decode", "peak memory"):
        table.add_column(title, justify="right" if title in ("quality", "decode", "peak memory") else "left")
    rows = [item for item in found.candidates if str(item.variant) in quality.values]
    for item in rows:
        shown = [
            output.say(spread_words(item.figures[name].figure)) if name in item.figures else "–"
            for name in ("decode_tok_s", "peak_memory_mb")
        ]
        value = number(float(quality.values[str(item.variant)].value))
        table.add_row("◆" if str(item.variant) in first else "", str(item.variant), value, *shown)
    console = output.stdout()
    console.print(f"\n{output.clean(quality.title)}")
    console.print(table)
    console.print(f"◆ {FRONT}")
    lacking = quality.lacking(item.variant for item in found.candidates)
    if lacking:
        without = msg("Without this figure: {models}", models=some(list(map(str, lacking))))
        console.print(output.clean(without), soft_wrap=True)
