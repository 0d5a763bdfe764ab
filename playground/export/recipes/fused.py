"""The fused way: the model builder of onnxruntime-genai, which knows some twenty architectures.

Attention, normalisation and quantised products are single operators in its graphs, several times faster on a CPU than
plain nodes. This module does not judge what was built: the builder is silently wrong for some models.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import IO, Any

from playground.errors import ExportError, first_line
from playground.export.quantization import graph
from playground.export.quantization.weights import Graph
from playground.export.recipes.base import Work
from playground.export.recipes.unwritten import unwritten
from playground.export.weights import copy_side_files
from playground.messages import Translatable, msg
from playground.runtimes.torch.libraries import load_libraries
from playground.sources.files import Progress, of_the_disk

MODEL = "model.onnx"

FUSED_OPTIONS = {
    "hf_token": "false",  # nothing is asked of a hub
    "prune_lm_head": "true",  # logits of the last position only: all that decoding needs
    "windowed_kv_cache": "false",  # sliding layers keep a full cache, so that past and present can share one buffer
    "fuse_mlp_gate_up": "true",  # one product instead of two in each layer
}

# What is built is fp32 each time, and rounded here.
FUSED_PRECISIONS = {precision: {**FUSED_OPTIONS, **rounded} for precision, rounded in graph.ROUNDED.items()}


def build_fused(work: Work) -> str:
    """Run onnxruntime-genai's model builder, then round. See ``base.Build``."""
    bits = graph.bits_of(work.options)
    plain = _build_plain(work)
    if bits is None:
        graph.save(plain, work.target / MODEL)
    else:
        work.progress(msg("rounding weights"), 0.0)
        graph.rewrite(plain, work.target / MODEL, bits, work.progress, graph.worth_sums())
    # The builder writes its own reading of tokenizer and config; what prompting sees must be the original's.
    copy_side_files(work.model, work.target)
    return work.precision


def _build_plain(work: Work) -> Graph:
    """The builder's graph with weights in fp32, which are still to be read, and its side files in the target."""
    load_libraries()
    from onnxruntime_genai.models import builder

    cache = work.target / ".cache"
    arguments = ("", str(work.model), str(work.target), "fp32", "cpu", str(cache))
    work.progress(msg("building"), 0.0)
    with _Narrated(work.progress, _layers(work.model)), unwritten(work.model) as built:
        try:
            options = [f"{name}={value}" for name, value in FUSED_OPTIONS.items()]
            extra = builder.parse_extra_options(*arguments, options)
            config = extra["hf_details"]["hf_config"]
            _flatten_rope(config)
            _say_layer_types(config)
            builder.create_model(*arguments, **extra)
        except MemoryError:
            raise
        except Exception as error:  # the builder raises whatever happens to break
            if disk := of_the_disk(error):
                raise disk from error
            raise ExportError(_reason(error, work.model)) from error
    shutil.rmtree(cache, ignore_errors=True)
    return built[0]


def _flatten_rope(config: Any) -> None:
    """Gemma 3 keeps rope parameters per layer type since transformers 5; builder 0.18 reads them the old way."""
    rope = getattr(config, "rope_parameters", None) or {}
    if "full_attention" in rope and "sliding_attention" in rope:
        config.rope_parameters = rope["full_attention"]
        config.rope_local_base_freq = rope["sliding_attention"]["rope_theta"]


def _say_layer_types(config: Any) -> None:
    """A window that is not said to be some layers' is every layer's (Mistral 7B v0.1, Phi-3); builder 0.18 drops it."""
    if getattr(config, "sliding_window", None) and not getattr(config, "layer_types", None):
        config.layer_types = ["sliding_attention"] * config.num_hidden_layers


def _reason(error: Exception, model: Path) -> Translatable:
    """What went wrong, without places on this machine."""
    if isinstance(error, NotImplementedError) and "not currently supported" in str(error):
        return msg("the model builder does not know this architecture")
    said = first_line(str(error).replace(str(model), "the model"))
    return msg("the model builder failed ({kind}: {reason})", kind=type(error).__name__, reason=said)


def _layers(model: Path) -> int:
    from transformers import AutoConfig

    return int(AutoConfig.from_pretrained(model, local_files_only=True, trust_remote_code=False).num_hidden_layers)


class _Narrated:
    """The builder reports on stdout; that becomes progress, and stdout stays ours."""

    def __init__(self, progress: Progress, layers: int) -> None:
        self._progress, self._layers = progress, max(1, layers)
        self._redirect = redirect_stdout(_Lines(self._line, sys.stderr))

    def _line(self, line: str) -> None:
        if match := re.search(r"Reading layer (\d+)", line):
            self._progress(msg("building"), min(1.0, int(match[1]) / self._layers))

    def __enter__(self) -> None:
        self._redirect.__enter__()

    def __exit__(self, *exc: Any) -> None:
        self._redirect.__exit__(*exc)


class _Lines:
    """A text stream that shows each line to a listener and passes everything on."""

    def __init__(self, listener: Callable[[str], None], to: IO[str]) -> None:
        self._listener, self._to = listener, to

    def write(self, text: str) -> int:
        self._listener(text)
        return self._to.write(text)

    def flush(self) -> None:
        self._to.flush()
