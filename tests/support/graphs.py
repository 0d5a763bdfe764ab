"""Decoder graphs of every layout, small enough for the quick suite, and the same arithmetic in numpy.

Two layers of causal attention over an embedding; what differs is how the cache goes in and out, which is what the
runtime has to read from a graph.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

VOCAB, HEADS, HEAD, LAYERS, CONTEXT = 384, 2, 8, 2, 700
WIDTH = HEADS * HEAD
CONFIG = {"model_type": "llama", "hidden_size": WIDTH, "num_attention_heads": HEADS, "vocab_size": VOCAB}

Array = NDArray[Any]


@dataclass(frozen=True)
class Layout:
    """How one exporter writes a decoder.

    Attributes:
        cache: shared (GroupQueryAttention), heads ([1, heads, past, size]), folded (as BLOOM once: heads in the batch,
            keys transposed), joined (keys and values in one tensor) or none.
        masks_parts: False for a graph that was traced with one new token: several tokens behind a past see each other.
        state: Also carries a state of fixed size, as convolutions do.
        open_sizes: Leaves heads and vocabulary to config.json.
    """

    cache: str = "heads"
    positions: bool = True
    mask: bool = True
    merged: bool = False
    masks_parts: bool = True
    last_only: bool = False
    state: bool = False
    half: bool = False
    open_sizes: bool = False
    one_token: bool = False
    extra: str = ""


def weights() -> dict[str, Array]:
    """Random weights, always the same."""
    random = np.random.default_rng(5)
    shapes = {"embedding": (VOCAB, WIDTH), "position": (CONTEXT, WIDTH), "head": (WIDTH, VOCAB)}
    for layer in range(LAYERS):
        shapes |= {f"{name}{layer}": (WIDTH, WIDTH) for name in ("q", "k", "v")}
    return {name: random.normal(0, 0.4, shape).astype(np.float32) for name, shape in shapes.items()}


def reference(ids: Sequence[int], layout: Layout) -> Array:
    """Logits ``[len(ids), VOCAB]``, all computed at once."""
    w, n = weights(), len(ids)
    x = w["embedding"][list(ids)]
    if layout.positions:
        x = x + w["position"][:n]
    if layout.state:
        x = x + 0.01 * np.cumsum(x, axis=0)
    for layer in range(LAYERS):
        q, k, v = ((x @ w[f"{name}{layer}"]).reshape(n, HEADS, HEAD).swapaxes(0, 1) for name in ("q", "k", "v"))
        scores = q @ k.swapaxes(1, 2) / np.sqrt(HEAD)
        scores = np.where(np.tri(n, dtype=bool), scores, -1e9)
        share = np.exp(scores - scores.max(-1, keepdims=True))
        share /= share.sum(-1, keepdims=True)
        x = x + (share @ v).swapaxes(0, 1).reshape(n, WIDTH)
    result: Array = x @ w["head"]
    return result


def write_graph(folder: Path, layout: Layout, name: str = "model.onnx", **config: object) -> Path:
    """The graph and its config.json in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    model = _Builder(layout).model()
    onnx.checker.check_model(model)
    (folder / name).write_bytes(model.SerializeToString())
    (folder / "config.json").write_text(json.dumps(CONFIG | config))
    return folder


class _Builder:
    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.float = TensorProto.FLOAT16 if layout.half else TensorProto.FLOAT
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.constants: dict[str, Array] = {}
        self.made = 0

    def model(self) -> onnx.ModelProto:
        x = self.embedded()
        for layer in range(LAYERS):
            attended = self.shared(x, layer) if self.layout.cache == "shared" else self.attention(x, layer)
            x = self.node("Add", x, attended)
        if self.layout.last_only:
            x = self.node("Gather", x, self.constant(np.array([-1])), axis=1)
        logits = self.node("MatMul", x, self.weight("head"))
        if self.layout.merged:
            logits = self.node("Add", logits, self.lies_about_the_past)
        self.node("Identity", logits, to="logits")
        rows = 1 if self.layout.last_only else "sequence_length"
        vocab = "vocab_size" if self.layout.open_sizes else VOCAB
        self.output("logits", ["batch_size", rows, vocab])
        tensors = [numpy_helper.from_array(array, name) for name, array in self.constants.items()]
        graph = helper.make_graph(self.nodes, "decoder", self.inputs, self.outputs, tensors)
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)

    # -- parts of the model -----------------------------------------------------------------------------------------

    def embedded(self) -> str:
        tokens: list[int | str] = ["batch_size", 1 if self.layout.one_token else "sequence_length"]
        self.input("input_ids", tokens, TensorProto.INT64)
        x = self.node("Gather", self.weight("embedding"), "input_ids")
        if self.layout.positions:
            self.input("position_ids", tokens, TensorProto.INT64)
            x = self.node("Add", x, self.node("Gather", self.weight("position"), "position_ids"))
        if self.layout.mask or self.layout.cache == "shared":
            self.input("attention_mask", ["batch_size", "total_sequence_length"], TensorProto.INT64)
        if self.layout.merged:
            self.input("use_cache_branch", [1], TensorProto.BOOL)
        if self.layout.extra:
            self.input(self.layout.extra, [1], TensorProto.FLOAT)
        if self.layout.state:
            self.input("past_key_values.7.conv", ["batch_size", WIDTH], self.float)
            past = self.node("Unsqueeze", "past_key_values.7.conv", self.constant(np.array([1])))
            sums = self.node("Add", self.node("CumSum", x, self.constant(np.array(1))), past)
            self.node("Gather", sums, self.constant(np.array(-1)), axis=1, to="present.7.conv")
            self.output("present.7.conv", ["batch_size", WIDTH])
            x = self.node("Add", x, self.node("Mul", sums, self.number(0.01)))
        return x

    def shared(self, x: str, layer: int) -> str:
        q, k, v = (self.node("MatMul", x, self.weight(f"{name}{layer}")) for name in ("q", "k", "v"))
        ones = self.node("ReduceSum", "attention_mask", self.constant(np.array([1])), keepdims=0)
        last = self.cast(self.node("Sub", ones, self.constant(np.array([1]))), TensorProto.INT32)
        total = self.cast(self.size("attention_mask", 1), TensorProto.INT32)
        shape = ["batch_size", HEADS, "past_sequence_length", "kv_cache_dim" if self.layout.open_sizes else HEAD]
        names = [self.cache(layer, part, shape) for part in ("key", "value")]
        out = self.fresh()
        self.nodes.append(
            helper.make_node(
                "GroupQueryAttention",
                [q, k, v, *(past for past, _ in names), last, total],
                [out, *(present for _, present in names)],
                domain="com.microsoft",
                num_heads=HEADS,
                kv_num_heads=HEADS,
            )
        )
        return out

    def attention(self, x: str, layer: int) -> str:
        q, k, v = (self.heads(self.node("MatMul", x, self.weight(f"{name}{layer}"))) for name in ("q", "k", "v"))
        k, v = self.with_past(k, v, layer)
        scores = self.node("MatMul", q, self.node("Transpose", k, perm=[0, 1, 3, 2]))
        scores = self.node("Mul", scores, self.number(HEAD**-0.5))
        scores = self.node("Where", self.visible(k), scores, self.number(-1e4))
        if self.layout.mask:
            mask = self.node("Sub", self.cast("attention_mask", self.float), self.number(1))
            mask = self.node("Unsqueeze", self.node("Mul", mask, self.number(1e4)), self.constant(np.array([1, 2])))
            scores = self.node("Add", scores, mask)
        mixed = self.node("MatMul", self.node("Softmax", scores, axis=-1), v)
        mixed = self.node("Transpose", mixed, perm=[0, 2, 1, 3])
        return self.node("Reshape", mixed, self.constant(np.array([0, 0, WIDTH])))

    def heads(self, x: str) -> str:
        split = self.node("Reshape", x, self.constant(np.array([0, 0, HEADS, HEAD])))
        return self.node("Transpose", split, perm=[0, 2, 1, 3])

    def with_past(self, k: str, v: str, layer: int) -> tuple[str, str]:
        """Keys and values ``[1, HEADS, past + new, HEAD]``; past and present in the layout's form."""
        if self.layout.cache == "none":
            return k, v
        if self.layout.cache == "joined":
            past, present = self.cache(layer, "key_value", ["batch_size", HEADS, "past_sequence_length", 2 * HEAD])
            self.node("Concat", past, self.node("Concat", k, v, axis=3), axis=2, to=present)
            halves = [self.fresh(), self.fresh()]
            self.nodes.append(helper.make_node("Split", [present], halves, axis=3))
            return halves[0], halves[1]
        if self.layout.cache == "folded":
            return self.folded(k, "key", layer), self.folded(v, "value", layer)
        heads = "num_heads" if self.layout.open_sizes else HEADS
        shape: list[int | str] = ["batch_size", heads, "past_sequence_length", HEAD]
        found = []
        for part, new in (("key", k), ("value", v)):
            past, present = self.cache(layer, part, shape)
            if self.layout.merged:  # without the branch for a past, what is fed as one does not count
                most = self.node(
                    "Mul", self.cast("use_cache_branch", TensorProto.INT64), self.constant(np.array([9999]))
                )
                zero, axis = self.constant(np.array([0])), self.constant(np.array([2]))
                past = self.node("Slice", past, zero, most, axis)
            found.append(self.node("Concat", past, new, axis=2, to=present))
        return found[0], found[1]

    def folded(self, new: str, part: str, layer: int) -> str:
        is_key = part == "key"
        shape = [HEAD, "past_sequence_length"] if is_key else ["past_sequence_length", HEAD]
        past, present = self.cache(layer, part, ["batch_size x num_heads", *shape])
        new = self.node("Squeeze", new, self.constant(np.array([0])))
        new = self.node("Transpose", new, perm=[0, 2, 1]) if is_key else new
        whole = self.node("Concat", past, new, axis=2 if is_key else 1, to=present)
        whole = self.node("Transpose", whole, perm=[0, 2, 1]) if is_key else whole
        return self.node("Unsqueeze", whole, self.constant(np.array([0])))

    def visible(self, k: str) -> str:
        total, new = self.size(k, 2), self.size("input_ids", 1)
        zero, one = self.constant(np.array(0)), self.constant(np.array(1))
        past = self.node("Sub", total, new)
        columns = self.node("Unsqueeze", self.node("Range", zero, total, one), self.constant(np.array([0])))
        rows = self.node("Unsqueeze", self.node("Range", past, total, one), self.constant(np.array([1])))
        seen = self.node("LessOrEqual", columns, rows)
        has_past = self.node("Greater", past, zero)
        if self.layout.merged:
            lie = self.node("Xor", self.node("Squeeze", "use_cache_branch"), has_past)
            self.lies_about_the_past = self.node("Where", lie, self.number(float("nan")), self.number(0))
        return seen if self.layout.masks_parts else self.node("Or", seen, has_past)

    # -- the plumbing of onnx.helper ----------------------------------------------------------------------------------

    def node(self, kind: str, *inputs: str, to: str = "", **attributes: Any) -> str:
        to = to or self.fresh()
        self.nodes.append(helper.make_node(kind, inputs, [to], **attributes))
        return to

    def fresh(self) -> str:
        self.made += 1
        return f"value{self.made}"

    def constant(self, array: Array) -> str:
        name = f"constant{len(self.constants)}"
        self.constants[name] = array
        return name

    def weight(self, name: str) -> str:
        self.constants[name] = weights()[name].astype(np.float16 if self.layout.half else np.float32)
        return name

    def number(self, value: float) -> str:
        return self.constant(np.array(value, np.float16 if self.layout.half else np.float32))

    def cast(self, name: str, to: int) -> str:
        made = self.fresh()
        self.nodes.append(helper.make_node("Cast", [name], [made], to=to))
        return made

    def size(self, name: str, axis: int) -> str:
        return self.node("Gather", self.node("Shape", name), self.constant(np.array(axis)))

    def cache(self, layer: int, part: str, shape: list[Any]) -> tuple[str, str]:
        past, present = f"past_key_values.{layer}.{part}", f"present.{layer}.{part}"
        self.input(past, shape, self.float)
        self.output(present, ["total_sequence_length" if size == "past_sequence_length" else size for size in shape])
        return past, present

    def input(self, name: str, shape: list[Any], kind: int) -> None:
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))

    def output(self, name: str, shape: list[Any]) -> None:
        self.outputs.append(helper.make_tensor_value_info(name, self.float, shape))
