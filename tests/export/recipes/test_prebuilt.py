"""Which of a repository's ONNX files is taken for a precision, and why the others are not."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import onnx
import pytest
from onnxruntime.quantization import quantize_dynamic

from playground.errors import ExportError
from playground.export.recipes.prebuilt import find_prebuilt, place_prebuilt
from playground.runtimes.onnx.runtime import open_engine
from tests.support import tiny
from tests.support.graphs import Layout, write_graph


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A repository with a graph in fp32, fp16 and int8, as the Hub has them."""
    folder = tiny.write_tokenizer(tmp_path / "repo")
    write_graph(folder / "onnx", Layout())
    write_graph(folder / "onnx", Layout(half=True), "model_fp16.onnx")
    (folder / "onnx" / "config.json").rename(folder / "config.json")
    quantize_dynamic(folder / "onnx" / "model.onnx", folder / "onnx" / "model_quantized.onnx")
    return folder


@pytest.mark.parametrize(
    ("precision", "name"),
    [("fp32", "onnx/model.onnx"), ("int8", "onnx/model_quantized.onnx"), ("fp16", "onnx/model_fp16.onnx")],
)
def test_each_precision_finds_its_file_and_it_runs(repo: Path, tmp_path: Path, precision: str, name: str) -> None:
    found = find_prebuilt(repo, precision)
    assert found is not None
    assert (found.name, found.precision) == (name, precision)
    target = tmp_path / "artifact"
    place_prebuilt(found, repo, target)
    assert {path.name for path in target.iterdir()} >= {"model.onnx", "config.json", "tokenizer.json"}
    assert open_engine(target, threads=1).prefill([1, 2, 3]).shape == (tiny.VOCAB,)


def test_what_is_not_there_is_not_found(repo: Path, tmp_path: Path) -> None:
    refused: list[str] = []
    assert find_prebuilt(repo, "int4", refused) is None
    assert find_prebuilt(tmp_path, "fp32", refused) is None
    assert refused == []


def test_half_precision_stands_in_for_fp32_only_where_there_is_nothing_else_and_is_called_what_it_is(
    repo: Path,
) -> None:
    (repo / "onnx" / "model.onnx").unlink()
    found = find_prebuilt(repo, "fp32")
    assert found is not None
    assert (found.name, found.precision) == ("onnx/model_fp16.onnx", "fp16")
    (repo / "onnx" / "model_fp16.onnx").unlink()
    assert find_prebuilt(repo, "fp32") is None


def test_a_name_does_not_make_a_precision(repo: Path) -> None:
    """A file called int8 that holds fp32 weights is an fp32 file."""
    shutil.copy(repo / "onnx" / "model.onnx", repo / "onnx" / "model_int8.onnx")
    found = find_prebuilt(repo, "int8")
    assert found is not None and found.name == "onnx/model_quantized.onnx"


def test_a_broken_file_is_passed_over_with_its_reason(repo: Path) -> None:
    (repo / "onnx" / "model_int8.onnx").write_bytes(b"<!DOCTYPE html>")
    refused: list[str] = []
    found = find_prebuilt(repo, "int8", refused)
    assert found is not None and found.name == "onnx/model_quantized.onnx"
    assert len(refused) == 1 and refused[0].startswith("onnx/model_int8.onnx: it is")


def test_a_pointer_in_place_of_the_file_is_passed_over(repo: Path) -> None:
    """What a clone without large-file support leaves behind."""
    (repo / "onnx" / "model.onnx").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    refused: list[str] = []
    found = find_prebuilt(repo, "fp32", refused)
    assert found is not None and found.precision == "fp16"
    assert refused[0].startswith("onnx/model.onnx: it is")


def with_external_data(repo: Path, location: str) -> Path:
    model = onnx.load(repo / "onnx" / "model.onnx")
    onnx.save(
        model, repo / "onnx" / "model.onnx", save_as_external_data=True, location="model.onnx_data", size_threshold=1024
    )
    if location != "model.onnx_data":
        model = onnx.load(repo / "onnx" / "model.onnx", load_external_data=False)
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                entry.value = location if entry.key == "location" else entry.value
        (repo / "onnx" / "model.onnx").write_bytes(model.SerializeToString())
    return repo


def test_external_weights_travel_with_the_graph(repo: Path, tmp_path: Path) -> None:
    expected = open_engine_of(repo, tmp_path / "one").prefill([1, 2, 3]).copy()
    with_external_data(repo, "model.onnx_data")
    engine = open_engine_of(repo, tmp_path / "two")
    assert (tmp_path / "two" / "model.onnx_data").is_file()
    assert (engine.prefill([1, 2, 3]) == expected).all()


def open_engine_of(repo: Path, target: Path):  # type: ignore[no-untyped-def]
    found = find_prebuilt(repo, "fp32")
    assert found is not None and found.precision == "fp32"
    place_prebuilt(found, repo, target)
    return open_engine(target, threads=1)


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("elsewhere.data", r"its weights \(elsewhere.data\) are missing"),
        ("../../secret", "from outside its folder"),
        ("/etc/passwd", "from outside its folder"),
        ("..\\secret", "from outside its folder"),
    ],
)
def test_weights_that_are_missing_or_lie_outside_are_refused(repo: Path, location: str, reason: str) -> None:
    (repo / "onnx" / "model_fp16.onnx").unlink()
    refused: list[str] = []
    assert find_prebuilt(with_external_data(repo, location), "fp32", refused) is None
    assert re.search(reason, refused[0])


def test_an_operator_onnxruntime_does_not_have_is_a_reason(repo: Path) -> None:
    (repo / "onnx" / "model_fp16.onnx").unlink()
    model = onnx.load(repo / "onnx" / "model.onnx")
    model.graph.node[0].op_type = "NeverHeardOf"
    onnx.save(model, repo / "onnx" / "model.onnx")
    refused: list[str] = []
    assert find_prebuilt(repo, "fp32", refused) is None
    assert "onnxruntime can't load it" in refused[0] and "NeverHeardOf" in refused[0]
    assert str(repo) not in refused[0], "no places of this machine in a message"


def test_a_graph_no_loop_drives_is_a_reason_that_lists_its_inputs(repo: Path) -> None:
    (repo / "onnx" / "model_fp16.onnx").unlink()
    write_graph(repo / "onnx", Layout(extra="pixel_values"))
    refused: list[str] = []
    assert find_prebuilt(repo, "fp32", refused) is None
    assert "unknown inputs pixel_values" in refused[0]


def test_an_encoder_without_its_decoder_is_no_model(repo: Path) -> None:
    (repo / "onnx" / "model.onnx").rename(repo / "onnx" / "encoder_model.onnx")
    assert find_prebuilt(repo, "fp32") is None


def test_a_folder_without_config_or_tokenizer_is_refused(repo: Path, tmp_path: Path) -> None:
    found = find_prebuilt(repo, "fp32")
    assert found is not None
    (repo / "tokenizer.json").unlink()
    with pytest.raises(ExportError, match=r"repo holds onnx/model.onnx, but no tokenizer.json"):
        place_prebuilt(found, repo, tmp_path / "target")
    (repo / "config.json").write_text("[]")
    refused: list[str] = []
    assert find_prebuilt(repo, "fp32", refused) is None
    assert "no config.json" in refused[0]


def test_a_merged_decoder_alone_is_the_model(repo: Path, tmp_path: Path) -> None:
    write_graph(repo / "onnx", Layout(merged=True), "decoder_model_merged.onnx")
    (repo / "onnx" / "config.json").unlink()
    (repo / "onnx" / "model.onnx").unlink()
    engine = open_engine_of(repo, tmp_path / "artifact")
    assert engine.graph.merged
