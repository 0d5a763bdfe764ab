"""Numbers that a network multiplies queries by and that depend on the position alone (Llama 4, Ministral 3): a table.

Traced, they are a dozen small nodes in each layer, between turning axes and attention. What they give for every
position there may be is computed once, and the product stands right before attention, over rows. So does a product with
one number for all positions (keys of Falcon H1). No family is named. The module knows graphs of ONNX.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from playground.export.quantization.weights import Array, Graph
from playground.export.recipes.origins import origin_of
from playground.export.recipes.projections import MOVES

POSITIONS = "position_ids"


@dataclass(frozen=True)
class Scaled:
    """An input of attention, by the name of what attention gives, that is to be multiplied.

    Attributes:
        part: Which of its inputs.
        numbers: fp32 ``[positions, 1]``; one number alone where it is that for all.
    """

    attention: str
    part: int
    numbers: Array


def lift(graph: Graph, positions: int) -> list[Scaled]:
    """Leave such products out, and say where they are missing now.

    Args:
        positions: How many there may be.
    """
    nodes = graph.model.graph.node
    makers = {name: node for node in nodes for name in node.output}
    readers: dict[str, list[Any]] = {}
    for node in nodes:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    weights = {each.name: each for each in graph.model.graph.initializer}
    found = []
    for node in [node for node in nodes if node.op_type == "GroupQueryAttention"]:
        for part in range(3):
            product = _product(makers, readers, node.input[part])
            if product is None:
                continue
            for source, factor in (product.input, reversed(product.input)):
                numbers = _one(graph, weights.get(factor))
                if numbers is None:
                    numbers = _of_positions(graph, makers, factor, positions)
                if numbers is not None:
                    found.append(Scaled(node.output[0], part, numbers))
                    for reader in readers[product.output[0]]:
                        reader.input[:] = [source if name == product.output[0] else name for name in reader.input]
                    nodes.remove(product)
                    break
    return found


def put(graph: Graph, scaled: list[Scaled]) -> None:
    """Multiply right before attention what ``lift`` has left out."""
    from onnx import helper, numpy_helper

    nodes = graph.model.graph.node
    tables: dict[bytes, str] = {}
    for each in scaled:
        content = each.numbers.tobytes()
        if content not in tables:
            name = tables[content] = f"by_position.{len(tables)}"
            table = f"{name}.table" if each.numbers.ndim else name
            graph.model.graph.initializer.append(numpy_helper.from_array(each.numbers, table))
            if table != name:
                nodes.insert(0, helper.make_node("Gather", [table, POSITIONS], [name], name, axis=0))
        place, node = next(pair for pair in enumerate(nodes) if each.attention in pair[1].output)
        name = f"{each.attention}.{each.part}.scaled"
        given = [node.input[each.part], tables[content]]
        node.input[each.part] = name
        nodes.insert(place, helper.make_node("Mul", given, [name], name))


def _product(makers: Mapping[str, Any], readers: Mapping[str, list[Any]], name: str) -> Any:
    """The product from which, in other shapes, comes what is called ``name``, and which nothing else reads."""
    moved = False
    while (node := makers.get(name)) is not None and len(readers[name]) == 1:
        if node.op_type == "Mul":
            return node if moved else None
        if node.op_type not in MOVES:
            return None
        name, moved = node.input[0], True
    return None


def _one(graph: Graph, weight: Any) -> Array | None:
    """The number that a constant is; None where it is none, or several."""
    if weight is None or any(size != 1 for size in weight.dims):
        return None
    number: Array = graph.array(weight).astype(np.float32).reshape(())
    return number


def _of_positions(graph: Graph, makers: Mapping[str, Any], name: str, positions: int) -> Array | None:
    """What ``name`` is for each position, ``[positions, 1]``; None where it depends on anything else."""
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    origin = origin_of(graph.model.graph, makers, name, {POSITIONS})
    if origin is None or not origin.given:
        return None
    inputs = [each for each in graph.model.graph.input if each.name == POSITIONS]
    made = [helper.make_tensor_value_info(name, 1, None)]
    part = helper.make_graph(origin.nodes, "scale", inputs, made, origin.constants)
    model = helper.make_model(part, opset_imports=list(graph.model.opset_import))
    try:
        (found,) = ReferenceEvaluator(model).run(None, {POSITIONS: np.arange(positions)[None]})
    except Exception:  # whatever the evaluator does not know stays as it is
        return None
    # Beside heads and their numbers, [batch, heads, tokens, size].
    if found.shape != (1, 1, positions, 1) or found.dtype != np.float32:
        return None
    numbers: Array = np.ascontiguousarray(found.reshape(positions, 1))
    return numbers
