"""How decoding fares where cores are shared: numbers of threads, busy neighbours, quotas. Figures of one run, by turns.

    python -m playground bench cores [--model ID] [--precision int8] [--threads 1,2,4,8] [--tokens 64] [--repeats 5]
                                     [--json]

Each number of threads of each contender is a process of its own that is loaded once; then, under each condition, all
take turns in another order each time. A busy loop is a process that only computes, pinned to nothing. A quota is the
system's (cgroups, periods of 100 ms), for the answering process alone; without the right to set one that part is left
out. What the app would take by
itself is in bold.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import _weights
from benchmarks._machine import machine
from benchmarks._parties import missing, prepared, prompt_of
from benchmarks._sections import order
from benchmarks.engine import Contender
from playground.config.settings import load_settings
from playground.errors import PlaygroundError
from playground.runtimes.generation.timing import decode_rate
from playground.service import Playground
from playground.system.cpu import usable_cores
from playground.workers.process import worker_environment

QUOTAS = (0.5, 1.0, 1.5)
PERIOD_US = 100_000
PROMPT_TOKENS = 40
CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Condition:
    """Attributes:
    busy: Loops beside the contenders.
    quota: Cores' worth of time that the answering process may take; None: all there is.
    """

    name: str
    busy: int = 0
    quota: float | None = None


def taken(condition: Condition, cores: int) -> int:
    """Threads that the app would take: as many as there are cores, or as the quota allows (``system.cpu``)."""
    return cores if condition.quota is None else max(1, min(cores, int(condition.quota + 0.5)))


def conditions(cores: int, quotas: Sequence[float]) -> list[Condition]:
    loops = [Condition(f"{count} busy loop{'s' if count > 1 else ''}", busy=count) for count in sorted({1, cores})]
    return [Condition("idle"), *loops, *(Condition(f"quota {quota:g}", quota=quota) for quota in quotas)]


class Quota:
    """A control group of its own, by either version of the interface.

    Raises:
        OSError: This process has no right to make one.
    """

    def __init__(self, root: Path = CGROUPS) -> None:
        unified = (root / "cgroup.controllers").is_file()
        self._folder = (root if unified else root / "cpu") / f"playground-bench-{os.getpid()}"
        self._folder.mkdir()
        self._unified = unified
        try:
            self.set(None)
        except OSError:
            self._folder.rmdir()
            raise

    def set(self, cores: float | None) -> None:
        """From now on; None for no quota."""
        quota = None if cores is None else int(cores * PERIOD_US)
        if self._unified:
            (self._folder / "cpu.max").write_text(f"{'max' if quota is None else quota} {PERIOD_US}")
            return
        (self._folder / "cpu.cfs_period_us").write_text(str(PERIOD_US))
        (self._folder / "cpu.cfs_quota_us").write_text(str(-1 if quota is None else quota))

    def add(self, pid: int) -> None:
        (self._folder / "cgroup.procs").write_text(str(pid))

    def close(self) -> None:
        """When its processes are gone."""
        for _ in range(50):
            try:
                self._folder.rmdir()
            except OSError:
                time.sleep(0.1)
            else:
                return


def _loop() -> None:
    number = 1
    while True:
        number = number * 31 % 1_000_003


@contextmanager
def busy(count: int) -> Iterator[None]:
    """That many processes that only compute."""
    loops = [multiprocessing.Process(target=_loop, daemon=True) for _ in range(count)]
    for loop in loops:
        loop.start()
    try:
        if loops:
            time.sleep(0.3)
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.join()


def measure(
    contenders: Mapping[str, Contender],
    ids: tuple[int, ...],
    *,
    tokens: int,
    repeats: int,
    quota: Quota | None,
) -> dict[str, dict[str, float]]:
    """Median tokens a second of each contender under each condition."""
    found: dict[str, dict[str, float]] = {}
    for condition in conditions(usable_cores(), QUOTAS if quota else ()):
        rates: dict[str, list[float]] = {name: [] for name in contenders}
        if quota:
            quota.set(condition.quota)
        with busy(condition.busy):
            for repeat in range(repeats):
                for name in order(list(contenders), repeat):
                    stamps = contenders[name].generate(ids, tokens)["stamps"]
                    rates[name].append(decode_rate(stamps) or 0.0)
        found[condition.name] = {name: statistics.median(each) for name, each in rates.items()}
    if quota:
        quota.set(None)
    return found


def opened(
    stack: ExitStack, playground: Playground, model: str, precision: str, threads: Sequence[int]
) -> dict[str, Contender]:
    """Ours with each number of threads, others with one and with as many as there are cores."""
    load = prepared(playground, model, "onnx", precision)
    folder, home, few = Path(load.artifact.path), playground.settings.home, sorted({1, usable_cores()})
    env = {"GLIBC_TUNABLES": worker_environment(load)["GLIBC_TUNABLES"]}
    wanted = [("ours", "bare", folder, each, env) for each in threads]
    wanted += [("onnxruntime", "onnxruntime", folder, each, env) for each in few]
    if not missing("llama_cpp") and precision == "int8":
        file = _weights.q8_0(_weights.starter_gguf(playground.catalog.resolve(model)[0], home), home / "bench")
        wanted += [("llama.cpp", "llama", file, each, {}) for each in few]
    found = {}
    for name, key, path, each, variables in wanted:
        contender = found[f"{name} {each}"] = Contender(key, path, each, variables)
        stack.callback(contender.close)
    return found


def table(found: Mapping[str, Mapping[str, float]], cores: int) -> str:
    """As Markdown: tokens a second, and in bold what the app would take, with what that gives of the best."""
    names = list(next(iter(found.values())))
    head = ["condition", *names, "÷ best of ours", "÷ best peer"]
    threads = {each.name: taken(each, cores) for each in conditions(cores, QUOTAS)}
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for condition, rates in found.items():
        default = f"ours {threads[condition]}"
        ours = max(rate for name, rate in rates.items() if name.startswith("ours"))
        peers = max((rate for name, rate in rates.items() if not name.startswith("ours")), default=0.0)
        shares = [f"{rates[default] / ours:.2f}", f"{rates[default] / peers:.2f}" if peers else "–"]
        cells = [f"**{rates[name]:.1f}**" if name == default else f"{rates[name]:.1f}" for name in names]
        lines.append(f"| {condition} | {' | '.join([*cells, *shares])} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Print the table, or all of it as JSON."""
    parser = argparse.ArgumentParser(prog="python -m playground bench cores", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--threads", default="1,2,4,8", help="of ours")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    threads = sorted({usable_cores(), *(int(each) for each in options.threads.split(","))})
    settings = load_settings()
    try:
        quota: Quota | None = Quota()
    except OSError as error:
        quota = None
        print(f"No quotas: {error.strerror}")
    with ExitStack() as stack:
        if quota:
            stack.callback(quota.close)
        playground = stack.enter_context(Playground(settings))
        contenders = opened(stack, playground, options.model, options.precision, threads)
        ids = prompt_of(prepared(playground, options.model, "onnx", options.precision), PROMPT_TOKENS).ids
        for contender in contenders.values():
            if quota:
                quota.add(contender.pid)
            contender.generate(ids, 4)
        found = measure(contenders, ids, tokens=options.tokens, repeats=options.repeats, quota=quota)
    about: dict[str, Any] = machine(usable_cores())
    if options.json:
        print(json.dumps({"machine": about, "tokens": options.tokens, "repeats": options.repeats, "tok_s": found}))
    else:
        print(table(found, usable_cores()))
    return 0


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except PlaygroundError as error:
        raise SystemExit(f"{error}") from error
