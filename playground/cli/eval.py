"""``eval``: measured quality of the very files that run, by lm-eval and the product's own door."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from playground.cli import output
from playground.cli.common import JsonOption
from playground.errors import UsageError
from playground.messages import msg

if TYPE_CHECKING:
    from playground.evaluation.job import Address
    from playground.results.scores import Evaluation, Metric
    from playground.service import Playground


def evaluate(
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", metavar="MODEL[@RUNTIME-PRECISION]", help="Repeat for each model."),
    ] = None,
    *,
    tasks: Annotated[
        list[str] | None,
        typer.Option(
            "--tasks",
            "-t",
            metavar="TASK,…",
            help="Tasks or groups of lm-eval; playground is three of our own that need no network.",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first so many questions of each task.")] = None,
    shots: Annotated[
        int | None, typer.Option(help="Solved examples before each question. Default: each task's own number.")
    ] = None,
    chat: Annotated[bool, typer.Option("--chat", help="Put each prompt into the model's chat template.")] = False,
    include_path: Annotated[
        list[Path] | None,
        typer.Option(help="A folder of further tasks. They are programs: lm-eval runs their templates and functions."),
    ] = None,
    stored: Annotated[bool, typer.Option("--stored", help="Show what was measured before; measures nothing.")] = False,
    json: JsonOption = False,
) -> int:
    """Measure how good a model's answers are, on the files that run here, by lm-eval (docs/quality.md).

    Scores are kept with all that they depend on, for `choose` and Models ▸ Decide. Stopped, the same command goes on.
    """
    from playground.cli.live import follow
    from playground.config.settings import own_settings
    from playground.evaluation.job import Plan
    from playground.evaluation.worker import tasks_of
    from playground.service import Playground

    if stored and (tasks or limit is not None or shots is not None or chat or include_path):
        raise UsageError(msg("--stored shows what was measured"), msg("Leave the options of a measurement out."))
    with Playground(own_settings()) as playground:
        if stored:
            wanted = set(map(str, playground.variants(model or ())))
            found = [each for each in playground.evaluations() if not wanted or str(each.variant) in wanted]
        else:
            folders = tuple(map(str, include_path or ()))
            plan = Plan(tasks_of(tasks or ()), folders, limit, shots, chat)
            with output.working_on(", ".join(model or ())):
                try:
                    found = list(follow(playground.evaluate(model or (), plan, door(playground))))
                except KeyboardInterrupt:
                    kept = msg("What was answered is kept: the same command goes on from there.")
                    output.stderr().print(output.say(kept), soft_wrap=True)
                    raise
    if json:
        output.print_json(_json(found))
    else:
        _print(found)
    return output.OK


def door(playground: Playground) -> Callable[[], AbstractContextManager[Address]]:
    """Opens the product's own door on loopback, for whoever has a key that is made for this one time."""

    @contextmanager
    def opened() -> Iterator[Address]:
        import secrets

        from playground.api import serving
        from playground.api.app import create_api
        from playground.config.hosts import Hosts
        from playground.evaluation.job import Address

        key = secrets.token_urlsafe(32)
        app = create_api(playground, keys=[key], hosts=Hosts("127.0.0.1", ()))
        with serving.opened(app) as port:
            yield Address(f"http://127.0.0.1:{port}/v1", key)

    return opened


def _json(found: Sequence[Evaluation]) -> dict[str, Any]:
    from playground.results.scores import pairs

    return {
        "evaluations": [
            {**each.to_json(), "intervals": {_name(metric): metric.interval for metric in each.metrics}}
            for each in found
        ],
        "pairs": [
            {
                "task": one.task,
                "first": str(one.variant),
                "second": str(other.variant),
                "metric": one.main.name if one.main else "",
                **seen.to_json(),
            }
            for one, other, seen in pairs(found)
        ],
    }


def _print(found: Sequence[Evaluation]) -> None:
    """A row a metric, then what the paired tests say, then how it was taken."""
    from rich.table import Table

    from playground.results.scores import pairs
    from playground.results.statistics import outcome_words, why_words

    console = output.stdout()
    if not found:
        console.print(output.say(msg("Nothing was measured yet.")))
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title, side in (("task", "left"), ("model", "left"), ("metric", "left"), ("value", "right"), ("95 %", "left")):
        table.add_column(title, justify="right" if side == "right" else "left", overflow="fold")
    table.add_column("questions", justify="right")
    for each in found:
        for metric in each.metrics:
            asked = f"{each.questions:,}" + (f" / {each.questions_in_task:,}" if each.limit else "")
            table.add_row(output.clean(each.task), str(each.variant), _name(metric), *_value(metric), asked)
    console.print(table)
    for one, other, seen in pairs(found):
        words, why = output.clean(outcome_words(seen)), output.clean(why_words(seen))
        console.print(f"{output.clean(one.task)}: {one.variant} / {other.variant}: {words}. {why}", soft_wrap=True)
    for line in dict.fromkeys(_receipt(each) for each in found):
        console.print(line, soft_wrap=True)


def _name(metric: Metric) -> str:
    return metric.name if metric.filter == "none" else f"{metric.name} ({metric.filter})"


def _value(metric: Metric) -> tuple[str, str]:
    """The value and its interval; shares in per cent."""
    times, unit = (100.0, " %") if metric.is_share else (1.0, "")
    interval = metric.interval
    spread = f"{interval.low * times:.1f} … {interval.high * times:.1f}" if interval else "–"
    return f"{metric.value * times:.1f}{unit}", spread


def _receipt(each: Evaluation) -> str:
    commit = f", commit {each.environment.commit[:12]}" if each.environment.commit else ""
    files = f"sha256 {each.artifact_sha256[:12]}" if each.artifact_sha256 else f"revision {each.revision[:12]}"
    how = output.clean(output.say(each.how))
    return f"{each.variant}: {how}; {each.engine}, files {files}{commit}; {each.created_at[:16]}"
