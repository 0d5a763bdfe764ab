"""A shipped folder runs without the playground, is whole or not there, and nothing else is touched for it."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from playground.errors import ChecksumError, ExportError, Stopped, StorageError, UsageError
from playground.messages import msg
from playground.records import Artifact, LoadSpec, ModelRun, Request, Variant
from playground.runtimes import create_runtime
from playground.ship import folder as shipping
from playground.ship.folder import Shipped, cannot_ship, check_target, ship
from playground.ship.shipment import Shipment
from playground.ship.trying import TOKENS, Trial
from tests.ship.conftest import SPEC, VARIANT, MakeShipment

GENERATE = """
import json, sys
import onnxruntime_genai as genai

folder, ids = sys.argv[1], json.loads(sys.argv[2])
model = genai.Model(folder)
params = genai.GeneratorParams(model)
params.set_search_options(max_length=len(ids) + 24, do_sample=False)
generator = genai.Generator(model, params)
generator.append_tokens(ids)
while not generator.is_done():
    generator.generate_next_token()
print(json.dumps([int(token) for token in generator.get_sequence(0)][len(ids):]))
"""
"""Nothing of the playground: what somebody writes who was given the folder."""


def silent(step: str, share: float | None) -> None: ...


def put(shipment: Shipment, target: Path, *, force: bool = False) -> Shipped:
    return ship(shipment, target, force=force, progress=silent)


def own_answer(artifact: Artifact, prompt: str, most: int) -> tuple[tuple[int, ...], ModelRun]:
    """Ids of the prompt, and what the playground's own runtime answers."""
    runtime = create_runtime("onnx")
    runtime.load(LoadSpec(SPEC, artifact, 1))
    request = Request(prompt=prompt, max_new_tokens=most)
    try:
        view = runtime.inspect(request)
        run = next(event.run for event in runtime.generate(request, lambda: False) if event.run)
    finally:
        runtime.close()
    return view.token_ids, run


def left_beside(target: Path) -> Sequence[str]:
    return [path.name for path in target.parent.iterdir() if path.name != target.name]


@pytest.mark.parallel
def test_onnxruntime_genai_alone_gives_the_playgrounds_tokens(
    make: MakeShipment, artifact: Artifact, tmp_path: Path
) -> None:
    ids, run = own_answer(artifact, "the quick brown fox", 24)
    shipped = put(make(prompt="the quick brown fox", ours=run), tmp_path / "out")
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    told = subprocess.run(
        [sys.executable, "-c", GENERATE, str(tmp_path / "out"), json.dumps(list(ids))],
        cwd=tmp_path,
        env=alone,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert run.token_ids and len(run.token_ids) == 24
    assert tuple(json.loads(told.stdout)) == run.token_ids
    assert (shipped.trial.same_tokens, shipped.trial.our_tokens) == (24, 24)
    assert shipped.trial.prompt_ids == ids
    assert shipped.trial.agrees and shipped.trial.reads_alike and shipped.trial.template_alike


@pytest.mark.parallel
def test_the_example_runs_and_prints_an_answer(make: MakeShipment, tmp_path: Path) -> None:
    put(make(), tmp_path / "out")
    source = (tmp_path / "out" / "example.py").read_text()
    body = [line for line in source.splitlines() if line and not line.startswith(("import", "from"))]
    assert len(body) <= 11
    done = subprocess.run(
        [sys.executable, str(tmp_path / "out" / "example.py"), "the", "fox"],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parallel
def test_what_ships_is_what_was_measured_with_receipts_and_sums(
    make: MakeShipment, artifact: Artifact, graph: Path, tmp_path: Path
) -> None:
    shipped = put(make(), tmp_path / "out")
    out = tmp_path / "out"
    for name in ("model.onnx", "model.onnx.data", "tokenizer.json", "chat_template.jinja"):
        assert (out / name).read_bytes() == (graph / name).read_bytes(), name
    assert not (out / "kernels.so").exists() and not (out / "artifact.json").exists()
    receipts = json.loads((out / "receipts.json").read_text())
    assert receipts["artifact"]["sha256"] == artifact.sha256 == shipped.artifact_sha256
    assert receipts["artifact"]["path"] == "" and str(graph.parent) not in json.dumps(receipts)
    assert receipts["trial"]["version"] == "0.18.0"
    checked = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=out, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
    named = {line.split("  ")[1] for line in (out / "SHA256SUMS").read_text().splitlines()}
    assert named == {path.name for path in out.iterdir()} - {"SHA256SUMS"}
    assert not left_beside(out)


@pytest.mark.parallel
def test_every_end_of_an_answer_goes_along(make: MakeShipment, tmp_path: Path) -> None:
    """The builder knows config.json's alone; the playground also ends at the template's end of turn."""
    shipped = put(make(), tmp_path / "out")
    ends = json.loads((tmp_path / "out" / "genai_config.json").read_text())["model"]["eos_token_id"]
    assert sorted(ends) == [0, 2]
    assert "eos_token_id" in shipped.trial.adapted


def trial(**parts: Any) -> Trial:
    told = Trial((), True, True, "What?", (1, 2), (3, 4), 0.1, 0.1, 10.0, 100.0, "0.18.0")
    return replace(told, **parts)


@pytest.fixture
def untried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trial says yes at once."""
    monkeypatch.setattr(shipping, "tried", lambda *_: trial())


@pytest.mark.usefixtures("untried")
class TestTarget:
    def test_a_folder_with_other_files_is_never_touched(self, make: MakeShipment, tmp_path: Path) -> None:
        out = tmp_path / "out"
        out.mkdir()
        (out / "thesis.txt").write_text("years of work")
        for force in (False, True):
            with pytest.raises(UsageError, match="something else than a shipped model"):
                put(make(), out, force=force)
        assert [path.name for path in out.iterdir()] == ["thesis.txt"]

    def test_an_empty_folder_is_filled(self, make: MakeShipment, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        put(make(), tmp_path / "out")
        assert (tmp_path / "out" / "model.onnx").is_file()

    def test_an_earlier_shipment_is_replaced_when_forced_and_only_then(
        self, make: MakeShipment, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        put(make(), out)
        before = (out / "receipts.json").stat().st_ino
        with pytest.raises(UsageError, match="--force"):
            put(make(), out)
        assert (out / "receipts.json").stat().st_ino == before
        put(make(), out, force=True)
        assert (out / "receipts.json").stat().st_ino != before
        assert not left_beside(out)

    def test_what_was_put_beside_an_earlier_shipment_is_not_lost(self, make: MakeShipment, tmp_path: Path) -> None:
        out = tmp_path / "out"
        put(make(), out)
        (out / "my-notes.txt").write_text("mine")
        with pytest.raises(UsageError, match=r"my-notes\.txt"):
            put(make(), out, force=True)
        assert (out / "my-notes.txt").read_text() == "mine"

    @pytest.mark.parametrize("added", ["onnx/notes.txt", "onnx/mine/x", "other/x"])
    def test_nor_is_what_was_put_into_its_folders(self, tmp_path: Path, added: str) -> None:
        (tmp_path / "onnx").mkdir()
        (tmp_path / "onnx" / "model.onnx").write_text("")
        receipts = {"kind": shipping.KIND, "files": {"onnx/model.onnx": "0"}}
        (tmp_path / "receipts.json").write_text(json.dumps(receipts))
        check_target(tmp_path, force=True)
        (tmp_path / added).parent.mkdir(exist_ok=True)
        (tmp_path / added).write_text("mine")
        with pytest.raises(UsageError, match=re.escape(added.rpartition("/")[0])):
            check_target(tmp_path, force=True)

    def test_a_file_and_a_home_are_no_targets(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "file").write_text("")
        monkeypatch.setattr(Path, "home", lambda: tmp_path)
        for place in (tmp_path / "file", tmp_path, Path("/")):
            with pytest.raises(UsageError):
                check_target(place, force=True)

    def test_a_link_is_judged_by_what_it_leads_to(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "real" / "x").write_text("")
        (tmp_path / "link").symlink_to(tmp_path / "real")
        with pytest.raises(UsageError, match="something else"):
            check_target(tmp_path / "link", force=True)

    def test_a_full_disk_leaves_nothing(
        self, make: MakeShipment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(shipping, "_described", full)
        with pytest.raises(StorageError, match="full"):
            put(make(), tmp_path / "out")
        assert not list(tmp_path.iterdir())

    def test_a_disk_that_is_too_small_is_said_before_a_byte_is_copied(
        self, make: MakeShipment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
        with pytest.raises(StorageError, match="MB left"):
            put(make(), tmp_path / "out")
        assert not list(tmp_path.iterdir())

    def test_an_earlier_shipment_survives_a_failure(
        self, make: MakeShipment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out = tmp_path / "out"
        put(make(), out)
        before = {path.name: path.read_bytes() for path in out.iterdir()}

        def refused(*_: object) -> Trial:
            raise ExportError(msg("no"))

        monkeypatch.setattr(shipping, "tried", refused)
        with pytest.raises(ExportError):
            put(make(), out, force=True)
        assert {path.name: path.read_bytes() for path in out.iterdir()} == before
        assert not left_beside(out)

    def test_stopping_leaves_nothing(self, make: MakeShipment, tmp_path: Path) -> None:
        with pytest.raises(Stopped):
            ship(make(), tmp_path / "out", force=False, progress=silent, cancelled=lambda: True)
        assert not list(tmp_path.iterdir())

    def test_what_a_killed_process_left_is_cleared_away(self, make: MakeShipment, tmp_path: Path) -> None:
        stale = tmp_path / ".out.shipping-4194999"  # beyond the highest pid
        stale.mkdir()
        alive = tmp_path / ".out.shipping-1"
        alive.mkdir()
        put(make(), tmp_path / "out")
        assert left_beside(tmp_path / "out") == [alive.name]

    def test_a_changed_artifact_is_not_what_was_measured(
        self, make: MakeShipment, artifact: Artifact, graph: Path, tmp_path: Path
    ) -> None:
        copy = shutil.copytree(graph, tmp_path / "artifact")
        (copy / "tokenizer.json").write_text("{}")
        with pytest.raises(ChecksumError, match=r"tokenizer\.json"):
            put(make(artifact=replace(artifact, path=str(copy))), tmp_path / "out")
        assert not (tmp_path / "out").exists()


@pytest.mark.waits
def test_a_folder_that_genai_cant_run_is_not_shipped(
    make: MakeShipment, artifact: Artifact, graph: Path, tmp_path: Path
) -> None:
    from playground.export import cache

    copy = shutil.copytree(graph, tmp_path / "artifact")
    (copy / "model.onnx").write_bytes(b"no graph")
    records = cache.record_files(copy)
    cache.write(copy, tmp_path, replace(artifact, path=str(copy)), records)
    with pytest.raises(ExportError, match="onnxruntime-genai can't run the folder"):
        put(make(artifact=replace(artifact, path=str(copy))), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("runtime", "said", "step"),
    [
        ("torch", "onnxruntime-genai can't read", "tiny@onnx-int8"),
        ("remote", "served elsewhere", "playground models"),
        ("fake", "scripted", "playground models"),
    ],
)
def test_what_can_never_be_shipped_is_said_with_what_to_choose(runtime: str, said: str, step: str) -> None:
    error = cannot_ship(SPEC, Variant("tiny", runtime, "fp32"), ("tiny@onnx-int8",))
    assert isinstance(error, UsageError)
    assert said in str(error) and step in str(error)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"recipe": "optimum", "fallbacks": (msg("fused: the model builder does not know it"),)}, "does not know it"),
        ({"recipe": "optimum"}, "other inputs than onnxruntime-genai drives"),
        ({"recipe": "dynamo"}, "without the genai_config.json that onnxruntime-genai needs"),
        ({"recipe": "prebuilt"}, "genai_config"),
        ({"variant": Variant("tiny", "torch", "fp32"), "recipe": "none"}, "no graph could be made"),
    ],
)
def test_an_artifact_that_genai_cant_drive_is_said_with_the_reason(
    make: MakeShipment, artifact: Artifact, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    (tmp_path / "artifact").mkdir()
    with pytest.raises(ExportError, match=said) as caught:
        put(make(artifact=replace(artifact, path=str(tmp_path / "artifact"), **changes)), tmp_path / "out")
    assert caught.value.next_step
    assert not (tmp_path / "out").exists()


def test_the_variant_of_the_tests_can_be_shipped() -> None:
    assert cannot_ship(SPEC, VARIANT, ()) is None
    assert TOKENS >= 16
