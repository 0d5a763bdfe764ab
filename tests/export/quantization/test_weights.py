"""Weights of graphs: read where they lie, made when they are asked for, written once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from playground.export.quantization.weights import ALIGNED, Graph, Store, graphs  # noqa: E402

WIDE = np.arange(4096, dtype=np.float32).reshape(64, 64)
NARROW = np.arange(4, dtype=np.int64)


def written(folder: Path, **arrays: Any) -> Path:
    """A graph with these weights and no nodes."""
    path = folder / "model.onnx"
    with Store(folder / "model.onnx.data") as store:
        weights = [store.put(name, array) for name, array in arrays.items()]
    graph = onnx.helper.make_graph([], "weights", [], [], weights)
    onnx.save(onnx.helper.make_model(graph), path)
    return path


def test_what_was_written_is_read_again_and_what_is_small_stays_in_the_graph(tmp_path: Path) -> None:
    path = written(tmp_path, wide=WIDE, narrow=NARROW, half=WIDE.astype(np.float16))
    found = {each.name: onnx.numpy_helper.to_array(each) for each in onnx.load(path).graph.initializer}
    assert np.array_equal(found["wide"], WIDE)
    assert np.array_equal(found["half"], WIDE.astype(np.float16))
    assert np.array_equal(found["narrow"], NARROW)
    inside = onnx.load(path, load_external_data=False).graph.initializer
    assert [each.name for each in inside if each.data_location == onnx.TensorProto.DEFAULT] == ["narrow"]


def test_equal_weights_are_stored_once_and_each_starts_at_a_page(tmp_path: Path) -> None:
    path = written(tmp_path, one=WIDE, other=WIDE.copy(), turned=WIDE.T)
    places = {}
    for each in onnx.load(path, load_external_data=False).graph.initializer:
        about = onnx.external_data_helper.ExternalDataInfo(each)
        places[each.name] = about.offset or 0
        assert (about.offset or 0) % ALIGNED == 0
    assert places["one"] == places["other"] != places["turned"]
    assert (tmp_path / "model.onnx.data").stat().st_size == 2 * WIDE.nbytes


def test_a_weight_beside_its_graph_is_mapped_and_not_loaded(tmp_path: Path) -> None:
    graph = Graph.read(written(tmp_path, wide=WIDE))
    found = graph.array(graph.model.graph.initializer[0])
    assert isinstance(found, np.memmap)
    assert np.array_equal(found, WIDE)


def test_what_is_made_of_a_weight_is_made_when_it_is_asked_for(tmp_path: Path) -> None:
    graph = Graph.read(written(tmp_path, wide=WIDE))
    made = []

    def turn(array: Any) -> Any:
        made.append(array.shape)
        return array.T

    derived = graph.derive("turned", graph.model.graph.initializer[0], (64, 64), turn)
    del graph.model.graph.initializer[:]
    assert made == []
    assert np.array_equal(graph.array(derived), WIDE.T)
    assert made == [(64, 64)]


def test_graphs_inside_nodes_are_found() -> None:
    inner = onnx.helper.make_graph([], "inner", [], [])
    node = onnx.helper.make_node("If", ["which"], [], then_branch=inner, else_branch=inner)
    outer = onnx.helper.make_graph([node], "outer", [], [])
    assert [graph.name for graph in graphs(outer)] == ["outer", "inner", "inner"]


def test_what_comes_piece_by_piece_is_the_same_tensor_and_stored_once(tmp_path: Path) -> None:
    several = np.arange(3 * 64 * 64, dtype=np.float32).reshape(3, 64, 64)
    with Store(tmp_path / "model.onnx.data") as store:
        weights = [
            store.put("first", WIDE),
            store.put_pieces("pieces", iter(several)),
            store.put_pieces("again", (each.T.copy().T for each in several)),
            store.put("whole", several),
            store.put_pieces("others", iter(several + 1)),
        ]
    graph = onnx.helper.make_graph([], "weights", [], [], weights)
    onnx.save(onnx.helper.make_model(graph), tmp_path / "model.onnx")
    made = onnx.load(tmp_path / "model.onnx").graph.initializer
    found = {each.name: onnx.numpy_helper.to_array(each) for each in made}
    for name, expected in {"first": WIDE, "again": several, "whole": several, "others": several + 1}.items():
        assert np.array_equal(found[name], expected)
    assert np.array_equal(found["pieces"], several)
    places = [onnx.external_data_helper.ExternalDataInfo(each).offset for each in weights]
    assert places[1] == places[2] == places[3] != places[4]
    assert all((place or 0) % ALIGNED == 0 for place in places)
    assert (tmp_path / "model.onnx.data").stat().st_size == WIDE.nbytes + 2 * several.nbytes
