"""Following an experiment on stderr: a screen that fills on a terminal, one line for each change elsewhere.

It draws snapshots; it takes no figures: the rates it shows while tokens come are from the worker's own stamps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from playground.cli.output import clean, stderr, tenth

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from playground.experiments.base import Experiment
    from playground.experiments.progress import LiveRun, Snapshot

POLL_S = 0.1
STOP_WAIT_S = 3.0
SIDE_BY_SIDE = 40
"""Fewest columns a panel needs to stand beside another one."""

Result = TypeVar("Result")


def follow(experiment: Experiment[Result]) -> Result:
    """Show the experiment until it is over and return its result. Ctrl-C stops the models first, then passes on.

    Raises:
        KeyboardInterrupt: After every worker was told to stop.
        PlaygroundError: It has no result; says why.
    """
    console = stderr()
    try:
        if console.is_terminal:
            _draw(experiment, console)
        else:
            _print_changes(experiment, console)
        return experiment.result()
    except KeyboardInterrupt:
        experiment.stop()
        experiment.wait(STOP_WAIT_S)
        raise


def _draw(experiment: Experiment[Any], console: Console) -> None:
    from rich.live import Live

    shown = experiment.snapshot()
    with Live(_screen(shown, console), console=console, auto_refresh=False, transient=True) as live:
        while not experiment.wait(POLL_S):
            at = experiment.snapshot()
            if at != shown:
                shown = at
                live.update(_screen(at, console), refresh=True)


def _screen(at: Snapshot, console: Console) -> RenderableType:
    """The step, where there is one, above the answers."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [Text(step_line(at), overflow="ellipsis", no_wrap=True)] if at.step else []
    if at.lives:
        parts.append(_panels(at.lives, console, spent=len(parts)))
    return Group(*parts)


def _panels(runs: tuple[LiveRun, ...], console: Console, spent: int) -> RenderableType:
    """A panel for each answer, beside each other where there is room; ``spent`` lines of the screen are taken."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    from playground.results.requests import headings

    beside = console.width // len(runs) >= SIDE_BY_SIDE
    height = console.height - spent
    lines = max(3, height - 4 if beside else height // len(runs) - 3)
    width = (console.width // len(runs) if beside else console.width) - 6
    panels = [
        Panel(
            Text("\n".join(_tail(clean(run.text), width, lines))),
            title=Text(heading),
            subtitle=Text(status(run)),
            height=lines + 2 if beside else None,
        )
        for heading, run in zip(headings([run.variant for run in runs]), runs, strict=True)
    ]
    if not beside:
        return Group(*panels)
    grid = Table.grid(expand=True)
    for _ in panels:
        grid.add_column(ratio=1)
    grid.add_row(*panels)
    return grid


def _tail(text: str, width: int, lines: int) -> list[str]:
    """The last lines of the text as a panel folds them (a wide character may cost it one line more)."""
    folded = []
    for line in text[-width * lines * 2 :].split("\n"):
        folded += [line[at : at + width] for at in range(0, max(1, len(line)), width)]
    return folded[-lines:]


def step_line(at: Snapshot) -> str:
    """What is being done, and the share of it that is."""
    return clean(at.step) + ("" if at.progress is None else f" {at.progress:.0%}")


def status(run: LiveRun) -> str:
    """One line on where a run stands, with the decode rate while tokens come."""
    if run.kind == "token":
        return f"{_tokens(run.n_tokens)}{_rate(run)}"
    if run.kind == "done" and run.run:
        return f"done ({run.run.finish_reason}), {_tokens(run.run.timings.output_tokens or 0)}{_final_rate(run)}"
    if run.kind == "failed" and run.run:
        return f"failed: {clean(run.run.error or run.message)}"
    share = "" if run.progress is None else f" {run.progress:.0%}"
    message = f": {clean(run.message)}" if run.message else ""
    return f"{run.kind}{message}{share}"


def _tokens(n: int) -> str:
    return f"{n} token" if n == 1 else f"{n} tokens"


def _rate(run: LiveRun) -> str:
    return "" if run.rate is None else f", {run.rate:.1f} tok/s"


def _final_rate(run: LiveRun) -> str:
    rate = run.run.timings.decode_tok_s if run.run else None
    return "" if rate is None else f", {rate:.1f} tok/s"


def _print_changes(experiment: Experiment[Any], console: Console) -> None:
    """A line when the experiment or a model changes what it is doing or a tenth of it is done; tokens alone are no
    change.
    """
    from playground.results.requests import headings

    shown: dict[str, tuple[str, str, int]] = {}
    is_over = False
    while not is_over:
        is_over = experiment.wait(POLL_S)
        at = experiment.snapshot()
        lines: dict[str, tuple[tuple[str, str, int], str]] = {}
        if at.step:
            lines[""] = ("", at.step, tenth(at.progress)), step_line(at)
        for heading, run in zip(headings([run.variant for run in at.lives]), at.lives, strict=True):
            change: tuple[str, str, int] = (run.kind, run.message, tenth(run.progress))
            lines[heading] = (change, f"{heading}: {status(run)}")
        for name, (doing, line) in lines.items():
            if shown.get(name) != doing:
                shown[name] = doing
                console.print(line, soft_wrap=True)
