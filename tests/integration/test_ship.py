"""The starter models shipped: onnxruntime-genai runs them, reads as the playground does, and their terms go along."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from playground.config.settings import load_settings
from playground.service import Playground
from playground.ship.folder import Shipped
from playground.ship.papers import GEMMA_NOTICE

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
LEAST = 4
"""So many greedy tokens must be the same. After some, the kernels' int8 products and ONNX Runtime's choose differently
between two tokens that are nearly equally likely; exact weights give all the same (tests/ship)."""


@pytest.fixture(scope="module")
def playground() -> Iterator[Playground]:
    with Playground(load_settings()) as playground:
        yield playground


def shipped(playground: Playground, model: str, folder: Path) -> Shipped:
    found = playground.ship(model, folder)
    trial = found.trial
    assert trial.reads_alike
    assert trial.same_tokens >= LEAST
    assert found.artifact_sha256 == playground.preparation(playground.resolve(model)[1]).artifact.sha256  # type: ignore[union-attr]
    return found


def answer(folder: Path, prompt: str) -> str:
    done = subprocess.run(
        [sys.executable, str(folder / "example.py"), prompt], capture_output=True, text=True, check=True, timeout=300
    )
    return done.stdout


def test_a_chat_model_answers_by_its_own_template(playground: Playground, tmp_path: Path) -> None:
    found = shipped(playground, "smollm2-135m-instruct@onnx-int8", tmp_path / "out")
    assert found.trial.template_alike
    assert "2" in answer(tmp_path / "out", "What is 1+1?")
    assert not found.left_to_do, "Apache-2.0, and its text is there"
    assert (tmp_path / "out" / "LICENSE").is_file()


def test_a_base_model_begins_as_it_was_trained_to_and_gemmas_terms_go_along(
    playground: Playground, tmp_path: Path
) -> None:
    found = shipped(playground, "gemma-3-270m@onnx-int8", tmp_path / "out")
    assert found.trial.prompt_ids[0] == 2, "<bos>, without which it says nothing of sense"
    assert "France" in answer(tmp_path / "out", "The capital of France is")
    assert GEMMA_NOTICE in (tmp_path / "out" / "NOTICE").read_text()
    assert "3.2" in (tmp_path / "out" / "TERMS.md").read_text()
    assert len(found.left_to_do) == 2
