"""How a suite's throughput grows with the servers that share its work, and what a lost one costs.

    python -m playground bench scale [--cells 24] [--delay 0.25] [--replicas 1,2,4] [--repeats 3] [--kill] [--ray]
                                     [--json]

    servers    OpenAI-compatible servers of known delay, each a process of its own and one answer at a time, as replicas
               of one model; the whole way is measured: file, experiment, executor, store
    --kill     once more with the most replicas, and one of them is killed in the middle: what that costs
    --ray      the same by Ray Serve on a cluster that is started here, with a scripted model of the same delay

The servers wait and compute nothing, so what is lost to a perfect line is the playground's own; replicas on real
machines lose what their network takes besides. Rates are of the answers between the first and the last of a suite.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.engine import note
from playground.config.settings import load_settings
from playground.errors import PlaygroundError
from playground.records import Column, Remote, Request
from playground.service import Playground
from tests.support.replica_server import PIECES, Replica, replicas, turned

GOAL = 0.9
"""Of a rate that grows as the number of replicas does."""


@dataclass(frozen=True)
class Ran:
    """One suite: cells a second, how many came, and whether each is what its server says, once."""

    rate: float
    cells: int
    whole: bool
    again: int


def prompts(cells: int) -> str:
    return "\n".join(f"prompt number {place} of a suite" for place in range(cells))


def run_suite(playground: Playground, model: str, cells: int, kill: Replica | None = None, delay: float = 0.0) -> Ran:
    """One suite with as many prompts; ``kill`` is ended when a third of them should be there."""
    suite = playground.read_suite(prompts(cells), "scale.txt")
    column = Column(playground.variants([model])[0], Request(max_new_tokens=32))
    warm = playground.read_suite(
        "\n".join(["warm up"] * playground.pool.lanes(playground.resolve(model)[0])), "warm.txt"
    )
    playground.begin_suite(warm, [column]).result()
    if kill:
        threading.Timer(delay, kill.kill).start()
    began = time.monotonic()
    run = playground.begin_suite(suite, [column]).result()
    took = time.monotonic() - began
    kept = list(playground.suite_cells_in_order(run.id))
    texts = [(cell.row, cell.run.text.strip()) for cell in kept]
    said = [
        (place, turned(row.prompt) if model.startswith("remote:") else SCRIPT) for place, row in enumerate(run.rows)
    ]
    again = sum(any("Asked again" in warning for warning in cell.run.warnings) for cell in kept)
    return Ran(len(kept) / took, len(kept), texts == said, again)


SCRIPT = "one two three four five"


def by_servers(folder: Path, number: int, cells: int, delay: float, *, kill: bool = False) -> Ran:
    with replicas(folder, number, delay=delay) as servers:
        urls = [server.url for server in servers]
        remote = Remote("scale", "paced", urls[0], replicas=tuple(urls[1:]), at_once=1)
        settings = replace(load_settings(), home=folder / "home", remotes=(remote,))
        if number == 1:  # one answer at a time would hold the machine for each: the same way as the others
            settings = replace(settings, remotes=(replace(remote, at_once=2),))
        with Playground(settings) as playground:
            victim = servers[-1] if kill else None
            return run_suite(playground, "remote:scale", cells, victim, cells * delay / number / 3)


def by_ray(folder: Path, number: int, cells: int, delay: float) -> Ran:
    source = f"fake:text={SCRIPT.replace(' ', '+')}&prefill_s={delay / PIECES / 1.25}&step_s={delay / PIECES / 1.25}"
    settings = replace(load_settings(), home=folder / "home", ray="local", ray_replicas=number, threads=1)
    with Playground(settings) as playground:
        return run_suite(playground, source, cells)


def measure(asked: argparse.Namespace) -> dict[str, Any]:
    numbers = [int(each) for each in asked.replicas.split(",")]
    rates: dict[int, list[float]] = {number: [] for number in numbers}
    lost: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(asked.repeats):
            for number in numbers if repeat % 2 == 0 else numbers[::-1]:
                place = Path(folder) / f"{repeat}-{number}"
                place.mkdir()
                way = by_ray if asked.ray else by_servers
                ran = way(place, number, asked.cells * number, asked.delay)
                note(f"{number} replicas: {ran.rate:.2f} answers a second")
                rates[number].append(ran.rate)
                if not ran.whole or ran.cells != asked.cells * number:
                    lost.append(f"{number} replicas: {ran.cells} cells")
        document: dict[str, Any] = {
            "by": "ray" if asked.ray else "servers",
            "delay_s": asked.delay,
            "cells_a_replica": asked.cells,
            "answers_per_s": {number: statistics.median(found) for number, found in rates.items()},
            "efficiency": {
                number: statistics.median(
                    one / base * numbers[0] / number for one, base in zip(found, rates[numbers[0]], strict=True)
                )
                for number, found in rates.items()
            },
            "lost_or_wrong": lost,
        }
        if asked.kill and not asked.ray:
            place = Path(folder) / "kill"
            place.mkdir()
            ran = by_servers(place, max(numbers), asked.cells * max(numbers), asked.delay, kill=True)
            document["killed_one"] = {
                "answers_per_s": ran.rate,
                "cells": ran.cells,
                "whole": ran.whole,
                "again": ran.again,
            }
    return document


def show(document: dict[str, Any]) -> None:
    print(f"By {document['by']}, {document['delay_s']:g} s an answer, {document['cells_a_replica']} answers a replica")
    for number, rate in document["answers_per_s"].items():
        share = document["efficiency"][number]
        print(
            f"  {number:3d} replicas  {rate:7.2f} answers/s   {share:6.1%} of a line" + ("" if share >= GOAL else "  ✕")
        )
    if killed := document.get("killed_one"):
        kept = "every answer there, once" if killed["whole"] else f"{killed['cells']} answers, or wrong ones"
        print(f"  one killed    {killed['answers_per_s']:7.2f} answers/s   {kept}; {killed['again']} asked again")
    if document["lost_or_wrong"]:
        print("  lost or wrong: " + "; ".join(document["lost_or_wrong"]))
    print(f"Goal: {GOAL:.0%} of a line.")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cells", type=int, default=24, help="answers for each replica")
    parser.add_argument("--delay", type=float, default=0.25, help="seconds of an answer")
    parser.add_argument("--replicas", default="1,2,4")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--kill", action="store_true")
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if asked.ray and any(int(each) < 2 for each in asked.replicas.split(",")):
        asked.replicas = "2,4"  # one replica is no sharing: its answers are this machine's own
    try:
        document = measure(asked)
    except PlaygroundError as error:
        print(f"Error: {error.message}", file=sys.stderr)
        return 1
    if asked.json:
        print(json.dumps(document, indent=2))
    else:
        show(document)
    return 1 if document["lost_or_wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
