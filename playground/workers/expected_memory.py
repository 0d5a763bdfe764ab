"""The memory plan: what each model of a set is expected to take, and whether the set fits together.

    expected peak = process and tokenizer + weights as they lie in memory + KV cache for prompt and answer + scratch

Of a prepared model the sizes are read from its graph, its config and its tokenizer; of others the catalogue says them.
Both go through ``footprint``, which has the constants and says how they were fitted. The module knows files and
budgets; it starts and ends no process.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from playground.catalog.footprint import KERNELS_CACHE, OTHER_MB, PROCESS_MB, of_files
from playground.catalog.kv_cache import cache_of
from playground.catalog.search import footprint
from playground.errors import DoesNotFit
from playground.records import Artifact, Mode, Record, Request, Variant
from playground.runtimes.base import LoadSpec
from playground.runtimes.onnx.file import BadOnnxFile, read_onnx_file
from playground.sources.headers import read_safetensors
from playground.system.memory import MB

if TYPE_CHECKING:
    from playground.catalog.entries import Catalog
    from playground.export.preparer import Preparation

BYTES_A_TOKEN = 3.0
"""Of a prompt that is not tokenised yet, in UTF-8; texts in English have about 4, so this leaves room."""
TEMPLATE_TOKENS = 32
WIDE = 3.9
"""Bytes a parameter from which on weights on disk are fp32: torch maps those, and widens others into memory."""


class States(Protocol):
    """What a plan needs of the preparer."""

    def state(self, variant: Variant) -> Preparation: ...


@dataclass(frozen=True)
class Expected(Record):
    """One model's expected memory, in MB of 10^6 bytes.

    Attributes:
        disk_mb: Its files.
        process_mb: Interpreter, libraries and tokenizer.
        weights_mb: Its weights in memory.
        cache_mb: Keys and values for this prompt and its longest answer.
        scratch_mb: What computing a part of the prompt takes on top.
        cache_mb_per_1000: Keys and values of 1,000 tokens; None where config.json does not say enough.
        total_mb: The expected peak.
    """

    disk_mb: float
    process_mb: float
    weights_mb: float
    cache_mb: float
    scratch_mb: float
    cache_mb_per_1000: float | None
    total_mb: float


@dataclass(frozen=True)
class Planned(Record):
    """One model of a plan; ``expected_mb`` is None where nothing is known, and ``alone`` says whether it fits alone."""

    variant: Variant
    expected_mb: float | None
    alone: bool


@dataclass(frozen=True)
class Plan(Record):
    """What a set of models is expected to take against what all may take together."""

    budget_mb: float
    models: tuple[Planned, ...]

    @property
    def total_mb(self) -> float:
        """Of those that will run and of which something is known."""
        return sum(model.expected_mb or 0.0 for model in self.models if model.alone)

    @property
    def together(self) -> bool:
        return self.total_mb <= self.budget_mb

    @property
    def tight(self) -> bool:
        """Whether something will be unloaded or refused."""
        return not self.together or not all(model.alone for model in self.models)

    def groups(self) -> list[list[Variant]]:
        """What runs at the same time in fast mode, in order."""
        running = [model for model in self.models if model.alone]
        places = batches([model.expected_mb or 0.0 for model in running], self.budget_mb)
        return [[running[place].variant for place in group] for group in places]

    def words(self, mode: Mode = "fair") -> str:
        """The plan in a few sentences; empty where nothing is known."""
        known = [f"{model.variant} {model.expected_mb:,.0f} MB" for model in self.models if model.expected_mb]
        if not known:
            return ""
        told = f"Expected memory at the peak: {', '.join(known)}; models may take {self.budget_mb:,.0f} MB together."
        return f"{told} {self.advice(mode)}".strip()

    def advice(self, mode: Mode) -> str:
        """What becomes of models that do not fit; empty where all do."""
        told = []
        if not self.together and mode == "fast":
            groups = [" with ".join(map(str, group)) for group in self.groups()]
            told.append(f"Not all fit at once, so they run in groups: {', then '.join(groups)}.")
        elif not self.together:
            told.append("Not all fit at once: the one unused for longest is unloaded before another is loaded.")
        refused = [str(model.variant) for model in self.models if not model.alone]
        if refused:
            told.append(f"{' and '.join(refused)} will be refused: too large even alone.")
        return " ".join(told)


def plan(items: Sequence[tuple[Variant, float | None]], budget_mb: float) -> Plan:
    """Put expected peaks (MB, None where unknown) beside the budget."""
    models = tuple(Planned(variant, mb, mb is None or mb <= budget_mb) for variant, mb in items)
    return Plan(budget_mb, models)


def plan_of(
    catalog: Catalog, preparer: States, variants: Sequence[Variant], request: Request | None, budget_mb: float
) -> Plan:
    """The plan of these variants: of prepared ones from their files, of others from the catalogue."""
    return plan([(variant, _known_mb(catalog, preparer, variant, request)) for variant in variants], budget_mb)


def _known_mb(catalog: Catalog, preparer: States, variant: Variant, request: Request | None) -> float | None:
    spec, _ = catalog.resolve(str(variant))
    try:
        artifact = preparer.state(variant).artifact
    except Exception:  # whoever wants to run it is told
        return None
    if artifact:
        return expected(LoadSpec(spec, artifact, 1), request).total_mb
    if variant.model not in catalog.ids():
        return None
    prompt, new = _tokens(request, spec.context_length)
    about = footprint(catalog.entry(variant.model), variant=variant, tokens=prompt + new)
    return about.run_mb if about else None


def batches(peaks: Sequence[float], budget_mb: float) -> list[list[int]]:
    """Positions in groups that fit together, in order: a new group begins where the next one would be too much."""
    groups: list[list[int]] = []
    taken = 0.0
    for place, peak in enumerate(peaks):
        if not groups or taken + peak > budget_mb:
            groups.append([])
            taken = 0.0
        groups[-1].append(place)
        taken += peak
    return groups


def check_alone(load: LoadSpec, request: Request | None, budget_mb: float) -> None:
    """Refuse a model that can't fit even with every other one unloaded.

    Raises:
        DoesNotFit: With both figures.
    """
    total = expected(load, request).total_mb
    if total > budget_mb:
        raise refusal(load.artifact.variant, total, budget_mb)


def refusal(variant: Variant, expected_mb: float, budget_mb: float) -> DoesNotFit:
    """Why a model is not loaded, with both figures."""
    return DoesNotFit(
        f"{variant} is expected to take {expected_mb:,.0f} MB; models may take {budget_mb:,.0f} MB here",
        "Choose a smaller model or precision, or a shorter prompt; PLAYGROUND_MEMORY_MB allows more.",
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
    prompt, new = _tokens(request, load.spec.context_length)
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
    )
    cache = cache_of(config)
    thousand = None if cache is None else cache.token_bytes * (KERNELS_CACHE if kernels else 1.0) * 1000 / MB
    return Expected(
        disk,
        parts.process_mb,
        parts.weights_mb,
        parts.cache_mb,
        parts.scratch_mb,
        thousand,
        parts.total_mb,
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
    for path in sorted(Path(artifact.path).glob("*.safetensors")):
        try:
            parameters, size = read_safetensors(path).parameters, path.stat().st_size
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


def _tokens(request: Request | None, context_length: int) -> tuple[int, int]:
    """Tokens of prompt and answer: at most so many, as far as that is known before the prompt is tokenised."""
    if request is None:
        return 0, 0
    texts = [request.prompt, request.system, *(message.content for message in request.messages)]
    size = sum(len(text.encode("utf-8", "replace")) for text in texts)
    prompt = int(size / BYTES_A_TOKEN) + TEMPLATE_TOKENS
    if context_length:
        prompt = min(prompt, context_length)
        return prompt, min(request.max_new_tokens, context_length - prompt)
    return prompt, request.max_new_tokens
