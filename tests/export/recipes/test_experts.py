"""Mixtures of experts as one operator: what it is told, and what it computes, rounded and not.

The judge is plain numpy: each token's experts, one after another.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from playground.errors import ExportError
from playground.export.quantization import graph
from playground.export.quantization.weights import Graph

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
torch = pytest.importorskip("torch")
experts = pytest.importorskip("playground.export.recipes.experts")
reasons = pytest.importorskip("playground.export.recipes.reasons")

EXPERTS, WIDTH, INNER, CHOSEN, TOKENS = 6, 64, 96, 2, 5
RNG = np.random.default_rng(7)


def module(act: Any = torch.nn.functional.silu, **more: Any) -> Any:
    """What ``settings_of`` looks at of a module that transformers has decorated."""
    about = {"is_transposed": False, "is_concatenated": True, "has_gate": True, "has_bias": False, "act_fn": act}
    made = SimpleNamespace(**{**about, **more})
    if not hasattr(made, "_apply_gate"):

        def gated(both: Any) -> Any:
            gate, up = both.chunk(2, -1) if made.is_concatenated else (both[..., ::2], both[..., 1::2])
            return made.act_fn(gate) * up

        made._apply_gate = gated
    return made


# -- what the operator is told ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("concatenated", "layout"), [(True, experts.SIDE_BY_SIDE), (False, experts.BY_TURNS)])
def test_a_gate_is_found_in_either_layout(concatenated: bool, layout: int) -> None:
    found = experts.settings_of(module(is_concatenated=concatenated))
    assert found == {
        "activation_type": "swiglu",
        "activation_alpha": 1.0,
        "activation_beta": 0.0,
        "swiglu_fusion": layout,
    }


def test_a_gate_of_its_own_numbers_is_found() -> None:
    def gated(both: Any) -> Any:
        gate, up = both[..., ::2].clamp(max=7.0), both[..., 1::2].clamp(-7.0, 7.0)
        return (up + 1) * gate * torch.sigmoid(gate * 1.702)

    found = experts.settings_of(module(is_concatenated=False, alpha=1.702, limit=7.0, _apply_gate=gated))
    assert (found["activation_alpha"], found["activation_beta"], found["swiglu_limit"]) == (1.702, 1.0, 7.0)


@pytest.mark.parametrize("name", ["relu", "gelu", "silu"])
def test_experts_without_a_gate_are_found(name: str) -> None:
    act = getattr(torch.nn.functional, name)
    assert experts.settings_of(module(act, has_gate=False)) == {"activation_type": name}


@pytest.mark.parametrize(
    "other",
    [
        module(torch.nn.functional.gelu),
        module(lambda each: torch.nn.functional.relu(each) ** 2, has_gate=False),
        module(is_transposed=True),
        module(has_post_expert_norm=True),
        module(_apply_gate=lambda both: both.chunk(2, -1)[0]),
    ],
    ids=["a gate of gelu", "squares", "transposed", "a norm behind", "no gate in it"],
)
def test_what_the_operator_does_not_compute_is_refused(other: Any) -> None:
    with pytest.raises(reasons.NoOperator):
        experts.settings_of(other)


# -- what it computes -------------------------------------------------------------------------------------------------


def weights(inner: int = INNER, width: int = WIDTH) -> dict[str, Any]:
    def drawn(*shape: int) -> Any:
        return RNG.standard_normal(shape).astype(np.float32) * np.float32(0.2)

    return {"first": drawn(EXPERTS, 2 * inner, width), "second": drawn(EXPERTS, width, inner)}


def one_layer(found: dict[str, Any]) -> Any:
    """A graph of one router, whose product chooses, and the experts; gate and other half side by side."""
    helper, width = onnx.helper, found["first"].shape[2]
    router = RNG.standard_normal((width, EXPERTS)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["hidden", "router"], ["scores"], "router"),
        helper.make_node("Softmax", ["scores"], ["shares"], axis=-1),
        helper.make_node("TopK", ["shares", "chosen"], ["best", "places"], axis=-1),
        helper.make_node("Log", ["best"], ["logs"]),
        helper.make_node("ScatterElements", ["nobody", "places", "logs"], ["each"], axis=1),
        helper.make_node(
            experts.PLAIN, ["hidden", "each", "first", "", "second"], ["out"], "experts", domain="com.microsoft",
            k=CHOSEN, normalize_routing_weights=0, activation_type="swiglu", activation_alpha=1.0,
            activation_beta=0.0, swiglu_fusion=experts.SIDE_BY_SIDE,
        ),
    ]  # fmt: skip
    held = found | {
        "router": router,
        "chosen": np.array([CHOSEN]),
        "nobody": np.full((TOKENS, EXPERTS), experts.NEVER, np.float32),
    }
    made = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("hidden", 1, [TOKENS, width])],
        [helper.make_tensor_value_info(name, 1, None) for name in ("out", "scores")],
        [onnx.numpy_helper.from_array(array, name) for name, array in held.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(made, opset_imports=opsets, ir_version=10)


def by_hand(hidden: Any, scores: Any, found: dict[str, Any]) -> Any:
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    out = np.zeros_like(hidden)
    for token, row in enumerate(shares):
        best = np.argsort(-row)[:CHOSEN]
        for each in best:
            gate, up = np.split(found["first"][each] @ hidden[token], 2)
            said = found["second"][each] @ (gate / (1 + np.exp(-gate)) * up)
            out[token] += row[each] / row[best].sum() * said
    return out


def run(path: Path, hidden: Any) -> tuple[Any, Any]:
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    out, scores = session.run(["out", "scores"], {"hidden": hidden})
    return out, scores


@pytest.mark.parametrize(("bits", "off"), [(None, 1e-5), (8, 0.03), (4, 0.2)])
def test_experts_are_computed_as_by_hand(bits: int | None, off: float, tmp_path: Path) -> None:
    found = weights()
    whole = Graph(one_layer(found), tmp_path)
    experts.by_turns(whole)
    graph.rewrite(whole, tmp_path / "model.onnx", bits, lambda *_: None)
    hidden = RNG.standard_normal((TOKENS, WIDTH)).astype(np.float32)
    out, scores = run(tmp_path / "model.onnx", hidden)
    expected = by_hand(hidden, scores, found)
    assert np.abs(out - expected).max() < off * np.abs(expected).max()


@pytest.mark.parametrize("bits", [8, 4])
def test_who_is_chosen_is_not_rounded_and_experts_are(bits: int, tmp_path: Path) -> None:
    whole = Graph(one_layer(weights()), tmp_path)
    experts.by_turns(whole)
    graph.rewrite(whole, tmp_path / "model.onnx", bits, lambda *_: None)
    made = onnx.load(tmp_path / "model.onnx")
    kinds = [node.op_type for node in made.graph.node]
    assert "MatMul" in kinds
    assert "QMoE" in kinds
    assert "MatMulNBits" not in kinds
    assert not {"first", "second", "first.by_turns"} & {each.name for each in made.graph.initializer}
    stored = next(each for each in made.graph.initializer if each.name == "second.values")
    assert list(stored.dims) == [EXPERTS, WIDTH, INNER * bits // 8]


def test_experts_that_fill_no_whole_blocks_are_refused_in_words(tmp_path: Path) -> None:
    whole = Graph(one_layer(weights(inner=80)), tmp_path)
    experts.by_turns(whole)
    with pytest.raises(ExportError, match="80 numbers"):
        graph.rewrite(whole, tmp_path / "model.onnx", 8, lambda *_: None)


@pytest.mark.parametrize("bits", [None, 8, 4])
def test_experts_that_come_one_by_one_are_written_as_the_same_bytes(bits: int | None, tmp_path: Path) -> None:
    found = weights()
    asked: list[tuple[int, ...]] = []

    def part(name: str, start: int, stop: int) -> Any:
        asked.append(found[name][start:stop].shape)
        return found[name][start:stop]

    parts, layer = {name: partial(part, name) for name in found}, one_layer(found)
    for folder, held in (("whole", None), ("parts", parts)):
        made = onnx.ModelProto()
        made.CopyFrom(layer)
        if held:  # nobody can read them as a whole
            for tensor in made.graph.initializer:
                if tensor.name in found:
                    tensor.ClearField("raw_data")
        whole = Graph(made, tmp_path, None, held)
        experts.by_turns(whole)
        graph.rewrite(whole, tmp_path / folder / "model.onnx", bits, lambda *_: None)
    one, other = ((tmp_path / folder / "model.onnx.data").read_bytes() for folder in ("whole", "parts"))
    assert one == other
    assert {shape[0] for shape in asked} == {1}
    assert len(asked) == 2 * EXPERTS
