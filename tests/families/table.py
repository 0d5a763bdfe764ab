"""Which architectures there are, as data: one row for each structure that a way of exporting could get wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

CONTEXT = 704
"""More than the check reads, so that it is never cut short."""

WINDOW = 96
"""Sliding windows are shorter than one chunk of a prompt, so that both prefill and decoding leave them behind."""


@dataclass(frozen=True)
class Family:
    """One structure.

    Attributes:
        name: Short, for tests and the table.
        models: Published models that are built like this.
        proves: What is particular about it.
        model_type: Of transformers' configuration.
        config: What differs from ``builders.SIZES``.
        expand: Identity blocks put behind each layer, as LLaMA Pro does.
        loud: Whether embeddings are made large on their way in, so that they must be drawn smaller still.
    """

    name: str
    models: str
    proves: str
    model_type: str
    config: Mapping[str, Any] = field(default_factory=dict)
    expand: int = 0
    loud: bool = False
    kind: Literal["base", "text2text"] = "base"

    @property
    def tied(self) -> bool:
        """Whether the embeddings serve as the head, too."""
        return bool(self.config.get("tie_word_embeddings"))

    @property
    def embedding(self) -> float:
        """Standard deviation of the embeddings. Tied ones must be small, or every token predicts itself."""
        return 1.0 if not self.tied else 0.02 if self.loud else 0.05

    @property
    def gain(self) -> float:
        """What the last norm multiplies by, so that small embeddings still give logits far apart."""
        return 1.0 if not self.tied else 12.0 if self.loud else 6.0


LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 32.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 128,
}

FALCON = {"new_decoder_architecture": False, "multi_query": False, "parallel_attn": True, "bias": False, "alibi": False}

FAMILIES = (
    Family("llama-2", "Llama 2 7B, ELYZA Japanese Llama 2", "as many KV heads as heads", "llama",
           {"num_key_value_heads": 4}),
    Family("llama-2-gqa", "Llama 2 70B, SmolLM2", "grouped KV heads", "llama"),
    Family("llama-pro", "LLaMA Pro 8B", "depth expanded by identity blocks", "llama", expand=1),
    Family("llama-3.2", "Llama 3.2 1B", "rotary angles scaled by frequency, tied embeddings", "llama",
           {"rope_parameters": LLAMA3_ROPE, "tie_word_embeddings": True}),
    Family("mistral", "Mistral 7B v0.1, BioMistral, OpenMath-Mistral", "a window shorter than the text", "mistral",
           {"sliding_window": WINDOW}),
    Family("mixtral", "Mixtral 8x7B", "two of four experts for each token", "mixtral",
           {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None}),
    Family("falcon-7b", "Falcon 7B, OpenAssistant Falcon, GPT4All Falcon", "one KV head, attention beside the MLP",
           "falcon", {**FALCON, "multi_query": True}),
    Family("falcon-40b", "Falcon 40B", "grouped KV heads, two norms before a parallel block", "falcon",
           {**FALCON, "new_decoder_architecture": True, "num_kv_heads": 2}),
    Family("falcon-alibi", "Falcon RW 1B", "distances instead of rotary angles (ALiBi)", "falcon",
           {**FALCON, "parallel_attn": False, "bias": True, "alibi": True, "num_attention_heads": 8}),
    Family("olmo", "OLMo 1B, OLMo 7B", "norms without weights, clipped projections", "olmo", {"clip_qkv": 8.0}),
    Family("olmo-2", "OLMo 2 1B", "norms behind the blocks and on queries and keys", "olmo2"),
    Family("gpt-2", "GPT-2, DistilGPT-2", "learned positions, fused projections", "gpt2",
           {"tie_word_embeddings": True}),
    Family("gpt-neox", "Pythia", "rotary angles on part of a head, parallel residual", "gpt_neox",
           {"hidden_size": 256,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25}}),
    Family("opt", "OPT 125M", "learned positions with an offset", "opt",
           {"ffn_dim": 128, "word_embed_proj_dim": 64, "tie_word_embeddings": True}),
    Family("bloom", "BLOOM 560M", "ALiBi, a norm behind the embeddings", "bloom",
           {"tie_word_embeddings": True}),
    Family("qwen-2", "Qwen2.5 0.5B", "biases on queries, keys and values", "qwen2", {"tie_word_embeddings": True}),
    Family("qwen-3", "Qwen3 0.6B", "norms on queries and keys, a head size of its own", "qwen3",
           {"head_dim": 32, "tie_word_embeddings": True}),
    Family("gemma-3", "Gemma 3 270M", "local and global layers, scaled embeddings, four norms a block", "gemma3_text",
           {"head_dim": 32, "num_key_value_heads": 1, "sliding_window": WINDOW, "query_pre_attn_scalar": 32,
            "layer_types": ["sliding_attention", "full_attention"], "tie_word_embeddings": True},
           loud=True),
    Family("phi-3", "Phi-3 mini, Phi-4 mini", "fused projections, rotary angles on part of a head", "phi3",
           {"original_max_position_embeddings": CONTEXT, "pad_token_id": 0, "sliding_window": None}),
    Family("granite", "Granite 3.3 2B", "four multipliers", "granite",
           {"embedding_multiplier": 3.0, "residual_multiplier": 0.5, "logits_scaling": 2.0,
            "attention_multiplier": 0.2, "tie_word_embeddings": True}, loud=True),
    Family("smollm-3", "SmolLM3 3B", "layers without rotary angles", "smollm3",
           {"no_rope_layers": [1, 0], "pad_token_id": 0, "tie_word_embeddings": True}),
    Family("lfm-2", "LFM2 350M", "short convolutions beside attention", "lfm2",
           {"layer_types": ["conv", "full_attention"], "block_ff_dim": 128, "tie_word_embeddings": True}),
    Family("t5", "Flan-T5 small", "encoder and decoder, relative positions", "t5",
           {"d_kv": 16, "d_ff": 128, "num_decoder_layers": 2,
            "feed_forward_proj": "gated-gelu", "decoder_start_token_id": 1, "pad_token_id": 1}, kind="text2text"),
)  # fmt: skip
