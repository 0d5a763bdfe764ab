"""The language model inside a network that also sees or hears, as a network of its own.

Exporters know families by their plain language models, and weights for images are of no use here. The part is taken
only where it writes the very logits that the whole writes; otherwise the whole is kept and runs by torch. The module
knows transformers' networks; it reads and writes no files.
"""

from __future__ import annotations

import copy
import logging
from typing import Any

log = logging.getLogger(__name__)

TRIED = tuple((37 * place + 11) % 89 + 3 for place in range(48))
"""Token ids on which part and whole are compared; small, for all vocabularies have them."""

SAME = 1e-4
"""Largest difference of two logits that the order of additions in fp32 explains."""


def text_part(whole: Any) -> Any | None:
    """The plain language model inside ``whole``, sharing its weights; None where there is none, or it differs.

    Args:
        whole: A causal network of transformers, in evaluation mode.
    """
    import torch

    try:
        part = _part(whole)
        if part is None:
            return None
        ids = torch.tensor([TRIED])
        with torch.no_grad():
            wanted = whole(input_ids=ids, use_cache=False).logits.float()
            got = part(input_ids=ids, use_cache=False).logits.float()
    except MemoryError:
        raise
    except Exception as error:  # a class that is put together in another way raises whatever it comes upon
        log.info(
            "the language model of %s is not taken out (%s: %s)", type(whole).__name__, type(error).__name__, error
        )
        return None
    scale = max(1.0, float(wanted.abs().max()))
    if wanted.shape != got.shape or not float((wanted - got).abs().max()) <= SAME * scale:
        log.info("the language model of %s alone writes other logits; it stays whole", type(whole).__name__)
        return None
    return part


def _part(whole: Any) -> Any | None:
    import torch
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    config = whole.config.get_text_config(decoder=True)
    decoder, head = whole.get_decoder(), whole.get_output_embeddings()
    if config is whole.config or type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING or head is None:
        return None
    kind = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    with torch.device("meta"):
        part = kind(copy.deepcopy(config))
    prefix = part.base_model_prefix
    if type(getattr(part, prefix, None)) is not type(decoder):
        return None
    setattr(part, prefix, decoder)
    part.set_output_embeddings(head)
    # Whether the head is the embedding is said by the whole, wherever its configuration says it.
    tied = whole.get_input_embeddings().weight is head.weight
    part.config.tie_word_embeddings = tied
    if any(tensor.is_meta for tensor in (*part.parameters(), *part.buffers())):
        return None
    part.generation_config = copy.deepcopy(whole.generation_config)
    return part.eval()
