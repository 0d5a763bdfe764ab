"""When an artifact is found, when it is trusted, and what is done if a recipe fails."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from playground import sources
from playground.errors import ExportError, FidelityError, StorageError
from playground.export import answers, cache, check, pipeline, weights
from playground.export.fidelity import judge
from playground.export.passages import Passage
from playground.export.recipes.registry import RECIPES, Recipe, Work
from playground.export.reference import NO_PLACES, Expected, Reference
from playground.kernels import building
from playground.records import Artifact, Fidelity, ModelSpec, Variant
from playground.sources.files import FileRecord, Progress

ORIGINAL = (2).to_bytes(8, "little") + b"{}"
"""A file of safetensors without a tensor."""
SPEC = ModelSpec("tiny", "Tiny", "path:/none/tiny.gguf", "", "onnx", "int8", 128, "base")
INT8, TORCH = Variant("tiny", "onnx", "int8"), Variant("tiny", "torch", "fp32")
REVISION = "sha256:abc"


def folder_of(home: Path, variant: Variant = INT8, revision: str = REVISION) -> Path:
    return cache.artifact_folder(home, SPEC, variant, revision)


def written(home: Path) -> Path:
    """An artifact of two files."""
    folder = folder_of(home)
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"graph")
    (folder / "model.onnx.data").write_bytes(b"weights")
    records = cache.record_files(folder)
    artifact = cache.describe(folder, records, variant=INT8, revision=REVISION, recipe="fused")
    cache.write(folder, home, artifact, records)
    return folder


def test_an_artifact_is_read_as_it_was_written(tmp_path: Path) -> None:
    folder = written(tmp_path)
    artifact = cache.read(folder, tmp_path)
    assert artifact is not None
    assert (artifact.variant, artifact.path, artifact.size_bytes) == (INT8, str(folder), 12)
    assert len(artifact.sha256) == 64


def test_a_folder_without_its_last_file_is_no_artifact(tmp_path: Path) -> None:
    folder = written(tmp_path)
    (folder / cache.DOCUMENT).unlink()
    assert cache.read(folder, tmp_path) is None
    assert cache.verify(folder, tmp_path) is None
    assert not folder.exists()


@pytest.mark.fault
@pytest.mark.parametrize("damage", ["same size", "cut", "gone", "record"])
def test_a_damaged_artifact_is_thrown_away_with_a_warning(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = written(tmp_path)
    data = folder / "model.onnx.data"
    if damage == "same size":
        data.write_bytes(b"weightz")
        os.utime(data, (1, 1))
    elif damage == "cut":
        data.write_bytes(b"wei")
    elif damage == "gone":
        data.unlink()
    else:
        (folder / cache.DOCUMENT).write_text('{"variant": {"mod')
    assert cache.read(folder, tmp_path) is None
    assert cache.verify(folder, tmp_path) is None
    assert not folder.exists()
    assert "thrown away" in caplog.text


NESTED = "[" * 100_000 + "]" * 100_000


@pytest.mark.fault
@pytest.mark.parametrize(
    "hostile",
    [
        NESTED,
        '{"files": ' + NESTED + "}",
        '{"files": {"model.onnx": {"size": 5, "mtime_ns": 1, "sha256": ""}}, "variant": ' + NESTED + "}",
        "[]",
        "",
        "\x00",
        "1e999999",
        '{"files": []}',
    ],
)
def test_a_hostile_record_is_a_damaged_one(tmp_path: Path, hostile: str) -> None:
    folder = written(tmp_path)
    (folder / cache.DOCUMENT).write_text(hostile)
    assert cache.read(folder, tmp_path) is None
    assert cache.recorded(folder) == {}
    assert cache.outdated(folder, tmp_path) is None
    assert cache.verify(folder, tmp_path) is None
    assert not folder.exists()


@pytest.mark.parametrize("changed", ["name", "ring"])
def test_a_record_that_names_no_file_or_leads_back_to_itself_is_no_artifact(tmp_path: Path, changed: str) -> None:
    folder = written(tmp_path)
    document = json.loads((folder / cache.DOCUMENT).read_text())
    if changed == "name":
        document["files"]["a\x00b"] = document["files"].pop("model.onnx")
    else:
        other = folder.with_name("other")
        shutil.copytree(folder, other, copy_function=shutil.copy2)
        document["path"] = str(other.relative_to(tmp_path))
        (other / cache.DOCUMENT).write_text(json.dumps(document | {"path": str(folder.relative_to(tmp_path))}))
    (folder / cache.DOCUMENT).write_text(json.dumps(document))
    assert cache.read(folder, tmp_path) is None
    assert cache.verify(folder, tmp_path) is None


def test_a_touched_artifact_is_kept_and_its_times_recorded_anew(tmp_path: Path) -> None:
    folder = written(tmp_path)
    before = cache.read(folder, tmp_path)
    os.utime(folder / "model.onnx", (1, 1))
    assert cache.read(folder, tmp_path) is None
    assert cache.verify(folder, tmp_path) == before
    assert cache.read(folder, tmp_path) == before


def test_artifacts_stay_good_when_the_home_is_moved(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    name = written(old).relative_to(old)
    shutil.move(old, new)
    artifact = cache.read(new / name, new)
    assert artifact is not None
    assert artifact.path == str(new / name)


def test_every_input_of_an_artifact_is_in_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [folder_of(tmp_path), folder_of(tmp_path, revision="sha256:def")]
    keys += [folder_of(tmp_path, dataclasses.replace(INT8, precision=precision)) for precision in ("int4", "fp32")]
    fused = next(recipe for recipe in RECIPES if recipe.name == "fused")
    with monkeypatch.context() as patch:
        options = {**fused.options, "int8": {**fused.options["int8"], "block_size": "64"}}
        patch.setattr(cache, "RECIPES", (dataclasses.replace(fused, options=options),))
        keys.append(folder_of(tmp_path))
    for package in ("transformers", "onnxruntime-genai", "onnxruntime"):
        with monkeypatch.context() as patch:
            usual = cache.tool_version
            patch.setattr(cache, "tool_version", lambda name, p=package, u=usual: "99" if name == p else u(name))
            keys.append(folder_of(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(cache, "SCHEMA", 99)
        keys.append(folder_of(tmp_path))
    assert len(set(keys)) == len(keys)
    assert folder_of(tmp_path) == keys[0]


def test_torch_has_a_verdict_of_its_own_on_the_import(tmp_path: Path) -> None:
    """An import made for an export was not compared as torch would run it."""
    assert folder_of(tmp_path, TORCH) not in (cache.import_folder(tmp_path, SPEC, REVISION), folder_of(tmp_path))


class Kitchen:
    """``pipeline.make`` with recipes that write a line, an import that copies nothing, and a judge told what to say."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
        self.home, self.built, self.imports = home, [], 0  # type: ignore[var-annotated]
        self.verdicts: dict[str, tuple[float, float]] = {}
        self.torch, self.torch_checks, self.questions = (1.0, 0.0), 0, 0
        self.failing: dict[str, Exception] = {}
        monkeypatch.setattr(cache, "RECIPES", tuple(self.recipe(name) for name in ("fused", "optimum")))
        monkeypatch.setattr(
            sources,
            "fetch",
            lambda *_, **__: sources.Fetched((home / "tiny.gguf",), REVISION, "gguf", ("It came by post.",)),
        )
        monkeypatch.setattr(weights, "import_model", self.imported)
        monkeypatch.setattr(check, "answers_of", self.asked)
        monkeypatch.setattr(check, "compared", self.judged)
        monkeypatch.setattr(check, "torch_fidelity", self.torch_judged)

    def recipe(self, name: str) -> Recipe:
        def build(work: Work) -> str:
            self.built.append(name)
            if name in self.failing:
                raise self.failing[name]
            (work.target / "model.onnx").write_text(name if work.precision != "fp32" else f"{name} exact")
            return work.precision

        return Recipe(name, {"int8": {}, "int4": {}, "fp32": {}}, build, ())  # type: ignore[arg-type]

    def imported(self, spec: ModelSpec, files: tuple[Path, ...], target: Path, progress: Progress) -> tuple[str, ...]:
        self.imports += 1
        (target / "model.safetensors").write_bytes(ORIGINAL)
        return ("It only reads.",)

    def torch_judged(self, folder: Path, original: Path, progress: Progress, reference: str) -> Fidelity:
        assert folder == original, "of a GGUF file the import is what transformers itself reads"
        self.torch_checks += 1
        verdict, reason = judge(576, *self.torch, "fp32")
        return Fidelity(reference, 576, *self.torch, 0.0, verdict, reason)

    def asked(self, original: Path, spare: Path, progress: Progress) -> Reference:
        assert (original / "model.safetensors").read_bytes() == ORIGINAL
        self.questions += 1
        passage = Passage("prose", (1, 2, 3), prompt=2, greedy=1)
        rows = np.arange(8, dtype=np.float32).reshape(2, 4)
        return Reference((Expected(passage, rows, (3,), rows[:1] + 1), Expected(passage, rows + 9, (), NO_PLACES)), 4)

    def judged(self, folder: Path, asked: Reference, precision: str, progress: Progress, reference: str) -> Fidelity:
        assert [each.rows[1, 3] for each in asked.expected] == [7, 16]
        assert [each.greedy.size for each in asked.expected] == [4, 0]
        top1, kl = self.verdicts.get((folder / "model.onnx").read_text(), (1.0, 0.0))
        verdict, reason = judge(576, top1, kl, precision)
        return Fidelity(reference, 576, top1, kl, 0.0, verdict, reason)

    def make(self, variant: Variant = INT8) -> Artifact:
        return pipeline.make(SPEC, variant, self.home, lambda *_: None, lambda: False)


@pytest.fixture
def kitchen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Kitchen:
    return Kitchen(monkeypatch, tmp_path)


def test_the_first_recipe_that_is_good_enough_is_taken_and_kept(kitchen: Kitchen) -> None:
    artifact = kitchen.make()
    assert (artifact.recipe, artifact.variant, artifact.fallbacks) == ("fused", INT8, ())
    assert artifact.fidelity is not None
    assert artifact.fidelity.verdict == "exact"
    assert artifact.notes == ("It came by post.", "It only reads.")
    assert "GGUF" in artifact.fidelity.reference
    assert kitchen.torch_checks == 0, "torch is compared where torch is to answer"
    assert kitchen.make() == artifact
    assert (kitchen.built, kitchen.imports) == (["fused"], 1)
    assert cache.read(folder_of(kitchen.home), kitchen.home) == artifact


def test_all_variants_share_one_import(kitchen: Kitchen) -> None:
    kitchen.make()
    kitchen.make(dataclasses.replace(INT8, precision="int4"))
    torch = kitchen.make(TORCH)
    assert kitchen.imports == 1
    assert (torch.recipe, torch.variant) == ("none", TORCH)
    assert torch.fidelity is not None
    assert torch.fidelity.verdict == "exact"
    assert kitchen.make(TORCH) == torch
    assert kitchen.torch_checks == 1
    assert (Path(torch.path) / "model.safetensors").exists()


def test_the_original_is_asked_once_for_all_exports(kitchen: Kitchen) -> None:
    int4 = dataclasses.replace(INT8, precision="int4")
    kitchen.verdicts["fused"] = (0.2, 7.0)
    kitchen.make()
    kitchen.make(int4)
    assert (kitchen.built, kitchen.questions) == (["fused", "optimum"] * 2, 1)
    (kept,) = (kitchen.home / "answers").iterdir()
    assert kept.name.startswith(cache.import_folder(kitchen.home, SPEC, REVISION).name)
    touched = kept / "rows-1.npy"
    touched.write_bytes(touched.read_bytes()[:-4] + bytes(4))
    shutil.rmtree(folder_of(kitchen.home, int4))
    kitchen.make(int4)
    assert kitchen.questions == 2, "what is not as it was written is asked again"


def test_answers_that_are_odd_or_too_large_are_not_kept(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = kitchen.asked
    monkeypatch.setattr(check, "answers_of", lambda *told: dataclasses.replace(usual(*told), notes=("It was odd.",)))
    kitchen.make()
    assert not list((kitchen.home / "answers").glob("*"))
    monkeypatch.setattr(check, "answers_of", usual)
    monkeypatch.setattr(answers, "KEPT_MB", 150 / 1e6)
    kitchen.make(dataclasses.replace(INT8, precision="int4"))
    assert not list((kitchen.home / "answers").glob("*"))


def test_the_oldest_answers_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passage = Passage("prose", (1, 2, 3), prompt=2)
    asked = Reference((Expected(passage, np.zeros((2, 5000), np.float32), (), NO_PLACES),), 4)
    monkeypatch.setattr(answers, "KEPT_MB", 0.1)
    for name in "abc":
        kept = answers.keep(tmp_path / "answers" / name, tmp_path, asked)
        assert kept is not None
        np.testing.assert_array_equal(kept.expected[0].rows, asked.expected[0].rows)
        os.utime(tmp_path / "answers" / name, (ord(name), ord(name)))
    assert sorted(each.name for each in (tmp_path / "answers").iterdir()) == ["b", "c"]


def test_a_rejected_export_is_never_used_and_the_next_recipe_is_tried(kitchen: Kitchen) -> None:
    kitchen.verdicts["fused"] = (0.2, 7.0)
    artifact = kitchen.make()
    assert artifact.recipe == "optimum"
    assert (Path(artifact.path) / "model.onnx").read_text() == "optimum"
    assert len(artifact.fallbacks) == 1
    assert "fused: rejected" in artifact.fallbacks[0]
    assert "7 nats" in artifact.fallbacks[0]


def test_when_no_recipe_is_good_enough_torch_is_used_and_told_why(kitchen: Kitchen) -> None:
    kitchen.failing["fused"] = ExportError("the builder does not know this architecture")
    kitchen.verdicts |= {"optimum": (0.0, float("nan")), "optimum exact": (0.0, float("nan"))}
    artifact = kitchen.make()
    assert (artifact.variant, artifact.recipe) == (TORCH, "none")
    assert Path(artifact.path) == cache.import_folder(kitchen.home, SPEC, REVISION)
    assert [reason.split(", ")[0] for reason in artifact.fallbacks] == [
        "fused: the builder does not know this architecture",
        "optimum: rejected",
        "fp32: fused: the builder does not know this architecture",
        "fp32: optimum: rejected",
    ]
    assert kitchen.make() == artifact
    assert kitchen.built == ["fused", "optimum", "fused", "optimum"]


def test_where_only_the_rounding_was_too_coarse_the_exact_graph_is_taken(kitchen: Kitchen) -> None:
    kitchen.verdicts |= {"fused": (0.2, 7.0), "optimum": (0.2, 7.0), "fused exact": (0.2, 7.0)}
    artifact = kitchen.make()
    assert artifact.variant == dataclasses.replace(INT8, precision="fp32")
    assert (Path(artifact.path) / "model.onnx").read_text() == "optimum exact"
    assert [reason.split(",")[0] for reason in artifact.fallbacks] == [
        "fused: rejected",
        "optimum: rejected",
        "fp32: fused: rejected",
    ]
    assert kitchen.torch_checks == 0
    assert kitchen.make() == artifact
    assert kitchen.make(artifact.variant).path == artifact.path, "the exact graph is made once"
    assert kitchen.built == ["fused", "optimum"] * 2


def test_a_slip_of_one_recipe_kills_neither_the_others_nor_torch(kitchen: Kitchen) -> None:
    kitchen.failing["fused"] = AttributeError("'Config' object has no attribute 'num_hidden_layers'")
    artifact = kitchen.make()
    assert artifact.recipe == "optimum"
    assert artifact.fallbacks == (
        "fused: it failed (AttributeError: 'Config' object has no attribute 'num_hidden_layers')",
    )
    kitchen.failing["optimum"] = KeyError("rope")
    assert kitchen.make(dataclasses.replace(INT8, precision="int4")).variant == TORCH


def test_what_torch_makes_of_it_is_judged_as_well(kitchen: Kitchen) -> None:
    kitchen.torch = (0.4, 2.0)
    with pytest.raises(FidelityError, match=r"Tiny can't be served: .*torch runtime.*rejected"):
        kitchen.make(TORCH)
    kitchen.failing |= {"fused": ExportError("no"), "optimum": ExportError("no")}
    with pytest.raises(FidelityError, match="Tiny can't be served"):
        kitchen.make()
    kitchen.torch = (1.0, 0.0)
    assert kitchen.make().variant == TORCH


@pytest.mark.fault
def test_a_full_disk_while_building_is_no_reason_to_give_up_the_recipe(kitchen: Kitchen) -> None:
    kitchen.failing["fused"] = OSError(28, "No space left on device")
    with pytest.raises(StorageError, match="full"):
        kitchen.make()
    assert cache.read(folder_of(kitchen.home), kitchen.home) is None
    assert not list((kitchen.home / "staging").iterdir())
    kitchen.failing.clear()
    assert kitchen.make().recipe == "fused"


def test_a_precision_without_a_recipe_is_run_by_torch(kitchen: Kitchen) -> None:
    artifact = kitchen.make(dataclasses.replace(INT8, precision="fp16"))
    assert artifact.variant == TORCH
    assert artifact.fallbacks == ("there is no recipe for onnx-fp16",)


@pytest.mark.fault
def test_a_broken_import_under_a_good_fallback_is_made_again(kitchen: Kitchen) -> None:
    kitchen.verdicts = dict.fromkeys(("fused", "optimum", "fused exact", "optimum exact"), (0.0, 9.0))
    artifact = kitchen.make()
    (Path(artifact.path) / "model.safetensors").write_text("damaged!")
    assert cache.read(folder_of(kitchen.home), kitchen.home) is None
    assert kitchen.make().path == artifact.path
    assert kitchen.imports == 2
    assert (Path(artifact.path) / "model.safetensors").read_bytes() == ORIGINAL


def test_records_tell_touched_from_changed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    record = FileRecord.of(path)
    assert record.untouched(path)
    os.utime(path, (5, 5))
    assert not record.untouched(path)
    assert record.matches(path)
    path.write_bytes(b"two")
    assert not record.matches(path)
    path.unlink()
    assert not record.matches(path)


def test_an_artifact_of_before_messages_is_used_and_says_what_it_said(tmp_path: Path) -> None:
    folder = written(tmp_path)
    document = json.loads((folder / cache.DOCUMENT).read_text())
    said = {
        "notes": ["It came by post."],
        "fallbacks": ["fused: it failed", "fp32: optimum: no"],
        "engine_note": "the model is more than a decoder",
        "fidelity": {
            "reference": "transformers in fp32 on the original files",
            "positions": 576,
            "top1_agreement": 1.0,
            "mean_kl": 0.0,
            "max_logit_error": 0.0,
            "verdict": "exact",
            "reason": "100.0% of 576 most likely tokens agree",
        },
    }
    (folder / cache.DOCUMENT).write_text(json.dumps(document | said))
    artifact = cache.read(folder, tmp_path)
    assert artifact is not None
    assert artifact.fidelity is not None
    assert list(artifact.fallbacks) == said["fallbacks"]
    assert list(artifact.notes) == said["notes"]
    assert artifact.engine_note == said["engine_note"]
    assert artifact.fidelity.reason == "100.0% of 576 most likely tokens agree"
    assert cache.verify(folder, tmp_path) == artifact


def test_messages_of_an_artifact_can_be_told_in_another_language_later(kitchen: Kitchen) -> None:
    kitchen.verdicts |= {"fused": (0.2, 7.0)}
    kitchen.make()
    artifact = cache.read(folder_of(kitchen.home), kitchen.home)
    assert artifact is not None
    assert artifact.fidelity is not None
    assert artifact.fallbacks[0].template == "{recipe}: {reason}"
    assert artifact.fallbacks[0].values["reason"].template == "rejected, {reason}"
    assert artifact.fidelity.reason.template == "{figures}: equal but for rounding"
    assert artifact.fidelity.reference.template


KEYS = {
    "onnx-int8": "85918906d249075a",
    "onnx-int4": "ea4358b47d242f32",
    "onnx-fp32": "23235285eec313d6",
    "onnx-fp16": "9306e9a95005d037",
    "torch-fp32": "1f64639574d19c46",
}


def test_keys_are_those_of_artifacts_that_people_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change here makes every prepared model be made again. Where that is meant, the new names go into ``KEYS``; a
    text for readers must never be the reason.
    """
    monkeypatch.setattr(cache, "tool_version", lambda package: "1")
    monkeypatch.setattr(building, "identity", lambda: "none")
    assert cache.import_folder(tmp_path, SPEC, REVISION).name == "tiny-1ee9beb8326f8b9b"
    found = {}
    for name in KEYS:
        runtime, precision = name.split("-")
        found[name] = folder_of(tmp_path, Variant("tiny", runtime, precision)).name.rpartition("-")[2]
    assert found == KEYS
