"""An evaluation is refused before any work where it can't be; what it finds is kept, a model at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import util
from pathlib import Path
from typing import Any

import pytest

from playground.cli import main
from playground.errors import RunError, UsageError
from playground.evaluation import job as jobs
from playground.evaluation.job import Address, Plan
from playground.evaluation.worker import Job as HarnessJob
from playground.records import Artifact, ModelSpec, Variant
from playground.service import Playground
from tests.support import tiny

pytest.importorskip("lm_eval")

TINY = ("tiny-a", "tiny-b")
opened: list[str] = []


@contextmanager
def door() -> Iterator[Address]:
    opened.append("door")
    yield Address("http://127.0.0.1:9/v1", "a-key")


@pytest.mark.parametrize(
    ("models", "plan", "words"),
    [
        (["smollm2-135m-instruct"], Plan(()), "No task is named"),
        ([], Plan(("arc_easy",)), "No model is chosen"),
        (["smollm2-135m-instruct"], Plan(("arc_easy",), limit=0), "The limit is 0"),
        (["smollm2-135m-instruct"], Plan(("arc_easy",), shots=-1), "-1 solved examples"),
        (["smollm2-135m-instruct"], Plan(tuple(map(str, range(101)))), "101 tasks are too many"),
        (["smollm2-135m-instruct"] * 2, Plan(("arc_easy",)), "chosen twice"),
        (["smolm2"], Plan(("arc_easy",)), "Unknown model"),
        (["smollm2-135m-instruct@gguf"], Plan(("arc_easy",)), "smollm2"),
    ],
)
def test_what_is_wrong_is_told_before_any_work(tmp_path: Path, models: list[str], plan: Plan, words: str) -> None:
    from playground.config.settings import load_settings

    settings = load_settings({"PLAYGROUND_HOME": str(tmp_path)})
    with Playground(settings) as playground, pytest.raises(UsageError, match=words):
        playground.evaluate(models, plan, door)
    assert opened == []


def test_a_script_has_no_quality(playground: Playground) -> None:
    with pytest.raises(UsageError, match="is a script and has no quality"):
        playground.evaluate(["fast"], Plan(("playground",)), door)


def test_without_the_harness_the_command_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name, *more: None if name == "lm_eval" else real(name, *more))
    monkeypatch.setenv("PLAYGROUND_HOME", str(tmp_path))
    assert main(["eval", "-m", "smollm2-135m-instruct", "--tasks", "playground"]) == 2
    told = capsys.readouterr().err
    assert "lm-eval is not installed" in told
    assert "pip install 'open-model-playground[eval]'" in told


def test_the_command_shows_what_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PLAYGROUND_HOME", str(tmp_path))
    assert main(["eval", "--stored"]) == 0
    assert "Nothing was measured yet." in capsys.readouterr().out
    assert main(["eval", "--stored", "--limit", "3"]) == 2
    assert "--stored shows what was measured" in capsys.readouterr().err


class Harness:
    """In the place of the harness's process."""

    jobs: list[HarnessJob]
    fail_at = -1

    def __init__(self, job: HarnessJob, home: Path) -> None:
        self.log = home / "a log that nobody wrote"
        self.jobs.append(job)

    def follow(self, *_: object) -> list[dict[str, Any]]:
        if len(self.jobs) - 1 == self.fail_at:
            raise RunError(jobs.msg("lm-eval failed"))
        metric = {"name": "acc", "filter": "none", "value": 0.75, "stderr": 0.1, "higher_is_better": True}
        outcomes = "1110" if "tiny-a" in self.jobs[-1].model else "1101"
        counts = {"shots": 0, "questions": 4, "questions_in_task": 100, "reused": 0, "elapsed_s": 1.5}
        about = {"version": "1.0", "kind": "multiple_choice", "data_sha256": "d" * 64}
        return [{"task": "mine", **about, **counts, "metrics": [{**metric, "outcomes": outcomes}]}]

    def kill(self) -> None:
        """Nothing runs."""


@pytest.fixture
def two(
    playground: Playground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Playground, type[Harness]]]:
    """Two models that are prepared, and a harness that answers at once."""
    folder = tiny.write_tokenizer(tmp_path / "tiny")
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 96}))

    def resolve(text: str) -> tuple[ModelSpec, Variant]:
        name = text.partition("@")[0]
        return ModelSpec(name, name, "path:tiny", "0", "onnx", "int8", 640, "chat"), Variant(name, "onnx", "int8")

    def prepare(variant: Variant, *_: object) -> Artifact:
        return Artifact(variant, str(folder), "fused", "rev", f"sha of {variant.model}", 0, engine="kernels avx2")

    monkeypatch.setattr(playground.catalog, "resolve", resolve)
    monkeypatch.setattr(playground.preparer, "prepare", prepare)
    monkeypatch.setattr(Harness, "jobs", [], raising=False)
    monkeypatch.setattr(jobs, "HarnessProcess", Harness)
    opened.clear()
    yield playground, Harness


def test_scores_are_kept_with_a_receipt(two: tuple[Playground, type[Harness]]) -> None:
    playground, harness = two
    plan = Plan(("mine",), (".",), limit=4)
    found = playground.evaluate(TINY, plan, door).result()
    assert playground.evaluations() == list(found)[::-1]
    first = found[0]
    assert (first.variant.model, first.artifact_sha256, first.revision) == ("tiny-a", "sha of tiny-a", "rev")
    assert (first.task, first.version, first.limit, first.shots, first.chat) == ("mine", "1.0", 4, 0, False)
    assert first.engine == "kernels avx2"
    assert first.harness.startswith("lm-eval 0.")
    assert first.environment.versions["playground"]
    asked = harness.jobs[0]
    assert (asked.context, asked.key, asked.url) == (96, "a-key", "http://127.0.0.1:9/v1")
    assert asked.folders == (str(Path.cwd()),)
    assert asked.journal != harness.jobs[1].journal
    assert opened == ["door"]


def test_what_is_finished_is_kept_when_the_next_model_fails(two: tuple[Playground, type[Harness]]) -> None:
    playground, harness = two
    harness.fail_at = 1
    try:
        with pytest.raises(RunError, match="lm-eval failed"):
            playground.evaluate(TINY, Plan(("mine",)), door).result()
    finally:
        harness.fail_at = -1
    assert [each.variant.model for each in playground.evaluations()] == ["tiny-a"]


def test_the_journal_goes_when_its_scores_are_kept_and_stays_when_they_are_not(
    two: tuple[Playground, type[Harness]], monkeypatch: pytest.MonkeyPatch
) -> None:
    playground, harness = two

    def follow(self: Harness, *_: object) -> list[dict[str, Any]]:
        place = Path(self.jobs[-1].journal)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text('["a", 1]\n')
        if "tiny-b" in self.jobs[-1].model:
            raise RunError(jobs.msg("lm-eval failed"))
        return []

    monkeypatch.setattr(harness, "follow", follow)
    with pytest.raises(RunError):
        playground.evaluate(TINY, Plan(("mine",)), door).result()
    assert [Path(job.journal).exists() for job in harness.jobs] == [False, True]


def test_the_terminal_tells_scores_intervals_and_what_the_paired_test_says(
    two: tuple[Playground, type[Harness]], capsys: pytest.CaptureFixture[str]
) -> None:
    from playground.cli.eval import _json, _print

    playground, _ = two
    found = playground.evaluate(TINY, Plan(("mine",), limit=4), door).result()
    _print(found)
    told = capsys.readouterr().out
    assert "75.0 %" in told
    assert "30.1 … 95.4" in told
    assert "4 / 100" in told
    assert "tiny-a@onnx-int8 / tiny-b@onnx-int8: no difference seen." in told
    assert "lm-eval 0." in told
    document = json.loads(json.dumps(_json(found), default=lambda value: value.to_json()))
    assert document["pairs"][0]["p"] == 1.0
    assert document["evaluations"][0]["intervals"]["acc"]["low"] == pytest.approx(0.3006, abs=1e-4)
