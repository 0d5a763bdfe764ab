"""What the names of sizes alone do not settle: for each architecture, keys of its configuration.

``a.b`` is key ``b`` of the part ``a``; DROP leaves a key to the class. A name with a ``~`` is a further shape of the
same architecture, which has something that the usual one has not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DROP = "(left out)"
Shape = dict[str, Any]

DECODERS = (
    *("bert", "bert-generation", "big_bird", "bigbird_pegasus", "camembert", "data2vec-text", "electra", "ernie"),
    *("megatron-bert", "reformer", "rembert", "roberta", "roberta-prelayernorm", "roc_bert", "roformer"),
    *("xlm-roberta", "xlm-roberta-xl", "xmod"),
)
"""Encoders by default, which transformers makes decoders of when they are told to be one."""

APART: Mapping[str, str] = {
    "gemma4_assistant": "it guesses ahead for another model, from that one's keys and values",
    "gemma4_unified_assistant": "it guesses ahead for another model, from that one's keys and values",
    "musicgen": "it writes codes of sound",
    "musicgen_melody": "it writes codes of sound",
}
"""Architectures that stand in a list of text models and answer no text on their own."""

LANGUAGE_PARTS: Mapping[str, str] = {
    "fast_vlm": "Qwen2ForCausalLM",
    "gemma3n": "Gemma3nForCausalLM",
    "perception_lm": "LlamaForCausalLM",
}
"""Composite checkpoints whose towers need a package (timm) that is not installed: the class of the language part."""

_PAIRS = ["sliding_attention", "full_attention"] * 2
_LINEAR = ["linear_attention", "linear_attention", "linear_attention", "full_attention"]
_LATENT: Shape = {"num_key_value_heads": 4, "head_dim": DROP, "qk_head_dim": DROP}
_DOTS3: Shape = {
    "num_key_value_heads": 4,
    "head_dim": 32,
    "layer_types": ["indexed_attention", "sliding_attention"] * 2,
    "swa_num_attention_heads": 4,
    "swa_num_key_value_heads": 4,
    "swa_q_lora_rank": 32,
    "swa_kv_lora_rank": 32,
    "swa_head_dim": 32,
    "swa_qk_nope_head_dim": 16,
    "swa_v_head_dim": 16,
}
_ZAMBA: Shape = {
    "layers_block_type": ["linear_attention", "hybrid", "linear_attention", "hybrid"],
    "layer_types": ["linear_attention", "hybrid", "linear_attention", "hybrid"],
    "head_dim": DROP,
}


def _inside(part: str, shape: Mapping[str, Any]) -> Shape:
    return {f"{part}.{key}": value for key, value in shape.items()}


def _mrope(*section: int) -> Shape:
    """Rotary parameters with frequencies for time, height and width: half of what is rotated, together."""
    return {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": list(section)}}


def _by_kind(*kinds: str) -> Shape:
    return {"rope_parameters": {kind: {"rope_type": "default", "rope_theta": 10000.0} for kind in kinds}}


_GEMMA3N: Shape = {
    "num_hidden_layers": 6,
    "intermediate_size": 128,
    "activation_sparsity_pattern": [0.95, 0.95, 0.0, 0.0, 0.0, 0.0],
    "num_kv_shared_layers": 2,
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 2,
}
_GEMMA4: Shape = {"layer_types": _PAIRS}
_GEMMA4_EXPERTS: Shape = {
    **_GEMMA4,
    "enable_moe_block": True,
    "num_experts": 4,
    "top_k_experts": 2,
    "moe_intermediate_size": 64,
}
_QWEN4: Shape = {
    "head_dim": 32,
    "indexer_n_heads": 4,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 32,
    "indexer_budget": 64,
    "indexer_compress_ratio": 4,
    "ngram_vocab_size_base": 500,
    "split_ngram_parts": 4,
}
_GRANITE: Shape = {
    "embedding_multiplier": 3.0,
    "residual_multiplier": 0.5,
    "logits_scaling": 2.0,
    "attention_multiplier": 0.2,
}
_GRANITE_DENSE: Shape = {**_GRANITE, "num_local_experts": 0, "num_experts_per_tok": 0}

SHAPES: Mapping[str, Shape] = {
    # -- plain decoders: what published models have beside the usual sizes
    "llama": {"tie_word_embeddings": True},
    "qwen2": {"tie_word_embeddings": True},
    "qwen3": {"tie_word_embeddings": True},
    "smollm3": {"no_rope_layers": [1, 1, 1, 0], "tie_word_embeddings": True},
    "granite": {**_GRANITE, "tie_word_embeddings": True},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]], "attention_layers": DROP},
    "gemma3_text": {"layer_types": _PAIRS, "num_key_value_heads": 1},
    "exaone4": {"layer_types": ["sliding_attention"] * 3 + ["full_attention"]},
    "phi": {"hidden_size": 128, "num_key_value_heads": 4},
    "nemotron": {"head_dim": 16, "num_key_value_heads": 2},
    "helium": {"head_dim": 16},
    "hunyuan_v1_dense": {"head_dim": 32, "tie_word_embeddings": True},
    "hunyuan_v1_moe": {"head_dim": 32},
    "ministral": {"head_dim": 32},
    "mpt": {"attn_config.alibi": True},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8, "rope_theta": 10000.0},
        "ffn_config": {"ffn_hidden_size": 64, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "xlnet": {"d_head": 16},
    "zaya": {"num_experts_per_tok": 1},
    "hrm_text": {"num_hidden_layers": 2, "num_layers_per_stack": DROP},
    "reformer": {"axial_pos_embds_dim": [32, 32], "axial_pos_shape": [32, 32], "attn_layers": ["local", "lsh"] * 2,
                 "local_attn_chunk_length": 32, "lsh_attn_chunk_length": 32,
                 "num_buckets": 8, "hash_seed": 1},
    "xmod": {"default_language": "en_XX"},
    "cohere_compass_text": _by_kind("full_attention"),
    "moshi": {"sliding_window": 1024},  # its cache has a window and its mask has none
    # -- experts
    "dots1": {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2, "num_dense_layers": 1},
    # -- keys and values in a smaller space
    "axk1": _LATENT,
    "axk2": _LATENT,
    "deepseek_v3": _LATENT,
    "deepseek_v32": _LATENT,
    "glm4_moe_lite": _LATENT,
    "glm_moe_dsa": _LATENT,
    "minicpm3": _LATENT,
    "mistral4": _LATENT,
    "youtu": _LATENT,
    "blt": {
        "encoder_hash_byte_group_vocab": 500,
        "num_hidden_layers": 4,  # generate wants to know, and the class has no such key
        **{f"{part}_config.{key}": value for part in ("encoder", "decoder", "patcher", "global")
           for key, value in {"head_dim": 16, "hidden_size_global": 64, "num_key_value_heads": 4}.items()},
    },
    "deepseek_v2": {**_LATENT, "num_experts_per_tok": 2, "n_shared_experts": 1},
    "kimi_linear": {**_LATENT, "layer_types": ["linear_attention", "full_attention"] * 2},
    "dots3_note_text": _DOTS3,
    "longcat_flash": {**_LATENT, "head_dim": 16, "zero_expert_num": 2, "num_layers": 2},
    "bailing_hybrid": {"num_key_value_heads": 4, "head_dim": 16, "layer_group_size": 2, "layer_types": DROP},
    # -- states instead of, or beside, keys and values
    "bamba": {"attn_layer_indices": [1, 3]},
    "nemotron_h": {"layers_block_type": ["mamba", "mlp", "attention", "mlp"], "layer_types": DROP},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False, "layer_types": DROP},
    "zamba": {**_ZAMBA, "attention_head_dim": 32, "attention_hidden_size": 128, "num_key_value_heads": 4,
              "mamba_dt_rank": 4, "use_mamba_kernels": False},
    "zamba2": {**_ZAMBA, "num_key_value_heads": DROP, "attention_hidden_size": DROP, "attention_head_dim": DROP,
               "mamba_headdim": DROP, "kv_channels": DROP, "num_query_groups": DROP, "hybrid_layer_ids": DROP},
    "recurrent_gemma": {"num_hidden_layers": 3, "num_key_value_heads": 1, "head_dim": DROP},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2, "block_multiple_of": 32, "full_attn_idxs": DROP},
    "granitemoehybrid": {**_GRANITE, "layer_types": _LINEAR},
    "granitemoehybrid~dense-hybrid": {**_GRANITE_DENSE, "layer_types": _LINEAR},
    "granitemoehybrid~dense": {**_GRANITE_DENSE, "layer_types": ["full_attention"] * 4,
                               "position_embedding_type": "rope", "tie_word_embeddings": True},
    "qwen3_5_text": {"head_dim": 64, "tie_word_embeddings": True},
    "qwen4_exp_text": _QWEN4,
    "xlstm": {"qk_dim_factor": 1.0, "num_blocks": DROP},
    # -- Gemma
    "gemma3n_text": {**_GEMMA3N, "tie_word_embeddings": True},
    "gemma4_text": _GEMMA4,
    "gemma4_unified_text": _GEMMA4,
    "gemma4_text~shared": {**_GEMMA4, "num_kv_shared_layers": 2, "use_double_wide_mlp": True,
                           "tie_word_embeddings": True},
    "gemma4_text~experts": _GEMMA4_EXPERTS,
    # -- composite checkpoints
    "gemma3": {**_inside("text_config", {"layer_types": _PAIRS}), "mm_tokens_per_image": 4},
    "gemma3n": _inside("text_config", _GEMMA3N),
    "gemma4": _inside("text_config", {**_GEMMA4, "num_kv_shared_layers": 2}),
    "gemma4_unified": _inside("text_config", _GEMMA4),
    "qwen3_5": {**_inside("text_config", {"head_dim": 64, "tie_word_embeddings": True}), "tie_word_embeddings": True},
    "qwen4_exp": _inside("text_config", _QWEN4),
    "dots3_note": {**_inside("text_config", _DOTS3), "vision_config.num_key_value_heads": DROP},
    "cohere_compass": {**_inside("text_config", _by_kind("full_attention")),
                       "vision_config.deepstack_visual_indexes": [1]},
    "chameleon": {"vocabulary_map": {"<image>": 383, "IMGIMGBBZ": 382}, "vq_config.base_channels": 32,
                  "vq_config.latent_channels": 32},
    "emu3": {"vocabulary_map": {"<image>": 383, "<|extra_200|>": 382, "<|visual token 000000|>": 381},
             "vq_config.base_channels": 32},
    "glm4v": _inside("text_config", _mrope(2, 3, 3)),
    "ernie4_5_vl_moe": _inside("text_config", _mrope(3, 3, 2)),
    "glm4v_moe": _inside("text_config", _mrope(1, 1, 2)),
    "mistral_large4": {"text_config.num_key_value_heads": 4, "num_key_value_heads": 4},
    "diffusion_gemma": _inside("text_config", _GEMMA4_EXPERTS),
    "deepseek_ocr2": _inside("text_config", {"num_experts_per_tok": 2, "mlp_layer_types": ["dense"] + ["sparse"] * 3}),
    "granite4_vision": {"downsample_rate": "1/2", "deepstack_layer_map": [[1, 0]], "spatial_target_layers": [1]},
    "step3p7": {"text_config.sliding_window": 96},
    "molmo2": {"adapter_config.vision_feature_layer": [1, 0]},
    "janus": {"vq_config.base_channels": 32, "vq_config.latent_channels": 32},
    "florence2": {**_inside("vision_config", {"depths": [1, 1, 1, 1], "embed_dim": [16, 32, 64, 64],
                                              "num_heads": [2, 2, 2, 2], "num_groups": [2, 2, 2, 2]})},
    "qwen2_5_omni_thinker": {**_inside("text_config", _mrope(2, 3, 3)), "vision_start_token_id": 380,
                             "vision_end_token_id": 381},
    "qwen3_omni_moe_thinker": {"vision_start_token_id": 380, "vision_end_token_id": 381},
    "glm46v": _inside("text_config", _mrope(2, 3, 3)),
    "glm_ocr": _inside("text_config", _mrope(2, 3, 3)),
    "glmga": _inside("text_config", _mrope(2, 3, 3)),
    "qwen2_vl": _inside("text_config", _mrope(2, 3, 3)),
    "qwen2_5_vl": _inside("text_config", _mrope(2, 3, 3)),
    "paddleocr_vl": _inside("text_config", _mrope(4, 6, 6)),
    "hunyuan_vl": {**_inside("text_config", _mrope(2, 3, 3)), "text_config.head_dim": 16},
    "kimi_k25": _inside("text_config", _LATENT),
    "glm5_next": _inside("text_config", {"num_key_value_heads": 4, "head_dim": 0, "qk_rope_head_dim": 0}),
    # -- encoder-decoder models
    # Positions that leave out whatever is padding start with another token.
    "prophetnet": {"pad_token_id": 0, "decoder_start_token_id": 1},  # it takes no other padding
    "m2m_100": {"decoder_start_token_id": 0},
    "nllb-moe": {"decoder_start_token_id": 0},
    "seamless_m4t": {"decoder_start_token_id": 0},
    "seamless_m4t_v2": {"decoder_start_token_id": 0},
    "nemo_speechlm": {"word_timestamp_config.num_key_value_heads": 4},
    "vibevoice_asr": {
        f"{part}_tokenizer_encoder_config.{key}": value
        for part in ("acoustic", "semantic")
        for key, value in {"num_filters": 2, "depths": [1] * 7}.items()
    },
    # -- further shapes
    "llama~llama3-rope": {
        "rope_parameters": {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 32.0, "high_freq_factor": 4.0,
                            "low_freq_factor": 1.0, "original_max_position_embeddings": 128},
    },
    "phi3~part-rotary": {
        "hidden_size": 256,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.75},
        "tie_word_embeddings": True,
    },
    "gpt_neo~four-wide": {"attention_types": [[["global", "local"], 2]], "attention_layers": DROP,
                          "intermediate_size": None},
}  # fmt: skip
