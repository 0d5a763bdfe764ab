"""How large the network of a configuration would be, counted on a skeleton without weights.

transformers gives every parameter that the files do not hold its memory at once, and only then says that it is missing.
A network built on torch's "meta" device has all shapes and takes none. The module loads nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from playground.catalog import quantization
from playground.messages import NOTHING, Translatable, msg
from playground.sources.headers import LyingHeader, read_gguf, read_safetensors
from playground.sources.limits import parameter_count
from playground.system import memory

MAX_RATIO = 2
"""Times what the files hold: tables of positions that are computed, parts without weights of their own."""


def too_large(reader: Any, config: Any, files: Iterable[Path]) -> Translatable:
    """Why the network would take more memory than its files account for; "" where it would not.

    Args:
        reader: A class of transformers, or one of its automatic classes.
        config: What the class is given; it is not changed.
        files: Of the weights.

    Returns:
        Also "" where the skeleton can't be built: loading then says why.
    """
    import torch

    try:
        with torch.device("meta"):
            build = getattr(reader, "from_config", None) or reader._from_config
            skeleton = build(copy.deepcopy(_plain(config)))
    except Exception:
        return NOTHING
    parameters = sum(each.numel() for each in skeleton.parameters())
    constants_mb = sum(each.numel() * each.element_size() for each in skeleton.buffers()) / 1e6
    held = _held(config, files)
    if held and parameters > MAX_RATIO * held:
        return msg(
            "the network of its configuration has {parameters:,} parameters, its weights hold {held:,}",
            parameters=parameters,
            held=held,
        )
    if constants_mb > (limit := memory.limit_mb()):
        return msg(
            "tables of its configuration's sizes take {need_gb:.1f} GB, there are {limit_gb:.1f} GB",
            need_gb=constants_mb / 1000,
            limit_gb=limit / 1000,
        )
    return NOTHING


def _plain(config: Any) -> Any:
    """The configuration of the network of floats."""
    plain = copy.deepcopy(config)
    quantization.forget(plain)
    return plain


def _held(config: Any, files: Iterable[Path]) -> int:
    """Parameters in the files, 0 where their headers can't be read."""
    elements: dict[str, int] = {}
    try:
        for path in files:
            header = read_gguf(path) if path.suffix.lower() == ".gguf" else read_safetensors(path)
            for kind, count in header.elements.items():
                elements[kind] = elements.get(kind, 0) + count
    except (OSError, LyingHeader):
        return 0
    settings = quantization.settings_of(config)
    return parameter_count({"quantization_config": settings}, elements)
