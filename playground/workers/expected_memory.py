"""The memory plan: what each model of a set is expected to take, and whether the set fits together.

    expected peak = process and tokenizer + weights as they lie in memory + KV cache for prompt and answer + scratch

Of a prepared model the sizes are read from its graph, its config and its tokenizer; of others the catalogue says them.
Both go through ``footprint``, which has the constants and says how they were fitted. The module knows files and
budgets; it starts and ends no process.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from playground.catalog.config_names import VOCAB_SIZE, whole
from playground.catalog.footprint import KERNELS_CACHE, OTHER_MB, PROCESS_MB, of_files
from playground.catalog.kv_cache import cache_of
from playground.catalog.weight_files import GGUF_FILE
from playground.errors import DoesNotFit
from playground.messages import msg
from playground.records import Artifact, LoadSpec, Record, Request, Variant
from playground.runtimes.onnx.file import BadOnnxFile, read_onnx_file
from playground.sources.headers import read_gguf, read_safetensors
from playground.system.memory import MB

BYTES_A_TOKEN = 3.0
"""Of a prompt that is not tokenised yet, in UTF-8; texts in English have about 4, so this leaves room."""
TEMPLATE_TOKENS = 32
HELD_BYTES = 900
"""Of the worker for each token of the vocabulary, where an answer is held to a JSON schema: measured 880 for Gemma 3,
660 for SmolLM2, at its largest."""
WIDE = 3.9
"""Bytes a parameter from which on weights on disk are fp32: torch maps those, and widens others into memory."""


@dataclass(frozen=True)
class Expected(Record):
    """One model's expected memory, in MB of 10^6 bytes.

    Attributes:
        disk_mb: Its files.
        process_mb: Interpreter, libraries and tokenizer; where the answer is held to a schema, its vocabulary as bytes.
        weights_mb: Its weights in memory.
        cache_mb: Keys and values for this prompt and its longest answer.
        scratch_mb: What computing a part of the prompt takes on top.
        cache_mb_per_1000: Keys and values of 1,000 tokens; None where config.json does not say enough.
        total_mb: The expected peak of an answer.
        loading_mb: What loading takes beyond that, for a moment.
    """

    disk_mb: float
    process_mb: float
    weights_mb: float
    cache_mb: float
    scratch_mb: float
    cache_mb_per_1000: float | None
    total_mb: float
    loading_mb: float = 0.0


def check_alone(load: LoadSpec, request: Request | None, budget_mb: float) -> None:
    """Refuse a model that can't fit even with every other one unloaded.

    Raises:
        DoesNotFit: With both figures.
    """
    found = expected(load, request)
    most = found.total_mb + found.loading_mb
    if most > budget_mb:
        raise refusal(load.artifact.variant, most, budget_mb)


def refusal(variant: Variant, expected_mb: float, budget_mb: float) -> DoesNotFit:
    """Why a model is not loaded, with both figures."""
    return DoesNotFit(
        msg(
            "{model} is expected to take {expected_mb:,.0f} MB; models may take {budget_mb:,.0f} MB here",
            model=variant,
            expected_mb=expected_mb,
            budget_mb=budget_mb,
        ),
        msg("Choose a smaller model or precision, or a shorter prompt; PLAYGROUND_MEMORY_MB allows more."),
    )


def expected(load: LoadSpec, request: Request | None = None) -> Expected:
    """The expected peak of a prepared model.

    Args:
        request: For the length of the cache; without one the cache is taken to be empty.
    """
    artifact = load.artifact
    runtime = artifact.variant.runtime
    disk = artifact.size_bytes / MB
    if runtime not in PROCESS_MB:
        return Expected(disk, OTHER_MB, disk, 0.0, 0.0, None, disk + OTHER_MB)
    config = _config(artifact)
    prompt, new = tokens_of(request, load.spec.context_length)
    tokenizer = _size(Path(artifact.path) / "tokenizer.json")
    files = max(0, artifact.size_bytes - tokenizer)
    weights = _products(artifact, files) if runtime == "onnx" else _widened(artifact)
    kernels = artifact.engine.startswith("kernels")
    parts = of_files(
        files if weights is None else weights,
        runtime,
        artifact.variant.precision,
        artifact.recipe,
        config,
        tokenizer_bytes=tokenizer,
        prompt_tokens=prompt,
        new_tokens=new,
        kernels=kernels,
        kv_bits=load.kv_bits,
    )
    cache = cache_of(config)
    share = KERNELS_CACHE[load.kv_bits] if kernels else 1.0
    thousand = None if cache is None else cache.token_bytes * share * 1000 / MB
    held = HELD_BYTES * whole(config, *VOCAB_SIZE) / MB if request and request.json_schema else 0.0
    return Expected(
        disk,
        parts.process_mb + held,
        parts.weights_mb,
        parts.cache_mb,
        parts.scratch_mb,
        thousand,
        parts.total_mb + held,
        max(0.0, parts.loading_mb - parts.cache_mb - parts.scratch_mb),
    )


def _products(artifact: Artifact, file_bytes: float) -> float | None:
    """Bytes of weights that each token is multiplied with; None where the graphs can't be read.

    Beside rounded weights and their scales, what is left in floats is looked up by row (the embedding table, tables of
    positions): it stays in the mapped file. A graph in floats alone has all of it in its products. Where the tensors
    are more than the file, some share their bytes (the embedding with the head): these count once.

    Args:
        file_bytes: Of graphs and weights on disk.
    """
    products = tensors = 0.0
    for path in sorted(Path(artifact.path).glob("*.onnx")):
        try:
            found = _graph_bytes(str(path), path.stat().st_mtime_ns)
        except (BadOnnxFile, OSError):
            return None
        products, tensors = products + found[0], tensors + found[1]
    return max(0.0, products - max(0.0, tensors - file_bytes)) or None


@lru_cache(maxsize=64)
def _graph_bytes(path: str, _changed: int) -> tuple[float, float]:
    """Of the weights that are multiplied with, and of all."""
    file = read_onnx_file(Path(path))
    floats = sum(file.weight_bits[name] for name in ("float32", "float16", "bfloat16", "float64")) / 8
    rounded = sum(file.weight_bits[name] for name in ("int8", "uint8", "int4", "uint4")) / 8
    if file.quantised_bits is None:
        return floats + rounded, floats + rounded
    # A scale in fp32 for each 32 weights, which are 32 bytes in 8 bits and 16 in 4.
    return rounded + min(floats, rounded / (4 if file.quantised_bits == 4 else 8)), floats + rounded


def _widened(artifact: Artifact) -> float | None:
    """Bytes that torch takes for the weights in fp32; None where the files can't be read."""
    total = 0.0
    folder = Path(artifact.path)
    for path in (*sorted(folder.glob("*.safetensors")), *folder.glob(GGUF_FILE)):
        read = read_gguf if path.name == GGUF_FILE else read_safetensors
        try:
            parameters, size = read(path).parameters, path.stat().st_size
        except (OSError, ValueError):
            return None
        total += size if size >= WIDE * parameters else 4.0 * parameters + size  # the narrow file stays mapped
    return total or None


def _config(artifact: Artifact) -> Mapping[str, Any]:
    """The text model's configuration; empty where it can't be read."""
    path = Path(artifact.path) / "config.json"
    try:
        return _read_config(str(path), path.stat().st_mtime_ns)
    except OSError:
        return {}


@lru_cache(maxsize=64)
def _read_config(path: str, _changed: int) -> dict[str, Any]:
    try:
        config: Any = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(config, dict):
        return {}
    text = config.get("text_config")
    return text if isinstance(text, dict) else config


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def tokens_of(request: Request | None, context_length: int) -> tuple[int, int]:
    """Tokens of prompt and answer: at most so many, as far as that is known before the prompt is tokenised."""
    if request is None:
        return 0, 0
    texts = [request.prompt, request.system, *(message.content for message in request.messages)]
    size = sum(len(text.encode("utf-8", "replace")) for text in texts)
    prompt = len(request.prompt_ids) or int(size / BYTES_A_TOKEN) + TEMPLATE_TOKENS
    if context_length:
        prompt = min(prompt, context_length)
        return prompt, min(request.max_new_tokens, context_length - prompt)
    return prompt, request.max_new_tokens
