"""Tiny decoder graphs in the operators that the kernels read, made without torch: something of everything they know.

They are right graphs, which ONNX Runtime runs as well; what becomes of them when somebody changes them, tests say.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]

BLOCK = 32
VOCAB, WIDTH, INNER, SIZE, CONTEXT = 70, 64, 96, 16, 320
EXPERTS = 5
HEADS, KV_HEADS = 4, 2
STATES, STATE, KEY = 6, 48, 32
"""Heads of recurrences, numbers of their values, and of the keys that three of them share."""
CONTRIBUTED = frozenset(
    (
        "CausalConvWithState",
        "FastGelu",
        "GatherBlockQuantized",
        "GroupQueryAttention",
        "LinearAttention",
        "MatMulNBits",
        "QMoE",
        "RotaryEmbedding",
        "SkipLayerNormalization",
        "SkipSimplifiedLayerNormalization",
    )
)
PAST = ["batch", KV_HEADS, "past", SIZE]


class Builder:
    """One graph under construction; every value is named after what makes it."""

    def __init__(self, seed: int) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.states: dict[str, list[Any]] = {}  # shapes of what convolutions and recurrences keep, by name
        self.random = np.random.default_rng(seed)
        self._count = 0

    def constant(self, array: Array) -> str:
        name = f"weight{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, kind: str, inputs: list[str], outputs: list[str] | None = None, **settings: Any) -> str:
        """Add a node; the name of its first output."""
        self._count += 1
        names = outputs or [f"{kind.lower()}{self._count}"]
        domain = "com.microsoft" if kind in CONTRIBUTED else ""
        self.nodes.append(helper.make_node(kind, inputs, names, f"{kind}.{self._count}", domain=domain, **settings))
        return names[0]

    def product(self, source: str, width: int, outputs: int, bits: int, *, means: int = 0, zeros: bool = True) -> str:
        """``MatMulNBits`` with random weights; ``means``: so many copies of those of ``source``'s blocks beside it."""
        if means:
            pooled = self.node("AveragePool", [source], kernel_shape=[BLOCK], strides=[BLOCK])
            source = self.node("Concat", [source, *[pooled] * means], axis=-1)
            width += means * (width // BLOCK)
        blocks = -(-width // BLOCK)
        values = self.random.integers(0, 256, (outputs, blocks, BLOCK * bits // 8)).astype(np.uint8)
        scales = self.random.uniform(1e-3, 1e-2, (outputs, blocks)).astype(np.float32)
        inputs = [source, self.constant(values), self.constant(scales)]
        if bits == 4 and zeros:
            inputs.append(self.constant(self.random.integers(0, 256, (outputs, -(-blocks // 2))).astype(np.uint8)))
        settings = {"K": width, "N": outputs, "bits": bits, "block_size": BLOCK, "accuracy_level": 4}
        return self.node("MatMulNBits", inputs, **settings)

    def norm(self, source: str, width: int = WIDTH) -> str:
        weight = self.constant(self.random.uniform(0.5, 1.5, width).astype(np.float32))
        return self.node("SimplifiedLayerNormalization", [source, weight], epsilon=1e-5, axis=-1, stash_type=1)

    def skip_norm(self, source: str, skip: str) -> tuple[str, str]:
        """The norm of a sum, and the sum."""
        weight = self.constant(self.random.uniform(0.5, 1.5, WIDTH).astype(np.float32))
        count = self._count + 1
        names = [f"norm{count}", "", "", f"sum{count}"]
        self.node("SkipSimplifiedLayerNormalization", [source, skip, weight], names, epsilon=1e-5)
        return names[0], names[3]

    def layer_norm(self, source: str, skip: str = "", *, bias: bool = True) -> tuple[str, str]:
        """The norm around the mean of ``source`` or, with ``skip``, of the sum, and the sum."""
        sources = [source, skip] if skip else [source]
        weights = [self.random.uniform(0.5, 1.5, WIDTH), self.random.normal(size=WIDTH)][: 1 + bias]
        inputs = [*sources, *(self.constant(each.astype(np.float32)) for each in weights)]
        if not skip:
            return self.node("LayerNormalization", inputs, epsilon=1e-5, axis=-1, stash_type=1), source
        count = self._count + 1
        names = [f"norm{count}", "", "", f"sum{count}"]
        self.node("SkipLayerNormalization", inputs, names, epsilon=1e-5)
        return names[0], names[3]

    def angles(self) -> list[str]:
        """Cosines and sines."""
        angles = np.outer(np.arange(CONTEXT), 1 / 100 ** np.linspace(0, 1, SIZE // 2))
        return [self.constant(table(angles).astype(np.float32)) for table in (np.cos, np.sin)]

    def lengths(self) -> tuple[str, str]:
        """What attention is told of the mask, as exporters write it."""
        one, axis = self.constant(np.array([1], np.int64)), self.constant(np.array([1], np.int64))
        total = self.node("ReduceSum", ["attention_mask", axis])
        before = self.node("Sub", [total, one])
        lengths = self.node("Cast", [before], to=TensorProto.INT32)
        place = self.constant(np.array(1, np.int64))
        wide = self.node("Gather", [self.node("Shape", ["attention_mask"]), place], axis=0)
        return lengths, self.node("Cast", [wide], to=TensorProto.INT32)

    def attention(self, layer: int, queries: str, keys: str, values: str, lengths: tuple[str, str], **more: Any) -> str:
        inputs = [queries, keys, values, f"past_key_values.{layer}.key", f"past_key_values.{layer}.value", *lengths]
        if more.get("do_rotary"):
            inputs += self.angles()
        names = [f"attended{layer}", f"present.{layer}.key", f"present.{layer}.value"]
        settings = {"num_heads": HEADS, "kv_num_heads": KV_HEADS, "local_window_size": -1, "do_rotary": 0, **more}
        return self.node("GroupQueryAttention", inputs, names, **settings)

    def convolution(self, layer: int, source: str, width: int, taps: int, *, bias: bool, activation: str) -> str:
        """Of each column of ``[batch, columns, tokens]`` over its last ``taps``."""
        weights = self.random.normal(size=(width, 1, taps)).astype(np.float32)
        row = self.constant(3 * self.random.normal(size=width).astype(np.float32)) if bias else ""
        self.states[f"{layer}.conv"] = ["batch", width, taps - 1]
        inputs = [source, self.constant(weights), row, f"past_key_values.{layer}.conv"]
        names = [f"convolved{layer}", f"present.{layer}.conv"]
        return self.node("CausalConvWithState", inputs, names, ndim=1, activation=activation)

    def recurrence(self, layer: int, inputs: list[str], scale: float) -> str:
        """Linear attention: queries, keys, values, decays and, for a delta rule, how much is corrected."""
        name = f"{layer}.recurrent"
        self.states[name] = ["batch", STATES, KEY, STATE]
        given = [*inputs[:3], f"past_key_values.{name}", *inputs[3:]]
        rule = "gated_delta" if len(inputs) > 4 else "gated"
        told = {"q_num_heads": 2, "kv_num_heads": STATES, "update_rule": rule, "scale": scale}
        return self.node("LinearAttention", given, [f"attended.{name}", f"present.{name}"], **told)

    def experts(self, source: str, router: str, bits: int, *, biases: bool, **settings: Any) -> str:
        """``QMoE`` with random weights: two of ``EXPERTS`` for each token."""
        inputs, zeros = [source, router], []
        for rows, width in ((2 * INNER, WIDTH), (WIDTH, INNER)):
            blocks = width // BLOCK
            values = self.random.integers(0, 256, (EXPERTS, rows, width * bits // 8)).astype(np.uint8)
            inputs += [self.constant(values)]
            scales = self.random.uniform(1e-3, 1e-2, (EXPERTS, rows, blocks))
            inputs += [self.constant(scales.astype(np.float32))]
            bias = self.random.normal(size=(EXPERTS, rows)).astype(np.float32)
            inputs += [self.constant(bias) if biases else ""]
            packed = self.random.integers(0, 256, (EXPERTS, rows, -(-blocks // 2))).astype(np.uint8)
            zeros += [self.constant(packed)] if bits == 4 else []
        inputs += ["", "", "", *zeros] if zeros else []
        settings |= {"k": 2, "expert_weight_bits": bits, "block_size": BLOCK, "swiglu_fusion": 1}
        return self.node("QMoE", inputs, activation_type="swiglu", accuracy_level=4, weights_prepacked=0, **settings)

    def model(self, layers: int, logits: list[Any], ids: Sequence[str] = ("input_ids",)) -> onnx.ModelProto:
        whole = ["batch", "sequence"]
        inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, whole) for name in ids]
        inputs.append(helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["batch", "total"]))
        outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, logits)]
        for layer in range(layers):
            for part in ("key", "value"):
                inputs.append(helper.make_tensor_value_info(f"past_key_values.{layer}.{part}", TensorProto.FLOAT, PAST))
                shape = ["batch", KV_HEADS, "total", SIZE]
                outputs.append(helper.make_tensor_value_info(f"present.{layer}.{part}", TensorProto.FLOAT, shape))
        for name, shape in self.states.items():
            inputs.append(helper.make_tensor_value_info(f"past_key_values.{name}", TensorProto.FLOAT, shape))
            outputs.append(helper.make_tensor_value_info(f"present.{name}", TensorProto.FLOAT, shape))
        graph = helper.make_graph(self.nodes, "tiny", inputs, outputs, self.constants)
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def eight_bits() -> onnx.ModelProto:
    """Like a Llama: separate projections, SiLU, an embedding in eight bits, logits of the last position."""
    made = Builder(1)
    table = made.random.integers(0, 256, (VOCAB, WIDTH)).astype(np.uint8)
    scales = made.random.uniform(1e-3, 1e-2, (VOCAB, WIDTH // BLOCK)).astype(np.float32)
    parts = [made.constant(table), "input_ids", made.constant(scales)]
    parts.append(made.constant(np.full(scales.shape, 128, np.uint8)))
    source = made.node("GatherBlockQuantized", parts, bits=8, block_size=BLOCK, gather_axis=0, quantize_axis=1)
    lengths = made.lengths()
    normed = made.norm(source)
    for layer in range(2):
        queries, keys, values = (made.product(normed, WIDTH, n * SIZE, 8) for n in (HEADS, KV_HEADS, KV_HEADS))
        attended = made.attention(layer, queries, keys, values, lengths, do_rotary=1)
        normed, source = made.skip_norm(source, made.product(attended, HEADS * SIZE, WIDTH, 8))
        inner = INNER + BLOCK * layer
        both = made.product(normed, WIDTH, 2 * inner, 8)
        sizes = made.constant(np.array([inner, inner], np.int64))
        made.node("Split", [both, sizes], [f"gate{layer}", f"up{layer}"], axis=-1)
        gate = made.node("Mul", [f"gate{layer}", made.node("Sigmoid", [f"gate{layer}"])])
        down = made.product(made.node("Mul", [gate, f"up{layer}"]), inner, WIDTH, 8)
        normed, source = made.skip_norm(source, down)
    last = made.node("Gather", [normed, made.constant(np.array([-1], np.int64))], axis=1)
    made.product(last, WIDTH, VOCAB, 8)
    made.nodes[-1].output[0] = "logits"
    return made.model(2, ["batch", 1, VOCAB])


def four_bits(copies: Callable[[int], int] = lambda _: 1) -> onnx.ModelProto:
    """Like a Gemma or a Qwen: packed projections with means and a bias, norms of heads, a window, a scaled embedding
    that stands transposed, logits of all positions.

    Args:
        copies: Of means, for a number of blocks.
    """
    made = Builder(2)
    table = made.constant(made.random.normal(size=(WIDTH, VOCAB)).astype(np.float32))
    source = made.node("Gather", [made.node("Transpose", [table], perm=[1, 0]), "input_ids"], axis=0)
    source = made.node("Mul", [source, made.constant(np.array(8.0, np.float32))])
    lengths = made.lengths()
    normed = made.norm(source)
    packed = (HEADS + 2 * KV_HEADS) * SIZE
    bias = made.constant(made.random.normal(size=packed).astype(np.float32))
    both = made.node("Add", [made.product(normed, WIDTH, packed, 4, means=copies(WIDTH // BLOCK)), bias])
    attended = made.attention(0, both, "", "", lengths, local_window_size=40, do_rotary=1, scale=0.2)
    gated = made.node("Mul", [made.product(attended, HEADS * SIZE, WIDTH, 4, zeros=False), normed])
    source = made.node("Add", [source, gated])
    normed = made.norm(source)
    gate = made.node("FastGelu", [made.product(normed, WIDTH, INNER, 4, means=copies(WIDTH // BLOCK))])
    up = made.product(normed, WIDTH, INNER, 4, means=copies(WIDTH // BLOCK))
    source = made.node(
        "Add", [source, made.product(made.node("Mul", [gate, up]), INNER, WIDTH, 4, means=copies(INNER // BLOCK))]
    )
    normed = made.norm(source)
    sizes = made.constant(np.array([HEADS * SIZE, 2 * KV_HEADS * SIZE], np.int64))
    made.node("Split", [made.product(normed, WIDTH, packed, 8), sizes], ["q", "rest"], axis=-1)
    halves = made.node("Constant", [], value=numpy_helper.from_array(np.array([KV_HEADS * SIZE] * 2, np.int64)))
    made.node("Split", ["rest", halves], ["k", "v"], axis=-1)
    folded = made.node("Reshape", ["q", made.constant(np.array([0, 0, HEADS, SIZE], np.int64))])
    turned = made.node("Reshape", [made.norm(folded, SIZE), made.constant(np.array([0, 0, HEADS * SIZE], np.int64))])
    attended = made.attention(1, turned, "k", "v", lengths)
    normed, source = made.skip_norm(source, made.product(attended, HEADS * SIZE, WIDTH, 8))
    made.product(normed, WIDTH, VOCAB, 8)
    made.nodes[-1].output[0] = "logits"
    return made.model(2, ["batch", "sequence", VOCAB])


def later_steps() -> onnx.ModelProto:
    """What came later: norms around the mean, with biases and without, heads turned outside of attention (Phi,
    HunYuan), scores and logits that are capped (Gemma 2), values that are clipped (OLMo).
    """
    made = Builder(3)
    ends = [made.constant(np.array(end, np.float32)) for end in (-1.0, 1.0)]
    table = made.constant(made.random.normal(size=(VOCAB, WIDTH)).astype(np.float32))
    source = made.node("Gather", [table, "input_ids"], axis=0)
    lengths, angles = made.lengths(), made.angles()
    normed, _ = made.layer_norm(source)
    for layer in range(2):
        turned = [
            made.node("RotaryEmbedding", [made.product(normed, WIDTH, heads * SIZE, 8), "position_ids", *angles])
            for heads in (HEADS, KV_HEADS)
        ]
        values = made.node("Clip", [made.product(normed, WIDTH, KV_HEADS * SIZE, 8), *ends])
        attended = made.attention(layer, *turned, values, lengths, softcap=2.0, local_window_size=40 if layer else -1)
        normed, source = made.layer_norm(source, made.product(attended, HEADS * SIZE, WIDTH, 8), bias=layer == 0)
        made.node(
            "Split", [made.product(normed, WIDTH, 2 * INNER, 8)], [f"gate{layer}", f"up{layer}"], axis=-1, num_outputs=2
        )
        inner = made.node("Mul", [made.node("Gelu", [f"gate{layer}"]), f"up{layer}"])
        source = made.node("Add", [source, made.product(inner, INNER, WIDTH, 8)])
        normed, _ = made.layer_norm(source, bias=layer == 1)
    last = made.node("Gather", [normed, made.constant(np.array([-1], np.int64))], axis=1)
    limit = made.constant(np.array(3.0, np.float32))
    divided = made.node("Div", [made.product(last, WIDTH, VOCAB, 8), limit])
    made.node("Mul", [made.node("Tanh", [divided]), limit], ["logits"])
    return made.model(2, ["batch", 1, VOCAB], ("input_ids", "position_ids"))


def mixtures() -> onnx.ModelProto:
    """A table of positions (OPT), sinks of attention and experts whose router gives logits (gpt-oss); then experts of
    four bits as the traced way writes them, with a router of its own (Mixtral).
    """
    made = Builder(4)
    axis, two = (made.constant(np.array(each, np.int64)) for each in ([-1], [2]))
    tokens = made.node("Reshape", ["input_ids", made.constant(np.array([1, -1], np.int64))])
    table = made.constant(made.random.normal(size=(VOCAB, WIDTH)).astype(np.float32))
    places = made.constant(made.random.normal(size=(CONTEXT + 2, WIDTH)).astype(np.float32))
    shifted = made.node("Add", ["position_ids", made.constant(np.array(2, np.int64))])
    source = made.node("Add", [made.node("Gather", [table, tokens]), made.node("Gather", [places, shifted])])
    lengths, sinks = made.lengths(), made.random.normal(size=HEADS).astype(np.float32) + 4
    routers = [made.constant(made.random.normal(size=(WIDTH, EXPERTS)).astype(np.float32) / 4) for _ in range(2)]
    flat = made.constant(np.array([-1, WIDTH], np.int64))
    normed = made.norm(source)
    for layer in range(2):
        queries, keys, values = (made.product(normed, WIDTH, n * SIZE, 8) for n in (HEADS, KV_HEADS, KV_HEADS))
        # Small scores, beside which a sink counts.
        told = {"local_window_size": 40 if layer else -1, "scale": 0.005}
        attended = made.attention(layer, queries, keys, values, lengths, **told)
        made.nodes[-1].input.extend(["", "", "", "", made.constant(sinks + layer)])
        normed, source = made.skip_norm(source, made.product(attended, HEADS * SIZE, WIDTH, 8))
        logits = made.node("MatMul", [normed, routers[layer]])
        if layer == 0:
            bias = made.constant(made.random.normal(size=EXPERTS).astype(np.float32))
            logits = made.node("Add", [logits, bias])
            logits = made.node("Reshape", [logits, made.constant(np.array([-1, EXPERTS], np.int64))])
            told = {"activation_alpha": 1.702, "activation_beta": 1.0, "swiglu_limit": 2.0}
            mixed = made.experts(normed, logits, 8, biases=True, normalize_routing_weights=1, **told)
        else:
            rows = made.node("Reshape", [normed, flat])
            scores = made.node("Reshape", [logits, made.constant(np.array([-1, EXPERTS], np.int64))])
            made.node("TopK", [made.node("Softmax", [scores], axis=-1), two], ["best", "chosen"], axis=-1)
            weights = made.node("Div", ["best", made.node("ReduceSum", ["best", axis], keepdims=1)])
            taken = made.node("Mul", [made.node("GatherElements", [scores, "chosen"], axis=1), weights])
            count = made.node("Shape", ["input_ids"], start=1, end=2)
            wide = made.node("Concat", [count, made.constant(np.array([EXPERTS], np.int64))], axis=0)
            nobody = made.node("Expand", [made.constant(np.array(-1e30, np.float32)), wide])
            floor = made.constant(np.array(np.finfo(np.float32).tiny, np.float32))
            known = made.node("Log", [made.node("Clip", [weights, floor])])
            router = made.node("ScatterElements", [nobody, "chosen", known], axis=1)
            told = {"activation_alpha": 1.0, "activation_beta": 0.0}
            mixed = made.experts(rows, router, 4, biases=False, normalize_routing_weights=0, **told)
            mixed = made.node("Mul", [mixed, made.node("ReduceSum", [taken, axis], keepdims=1)])
            mixed = made.node("Reshape", [mixed, made.constant(np.array([1, -1, WIDTH], np.int64))])
        normed, source = made.skip_norm(source, mixed)
    made.node("Gather", [normed, axis], ["last"], axis=1)
    made.product("last", WIDTH, VOCAB, 8)
    made.nodes[-1].output[0] = "logits"
    return made.model(2, ["batch", 1, VOCAB], ("input_ids", "position_ids"))


def convolutions() -> onnx.ModelProto:
    """Short convolutions beside attention: gated ones (LFM2), and one with a bias and SiLU (Mamba)."""
    made = Builder(5)
    table = made.constant(made.random.normal(size=(VOCAB, WIDTH)).astype(np.float32))
    source, lengths = made.node("Gather", [table, "input_ids"], axis=0), made.lengths()
    normed = made.norm(source)
    for layer, taps in enumerate((3, 2)):
        wide = made.node("Transpose", [made.product(normed, WIDTH, 3 * WIDTH, 8)], perm=[0, 2, 1])
        names = [f"{part}{layer}" for part in ("before", "behind", "columns")]
        made.node("Split", [wide, made.constant(np.array([WIDTH] * 3, np.int64))], names, axis=1)
        given = made.node("Mul", [names[0], names[2]])
        convolved = made.convolution(2 + 2 * layer, given, WIDTH, taps, bias=False, activation="none")
        back = made.node("Transpose", [made.node("Mul", [names[1], convolved])], perm=[0, 2, 1])
        normed, source = made.skip_norm(source, made.product(back, WIDTH, WIDTH, 8))
        queries, keys, values = (made.product(normed, WIDTH, n * SIZE, 8) for n in (HEADS, KV_HEADS, KV_HEADS))
        attended = made.attention(layer, queries, keys, values, lengths, do_rotary=1, scale=0.1)
        normed, source = made.skip_norm(source, made.product(attended, HEADS * SIZE, WIDTH, 8))
        turned = made.node("Transpose", [made.product(normed, WIDTH, INNER, 8)], perm=[0, 2, 1])
        convolved = made.convolution(3 + 2 * layer, turned, INNER, 4, bias=True, activation="silu")
        back = made.node("Transpose", [convolved], perm=[0, 2, 1])
        normed, source = made.skip_norm(source, made.product(back, INNER, WIDTH, 8))
    made.node("Gather", [normed, made.constant(np.array([-1], np.int64))], ["last"], axis=1)
    made.product("last", WIDTH, VOCAB, 8)
    made.nodes[-1].output[0] = "logits"
    return made.model(2, ["batch", 1, VOCAB])


def recurrences() -> onnx.ModelProto:
    """Layers with a state for each head, in front of attention, as the traced way writes them: Mamba 2 with rows that
    are scaled (Falcon H1), and a gated delta rule with decays for each number of a key.
    """
    made = Builder(6)
    table = made.constant(made.random.normal(size=(VOCAB, WIDTH)).astype(np.float32))
    source, lengths = made.node("Gather", [table, "input_ids"], axis=0), made.lengths()
    normed = made.norm(source)
    values, keys, convolved = STATES * STATE, 2 * KEY, STATES * STATE + 4 * KEY
    row, heads, each = (made.constant(np.array(shape, np.int64)) for shape in ([1, -1, values], [-1, STATE], [-1, 1]))
    for layer, corrects in enumerate((False, True)):
        sizes = [values, convolved, STATES * (KEY if corrects else 1)]
        wide = made.product(normed, WIDTH, sum(sizes), 8)
        factors = made.constant(made.random.uniform(0.1, 0.4, (1, 1, sum(sizes))).astype(np.float32))
        wide = made.node("Mul", [wide, factors])
        names = [f"{part}{layer}" for part in ("gate", "columns", "steps")]
        made.node("Split", [wide, made.constant(np.array(sizes, np.int64))], names, axis=-1)
        turned = made.node("Transpose", [names[1]], perm=[0, 2, 1])
        turned = made.convolution(2 * layer, turned, convolved, 4, bias=True, activation="silu")
        parts = [f"{part}{layer}" for part in ("values", "keys", "queries")]
        back = made.node("Transpose", [turned], perm=[0, 2, 1])
        made.node("Split", [back, made.constant(np.array([values, keys, keys], np.int64))], parts, axis=2)
        bias = made.constant(made.random.normal(size=sizes[2]).astype(np.float32))
        step = made.node("Softplus", [made.node("Add", [names[2], bias])])
        drop = made.constant(-made.random.uniform(0.05, 0.5, sizes[2]).astype(np.float32))
        inputs = [parts[2], parts[1], parts[0], made.node("Mul", [drop, step])]
        if corrects:
            unit = made.node("Reshape", [parts[1], made.constant(np.array([0, 0, 2, KEY], np.int64))])
            unit = made.node("Mul", [made.norm(unit, KEY), made.constant(np.array(0.2, np.float32))])
            inputs[1] = made.node("Reshape", [unit, made.constant(np.array([0, 0, keys], np.int64))])
            inputs.append(made.node("Sigmoid", [made.product(normed, WIDTH, STATES, 8)]))
        else:
            cut = [made.node("Reshape", pair) for pair in ([parts[0], heads], [step, each])]
            inputs[2] = made.node("Reshape", [made.node("Mul", cut), row])
        attended = made.recurrence(2 * layer + 1, inputs, scale=0.7 if corrects else 1.0)
        skipped = made.constant(made.random.normal(size=values).astype(np.float32))
        attended = made.node("Add", [attended, made.node("Mul", [parts[0], skipped])])
        gate = made.node("Mul", [names[0], made.node("Sigmoid", [names[0]])])
        attended = made.norm(made.node("Mul", [attended, gate]), values)
        normed, source = made.skip_norm(source, made.product(attended, values, WIDTH, 8))
        queries, kept, others = (made.product(normed, WIDTH, n * SIZE, 8) for n in (HEADS, KV_HEADS, KV_HEADS))
        attended = made.attention(layer, queries, kept, others, lengths, do_rotary=1, scale=0.1)
        normed, source = made.skip_norm(source, made.product(attended, HEADS * SIZE, WIDTH, 8))
    made.node("Gather", [normed, made.constant(np.array([-1], np.int64))], ["last"], axis=1)
    made.product("last", WIDTH, VOCAB, 8)
    made.nodes[-1].output[0] = "logits"
    return made.model(2, ["batch", 1, VOCAB])


GRAPHS: dict[str, Callable[[], onnx.ModelProto]] = {
    "eight bits": eight_bits,
    "four bits": four_bits,
    "later steps": later_steps,
    "mixtures": mixtures,
    "convolutions": convolutions,
    "recurrences": recurrences,
}
CONFIG = {
    "model_type": "llama",
    "hidden_size": WIDTH,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "head_dim": SIZE,
    "num_hidden_layers": 2,
    "vocab_size": VOCAB,
}


def write(model: onnx.ModelProto, folder: Path, *, beside: bool = False) -> Path:
    """``model`` as an artifact's folder has it; ``beside``: with its weights in a file of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    more = {"save_as_external_data": True, "location": "model.onnx.data", "size_threshold": 256} if beside else {}
    onnx.save(model, folder / "model.onnx", **more)
    return folder
