"""How fast is the playground's decode loop, beside the ones it could have been? All on this machine, in this minute.

    python -m playground bench engine [--model ID] [--repeats 5] [--tokens 128] [--same-file] [--json]

    worker     our onnx runtime at int8, in a worker process, through the pool: what the app does
    bare       the same engine in the shortest loop that decodes, without worker, sampler and text
    torch      transformers' generate in fp32
    optimum    optimum's ORTModelForCausalLM in fp32, its generate, in an environment of its own
    plain      with --same-file: our onnx runtime in a worker, on the very file that optimum exported and runs

Each contender is a process that keeps its model loaded; repeats take turns (A B C D, D C B A, …), so that a noisy
minute falls on all of them. A ratio is the median of the ratios within one repeat. The first run installs and exports
what optimum needs, under PLAYGROUND_HOME.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks._weights import in_safetensors
from playground.config.settings import load_settings
from playground.errors import PlaygroundError, RunError
from playground.export.recipes.overlay import ensure_overlay
from playground.export.weights import SIDE_FILES
from playground.records import Artifact, LoadSpec, Request, Variant
from playground.runtimes.generation.timing import decode_rate
from playground.service import Playground
from playground.workers.process import worker_environment

CONTENDER = Path(__file__).with_name("_contender.py")
GOALS = {"bare": 0.95, "torch": 4.0, "optimum": 2.5}
"""Least ratio of our median to theirs. Within 5 % of the bare loop is what tokenising, sampling, streaming and the way
through the worker's pipe may cost."""
SAME_FILE_GOAL = 1.3
"""Least ratio of our worker's rate to ORTModelForCausalLM's on one and the same graph."""
PAUSE_S = 0.15
"""After each answer: threads that spin for more work give up before the next contender begins."""
PROMPT = "Write a long story about a lighthouse keeper who finds a message in a bottle. Tell it in great detail."


@dataclass
class Result:
    """What one contender did; rates in tokens per second, one for each repeat."""

    decode: list[float] = field(default_factory=list)
    first_token_s: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)

    def add(self, began: float, stamps: list[float], count: int) -> None:
        self.decode.append(decode_rate(stamps) or 0.0)
        self.first_token_s.append(stamps[0] - began)
        self.tokens.append(count)

    def summary(self, ours: list[float]) -> dict[str, Any]:
        median = statistics.median(self.decode)
        low, _, high = statistics.quantiles(self.decode, n=4) if len(self.decode) > 1 else (median,) * 3
        return {
            "decode_tok_s": round(median, 1),
            "decode_iqr": [round(low, 1), round(high, 1)],
            "first_token_s": round(statistics.median(self.first_token_s), 3),
            "tokens": min(self.tokens),
            "ours_is_times": round(statistics.median(a / b for a, b in zip(ours, self.decode, strict=True)), 3),
        }


class Contender:
    """A process that runs ``_contender.py``.

    Attributes:
        about: What its library says of its own build; often nothing.
        pid: Of the process.
    """

    def __init__(self, name: str, folder: Path, threads: int, env: dict[str, str]) -> None:
        command = [sys.executable, str(CONTENDER), name, str(folder), str(threads)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | env
        )
        self._name, self.pid = name, self._process.pid
        self.about = str(self._read().get("about", ""))

    def generate(self, ids: tuple[int, ...], count: int) -> dict[str, Any]:
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"ids": ids, "count": count}) + "\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        if self._process.stdin:
            self._process.stdin.close()
        self._process.wait(timeout=30)
        if self._process.stdout:
            self._process.stdout.close()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            self.close()
            raise RunError(f"The contender '{self._name}' ended with exit code {code}", "Its messages stand above.")
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            self.close()
            raise RunError(answer["failed"], f"So says the contender '{self._name}'.")
        return answer


@contextmanager
def contenders(names: list[str], onnx: LoadSpec, torch: Path, home: Path) -> Iterator[dict[str, Contender]]:
    """All but ours, loaded and waiting."""
    with ExitStack() as stack:
        running = {}
        for name in names:
            note(f"loading {name}")
            env = {}
            if name == "bare":  # the same session means the same pages below it, too
                env = {"GLIBC_TUNABLES": worker_environment(onnx)["GLIBC_TUNABLES"]}
            elif name == "optimum":
                exports = home / "bench"
                exports.mkdir(parents=True, exist_ok=True)
                env = {"PYTHONPATH": str(ensure_overlay(home, Steps(), lambda: False)), "BENCH_EXPORTS": str(exports)}
            folder = Path(onnx.artifact.path) if name == "bare" else torch
            running[name] = Contender(name, folder, onnx.threads, env)
            stack.callback(running[name].close)
        yield running


def plain_load(exported: Path, original: LoadSpec, threads: int) -> LoadSpec:
    """optimum's export as an artifact: its graph, and the original's tokenizer beside it."""
    folder = exported.with_name(f"{exported.name}.plain")
    folder.mkdir(exist_ok=True)
    beside = [Path(original.artifact.path) / name for name in SIDE_FILES]
    for path in (*(path for path in beside if path.is_file()), exported / "model.onnx"):
        link = folder / path.name
        link.unlink(missing_ok=True)
        link.symlink_to(path.resolve())
    variant = Variant(original.spec.id, "onnx", "fp32")
    return LoadSpec(original.spec, Artifact(variant, str(folder), "prebuilt", "", "", 0), threads)


def run_engine_bench(
    model: str, repeats: int, tokens: int, without: list[str], same_file: bool = False
) -> dict[str, Any]:
    """Measure; returns the medians, quartiles and ratios of the table.

    Raises:
        PlaygroundError: The model can't be prepared, or a contender can't be run.
    """
    settings = load_settings()
    with Playground(settings) as playground:
        loads = {}
        for runtime, precision in (("onnx", "int8"), ("torch", "fp32")):
            spec, variant = playground.catalog.resolve(str(Variant(model, runtime, precision)))
            artifact = playground.preparer.prepare(variant, Steps(), lambda: False)
            loads[runtime] = LoadSpec(spec, artifact, settings.threads)
        ours, request = loads["onnx"], Request(PROMPT, max_new_tokens=tokens)
        if ours.artifact.variant.runtime != "onnx":
            raise RunError(f"{model} has no usable onnx artifact", "; ".join(ours.artifact.fallbacks))
        ids = playground.pool.inspect(ours, request).token_ids
        names = [name for name in GOALS if name not in without]
        results = {name: Result() for name in ["worker", *(["plain"] if same_file else []), *names]}
        original = in_safetensors(Path(loads["torch"].artifact.path), settings.home / "bench")
        with contenders(names, ours, original, settings.home) as others:
            in_workers = {"worker": ours}
            if same_file:
                exported = settings.home / "bench" / original.name
                in_workers["plain"] = plain_load(exported, loads["torch"], settings.threads)
                in_worker(playground, in_workers["plain"], replace(request, max_new_tokens=2), Result())
            for repeat in range(repeats):
                note(f"repeat {repeat + 1} of {repeats}")
                for name in results if repeat % 2 == 0 else reversed(results):
                    if name in in_workers:
                        in_worker(playground, in_workers[name], request, results[name])
                        continue
                    answer = others[name].generate(ids, results["worker"].tokens[0])
                    results[name].add(answer["began"], answer["stamps"], len(answer["ids"]))
    return report(model, settings.threads, len(ids), results)


def in_worker(playground: Playground, load: LoadSpec, request: Request, result: Result) -> None:
    """One answer through the pool, as the app asks for it."""
    for event in playground.pool.generate(load, request, lambda: False):
        run = event.run
    if run is None or run.error or not run.timings.token_stamps:
        raise RunError(f"The worker did not answer ({run and run.error})", "")
    result.add(0.0, list(run.timings.token_stamps), len(run.timings.token_stamps))


def report(model: str, threads: int, prompt_tokens: int, results: dict[str, Result]) -> dict[str, Any]:
    rows = {name: result.summary(results["worker"].decode) for name, result in results.items()}
    for name, goal in GOALS.items():
        if name in rows:
            rows[name] |= {"goal": goal, "met": rows[name]["ours_is_times"] >= goal}
    if "plain" in rows and "optimum" in rows:
        pairs = zip(results["plain"].decode, results["optimum"].decode, strict=True)
        times = round(statistics.median(a / b for a, b in pairs), 3)
        rows["plain"] |= {"times_optimum": times, "goal": SAME_FILE_GOAL, "met": times >= SAME_FILE_GOAL}
    return {"model": model, "threads": threads, "prompt_tokens": prompt_tokens, "contenders": rows}


def table(document: dict[str, Any]) -> str:
    """The report for people."""
    lines = [
        f"{document['model']}, {document['threads']} threads, prompt of {document['prompt_tokens']} tokens, greedy",
        f"{'contender':<10}{'decode tok/s':>14}{'quartiles':>16}{'first token s':>15}{'ours is':>10}  goal",
    ]
    for name, row in document["contenders"].items():
        quartiles = "{}–{}".format(*row["decode_iqr"])
        goal = f"≥ {row['goal']}" + ("" if row["met"] else " ✗") if "goal" in row else ""
        times = f"{row['ours_is_times']:.2f} ×"
        if "times_optimum" in row:
            goal, times = f"{goal} of optimum", f"{row['times_optimum']:.2f} ×"
        lines.append(f"{name:<10}{row['decode_tok_s']:>14}{quartiles:>16}{row['first_token_s']:>15}{times:>10}  {goal}")
    return "\n".join(lines)


class Steps:
    """Notes each step of a preparation once."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, step: str, _: float | None) -> None:
        if step != self._last:
            note(step)
        self._last = step


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m playground bench engine", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--without", action="append", choices=list(GOALS), default=[], help="leave a contender out")
    parser.add_argument("--same-file", action="store_true", help="our loop on the file that optimum runs, as well")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.same_file and "optimum" in options.without:
        parser.error("--same-file compares with optimum; it can't be left out")
    try:
        document = run_engine_bench(options.model, options.repeats, options.tokens, options.without, options.same_file)
    except PlaygroundError as error:
        note(str(error))
        return 1
    print(json.dumps(document, indent=2) if options.json else table(document))
    return 0 if all(row.get("met", True) for row in document["contenders"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
