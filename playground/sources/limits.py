"""What a model's files may claim, checked before a library acts on them.

config.json decides how much memory transformers takes and whether code from the repository is asked for; headers
decide what is allocated. Here they are read within bounds, compared with each other and with the memory of the
machine. What passes may still be a bad model; it can't be one that takes the machine down by its sizes.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from playground.catalog import footprint, quantization
from playground.catalog.weight_files import INDEX_END
from playground.errors import SourceError
from playground.messages import Translatable, msg
from playground.sources import sizes
from playground.sources.headers import LyingHeader, read_gguf, read_safetensors
from playground.system import memory

MAX_CONFIG = 2_000_000
MAX_TEXT = 80_000_000
"""Bytes of tokenizer.json and its like; Gemma 3's has 33 million."""
MAX_NODES = 8_000_000
"""Commas, braces and brackets in such a file: each becomes an object in memory. Gemma 3's has 2.1 million."""
DEEPEST = 40

AGAIN = msg("Get the files from another place, or ask whoever made them; nothing of them was loaded.")

OUR_BOUND = msg(
    "Nothing of it was loaded. A model that truly is like that shows that the bound (playground/sources/sizes.py) is "
    "wrong: please tell this program's authors its name."
)
MISMATCH = msg("Nothing of it was loaded. Are config.json and the weights of the same model, and is every shard there?")

_GGUF_NAMES = {
    "vocab_size": "vocab_size",
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "context_length": "max_position_embeddings",
    "expert_count": "num_local_experts",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
}


def check(name: str, files: Iterable[Path], limit_mb: float | None = None, repo: str = "") -> None:
    """Refuse files that can't be what they say, need code of their own, are rounded in a way that is not read here, or
    don't fit this machine.

    Args:
        name: The model, for the message.
        files: All its files.
        limit_mb: Memory that may be used; this machine's by default.
        repo: ``OWNER/NAME``, where they come from the Hub.

    Raises:
        SourceError: With the reason. Nothing was loaded.
    """
    paths = list(files)
    by_name = {path.name: path for path in paths}
    for path in paths:
        _check_beside(name, path)
    check_tokenizer(name, by_name)
    config = check_config(name, by_name["config.json"]) if "config.json" in by_name else {}
    for path in paths:
        if path.name.endswith(INDEX_END):
            _check_index(name, path, set(paths))
    elements, inside, shapes, whole = _read_headers(name, paths)
    if any(path.suffix == ".safetensors" for path in paths):
        folder = by_name["config.json"].parent if "config.json" in by_name else paths[0].parent
        bases = quantization.bases_of(_card(folder))
        check_quantised(name, config, by_name, bases, repo)
        if uneven := quantization.uneven_blocks(config, shapes):
            raise SourceError(
                msg("{model}: {problem}, and transformers would misread it", model=name, problem=uneven),
                quantization.advice(bases, repo),
            )
    if parameters := parameter_count(config, elements):
        _compare(name, inside or config, parameters)
        check_memory(name, parameters, limit_mb, whole=whole or quantization.quantisation(config) is not None)


EXPERTS_ONE_BY_ONE = ("minimax-m2", "qwen2moe", "qwen35moe", "qwen3moe")
"""Families (llama.cpp's names) whose experts stay in a GGUF file until they are computed with."""


def unpacked_whole(metadata: Mapping[str, Any]) -> bool:
    """Whether weights of a GGUF file with this header are in memory in floats all at once while they are read: experts
    that transformers puts together in a way of its own.
    """
    family = metadata.get("general.architecture", "")
    experts = metadata.get(f"{family}.expert_count", 0)
    return isinstance(experts, int) and experts > 0 and family not in EXPERTS_ONE_BY_ONE


def _read_headers(
    name: str, paths: Iterable[Path]
) -> tuple[dict[str, int], dict[str, Any], dict[str, tuple[int, ...]], bool]:
    """Elements of all weights by type, the sizes that a GGUF states in the names of config.json, shapes, and whether
    weights have to be unpacked at once.
    """
    whole = False
    elements: dict[str, int] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    config: dict[str, Any] = {}
    for path in paths:
        try:
            if path.suffix == ".safetensors":
                header = read_safetensors(path)
            elif path.suffix.lower() == ".gguf":
                header = read_gguf(path)
                whole |= unpacked_whole(header.metadata)
                # The parts after the first say nothing of the network.
                config = _check_sizes(name, path.name, _gguf_config(header.metadata)) or config
            else:
                continue
        except LyingHeader as error:
            raise refused(name, path.name, error.reason) from error
        except (OSError, ValueError) as error:
            raise SourceError(
                msg("{model}: {file} can't be read ({error})", model=name, file=path.name, error=type(error).__name__),
                AGAIN,
            ) from error
        for kind, count in header.elements.items():
            elements[kind] = elements.get(kind, 0) + count
        shapes |= header.shapes
    return elements, config, shapes, whole


def _check_beside(name: str, path: Path) -> None:
    """Bounds for what stands beside the weights and config.json."""
    if path.suffix == ".jinja" and path.stat().st_size > MAX_CONFIG:
        mb = path.stat().st_size / 1e6
        raise refused(name, path.name, msg("a template of {mb:.0f} MB is not believable", mb=mb))
    if path.suffix == ".json" and path.name != "config.json":
        _check_text(name, path)


def parameter_count(config: Mapping[str, Any], elements: Mapping[str, int]) -> int:
    """How many parameters so many elements of each type hold; rounded ones are packed several in one."""
    rounded = quantization.quantisation(config)
    return rounded.values(elements) if rounded else sum(elements.values())


def check_quantised(
    name: str, config: Mapping[str, Any], files: Iterable[str], bases: Sequence[str] = (), repo: str = ""
) -> None:
    """Refuse weights whose rounding can't be undone here.

    Args:
        config: config.json.
        files: Names beside it.
        bases: The repositories that its card names as ``base_model``.
        repo: ``OWNER/NAME``, where it is known.

    Raises:
        SourceError: What it is, and which files to take instead.
    """
    rounded = quantization.quantisation(config, files)
    if rounded is not None and not rounded.becomes_floats:
        raise SourceError(rounded.refusal(name), quantization.advice(bases, repo))


def _card(folder: Path) -> str:
    try:
        with (folder / "README.md").open(encoding="utf-8", errors="replace") as file:
            return file.read(MAX_CONFIG)
    except OSError:
        return ""


def check_config(name: str, path: Path) -> dict[str, Any]:
    """Read config.json.

    Raises:
        SourceError: It is too large, not JSON, has impossible sizes, or asks for code from the repository.
    """
    config = _bounded_json(name, path, MAX_CONFIG)
    if not isinstance(config, dict) or _depth(config) > DEEPEST:
        raise refused(name, path.name, msg("it is not a JSON object of ordinary depth"))
    _check_sizes(name, path.name, config)
    model_type = config.get("model_type")
    if not isinstance(model_type, (str, type(None))):
        raise refused(name, path.name, msg("its model_type is not a text"))
    if config.get("auto_map") and not _known_to_transformers(model_type or ""):
        raise SourceError(
            msg(
                "{model} needs code of its own (auto_map in {file}), which is never run here",
                model=name,
                file=path.name,
            ),
            msg(
                "Look for a version of the model that transformers knows by itself (often called -hf), or serve it "
                "elsewhere and name it as remote:NAME (docs/remote.md)."
            ),
        )
    return config


def check_tokenizer(name: str, files: Iterable[str]) -> None:
    """Refuse a tokenizer that only sentencepiece could read where there is no sentencepiece.

    Raises:
        SourceError: With the way to go on; transformers' own message would ask for another package.
    """
    names = set(files)
    models = sorted(names & {"tokenizer.model", "spiece.model", "sentencepiece.bpe.model"})
    whole = "tokenizer.json" in names or {"vocab.json", "merges.txt"} <= names or "vocab.txt" in names
    if models and not whole and importlib.util.find_spec("sentencepiece") is None:
        raise SourceError(
            msg("{model} has its tokenizer as {file} only, without tokenizer.json", model=name, file=models[0]),
            msg("Look for a copy with tokenizer.json, or `pip install sentencepiece`: then it is converted."),
        )


def check_memory(
    name: str, parameters: int, limit_mb: float | None = None, *, precision: str = "int4", whole: bool = False
) -> None:
    """Refuse what this machine can't hold while it prepares the model; a way that holds more of it than it has to is
    refused later (``export.room``).

    Args:
        precision: Of the graph that is wanted; as long as nobody says which, the smallest.
        whole: It is held as a whole: its weights come rounded and are widened at once, or torch runs it.

    Raises:
        SourceError: With both figures.
    """
    limit = memory.limit_mb() if limit_mb is None else limit_mb
    need = footprint.whole_mb(parameters, "torch") if whole else prepare_mb(parameters, precision)
    if need > limit:
        raise SourceError(
            msg(
                "{model} has {billions:.2f} billion parameters: preparing it takes {need_gb:.1f} GB of memory, this "
                "machine has {limit_gb:.1f} GB",
                model=name,
                billions=parameters / 1e9,
                need_gb=need / 1000,
                limit_gb=limit / 1000,
            ),
            msg(
                "Choose a smaller model of the family, or serve it elsewhere and name it as remote:NAME "
                "(docs/remote.md)."
            ),
        )


def prepare_mb(parameters: int, precision: str) -> float:
    """Memory to prepare the model to ONNX in ``precision``, where it is read one matrix at a time."""
    return footprint.estimate(parameters, "onnx", precision).prepare_mb


def refused(name: str, file: str, reason: Translatable, next_step: Translatable = AGAIN) -> SourceError:
    """What says why a file is not read."""
    return SourceError(msg("{model}: {file} is refused, {reason}", model=name, file=file, reason=reason), next_step)


def _bounded_json(name: str, path: Path, most: int) -> Any:
    try:
        size = path.stat().st_size
        if size > most:
            too_large = msg("it has {mb:.0f} MB; {most_mb:.0f} are believable", mb=size / 1e6, most_mb=most / 1e6)
            raise refused(name, path.name, too_large)
        content = path.read_bytes()
        _check_nodes(name, path.name, content)
        return json.loads(content)
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError(
            msg(
                "{model}: {file} can't be read as JSON ({error})",
                model=name,
                file=path.name,
                error=type(error).__name__,
            ),
            AGAIN,
        ) from error


def _check_text(name: str, path: Path) -> None:
    """Bounds for the JSON that the tokenizer's library reads; what it means is that library's business."""
    document = _bounded_json(name, path, MAX_TEXT)
    if path.name in ("tokenizer.json", "tokenizer_config.json") and not isinstance(document, dict):
        raise refused(name, path.name, msg("it is not a JSON object"))


def _check_nodes(name: str, file: str, content: bytes) -> None:
    if sum(content.count(sign) for sign in (b",", b"{", b"[")) > MAX_NODES:
        raise refused(name, file, msg("it has more entries than a model's file does"))


def _check_index(name: str, path: Path, present: set[Path]) -> None:
    """Shards are files that were fetched: no path out of the folder."""
    index = _bounded_json(name, path, MAX_TEXT)
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict) or not all(isinstance(place, str) for place in places.values()):
        raise refused(name, path.name, msg("it has no weight_map"))
    outside = {place for place in places.values() if ".." in place.split("/") or place.startswith("/")}
    if missing := sorted(outside | {place for place in places.values() if path.parent / place not in present}):
        raise SourceError(
            msg(
                "{model}: the weights {missing} that {file} names are not there",
                model=name,
                missing=repr(missing[0][:80]),
                file=path.name,
            ),
            AGAIN,
        )


def _check_sizes(name: str, file: str, config: dict[str, Any]) -> dict[str, Any]:
    if wrong := sizes.complaint(config):
        raise refused(name, file, wrong, OUR_BOUND)
    return config


def _compare(name: str, config: Mapping[str, Any], parameters: int) -> None:
    """The network that the configuration describes must be in the weights."""
    if more := sizes.more_than(config, parameters):
        raise SourceError(
            msg("{model}: its configuration does not fit its weights: {problem}", model=name, problem=more), MISMATCH
        )


def _gguf_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The sizes of a GGUF header under the names of config.json."""
    family = metadata.get("general.architecture")
    return {new: metadata[f"{family}.{old}"] for old, new in _GGUF_NAMES.items() if f"{family}.{old}" in metadata}


def _known_to_transformers(model_type: str) -> bool:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    return model_type in CONFIG_MAPPING_NAMES


def _depth(value: Any) -> int:
    """How deep lists and objects stand in each other, counted without recursion."""
    deepest, waiting = 0, [(value, 1)]
    while waiting:
        item, depth = waiting.pop()
        deepest = max(deepest, depth)
        children = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
        waiting.extend((child, depth + 1) for child in children)
    return deepest
