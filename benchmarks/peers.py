"""The playground's engine beside the others on this machine, in one run: figures, ratios against goals, plots.

    python -m playground bench peers [--quick] [--only SECTION]… [--without NAME]… [--prepare] [--json] [--no-write]

    decode     128 tokens behind a prompt of 40, greedy; every contender
    prompt     a prompt of 512 tokens: time to first token, and prefill
    chat       the second turn of a chat, with and without reuse of the first one's KV cache
    load       process start to first token possible
    growth     time to first token and decode behind 64 … 8,000 tokens
    size       the same on a model of twice the size
    fast       one to eight models at once
    prepare    from the downloaded GGUF to ready; only with --prepare (a minute for each model)

Contenders keep their models loaded and take turns, in another order in each repeat, so that a noisy minute falls on all
of them. A ratio is the median of the ratios within a repeat. A run of everything with everyone writes
docs/benchmarks.md; --quick (two repeats, short answers), --only and --without don't, unless --write is given.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

from benchmarks import _machine, _report, _sections
from benchmarks.engine import note
from playground.config.settings import load_settings
from playground.errors import PlaygroundError
from playground.paths import ROOT
from playground.service import Playground

PAGE = ROOT / "docs" / "benchmarks.md"


def run_peers(plan: _sections.Plan, command: str) -> dict[str, Any]:
    """Measure everything that ``plan`` asks for.

    Raises:
        PlaygroundError: One of our own models can't be prepared or does not answer.
    """
    with Playground(load_settings()) as playground:
        threads = playground.settings.threads
        document: dict[str, Any] = {"command": command, "machine": _machine.machine(threads)}
        bench = _sections.Bench(playground, plan)
        bench.run()
        document |= bench.document()
    return document | {"goals": _report.goals(document)}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m playground bench peers", description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=128, help="of each answer in the decode section")
    parser.add_argument("--quick", action="store_true", help="two repeats, short answers: does it run?")
    parser.add_argument("--only", action="append", choices=_sections.SECTIONS, default=[])
    parser.add_argument("--without", action="append", default=[], choices=[*_sections.CONTENDERS, *_sections.SECTIONS])
    parser.add_argument("--prepare", action="store_true", help="time the preparation from the GGUF as well")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", action=argparse.BooleanOptionalAction, default=None, help="docs/benchmarks.md")
    options = parser.parse_args()
    if options.repeats < 1 or options.tokens < 2:
        parser.error("at least one repeat and two tokens")
    sections = [name for name in options.only or _sections.SECTIONS if name not in options.without]
    if not options.prepare and "prepare" not in options.only:
        sections = [name for name in sections if name != "prepare"]
    plan = _sections.Plan(
        2 if options.quick else options.repeats,
        16 if options.quick else options.tokens,
        tuple(sections),
        tuple(name for name in _sections.CONTENDERS if name not in options.without),
        options.quick,
    )
    full = not (options.quick or options.only or options.without)
    try:
        document = run_peers(plan, shlex.join(["python", "-m", "playground", "bench", "peers", *sys.argv[1:]]))
    except PlaygroundError as error:
        note(str(error))
        return 1
    if options.write if options.write is not None else full:
        for path in _report.write(document, PAGE):
            note(f"wrote {Path(path).relative_to(ROOT)}")
    print(json.dumps(document, indent=1) if options.json else _report.page(document, plots=False))
    return 1 if any(goal["met"] is False for goal in document["goals"]) else 0


if __name__ == "__main__":
    sys.exit(main())
