"""What a model keeps of the tokens it has read, from its config.json: keys and values, and states of fixed size.

    one token = Σ over attention layers of 2 × key-value heads × head size × 4 bytes (fp32)

The playground's kernels keep half of that (``footprint.KERNELS_CACHE``).

Families say it in many ways: multi-query attention (one head for all), a number of heads for each layer, layers that
share another one's cache (Gemma 3n), latent attention that caches expanded heads (DeepSeek), convolutions and linear
attention with a state of fixed size (LFM2, Qwen3-Next), Mamba layers between those of attention (Granite 4 hybrid,
Bamba, Nemotron H) or in the same layer (Falcon H1), decoders that also keep the encoder's keys and values. The module
knows configurations; it does not know engines or what else takes memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from playground.catalog.config_names import (
    ATTENTION_HEADS,
    HEAD_DIM,
    HIDDEN_SIZE,
    KEY_VALUE_HEADS,
    LAYERS,
    is_whole,
    size,
    whole,
)

BYTES = 4
"""Of one element: onnxruntime and torch keep caches in fp32, whatever the weights are."""


_LETTERS = {"M": "mamba", "*": "attention"}


@dataclass(frozen=True)
class Cache:
    """Sizes in bytes.

    Attributes:
        full_bytes: For each token, of layers that see all of them.
        window_bytes: For each token, of layers that see the last ``window`` only.
        fixed_bytes: States that do not grow.
        cross_bytes: For each token of the prompt, of layers that look at an encoder's output.
        conv_bytes: What goes into convolutions, for each token: the playground's kernels keep that.
        state_bytes: Those of the fixed ones that are states of Mamba layers: what stands behind the last token alone.
    """

    full_bytes: float
    window_bytes: float = 0.0
    window: int = 0
    fixed_bytes: float = 0.0
    cross_bytes: float = 0.0
    conv_bytes: float = 0.0
    state_bytes: float = 0.0

    @property
    def token_bytes(self) -> float:
        """For each token, as long as no window is full."""
        return self.full_bytes + self.window_bytes

    @property
    def crossed(self) -> bool:
        """Whether the prompt is an encoder's, so that the decoder's own cache holds the answer alone."""
        return self.cross_bytes > 0

    def bytes_for(self, tokens: int, *, behind: int | None) -> float:
        """What grows, for ``tokens``.

        Args:
            behind: Tokens before its window that a layer keeps; None: all.
        """
        seen = tokens if behind is None or not self.window else min(tokens, self.window + behind)
        return self.full_bytes * tokens + self.window_bytes * seen


def cache_of(config: Mapping[str, Any]) -> Cache | None:
    """The cache of a text model; None where its configuration does not say enough."""
    if config.get("is_encoder_decoder"):
        return _decoder(config)
    kinds = _kinds(config)
    width = _width(config)
    if not kinds or not width:
        return None
    full = window = fixed = convolved = states = 0.0
    for place, kind in enumerate(kinds):
        if kind == "sliding_attention":
            window += _heads(config, place) * width * BYTES
        elif "conv" in kind:
            convolved += whole(config, "hidden_size") * BYTES
            fixed += whole(config, "hidden_size") * (whole(config, "conv_L_cache") or 3) * BYTES
        elif "linear" in kind:
            fixed += _linear(config)
        elif "attention" in kind or kind == "hybrid":
            full += _heads(config, place) * width * BYTES
        if kind in ("mamba", "hybrid"):
            state, columns, taps = _mamba(config)
            states += state * BYTES
            convolved += columns * BYTES
            fixed += (state + columns * taps) * BYTES
    if not full + window + fixed:
        return None
    return Cache(full, window, whole(config, "sliding_window"), fixed, 0.0, convolved, states)


def _kinds(config: Mapping[str, Any]) -> list[str]:
    """What each layer is, without layers that use the cache of an earlier one."""
    layers = size(config, LAYERS)
    kinds = config.get("layer_types", config.get("layers_block_type"))
    pattern, attending = config.get("hybrid_override_pattern"), config.get("attn_layer_indices")
    if isinstance(pattern, str):  # Nemotron H
        kinds = [_LETTERS.get(letter, "mlp") for letter in pattern]
    elif isinstance(attending, list) and not isinstance(kinds, list):  # Bamba
        kinds = ["attention" if place in attending else "mamba" for place in range(layers)]
    if not isinstance(kinds, list) or len(kinds) != layers:
        kinds = ["hybrid" if config.get("model_type") == "falcon_h1" else "full_attention"] * layers
    if not _linear(config):  # then it is Mamba that is called so
        kinds = ["mamba" if kind == "linear_attention" else kind for kind in kinds]
    return [str(kind) for kind in kinds][: layers - whole(config, "num_kv_shared_layers") or None]


def _width(config: Mapping[str, Any]) -> float:
    """Of a key and its value together, for one head. In a graph both are as wide as the wider one."""
    if whole(config, "kv_lora_rank"):
        key = whole(config, "qk_nope_head_dim") + whole(config, "qk_rope_head_dim")
        return 2.0 * max(key, whole(config, "v_head_dim"))
    heads = size(config, ATTENTION_HEADS)
    head = whole(config, *HEAD_DIM) or (size(config, HIDDEN_SIZE) / heads if heads else 0)
    return 2.0 * head


def _heads(config: Mapping[str, Any], layer: int) -> int:
    """Key-value heads of one layer. Falcon and GPT-BigCode with ``multi_query`` have one for all; Falcon's newer
    architecture says how many.
    """
    if config.get("multi_query") and not config.get("new_decoder_architecture"):
        return 1
    for name in KEY_VALUE_HEADS:
        value = config.get(name)
        if isinstance(value, list) and layer < len(value) and isinstance(value[layer], int):
            return int(value[layer])
        if is_whole(value):
            # Falcon's config always has num_kv_heads; without the newer architecture it means nothing.
            if name == "num_kv_heads" and config.get("new_decoder_architecture") is False:
                continue
            return value
    return size(config, ATTENTION_HEADS)


def _linear(config: Mapping[str, Any]) -> float:
    """State of one gated delta net: a matrix for each value head, and the convolution before it."""
    keys = whole(config, "linear_num_key_heads") * whole(config, "linear_key_head_dim")
    values = whole(config, "linear_num_value_heads") * whole(config, "linear_value_head_dim")
    matrix = values * whole(config, "linear_key_head_dim")
    return float(matrix + (2 * keys + values) * whole(config, "linear_conv_kernel_dim")) * BYTES


def _mamba(config: Mapping[str, Any]) -> tuple[int, int, int]:
    """Numbers of one Mamba layer's state, those that a token puts into the convolution before it, and its taps."""
    state = whole(config, "mamba_d_state", "ssm_state_size")
    inner = whole(config, "mamba_d_ssm") or whole(config, "mamba_num_heads") * whole(config, "mamba_head_dim")
    inner = inner or (whole(config, "mamba_expand", "expand") or 2) * size(config, HIDDEN_SIZE)
    groups = whole(config, "mamba_n_groups", "n_groups")
    return inner * state, inner + 2 * groups * state if state else 0, whole(config, "mamba_d_conv", "conv_kernel") or 4


def _decoder(config: Mapping[str, Any]) -> Cache | None:
    """T5 and BART: the decoder's own keys and values, and those it made of the encoder's output."""
    layers = whole(config, "num_decoder_layers", "decoder_layers") or size(config, LAYERS)
    heads = whole(config, "decoder_attention_heads") or size(config, ATTENTION_HEADS)
    width = whole(config, *HEAD_DIM) or (size(config, HIDDEN_SIZE) / heads if heads else 0)
    one = 2.0 * layers * heads * width * BYTES
    return Cache(one, cross_bytes=one) if one else None
