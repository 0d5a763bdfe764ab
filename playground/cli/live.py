"""Following a comparison on stderr: panels that fill on a terminal, one line for each change elsewhere.

It draws snapshots; it takes no figures: the rates it shows while tokens come are from the worker's own stamps.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from playground.cli.output import clean, stderr, tenth

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from playground.experiments.compare import Running
    from playground.experiments.progress import LiveRun
    from playground.records import Comparison

REDRAW_EVERY_S = 0.1
HEARTBEAT_S = 0.25
STOP_WAIT_S = 3.0
SIDE_BY_SIDE = 40
"""Fewest columns a panel needs to stand beside another one."""


def follow(running: Running) -> Comparison:
    """Show the comparison until it is over and return it. Ctrl-C stops the models first, then passes on.

    Raises:
        KeyboardInterrupt: After every worker was told to stop.
    """
    console = stderr()
    try:
        if console.is_terminal:
            _draw(running, console)
        else:
            _print_changes(running, console)
        return running.result()
    except KeyboardInterrupt:
        running.stop()
        deadline = time.monotonic() + STOP_WAIT_S
        while not running.done and time.monotonic() < deadline:
            time.sleep(0.02)
        raise


def _draw(running: Running, console: Console) -> None:
    from rich.live import Live

    with Live(_screen(running, console), console=console, auto_refresh=False, transient=True) as live:
        drawn_at = 0.0
        for _ in running.events(HEARTBEAT_S):
            if time.monotonic() - drawn_at >= REDRAW_EVERY_S:
                live.update(_screen(running, console), refresh=True)
                drawn_at = time.monotonic()


def _screen(running: Running, console: Console) -> RenderableType:
    from rich.console import Group
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    runs = running.snapshot()
    beside = console.width // max(1, len(runs)) >= SIDE_BY_SIDE
    lines = max(3, console.height - 4 if beside else console.height // max(1, len(runs)) - 3)
    width = (console.width // len(runs) if beside else console.width) - 6
    panels = [
        Panel(
            Text("\n".join(_tail(clean(run.text), width, lines))),
            title=Text(str(run.variant)),
            subtitle=Text(status(run)),
            height=lines + 2 if beside else None,
        )
        for run in runs
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


def status(run: LiveRun) -> str:
    """One line on where a run stands, with the decode rate while tokens come."""
    if run.kind == "token":
        return f"{run.n_tokens} tokens{_rate(run)}"
    if run.kind == "done" and run.run:
        return f"done ({run.run.finish_reason}), {run.run.timings.output_tokens} tokens{_final_rate(run)}"
    if run.kind == "failed" and run.run:
        return f"failed: {clean(run.run.error or run.message)}"
    share = "" if run.progress is None else f" {run.progress:.0%}"
    message = f": {clean(run.message)}" if run.message else ""
    return f"{run.kind}{message}{share}"


def _rate(run: LiveRun) -> str:
    return "" if run.rate is None else f", {run.rate:.1f} tok/s"


def _final_rate(run: LiveRun) -> str:
    rate = run.run.timings.decode_tok_s if run.run else None
    return "" if rate is None else f", {rate:.1f} tok/s"


def _print_changes(running: Running, console: Console) -> None:
    """A line when a run changes what it is doing or a tenth of it is done; tokens alone are no change."""
    shown: dict[str, tuple[str, str, int]] = {}
    for _ in running.events(HEARTBEAT_S):
        for run in running.snapshot():
            change = (run.kind, run.message, tenth(run.progress))
            if shown.get(str(run.variant)) != change:
                shown[str(run.variant)] = change
                console.print(f"{run.variant}: {status(run)}", soft_wrap=True)
