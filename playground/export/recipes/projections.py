"""Fused projections that a network takes apart again: each part becomes a product of its own.

Some families compute queries, keys and values in one product and pick each of them out of its columns, by reshaping,
slicing and turning axes around; others each head's queries and the gate behind its attention (Qwen 3.5). Which columns
come to attention, to a norm or an activation is found by sending their numbers through those very nodes; then the
weight's columns are sorted once, when it is written, instead of a token's numbers at each step. Where heads of keys and
values stand there once for each of several queries (Falcon's newer architecture), they are computed, and kept of a
text, once: attention knows groups. No family is named. The module knows graphs of ONNX; what a product is rounded to is
not its business.
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

TOKENS, PIECE = (3, 5), 1
"""Tokens of the runs in which columns are followed, and the number of texts."""


@dataclass(frozen=True)
class _Part:
    """What is computed with: columns of what a product, and a sum with a constant row behind it, give.

    Attributes:
        shape: In which they lie there, with -1 where it goes with the number of tokens.
    """

    product: Any
    bias: str
    columns: Array
    shape: tuple[int, ...]

    @property
    def repeats(self) -> bool:
        return len(np.unique(self.columns)) < len(self.columns)

    @property
    def lies_in_rows(self) -> bool:
        return self.shape == (PIECE, -1, len(self.columns))

    @property
    def is_one_piece(self) -> bool:
        return bool((np.diff(self.columns) == 1).all())


def take_apart(graph: Graph) -> None:
    """Give each of a fused projection's parts that come to ``GroupQueryAttention`` a product of its own, and the parts
    of others where one of them is not a single piece of a row.
    """
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
            # What is asked for twice would be multiplied twice.
            if found is None or found.repeats or not found.lies_in_rows:
                continue
            made = list(_product(graph, makers, found, f"{node.name or node.output[0]}.{'qkv'[part]}"))
            node.input[part] = made[-1].output[0]
            for each in reversed(made):
                nodes.insert(place, each)
    _drop_unread(graph.model.graph)
    _take_pieces(graph)
    _drop_unread(graph.model.graph)


def _take_pieces(graph: Graph) -> None:
    """Give the parts of a projection that something is computed with products of their own, where no two have a column
    in common, all that is read of it are parts, and one of them is in several pieces.
    """
    nodes = graph.model.graph.node
    makers = {name: node for node in nodes for name in node.output}
    rows = _rows(graph.model.graph)
    given_out = {each.name for each in graph.model.graph.output}
    read: dict[int, dict[str, _Part | None]] = {}  # by the product; None: all of it, or in no way that can be told
    readers = (node for node in nodes if node.op_type not in MOVES and not _adds_bias(graph, makers, node))
    for name in dict.fromkeys([*(name for node in readers for name in node.input), *sorted(given_out)]):
        product = _fused(makers, name)
        if product is None:
            continue
        is_part = name not in given_out and product.output[0] in rows
        read.setdefault(id(product), {})[name] = _part(graph, makers, name) if is_part else None
    for parts in read.values():
        known = {name: part for name, part in parts.items() if part is not None}
        columns = np.concatenate([each.columns for each in known.values()] or [np.empty(0)])
        if len(known) < len(parts) or all(each.is_one_piece for each in known.values()):
            continue
        if len(np.unique(columns)) == len(columns):
            for name, part in known.items():
                _put_product(graph, makers, name, part)


def _rows(graph: Any) -> set[str]:
    """Values of one row for each token, however many these are, by what the exporter says of their shapes."""
    found = set()
    for value in graph.value_info:
        sizes = value.type.tensor_type.shape.dim
        if len(sizes) == 3 and sizes[0].dim_value == PIECE and sizes[1].dim_param and sizes[2].dim_value:
            found.add(value.name)
    return found


def _adds_bias(graph: Graph, makers: dict[str, Any], node: Any) -> bool:
    """Whether all it does is to add a constant row to a product: who reads the sum reads the product."""
    if node.op_type != "Add":
        return False
    weights = {each.name: each for each in graph.model.graph.initializer}
    made = [maker for name in node.input if (maker := makers.get(name)) is not None]
    return len(made) == 1 and made[0].op_type == "MatMul" and bool(_bias_of(makers, weights, node, made[0]))


def _put_product(graph: Graph, makers: dict[str, Any], name: str, part: _Part) -> None:
    """Let whoever reads ``name`` and computes with it read a product of its own."""
    nodes = graph.model.graph.node
    made = list(_product(graph, makers, part, f"{name}.part"))
    if not part.lies_in_rows:
        made.append(_shaped(graph, made[-1].output[0], part.shape))
    readers = [place for place, node in enumerate(nodes) if name in node.input and node.op_type not in MOVES]
    for place in readers:
        given = nodes[place].input
        given[:] = [made[-1].output[0] if each == name else each for each in given]
    for each in reversed(made):
        nodes.insert(readers[0], each)


def _shaped(graph: Graph, name: str, shape: tuple[int, ...]) -> Any:
    """The node that gives rows this shape."""
    from onnx import TensorProto, helper

    held = helper.make_tensor(f"{name}.sizes", TensorProto.INT64, [len(shape)], shape)
    graph.model.graph.initializer.append(held)
    return helper.make_node("Reshape", [name, held.name], [f"{name}.shaped"], f"{name}.shaped")


def _fused(makers: dict[str, Any], name: str) -> Any:
    """The product with a weight that ``name`` is part of, or the whole; None where it is none's."""
    top = _made_by(makers, name)[0]
    sides = list(top.input) if top is not None and top.op_type == "Add" else []
    products = [each for each in (top, *(makers.get(side) for side in sides)) if each is not None]
    return next((each for each in products if each.op_type == "MatMul"), None)


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
    if count % size or not part.lies_in_rows:
        return None
    heads = part.columns.reshape(count, -1)
    columns = heads[::size].reshape(-1)
    once = replace(part, columns=columns, shape=(PIECE, -1, len(columns)))
    return once if (heads == np.repeat(heads[::size], size, axis=0)).all() and not once.repeats else None


def _part(graph: Graph, makers: dict[str, Any], name: str) -> _Part | None:
    weights = {each.name: each for each in graph.model.graph.initializer}
    top, moved = _made_by(makers, name)
    if top is None or moved <= {"Reshape", "Identity"}:
        return None
    given, bias = top.output[0], ""
    if top.op_type == "Add":
        product = _fused(makers, given)
        bias = _bias_of(makers, weights, top, product) if product is not None else ""
        top = product if bias else None
    if top is None or top.op_type != "MatMul":
        return None
    weight, turned = _weight_of(makers, weights, top)
    if weight is None or len(weight.dims) != 2:
        return None
    found = _followed(graph, makers, given, int(weight.dims[0 if turned else 1]), name)
    return None if found is None else _Part(top, bias, *found)


def _bias_of(makers: dict[str, Any], weights: dict[str, Any], added: Any, product: Any) -> str:
    """The constant row that ``added`` adds to ``product``, with a number for each column; "" where it adds another."""
    weight, turned = _weight_of(makers, weights, product)
    if weight is None or len(weight.dims) != 2 or product.output[0] not in added.input:
        return ""
    row = [weight.dims[0 if turned else 1]]
    return next((each for each in added.input if each in weights and list(weights[each].dims) == row), "")


def _made_by(makers: dict[str, Any], name: str) -> tuple[Any, set[str]]:
    """What computed the numbers of ``name``, and by which operators they were moved since."""
    top, moved = makers.get(name), set[str]()
    while top is not None and top.op_type in MOVES:
        moved.add(top.op_type)
        top = makers.get(top.input[0])
    return top, moved


def _weight_of(makers: dict[str, Any], weights: dict[str, Any], product: Any) -> tuple[Any, bool]:
    """The weight of a product, and whether it stands there transposed."""
    name = product.input[1]
    if name in weights:
        return weights[name], False
    node = makers.get(name)
    return (weights.get(node.input[0]), True) if node is not None and node.op_type == "Transpose" else (None, False)


def _followed(
    graph: Graph, makers: dict[str, Any], given: str, width: int, name: str
) -> tuple[Array, tuple[int, ...]] | None:
    """Which of the ``width`` columns of ``given`` those of ``name`` are, and in which shape they lie; None where that
    can't be said, or is another for another number of tokens.
    """
    runs = [_run(graph, makers, given, width, name, tokens=tokens) for tokens in TOKENS]
    first, second = runs
    if first is None or second is None or first[1] != second[1] or not np.array_equal(first[0], second[0]):
        return None
    return first


def _run(
    graph: Graph, makers: dict[str, Any], given: str, width: int, name: str, *, tokens: int
) -> tuple[Array, tuple[int, ...]] | None:
    """``_followed`` of so many tokens."""
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
    numbers = np.arange(PIECE * tokens * width, dtype=np.float32).reshape(PIECE, tokens, width)
    feeds = {each: np.zeros((PIECE, tokens), np.int64) for each in fed} | {given: numbers}
    try:
        (found,) = ReferenceEvaluator(model).run(None, feeds)
    except Exception:  # whatever the evaluator does not know stays as it is
        return None
    shape = _shape_for(found.shape, tokens) if found.size else None
    if shape is None:
        return None
    columns = found.reshape(tokens, -1) - np.arange(tokens, dtype=np.float32)[:, None] * width
    if not ((columns == columns[0]).all() and columns.min() >= 0 and columns.max() < width):
        return None
    chosen: Array = columns[0].astype(np.int64)
    return chosen, shape


def _shape_for(shape: tuple[int, ...], tokens: int) -> tuple[int, ...] | None:
    """A shape of so many ``tokens``, for any number of them; None where they don't come first."""
    if shape[:2] == (PIECE, tokens) and len(shape) > 2:
        return PIECE, -1, *shape[2:]
    if len(shape) > 1 and shape[0] % tokens == 0:
        return -1, *shape[1:]
    return None


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
