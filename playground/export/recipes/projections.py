"""Fused projections that a network takes apart again: each part becomes a product of its own.

Some families compute queries, keys and values in one product and pick each of them out of its columns, by reshaping,
slicing and turning axes around. Which columns come to attention is found by sending their numbers through those very
nodes; then the weight's columns are sorted once, when it is written, instead of a token's numbers at each step. Where
heads of keys and values stand there once for each of several queries (Falcon's newer architecture), they are computed,
and kept of a text, once: attention knows groups. No family is named. The module knows graphs of ONNX; what a product is
rounded to is not its business.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from playground.export.quantization.weights import Array, Graph
from playground.export.recipes.origins import origin_of

MOVES = frozenset(
    ("Reshape", "Slice", "Transpose", "GatherND", "Gather", "Split", "Squeeze", "Unsqueeze", "Expand", "Identity")
)
"""Operators that compute nothing: each number they give is one that they were given."""

SHAPES = MOVES | {"Shape", "Concat", "Cast", "Constant"}
"""What sizes are made with."""

TOKENS, PIECE = 3, 1
"""Tokens of the run in which columns are followed, and the number of texts."""


@dataclass(frozen=True)
class _Part:
    """What comes to attention: columns of what a product, and a sum with a constant row behind it, give."""

    product: Any
    bias: str
    columns: Array

    @property
    def repeats(self) -> bool:
        return len(np.unique(self.columns)) < len(self.columns)


def take_apart(graph: Graph) -> None:
    """Give each of a fused projection's parts that come to ``GroupQueryAttention`` a product of its own."""
    nodes = graph.model.graph.node
    makers = {name: node for node in nodes for name in node.output}
    for place in reversed(range(len(nodes))):
        node = nodes[place]
        if node.op_type != "GroupQueryAttention":
            continue
        parts = [_part(graph, makers, name) for name in node.input[:3]]
        if parts[1] and parts[2]:
            parts[1:] = _grouped(graph.model.graph, node, parts[1], parts[2])
        for part, found in enumerate(parts):
            if found is None or found.repeats:  # what is asked for twice would be multiplied twice
                continue
            made = list(_product(graph, makers, found, f"{node.name or node.output[0]}.{'qkv'[part]}"))
            node.input[part] = made[-1].output[0]
            for each in reversed(made):
                nodes.insert(place, each)
    _drop_unread(graph.model.graph)


def _grouped(graph: Any, attention: Any, key: _Part, value: _Part) -> tuple[_Part, _Part]:
    """Both with each head once, and attention told so, where a head stands there for several queries in a row."""
    count = next(each for each in attention.attribute if each.name == "kv_num_heads")
    kept = (*attention.input[3:5], *attention.output[1:3])
    places = [each for each in (*graph.input, *graph.output) if each.name in kept]
    others = {name for node in graph.node if node is not attention for name in node.input}
    if len(places) != len(kept) or not others.isdisjoint(kept):
        return key, value
    for size in range(count.i, 1, -1):
        once = _one_of(key, count.i, size), _one_of(value, count.i, size)
        if once[0] and once[1]:
            count.i //= size
            for each in places:
                each.type.tensor_type.shape.dim[1].dim_value = count.i
            return once[0], once[1]
    return key, value


def _one_of(part: _Part, count: int, size: int) -> _Part | None:
    """``part`` with one of each ``size`` of its ``count`` heads; None where these differ, or others are the same."""
    if count % size:
        return None
    heads = part.columns.reshape(count, -1)
    once = replace(part, columns=heads[::size].reshape(-1))
    return once if (heads == np.repeat(heads[::size], size, axis=0)).all() and not once.repeats else None


def _part(graph: Graph, makers: dict[str, Any], name: str) -> _Part | None:
    weights = {each.name: each for each in graph.model.graph.initializer}
    top, moved = makers.get(name), set()
    while top is not None and top.op_type in MOVES:
        moved.add(top.op_type)
        top = makers.get(top.input[0])
    if top is None or moved <= {"Reshape", "Identity"}:
        return None
    given, bias = top.output[0], ""
    if top.op_type == "Add":
        sides = list(top.input)
        bias = next((each for each in sides if each in weights and len(weights[each].dims) == 1), "")
        sides = [each for each in sides if each != bias]
        top = makers.get(sides[0]) if bias else None
    if top is None or top.op_type != "MatMul":
        return None
    weight, turned = _weight_of(makers, weights, top)
    if weight is None or len(weight.dims) != 2:
        return None
    columns = _followed(graph, makers, given, int(weight.dims[0 if turned else 1]), name)
    return None if columns is None else _Part(top, bias, columns)


def _weight_of(makers: dict[str, Any], weights: dict[str, Any], product: Any) -> tuple[Any, bool]:
    """The weight of a product, and whether it stands there transposed."""
    name = product.input[1]
    if name in weights:
        return weights[name], False
    node = makers.get(name)
    return (weights.get(node.input[0]), True) if node is not None and node.op_type == "Transpose" else (None, False)


def _followed(graph: Graph, makers: dict[str, Any], given: str, width: int, name: str) -> Array | None:
    """Which of the ``width`` columns of ``given`` those of ``name`` are; None where that can't be said."""
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    inputs = {each.name: each for each in graph.model.graph.input}
    origin = origin_of(graph.model.graph, makers, name, {given, *inputs}, SHAPES)
    if origin is None:
        return None
    fed = [each for each in inputs if each in origin.given]
    values = [helper.make_tensor_value_info(given, 1, None), *(inputs[each] for each in fed)]
    whole = helper.make_graph(
        origin.nodes, "columns", values, [helper.make_tensor_value_info(name, 1, None)], origin.constants
    )
    model = helper.make_model(whole, opset_imports=list(graph.model.opset_import))
    numbers = np.arange(PIECE * TOKENS * width, dtype=np.float32).reshape(PIECE, TOKENS, width)
    feeds = {each: np.zeros((PIECE, TOKENS), np.int64) for each in fed} | {given: numbers}
    try:
        (found,) = ReferenceEvaluator(model).run(None, feeds)
    except Exception:  # whatever the evaluator does not know stays as it is
        return None
    if found.shape[:2] != (PIECE, TOKENS) or found.ndim != 3:
        return None
    columns = found[0] - np.arange(TOKENS, dtype=np.float32)[:, None] * width
    if not ((columns == columns[0]).all() and columns.min() >= 0 and columns.max() < width):
        return None
    chosen: Array = columns[0].astype(np.int64)
    return chosen


def _product(graph: Graph, makers: dict[str, Any], part: _Part, name: str) -> Iterator[Any]:
    """The nodes of a product of its own."""
    from onnx import helper

    weights = {each.name: each for each in graph.model.graph.initializer}
    weight, turned = _weight_of(makers, weights, part.product)
    axis = 0 if turned else 1
    own = _chosen(graph, weight, axis, f"{name}.weight", part.columns)
    if turned:
        yield helper.make_node("Transpose", [own], [f"{own}.turned"], f"{own}.turned", perm=[1, 0])
        own = f"{own}.turned"
    product = f"{name}.product"
    yield helper.make_node("MatMul", [part.product.input[0], own], [product], product)
    if part.bias:
        bias = _chosen(graph, weights[part.bias], 0, f"{name}.bias", part.columns)
        yield helper.make_node("Add", [product, bias], [f"{name}.sum"], f"{name}.sum")


def _chosen(graph: Graph, of: Any, axis: int, name: str, columns: Array) -> str:
    """Name of an initializer that has these ``columns`` of another one, along an axis."""
    shape = [int(each) for each in of.dims]
    shape[axis] = len(columns)
    take = partial(np.take, indices=columns, axis=axis)
    graph.model.graph.initializer.append(graph.derive(name, of, tuple(shape), take))
    return name


def _drop_unread(graph: Any) -> None:
    """Forget nodes whose results nobody reads."""
    kept = {each.name for each in graph.output}
    for place in reversed(range(len(graph.node))):
        node = graph.node[place]
        if kept.isdisjoint(node.output):
            del graph.node[place]
        else:
            kept |= set(node.input)
