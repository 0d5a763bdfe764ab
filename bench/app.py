"""Decode in the app while two sessions watch, beside the bare loop in the same minutes.

    python -m playground bench app [--repeats 5] [--tokens 128] [--model ID] [--json]

The real app runs in a process of its own; two clients of its event stream take the place of browsers, so that no
renderer takes the cores that are measured: one asks and is streamed to, the other has a comparison in the queue and is
told every second where it stands. The app's share is its processor time per token, its workers' left out.
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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from bench._parties import Prompt, prepared, seated, seats
from bench.engine import note
from playground.core import Playground
from playground.errors import PlaygroundError, RunError
from playground.prompting import Prompter
from playground.records import Request
from playground.settings import ROOT, Settings, load_settings
from playground.timing import decode_rate

GOAL = 0.95
START_S = 60.0
PROMPT = "Write a long story about a lighthouse keeper who finds a message in a bottle. Tell it in great detail."


@contextmanager
def app(settings: Settings) -> Iterator[tuple[str, psutil.Process]]:
    """The app on a free port: its address and its process.

    Raises:
        RunError: It did not start.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = os.environ | {"PLAYGROUND_HOME": str(settings.home), "GRADIO_ANALYTICS_ENABLED": "False"}
    command = [sys.executable, "app.py", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + START_S
        while socket.socket().connect_ex(("127.0.0.1", port)):
            if process.poll() is not None or time.monotonic() > end:
                raise RunError("The app did not start", "Start it by hand: python app.py.")
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/", psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(timeout=30)


def run_app_bench(model: str, repeats: int, tokens: int) -> dict[str, Any]:
    """Rates of both, the app's processor time per token, and the median ratio.

    Raises:
        PlaygroundError: The model, the app or a client failed.
    """
    from gradio_client import Client

    settings = load_settings()
    values: dict[str, list[float]] = {"app": [], "bare": [], "cpu_ms_per_token": []}
    with Playground(settings) as playground:
        load = prepared(playground, model, "onnx", "int8")
        view = Prompter(Path(load.artifact.path), load.spec).view(Request(PROMPT))
        chosen, skipped = seats(playground, model, ["bare int8"]), dict[str, str]()
    with app(settings) as (url, process), seated(chosen, skipped) as parties:
        if skipped:
            raise RunError(f"The bare loop is not there ({skipped['bare int8']})", "Prepare the model first.")
        clients = [Client(url, verbose=False) for _ in range(2)]
        ask = {"prompt": PROMPT, "models": [str(load.artifact.variant)], "max_new_tokens": tokens}
        clients[0].predict(**ask | {"max_new_tokens": 2}, api_name="/compare")  # type: ignore[arg-type]
        for repeat in range(repeats):
            note(f"repeat {repeat + 1} of {repeats}")
            for name in ("app", "bare") if repeat % 2 == 0 else ("bare", "app"):
                if name == "bare":
                    values["bare"].append(
                        parties["bare int8"].ask(Prompt(PROMPT, view.token_ids), tokens).decode_tok_s or 0
                    )
                    continue
                before = process.cpu_times()
                jobs = [client.submit(**ask, api_name="/compare") for client in clients]
                runs = [job.result()["runs"][0] for job in jobs]
                after = process.cpu_times()
                if failed := [run["error"] for run in runs if run["error"]]:
                    raise RunError(f"The app did not answer ({failed[0]})", "See its log.")
                rates = [decode_rate(run["timings"]["token_stamps"]) or 0.0 for run in runs]
                count = sum(run["timings"]["output_tokens"] for run in runs)
                values["app"].append(statistics.mean(rates))
                used = after.user + after.system - before.user - before.system
                values["cpu_ms_per_token"].append(1000 * used / count)
    ratio = statistics.median(a / b for a, b in zip(values["app"], values["bare"], strict=True))
    return {"model": model, "tokens": tokens, "values": values, "ratio": ratio, "goal": GOAL, "met": ratio >= GOAL}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m playground bench app", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    try:
        document = run_app_bench(options.model, options.repeats, options.tokens)
    except PlaygroundError as error:
        note(str(error))
        return 1
    if options.json:
        print(json.dumps(document, indent=1))
    else:
        middle = {name: statistics.median(values) for name, values in document["values"].items()}
        print(f"in the app, two sessions: {middle['app']:.1f} tok/s; bare loop: {middle['bare']:.1f} tok/s")
        print(f"ratio {document['ratio']:.3f}, goal ≥ {GOAL} {'✓' if document['met'] else '✗'}")
        print(f"the app's own processor time: {middle['cpu_ms_per_token']:.2f} ms a token")
    return 0 if document["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
