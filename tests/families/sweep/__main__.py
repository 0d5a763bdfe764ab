"""Runs the sweep: one JSON line for each architecture and precision.

    python -m tests.families.sweep [--list causal|seq2seq|image-text] [--only NAME,…] [--precisions fp32,int8]
                                   [--out FILE.jsonl] [--resume] [--timeout S] [--jobs 1|2] [--fresh]
    python -m tests.families.sweep --write FILE.jsonl

The second form writes the outcomes into docs/families.md. A precision is that of an ONNX variant; ``torch`` is the
torch runtime. All three lists take a core about half an hour.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.families.report import PAGE
from tests.families.sweep import children, page, rows
from tests.families.sweep.child import forget, job
from tests.families.sweep.names import LISTS, Architecture, chosen
from tests.families.sweep.rows import Row

QUIET = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TQDM_DISABLE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PLAYGROUND_THREADS": "1",
    "PYTHONHASHSEED": "0",
}


def main() -> int:
    options = _options()
    if options.write:
        page.write(rows.read(options.write), PAGE)
        return 0
    only = tuple(name for name in options.only.split(",") if name)
    wanted = [each for listed in options.list or LISTS for each in chosen(listed, only)]
    known = {each.name for each in wanted}
    if unknown := [name for name in only if name not in known]:
        print(f"no list has {', '.join(unknown)}", file=sys.stderr)
        return 2
    variants = ["torch-fp32" if name == "torch" else f"onnx-{name}" for name in options.precisions.split(",")]
    if options.resume:
        had = {(row.listed, row.name) for row in rows.read(options.out) if row.last(variants)}
        wanted = [each for each in wanted if (each.listed, each.name) not in had]
    with tempfile.TemporaryDirectory(prefix="sweep-") as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        if options.fresh:
            for each in wanted:
                forget(each, work / "models")
        _sweep(wanted, variants, work, options)
    page.show(rows.read(options.out), sys.stdout)
    return 0


def _sweep(wanted: list[Architecture], variants: list[str], work: Path, options: argparse.Namespace) -> None:
    jobs = [job(each, variants, work / "models", work / "home") for each in wanted]
    with (work / "children.log").open("ab") as log, options.out.open("a", encoding="utf-8", buffering=1) as out:

        def take(given: children.Job, reply: children.Reply) -> None:
            row = _row(given, reply)
            out.write(row.to_line() + "\n")
            print(time.strftime("%H:%M:%S"), page.line(row), flush=True)

        env = QUIET | {"PLAYGROUND_HOME": str(work / "home")}
        team = [children.Child((*children.COMMAND, str(number)), log, env) for number in range(options.jobs)]
        children.work_through(jobs, team, options.timeout, take)


def _row(given: children.Job, reply: children.Reply) -> Row:
    if "died" not in reply:
        return Row(**reply)
    architecture = given["architecture"]
    return Row(architecture["listed"], architecture["name"], given["variants"][0], "crash", reply["died"])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.families.sweep",
        description="Every architecture of transformers' lists, as a tiny network, judged by generate.",
    )
    parser.add_argument("--list", action="append", choices=LISTS, help="one of the lists; all by default")
    parser.add_argument("--only", default="", metavar="NAME,…", help="these architectures")
    parser.add_argument("--precisions", default="fp32,int8", help="of fp32, int8, int4 and torch (default: fp32,int8)")
    parser.add_argument("--out", type=Path, default=Path("sweep.jsonl"), help="rows are added to this file")
    parser.add_argument("--resume", action="store_true", help="leave out what --out has already")
    parser.add_argument("--timeout", type=float, default=300.0, metavar="S", help="seconds for one row")
    parser.add_argument("--jobs", type=int, default=1, choices=(1, 2), help="processes at once")
    parser.add_argument("--work", type=Path, help="keeps tiny models, artifacts and the log here for the next time")
    parser.add_argument("--fresh", action="store_true", help="make the tiny models anew")
    parser.add_argument("--write", type=Path, metavar="FILE.jsonl", help="write docs/families.md from these rows")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
