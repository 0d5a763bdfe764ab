"""Rounding of weights: what was rounded before is found again, what was not is fitted, graphs compute what they should.

Of graphs the smallest that show it: an embedding, one product wide enough for sums, and a tied head.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from playground.export.quantization import blocks
from playground.export.quantization.blocks import blocks_of, rest_as_columns, round4, round8
from playground.kernels.library import mean_copies, packed

onnx = pytest.importorskip("onnx")

K, N = 128, 48


def normal(seed: int, *shape: int) -> Any:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def q4_1(seed: int, inner: int = K, outer: int = N) -> Any:
    """Weights ``[K, N]`` as GGUF's Q4_1 gives them: 16 levels from the least to the greatest of a block, in half."""
    rows = normal(seed, outer, inner // 32, 32)
    low = rows.min(-1, keepdims=True).astype(np.float16).astype(np.float32)
    step = ((rows.max(-1, keepdims=True) - low) / 15).astype(np.float16).astype(np.float32)
    weights = np.clip(np.rint((rows - low) / step), 0, 15) * step + low
    return np.ascontiguousarray(weights.reshape(outer, inner).T.astype(np.float32))


def q4_k(seed: int) -> Any:
    """As Q4_K gives them: six-bit scales and minima, and not each block reaches both ends."""
    rng = np.random.default_rng(seed)
    scale, least = rng.integers(20, 63, (N, K // 32, 1)) * 0.0017, rng.integers(1, 63, (N, K // 32, 1)) * 0.011
    values = rng.integers(0, 15, (N, K // 32, 32))
    values[..., :2] = [1, 13]
    return np.ascontiguousarray((values * scale - least).reshape(N, K).T.astype(np.float32))


def error(rounded: blocks.Rounded, weight: Any) -> float:
    """Root mean square, as a share of the weights'."""
    return float(np.sqrt(np.square(rounded.weights()[: len(weight)] - weight).mean() / np.square(weight).mean()))


@pytest.mark.parametrize("weight", [q4_1(1), q4_k(2)], ids=["Q4_1", "Q4_K"])
def test_levels_of_a_four_bit_file_are_found_again_and_nothing_is_lost(weight: Any) -> None:
    rounded, exact = round4(blocks_of(weight), with_rest=True)
    assert exact
    assert error(rounded, weight) < 1e-5


def test_whole_levels_need_no_sums() -> None:
    rows = np.random.default_rng(3).integers(-8, 8, (N, K // 32, 32)).astype(np.float32)
    rows[..., 0], rows[..., 1] = -8, 7
    weight = np.ascontiguousarray((rows * np.float32(0.013)).reshape(N, K).T)
    for with_rest in (True, False):
        rounded, exact = round4(blocks_of(weight), with_rest)
        assert exact
        assert rounded.rest is None
        assert error(rounded, weight) < 1e-5


def test_weights_never_rounded_before_are_not_taken_for_such_and_levels_anywhere_fit_better() -> None:
    weight = normal(4, K, N)
    free, exact = round4(blocks_of(weight), with_rest=True)
    whole, whole_exact = round4(blocks_of(weight), with_rest=False)
    assert not exact
    assert not whole_exact
    assert error(free, weight) < error(whole, weight) < 0.1


def test_levels_with_whole_zero_points_alone_do_lose_and_say_so() -> None:
    weight = q4_1(5)
    rounded, exact = round4(blocks_of(weight), with_rest=False)
    assert not exact
    assert rounded.rest is None
    assert 0.01 < error(rounded, weight) < 0.1


def test_eight_bits_bring_back_a_file_of_q8_0_and_are_close_for_others() -> None:
    values = np.random.default_rng(6).integers(-127, 128, (N, K // 32, 32)).astype(np.float32)
    values[..., 0] = 127
    weight = np.ascontiguousarray((values * np.float32(0.0021)).reshape(N, K).T)
    assert error(round8(blocks_of(weight)), weight) < 1e-6
    assert error(round8(blocks_of(normal(7, K, N))), normal(7, K, N)) < 0.006


def test_blocks_of_zeros_and_of_one_value_survive() -> None:
    weight = np.zeros((K, N), np.float32)
    weight[32:64] = 0.7
    weight[64:96] = -0.7
    for rounded in (round8(blocks_of(weight)), *(round4(blocks_of(weight), sums)[0] for sums in (True, False))):
        assert np.allclose(rounded.weights(), weight, atol=0.01)


def test_slices_don_t_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = blocks_of(normal(8, K, N))
    whole, _ = round4(weight, with_rest=True)
    monkeypatch.setattr(blocks, "SLICE", 7)
    sliced, _ = round4(weight, with_rest=True)
    assert np.array_equal(whole.values, sliced.values)
    assert np.array_equal(whole.scales, sliced.scales)


def test_a_width_that_is_no_whole_number_of_blocks_is_filled_up() -> None:
    weight = normal(9, 40, N)
    rounded, _ = round4(blocks_of(weight), with_rest=False)
    assert rounded.values.shape == (N, 2, 32)
    assert error(rounded, weight) < 0.12
    assert not rounded.weights()[40:].any()


def test_two_values_share_a_byte_the_first_in_the_low_half() -> None:
    assert packed(np.array([[1, 2, 15]], np.uint8)).tolist() == [[0x21, 0x0F]]


def lows(columns: blocks.Rounded, of: int) -> Any:
    """The lowest level of each block as zero points and columns give it, ``[N, of]``."""
    digits = (columns.values[:, of:].astype(np.float32) - 8) * columns.scales[:, of:, None] / 32
    copies = digits.reshape(len(digits), -1)[:, : mean_copies(of) * of].reshape(len(digits), -1, of)
    return copies.sum(1) - columns.zeros[:, :of].astype(np.float32) * columns.scales[:, :of]


@pytest.mark.parametrize("inner", [32, K, 576, 1024, 1536, 1056])
def test_rest_as_columns_is_off_by_no_more_than_half_floats_are(inner: int) -> None:
    rounded, _ = round4(blocks_of(q4_1(10, inner)), with_rest=True)
    assert rounded.rest is not None
    assert rounded.zeros is not None
    wider = rest_as_columns(rounded)
    of = inner // 32
    assert wider.values.shape == (N, of + -(-of * mean_copies(of) // 32), 32)
    assert np.array_equal(wider.values[:, :of], rounded.values)
    assert wider.zeros is not None and np.array_equal(wider.zeros[:, :of], rounded.zeros)
    # A level seven steps below zero is up to 0.004 of a step off in half precision.
    off = (lows(wider, of) - (rounded.rest - rounded.zeros * rounded.scales)) / rounded.scales
    assert np.abs(off).max() < 0.006
    assert np.sqrt(np.square(off).mean()) < 0.002


def test_a_rest_of_nothing_stays_nothing_beside_others() -> None:
    weight = q4_1(18)
    weight[:32] = np.clip(np.rint(normal(19, 32, N) * 3), -8, 7) * 0.25
    weight[0], weight[1] = -2, 1.75  # whole levels from -8 to 7
    rounded, exact = round4(blocks_of(weight), with_rest=True)
    assert exact
    assert rounded.rest is not None
    assert not rounded.rest[:, 0].any()
    assert np.allclose(lows(rest_as_columns(rounded), K // 32)[:, 0], -2, atol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 18, 31, 32, 33, 48, 64, 280])
def test_means_are_repeated_until_all_stand_once_more_behind_a_block(count: int) -> None:
    copies, begin = mean_copies(count), -(-count // 32) * 32
    assert begin + count <= copies * count < begin + 2 * count


def uniform(seed: int) -> Any:
    return np.random.default_rng(seed).uniform(-1, 1, (K, N)).astype(np.float32)


def with_outliers(seed: int) -> Any:
    weight = normal(seed, K, N)
    weight[5::32] *= 8
    return weight


@pytest.mark.parametrize(
    "weight",
    [normal(20, K, N), normal(21, K, N) ** 3, uniform(22), with_outliers(23), normal(24, K, N) * 1e-3 + 1],
    ids=["normal", "heavy tails", "uniform", "outliers", "far from zero"],
)
def test_no_block_is_further_off_than_between_its_least_and_its_greatest(weight: Any) -> None:
    rows = blocks_of(weight)
    low, step = rows.min(-1, keepdims=True), np.maximum(np.ptp(rows, axis=-1, keepdims=True) / 15, 1e-9)
    plain = np.square(np.rint((rows - low) / step) * step + low - rows).sum(-1)
    rounded, _ = round4(rows, with_rest=True)
    off = np.square(rounded.weights().T.reshape(rows.shape) - rows).sum(-1)
    assert (off <= plain * 1.001 + 32 * np.square(np.spacing(np.abs(rows).max()))).all()
    assert off.sum() < 0.98 * plain.sum()


# -- graphs ----------------------------------------------------------------------------------------------------------

WIDTH, HIDDEN, VOCAB = 256, 2048, 1024


def decoder(path: Path, tied: bool = True) -> Path:
    """ids → embedding → a product of half a million weights of Q4_1 → one back, narrowing → head."""
    from onnx import TensorProto, helper, numpy_helper

    head = q8_0_table().T
    weights = {"up": q4_1(11, WIDTH, HIDDEN), "down": q4_1(12, HIDDEN, WIDTH), "head": np.ascontiguousarray(head)}
    nodes = [helper.make_node("Transpose", ["head"], ["table"], perm=[1, 0])]
    if not tied:
        weights["table"] = normal(13, VOCAB, WIDTH)
        nodes = []
    nodes += [
        helper.make_node("Gather", ["table", "input_ids"], ["x"], name="embed"),
        helper.make_node("MatMul", ["x", "up"], ["h"], name="up_proj"),
        helper.make_node("MatMul", ["h", "down"], ["y"], name="down_proj"),
        helper.make_node("MatMul", ["y", "head"], ["logits"], name="lm_head"),
    ]
    graph = helper.make_graph(
        nodes,
        "decoder",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, [1, "n"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, "n", VOCAB])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def q8_0_table() -> Any:
    values = np.random.default_rng(14).integers(-127, 128, (VOCAB, WIDTH)).astype(np.float32)
    values[:, ::32] = 127
    return values * np.float32(0.004)


def logits(path: Path) -> Any:
    import onnxruntime as ort

    ids = np.random.default_rng(15).integers(0, VOCAB, (1, 9))
    return ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"input_ids": ids})[0]


def rewritten(tmp_path: Path, bits: int, sums: int | None, tied: bool = True) -> Path:
    from playground.export.quantization.graph import rewrite
    from playground.export.quantization.weights import Graph

    target = tmp_path / f"{bits}-{sums}" / "model.onnx"
    rewrite(Graph.read(decoder(tmp_path / "plain.onnx", tied)), target, bits, lambda *_: None, sums=sums)
    return target


def off(path: Path, tmp_path: Path) -> float:
    exact = logits(tmp_path / "plain.onnx")
    return float((logits(path) - exact).std() / exact.std())


def nodes_of(path: Path) -> list[Any]:
    return list(onnx.load(path, load_external_data=False).graph.node)


def test_four_bits_with_means_cost_what_rounded_activations_cost_and_no_more(tmp_path: Path) -> None:
    with_means, eight = rewritten(tmp_path, 4, sums=WIDTH * HIDDEN), rewritten(tmp_path, 8, sums=WIDTH * HIDDEN)
    kinds = [node.op_type for node in nodes_of(with_means)]
    assert kinds == ["GatherBlockQuantized", *["AveragePool", "Concat", "MatMulNBits"] * 2, "MatMulNBits"]
    assert off(with_means, tmp_path) < max(0.02, 1.5 * off(eight, tmp_path))


def test_what_four_bits_would_not_change_needs_no_eight(tmp_path: Path) -> None:
    def bits(path: Path) -> list[int]:
        found = (node for node in nodes_of(path) if node.op_type == "MatMulNBits")
        return [a.i for node in found for a in node.attribute if a.name == "bits"]

    assert bits(rewritten(tmp_path, 4, sums=WIDTH * HIDDEN)) == [4, 4, 8]
    assert bits(rewritten(tmp_path, 4, sums=None)) == [4, 8, 8]


def test_a_small_product_goes_without_means(tmp_path: Path) -> None:
    plain = rewritten(tmp_path, 4, sums=WIDTH * HIDDEN + 1)
    assert "AveragePool" not in [node.op_type for node in nodes_of(plain)]
    assert 0.02 < off(plain, tmp_path) < 0.2


@pytest.mark.parametrize(("tied", "tables"), [(True, 1), (False, 2)])
def test_embedding_and_head_are_rounded_and_stored_once_where_they_are_the_same(
    tmp_path: Path, tied: bool, tables: int
) -> None:
    target = rewritten(tmp_path, 8, sums=WIDTH * HIDDEN, tied=tied)
    assert nodes_of(target)[0].op_type == "GatherBlockQuantized"
    products, table = 2 * WIDTH * HIDDEN, WIDTH * VOCAB
    least = (products + tables * table) * 1.125
    assert least < target.with_name("model.onnx.data").stat().st_size < least + 0.5 * table
    assert off(target, tmp_path) < 0.03


def test_what_stands_transposed_and_is_an_output_stays(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    from playground.export.quantization.graph import rewrite
    from playground.export.quantization.weights import Graph

    path = decoder(tmp_path / "plain.onnx")
    model = onnx.load(path)
    model.graph.node.append(helper.make_node("Transpose", ["y"], ["turned"], perm=[0, 2, 1]))
    model.graph.output.append(helper.make_tensor_value_info("turned", TensorProto.FLOAT, [1, WIDTH, "n"]))
    onnx.save(model, path)
    rewrite(Graph.read(path), tmp_path / "out" / "model.onnx", 8, lambda *_: None)
    assert logits(tmp_path / "out" / "model.onnx").shape == (1, 9, VOCAB)


def test_products_that_feed_attention_are_found_through_splits_and_norms() -> None:
    from onnx import helper

    from playground.export.quantization.graph import feeding

    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["qkv"], name="qkv"),
        helper.make_node("Split", ["qkv"], ["q", "k", "v"]),
        helper.make_node("SimplifiedLayerNormalization", ["q", "gain"], ["qn"]),
        helper.make_node("GroupQueryAttention", ["qn", "k", "v", "past"], ["a"], domain="com.microsoft"),
        helper.make_node("MatMul", ["a", "o"], ["y"], name="o"),
    ]
    assert feeding(helper.make_graph(nodes, "g", [], []), "GroupQueryAttention", slice(3)) == ["qkv"]
