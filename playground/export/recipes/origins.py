"""What a value of a graph is made of. The module knows graphs of ONNX; what is asked of them is not its business."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Origin:
    """Attributes:
    nodes: What computes the value, in the graph's order.
    constants: Initializers that they read.
    given: Which of the names that were given they start from.
    """

    nodes: list[Any]
    constants: list[Any]
    given: frozenset[str]


def origin_of(
    graph: Any, makers: Mapping[str, Any], name: str, given: Collection[str], kinds: Collection[str] | None = None
) -> Origin | None:
    """How ``name`` comes about from constants and what is ``given``.

    Args:
        graph: A ``GraphProto``.
        makers: Its nodes by the names of their outputs.
        kinds: Operators that may take part; None for all.

    Returns:
        None where something else takes part.
    """
    weights = {each.name: each for each in graph.initializer}
    needed, constants, open_names, asked = [], [], [name], set[str]()
    while open_names:
        each = open_names.pop()
        if not each or each in asked:
            continue
        asked.add(each)
        if each in given:
            continue
        if each in weights:
            constants.append(weights[each])
            continue
        node = makers.get(each)
        if node is None or (kinds is not None and node.op_type not in kinds):
            return None
        needed.append(node)
        open_names += node.input
    order = {id(node): place for place, node in enumerate(graph.node)}
    nodes = sorted({id(node): node for node in needed}.values(), key=lambda node: order[id(node)])
    return Origin(nodes, constants, frozenset(asked & set(given)))
