"""The remote runtime against a real server: ``transformers serve`` on loopback, with weights the playground imported.

The same folder runs in a local torch worker beside it, so what the server says can be compared word for word.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks._weights import in_safetensors
from playground.config.endpoints import load_remotes, remote_artifact, remote_spec
from playground.config.settings import load_settings
from playground.errors import RunError
from playground.records import Artifact, LoadSpec, ModelKind, ModelRun, Request, Variant
from playground.runtimes import create_runtime
from playground.runtimes.base import Runtime
from playground.service import Playground

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

MODEL = "smollm2-135m-instruct"
START_S = 180
SERVE = "import sys; from transformers.cli.transformers import main; sys.exit(main())"
CHAT = Request("Name three fruits, with an emoji for each.", max_new_tokens=16)
TEXT = Request("The capital of France is", max_new_tokens=8)


@pytest.fixture(scope="module")
def playground() -> Iterator[Playground]:
    with Playground(load_settings()) as playground:
        yield playground


@pytest.fixture(scope="module")
def artifact(playground: Playground) -> Artifact:
    variant = Variant(MODEL, "torch", "fp32")
    return playground.preparer.prepare(variant, lambda step, share: None, lambda: False)


@pytest.fixture(scope="module")
def folder(artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same weights as the server reads them: it takes no GGUF file."""
    return str(in_safetensors(Path(artifact.path), tmp_path_factory.mktemp("weights")))


@pytest.fixture(scope="module")
def address(folder: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running ``transformers serve``, which is ended with everything it started."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = tmp_path_factory.mktemp("serve")
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(place)}
    options = ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"]
    log = place / "log.txt"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-c", SERVE, "serve", folder, *options],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", server, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGTERM)
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()


def wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    ends = time.monotonic() + START_S
    while time.monotonic() < ends and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    pytest.fail(f"transformers serve did not start:\n{log.read_text(errors='replace')[-3000:]}")


def remote(address: str, folder: str, **fields: Any) -> Runtime:
    block = {"name": "served", "url": address, "model": folder, "timeout_s": 120} | fields
    spec = remote_spec(load_remotes([block], {}, "test")[0])
    runtime = create_runtime("remote")
    runtime.load(LoadSpec(spec, remote_artifact(Variant(spec.id, "remote", "served")), 1))
    return runtime


def answered(runtime: Runtime, request: Request) -> ModelRun:
    run = list(runtime.generate(request, lambda: False))[-1].run
    assert run is not None
    return run


@pytest.mark.parametrize("case", [("chat", CHAT), ("base", TEXT)], ids=lambda case: case[0])
def test_a_served_model_says_what_the_same_weights_say_here(
    playground: Playground, artifact: Artifact, folder: str, address: str, case: tuple[ModelKind, Request]
) -> None:
    kind, request_ = case
    spec = replace(playground.catalog.resolve(MODEL)[0], kind=kind)
    load = LoadSpec(spec, artifact, playground.settings.threads)
    here = list(playground.pool.generate(load, request_, lambda: False))[-1].run
    there = answered(remote(address, folder, kind=kind), request_)
    assert here is not None and here.error is None
    assert there.text == here.text != ""
    assert there.finish_reason == here.finish_reason
    assert there.timings.unit == "token"
    assert (there.timings.prompt_tokens, there.timings.output_tokens) == (
        here.timings.prompt_tokens,
        here.timings.output_tokens,
    )
    assert there.timings.ttft_s is not None and there.timings.total_s is not None
    assert 0 < there.timings.ttft_s < there.timings.total_s
    assert there.timings.decode_tok_s is not None and there.timings.decode_tok_s > 0


def test_a_stop_string_ends_the_servers_answer_too(folder: str, address: str) -> None:
    whole = answered(remote(address, folder), CHAT).text
    stop = whole[len(whole) // 2 :][:3]
    run = answered(remote(address, folder), replace(CHAT, stop=(stop,)))
    assert (run.text, run.finish_reason) == (whole[: whole.index(stop)], "stop")


def test_stop_ends_the_answer_and_the_server_is_free_for_the_next(folder: str, address: str) -> None:
    runtime = remote(address, folder)
    pieces = 0
    pressed = 0.0

    def cancelled() -> bool:
        nonlocal pressed
        if pieces >= 3 and not pressed:
            pressed = time.monotonic()
        return pieces >= 3

    for event in runtime.generate(replace(CHAT, max_new_tokens=512), cancelled):
        pieces += event.kind == "token"
    assert event.kind == "stopped" and time.monotonic() - pressed < 1.0
    assert event.run is not None and event.run.text and len(event.run.timings.token_stamps) < 20
    assert answered(runtime, replace(CHAT, max_new_tokens=4)).finish_reason == "length"


def test_a_parameter_this_server_refuses_is_named(folder: str, address: str) -> None:
    with pytest.raises(RunError, match=r"HTTP 422.*top_k.*set it back to the default"):
        answered(remote(address, folder), replace(CHAT, top_k=5))


def test_another_model_than_the_one_served_is_refused_in_the_servers_words(folder: str, address: str) -> None:
    with pytest.raises(RunError, match=r"remote:served: 127\.0\.0\.1:\d+ .*HTTP 400\): Server is pinned"):
        answered(remote(address, folder, model="another"), CHAT)


def test_through_the_whole_playground_beside_a_local_model(
    folder: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    remotes = [{"name": "served", "url": address, "model": folder, "timeout_s": 120}]
    monkeypatch.setenv("PLAYGROUND_REMOTES", json.dumps(remotes))
    with Playground(load_settings()) as playground:
        variants = [Variant(MODEL, "torch", "fp32"), playground.catalog.resolve("remote:served")[1]]
        comparison = playground.comparer.start(CHAT, variants, "fair").result()
    here, there = comparison.runs
    assert (here.error, there.error) == (None, None)
    assert here.text == there.text
    assert there.timings.peak_memory_mb is None and here.timings.peak_memory_mb is not None
