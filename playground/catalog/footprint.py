"""How much memory a model takes: one estimate for what is only read about and for what lies prepared on the disk.

    running   = process + tokenizer + weights as they lie in memory + KV cache + scratch memory
    preparing = torch and the exporter + what is made + the largest matrix in fp32

Weights. On disk they are ``parameters × bytes``: 4 in fp32, 1.15 in int8 and 0.66 in int4 (blocks of 32 with their
scales), in int4 with what keeps eight bits (``_finer``) as in int8. In memory onnxruntime packs products anew
(``PACKED``), and so do the playground's kernels (``KERNELS_PACKED``), while tables looked up by row stay in the mapped
file and take next to nothing. torch maps the file and touches all of it. Cache: keys and values of each layer,
from the sizes in config.json, in half floats by the kernels and in fp32 else; a fused export keeps one buffer in
steps of ``ROOM`` tokens, a growing graph holds past and present at once. Tokenizer: its tables take about six times its
file. Before there is anything on the disk, nobody knows whether the kernels can run it: the estimate is onnxruntime's.

The constants were fitted to the starter models and torch (docs/measurement.md has expected beside measured). These are
estimates, to be called so wherever they are shown: 20 % off is usual. The module knows a model's figures; it measures
nothing and reads no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from playground.catalog.config_names import (
    ATTENTION_HEADS,
    HEAD_DIM,
    HIDDEN_SIZE,
    INTERMEDIATE_SIZE,
    KEY_VALUE_HEADS,
    LAYERS,
    VOCAB_SIZE,
    whole,
)
from playground.catalog.kv_cache import Cache, cache_of
from playground.records import Record

MB = 1_000_000
CONTEXT = 2048
"""Tokens of prompt and answer the estimate makes room for where nobody says how long they are."""
BYTES = {"fp32": 4.0, "fp16": 2.0, "int8": 1.15, "int4": 0.66}
PACKED = {"fp32": 1.15, "fp16": 2.1, "int8": 1.1, "int4": 1.2}
"""Weights in memory over their bytes on disk: repacked products, sums of blocks, pages of 2 MB; fp16 is widened."""
UNPACKED = 1 / 16
"""Share of the memory limit that a preparation gives to weights of a GGUF file that it unpacked: a small model is
unpacked once and not for every token, of a large one a part is."""
PROCESS_MB = {"onnx": 96.0, "torch": 370.0}
"""Interpreter and libraries, loaded, with an empty model."""
KERNELS_MB, KERNELS_TOKENIZER, KERNELS_PACKED = 60.0, 2.5, 0.95
"""Where the playground's kernels run the graph, without onnxruntime: interpreter and libraries, for each byte of
tokenizer.json, and weights in memory over those on disk, whose scales become half floats."""
LOADING_MB, LOADING_TOKENIZER = 15.0, 6.2
"""What reading tokenizer.json takes on top: fixed, and for each byte. The worker gives it back when it is loaded."""
OTHER_MB = 60.0
"""Of a worker that runs neither: a scripted model's, or one that asks a server."""
TOKENIZER_MB, TOKENIZER_FACTOR = 31.0, 5.9
"""Templates and tables of a tokenizer: fixed, and for each byte of tokenizer.json."""
VOCAB_BYTES = 110
"""Of tokenizer.json for each entry, where only the size of the vocabulary is known."""
PREPARING_MB = 1500.0
"""torch, transformers and the exporter without a model."""
PREPARING_BY_PIECES_MB = 500.0
"""The same, without what torch computes a whole model with."""
WHOLE = {"torch": 4.0, "optimum": 12.0}
"""Bytes for each parameter where a way holds the whole model in fp32: once where torch computes with it, three times
where optimum traces it, writes it and puts what is shared together. Other ways read one matrix at a time."""
KERNELS_CACHE = {16: 0.5, 8: 0.28125}
"""Of an fp32 cache, by the bits of a key or value: the kernels keep half floats, or bytes with an fp32 scale for 32."""
PREFILL_CHUNK = 128
"""Prompt tokens that are computed together: ``runtimes.generation.engine.PREFILL_CHUNK``, in a package above this."""
KERNELS_BEHIND = 1280 + PREFILL_CHUNK
"""Tokens before its window that a layer has in memory at most: ``BEHIND`` and ``STRIDE`` of
``runtimes/native/cache.py``, and those that are read together."""
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
EXPERT_SIZE = ("moe_intermediate_size", *INTERMEDIATE_SIZE)
"""What configurations call the number of experts of a layer, and their inner size."""
ROOM = 256
"""Tokens by which a shared cache grows."""


@dataclass(frozen=True)
class Footprint(Record):
    """An estimate in MB of 10^6 bytes.

    Attributes:
        weights_mb: The model's file in this precision.
        run_mb: Peak memory of the process that runs it.
        prepare_mb: Peak memory of the preparation that makes its file.
    """

    weights_mb: float
    run_mb: float
    prepare_mb: float

    @property
    def need_mb(self) -> float:
        """What the machine must have: preparing and running do not happen at the same time."""
        return max(self.run_mb, self.prepare_mb)

    def fits(self, limit_mb: float) -> bool:
        return self.need_mb <= limit_mb


@dataclass(frozen=True)
class RuntimeMemory(Record):
    """Where the memory of a process that runs a model goes, in MB.

    Attributes:
        process_mb: Interpreter, libraries and tokenizer.
        weights_mb: As they lie in memory.
        cache_mb: Keys and values for prompt and answer.
        scratch_mb: What computing a part of a long prompt takes on top.
        loading_mb: What loading takes and gives back, before there are cache and scratch memory.
    """

    process_mb: float
    weights_mb: float
    cache_mb: float
    scratch_mb: float
    loading_mb: float = 0.0

    @property
    def total_mb(self) -> float:
        return self.process_mb + self.weights_mb + self.cache_mb + self.scratch_mb


def estimate(
    parameters: int,
    runtime: str,
    precision: str,
    shape: Mapping[str, Any] | None = None,
    tokens: int = CONTEXT,
    *,
    prebuilt: bool = False,
) -> Footprint:
    """The memory of one variant, before there is anything of it on the disk.

    Args:
        parameters: All of them; for a mixture of experts not the active ones alone.
        runtime: ``onnx`` or ``torch``.
        precision: A key of ``BYTES``.
        shape: ``layers``, ``hidden_size``, ``vocab_size``, ``key_value_heads``, ``attention_heads``, ``head_dim``, as
            far as they are known; or config.json itself. Without the shape, the embedding is taken as 30 % of the
            parameters, 200 million at most, and the cache of ``CONTEXT`` tokens as 0.3 bytes a parameter, which is
            what Llama 2 7B needs; models with grouped heads need less.
        tokens: Of prompt and answer together.
        prebuilt: Its graphs come ready-made: nothing is built, and what can't be held is not compared with torch.

    Raises:
        KeyError: No such runtime or precision.
    """
    config = as_config(shape or {})
    weights = parameters * BYTES[precision]
    if precision == "int4":
        weights += min(float(parameters), _finer(parameters, config)) * (BYTES["int8"] - BYTES["int4"])
    vocab = int(config.get("vocab_size") or 32_000)
    cache = cache_of(config)
    running = RuntimeMemory(
        PROCESS_MB[runtime] + _tokenizer_mb(vocab * VOCAB_BYTES),
        weights * (PACKED[precision] if runtime == "onnx" else 1.0) / MB,
        0.3 * parameters * tokens / CONTEXT / MB if cache is None else cache_mb(cache, runtime, "fused", tokens, 0),
        scratch_mb(config, tokens),
    ).total_mb
    if runtime == "torch":
        preparing = whole_mb(parameters, "torch")
    else:
        preparing = (weights + BYTES["fp32"] * _largest(parameters, config)) / MB + PREPARING_BY_PIECES_MB
    return Footprint(
        weights_mb=weights / MB,
        run_mb=running,
        prepare_mb=running if prebuilt and runtime == "onnx" else preparing,
    )


def whole_mb(parameters: int, way: str) -> float:
    """Peak memory of a preparation that holds the model as a whole.

    Args:
        way: A key of ``WHOLE``.
    """
    return parameters * WHOLE[way] / MB + PREPARING_MB


def unpacked_mb(parameters: int, limit_mb: float) -> float:
    """What a preparation from GGUF keeps of weights that it unpacked, while transformers is asked."""
    return min(UNPACKED * limit_mb, parameters * 4 / MB)


def of_files(
    weights: float,
    runtime: str,
    precision: str,
    recipe: str,
    config: Mapping[str, Any],
    *,
    tokenizer_bytes: int,
    prompt_tokens: int,
    new_tokens: int,
    kernels: bool = False,
    kv_bits: int = 16,
) -> RuntimeMemory:
    """The memory of what lies prepared on the disk.

    Args:
        weights: Bytes of weights that a token needs; tables that are looked up by row are not among them.
        runtime: ``onnx`` or ``torch``.
        recipe: As in ``Artifact``: decides how the cache is kept.
        config: The text model's config.json.
        tokenizer_bytes: Of tokenizer.json.
        kernels: The playground's kernels run it.
        kv_bits: Of a key or value in their cache.
    """
    cache = cache_of(config)
    if kernels:
        tokens = prompt_tokens + new_tokens
        return RuntimeMemory(
            KERNELS_MB + KERNELS_TOKENIZER * tokenizer_bytes / MB,
            weights * KERNELS_PACKED / MB,
            0.0 if cache is None else _kernels_cache(cache, _in_rooms(tokens), kv_bits) / MB,
            scratch_mb(config, 0 if tokens == 0 else PREFILL_CHUNK),
            LOADING_MB + LOADING_TOKENIZER * tokenizer_bytes / MB,
        )
    return RuntimeMemory(
        PROCESS_MB[runtime] + _tokenizer_mb(tokenizer_bytes),
        weights * (PACKED.get(precision, 1.15) if runtime == "onnx" else 1.0) / MB,
        0.0 if cache is None else cache_mb(cache, runtime, recipe, prompt_tokens, new_tokens, precision=precision),
        scratch_mb(config, prompt_tokens + new_tokens, every_row=runtime == "onnx" and recipe != "fused"),
    )


def _kernels_cache(cache: Cache, tokens: int, kv_bits: int) -> float:
    """Bytes of keys and values, of what goes into convolutions, whose window is a few tokens, and of states; the last
    two stay in fp32. Where there are states no text is gone back in, and convolutions keep what is read at a time.
    """
    kept = KERNELS_CACHE[kv_bits] * cache.bytes_for(tokens, behind=KERNELS_BEHIND)
    behind = 2 * PREFILL_CHUNK if cache.state_bytes else KERNELS_BEHIND
    return kept + cache.state_bytes + cache.conv_bytes * min(tokens, behind)


def cache_mb(
    cache: Cache, runtime: str, recipe: str, prompt_tokens: int, new_tokens: int, *, precision: str = ""
) -> float:
    """Keys, values and states for a prompt and its longest answer.

    ONNX Runtime gives layers with a window a cache of full length; torch keeps the window only.
    """
    width = 0.5 if precision == "fp16" else 1.0
    tokens = prompt_tokens + new_tokens
    if runtime == "onnx" and recipe == "fused":
        return width * (cache.bytes_for(_in_rooms(tokens), behind=None) + 2 * cache.fixed_bytes) / MB
    if cache.crossed:
        tokens = new_tokens
    held = cache.bytes_for(tokens, behind=0 if runtime == "torch" else None) + cache.fixed_bytes
    if runtime == "onnx":
        held *= 2  # past and present are there at the same time
    return width * (held + cache.cross_bytes * prompt_tokens) / MB


def scratch_mb(config: Mapping[str, Any], tokens: int, *, every_row: bool = False) -> float:
    """What a chunk of the prompt takes while it is computed: activations, attention scores, logits.

    Args:
        every_row: The graph gives the logits of all positions, not of the last alone.
    """
    chunk = min(PREFILL_CHUNK, max(1, tokens))
    hidden = whole(config, *HIDDEN_SIZE)
    inner = whole(config, *INTERMEDIATE_SIZE) or 4 * hidden
    scores = whole(config, *ATTENTION_HEADS) * tokens
    vocab = whole(config, *VOCAB_SIZE)
    rows = min(chunk * vocab, 16_000_000) if every_row else vocab
    return 4.0 * (chunk * (8 * hidden + 3 * inner + 2 * scores) + 2 * rows) / MB


def as_config(shape: Mapping[str, Any]) -> dict[str, Any]:
    """The catalogue's names of sizes as config.json calls them; config.json itself passes through."""
    names = {
        "layers": "num_hidden_layers",
        "attention_heads": "num_attention_heads",
        "key_value_heads": "num_key_value_heads",
        "tied_embeddings": "tie_word_embeddings",
    }
    return {names.get(name, name): value for name, value in shape.items()}


def _in_rooms(tokens: int) -> int:
    """How many a shared buffer has room for."""
    return -(-tokens // ROOM) * ROOM


def _tokenizer_mb(size: int) -> float:
    return TOKENIZER_MB + TOKENIZER_FACTOR * size / MB


def _largest(parameters: int, config: Mapping[str, Any]) -> float:
    """Elements of the largest matrix: the embedding, or a part of a block.

    Of a layer's experts one is there at a time, twice while its gate and other half are laid by turns.
    """
    width = whole(config, *HIDDEN_SIZE)
    experts = 4 * width * whole(config, *EXPERT_SIZE) if whole(config, *EXPERTS) else 0
    return max(_embedding(parameters, config), float(width * whole(config, *INTERMEDIATE_SIZE)), float(experts))


def _finer(parameters: int, config: Mapping[str, Any]) -> float:
    """Weights that keep eight bits where the others get four, as ``quantization.graph.sensitive`` chooses them.

    The embedding, the head where it is another matrix, what gives queries, keys and values, and half of what brings a
    block's inner layer back: 36 % of Llama 2 7B. A third of the blocks where their sizes are not known.
    """
    embedding = _embedding(parameters, config)
    heads = embedding * (1 if config.get("tie_word_embeddings", True) else 2)
    layers, width, count = (whole(config, *names) for names in (LAYERS, HIDDEN_SIZE, ATTENTION_HEADS))
    inner = whole(config, *INTERMEDIATE_SIZE)
    if not (layers and width and count and inner):
        return heads + max(0.0, parameters - heads) / 3
    kept = whole(config, *KEY_VALUE_HEADS) or count
    size = whole(config, *HEAD_DIM) or width // count
    return heads + float(layers * width * ((count + 2 * kept) * size + inner // 2))


def _embedding(parameters: int, config: Mapping[str, Any]) -> float:
    if config.get("vocab_size") and config.get("hidden_size"):
        return float(config["vocab_size"] * config["hidden_size"])
    return min(0.3 * parameters, 200e6)
