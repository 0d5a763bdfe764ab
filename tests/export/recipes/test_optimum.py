"""What optimum is given, and what is done to its graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from playground.errors import ExportError
from playground.export.recipes.optimum import older_config

onnx = pytest.importorskip("onnx")


def test_rotary_parameters_become_the_names_of_transformers_4() -> None:
    older = older_config(
        {"model_type": "llama", "dtype": "float32", "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}
    )
    assert older == {"model_type": "llama", "torch_dtype": "float32", "rope_theta": 5e5, "rope_scaling": None}


def test_scaled_rotary_angles_keep_their_parameters() -> None:
    rope = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 32.0, "original_max_position_embeddings": 8192}
    older = older_config({"model_type": "llama", "rope_parameters": rope})
    assert older["rope_theta"] == 5e5
    assert older["rope_scaling"] == {
        "rope_type": "llama3", "factor": 32.0, "original_max_position_embeddings": 8192
    }  # fmt: skip


def test_each_kind_of_layer_gets_its_own_base() -> None:
    rope = {
        "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    }
    older = older_config({"model_type": "gemma3_text", "rope_parameters": rope})
    assert (older["rope_theta"], older["rope_local_base_freq"]) == (1e6, 1e4)
    assert older["rope_scaling"] == {"rope_type": "linear", "factor": 8.0}


@pytest.mark.parametrize(
    ("family", "base", "share"),
    [("gpt_neox", "rotary_emb_base", "rotary_pct"), ("phi3", "rope_theta", "partial_rotary_factor")],
)
def test_a_share_of_the_head_is_named_as_the_family_names_it(family: str, base: str, share: str) -> None:
    rope = {"rope_type": "default", "rope_theta": 7.0, "partial_rotary_factor": 0.25}
    older = older_config({"model_type": family, "rope_parameters": rope})
    assert (older[base], older[share]) == (7.0, 0.25)


def test_a_configuration_without_rotary_angles_is_left_alone() -> None:
    config = {"model_type": "gpt2", "n_embd": 64}
    assert older_config(config) == config


@pytest.mark.parametrize(("scaled", "weights"), [(True, {"shared.weight"}), (False, {"lm_head.weight"})])
def test_t5_says_by_its_tied_embeddings_whether_outputs_are_scaled(scaled: bool, weights: set[str]) -> None:
    older = older_config({"scale_decoder_outputs": scaled, "tie_word_embeddings": True}, frozenset(weights))
    assert older == {"tie_word_embeddings": scaled}


@pytest.mark.parametrize(("scaled", "weights"), [(False, {"shared.weight"}), (True, {"lm_head.weight"})])
def test_a_t5_that_transformers_4_would_misread_is_refused(scaled: bool, weights: set[str]) -> None:
    with pytest.raises(ExportError, match="can't tell"):
        older_config({"scale_decoder_outputs": scaled}, frozenset(weights))


# -- graphs ----------------------------------------------------------------------------------------------------------


def small_graph(path: Path) -> Path:
    """x·W1 + b (a Gemm, transposed weight), then the tied embedding transposed as a head."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    weights = {
        "first": rng.standard_normal((128, 64), np.float32),
        "bias": rng.standard_normal(128, np.float32),
        "down": rng.standard_normal((128, 64), np.float32),
        "embedding": rng.standard_normal((96, 64), np.float32),
    }
    nodes = [
        helper.make_node("Gemm", ["x", "first", "bias"], ["h"], name="up", transB=1),
        helper.make_node("MatMul", ["h", "down"], ["d"], name="down_proj"),
        helper.make_node("Transpose", ["embedding"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["d", "turned"], ["logits"], name="head"),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 96])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)
    return path


def outputs(path: Path) -> Any:
    import onnxruntime as ort

    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.random.default_rng(1).standard_normal((5, 64), np.float32)})[0]


def operators(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path, load_external_data=False).graph.node]


def test_rewriting_without_rounding_changes_the_form_and_not_the_result(tmp_path: Path) -> None:
    from playground.export.quantization.graph import rewrite
    from playground.export.quantization.weights import Graph

    source = small_graph(tmp_path / "small.onnx")
    rewrite(Graph.read(source), tmp_path / "out" / "model.onnx", None, lambda *_: None)
    assert operators(tmp_path / "out" / "model.onnx") == ["MatMul", "Add", "MatMul", "MatMul"]
    assert np.allclose(outputs(tmp_path / "out" / "model.onnx"), outputs(source), rtol=1e-5, atol=1e-3)
    assert (tmp_path / "out" / "model.onnx.data").stat().st_size > 90_000


@pytest.mark.parametrize(("bits", "error"), [(8, 0.03), (4, 0.25)])
def test_every_product_is_rounded_the_transposed_and_the_biased_too(tmp_path: Path, bits: int, error: float) -> None:
    from playground.export.quantization.graph import rewrite
    from playground.export.quantization.weights import Graph

    source, target = small_graph(tmp_path / "small.onnx"), tmp_path / "out" / "model.onnx"
    shares: list[float | None] = []
    rewrite(Graph.read(source), target, bits, lambda _, share: shares.append(share))
    assert operators(target) == ["MatMulNBits", "Add", "MatMulNBits", "MatMulNBits"]
    exact, rounded = outputs(source), outputs(target)
    assert 0 < np.abs(rounded - exact).std() / exact.std() < error
    assert shares[-1] == 1.0


def test_of_four_bits_the_head_and_the_narrowing_product_keep_eight(tmp_path: Path) -> None:
    from playground.export.quantization.graph import rewrite
    from playground.export.quantization.weights import Graph

    target = tmp_path / "out" / "model.onnx"
    rewrite(Graph.read(small_graph(tmp_path / "small.onnx")), target, 4, lambda *_: None)
    nodes = onnx.load(target, load_external_data=False).graph.node
    bits = [a.i for node in nodes if node.op_type == "MatMulNBits" for a in node.attribute if a.name == "bits"]
    assert bits == [4, 8, 8]
