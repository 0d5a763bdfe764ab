"""Names of files that a repository of the Hub lists: none leads out of it, and none is a pickle or code."""

from __future__ import annotations

from typing import Any

import pytest
from huggingface_hub.hf_api import RepoFile

from playground.catalog.hub_names import HubName
from playground.sources.hub import worker
from playground.sources.hub.choose_files import files_to_fetch

pytestmark = pytest.mark.hostile

COMMIT = "c" * 40


def test_names_that_climb_out_of_a_repository_are_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """git has no such names; who answers in the Hub's place may."""
    names = [
        "config.json",
        "../outside.onnx",
        "onnx/model.onnx_data/../../../outside",
        "onnx/..",
        "..",
        "a..b/c...onnx",
    ]

    class Api:
        def list_repo_tree(self, repo: str, **_: Any) -> list[RepoFile]:
            return [RepoFile(path=name, size=1, oid="0" * 40) for name in names]

    monkeypatch.setattr(worker, "HfApi", Api)
    assert list(worker._listing("someone/tiny", COMMIT)) == ["config.json", "a..b/c...onnx"]


def test_a_pattern_that_fits_a_pickle_or_code_fetches_neither() -> None:
    beside = ("onnx/model.onnx", "onnx/model.onnx_data", "onnx/model.py", "onnx/weights.bin", "onnx/weights.PT")
    there = dict.fromkeys(("config.json", "model.safetensors", "tokenizer.json", *beside), 10)
    found = files_to_fetch(HubName("someone/tiny"), there, ("onnx/*",))
    assert {name for name in found if name.startswith("onnx/")} == {"onnx/model.onnx", "onnx/model.onnx_data"}
