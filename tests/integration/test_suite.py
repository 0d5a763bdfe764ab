"""A suite of the starter model by the real command: killed and resumed, and with what prompts share read once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.suite import borrowed_home, stored, suite_file
from playground.config.settings import load_settings
from playground.paths import ROOT
from playground.service import Playground

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

MODEL = "smollm2-135m-instruct@onnx-int8"
PROMPTS = 8


@pytest.fixture(scope="module")
def prepared() -> None:
    with Playground(load_settings()) as playground:
        playground.prepare(playground.variants([MODEL])[0], lambda *_: None)


@pytest.fixture
def home(prepared: None, tmp_path: Path) -> Iterator[dict[str, str]]:
    yield {**borrowed_home(tmp_path / "borrowed"), "PYTHONPATH": str(ROOT)}


def suite(env: dict[str, str], *args: str) -> Any:
    """The command to its end; returns its document."""
    done = subprocess.run(
        [sys.executable, "-m", "playground", "suite", *args, "--json"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    return json.loads(done.stdout)


def answers(document: Any) -> list[Any]:
    return [
        (each["testIdx"], each["promptIdx"], each["run"]["text"], each["run"]["token_ids"], each["passed"])
        for each in document["results"]["results"]
    ]


def test_killed_with_a_real_model_it_comes_to_the_same_and_reuse_changes_no_answer(
    home: dict[str, str], tmp_path: Path
) -> None:
    args = (str(suite_file(tmp_path, PROMPTS)), "-m", MODEL, "--set", "max_new_tokens=12")
    with subprocess.Popen(
        [sys.executable, "-m", "playground", "suite", *args], env=home, stderr=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + 120
        while stored(home)[1] < 3:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    id, before = stored(home)
    assert 3 <= before < PROMPTS
    killed = suite(home, "--resume", id)
    assert killed["suite"]["status"] == "done"
    whole = suite(home, *args)
    assert answers(killed) == answers(whole)
    assert len(answers(whole)) == PROMPTS

    reuse = suite(home, *args, "--reuse")
    assert answers(reuse) == answers(whole)
    (column,), (plain,) = reuse["summary"]["columns"], whole["summary"]["columns"]
    assert plain["reused"] == 0
    assert column["reused"] > 0.5
