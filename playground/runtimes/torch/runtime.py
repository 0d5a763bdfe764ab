"""The weights as they were published, run by transformers on torch: in fp32, the fallback and the reference; in bf16 on
an accelerator, for those who ask for it.

Only the forward pass and the KV cache are transformers'; the loop, the sampler and the stamps are the ones the other
local runtime has. The module does not know text, sampling or time.
"""

from __future__ import annotations

from pathlib import Path

import torch
from transformers.utils.logging import disable_progress_bar

from playground.errors import RunError, reason_of
from playground.messages import msg
from playground.records import LoadSpec
from playground.runtimes.generation.decoding import DecodingRuntime
from playground.runtimes.generation.engine import Engine
from playground.runtimes.torch.accelerator import BF16, find_accelerator
from playground.runtimes.torch.causal import TorchEngine
from playground.runtimes.torch.networks import load_network
from playground.runtimes.torch.seq2seq import TorchSeq2SeqEngine

_NEXT_STEP = msg("Prepare the model again, or choose another variant.")


class TorchRuntime(DecodingRuntime):
    """The ``torch`` runtime."""

    def open_engine(self, load: LoadSpec) -> Engine:
        """See ``DecodingRuntime.open_engine``.

        Raises:
            RunError: transformers can't load it, or its network computes nothing from text alone.
        """
        torch.set_num_threads(load.threads)
        disable_progress_bar()  # stderr belongs to the worker's log
        folder = Path(load.artifact.path)
        accelerator = None
        if load.artifact.variant.precision == BF16:
            accelerator = find_accelerator()
            if accelerator is None:
                raise RunError(
                    msg("{model}: torch finds no accelerator here (CUDA or MPS)", model=load.artifact.variant),
                    _NEXT_STEP,
                )
        try:
            network = load_network(folder, bf16=accelerator is not None)
            if accelerator:
                network.model.to(accelerator.device)
            if network.has_encoder:
                return TorchSeq2SeqEngine(network.model, accelerator)
        except Exception as error:  # transformers raises OSError, ValueError, KeyError, its own and safetensors' errors
            raise RunError(
                msg(
                    "{model}: transformers can't load it ({reason})",
                    model=load.artifact.variant,
                    reason=reason_of(error),
                ),
                _NEXT_STEP,
            ) from error
        try:
            return TorchEngine(network.model, accelerator)
        except Exception as error:  # a class that can't generate lacks whatever is asked for first
            raise RunError(
                msg(
                    "{model}: transformers' network computes nothing from text alone ({reason})",
                    model=load.artifact.variant,
                    reason=reason_of(error),
                ),
                msg("Choose another model."),
            ) from error
