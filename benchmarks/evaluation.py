"""How long lm-eval takes through our door, beside its own backend for transformers, on one task and this machine.

    python -m playground bench evaluation [--model ID] [--task NAME] [--questions 200] [--repeats 3] [--json]

    ours int8        playground eval: lm-eval in its process, the product's door, the artifact that runs
    ours fp32        the same, exact
    torch fp32       lm-eval's backend for transformers (HFLM) on the same weights, a question at a time, its default
    torch fp32 ×16   the same, sixteen questions in a batch
    llama.cpp        lm-eval's gguf backend and llama-cpp-python's server, where that is installed

Each party keeps its model loaded and begins with one round that does not count; repeats take turns, so that a noisy
minute falls on all of them. Taken is the harness's whole run with a loaded model: making the prompts, asking, judging.
A ratio is the median of the ratios within one repeat. The goal is 5 times torch, the faster of both ways to ask it.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib import util
from pathlib import Path
from typing import Any

from playground.cli.eval import door
from playground.config.settings import load_settings
from playground.errors import PlaygroundError, RunError
from playground.evaluation.job import Plan
from playground.export.cache import import_folder
from playground.service import Playground

PARTY = Path(__file__).with_name("_harness.py")
GOAL = 5.0
BATCH = 16
Party = Callable[[], tuple[float, float]]
"""Asks the task once: how long it took, in seconds, and the share of right answers."""


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextmanager
def harness(log: Path, *command: str) -> Iterator[Party]:
    """A party in a process of its own, loaded; what it prints goes to ``log``."""
    env = {**os.environ, "TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1"}
    argv = [sys.executable, str(PARTY), *command]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as said:
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True, env=env)
    assert process.stdin and process.stdout
    writing, reading = process.stdin, process.stdout

    def reply() -> dict[str, Any]:
        line = reading.readline()
        if not line:
            raise RunError(
                f"The party {command[0]} ended with exit code {process.wait()}", f"Its messages are in {log}."
            )
        found: dict[str, Any] = json.loads(line)
        return found

    def ask() -> tuple[float, float]:
        writing.write("\n")
        writing.flush()
        found = reply()
        return found["s"], found["acc"]

    try:
        reply()
        yield ask
    finally:
        writing.close()
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        process.kill()


def ours(playground: Playground, model: str, task: str, questions: int) -> Party:
    def ask() -> tuple[float, float]:
        job = playground.evaluate([model], Plan((task,), limit=questions), door(playground))
        (found,) = job.result()
        metric = found.metric("acc")
        assert found.elapsed_s is not None and metric
        return found.elapsed_s, metric.value

    return ask


@contextmanager
def llama_server(file: Path, threads: int) -> Iterator[str]:
    """llama-cpp-python's server on a free port of loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "llama_cpp.server", "--model", str(file), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--n_threads", str(threads), "--n_ctx", "2048", "--logits_all", "True"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(120):
            with suppress(OSError):
                urllib.request.urlopen(f"{address}/v1/models", timeout=1).close()
                break
            time.sleep(0.5)
        yield address
    finally:
        process.terminate()
        process.wait(30)


def llama_lacks() -> str:
    """What the row of llama.cpp lacks; empty where it can be taken."""
    if util.find_spec("llama_cpp") is None:
        return "llama-cpp-python is not installed (requirements-bench.txt)"
    if util.find_spec("starlette_context") is None or util.find_spec("pydantic_settings") is None:
        return "llama-cpp-python's server is not installed (llama-cpp-python[server])"
    return ""


def measure(options: argparse.Namespace) -> dict[str, Any]:
    settings = load_settings()
    common = (options.task, str(options.questions))
    skipped: dict[str, str] = {}
    log = settings.home / "logs" / "bench-evaluation.log"
    with ExitStack() as stack:
        playground = stack.enter_context(Playground(settings))
        parties: dict[str, Party] = {}
        for precision in ("int8", "fp32"):
            model = f"{options.model}@onnx-{precision}"
            note(f"preparing {model}")
            artifact = playground.prepare(playground.resolve(model)[1], lambda step, share: None)
            parties[f"ours {precision}"] = ours(playground, model, options.task, options.questions)
        spec = playground.resolve(options.model)[0]
        weights = str(import_folder(settings.home, spec, artifact.revision))
        for name, batch in (("torch fp32", 1), (f"torch fp32 ×{BATCH}", BATCH)):
            note(f"loading {name}")
            parties[name] = stack.enter_context(harness(log, "hf", weights, str(settings.threads), str(batch), *common))
        if lacks := llama_lacks():
            skipped["llama.cpp"] = lacks
        else:
            from benchmarks._weights import q8_0, starter_gguf

            file = q8_0(starter_gguf(spec, settings.home), settings.home / "bench")
            address = stack.enter_context(llama_server(file, settings.threads))
            parties["llama.cpp"] = stack.enter_context(harness(log, "gguf", address, "-", "-", *common))
        taken = _rounds(parties, options.repeats)
    return _document(options, taken, skipped)


def _rounds(parties: dict[str, Party], repeats: int) -> dict[str, list[tuple[float, float]]]:
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in parties}
    for repeat in range(-1, repeats):
        names = list(parties)
        turned = names[repeat % len(names) :] + names[: repeat % len(names)]
        for name in turned:
            seconds, share = parties[name]()
            note(f"{'warm-up' if repeat < 0 else f'repeat {repeat + 1}'}: {name}: {seconds:.1f} s, acc {share:.3f}")
            if repeat >= 0:
                taken[name].append((seconds, share))
    return taken


def _document(
    options: argparse.Namespace, taken: dict[str, list[tuple[float, float]]], skipped: dict[str, str]
) -> dict[str, Any]:
    from benchmarks._machine import machine

    mine = [seconds for seconds, _ in taken["ours int8"]]
    parties = {
        name: {
            "seconds": [round(seconds, 2) for seconds, _ in rounds],
            "median_s": round(statistics.median(seconds for seconds, _ in rounds), 2),
            "acc": rounds[-1][1],
            "ours_int8_is_times": round(
                statistics.median(theirs / own for own, (theirs, _) in zip(mine, rounds, strict=True)), 2
            ),
        }
        for name, rounds in taken.items()
    }
    ratio = min(found["ours_int8_is_times"] for name, found in parties.items() if name.startswith("torch"))
    return {
        "task": options.task,
        "questions": options.questions,
        "model": options.model,
        "parties": parties,
        "skipped": skipped,
        "goal": {"ours int8 / torch fp32, the faster way": ratio, "least": GOAL, "met": ratio >= GOAL},
        "machine": machine(load_settings().threads),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--task", default="playground_choice", help="a task that scores answers to choose from")
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    try:
        found = measure(options)
    except PlaygroundError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    print(f"{found['questions']} questions of {found['task']}, {found['model']}, {found['machine']['cpu']}")
    for name, party in found["parties"].items():
        print(f"{name:16} {party['median_s']:8.1f} s   acc {party['acc']:.3f}   {party['ours_int8_is_times']:.2f} ×")
    for name, why in found["skipped"].items():
        print(f"{name:16} skipped: {why}")
    ratio, met = next(iter(found["goal"].values())), "met" if found["goal"]["met"] else "missed"
    print(f"ours int8 is {ratio:.2f} times as fast as torch fp32 (goal: {GOAL:.0f}; {met})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
