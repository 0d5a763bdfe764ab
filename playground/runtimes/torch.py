"""The weights as they were published, run by transformers on torch in fp32: the fallback and the reference.

Only the forward pass and the KV cache are transformers'; the loop, the sampler and the stamps are the ones the other
local runtime has. The module does not know text, sampling or time.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, DynamicCache
from transformers.cache_utils import DynamicLayer
from transformers.utils.logging import disable_progress_bar

from playground.errors import RunError
from playground.runtimes.base import LoadSpec
from playground.runtimes.decoding import DecodingRuntime
from playground.runtimes.engine import Engine, Logits
from playground.runtimes.torch_seq2seq import TorchSeq2SeqEngine

_NEXT_STEP = "Prepare the model again, or choose another variant."


class TorchRuntime(DecodingRuntime):
    """The ``torch`` runtime."""

    def open_engine(self, load: LoadSpec) -> Engine:
        torch.set_num_threads(load.threads)
        disable_progress_bar()  # stderr belongs to the worker's log
        folder = Path(load.artifact.path)
        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            has_encoder = bool(config.get("is_encoder_decoder"))
            model = (AutoModelForSeq2SeqLM if has_encoder else AutoModelForCausalLM).from_pretrained(
                folder,
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
            )
            return TorchSeq2SeqEngine(model.eval()) if has_encoder else TorchEngine(model.eval())
        except Exception as error:  # transformers raises OSError, ValueError, KeyError, its own and safetensors' errors
            raise RunError(f"{load.artifact.variant}: transformers can't load it ({error})", _NEXT_STEP) from error


class TorchEngine(Engine):
    """One causal language model and its KV cache."""

    name = "torch"

    def __init__(self, model: Any) -> None:
        self._model = model
        # Of a wide vocabulary, the logits of a whole chunk are hundreds of megabytes; a few old classes give no choice.
        spare = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._options = {"logits_to_keep": 1} if spare else {}
        self.reset(0)

    def reset(self, length: int) -> None:
        # transformers' dynamic cache grows by itself; with the config, sliding layers keep only their window.
        self._cache = DynamicCache(config=self._model.config)

    def rewind(self, kept: int, length: int) -> bool:
        dropped = self._cache.get_seq_length() - kept
        # Layers with a window, and states of fixed size, have forgotten what would be needed.
        if dropped and any(type(layer) is not DynamicLayer for layer in self._cache.layers):
            return False
        if dropped:
            self._cache.crop(-dropped)
        return True

    def prefill(self, ids: Sequence[int]) -> Logits:
        with torch.inference_mode():
            output = self._model(
                input_ids=torch.tensor([list(ids)]), past_key_values=self._cache, use_cache=True, **self._options
            )
            logits: Logits = output.logits[0, -1].numpy()
        return logits

    def step(self, token: int) -> Logits:
        return self.prefill((token,))

    def close(self) -> None:
        self._model = None
        self._cache = None
