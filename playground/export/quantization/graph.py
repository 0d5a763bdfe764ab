"""Rounds the weights of a graph of plain products, and stores them beside the graph.

``MatMulNBits`` keeps blocks of 32 weights as 8 or 4 bits with a scale each and multiplies in int8. Which product gets
how many bits is decided here, how a block is rounded in ``blocks``; docs/int4.md has the figures behind both. ONNX
Runtime's dynamic int8 gave 0.5 nats and 63 % agreement on SmolLM2-135M, which nobody would call the same model.

It knows ONNX graphs; it does not know where they come from, nor whether the result is good enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from playground.export.quantization import experts
from playground.export.quantization.blocks import (
    QUANT_BLOCK,
    Array,
    Rounded,
    blocks_of,
    rest_as_columns,
    round4,
    round8,
)
from playground.export.quantization.weights import Graph, Store, graphs
from playground.kernels import building
from playground.kernels.library import mean_copies, packed
from playground.messages import msg
from playground.sources.files import Progress

WORTH_SUMS = 1 << 19
"""Weights a product must have for ``rest`` to be added. The two small operators it takes cost onnxruntime as long as
reading half a million weights; below that, whole zero points are the better bargain. The kernels get it for nothing."""

ROUNDED = {
    # Embedding and head in int8, and in int4 with the levels a 4-bit file had (docs/int4.md). Another kind of rounding
    # is another artifact.
    "int8": {"bits": "8", "block_size": str(QUANT_BLOCK), "embedding": "8"},
    "int4": {
        "bits": "4",
        "block_size": str(QUANT_BLOCK),
        "embedding": "8",
        "finer": "8 in attention too",
        "levels": "found again, with means in two digits; in every product where there are kernels",
    },
    "fp32": {},
}
"""Options of a recipe whose graphs have ``GroupQueryAttention``, by precision."""

EMBEDDING_ROWS = 1024
"""Tables with fewer rows are not worth rounding."""


def rewrite(graph: Graph, target: Path, bits: int | None, progress: Progress, sums: int | None = None) -> None:
    """Write ``graph`` to ``target`` with its weights in ``target``.data, rounded to ``bits`` or as they are.

    Args:
        graph: Its weights are read one at a time.
        target: Where the new one goes.
        bits: 8 or 4; None keeps fp32. With 4 the head keeps 8, and so do the most sensitive of those products that
            four bits would change.
        progress: Told the share of matrices rounded.
        sums: Products of four bits with so many weights may be given sums of activations to be exact.
    """
    model = graph.model
    flat: set[str] = set()
    for part in graphs(model.graph):
        fold_transposes(part, graph)
        flat |= split_gemms(part, graph)
    with _beside(target) as store:
        rounded = [] if bits is None else _Rounding(graph, store, bits, progress, sums, flat=flat).run()
        _save(graph, target, store, rounded)


def save(graph: Graph, target: Path) -> None:
    """Write the graph as it is, and its weights into ``target``.data, where ONNX Runtime maps them into memory."""
    with _beside(target) as store:
        _save(graph, target, store, [])


def _beside(target: Path) -> Store:
    target.parent.mkdir(parents=True, exist_ok=True)
    return Store(target.with_name(f"{target.name}.data"))


def _save(graph: Graph, target: Path, store: Store, stored: list[Any]) -> None:
    """Write the graph, its weights, and those that are in the store already."""
    import onnx

    for part in graphs(graph.model.graph):
        for tensor in part.initializer:
            if graph.comes_in_parts(tensor):
                tensor.CopyFrom(store.put_pieces(tensor.name, graph.pieces(tensor)))
            else:
                tensor.CopyFrom(store.put(tensor.name, graph.array(tensor)))
    graph.model.graph.initializer.extend(stored)
    onnx.save_model(graph.model, target)


def fold_transposes(graph: Any, whole: Graph) -> None:
    """Store what stands transposed between a weight and its product: tied embeddings are used that way by the head.

    Only constants are rounded, and the head is often a third of a small model.

    Args:
        graph: The graph whose nodes are looked at.
        whole: Where the weights are: the same one, or the one around an ``If``.
    """
    outer = whole.model.graph
    weights = {each.name: each for each in (*outer.initializer, *graph.initializer)}
    products = {node.input[1] for node in graph.node if node.op_type == "MatMul"}
    for node in [node for node in graph.node if node.op_type == "Transpose"]:
        if node.input[0] not in weights or node.output[0] not in products:
            continue
        order = next((list(each.ints) for each in node.attribute if each.name == "perm"), None)
        weight = weights[node.input[0]]
        turned = partial(np.transpose, axes=order)
        shape = tuple(weight.dims[axis] for axis in order or reversed(range(len(weight.dims))))
        graph.initializer.append(whole.derive(node.output[0], weight, shape, turned))
        graph.node.remove(node)
    _drop_unused(outer)


def split_gemms(graph: Any, whole: Graph) -> set[str]:
    """Write ``Gemm`` with a constant weight as a product and a sum: the quantiser knows only products.

    GPT-2's projections come as Gemms, and those that choose experts.

    Returns:
        Names of the products, which multiply rows without the axis of a batch.
    """
    from onnx import helper

    outer = whole.model.graph
    made: set[str] = set()
    weights = {each.name: each for each in (*outer.initializer, *graph.initializer)}
    for index, node in reversed(list(enumerate(graph.node))):
        if node.op_type != "Gemm" or node.input[1] not in weights:
            continue
        settings = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        if settings.get("alpha", 1.0) != 1.0 or settings.get("beta", 1.0) != 1.0 or settings.get("transA", 0):
            continue
        weight = node.input[1]
        if settings.get("transB", 0):
            weight = f"{node.name}.weight"
            plain = weights[node.input[1]]
            graph.initializer.append(whole.derive(weight, plain, tuple(reversed(plain.dims)), np.transpose))
        has_bias = len(node.input) > 2 and node.input[2]
        product = f"{node.output[0]}.product" if has_bias else node.output[0]
        made.add(f"{node.name}.MatMul")
        parts = [helper.make_node("MatMul", [node.input[0], weight], [product], name=f"{node.name}.MatMul")]
        if has_bias:
            parts.append(helper.make_node("Add", [product, node.input[2]], [node.output[0]], name=f"{node.name}.Add"))
        graph.node.remove(node)
        for part in reversed(parts):
            graph.node.insert(index, part)
    _drop_unused(outer)
    return made


@dataclass(frozen=True)
class _Stored:
    """A rounded matrix in the graph: names of its parts, and how a product is to use them."""

    parts: tuple[str, ...]
    bits: int
    mean_copies: int


class _Rounding:
    """Rounds every product and the embedding of one model."""

    def __init__(
        self, graph: Graph, store: Store, bits: int, progress: Progress, sums: int | None, *, flat: set[str]
    ) -> None:
        self._graph, self._file, self._flat = graph, store, flat
        self._model, self._bits, self._progress, self._sums = graph.model, bits, progress, sums
        model = graph.model
        self._weights = {each.name: each for part in graphs(model.graph) for each in part.initializer}
        self._stored: dict[str, _Stored] = {}
        self._rounded_ones: list[Any] = []
        self._turned = {
            node.output[0]: node.input[0]
            for node in model.graph.node
            if node.op_type == "Transpose" and len(getattr(self._weights.get(node.input[0]), "dims", ())) == 2
        }
        self._tied: Rounded | None = None
        # Which experts a token goes to changes in jumps.
        self._exact = {name for part in graphs(model.graph) for name in feeding(part, experts.PLAIN, slice(1, 2))}
        products = [name for part in graphs(model.graph) for name in map(self._weight_of, part.node) if name]
        self._head = products[-1] if products else ""
        self._total = max(1, len(set(products)))
        self._finer = set(sensitive(model.graph)) if bits == 4 else set()

    def run(self) -> list[Any]:
        """Replace the nodes, then forget the weights they had; returns those that they have now."""
        from onnx import helper

        for part in graphs(self._model.graph):
            summed: dict[str, str] = {}
            nodes = [new for node in part.node for new in self._replaced(node, summed)]
            del part.node[:]
            part.node.extend(nodes)
        read = _used(self._model.graph)
        for node in [node for node in self._model.graph.node if node.output[0] in self._turned.keys() - read]:
            self._model.graph.node.remove(node)
        _drop_unused(self._model.graph)
        if not any(each.domain == "com.microsoft" for each in self._model.opset_import):
            self._model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
        return self._rounded_ones

    def _weight_of(self, node: Any) -> str | None:
        """The constant matrix this node multiplies with."""
        if node.op_type != "MatMul" or node.input[1] not in self._weights or node.name in self._exact:
            return None
        return str(node.input[1]) if len(self._weights[node.input[1]].dims) == 2 else None

    def _replaced(self, node: Any, summed: dict[str, str]) -> list[Any]:
        if weight := self._weight_of(node):
            return self._product(node, weight, summed)
        if node.op_type == "Gather" and node.input[1] == "input_ids":
            return self._lookup(node)
        if node.op_type == experts.PLAIN:
            return [experts.rounded_experts(node, self._pieces, self._bits, self._add, self._add_pieces)]
        return [node]

    def _product(self, node: Any, weight: str, summed: dict[str, str]) -> list[Any]:
        inner, outer = self._weights[weight].dims
        if weight not in self._stored:  # the branches of a merged decoder share their weights
            self._stored[weight] = self._store(weight, self._rounded(node.name, weight))
            self._progress(msg("rounding weights"), min(1.0, len(self._stored) / self._total))
        stored, source = self._stored[weight], node.input[0]
        before: list[Any] = []
        if stored.mean_copies:
            inner += stored.mean_copies * (inner // QUANT_BLOCK)
            if source not in summed:
                before, summed[source] = means_beside(source, stored.mean_copies)
            source = summed[source]
        new = _operator(
            "MatMulNBits", node, [source, *stored.parts], K=inner, N=outer, bits=stored.bits, accuracy_level=4
        )
        return [*before, new]

    def _rounded(self, node: str, weight: str) -> Rounded:
        if weight == self._head and self._tied is not None:
            return self._tied
        matrix = self._array(weight)
        blocks = blocks_of(matrix)
        if self._bits == 8 or weight == self._head:
            return round8(blocks)
        # The sums stand behind what a product multiplies, which has an axis for a batch there.
        worth = self._sums is not None and matrix.size >= self._sums and node not in self._flat
        worth &= matrix.shape[0] % QUANT_BLOCK == 0
        rounded, exact = round4(blocks, worth)
        return round8(blocks) if node in self._finer and not exact else rounded

    def _lookup(self, node: Any) -> list[Any]:
        """The embedding in eight bits, row by row as the head has it: tied, they are the same bytes."""

        turned = self._turned.get(node.input[0])
        name = turned or node.input[0]
        if name not in self._weights:
            return [node]
        dims = self._weights[name].dims
        rows, width = reversed(dims) if turned else dims
        if rows < EMBEDDING_ROWS or width % QUANT_BLOCK:
            return [node]
        table = self._array(name)
        rounded = round8(blocks_of(table if turned else table.T))
        if name == self._head:
            self._tied = rounded
        name = f"{name}.table"
        parts = {
            "values": rounded.values.reshape(rows, width),
            "scales": rounded.scales,
            "zeros": np.full(rounded.scales.shape, 128, np.uint8),
        }
        for part, array in parts.items():
            self._add(f"{name}.{part}", array)
        inputs = [f"{name}.values", node.input[1], f"{name}.scales", f"{name}.zeros"]
        return [_operator("GatherBlockQuantized", node, inputs, bits=8, gather_axis=0, quantize_axis=1)]

    def _store(self, name: str, rounded: Rounded) -> _Stored:
        copies = 0
        if rounded.rest is not None:
            copies = mean_copies(rounded.scales.shape[1])
            rounded = rest_as_columns(rounded)
        pack = packed if rounded.bits == 4 else np.asarray
        parts = {"values": pack(rounded.values), "scales": rounded.scales}
        if rounded.zeros is not None:
            parts["zeros"] = pack(rounded.zeros)
        for part, array in parts.items():
            self._add(f"{name}.{part}", array)
        return _Stored(tuple(f"{name}.{part}" for part in parts), rounded.bits, copies)

    def _array(self, name: str) -> Array:
        return self._graph.array(self._weights[name])

    def _pieces(self, name: str) -> Iterator[Array]:
        return self._graph.pieces(self._weights[name])

    def _add(self, name: str, array: Array) -> None:
        self._rounded_ones.append(self._file.put(name, array))

    def _add_pieces(self, name: str, pieces: Iterable[Array]) -> None:
        self._rounded_ones.append(self._file.put_pieces(name, pieces))


def _operator(kind: str, instead_of: Any, inputs: list[str], **settings: int) -> Any:
    """A node over blocks of 32 in the place of another."""
    from onnx import helper

    return helper.make_node(
        kind,
        inputs,
        list(instead_of.output),
        instead_of.name,
        domain="com.microsoft",
        block_size=QUANT_BLOCK,
        **settings,
    )


def means_beside(source: str, copies: int) -> tuple[list[Any], str]:
    """Nodes that put the means of each 32 activations so many times behind the activations, and the name of what they
    give.
    """
    from onnx import helper

    means, both = f"{source}.means", f"{source}.with_means"
    # Read as one channel for each token, the pooling of an image's rows is the mean of each block: one operator, where
    # reshaping and reducing take two.
    pool = helper.make_node(
        "AveragePool", [source], [means], name=means, kernel_shape=[QUANT_BLOCK], strides=[QUANT_BLOCK]
    )
    return [pool, helper.make_node("Concat", [source, *[means] * copies], [both], name=both, axis=-1)], both


def sensitive(graph: Any) -> list[str]:
    """Names of the products that keep eight bits where the others get four.

    The head; what gives queries, keys and values, as far as the graph shows it (on Gemma 3 270M 0.07 instead of 0.17
    nats); and of those that bring a block's wide inner layer back to the model's width the first and the last eighth
    and every third between them. The last is llama.cpp's choice for Q4_K_M (``use_more_bits`` in llama-quant.cpp),
    found by shapes, because names differ from family to family.
    """
    products, narrowing, attention = [], [], []
    for part in graphs(graph):
        shapes = {each.name: tuple(each.dims) for each in (*graph.initializer, *part.initializer)}
        for node in part.node:
            if node.op_type == "MatMul" and len(shape := shapes.get(node.input[1], ())) == 2:
                products.append(node.name)
                if shape[0] > shape[1]:
                    narrowing.append(node.name)
        attention += feeding(part, "GroupQueryAttention", slice(3))
    eighth = len(narrowing) // 8
    finer = [
        name
        for place, name in enumerate(narrowing)
        if place < eighth or place >= len(narrowing) - max(1, eighth) or (place - eighth) % 3 == 2
    ]
    return [*finer, *attention, *products[-1:]]


def feeding(graph: Any, kind: str, inputs: slice) -> list[str]:
    """Names of the products whose results come to these inputs of operators of a kind, through norms, splits and such.

    ``GroupQueryAttention`` has queries, keys and values first.
    """
    makers = {name: node for node in graph.node for name in node.output}
    open_names = [name for node in graph.node if node.op_type == kind for name in node.input[inputs]]
    found: dict[str, None] = {}
    seen: set[str] = set()
    while open_names:
        name = open_names.pop()
        node = makers.get(name)
        if node is None or name in seen:
            continue
        seen.add(name)
        if node.op_type == "MatMul":
            found[node.name] = None
        else:
            open_names += node.input if node.op_type == "ScatterElements" else node.input[:1]
    return list(found)


def _used(graph: Any) -> set[str]:
    """Names that a node reads, or that a graph gives, here or inside."""
    used = {name for part in graphs(graph) for node in part.node for name in node.input}
    return used | {value.name for part in graphs(graph) for value in part.output}


def _drop_unused(graph: Any) -> None:
    """Forget weights that no node reads any more."""
    used = _used(graph)
    for initializer in [each for each in graph.initializer if each.name not in used]:
        graph.initializer.remove(initializer)


def worth_sums() -> int:
    """Weights a product must have for ``rest`` here: where there are kernels, any."""
    return WORTH_SUMS if building.obstacle() else 0


def bits_of(options: Mapping[str, str]) -> int | None:
    """What a recipe's options ask for."""
    return int(options["bits"]) if "bits" in options else None
