"""Right graphs made wrong at random: attributes, shapes, types, names, constants, splits and edges.

A mutation is drawn from a ``random.Random``, so a seed and a number name a graph for good. What is wrong with the
result, or whether anything is, nobody knows beforehand.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

ODD = (
    *(-(2**63), -(2**32) - 5, -(2**31) - 1, -(2**31), -65, -33, -2, -1, 0, 1, 2, 3, 15, 16, 17, 31, 32, 33, 48, 49),
    *(63, 64, 65, 1024, 1040, 2**15, 2**16 + 1, 2**31 - 32, 2**31 - 1, 2**31, 2**31 + 5, 2**32, 2**32 + 64, 2**63 - 1),
)
"""Whole numbers at which sizes go wrong."""
REAL = (0.0, -1.0, 1e-45, 3e38, float("inf"), float("-inf"), float("nan"))
ENDINGS = ("", ".with_means", ".with_means", ".means", "_0")
"""What readers have been known to make of a name."""

Draw = random.Random


def mutate(model: Any, draw: Draw) -> list[str]:
    """Change ``model`` in place, once to three times; what was done, in words."""
    done = []
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        change = draw.choice(CHANGES)
        done.append(f"{change.__name__}: {change(model.graph, draw)}")
    return done


def attribute(graph: Any, draw: Draw) -> str:
    """Another value of an attribute, of the same type."""
    node = draw.choice([each for each in graph.node if each.attribute])
    chosen = draw.choice(list(node.attribute))
    value = helper.get_attribute_value(chosen)
    new: Any = None
    if isinstance(value, bool | int):
        new = draw.choice((*ODD, value + 1, value - 1, value * 2, value // 2, -value))
    elif isinstance(value, float):
        new = draw.choice(REAL)
    elif isinstance(value, list) and value and isinstance(value[0], int):
        new = list(value)
        new[draw.randrange(len(new))] = draw.choice(ODD)
    if new is None:
        return "nothing"
    new = max(-(2**63), min(2**63 - 1, new)) if isinstance(new, int) else new
    node.attribute.remove(chosen)
    node.attribute.append(helper.make_attribute(chosen.name, new))
    return f"{node.name} {chosen.name} {new}"


def no_attribute(graph: Any, draw: Draw) -> str:
    """One attribute less."""
    node = draw.choice([each for each in graph.node if each.attribute])
    chosen = draw.choice(list(node.attribute))
    said = f"{node.name} {chosen.name}"
    node.attribute.remove(chosen)
    return said


def attention(graph: Any, draw: Draw) -> str:
    """An attribute of attention, where most sizes are."""
    node = draw.choice([each for each in graph.node if each.op_type == "GroupQueryAttention"])
    sizes = ("local_window_size", "num_heads", "kv_num_heads")
    name = draw.choice((*sizes, "local_window_size", "do_rotary", "rotary_interleaved"))
    for each in [each for each in node.attribute if each.name == name]:
        node.attribute.remove(each)
    value = draw.choice((*ODD, 2**31, 2**31 + 5))
    node.attribute.append(helper.make_attribute(name, value))
    return f"{node.name} {name} {value}"


def product(graph: Any, draw: Draw) -> str:
    """A size of a product, with constants to match or without."""
    nodes = [each for each in graph.node if each.op_type == "MatMulNBits"]
    node = draw.choice(nodes) if draw.random() < 0.6 else nodes[-1]
    sizes = {each.name: each for each in node.attribute if each.name in ("K", "N", "bits")}
    if len(sizes) < 3:
        return "nothing"
    name = draw.choice(("K", "N", "N", "bits"))
    old = sizes[name].i
    sizes[name].i = value = draw.choice((*ODD, *(-1,) * 9, old - 1, old + 1, old + 32, old - 32, old // 2))
    rows, columns, bits = (sizes[each].i for each in ("N", "K", "bits"))
    said = f"{node.name} {name} {value}"
    if draw.random() < 0.5 or bits not in (4, 8) or not 0 < rows < 2**10 or not 0 < columns < 2**10:
        return said
    blocks = -(-columns // 32)
    for place, whole in ((1, np.ones((rows, blocks, 4 * bits), np.uint8)), (2, np.ones((rows, blocks), np.float32))):
        _constant(graph, node.input[place]).CopyFrom(numpy_helper.from_array(whole, node.input[place]))
    return f"{said} with weights"


def shape(graph: Any, draw: Draw) -> str:
    """Other dimensions of a constant, whose bytes stay as they are."""
    tensor = draw.choice(list(graph.initializer))
    if not tensor.dims:
        tensor.dims.append(draw.choice(ODD))
    elif draw.random() < 0.3:
        dims = list(tensor.dims)
        del tensor.dims[:]
        tensor.dims.extend(draw.sample(dims, len(dims)))
    else:
        place = draw.randrange(len(tensor.dims))
        value = tensor.dims[place]
        tensor.dims[place] = draw.choice((*ODD, value + 1, value - 1, value * 2, value // 2))
    return f"{tensor.name} {list(tensor.dims)}"


def cut(graph: Any, draw: Draw) -> str:
    """A constant with fewer or more rows or columns, shape and bytes alike."""
    tensor = draw.choice([each for each in graph.initializer if each.dims])
    array = _array(tensor)
    if array is None or not array.ndim:
        return "nothing"
    axis, size = draw.randrange(array.ndim), draw.choice((0, 1, 2, array.shape[draw.randrange(array.ndim)], 33))
    array = np.resize(array, (*array.shape[:axis], size, *array.shape[axis + 1 :])) if size else array.take([], axis)
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), tensor.name))
    return f"{tensor.name} {array.shape}"


def kind(graph: Any, draw: Draw) -> str:
    """A constant of another type."""
    tensor = draw.choice(list(graph.initializer))
    array = _array(tensor)
    if array is None or draw.random() < 0.3:
        tensor.data_type = draw.choice(range(1, 24))
        return f"{tensor.name} called {tensor.data_type}"
    new = draw.choice((np.uint8, np.int8, np.float16, np.float32, np.float64, np.int32, np.int64))
    with np.errstate(all="ignore"):
        tensor.CopyFrom(numpy_helper.from_array(array.astype(new), tensor.name))
    return f"{tensor.name} {np.dtype(new)}"


def content(graph: Any, draw: Draw) -> str:
    """Other numbers in a constant."""
    small = [each for each in graph.initializer if np.prod(each.dims, dtype=float) <= 8]
    tensor = draw.choice(small if draw.random() < 0.6 else list(graph.initializer))
    array = _array(tensor)
    if array is None or not array.size:
        return "nothing"
    array = array.copy()
    values: Any = REAL if array.dtype.kind == "f" else ODD
    with np.errstate(all="ignore"):
        flat = array.reshape(-1)
        for _ in range(draw.choice((1, 1, flat.size))):
            flat[draw.randrange(flat.size)] = np.array(draw.choice(values)).astype(array.dtype)
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return f"{tensor.name} {flat[:4]}"


def split(graph: Any, draw: Draw) -> str:
    """Other sizes of a split, or one more, which still add up or don't."""
    splits = [each for each in graph.node if each.op_type == "Split"]
    if not splits:
        return "there is none"
    node = draw.choice(splits)
    old = _array(_constant(graph, node.input[1])) if len(node.input) > 1 else None
    sizes = [64] * len(node.output) if old is None or old.ndim != 1 else [int(size) for size in old]
    by = draw.choice((*ODD, 8, 100, -100))
    place, other = draw.randrange(len(sizes)), draw.randrange(len(sizes))
    if draw.random() < 0.5:
        sizes.insert(place, by)
        node.output.insert(min(place, len(node.output)), f"more{len(graph.initializer)}")
    else:
        sizes[place] += by
    sizes[other] -= by if draw.random() < 0.5 else 0
    sizes = [max(-(2**63), min(2**63 - 1, size)) for size in sizes]
    graph.initializer.append(numpy_helper.from_array(np.array(sizes, np.int64), f"sizes{len(graph.initializer)}"))
    node.input[:] = [node.input[0], graph.initializer[-1].name]
    return f"{node.name} {sizes}"


def outside(graph: Any, draw: Draw) -> str:
    """A constant somewhere else."""
    tensor = draw.choice(list(graph.initializer))
    tensor.data_location = TensorProto.EXTERNAL
    if not tensor.external_data:
        tensor.ClearField("raw_data")
    key = draw.choice(("location", "offset", "length"))
    name = draw.choice(("model.onnx.data", "model.onnx.data", "model.onnx", "../model.onnx.data", "none.data", ""))
    value = name if key == "location" else str(draw.choice((*ODD, 64, 4096)))
    for each in [each for each in tensor.external_data if each.key == key]:
        tensor.external_data.remove(each)
    tensor.external_data.add(key=key, value=value)
    if key != "location" and not any(each.key == "location" for each in tensor.external_data):
        tensor.external_data.add(key="location", value="model.onnx.data")
    return f"{tensor.name} {key} {value}"


def name(graph: Any, draw: Draw) -> str:
    """Another name for a value, and for all who read it: one that is taken, or what a reader might make of one."""
    taken = [*_made(graph), *(each.name for each in graph.initializer), *(each.name for each in graph.input), ""]
    old, new = draw.choice(_made(graph)), draw.choice(taken)
    if draw.random() < 0.7:  # what two operators of a kind read, one behind the other
        kind = draw.choice(("MatMulNBits", draw.choice([each for each in graph.node if each.input]).op_type))
        read = list(dict.fromkeys(each.input[0] for each in graph.node if each.op_type == kind and each.input)) or [old]
        place = draw.randrange(len(read))
        old, new = read[(place + 1) % len(read)] or old, read[place]
    new += draw.choice(ENDINGS)
    keep = draw.random() < 0.2
    for node in graph.node:
        node.output[:] = [new if each == old else each for each in node.output]
        if not keep:
            node.input[:] = [new if each == old else each for each in node.input]
    return f"{old} -> {new}"


def edge(graph: Any, draw: Draw) -> str:
    """An input from somewhere else, or from nowhere."""
    node = draw.choice([each for each in graph.node if each.input])
    place = draw.randrange(len(node.input))
    others = [*_made(graph), *(each.name for each in graph.initializer), "input_ids", "attention_mask", ""]
    node.input[place] = new = draw.choice(others)
    return f"{node.name} {place} {new}"


def between(graph: Any, draw: Draw) -> str:
    """A node between a value and one who reads it."""
    index, node = draw.choice([pair for pair in enumerate(graph.node) if pair[1].input])
    place = draw.randrange(len(node.input))
    source, made = node.input[place], f"between{len(graph.node)}"
    if draw.random() < 0.5:
        graph.initializer.append(numpy_helper.from_array(np.array([-1], np.int64), f"{made}.last"))
        new = helper.make_node("Gather", [source, f"{made}.last"], [made], made, axis=1)
    else:
        new = helper.make_node(
            draw.choice(("Relu", "Sigmoid", "Squeeze", "Transpose", "FastGelu")), [source], [made], made
        )
    node.input[place] = made
    graph.node.insert(index, new)
    return f"{new.op_type} before {node.name} {place}"


def order(graph: Any, draw: Draw) -> str:
    """A node fewer, or two that changed places, or one that is another operator."""
    first, second = draw.randrange(len(graph.node)), draw.randrange(len(graph.node))
    nodes = list(graph.node)
    way = draw.choice(("fewer", "places", "operator", "twice"))
    if way == "fewer":
        del nodes[first]
    elif way == "places":
        nodes[first], nodes[second] = nodes[second], nodes[first]
    elif way == "twice":
        nodes.insert(second, nodes[first])
    else:
        nodes[first].op_type = draw.choice(nodes).op_type
    said = f"{way} {graph.node[first].name} {graph.node[second].name}"
    copies = []
    for node in nodes:
        copies.append(type(node)())
        copies[-1].CopyFrom(node)
    del graph.node[:]
    graph.node.extend(copies)
    return said


CHANGES: tuple[Callable[[Any, Draw], str], ...] = (
    *(
        attribute,
        no_attribute,
        attention,
        product,
        shape,
        cut,
        kind,
        content,
        split,
        outside,
        name,
        edge,
        between,
        order,
    ),
    *(attention, product, split, name, edge, between),  # where faults were
)


def _made(graph: Any) -> list[str]:
    return [each for node in graph.node for each in node.output if each]


def _constant(graph: Any, name: str) -> Any:
    return next((each for each in graph.initializer if each.name == name), TensorProto())


def _array(tensor: Any) -> Any:
    """What it holds, as far as it is in the graph and can still be read."""
    if tensor.data_location == TensorProto.EXTERNAL:
        return None
    try:
        return numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError, IndexError, OSError, OverflowError, MemoryError):
        return None
