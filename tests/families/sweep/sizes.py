"""A small configuration of any architecture: its default one, with every size in it replaced by its name.

transformers' configurations call the same things by a few dozen names. Whatever a name does not settle, such as sizes
that depend on each other, stands in ``shapes.py``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tests.families.sweep.names import Architecture
from tests.families.sweep.shapes import DROP, SHAPES
from tests.support import tiny

WIDTH, INNER, LAYERS, HEADS, KV_HEADS, HEAD, VISION_LAYERS = 64, 128, 4, 4, 2, 32, 2
CONTEXT = 1024
WINDOW = 96
"""Shorter than a part of a prompt, so that both reading and answering leave it behind."""

EOS, BOS, PAD = 0, 1, 2
"""Ids of tiny.SPECIALS, each with a meaning of its own, as publishers have them."""
PLACEHOLDERS = tuple(range(tiny.VOCAB - 12, tiny.VOCAB))
"""Ids that stand for images and their like: no text becomes one of them, and no answer holds one (``networks.py``)."""


def _all(names: str, value: int) -> dict[str, int]:
    return dict.fromkeys(names.split(), value)


SIZES: Mapping[str, int] = {
    **_all("hidden_size n_embd d_model dim embedding_size embedding_dim word_embed_proj_dim emb_dim embed_dim", WIDTH),
    **_all(
        "lru_width attention_hidden_size hidden_dim decoder_hidden_size hidden_size_global backbone_hidden_size", WIDTH
    ),
    **_all("text_hidden_size vision_hidden_size encoder_hidden_size cross_attention_hidden_size input_size", WIDTH),
    **_all(
        "input_embedding_size output_embedding_size audio_hidden_size patch_embed_hidden_size projection_dim", WIDTH
    ),
    **_all("projector_hidden_size projection_hidden_size projection_hidden_dim projector_input_dim", WIDTH),
    **_all("projector_output_dim out_hidden_size output_dim adapter_out_dim adapter_in_dim adapter_input_size", WIDTH),
    **_all("image_token_embed_dim ple_embed_dim attention_width dim_model", WIDTH),
    **_all("intermediate_size ffn_dim n_inner d_ff encoder_ffn_dim decoder_ffn_dim ffn_hidden_size d_inner", INNER),
    **_all("shared_expert_intermediate_size shared_experts_intermediate_size shared_intermediate_size", INNER),
    **_all("block_ff_dim intermediate_size_mlp dff dim_ff feed_forward_size dense_intermediate_size", INNER),
    **_all("share_expert_dim alignment_intermediate_size projection_intermediate_size", INNER),
    **_all("moe_intermediate_size expert_intermediate_size expert_ffn_hidden_size moe_ffn_hidden_size", 64),
    **_all("moe_shared_expert_intermediate_size moe_hidden_size", 64),
    **_all("num_hidden_layers n_layer n_layers num_layers encoder_layers decoder_layers num_decoder_layers", LAYERS),
    **_all("num_encoder_layers num_blocks layers", LAYERS),
    **_all("num_attention_heads n_head n_heads num_heads encoder_attention_heads decoder_attention_heads", HEADS),
    **_all("num_encoder_attention_heads num_decoder_attention_heads attention_heads linear_num_heads", HEADS),
    **_all("swa_num_attention_heads num_sliding_attention_heads", HEADS),
    **_all("num_key_value_heads num_kv_heads swa_num_key_value_heads num_query_groups", KV_HEADS),
    **_all("head_dim d_kv global_head_dim swa_head_dim d_head dim_head kv_channels attention_head_size", HEAD),
    **_all("attention_head_dim query_pre_attn_scalar", HEAD),
    **_all(
        "vocab_size vocab_size_per_layer_input n_vocab src_vocab_size tgt_vocab_size decoder_vocab_size", tiny.VOCAB
    ),
    **_all("unpadded_vocab_size", tiny.VOCAB),
    **_all("max_position_embeddings n_positions n_ctx max_sequence_length max_seq_len seq_length", CONTEXT),
    **_all("max_source_positions max_target_positions max_encoder_position_embeddings context_length", CONTEXT),
    **_all("max_decoder_position_embeddings model_max_length original_max_position_embeddings", CONTEXT),
    **_all("sliding_window attention_window_size local_attention sliding_window_size", WINDOW),
    **_all("local_attention_window_len", WINDOW),
    **_all("num_experts num_local_experts n_routed_experts moe_num_experts num_routed_experts", 4),
    **_all("num_experts_per_tok num_experts_per_token num_selected_experts moe_topk moe_k top_k_experts moe_top_k", 2),
    **_all("n_group topk_group num_expert_group first_k_dense_replace n_shared_experts num_shared_experts", 1),
    **_all("qk_nope_head_dim qk_rope_head_dim v_head_dim", 16),
    **_all("kv_lora_rank q_lora_rank o_lora_rank index_head_dim indexer_head_dim qk_head_dim", 32),
    **_all("index_n_heads indexer_n_heads", 4),
    # More than there is to choose from, as in published models at these lengths: random indexers score much as exactly
    # nothing, and which of equals is chosen depends on how the sum was made.
    **_all("index_topk keep_window_size", CONTEXT),
    "indexer_budget": 64,
    **_all("mamba_n_heads mamba_num_heads mamba_dt_rank time_step_rank", 8),
    **_all("mamba_d_head mamba_d_state mamba_head_dim ssm_state_size state_size", 16),
    **_all("mamba_chunk_size chunk_size", 32),
    **_all("mamba_n_groups mamba_ngroups n_groups", 1),
    **_all("mamba_d_ssm", 128),
    **_all("mamba_expand n_mamba_heads", 2),
    **_all("linear_key_head_dim linear_value_head_dim linear_head_dim", 16),
    **_all("linear_num_key_heads", 2),
    **_all("linear_num_value_heads", 4),
    **_all("hidden_size_per_layer_input gated_norm_rank hc_lowrank", 16),
    **_all("laurel_rank adapter_rank rotary_dim", 8),
    **_all("num_kv_shared_layers", 0),
    **_all("router_hidden_size", 32),
}

VISION: Mapping[str, int] = {
    **_all("num_hidden_layers depth num_layers n_layers encoder_layers layers num_global_layers", VISION_LAYERS),
    **_all("image_size max_image_size img_size", 32),
    **_all("patch_size", 8),
    **_all("num_position_embeddings num_patches", 16),
    **_all("head_dim", 16),
    **_all("num_key_value_heads", HEADS),
}
"""What a tower for images or sounds has otherwise."""

_TOWERS = ("vision", "audio", "image", "vq", "speech", "video", "qformer", "encoder_speech", "codec", "mimi")
_DEPTHS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "num_blocks", "depth")
_NEVER = (
    "per_layer_config",
    "architectures",
    "dtype",
    "transformers_version",
    "_name_or_path",
    "_attn_implementation_autoset",
)


def configuration(architecture: Architecture, changes: Mapping[str, Any] | None = None) -> Any:
    """The small configuration of an architecture.

    Args:
        changes: Beside what ``shapes.py`` says; ``DROP`` leaves a key to the class, ``a.b`` is ``b`` in part ``a``.
    """
    from transformers import CONFIG_MAPPING

    kind = CONFIG_MAPPING[architecture.model_type]
    said = SHAPES.get(architecture.name, SHAPES.get(architecture.model_type, {}))
    small = _small(kind().to_dict(), tower=False)
    for where, value in {**said, **(changes or {})}.items():
        _put(small, where, value)
    return kind(**small)


def _small(usual: Mapping[str, Any], tower: bool) -> dict[str, Any]:
    sizes = {**SIZES, **VISION} if tower else SIZES
    depth = next((usual[name] for name in _DEPTHS if isinstance(usual.get(name), int)), 0)
    small: dict[str, Any] = {}
    for key, value in usual.items():
        if key in _NEVER or value is None:
            continue
        if isinstance(value, dict):
            small[key] = _part(key, value, tower)
        elif isinstance(value, list):
            small[key] = _shorter(key, value, depth, VISION_LAYERS if tower else LAYERS)
        elif isinstance(value, (bool, str)):
            small[key] = value
        elif key in sizes and value:
            small[key] = sizes[key]
        else:
            small[key] = value
    return {**small, **_special_ids(usual)}


def _part(key: str, value: dict[str, Any], tower: bool) -> dict[str, Any]:
    """A configuration inside, or a plain table of numbers such as rotary parameters."""
    if "model_type" in value:
        return {**_small(value, tower or any(word in key for word in _TOWERS)), "model_type": value["model_type"]}
    inside = {name: _part(name, entry, tower) if isinstance(entry, dict) else entry for name, entry in value.items()}
    if section := inside.get("mrope_section"):
        # Frequencies for time, height and width; together they are half a head.
        share = HEAD / 2 / sum(section)
        inside["mrope_section"] = [round(part * share) for part in section[:-1]]
        inside["mrope_section"].append(HEAD // 2 - sum(inside["mrope_section"]))
    return inside


def _shorter(key: str, value: list[Any], depth: int, layers: int) -> list[Any]:
    """What is said of each layer, for fewer of them: as it begins, or one of each kind where that has one kind only."""
    if not depth or len(value) != depth:
        return value
    start = value[:layers]
    kinds = list({str(entry): entry for entry in value}.values())
    if len({str(entry) for entry in start}) < min(len(kinds), layers):
        start = (kinds * layers)[: max(layers, len(kinds))][:layers]
    return start


def _special_ids(usual: Mapping[str, Any]) -> dict[str, Any]:
    """Ids inside the vocabulary; what starts and ends a text as the tokenizer has it."""
    own = {"eos_token_id": EOS, "bos_token_id": BOS, "pad_token_id": PAD, "decoder_start_token_id": PAD}
    ids = {name: index for name, index in own.items() if usual.get(name) is not None or name == "eos_token_id"}
    if usual.get("is_encoder_decoder"):
        ids["decoder_start_token_id"] = PAD
    if usual.get("forced_eos_token_id") is not None:
        ids["forced_eos_token_id"] = EOS
    wide = int(usual.get("vocab_size") or math.inf) if isinstance(usual.get("vocab_size"), int) else math.inf
    free = iter(PLACEHOLDERS * 4)
    for name, value in usual.items():
        plain = isinstance(value, int) and not isinstance(value, bool)
        if name not in ids and plain and _names_a_token(name) and (value >= tiny.VOCAB or value >= wide // 2):
            ids[name] = next(free)
    return ids


def _names_a_token(name: str) -> bool:
    return name.endswith(("token_id", "token_index", "_start_id", "_end_id", "newline_id", "patch_id"))


def _put(document: dict[str, Any], where: str, value: Any) -> None:
    part, dot, rest = where.partition(".")
    if dot:
        document[part] = document.get(part) or {}
        _put(document[part], rest, value)
    elif value == DROP:
        document.pop(where, None)
    else:
        document[where] = value
