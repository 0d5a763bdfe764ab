"""One table of what the app withstands: ``make trust``, about ten minutes.

    python -m playground bench trust [--visitors 50] [--minutes 2] [--soak 500] [--json]

    load held          visitors at once through the app's real queue (``bench load``): runs, errors, waits, fairness
    faults survived    tests marked ``fault``: each injects one (a worker killed, a disk full, a file damaged) and asks
                       for the next prompt
    hostile inputs     tests marked ``hostile``: each sends what no honest visitor would, and asks for a clear refusal
    soak               memory, open files and processes at both ends of many runs
    runs lost          of all that were asked for

Tests are counted as pytest reports them; what was skipped is neither survived nor injected and is told.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from benchmarks import load
from playground.errors import PlaygroundError
from playground.paths import ROOT


@dataclass(frozen=True)
class Tried:
    """Tests of one mark: how many there are, how many passed, and the names of the others."""

    number: int
    passed: int
    skipped: tuple[str, ...]
    failed: tuple[str, ...]

    @property
    def injected(self) -> int:
        return self.number - len(self.skipped)


def tried(mark: str) -> Tried:
    """Run the tests that have this mark, one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-m", mark, f"--junitxml={report}", "-p", "no:cacheprovider"]
        done = subprocess.run(
            command, check=False, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if not report.exists():
            raise SystemExit(f"pytest -m {mark} left no report:\n{done.stdout[-2000:]}")
        return counted(report.read_text(encoding="utf-8"))


def counted(report: str) -> Tried:
    """A report of pytest's in JUnit's form."""
    number, skipped, failed = 0, [], []
    for case in ElementTree.fromstring(report).iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        number += 1
        kinds = {child.tag for child in case}
        if kinds & {"failure", "error"}:
            failed.append(name)
        elif "skipped" in kinds:
            skipped.append(name)
    return Tried(number, number - len(skipped) - len(failed), tuple(skipped), tuple(failed))


def table(found: dict[str, Any], faults: Tried, hostile: Tried) -> str:
    """The table; a line for each thing that was tried."""
    ran, soak = found["load"], found["soak"]
    first, last = found["before"], found["after"]
    lost = ran["lost"] + soak["lost"]
    rows = [
        (
            "load held",
            f"{found['visitors']} visitors, {found['seconds']:.0f} s, {ran['asked']} runs, {ran['failed']} errors, "
            f"{ran['refused']} refused, p50 {ran['p50_s']:.1f} s, p95 {ran['p95_s']:.1f} s, "
            f"fairness {found['fairness']:.3f}",
        ),
        ("faults survived", of(faults)),
        ("hostile inputs neutralised", of(hostile)),
        (
            "soak",
            f"{soak['answered']} runs, {soak['refused']} times told to wait; "
            f"memory {found['held'][0]['memory_mb']:.0f} → {last['memory_mb']:.0f} MB "
            f"({100 * found['growth']:+.1f} % from the second quarter to the last); "
            f"files {first['files']} → {last['files']}; processes {first['processes']} → {last['processes']}",
        ),
        ("runs lost", f"{lost} of {ran['asked'] + soak['asked']}"),
    ]
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:<{width}}  {value}" for name, value in rows]
    return "\n".join([*lines, *(f"failed: {name}" for name in (*faults.failed, *hostile.failed))])


def of(tests: Tried) -> str:
    skipped = f" ({len(tests.skipped)} more can't be tried on this machine)" if tests.skipped else ""
    return f"{tests.passed} of {tests.injected}{skipped}"


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 1 if anything failed or was lost."""
    parser = argparse.ArgumentParser(prog="python -m playground bench trust", description=__doc__.splitlines()[0])
    parser.add_argument("--visitors", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--soak", type=int, default=500)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    faults, hostile = tried("fault"), tried("hostile")
    found = load.measure(options.visitors, options.minutes * 60, options.soak)
    if options.json:
        print(json.dumps({**found, "faults": vars(faults), "hostile": vars(hostile)}))
    else:
        print(table(found, faults, hostile))
    wrong = [*faults.failed, *hostile.failed, *(part for part in ("load", "soak") if found[part]["failed"])]
    return int(bool(wrong) or found["load"]["lost"] + found["soak"]["lost"] > 0)


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except PlaygroundError as error:
        raise SystemExit(f"{error}") from error
