"""The figures of the harness do not depend on who computes: a random two-layer Llama, asked by lm-eval through the door
(kernels, ONNX Runtime, torch; fp32, int8, int4) and by lm-eval's own backend for transformers on the original files.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from playground.config.settings import load_settings
from playground.evaluation.journal import Journal
from playground.evaluation.process import HarnessProcess, harness_environment
from playground.evaluation.worker import OWN_TASKS, Job
from playground.kernels import building
from playground.records import Artifact
from playground.service import Playground
from tests.support import tiny
from tests.support.door import served

pytest.importorskip("lm_eval")
pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(900),
    # Not `parallel`: its models are scored once, on one worker.
]

KEY = "a-key-for-the-harness"
TASKS = ("playground_choice", "playground_cloze")
QUESTIONS = 12
Answers = Mapping[tuple[str, str], tuple[float, bool]]
"""By context and continuation: the log-likelihood, and whether each of its tokens was the likeliest."""


@dataclass(frozen=True)
class Taken:
    """What was found of one variant."""

    artifact: Artifact
    answers: Answers
    scores: list[dict[str, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_model(tmp_path_factory.mktemp("tiny"))


def lm_eval(out: Path, *more: str, tasks: tuple[str, ...] = TASKS) -> tuple[dict[str, Any], dict[str, Any]]:
    """lm-eval's own command: its answers (log-likelihoods by question, texts by prompt), and its results by task."""
    command = [sys.executable, "-m", "lm_eval", "run", "--tasks", *tasks, "--limit", str(QUESTIONS)]
    command += ["--include_path", str(OWN_TASKS), "--output_path", str(out), "--log_samples", *more]
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "OPENAI_API_KEY": KEY, "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(command, env=env, cwd=out, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    answers: dict[Any, Any] = {}
    for path in out.rglob("samples_*.jsonl"):
        for line in path.read_text(encoding="utf-8").splitlines():
            sample = json.loads(line)
            for place, asked in enumerate(sample["arguments"].values()):
                answer = sample["resps"][place][0]
                if isinstance(asked["arg_1"], str):
                    answers[asked["arg_0"], asked["arg_1"]] = float(answer[0]), str(answer[1]) == "True"
                else:
                    answers[json.dumps(asked["arg_0"])] = answer
    (results,) = out.rglob("results_*.json")
    return answers, json.loads(results.read_text(encoding="utf-8"))["results"]


@pytest.fixture(scope="module")
def reference(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Answers, dict[str, Any]]:
    """Of lm-eval's backend for transformers."""
    out = tmp_path_factory.mktemp("reference")
    model = f"pretrained={folder},dtype=float32"
    return lm_eval(out, "--model", "hf", "--device", "cpu", "--batch_size", "1", "--model_args", model)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def taken(folder: Path, home: Path, reference: tuple[Answers, dict[str, Any]]) -> dict[str, Taken]:
    """By precision and engine."""
    found = dict(_taken(folder, home, ("onnx-fp32", "onnx-int8", "onnx-int4", "torch-fp32"), set(reference[0])))
    for each in list(found.values()):
        document = Path(each.artifact.path) / "artifact.json"
        if each.artifact.engine.startswith("kernels"):
            document.write_text(json.dumps({**json.loads(document.read_text()), "engine": "onnxruntime"}))
    return found | dict(_taken(folder, home, ("onnx-int8", "onnx-int4"), set(reference[0])))


@contextmanager
def door(home: Path) -> Iterator[tuple[Playground, str]]:
    given = {"PLAYGROUND_HOME": str(home), "PLAYGROUND_THREADS": "1"}
    with Playground(load_settings(given)) as playground, served(playground, keys=[KEY]) as url:
        yield playground, url


def _taken(
    folder: Path, home: Path, variants: tuple[str, ...], wanted: set[tuple[str, str]]
) -> Iterator[tuple[str, Taken]]:
    with door(home) as (playground, url):
        for name in variants:
            model = f"path:{folder}@{name}"
            artifact = playground.prepare(playground.resolve(model)[1], lambda step, share: None)
            engine = (artifact.engine or "torch").split()[0]
            journal = home / f"{name}-{engine}.jsonl"
            process = HarnessProcess(
                Job(
                    *(TASKS, (), QUESTIONS, None, False),
                    *(f"{url}/v1", KEY, model, str(artifact.path), tiny.CONTEXT, str(journal)),
                ),
                home,
            )
            try:
                scores = process.follow(lambda step, share: None, lambda: False)
            finally:
                process.kill()
            yield f"{name.partition('-')[2]} {engine}", Taken(artifact, _named(Journal(journal), wanted), scores)


def _named(journal: Journal, wanted: set[tuple[str, str]]) -> Answers:
    """A journal's answers by question: its keys are the harness's own."""
    from hashlib import sha256

    keys = {sha256(json.dumps(["loglikelihood", *asked]).encode()).hexdigest(): asked for asked in wanted}
    return {keys[key]: answer for key, answer in journal.items()}


def tokens(folder: Path, continuation: str) -> int:
    return len(Tokenizer.from_file(str(folder / "tokenizer.json")).encode(continuation).ids)


def test_every_question_is_answered_by_everybody(taken: dict[str, Taken], reference: tuple[Answers, Any]) -> None:
    kernels = {"int8 kernels", "int4 kernels"} if building.obstacle() is None else set()
    assert set(taken) == kernels | {"fp32 onnxruntime", "int8 onnxruntime", "int4 onnxruntime", "fp32 torch"}
    assert len(reference[0]) == 5 * QUESTIONS
    for found in taken.values():
        assert set(found.answers) == set(reference[0])


def test_fp32_is_transformers_own_to_a_thousandth(taken: dict[str, Taken], reference: tuple[Answers, Any]) -> None:
    for name, found in taken.items():
        if name.startswith("fp32"):
            for asked, (value, greedy) in reference[0].items():
                mine = found.answers[asked]
                assert mine[0] == pytest.approx(value, abs=1e-3), (name, asked)
                assert mine[1] == greedy, (name, asked)


def test_rounded_weights_differ_by_no_more_than_their_fidelity_says(
    taken: dict[str, Taken], reference: tuple[Answers, Any], folder: Path
) -> None:
    """A log-probability moves by no more than twice the largest error of a logit."""
    seen = {}
    for name, found in taken.items():
        if not name.startswith("fp32"):
            fidelity = found.artifact.fidelity
            assert fidelity is not None
            gaps = []
            for (context, continuation), (value, _) in reference[0].items():
                gap = abs(found.answers[context, continuation][0] - value)
                assert gap <= 2 * fidelity.max_logit_error * tokens(folder, continuation), (name, continuation)
                gaps.append(gap)
            seen[name] = math.fsum(gaps) / len(gaps)
    for engine in {name.partition(" ")[2] for name in seen}:
        assert 1e-3 < seen[f"int8 {engine}"] < seen[f"int4 {engine}"]


def test_the_metrics_are_those_of_lm_evals_own_command(
    taken: dict[str, Taken], reference: tuple[Answers, dict[str, Any]]
) -> None:
    for name, found in taken.items():
        for score in found.scores:
            theirs = reference[1][score["task"]]
            for metric in score["metrics"]:
                if name.startswith("fp32"):
                    wanted = pytest.approx(theirs[f"{metric['name']},{metric['filter']}"], rel=1e-3)
                    assert metric["value"] == wanted, (name, metric)
                    if metric["outcomes"]:
                        assert metric["outcomes"].count("1") / QUESTIONS == wanted
            assert (score["questions"], score["shots"], score["version"]) == (QUESTIONS, 0, "1.0")
            assert score["data_sha256"] == found.scores[0]["data_sha256"] or score["task"] != found.scores[0]["task"]


def test_lm_evals_own_client_of_doors_gets_the_same_figures(
    reference: tuple[Answers, Any], folder: Path, home: Path, tmp_path: Path
) -> None:
    """``local-completions`` and ``local-chat-completions`` as they are, which know nothing of this door."""
    (tmp_path / "scored").mkdir()
    (tmp_path / "chat").mkdir()
    with door(home) as (_, url):
        model = f"model=path:{folder}@onnx-fp32,base_url={url}/v1"
        asked = f"{model}/completions,tokenizer={folder},tokenizer_backend=huggingface"
        scored, _ = lm_eval(
            tmp_path / "scored", "--model", "local-completions", "--batch_size", "8", "--model_args", asked
        )
        chat = ("--model", "local-chat-completions", "--apply_chat_template", "--model_args")
        written, _ = lm_eval(tmp_path / "chat", *chat, f"{model}/chat/completions", tasks=("playground_sums",))
    assert set(scored) == set(reference[0])
    for question, (value, greedy) in reference[0].items():
        assert scored[question][0] == pytest.approx(value, abs=1e-3)
        assert scored[question][1] == greedy
    assert len(written) == QUESTIONS


def test_the_harness_gets_no_secret() -> None:
    env = {
        "HF_TOKEN": "s",
        "OPENAI_API_KEY": "s",
        "PLAYGROUND_API_KEYS": "s",
        "PATH": "/bin",
        "https_proxy": "http://p",
    }
    given = harness_environment(env)
    assert "s" not in given.values()
    assert given["PATH"] == "/bin"
    assert given["https_proxy"] == "http://p"
    assert "127.0.0.1" in given["NO_PROXY"]
