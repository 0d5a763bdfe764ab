"""Encoder-decoder models on torch: the encoder reads the prompt, the decoder writes beside it.

The module does not know text, sampling or time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache, EncoderDecoderCache

from playground.runtimes.engine import Engine, Logits


class TorchSeq2SeqEngine(Engine):
    """One encoder-decoder model: the prompt is encoded once, and its keys and values for cross-attention are kept."""

    name = "torch"
    chunk = 0

    def __init__(self, model: Any) -> None:
        self._model = model
        start = model.generation_config.decoder_start_token_id
        start = model.config.decoder_start_token_id if start is None else start
        if start is None:
            raise ValueError("config.json does not say which token the decoder starts with")
        self.starts_with = (int(start),)
        self.reset(0)

    def reset(self, length: int) -> None:
        self._cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        self._encoded: Any = None

    def prefill(self, ids: Sequence[int]) -> Logits:
        assert self.starts_with
        with torch.inference_mode():
            self._encoded = self._model.get_encoder()(input_ids=torch.tensor([list(ids)]))
        return self.step(self.starts_with[0])

    def step(self, token: int) -> Logits:
        with torch.inference_mode():
            output = self._model(
                encoder_outputs=self._encoded,
                decoder_input_ids=torch.tensor([[token]]),
                past_key_values=self._cache,
                use_cache=True,
            )
            logits: Logits = output.logits[0, -1].numpy()
        return logits

    def close(self) -> None:
        self._model = self._cache = self._encoded = None
