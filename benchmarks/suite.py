"""Does a suite that is killed come to what an undisturbed one comes to, and what does running it cost?

    python -m playground bench suite [-m MODEL@…]… [--prompts 40] [--tokens 24] [--kills 3] [--json]

Four models by default: two at int8, the same two at int4. The suite runs three times, each by the real command in a
home of its own that borrows the prepared models of PLAYGROUND_HOME:

    whole    undisturbed
    killed   ended by kill -9 so many times, at even distances, and resumed by its id
    reuse    undisturbed, and what prompts of one template have in common is read once

The tables of all three must be the same to the last token and check, each place filled once. It prints what resuming
cost, what was not answering or loading (starting the command is most of it), and how much was read less with reuse.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from playground.config.settings import load_settings
from playground.service import Playground

MODELS = (
    *("smollm2-135m-instruct@onnx-int8", "smollm2-135m-instruct@onnx-int4"),
    *("gemma-3-270m@onnx-int8", "gemma-3-270m@onnx-int4"),
)
BORROWED = ("artifacts", "sources", "imports", "overlay", "secret")
"""Of PLAYGROUND_HOME: what is prepared. Suites of a measurement are nobody's to keep."""
TEMPLATE = (
    "You are a careful assistant. Read the question, think of the shortest correct answer, and give it in one short "
    "sentence. Do not repeat the question, do not add anything else, and do not make up what you do not know.\n\n"
    "Question: What is {{a}} plus {{b}}?\nAnswer:"
)


def suite_file(folder: Path, prompts: int) -> Path:
    """Sums, half of which any model of some size can do: what matters is that some are passed and some are not."""
    tests = [
        {"vars": {"a": 1 + n % 9, "b": 1 + n % 7}, "description": f"sum {n}",
         "assert": [{"type": "contains", "value": str(2 + n % 9 + n % 7)}]}
        for n in range(prompts)
    ]  # fmt: skip
    path = folder / "sums.json"
    path.write_text(json.dumps({"description": "Sums", "prompts": [TEMPLATE], "tests": tests}))
    return path


def borrowed_home(folder: Path) -> dict[str, str]:
    """An environment whose home has the models that are prepared, and no suites."""
    home = load_settings().home
    mine = folder / "home"
    mine.mkdir(parents=True)
    for name in BORROWED:
        if (home / name).exists():
            (mine / name).symlink_to(home / name)
    return {**os.environ, "PLAYGROUND_HOME": str(mine)}


def command(*args: str) -> list[str]:
    return [sys.executable, "-m", "playground", "suite", *args]


def stored(env: dict[str, str]) -> tuple[str, int]:
    """The suite of a home, and how many cells it has, read past the product."""
    path = Path(env["PLAYGROUND_HOME"]) / "playground.sqlite3"
    if not path.exists():
        return "", 0
    with closing(sqlite3.connect(path)) as connection:
        try:
            (id,) = connection.execute("SELECT id FROM suite").fetchone() or ("",)
            return id, connection.execute("SELECT count(*) FROM suite_cell").fetchone()[0]
        except sqlite3.OperationalError:
            return "", 0


def run(env: dict[str, str], *args: str) -> float:
    """Run the command to its end; returns its seconds."""
    began = time.monotonic()
    done = subprocess.run(command(*args), env=env, stdout=subprocess.DEVNULL, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(f"the suite ended with {done.returncode}")
    return time.monotonic() - began


def run_killed(env: dict[str, str], args: Sequence[str], marks: Sequence[int]) -> tuple[float, list[int]]:
    """Run it, kill it where so many cells are stored, and go on; returns its seconds and the cells at each kill."""
    began, seen = time.monotonic(), []
    for mark in marks:
        id, _ = stored(env)
        process = subprocess.Popen(
            command("--resume", id) if id else command(*args), env=env,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        while process.poll() is None and stored(env)[1] < mark:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        seen.append(stored(env)[1])
        if process.returncode != -signal.SIGKILL:
            raise SystemExit("it ended before it could be killed: take more prompts")
    run(env, "--resume", stored(env)[0])
    return time.monotonic() - began, seen


def table(env: dict[str, str]) -> dict[str, Any]:
    """What is the same however often it was killed, and the figures that are not."""
    with Playground(load_settings(env)) as playground:
        id, _ = stored(env)
        cells = list(playground.suite_cells_in_order(id))
        found, summary = playground.suite_run(id), playground.suite_summary(id)
        assert found
        return {
            "status": found.status,
            "expected": found.cells,
            "cells": [
                (cell.row, cell.column, cell.sample, cell.run.text, cell.run.token_ids, cell.run.finish_reason,
                 str(cell.run.error), cell.passed, cell.score)
                for cell in cells
            ],
            "places": len({(cell.row, cell.column, cell.sample) for cell in cells}),
            "answer_s": sum(cell.run.timings.total_s or 0.0 for cell in cells),
            "load_s": sum(cell.run.timings.load_s or 0.0 for cell in cells),
            "ttft_s": [column.figures.get("ttft_s") for column in summary.columns],
            "reused": [column.reused for column in summary.columns],
            "passed": {column.heading: f"{column.rate.passed:g}/{column.rate.prompts}" for column in summary.columns},
        }  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", "-m", action="append", help="repeat for each; four by default")
    parser.add_argument("--prompts", type=int, default=40)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    models = options.model or list(MODELS)
    with Playground(load_settings()) as playground:
        for variant in playground.variants(models):
            print(f"{variant}: ready", file=sys.stderr, flush=True) if playground.preparation(variant).artifact else (
                playground.prepare(variant, lambda step, share: None)
            )
    found: dict[str, Any] = {"models": models, "prompts": options.prompts, "tokens": options.tokens}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        args = [str(suite_file(folder, options.prompts)), "--set", f"max_new_tokens={options.tokens}"]
        args += [part for model in models for part in ("-m", model)]
        envs = {kind: borrowed_home(folder / kind) for kind in ("whole", "killed", "reuse")}
        total = options.prompts * len(models)
        # Within a column rather than between two.
        marks = [total * (kill + 1) // (options.kills + 1) - options.prompts // 6 for kill in range(options.kills)]
        seconds = {"whole": run(envs["whole"], *args)}
        seconds["killed"], found["killed_at"] = run_killed(envs["killed"], args, marks)
        seconds["reuse"] = run(envs["reuse"], *args, "--reuse")
        tables = {kind: table(env) for kind, env in envs.items()}
    whole = tables["whole"]
    found |= {
        "cells": whole["expected"],
        "same_as_undisturbed": {kind: tables[kind]["cells"] == whole["cells"] for kind in ("killed", "reuse")},
        "every_place_once": all(
            each["places"] == len(each["cells"]) == each["expected"] and each["status"] == "done"
            for each in tables.values()
        ),
        "seconds": {kind: round(taken, 1) for kind, taken in seconds.items()},
        "answering_s": {kind: round(each["answer_s"], 1) for kind, each in tables.items()},
        "loading_s": {kind: round(each["load_s"], 1) for kind, each in tables.items()},
        "around_answers_s": {
            kind: round(seconds[kind] - each["answer_s"] - each["load_s"], 1) for kind, each in tables.items()
        },
        "first_token_with_reuse": [
            round(with_ / without, 2) for with_, without in zip(tables["reuse"]["ttft_s"], whole["ttft_s"], strict=True)
        ],
        "reused": [round(share, 2) for share in tables["reuse"]["reused"]],
        "passed": whole["passed"],
    }
    print(json.dumps(found, indent=2))
    return 0 if found["every_place_once"] and all(found["same_as_undisturbed"].values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
