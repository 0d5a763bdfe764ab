"""Encoder-decoder models on torch: the encoder reads the prompt, the decoder writes beside it.

transformers' ``generate`` prepares everything before the first token (encoder, masks, caches, the token to start with),
each class in its own way; what it would have given to its loop is taken over here, and each step does what that loop
does. So every class runs as its authors mean it, whatever cache it keeps. The module does not know text, sampling or
time, and leaves the generation settings of the model's own files to ``generation/settings.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import GenerationConfig

from playground.messages import msg
from playground.runtimes.generation.engine import Engine, EngineError, Logits
from playground.runtimes.torch.accelerator import Accelerator, as_row
from playground.runtimes.torch.interrupt import interruptible

_TOKENS = ("decoder_start_token_id", "bos_token_id", "eos_token_id", "pad_token_id")


class TorchSeq2SeqEngine(Engine):
    """One encoder-decoder model: the prompt is encoded once, and its keys and values for cross-attention are kept.

    Raises:
        EngineError: Its files do not say which token the decoder starts with.
    """

    chunk = 0

    def __init__(self, model: Any, accelerator: Accelerator | None = None) -> None:
        self._model = model
        self.name = accelerator.engine if accelerator else "torch"
        self._device = accelerator.device if accelerator else "cpu"
        own = model.generation_config
        # Nothing but the tokens: beams or penalties in there would be prepared for a loop that is not run.
        model.generation_config = GenerationConfig(**{name: getattr(own, name, None) for name in _TOKENS})
        self.starts_with = (_start(model.generation_config),)
        self._interrupted = False
        self.reset(0)

    def reset(self, length: int) -> None:
        self._given: dict[str, Any] = {}
        self._written: Any = None
        self._read = 0

    def rewind(self, kept: int, length: int) -> bool:
        return kept > 0 and kept == self._read

    def prefill(self, ids: Sequence[int]) -> Logits:
        self._interrupted = False
        prompt = torch.tensor([list(ids)], device=self._device)
        with torch.inference_mode(), interruptible(self._layers(), lambda: self._interrupted):
            self._written, self._given = self._model.generate(
                prompt, attention_mask=torch.ones_like(prompt), custom_generate=_prepared, max_new_tokens=1
            )
            logits = self._forward(is_first_iteration=True)
        self._read = len(ids)
        return logits

    def step(self, token: int) -> Logits:
        with torch.inference_mode():
            self._written = torch.cat([self._written, torch.tensor([[token]], device=self._device)], dim=-1)
            # A class without a cache reads all that was written again.
            logits = self._forward(next_sequence_length=1 if self._given["use_cache"] else None)
        self._read += 1
        return logits

    def _forward(self, **which: Any) -> Logits:
        inputs = self._model.prepare_inputs_for_generation(self._written, **which, **self._given)
        output = self._model(**inputs, return_dict=True)
        self._given = self._model._update_model_kwargs_for_generation(output, self._given, is_encoder_decoder=True)
        logits: Logits = as_row(output.logits[0, -1])
        return logits

    def interrupt(self) -> None:
        self._interrupted = True

    def _layers(self) -> Iterator[Any]:
        """Those of the encoder and the decoder."""
        for module in self._model.modules():
            if isinstance(module, torch.nn.ModuleList):
                yield from module

    def close(self) -> None:
        self._model = None
        self.reset(0)


def _start(config: GenerationConfig) -> int:
    for said in (config.decoder_start_token_id, config.bos_token_id):
        found = said[0] if isinstance(said, list) and len(said) == 1 else said
        if isinstance(found, int):
            return found
    raise EngineError(msg("its files do not say which token the decoder starts with (decoder_start_token_id)"))


def _prepared(
    model: Any,
    input_ids: Any,
    logits_processor: Any,
    stopping_criteria: Any,
    generation_config: Any,
    **given: Any,
) -> tuple[Any, dict[str, Any]]:
    """In place of ``generate``'s loop: what the loop would have begun with."""
    return input_ids, given
