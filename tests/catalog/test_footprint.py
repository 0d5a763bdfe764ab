"""The memory estimate, held against figures that were measured, and its use for what runs here."""

from __future__ import annotations

from typing import Any

import pytest

from playground.catalog.footprint import KERNELS_BEHIND, MB, ROOM, Footprint, cache_mb, estimate, of_files, whole_mb
from playground.catalog.hub import HubInfo
from playground.catalog.kv_cache import cache_of

SMOLLM2 = {"layers": 30, "hidden_size": 576, "attention_heads": 9, "key_value_heads": 3, "vocab_size": 49152}
GEMMA = {"layers": 18, "hidden_size": 640, "key_value_heads": 1, "head_dim": 256, "vocab_size": 262144}
LLAMA_2 = {"layers": 32, "hidden_size": 4096, "attention_heads": 32, "key_value_heads": 32, "vocab_size": 32000}

SMOLLM2_CONFIG = {
    "model_type": "llama",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_attention_heads": 9,
    "num_hidden_layers": 30,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
}
HALF_B = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_attention_heads": 16,
    "num_hidden_layers": 24,
    "num_key_value_heads": 16,
    "vocab_size": 32000,
}
UNTIED = {"tie_word_embeddings": False}
GEMMA_CONFIG = {
    "model_type": "gemma3_text",
    "head_dim": 256,
    "hidden_size": 640,
    "intermediate_size": 2048,
    "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 3,
    "num_attention_heads": 4,
    "num_hidden_layers": 18,
    "num_key_value_heads": 1,
    "sliding_window": 512,
    "vocab_size": 262144,
}
TOKENIZERS = {"llama": 3_522_871, "gemma3_text": 33_371_397}


@pytest.mark.parametrize(
    ("parameters", "shape", "precision", "file_mb"),
    [
        (134_515_008, SMOLLM2, "fp32", 538),
        (134_515_008, SMOLLM2, "int8", 155),
        (134_515_008, SMOLLM2, "int4", 108),
        (268_098_176, GEMMA, "int8", 375),
    ],
)
def test_the_weights_are_within_a_fifth_of_files_that_were_made(
    parameters: int, shape: dict[str, int], precision: str, file_mb: float
) -> None:
    assert estimate(parameters, "onnx", precision, shape).weights_mb == pytest.approx(file_mb, rel=0.22)


# Bytes of products in the graph (weights and scales), and the worker's peak while it answered, as measured.
MEASURED: list[tuple[dict[str, Any], str, str, float, int, int, float]] = [
    (SMOLLM2_CONFIG, "onnx", "int8", 153.0e6, 68, 8, 353),
    (SMOLLM2_CONFIG, "onnx", "int8", 153.0e6, 544, 16, 379),
    (SMOLLM2_CONFIG, "onnx", "int8", 153.0e6, 2074, 16, 474),
    (SMOLLM2_CONFIG, "onnx", "int4", 107.6e6, 68, 8, 308),
    (SMOLLM2_CONFIG, "onnx", "int4", 107.6e6, 544, 16, 347),
    (SMOLLM2_CONFIG, "onnx", "int4", 107.6e6, 2074, 16, 434),
    (SMOLLM2_CONFIG, "onnx", "fp32", 540.0e6, 68, 16, 793),
    (SMOLLM2_CONFIG, "onnx", "fp32", 540.0e6, 544, 64, 819),
    (SMOLLM2_CONFIG, "onnx", "fp32", 540.0e6, 2074, 64, 918),
    (SMOLLM2_CONFIG, "torch", "fp32", 538.1e6, 31, 32, 928),
    (SMOLLM2_CONFIG, "torch", "fp32", 538.1e6, 1531, 32, 1030),
    (GEMMA_CONFIG, "onnx", "int8", 308.0e6, 39, 8, 661),
    (GEMMA_CONFIG, "onnx", "int8", 308.0e6, 515, 16, 662),
    (GEMMA_CONFIG, "onnx", "int8", 308.0e6, 2045, 16, 704),
    (GEMMA_CONFIG, "torch", "fp32", 1072.4e6, 128, 5, 1718),
]


@pytest.mark.parametrize(("config", "runtime", "precision", "weights", "prompt", "new", "peak_mb"), MEASURED)
def test_what_is_expected_of_prepared_models_is_within_a_fifth_of_what_was_measured(
    *, config: dict[str, Any], runtime: str, precision: str, weights: float, prompt: int, new: int, peak_mb: float
) -> None:
    tokenizer = TOKENIZERS[config["model_type"]]
    recipe = "fused" if runtime == "onnx" else "none"
    made = of_files(
        weights,
        runtime,
        precision,
        recipe,
        config,
        tokenizer_bytes=tokenizer,
        prompt_tokens=prompt,
        new_tokens=new,
    )
    assert made.total_mb == pytest.approx(peak_mb, rel=0.2)


# The same where the playground's kernels compute.
BY_KERNELS: list[tuple[dict[str, Any], str, float, int, int, float]] = [
    (SMOLLM2_CONFIG, "int8", 153.0e6, 31, 16, 219),
    (SMOLLM2_CONFIG, "int8", 153.0e6, 2056, 16, 271),
    (SMOLLM2_CONFIG, "int8", 153.0e6, 4520, 16, 339),
    (SMOLLM2_CONFIG, "int4", 107.6e6, 31, 16, 173),
    (SMOLLM2_CONFIG, "int4", 107.6e6, 2056, 16, 225),
    (GEMMA_CONFIG, "int8", 308.0e6, 11, 16, 443),
    (GEMMA_CONFIG, "int8", 308.0e6, 2036, 16, 488),
]


@pytest.mark.parametrize(("config", "precision", "weights", "prompt", "new", "peak_mb"), BY_KERNELS)
def test_what_is_expected_where_the_kernels_compute_is_close_to_what_was_measured(
    *, config: dict[str, Any], precision: str, weights: float, prompt: int, new: int, peak_mb: float
) -> None:
    sizes = {"tokenizer_bytes": TOKENIZERS[config["model_type"]], "prompt_tokens": prompt, "new_tokens": new}
    made = of_files(weights, "onnx", precision, "fused", config, **sizes, kernels=True)
    assert made.total_mb == pytest.approx(peak_mb, rel=0.12)


@pytest.mark.parametrize(
    ("config", "precision", "weights", "peak_mb"),
    [
        (SMOLLM2_CONFIG, "int8", 153.0e6, 236),
        (SMOLLM2_CONFIG, "int4", 107.6e6, 188),
        (GEMMA_CONFIG, "int8", 308.0e6, 643),
    ],
)
def test_what_is_expected_while_a_model_is_loaded_is_close_to_what_was_measured(
    config: dict[str, Any], precision: str, weights: float, peak_mb: float
) -> None:
    sizes = {"tokenizer_bytes": TOKENIZERS[config["model_type"]], "prompt_tokens": 0, "new_tokens": 0}
    made = of_files(weights, "onnx", precision, "fused", config, **sizes, kernels=True)
    assert made.process_mb + made.weights_mb + made.loading_mb == pytest.approx(peak_mb, rel=0.15)


@pytest.mark.parametrize(("parameters", "shape", "config"), [(134_515_008, SMOLLM2, SMOLLM2_CONFIG)])
@pytest.mark.parametrize(("precision", "peak_mb"), [("int8", 474), ("int4", 434), ("fp32", 918)])
def test_the_catalogue_expects_the_same_before_anything_is_downloaded(
    parameters: int, shape: dict[str, int], config: dict[str, Any], precision: str, peak_mb: float
) -> None:
    assert estimate(parameters, "onnx", precision, shape, 2138).run_mb == pytest.approx(peak_mb, rel=0.2)
    assert estimate(parameters, "onnx", precision, config, 2138).run_mb == pytest.approx(peak_mb, rel=0.2)


def test_the_kernels_keep_what_goes_into_short_convolutions_of_some_thousand_tokens() -> None:
    config = {"model_type": "lfm2", "hidden_size": 1024, "num_attention_heads": 16, "num_hidden_layers": 4}
    config |= {"num_key_value_heads": 8, "layer_types": ["conv", "conv", "full_attention", "conv"]}

    def expected(tokens: int) -> float:
        sizes = {"tokenizer_bytes": 0, "prompt_tokens": tokens, "new_tokens": 0}
        return of_files(0, "onnx", "int8", "fused", config, **sizes, kernels=True).cache_mb

    keys, inputs = 2 * 8 * 64 * 2, 3 * 1024 * 4
    assert expected(1024) == pytest.approx((keys + inputs) * 1024 / MB)
    assert expected(8192) == pytest.approx((keys * 8192 + inputs * KERNELS_BEHIND) / MB)


def test_the_cache_of_llama_2_is_what_its_shape_says() -> None:
    known = estimate(6_738_415_616, "torch", "fp32", LLAMA_2)
    longer = estimate(6_738_415_616, "torch", "fp32", LLAMA_2, 4096)
    one = 2 * 32 * 4096 * 2048 * 4 / 1e6
    assert longer.run_mb - known.run_mb == pytest.approx(one, rel=0.05)
    assert estimate(6_738_415_616, "torch", "fp32").run_mb == pytest.approx(known.run_mb, rel=0.01)


def test_grouped_heads_need_less_cache() -> None:
    many, few = SMOLLM2 | {"key_value_heads": 9}, SMOLLM2
    assert estimate(10**8, "onnx", "int4", few).run_mb < estimate(10**8, "onnx", "int4", many).run_mb


def test_a_fused_cache_grows_in_steps_and_a_growing_graph_holds_it_twice() -> None:
    cache = cache_of(SMOLLM2_CONFIG)
    assert cache is not None
    one = cache.token_bytes / MB
    assert cache_mb(cache, "onnx", "fused", 1, 0) == pytest.approx(ROOM * one)
    assert cache_mb(cache, "onnx", "fused", ROOM, 1) == pytest.approx(2 * ROOM * one)
    assert cache_mb(cache, "onnx", "optimum", 100, 50) == pytest.approx(2 * 150 * one)
    assert cache_mb(cache, "torch", "none", 100, 50) == pytest.approx(150 * one)


def test_torch_keeps_only_the_window_of_gemmas_sliding_layers_and_exports_keep_all() -> None:
    cache = cache_of(GEMMA_CONFIG)
    assert cache is not None
    layer = 2 * 256 * 4
    assert cache_mb(cache, "torch", "none", 2000, 0) == pytest.approx((3 * 2000 + 15 * 512) * layer / MB)
    assert cache_mb(cache, "onnx", "fused", 2048, 0) == pytest.approx(18 * 2048 * layer / MB)


# Of random Llamas in bf16 (AMD EPYC, two cores): the processes of `prepare` together, what they hold for themselves.
PREPARED = [
    (162_791_424, "int8", 808, SMOLLM2_CONFIG | UNTIED),
    (162_791_424, "int4", 774, SMOLLM2_CONFIG | UNTIED),
    (468_189_184, "int4", 989, HALF_B | UNTIED),
    (6_738_415_616, "int4", 6694, LLAMA_2 | {"intermediate_size": 11008} | UNTIED),
]


@pytest.mark.parametrize(("parameters", "precision", "peak_mb", "shape"), PREPARED)
def test_what_preparing_is_expected_to_take_is_close_to_what_was_measured(
    parameters: int, precision: str, peak_mb: float, shape: dict[str, int]
) -> None:
    assert estimate(parameters, "onnx", precision, shape).prepare_mb == pytest.approx(peak_mb, rel=0.15)


def test_of_a_layers_experts_one_is_there_at_a_time_twice() -> None:
    shape = {"vocab_size": 1000, "hidden_size": 1024, "num_experts": 16, "moe_intermediate_size": 768, "layers": 12}
    made = estimate(485_000_000, "onnx", "int8", shape)
    assert made.prepare_mb == pytest.approx(made.weights_mb + 4 * 4 * 768 * 1024 / MB + 500)


def test_preparing_holds_what_is_made_and_one_matrix_or_all_of_them_where_torch_runs() -> None:
    made = estimate(10**9, "onnx", "int4", LLAMA_2)
    assert made.prepare_mb == pytest.approx(made.weights_mb + 4 * 32000 * 4096 / MB + 500)
    assert estimate(10**9, "torch", "fp32").prepare_mb == pytest.approx(4000 + 1500)
    assert whole_mb(10**9, "optimum") == pytest.approx(12000 + 1500)


def test_a_7b_is_prepared_on_a_16_gb_machine_and_is_no_matter_for_torch_there() -> None:
    assert estimate(7_000_000_000, "onnx", "int4", LLAMA_2).prepare_mb < 8_000
    assert estimate(7_000_000_000, "onnx", "int8", LLAMA_2).fits(16_000)
    assert not estimate(7_000_000_000, "torch", "fp32", LLAMA_2).fits(24_000)
    assert estimate(7_000_000_000, "onnx", "int8", LLAMA_2, prebuilt=True).fits(24_000)
    brings = HubInfo("someone/twenty", "1", parameters=20_000_000_000, onnx_files=("onnx/model_int8.onnx",))
    without = HubInfo("someone/twenty", "1", parameters=20_000_000_000)
    assert brings.footprint().prepare_mb == brings.footprint().run_mb
    assert without.footprint().prepare_mb != without.footprint().run_mb


def test_what_needs_more_than_the_machine_has_does_not_fit() -> None:
    footprint = Footprint(weights_mb=1, run_mb=900, prepare_mb=1000)
    assert footprint.fits(1000)
    assert not footprint.fits(999)
