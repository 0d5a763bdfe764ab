"""What a client of /v1 waits, beside what the model's own worker takes, in the same minutes.

    python -m playground bench door [--repeats 7] [--tokens 128] [--prompts 64,512] [--model ID] [--json]

    worker    the worker is asked directly, and its own stamps are read: time to first token, decode
    client    the same prompt through `playground serve-api`, streamed; the client's clock is read, from before it sends
              until it has the first and the last piece of text

Both have a worker of their own with the same threads and the same files; they are asked by turns, and each answer has
the same number of tokens. A ratio is one of neighbours in time. What the door adds is told in milliseconds as well: it
is the same for every prompt, and so a large share of a very short one.

In its turn each is asked twice, and the second answer counts. Before the first one the other's model has read its
weights for a second, and the door's own program is out of the processor's caches: what it adds then stands beside.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2

from benchmarks._parties import prepared, prompt_of
from benchmarks._sections import PAUSE_S, order
from benchmarks.engine import note
from playground.config.settings import Settings, load_settings
from playground.errors import PlaygroundError, RunError
from playground.paths import ROOT
from playground.records import LoadSpec, Request
from playground.service import Playground

GOAL = 0.03
"""How much more a client may wait for the first token, and how much slower text may come, as a share."""
START_S = 60.0


@dataclass(frozen=True)
class Answer:
    """Seconds to the first token, tokens a second behind it; a client's has what its worker took beside them."""

    ttft_s: float
    decode_tok_s: float
    workers_ttft_s: float
    workers_decode_tok_s: float


@contextmanager
def door(settings: Settings, variant: str) -> Iterator[str]:
    """``playground serve-api`` on a free port, and its address.

    Raises:
        RunError: It did not start.
    """
    env = os.environ | {"PLAYGROUND_HOME": str(settings.home), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "playground", "serve-api", "-m", variant, "--host", "127.0.0.1", "--port", "0"]
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
    timer = threading.Timer(START_S, process.kill)
    timer.start()
    try:
        assert process.stdout
        line = process.stdout.readline()
        timer.cancel()
        if "http://" not in line:
            raise RunError("The door did not open", "Start it by hand: playground serve-api.")
        yield "http://" + line.partition("http://")[2].split("/")[0]
    finally:
        timer.cancel()
        process.terminate()
        process.wait(timeout=30)
        if process.stdout:
            process.stdout.close()


def ask_worker(playground: Playground, load: LoadSpec, text: str, tokens: int) -> Answer:
    """By the worker's own stamps.

    Raises:
        RunError: It failed.
    """
    request = Request(text, max_new_tokens=tokens, min_new_tokens=tokens)
    run = next(event.run for event in playground.pool.generate(load, request, lambda: False) if event.run)
    taken = run.timings
    if run.error or taken.ttft_s is None or taken.decode_tok_s is None:
        raise RunError(f"The worker did not answer ({run.error})", "See its log.")
    return Answer(taken.ttft_s, taken.decode_tok_s, taken.ttft_s, taken.decode_tok_s)


def ask_door(client: httpx2.Client, variant: str, text: str, tokens: int) -> Answer:
    """By the client's clock.

    Raises:
        RunError: It failed.
    """
    body: dict[str, Any] = {"model": variant, "messages": [{"role": "user", "content": text}], "stream": True}
    body |= {"max_tokens": tokens, "min_tokens": tokens}
    stamps: list[float] = []
    last: dict[str, Any] = {}
    began = time.monotonic()
    with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        for line in answer.iter_lines():
            at = time.monotonic()
            if not line.startswith("data: {"):
                continue
            last = json.loads(line.removeprefix("data: "))
            if last.get("choices") and last["choices"][0]["delta"].get("content"):
                stamps.append(at)
    taken = last.get("timings")
    if not taken or len(stamps) < 2:
        raise RunError(f"The door did not answer ({last})", "See its output.")
    rate = (tokens - 1) / (stamps[-1] - stamps[0])
    return Answer(stamps[0] - began, rate, taken["ttft_ms"] / 1000, taken["predicted_per_second"])


def run_door_bench(model: str, repeats: int, tokens: int, prompts: list[int]) -> dict[str, Any]:
    """Figures of both by length of the prompt, and the median ratios.

    Raises:
        PlaygroundError: The model or the door failed.
    """
    settings = load_settings()
    values: dict[int, dict[str, list[Answer]]] = {length: defaultdict(list) for length in prompts}
    with Playground(settings) as playground:
        load = prepared(playground, model, "onnx", "int8")
        texts = {length: prompt_of(load, length).text for length in prompts}
        variant = str(load.artifact.variant)
        with door(settings, variant) as url, httpx2.Client(base_url=url, timeout=120, verify=False) as client:
            for repeat in range(-1, repeats):  # the first one loads and warms up, and does not count
                note("warming up" if repeat < 0 else f"repeat {repeat + 1} of {repeats}")
                for length, text in texts.items():
                    for name in order(["worker", "client"], max(repeat, 0)):
                        found = []
                        for _ in range(2):
                            time.sleep(PAUSE_S)
                            if name == "worker":
                                found.append(ask_worker(playground, load, text, tokens))
                            else:
                                found.append(ask_door(client, variant, text, tokens))
                        if repeat >= 0:
                            values[length][name].append(found[1])
                            values[length]["cold"] += found[:1] if name == "client" else []
    rows = {length: _row(found["worker"], found["client"], found["cold"]) for length, found in values.items()}
    longest = rows[max(rows)]
    met = longest["ttft_ratio"] <= 1 + GOAL and min(row["decode_ratio"] for row in rows.values()) >= 1 - GOAL
    return {"model": model, "tokens": tokens, "repeats": repeats, "prompts": rows, "goal": GOAL, "met": met}


def _row(worker: list[Answer], client: list[Answer], cold: list[Answer]) -> dict[str, Any]:
    pairs = list(zip(client, worker, strict=True))
    return {
        "worker_ttft_ms": 1000 * statistics.median(each.ttft_s for each in worker),
        "client_ttft_ms": 1000 * statistics.median(each.ttft_s for each in client),
        "ttft_ratio": statistics.median(a.ttft_s / b.ttft_s for a, b in pairs),
        "added_ms": _added_ms(client),
        "added_cold_ms": _added_ms(cold),
        "worker_decode_tok_s": statistics.median(each.decode_tok_s for each in worker),
        "client_decode_tok_s": statistics.median(each.decode_tok_s for each in client),
        "decode_ratio": statistics.median(a.decode_tok_s / b.decode_tok_s for a, b in pairs),
        "streamed_ratio": statistics.median(each.decode_tok_s / each.workers_decode_tok_s for each in client),
        "values": {
            name: [[each.ttft_s, each.decode_tok_s] for each in found]
            for name, found in (("worker", worker), ("client", client))
        },
    }


def _added_ms(answers: list[Answer]) -> float:
    return 1000 * statistics.median(each.ttft_s - each.workers_ttft_s for each in answers)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m playground bench door", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--prompts", default="64,512", help="lengths of prompts, in tokens")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    try:
        lengths = [int(each) for each in options.prompts.split(",")]
        document = run_door_bench(options.model, options.repeats, options.tokens, lengths)
    except PlaygroundError as error:
        note(str(error))
        return 1
    if options.json:
        print(json.dumps(document, indent=1))
        return 0 if document["met"] else 1
    for length, row in document["prompts"].items():
        print(
            f"prompt of {length} tokens: first token {row['worker_ttft_ms']:.1f} ms by the worker, "
            f"{row['client_ttft_ms']:.1f} ms for the client, ratio {row['ttft_ratio']:.3f} "
            f"(the door adds {row['added_ms']:.1f} ms, {row['added_cold_ms']:.1f} behind the other's turn); "
            f"decode {row['worker_decode_tok_s']:.1f} and "
            f"{row['client_decode_tok_s']:.1f} tok/s, ratio {row['decode_ratio']:.3f} "
            f"({row['streamed_ratio']:.3f} of the same answer's own)"
        )
    print(
        f"goal: within {GOAL:.0%} {'✓' if document['met'] else '✗'} (first token of the longest prompt, every decode)"
    )
    return 0 if document["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
