"""The process that does the work: one line of JSON in for each architecture, a line out for each precision.

It may die of what it tries, which is why there is a parent (``children.py``).
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.families.sweep.names import Architecture
from tests.families.sweep.networks import alone
from tests.families.sweep.rows import CONTRADICTION, Row


def main(number: int) -> int:
    """Answer jobs from stdin until it closes. Only rows reach stdout; all else goes to stderr, a log.

    Args:
        number: Of this child among its like; each keeps to a core of its own.
    """
    keep_to_one_core(number)
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    warnings.filterwarnings("ignore")
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(name)s %(levelname)s %(message)s")
    import torch
    import transformers

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    for line in sys.stdin:
        job = json.loads(line)
        architecture = Architecture(**job["architecture"])
        for row in attempt(architecture, job["variants"], Path(job["models"]), Path(job["home"])):
            out.write(row.to_line() + "\n")
        out.write(json.dumps({"done": architecture.name}) + "\n")
    return 0


def attempt(architecture: Architecture, variants: list[str], models: Path, home: Path) -> Iterator[Row]:
    """Every variant of one architecture; those behind one that can't be right are left out.

    Args:
        variants: RUNTIME-PRECISION, each.
        models: Where tiny models lie, or are put.
        home: PLAYGROUND_HOME.
    """
    from tests.families.sweep.judge import Judge
    from tests.families.sweep.networks import write
    from tests.families.sweep.product import Trial
    from tests.families.sweep.prompts import PROMPTS
    from tests.families.sweep.shapes import APART

    folder = models / architecture.folder
    first = Row(architecture.listed, architecture.name, variants[0], "not judged")
    if apart := APART.get(architecture.model_type):
        first.reason = f"not a model of text alone: {apart}"
        yield first
        return
    try:
        if not folder.is_dir():
            write(architecture, folder)
    except Exception as error:
        traceback.print_exc()
        yield _unjudged(first, "no small network of it", error)
        return
    judge, expected, reason = None, {}, ""
    try:
        judge = Judge(architecture, folder)
        expected = {prompt.name: judge.answer(prompt) for prompt in PROMPTS}
    except Exception as error:
        traceback.print_exc()
        expected = {}
        first = _unjudged(first, "generate itself fails", error)
        reason = first.reason
    for variant in variants:
        row = Row(architecture.listed, architecture.name, variant, "not judged", reason)
        row.judge = judge.class_name if judge else ""
        row.facts = {"consistent": {name: answer.consistent for name, answer in expected.items()}}
        row = Trial(row, folder, home, expected, judge).run(variant)
        torn = CONTRADICTION if any(answer.consistent is False for answer in expected.values()) else ""
        if row.outcome == "refused" and (reason or torn):
            row.outcome, row.reason = "not judged", f"{reason or torn}; refused: {row.reason}"
        yield row
        if row.last(variants):
            return


def keep_to_one_core(number: int = 0) -> None:
    """Threads of a tiny network spend their time waiting for each other, and more of it where others compute, too."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[number % len(cores)]})


def _unjudged(row: Row, what: str, error: BaseException) -> Row:
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    row.reason = f"{what} ({type(error).__name__}: {' '.join(lines)[:240] or 'no message'})"
    return row


def job(architecture: Architecture, variants: list[str], models: Path, home: Path) -> dict[str, Any]:
    """What ``main`` reads."""
    told = {"listed": architecture.listed, "name": architecture.name, "classes": list(architecture.classes)}
    return {"architecture": told, "variants": variants, "models": str(models), "home": str(home)}


def forget(architecture: Architecture, models: Path) -> None:
    """Have the tiny model made anew."""
    folder = models / architecture.folder
    for each in (folder, alone(folder)):
        shutil.rmtree(each, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
