"""Runs an export and its original over the probe text, for ``fidelity`` to compare.

The export is driven by the very loop that will drive it in a worker: the first part of the text as a prompt in two
pieces, the second behind a past; the rest in single decode steps. Kernels, cache and loop are so judged together. This
module knows torch and the runtime; it makes no verdict.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playground.export.fidelity import MIN_POSITIONS, Logits, compare
from playground.records import Fidelity
from playground.settings import usable_cores
from playground.sources.files import Progress

PROBE = Path(__file__).with_name("probe.txt")

PREFILL = 128
"""Tokens of the probe that are read as a prompt; each of the others is a decode step and one compared position."""

PIECE = 64
"""Most tokens of the prompt read at once, so that the second half is read behind a cache, as long prompts are."""

POSITIONS = MIN_POSITIONS
"""Positions compared: the one behind the prefill and each decode step. Prefill and steps together read more than 512
tokens, the sliding window of Gemma 3, on purpose."""


def fidelity(folder: Path, model: Path, precision: str, progress: Progress, reference: str = "torch-fp32") -> Fidelity:
    """Compare the export in ``folder`` with the original in ``model``.

    Args:
        folder: Holds the graphs and config.json.
        model: The imported folder: config.json, model.safetensors, tokenizer.json.
        precision: Of the export; decides what may be lost.
        progress: Told the share of positions done.
        reference: What the original is called in the verdict.
    """
    ids = probe_ids(model)
    progress("checking", 0.0)
    return compare(_pairs(reference_logits(model, ids), export_logits(folder, ids), progress), reference, precision)


def torch_fidelity(imported: Path, original: Path, progress: Progress, reference: str) -> Fidelity:
    """Compare what the torch runtime makes of the import with the original. See ``fidelity``."""
    from playground.records import Artifact, ModelSpec, Variant
    from playground.runtimes.base import LoadSpec
    from playground.runtimes.torch import TorchRuntime

    ids = probe_ids(original)
    progress("checking", 0.0)
    variant = Variant("original", "torch", "fp32")
    load = LoadSpec(
        ModelSpec("original", "", "", "", "torch", "fp32", 0, "base"),
        Artifact(variant, str(imported), "none", "", "", 0),
        usable_cores(),
    )
    engine = TorchRuntime().open_engine(load)

    def rows() -> Iterator[Logits]:
        engine.reset(len(ids))
        yield engine.prefill(ids[:PREFILL]).copy()
        for token in ids[PREFILL:]:
            yield engine.step(token).copy()

    return compare(_pairs(reference_logits(original, ids), rows(), progress), reference, "fp32")


def probe_ids(model: Path) -> list[int]:
    """The probe text as the model's tokens, cut to the length that is compared and to the model's context."""
    from tokenizers import Tokenizer
    from transformers import AutoConfig

    # transformers' tokenizer gives the same ids and takes seconds to load.
    ids = Tokenizer.from_file(str(model / "tokenizer.json")).encode(PROBE.read_text(encoding="utf-8")).ids
    context = getattr(
        AutoConfig.from_pretrained(model, local_files_only=True, trust_remote_code=False),
        "max_position_embeddings",
        None,
    )
    return [int(token) for token in ids[: min(PREFILL + POSITIONS - 1, context or len(ids))]]


def reference_logits(model: Path, ids: list[int]) -> Logits:
    """Logits ``[positions, vocab]`` of torch fp32 from the last prefill token on, in one pass without a cache.

    An encoder-decoder model reads the prompt with its encoder and the rest with its decoder, behind its start token.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    only = {"local_files_only": True, "trust_remote_code": False}
    has_encoder = AutoConfig.from_pretrained(model, **only).is_encoder_decoder
    auto: Any = AutoModelForSeq2SeqLM if has_encoder else AutoModelForCausalLM
    network: Any = auto.from_pretrained(model, dtype=torch.float32, use_safetensors=True, **only).eval()
    with torch.inference_mode():
        if has_encoder:
            start = network.generation_config.decoder_start_token_id
            start = network.config.decoder_start_token_id if start is None else start
            given = {"decoder_input_ids": torch.tensor([[start, *ids[PREFILL:]]])}
            logits = network(input_ids=torch.tensor([ids[:PREFILL]]), **given, use_cache=False).logits[0]
        else:
            wanted = len(ids) - PREFILL + 1
            # Of a wide vocabulary, all positions' logits would take gigabytes; a few old classes give no choice.
            spare = "logits_to_keep" in inspect.signature(network.forward).parameters
            keep = {"logits_to_keep": wanted} if spare else {}
            logits = network(torch.tensor([ids]), use_cache=False, **keep).logits[0, -wanted:]
    result: Logits = logits.numpy()
    return result


def export_logits(folder: Path, ids: list[int]) -> Iterator[Logits]:
    """The export's logits ``[vocab]`` for the same positions, one at a time."""
    from playground.runtimes.onnx import open_engine

    # Preparation runs beside other work, where threads that spin while they wait make each step many times slower.
    engine = open_engine(folder, usable_cores(), spinning=False)
    try:
        engine.reset(len(ids))
        piece = min(PIECE, engine.chunk) if engine.chunk else PREFILL
        for start in range(0, PREFILL, piece):
            row = engine.prefill(ids[start : min(start + piece, PREFILL)])
        yield row.copy()  # the next step writes into the same buffer
        for token in ids[PREFILL:]:
            yield engine.step(token).copy()
    finally:
        engine.close()


def _pairs(reference: Logits, export: Iterator[Logits], progress: Progress) -> Iterator[tuple[Logits, Logits]]:
    for position, (ours, theirs) in enumerate(zip(reference, export, strict=True)):
        if position % 16 == 0:
            progress("checking", position / len(reference))
        yield ours, theirs
