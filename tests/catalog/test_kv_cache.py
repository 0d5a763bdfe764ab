"""What a model keeps of each token, by configurations as families really write them."""

from __future__ import annotations

from typing import Any

import pytest

from playground.catalog.kv_cache import Cache, cache_of

FALCON = {"model_type": "falcon", "hidden_size": 4544, "num_attention_heads": 71, "num_hidden_layers": 32}

FAMILIES: dict[str, tuple[dict[str, Any], float]] = {
    "grouped heads (Llama 3 8B)": (
        {"hidden_size": 4096, "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8},
        2 * 32 * 8 * 128 * 4,
    ),
    "heads of another width (Qwen3 0.6B)": (
        {"hidden_size": 1024, "head_dim": 128, "num_attention_heads": 16, "num_hidden_layers": 28}
        | {"num_key_value_heads": 8, "model_type": "qwen3"},
        2 * 28 * 8 * 128 * 4,
    ),
    "GPT-2's own names": (
        {"model_type": "gpt2", "n_layer": 12, "n_head": 12, "n_embd": 768},
        2 * 12 * 768 * 4,
    ),
    "MPT's own names": ({"model_type": "mpt", "n_layers": 24, "n_heads": 16, "d_model": 2048}, 2 * 24 * 2048 * 4),
    "multi-query (Falcon 7B)": (
        FALCON | {"multi_query": True, "new_decoder_architecture": False, "num_kv_heads": 71},
        2 * 32 * 64 * 4,
    ),
    "one head each (Falcon RW)": (
        FALCON | {"multi_query": False, "new_decoder_architecture": False, "num_kv_heads": 1},
        2 * 32 * 71 * 64 * 4,
    ),
    "groups in the newer architecture (Falcon 40B)": (
        FALCON | {"multi_query": True, "new_decoder_architecture": True, "num_kv_heads": 8},
        2 * 32 * 8 * 64 * 4,
    ),
    "multi-query (GPT-BigCode)": (
        {"model_type": "gpt_bigcode", "n_layer": 24, "n_head": 16, "n_embd": 2048, "multi_query": True},
        2 * 24 * 128 * 4,
    ),
    "another number of heads in each layer (OpenELM)": (
        {"head_dim": 64, "num_attention_heads": 12, "num_hidden_layers": 3, "num_kv_heads": [3, 3, 5]},
        2 * (3 + 3 + 5) * 64 * 4,
    ),
    "layers that share a cache (Gemma 3n)": (
        {"head_dim": 256, "num_attention_heads": 8, "num_hidden_layers": 30, "num_key_value_heads": 2}
        | {"num_kv_shared_layers": 10},
        2 * 20 * 2 * 256 * 4,
    ),
    "latent attention, cached expanded (DeepSeek V2 Lite)": (
        {"hidden_size": 2048, "num_attention_heads": 16, "num_hidden_layers": 27, "num_key_value_heads": 16}
        | {"kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128},
        27 * 16 * 2 * (128 + 64) * 4,
    ),
}


@pytest.mark.parametrize(("config", "token_bytes"), FAMILIES.values(), ids=FAMILIES)
def test_bytes_for_a_token(config: dict[str, Any], token_bytes: float) -> None:
    cache = cache_of(config)
    assert cache is not None
    assert cache.token_bytes == token_bytes
    assert not cache.fixed_bytes
    assert not cache.crossed


def test_convolutions_have_a_state_of_fixed_size() -> None:
    lfm2 = {
        "model_type": "lfm2",
        "hidden_size": 1024,
        "num_attention_heads": 16,
        "num_hidden_layers": 4,
        "num_key_value_heads": 8,
        "layer_types": ["conv", "conv", "full_attention", "conv"],
        "conv_L_cache": 3,
    }
    expected = Cache(full_bytes=2 * 8 * 64 * 4, fixed_bytes=3 * 1024 * 3 * 4, conv_bytes=3 * 1024 * 4)
    assert cache_of(lfm2) == expected


def test_linear_attention_has_a_state_of_fixed_size() -> None:
    qwen = {
        "hidden_size": 2048,
        "head_dim": 256,
        "num_attention_heads": 16,
        "num_hidden_layers": 4,
        "num_key_value_heads": 2,
        "layer_types": ["linear_attention"] * 3 + ["full_attention"],
        "linear_num_key_heads": 16,
        "linear_key_head_dim": 128,
        "linear_num_value_heads": 32,
        "linear_value_head_dim": 128,
        "linear_conv_kernel_dim": 4,
    }
    state = 32 * 128 * 128 + (2 * 16 * 128 + 32 * 128) * 4
    assert cache_of(qwen) == Cache(full_bytes=2 * 2 * 256 * 4, fixed_bytes=3 * state * 4)


SIZES = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 3}
MAMBA = {"mamba_d_state": 32, "mamba_d_conv": 4, "mamba_expand": 2, "mamba_n_groups": 1, "mamba_n_heads": 8}
NEMOTRON = {
    "ssm_state_size": 32, "conv_kernel": 4, "expand": 3, "n_groups": 1, "mamba_num_heads": 8, "mamba_head_dim": 16,
}  # fmt: skip
"""Inner size 128: by ``mamba_expand``, or by heads, whatever ``expand`` says."""


@pytest.mark.parametrize(
    ("config", "attending", "recurrent"),
    [
        ({"model_type": "granitemoehybrid", "layer_types": ["mamba", "attention", "mamba"], **MAMBA}, 1, 2),
        ({"layer_types": ["linear_attention", "full_attention", "linear_attention"], **MAMBA}, 1, 2),
        ({"model_type": "bamba", "attn_layer_indices": [1], **MAMBA}, 1, 2),
        ({"model_type": "falcon_h1", "mamba_d_ssm": 128, **MAMBA, "mamba_expand": 7}, 3, 3),
        ({"model_type": "falcon_h1", **MAMBA}, 3, 3),
        ({"model_type": "nemotron_h", "hybrid_override_pattern": "M-*", **NEMOTRON}, 1, 1),
        ({"model_type": "nemotron_h", "layers_block_type": ["mamba", "moe", "attention"], **NEMOTRON}, 1, 1),
    ],
    ids=["granite", "newer names", "bamba", "falcon h1", "falcon h1 by its width", "nemotron h", "nemotron h's list"],
)
def test_mamba_layers_have_a_state_and_a_convolution(config: dict[str, Any], attending: int, recurrent: int) -> None:
    state, columns = 128 * 32, 128 + 2 * 32
    assert cache_of(SIZES | config) == Cache(
        full_bytes=attending * 2 * 2 * 16 * 4,
        fixed_bytes=recurrent * (state + columns * 4) * 4,
        conv_bytes=recurrent * columns * 4,
        state_bytes=recurrent * state * 4,
    )


def test_only_full_attention_layers_grow_beyond_the_window() -> None:
    gemma = {"head_dim": 256, "num_attention_heads": 4, "num_hidden_layers": 6, "num_key_value_heads": 1}
    cache = cache_of(gemma | {"layer_types": ["sliding_attention"] * 5 + ["full_attention"], "sliding_window": 512})
    assert cache is not None
    layer = 2 * 256 * 4
    assert cache.bytes_for(2000, behind=0) == (2000 + 5 * 512) * layer
    assert cache.bytes_for(2000, behind=100) == (2000 + 5 * 612) * layer
    assert cache.bytes_for(2000, behind=None) == 6 * 2000 * layer


def test_a_decoder_behind_an_encoder_keeps_keys_and_values_of_both() -> None:
    t5 = {
        "model_type": "t5",
        "is_encoder_decoder": True,
        "num_layers": 8,
        "num_decoder_layers": 6,
        "num_heads": 6,
        "d_kv": 64,
        "d_model": 512,
    }
    one = 2 * 6 * 6 * 64 * 4
    assert cache_of(t5) == Cache(one, cross_bytes=one)


@pytest.mark.parametrize("config", [{}, {"num_hidden_layers": 4}, {"model_type": "mamba", "hidden_size": 768}])
def test_what_the_configuration_does_not_say_is_unknown(config: dict[str, Any]) -> None:
    assert cache_of(config) is None
