"""Which quantisation a checkpoint was saved with, and whether transformers makes plain numbers of it on a CPU.

Read from config.json alone, so that nobody downloads gigabytes to learn that they can't be used. The methods are those
of transformers' own list and two that only other programs have (MLX, ModelOpt). Some transformers turns into floats
while it loads, with what is installed here; most need a package, a graphics card, or round activations while they
compute, which a network of floats does not. The module reads values and loads nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from playground.catalog import card_text
from playground.errors import all_of
from playground.messages import NOTHING, Translatable, foreign, msg, sentences

Config = Mapping[str, Any]

_CARD = msg("a graphics card")
_ROUNDING = msg("layers that round activations while they compute")


def _package(name: str) -> Translatable:
    return msg("the package {package}", package=name)


_NAMES = {
    "awq": ("AWQ", _package("gptqmodel")),
    "gptq": ("GPTQ", _package("gptqmodel")),
    "bitsandbytes": ("bitsandbytes", _package("bitsandbytes")),
    "bitsandbytes_4bit": ("bitsandbytes, 4 bits", _package("bitsandbytes")),
    "bitsandbytes_8bit": ("bitsandbytes, 8 bits", _package("bitsandbytes")),
    "eetq": ("EETQ", _CARD),
    "aqlm": ("AQLM", _package("aqlm")),
    "quanto": ("quanto", _package("optimum-quanto")),
    "quark": ("Quark", _package("amd-quark")),
    "fouroversix": ("Four over six", _package("fouroversix")),
    "fp_quant": ("FP-Quant", _CARD),
    "hqq": ("HQQ", _package("hqq")),
    "compressed-tensors": ("compressed-tensors", _package("compressed-tensors")),
    "fbgemm_fp8": ("FBGEMM FP8", _CARD),
    "higgs": ("HIGGS", _CARD),
    "torchao": ("torchao", _package("torchao")),
    "bitnet": ("BitNet", _ROUNDING),
    "vptq": ("VPTQ", _CARD),
    "spqr": ("SpQR", _CARD),
    "nvfp4": ("NVFP4", _CARD),
    "auto-round": ("AutoRound", _package("auto-round")),
    "sinq": ("SINQ", _package("sinq")),
    "gemma": ("Gemma's own quantisation", _ROUNDING),
    "gguf": ("GGUF", msg("the GGUF file itself, not this configuration")),
    "mlx": ("MLX", msg("Apple's MLX")),
    "modelopt": ("NVIDIA ModelOpt", _CARD),
    "fp8": ("FP8", NOTHING),
    "mxfp8": ("MXFP8", NOTHING),
    "mxfp4": ("MXFP4", NOTHING),
    "metal": ("Metal", NOTHING),
}
"""What a reader calls each method, and what its reading needs; nothing where transformers alone makes floats of it."""

_FILES = {"quantize_config.json": "gptq", "quant_config.json": "awq", "hf_quant_config.json": "modelopt"}
"""Files beside config.json that older programs kept the method in."""

_PARTS = ("text_config", "language_config", "llm_config", "thinker_config")

_ENDING = re.compile(
    r"[-_.](awq|gptq|gptqmodel|bnb|unsloth|mlx|hqq|eetq|quanto|nf4|aqlm|higgs|spqr|vptq|quark|torchao|autoround|dwq|qat|"
    r"(nv|mx)?fp[48]|float8|[qiw]?(nt)?\d+-?bits?|int\d+|w\d+a\d+(fp8)?|g\d+|gs\d+|q\d\w*|dynamic|block|quantized|"
    r"compressed|tensors|2x16|\d+bpw)$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Quantised:
    """How a checkpoint was rounded.

    Attributes:
        method: As config.json calls it.
        name: As a reader knows it, with the bits where they are said.
        needs: What its reading needs beyond what is installed here; "" where transformers makes floats of it.
        packs: Values in one element, by the element's type in safetensors, where it is more than one.
    """

    method: str
    name: Translatable
    needs: Translatable = NOTHING
    packs: Mapping[str, int] = field(default_factory=dict)

    @property
    def becomes_floats(self) -> bool:
        """Whether transformers turns it into plain numbers on a CPU, with what is installed here."""
        return not self.needs

    def refusal(self, where: str) -> Translatable:
        """Why it can't be read, as a sentence that begins with ``where``."""
        return msg(
            "{where} is quantised with {method}; reading it needs {needs}, which is not used here",
            where=where,
            method=self.name,
            needs=self.needs,
        )

    def values(self, elements: Mapping[str, int]) -> int:
        """How many numbers so many elements of each type stand for."""
        return sum(count * self.packs.get(kind, 1) for kind, count in elements.items())


def quantisation(config: Config, files: Iterable[str] = ()) -> Quantised | None:
    """What config.json, or a file beside it, says of rounding; None where the weights are plain.

    Args:
        config: config.json, of whatever content.
        files: Names beside it.
    """
    for settings, mlx in _settings(config):
        method = settings.get("quant_method")
        if settings.get("load_in_4bit") is True or settings.get("load_in_8bit") is True:
            method = f"bitsandbytes_{4 if settings.get('load_in_4bit') is True else 8}bit"
        if not isinstance(method, str):
            method = "mlx" if mlx or {"group_size", "bits"} <= settings.keys() else "an unknown method"
        return _described(method.lower()[:40], settings)
    beside = sorted(_FILES.keys() & set(files))
    return _described(_FILES[beside[0]], {}) if beside else None


def uneven_blocks(config: Config, shapes: Mapping[str, Sequence[int]]) -> Translatable:
    """Why transformers would spread the scales of FP8 blocks over the wrong numbers; "" where it would not.

    It divides a matrix evenly among its scales, which is only right where the blocks fill the matrix.

    Args:
        shapes: Of all tensors, by name.
    """
    block = next((size for each, _ in _settings(config) if (size := each.get("weight_block_size"))), None)
    if not (isinstance(block, list) and len(block) == 2 and all(isinstance(each, int) and each > 0 for each in block)):
        return NOTHING
    for name, shape in shapes.items():
        scales = shapes.get(f"{name}_scale_inv", ())
        if len(shape) != 2 or len(scales) != 2:
            continue
        if any(size % each and there > 1 for size, each, there in zip(shape, block, scales, strict=True)):
            return msg(
                "{tensor} of {rows:,} × {columns:,} is no multiple of its FP8 blocks of {block_rows} × {block_columns}",
                tensor=name,
                rows=shape[0],
                columns=shape[1],
                block_rows=block[0],
                block_columns=block[1],
            )
    return NOTHING


def settings_of(config: Any) -> dict[str, Any] | None:
    """The settings that transformers found in a configuration object, of the whole or of its language part."""
    for part in (config, config.get_text_config(decoder=True)):
        settings = getattr(part, "quantization_config", None)
        if isinstance(settings, dict):
            return settings
    return None


def forget(config: Any) -> None:
    """Take the settings out of a configuration object and all its parts, when the weights are floats."""
    for part in (config, *(getattr(config, name, None) for name in getattr(config, "sub_configs", ()))):
        if getattr(part, "quantization_config", None) is not None:
            del part.quantization_config


def advice(bases: Iterable[str] = (), repo: str = "") -> Translatable:
    """Which other files to take.

    Args:
        bases: The repositories that its card names as ``base_model``.
        repo: ``OWNER/NAME`` on the Hub, "" for other sources.
    """
    named = [base for base in bases if base.lower() != repo.lower()]
    if named:
        first = msg(
            "Its card names {bases} as what it was made from: take hub:{first}.",
            bases=all_of(named[:2]),
            first=named[0],
        )
    elif (shorter := _without_endings(repo)) != repo:
        first = msg(
            "Take the unquantised model that it was made from, perhaps hub:{repo} if there is such a repository.",
            repo=shorter,
        )
    else:
        first = msg("Take the unquantised model that it was made from.")
    return sentences(first, msg("A GGUF of the same model is read as well, of most architectures."))


def bases_of(card: str) -> tuple[str, ...]:
    """The repositories that a card's metadata calls ``base_model``; () where it can't be read."""
    try:
        return repositories(card_text.front_matter(card_text.split(card)[0]).get("base_model"))
    except card_text.BadFrontMatter:
        return ()


def repositories(said: Any) -> tuple[str, ...]:
    """Names ``OWNER/NAME`` in what a card's field holds: one text, a list, or anything."""
    listed = said if isinstance(said, list) else [said]
    return tuple(
        each for each in listed if isinstance(each, str) and re.fullmatch(r"[\w.-]{1,96}/[\w.-]{1,96}", each, re.ASCII)
    )


def _settings(config: Config) -> Iterator[tuple[Config, bool]]:
    """Every block of settings, and whether its key is MLX's own."""
    parts = [config, *(part for name in _PARTS if isinstance(part := config.get(name), dict))]
    for part in parts:
        for key in ("quantization_config", "compression_config", "quantization"):
            block = part.get(key)
            if isinstance(block, dict) and block:
                yield block, key == "quantization" or isinstance(part.get("quantization"), dict)


def _described(method: str, settings: Config) -> Quantised:
    unknown = msg("a program that knows this method; transformers does not")
    named, needs = _NAMES.get(method, (method, unknown))
    name = foreign(named)
    bits = settings.get("bits")
    if isinstance(bits, int) and 0 < bits <= 16 and method in ("awq", "gptq", "mlx", "metal", "auto-round"):
        name = msg("{method}, {bits} bits", method=name, bits=bits)
    packs = {}
    if method == "mxfp4":
        packs = {"U8": 2}
    elif method == "metal":
        packs = {"U32": 32 // bits if isinstance(bits, int) and 0 < bits <= 32 else 8}
    elif method in ("fp8", "mxfp8") and settings.get("expert_dtype") == "fp4":
        packs = {"I8": 2}
    return Quantised(method, name, needs, packs)


def _without_endings(repo: str) -> str:
    """A repository's name without what says how it was rounded."""
    while (shorter := _ENDING.sub("", repo)) != repo and not shorter.endswith("/"):
        repo = shorter
    return repo
