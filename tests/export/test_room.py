"""What does not fit into memory is refused with both figures, before it is tried."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
from safetensors.numpy import save_file

from playground.catalog.footprint import estimate
from playground.errors import ExportError
from playground.export import cache, pipeline, room
from playground.export.recipes.base import Work
from playground.records import Variant
from playground.system import memory
from tests.support import tiny

MILLION = 10**6


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An import of 1.5 million parameters in two files."""
    save_file({"a": np.zeros((1000, 1000), np.float16)}, tmp_path / "model-00001.safetensors")
    save_file({"b": np.zeros((500, 1000), np.float16)}, tmp_path / "model-00002.safetensors")
    return tmp_path


def test_parameters_are_counted_over_all_files(folder: Path) -> None:
    assert room.parameters_in(folder) == 1.5 * MILLION


@pytest.mark.parametrize(("way", "needs_mb"), [("torch", 1506.0), ("optimum", 1518.0)])
def test_a_way_that_holds_the_model_needs_all_of_it(
    way: str, needs_mb: float, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "limit_mb", lambda: needs_mb)
    room.check_whole(folder, way)
    monkeypatch.setattr(memory, "limit_mb", lambda: needs_mb - 1)
    with pytest.raises(ExportError, match=r"it takes 1\.5 GB of memory, this machine has 1\.5 GB"):
        room.check_whole(folder, way)


def test_a_graph_that_is_made_by_pieces_needs_the_graph(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "limit_mb", lambda: 510.0)
    room.check_by_pieces(folder, "int4")
    with pytest.raises(ExportError, match=r"it takes 1\.5 GB"):
        room.check_whole(folder, "torch")


@pytest.mark.parametrize("family", ["llama", "gpt_oss"])
def test_what_is_unpacked_of_a_gguf_file_is_counted(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sixteenth of the memory for what is unpacked by pieces, all numbers for what is not."""
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", family)
    if family != "llama":
        writer.add_uint32(f"{family}.expert_count", 32)
    writer.add_tensor("a", np.zeros((20_000, 1000), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert room.parameters_in(tmp_path) == 20 * MILLION
    expected = estimate(20 * MILLION, "onnx", "int4")
    others = expected.prepare_mb - expected.weights_mb
    needs = others / (1 - 1 / 16) if family == "llama" else others + 80
    assert needs > expected.prepare_mb
    monkeypatch.setattr(memory, "limit_mb", lambda: needs + 1)
    room.check_by_pieces(tmp_path, "int4")
    monkeypatch.setattr(memory, "limit_mb", lambda: needs - 1)
    with pytest.raises(ExportError, match=r"it takes 0\.[56] GB"):
        room.check_by_pieces(tmp_path, "int4")


@pytest.mark.integration
@pytest.mark.parallel
def test_what_fits_by_no_way_is_refused_with_the_reason_of_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    source = tiny.write_model(tmp_path / "model")

    def never(work: Work) -> str:
        pytest.fail("there was no room for it")

    def unknown(work: Work) -> str:
        raise ExportError("it never heard of it")

    ways = {"fused": unknown, "optimum": never}
    recipes = tuple(replace(each, build=ways[each.name]) for each in cache.RECIPES if each.name in ways)
    monkeypatch.setattr(cache, "RECIPES", recipes)
    monkeypatch.setattr(memory, "limit_mb", lambda: 1000.0)
    spec = replace(tiny.spec(), source=f"path:{source}", runtime="onnx", precision="int8")
    with pytest.raises(ExportError) as caught:
        pipeline.make(spec, Variant(spec.id, "onnx", "int8"), tmp_path / "home", lambda *_: None, lambda: False)
    said = str(caught.value)
    assert "can't be run by torch here: it takes 1.5 GB of memory, this machine has 1.0 GB" in said
    assert "fused: it never heard of it" in said
    assert "optimum: it takes 1.5 GB of memory" in said
    assert "remote:NAME" in said
