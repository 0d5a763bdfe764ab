"""Writes a tiny model of a family to disk, as transformers' publishers do: safetensors, config and tokenizer."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from tests.families.table import CONTEXT, Family
from tests.support import tiny

SIZES: dict[str, Any] = {
    "vocab_size": tiny.VOCAB,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "bos_token_id": None,
    "eos_token_id": 0,
    "tie_word_embeddings": False,
}
LAST_NORM = ("model.norm.weight", "embedding_norm.weight", "ln_f.weight", "final_layer_norm.weight")
POSITIONS = ("wpe.weight", "embed_positions.weight", "relative_attention_bias.weight")


def write(family: Family, folder: Path) -> Path:
    """One model of this family: the same bytes each time."""
    tiny.write_tokenizer(folder, template=None)
    model(family).save_pretrained(folder)
    return folder


def model(family: Family) -> Any:
    """The network, with weights that make every part of it count."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    config = AutoConfig.for_model(family.model_type, **_settings(family))
    torch.manual_seed(0)
    auto = AutoModelForSeq2SeqLM if family.kind == "text2text" else AutoModelForCausalLM
    network: Any = auto.from_config(config, dtype=torch.float32)
    randomise(network, family)
    if family.kind == "text2text":
        _untie(network)
    with torch.no_grad():
        # A logit of nothing beside others of three: no answer ends early, or is of tokens that show no text.
        network.get_output_embeddings().weight[: len(tiny.SPECIALS)] = 0.0
    if family.expand:
        return expanded(network, family.expand)
    return network.eval()


def randomise(network: Any, family: Family) -> None:
    """Draw every weight anew.

    The usual initialisation makes logits nearly flat, norms all ones and biases all zeros: a graph that forgot any of
    them would pass. Products keep the scale of what goes through them, norms and biases vary.
    """
    import torch

    embedding, head = network.get_input_embeddings().weight, network.get_output_embeddings().weight
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.dim() < 2:
                # Norms stay around one, and Gemma's, which are added to one, around zero.
                usual = weight.mean().round() if name.endswith("weight") else 0.0
                last = family.gain - 1.0 if name.endswith(LAST_NORM) and ".layers." not in name else 0.0
                weight.copy_(0.1 * torch.randn_like(weight) + usual + last)
            elif weight is embedding or name.endswith(POSITIONS):
                weight.normal_(std=family.embedding)
            else:
                # T5 does not divide by the root of the head size; its queries are small instead.
                scale = 3.0 if weight is head else 0.25 if ".q." in name else 1.0
                weight.normal_(std=scale / math.sqrt(min(weight.shape[-2:])))
        network.tie_weights()


def expanded(network: Any, blocks: int) -> Any:
    """LLaMA Pro's block expansion: behind each layer, copies of it whose two output projections are zero.

    Wu et al., "LLaMA Pro: Progressive LLaMA with Block Expansion", 2024, section 3.2. Such a block adds nothing, so
    the deeper network starts as the shallow one.
    """
    import copy

    import torch
    from transformers import LlamaForCausalLM

    config = copy.deepcopy(network.config)
    config.num_hidden_layers *= 1 + blocks
    deeper = LlamaForCausalLM(config)
    weights = {name: weight for name, weight in network.state_dict().items() if ".layers." not in name}
    for target in range(config.num_hidden_layers):
        source, copied = divmod(target, 1 + blocks)
        for name, weight in network.model.layers[source].state_dict().items():
            zero = copied and name in ("self_attn.o_proj.weight", "mlp.down_proj.weight")
            weights[f"model.layers.{target}.{name}"] = torch.zeros_like(weight) if zero else weight
    deeper.load_state_dict(weights)
    return deeper.eval()


def _untie(network: Any) -> None:
    """Flan-T5's checkpoints have a head of their own and say so, while transformers 5 ties every T5 it makes."""
    import torch

    network.lm_head.weight = torch.nn.Parameter(0.4 * torch.randn_like(network.lm_head.weight))
    network.config.tie_word_embeddings = network.config.scale_decoder_outputs = False


def _settings(family: Family) -> dict[str, Any]:
    """The sizes that this kind of configuration has, and what the family says."""
    from transformers import CONFIG_MAPPING

    usual = CONFIG_MAPPING[family.model_type]()
    return {name: value for name, value in SIZES.items() if hasattr(usual, name)} | dict(family.config)
