"""What config.json files call the sizes of a network: one list of synonyms for everybody who reads one.

The first name of each is the one that transformers maps the others to (``attribute_map`` of its configuration
classes). Sizes that only some networks have (experts, encoders, latent attention) stand where they are read. The module
reads values of a mapping; files, bounds and what follows from a size are others' business.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, TypeGuard

Names = tuple[str, ...]

VOCAB_SIZE: Names = ("vocab_size", "n_vocab")
HIDDEN_SIZE: Names = ("hidden_size", "n_embd", "d_model")
LAYERS: Names = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
ATTENTION_HEADS: Names = ("num_attention_heads", "n_head", "n_heads", "num_heads")
KEY_VALUE_HEADS: Names = ("num_key_value_heads", "num_kv_heads")
HEAD_DIM: Names = ("head_dim", "d_kv")
INTERMEDIATE_SIZE: Names = ("intermediate_size", "ffn_dim", "d_ff", "n_inner")
CONTEXT_LENGTH: Names = (
    *("max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length", "max_seq_len", "seq_length"),
)

ALL: tuple[Names, ...] = (
    *(VOCAB_SIZE, HIDDEN_SIZE, LAYERS, ATTENTION_HEADS, KEY_VALUE_HEADS, HEAD_DIM, INTERMEDIATE_SIZE, CONTEXT_LENGTH),
)

MOST = 10**13
"""No size and no number of parameters comes near; a stranger's file may claim anything."""

_OPTIMUM = {"num_hidden_layers": "num_layers"}
"""What optimum calls a size otherwise than transformers."""


def whole(config: Mapping[str, Any], *names: str) -> int:
    """The first of the fields that holds one that ``is_whole``; 0 where none does."""
    return next((config[name] for name in names if is_whole(config.get(name))), 0)


def is_whole(value: Any) -> TypeGuard[int]:
    """Whether it is a whole number above zero (``true`` is none) that can be counted with."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < MOST


def size(config: Mapping[str, Any], names: Names) -> int:
    """A size under any of its ``names``, or under the one that the family of ``model_type`` has for itself.

    Returns:
        0 where it is not said.
    """
    return whole(config, *names) or _by_family(config, names[0])


def _by_family(config: Mapping[str, Any], name: str) -> int:
    """By optimum's table of families with names of their own: BART's ``encoder_attention_heads``, say."""
    if "model_type" not in config:
        return 0
    from optimum.utils.normalized_config import NormalizedConfigManager  # 0.1 s, for few families

    try:
        kind = NormalizedConfigManager.get_normalized_config_class(str(config["model_type"]))
        value = getattr(kind(SimpleNamespace(**config)), _OPTIMUM.get(name, name))
    except (KeyError, AttributeError, TypeError):
        return 0
    return value if is_whole(value) else 0
