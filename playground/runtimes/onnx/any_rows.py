"""A decoder graph that gives the last position's logits alone, asked for those of any positions.

Fused exports pick the last token's hidden state before the product with the vocabulary. The constant that says which
becomes an input here; weights and everything else stay as they are in the file. The module reads and changes a graph's
description; it runs nothing and writes nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from playground.runtimes.onnx.graph import ROWS


def with_any_rows(path: Path) -> bytes | None:
    """The graph at ``path`` with the input ``ROWS`` and logits ``[1, wanted, vocab]``, without its weights; None where
    it does not pick its rows in the one way known here.
    """
    model = onnx.load(str(path), load_external_data=False)
    graph = model.graph
    if ROWS in {each.name for each in graph.input}:
        return None
    constants = _constants(graph)
    gathers = [node for node in graph.node if node.op_type == "Gather" and _picks_last(node, constants)]
    if len(gathers) != 1:
        return None
    gather = gathers[0]
    behind = [node for node in graph.node if gather.output[0] in node.input]
    if constants[gather.input[1]].ndim == 0:
        if len(behind) != 1 or not _adds_positions(behind[0], constants):
            return None
        _read_instead(graph, behind[0].output[0], gather.output[0])
        graph.node.remove(behind[0])
    gather.input[1] = ROWS
    graph.input.append(helper.make_tensor_value_info(ROWS, TensorProto.INT64, ["wanted"]))
    del graph.value_info[:]
    for output in graph.output:
        if output.name == "logits":
            output.type.tensor_type.shape.dim[1].Clear()
            output.type.tensor_type.shape.dim[1].dim_param = "wanted"
    content: bytes = model.SerializeToString()
    return content


def _constants(graph: Any) -> dict[str, Any]:
    """Small constants by name; weights outside the file are none of them."""
    found = {
        each.name: numpy_helper.to_array(each)
        for each in graph.initializer
        if each.data_location != TensorProto.EXTERNAL and np.prod(each.dims, dtype=np.int64) <= 1
    }
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return found


def _picks_last(node: Any, constants: dict[str, Any]) -> bool:
    index = constants.get(node.input[1])
    axis = next((each.i for each in node.attribute if each.name == "axis"), 0)
    return index is not None and axis == 1 and index.size == 1 and index.ndim <= 1 and int(index.reshape(-1)[0]) == -1


def _adds_positions(node: Any, constants: dict[str, Any]) -> bool:
    """Whether the axis of positions, which a single index takes away, is put back, and nothing else done."""
    axes = constants.get(node.input[1]) if node.op_type == "Unsqueeze" and len(node.input) > 1 else None
    return axes is not None and axes.reshape(-1).tolist() == [1]


def _read_instead(graph: Any, old: str, new: str) -> None:
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name == old:
                node.input[place] = new
