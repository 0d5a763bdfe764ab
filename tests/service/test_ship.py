"""``playground ship`` whole: prepared, asked, shipped, run by onnxruntime-genai, on a random Llama."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from playground.cli import main
from playground.config.settings import Settings
from playground.records import Variant
from tests.support import tiny

pytestmark = [pytest.mark.parallel, pytest.mark.timeout(280)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny.write_model(tmp_path_factory.mktemp("models") / "tiny")
    (folder / "LICENSE").write_text("Do as you like.")
    return folder


@pytest.fixture
def terminal(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Any:
    monkeypatch.setenv("PLAYGROUND_HOME", str(settings.home))
    # Not the tests' own Space: its workers count as stalled after 3 s, and these load real graphs on a busy machine.
    monkeypatch.setenv("PLAYGROUND_CATALOG", str(settings.catalog_file))
    monkeypatch.setenv("PLAYGROUND_THREADS", "1")

    def run(*args: Any) -> tuple[int, str, str]:
        code = main(list(map(str, args)))
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def test_a_model_goes_from_its_folder_to_one_that_runs_alone(terminal: Any, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "shipped"
    code, printed, _ = terminal("ship", f"path:{model}@onnx-fp32", out, "--json")
    document = json.loads(printed)
    assert code == 0, document
    assert document["variant"] == f"path:{model}@onnx-fp32"
    trial = document["trial"]
    assert trial["same_tokens"] == min(trial["our_tokens"], len(trial["tokens"])) > 0, "exact weights, same tokens"
    receipts = json.loads((out / "receipts.json").read_text())
    assert receipts["artifact"]["fidelity"]["verdict"] == "exact"
    assert receipts["artifact"]["sha256"] == document["artifact_sha256"]
    assert receipts["variant"] == "tiny@onnx-fp32"
    for path in out.iterdir():
        assert str(model.parent).encode() not in path.read_bytes(), f"{path.name} tells a place on this machine"
    assert (out / "LICENSE").read_text() == "Do as you like."
    ran = subprocess.run(
        [sys.executable, str(out / "example.py"), "the fox"], capture_output=True, text=True, check=False, timeout=120
    )
    assert ran.returncode == 0 and ran.stdout, ran.stderr
    code, _, said = terminal("ship", f"path:{model}@onnx-fp32", out)
    assert code == 2 and "--force" in said
    terms = tmp_path / "terms.txt"
    terms.write_text("The terms as they were fetched.")
    code, printed, _ = terminal("ship", f"path:{model}@onnx-fp32", out, "--force", "--licence", terms)
    assert code == 0 and "tokens are the playground's own" in printed
    assert (out / "LICENSE").read_text() == terms.read_text()


def test_what_cant_be_shipped_is_refused_before_anything_is_prepared(
    terminal: Any, model: Path, tmp_path: Path, settings: Settings
) -> None:
    out = tmp_path / "shipped"
    code, _, said = terminal("ship", f"path:{model}@torch-fp32", out)
    assert code == 2 and f"path:{model}@onnx-int8" in said
    code, _, said = terminal("ship", "fast", out)
    assert code == 2 and "scripted" in said
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("")
    assert terminal("ship", f"path:{model}@onnx-fp32", tmp_path / "full")[0] == 2
    (tmp_path / "empty.txt").write_text(" ")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe")
    for licence in ("empty.txt", "binary.txt", "none.txt"):
        code, _, said = terminal("ship", f"path:{model}@onnx-fp32", out, "--licence", tmp_path / licence)
        assert code == 2 and licence in said
    assert not out.exists()
    assert not (settings.home / "artifacts").exists()
    assert Variant.parse(f"path:{model}@onnx-fp32").runtime == "onnx"
