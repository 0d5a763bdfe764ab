"""Fused projections taken apart: each part is a product of its own and gives the numbers that were picked out before.

Of graphs the smallest that show it; ONNX Runtime computes both.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from playground.export.quantization import graph as rounding
from playground.export.quantization.weights import Graph

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
projections = pytest.importorskip("playground.export.recipes.projections")

WIDTH, HEADS, KEYS, SIZE, TOKENS = 32, 4, 2, 16, 5
RNG = np.random.default_rng(3)


class Made:
    """A graph of one fused product and attention behind it."""

    def __init__(self, columns: int, bias: bool = False, turned: bool = False) -> None:
        self.nodes: list[Any] = []
        self.held: dict[str, Any] = {}
        shape = (columns, WIDTH) if turned else (WIDTH, columns)
        weight = self.constant(RNG.standard_normal(shape).astype(np.float32))
        if turned:
            weight = self.node("Transpose", weight, perm=[1, 0])
        self.fused = self.node("MatMul", "hidden", weight)
        self.shapes: dict[str, list[Any]] = {self.fused: [1, "tokens", columns]}
        if bias:
            self.fused = self.node("Add", self.fused, self.constant(RNG.standard_normal(columns).astype(np.float32)))

    def constant(self, array: Any) -> str:
        name = f"held{len(self.held)}"
        self.held[name] = np.asarray(array)
        return name

    def node(self, kind: str, *inputs: str, outputs: int = 1, domain: str = "", **settings: Any) -> Any:
        names = [f"{kind}{len(self.nodes)}.{each}" for each in range(outputs)]
        self.nodes.append(onnx.helper.make_node(kind, list(inputs), names, names[0], domain=domain, **settings))
        return names[0] if outputs == 1 else names

    def reshape(self, source: str, *shape: int) -> str:
        return str(self.node("Reshape", source, self.constant(np.array(shape))))

    def slice(self, source: str, start: int, end: int, axis: int) -> str:
        return str(self.node("Slice", source, *(self.constant(np.array([each])) for each in (start, end, axis))))

    def pick(self, source: str, place: int, axis: int) -> str:
        return str(self.node("Gather", source, self.constant(np.array(place)), axis=axis))

    def attention(self, query: str, key: str, value: str, keys: int = KEYS) -> Graph:
        lengths = [self.constant(np.array([[TOKENS - 1]], np.int32)), self.constant(np.array(TOKENS, np.int32))]
        past = ["past.key", "past.value"]
        out, *present = self.node(
            "GroupQueryAttention", query, key, value, *past, *lengths, outputs=3, domain="com.microsoft",
            num_heads=HEADS, kv_num_heads=keys,
        )  # fmt: skip
        inputs = [onnx.helper.make_tensor_value_info("hidden", 1, [1, "tokens", WIDTH])]
        inputs += [onnx.helper.make_tensor_value_info(each, 1, [1, keys, "past", SIZE]) for each in past]
        outputs = [onnx.helper.make_tensor_value_info(out, 1, None)]
        outputs += [onnx.helper.make_tensor_value_info(each, 1, [1, keys, "all", SIZE]) for each in present]
        held = [onnx.numpy_helper.from_array(array, name) for name, array in self.held.items()]
        known = [onnx.helper.make_tensor_value_info(name, 1, shape) for name, shape in self.shapes.items()]
        whole = onnx.helper.make_graph(self.nodes, "attention", inputs, outputs, held, value_info=known)
        opsets = [onnx.helper.make_opsetid("", 21), onnx.helper.make_opsetid("com.microsoft", 1)]
        return Graph(onnx.helper.make_model(whole, opset_imports=opsets, ir_version=10), Path())


def sliced() -> Graph:
    """One head of keys and values behind those of queries, picked by slices and turned axes (Falcon)."""
    made = Made((HEADS + 2 * KEYS) * SIZE)
    heads = made.reshape(made.fused, 1, -1, HEADS + 2 * KEYS, SIZE)
    parts = []
    for start, count in ((0, HEADS), (HEADS, KEYS), (HEADS + KEYS, KEYS)):
        turned = made.node("Transpose", made.slice(heads, start, start + count, -2), perm=[0, 2, 1, 3])
        parts.append(made.reshape(made.node("Transpose", turned, perm=[0, 2, 1, 3]), 1, -1, count * SIZE))
    return made.attention(*parts)


def by_turns() -> Graph:
    """Of each group two queries, a key and a value, one behind the other; with biases, the weight stored turned."""
    made = Made((HEADS + 2 * KEYS) * SIZE, bias=True, turned=True)
    groups = made.reshape(made.fused, 1, -1, KEYS, 4, SIZE)
    query = made.reshape(made.slice(groups, 0, 2, 3), 1, -1, HEADS * SIZE)
    key, value = (made.reshape(made.pick(groups, place, 3), 1, -1, KEYS * SIZE) for place in (2, 3))
    return made.attention(query, key, value)


def plain() -> Graph:
    made = Made((HEADS + 2 * KEYS) * SIZE)
    ends = made.constant(np.array([HEADS * SIZE, KEYS * SIZE, KEYS * SIZE]))
    return made.attention(*made.node("Split", made.fused, ends, outputs=3, axis=-1))


def computed(model: Any) -> Any:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    hidden = np.random.default_rng(5).standard_normal((1, TOKENS, WIDTH)).astype(np.float32)
    past = {each.name: np.zeros((1, each.shape[1], 0, SIZE), np.float32) for each in session.get_inputs()[1:]}
    return session.run(None, {"hidden": hidden, **past})[0]


@pytest.mark.parametrize("make", [sliced, by_turns, plain], ids=lambda each: each.__name__)
def test_each_part_is_a_product_and_gives_the_same(make: Any, tmp_path: Path) -> None:
    found = make()
    expected = computed(found.model)
    projections.take_apart(found)
    rounding.rewrite(found, tmp_path / "model.onnx", None, lambda *_: None)
    model = onnx.load(tmp_path / "model.onnx")
    kinds = Counter(node.op_type for node in model.graph.node)
    assert kinds["MatMul"] == 3
    assert not {"Slice", "Reshape", "Gather", "Split"} & kinds.keys()
    assert np.allclose(computed(model), expected, atol=1e-5)


def repeated(keys: tuple[int, ...], values: tuple[int, ...]) -> Graph:
    """Two groups of two queries, a key and a value; which of both heads of keys, and of values, attention is given."""
    made = Made(2 * 4 * SIZE)
    groups = made.reshape(made.fused, 1, -1, 2, 4, SIZE)
    query = made.reshape(made.slice(groups, 0, 2, 3), 1, -1, HEADS * SIZE)
    parts = [
        made.reshape(
            made.node("Gather", made.pick(groups, place, 3), made.constant(np.array(order)), axis=2),
            1,
            -1,
            len(order) * SIZE,
        )
        for place, order in ((2, keys), (3, values))
    ]
    return made.attention(query, *parts, keys=len(keys))


@pytest.mark.parametrize(
    ("keys", "values", "heads", "products"),
    [
        ((0, 0, 1, 1), (0, 0, 1, 1), 2, 3),
        ((1, 1, 1, 1), (0, 0, 0, 0), 1, 3),
        ((1, 1, 0, 0), (0, 0, 1, 1), 2, 3),
        ((0, 0, 0, 0), (0, 0, 1, 1), 4, 1),
        ((0, 1, 0, 1), (0, 1, 0, 1), 4, 1),
        ((0, 0, 1, 1), (0, 1, 0, 1), 4, 1),
        ((0, 0), (0, 1), 2, 2),
    ],
)
def test_heads_that_stand_there_for_several_queries_are_computed_and_kept_once(
    keys: tuple[int, ...], values: tuple[int, ...], heads: int, products: int, tmp_path: Path
) -> None:
    found = repeated(keys, values)
    expected = computed(found.model)
    projections.take_apart(found)
    rounding.rewrite(found, tmp_path / "model.onnx", None, lambda *_: None)
    model = onnx.load(tmp_path / "model.onnx")
    (attention,) = (node for node in model.graph.node if node.op_type == "GroupQueryAttention")
    assert {each.name: each.i for each in attention.attribute}["kv_num_heads"] == heads
    assert sum(".product" in node.output[0] for node in model.graph.node) == products
    for value in (*model.graph.input[1:], *model.graph.output[1:]):
        assert value.type.tensor_type.shape.dim[1].dim_value == heads
    assert np.allclose(computed(model), expected, atol=1e-5)


def left_alone(make: Any) -> bool:
    found = make()
    before = found.model.SerializeToString()
    projections.take_apart(found)
    return bool(found.model.SerializeToString() == before)


def computed_between() -> Graph:
    """Something is computed of the columns before they come to attention."""
    made = Made((HEADS + 2 * KEYS) * SIZE)
    tanh = made.node("Tanh", made.fused)
    ends = made.constant(np.array([HEADS * SIZE, KEYS * SIZE, KEYS * SIZE]))
    return made.attention(*made.node("Split", tanh, ends, outputs=3, axis=-1))


def products_already() -> Graph:
    made = Made(HEADS * SIZE)
    others = [
        str(made.node("MatMul", "hidden", made.constant(RNG.standard_normal((WIDTH, KEYS * SIZE)).astype(np.float32))))
        for _ in range(2)
    ]
    return made.attention(made.reshape(made.fused, 1, -1, HEADS * SIZE), *others)


def gated(shape: tuple[int, ...] = (1, -1, HEADS, SIZE), bias: bool = False) -> tuple[Made, str, str]:
    """Of each head queries, which are normed, and a gate, with which attention is multiplied (Qwen 3.5)."""
    made = Made(2 * HEADS * SIZE, bias=bias)
    heads = made.reshape(made.fused, 1, -1, HEADS, 2 * SIZE)
    query, gate = made.node("Split", heads, outputs=2, axis=3, num_outputs=2)
    weight = made.constant(RNG.standard_normal(SIZE).astype(np.float32))
    query = made.node("LpNormalization", made.reshape(query, *shape), axis=-1)
    query = made.reshape(made.node("Mul", query, weight), 1, -1, HEADS * SIZE)
    return made, query, made.reshape(gate, 1, -1, HEADS * SIZE)


def attended(made: Made, query: str, gate: str) -> Graph:
    others = [
        str(made.node("MatMul", "hidden", made.constant(RNG.standard_normal((WIDTH, KEYS * SIZE)).astype(np.float32))))
        for _ in range(2)
    ]
    by = made.node("Sigmoid", gate)
    # Whoever multiplies with the gate itself reads the same product.
    return made.attention(made.node("Mul", query, made.node("Mul", gate, by)), *others)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(1, -1, HEADS, SIZE), (-1, SIZE)], ids=["heads", "rows"])
def test_what_is_normed_and_what_is_a_gate_are_products_of_their_own(
    shape: tuple[int, ...], bias: bool, tmp_path: Path
) -> None:
    found = attended(*gated(shape, bias))
    expected = computed(found.model)
    projections.take_apart(found)
    rounding.rewrite(found, tmp_path / "model.onnx", None, lambda *_: None)
    model = onnx.load(tmp_path / "model.onnx")
    kinds = Counter(node.op_type for node in model.graph.node)
    assert kinds["MatMul"] == 4 and not {"Split", "Slice"} & kinds.keys()
    assert np.allclose(computed(model), expected, atol=1e-5)


def gate_beside_all() -> Graph:
    """What is a gate is a part of what something else is computed of."""
    made, query, gate = gated()
    return attended(made, query, made.node("Add", gate, made.slice(made.fused, HEADS * SIZE, 2 * HEADS * SIZE, 2)))


def gate_of_all() -> Graph:
    """All of the product is read as it is, too."""
    made, query, gate = gated()
    whole = made.node("Tanh", made.fused)
    return attended(made, query, made.node("Add", gate, made.slice(whole, 0, HEADS * SIZE, 2)))


def gate_behind_the_rest() -> Graph:
    """Both parts are pieces of a row, which nobody has to sort."""
    made = Made(2 * HEADS * SIZE)
    query, gate = made.node("Split", made.fused, outputs=2, axis=2, num_outputs=2)
    query = made.node("LpNormalization", made.reshape(query, 1, -1, HEADS, SIZE), axis=-1)
    return attended(made, made.reshape(query, 1, -1, HEADS * SIZE), gate)


def bias_of_one_number() -> Graph:
    made = Made(2 * HEADS * SIZE)
    made.fused = made.node("Add", made.fused, made.constant(np.ones(1, np.float32)))
    heads = made.reshape(made.fused, 1, -1, HEADS, 2 * SIZE)
    query, gate = made.node("Split", heads, outputs=2, axis=3, num_outputs=2)
    return attended(made, *(made.reshape(each, 1, -1, HEADS * SIZE) for each in (query, gate)))


def products_of_heads() -> Graph:
    """What is multiplied are the heads of a row, each by itself: the last axis but one is no token."""
    made = Made(2 * HEADS * SIZE)
    weight = made.constant(RNG.standard_normal((2 * SIZE, 2 * SIZE)).astype(np.float32))
    heads = made.node("MatMul", made.reshape(made.fused, 1, -1, HEADS, 2 * SIZE), weight)
    made.shapes[heads] = [1, "tokens", HEADS, 2 * SIZE]
    parts = (made.slice(heads, start, start + SIZE, 3) for start in (0, SIZE))
    return attended(made, *(made.reshape(each, 1, -1, HEADS * SIZE) for each in parts))


def so_many_tokens() -> Graph:
    """Cut at a number of tokens that is written down."""
    made = Made(2 * HEADS * SIZE)
    heads = made.reshape(made.fused, 1, TOKENS, HEADS, 2 * SIZE)
    query, gate = made.node("Split", heads, outputs=2, axis=3, num_outputs=2)
    return attended(made, *(made.reshape(each, 1, -1, HEADS * SIZE) for each in (query, gate)))


def gate_that_is_given_out() -> Graph:
    """What somebody outside reads stays as it is."""
    made, query, gate = gated()
    found = attended(made, query, gate)
    found.model.graph.output.append(onnx.helper.make_tensor_value_info(gate, 1, [1, "tokens", HEADS * SIZE]))
    return found


def of_unknown_shape() -> Graph:
    made, query, gate = gated()
    made.shapes.clear()
    return attended(made, query, gate)


@pytest.mark.parametrize(
    "make",
    [
        *(computed_between, products_already, gate_beside_all, gate_of_all, gate_behind_the_rest, bias_of_one_number),
        *(products_of_heads, so_many_tokens, gate_that_is_given_out, of_unknown_shape),
    ],
    ids=lambda each: each.__name__,
)
def test_others_stay_as_they_are(make: Any) -> None:
    computed(make().model)  # it is a graph
    assert left_alone(make)
