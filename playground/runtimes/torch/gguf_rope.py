"""Rotary positions of a GGUF file that transformers leaves unread.

llama.cpp writes how positions are stretched into ``rope.scaling.*`` and, for Llama 3.1 and later and for Phi's long
models, into tensors of factors. transformers reads neither for most architectures and would compute plain positions:
another network than the one that was trained. The module reads both and says them in transformers' words; it loads
no weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from playground.messages import NOTHING, Translatable, msg

_TABLES = ("rope_freqs", "rope_factors_long", "rope_factors_short")
_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
"""Of every Llama from 3.1 on; a file holds what follows from them, and they are proven against it."""


def complete_rope(path: Path, config: Any) -> Translatable:
    """Put what the file says of rotary positions into ``config.rope_parameters``.

    Returns:
        Why it can't be said, "" where it can or nothing is to say.
    """
    import gguf

    reader = gguf.GGUFReader(path)
    family = _field(reader, "general.architecture")
    tables = {
        name: np.asarray(tensor.data, np.float32).reshape(-1)
        for tensor in reader.tensors
        if (name := str(tensor.name).removesuffix(".weight")) in _TABLES
    }
    said = {
        name: value
        for name in ("type", "factor", "original_context_length", "attn_factor")
        if (value := _field(reader, f"{family}.rope.scaling.{name}")) is not None
    }
    present = getattr(config, "rope_parameters", None)
    if not isinstance(present, dict) or present.get("rope_type", "default") != "default" or "rope_theta" not in present:
        return NOTHING  # a family whose positions transformers reads, or writes down itself
    stretched = _stretched(said, tables, present)
    if isinstance(stretched, str):
        return stretched
    if stretched:
        config.rope_parameters = {**present, **stretched}
    return NOTHING


def _stretched(
    said: Mapping[str, Any], tables: Mapping[str, np.ndarray[Any, Any]], present: Mapping[str, Any]
) -> dict[str, Any] | Translatable:
    """What to add to the parameters, or why that is unknown."""
    kind = said.get("type", "none")
    original = {"original_max_position_embeddings": said["original_context_length"]} if _original(said) else {}
    if {"rope_factors_long", "rope_factors_short"} <= tables.keys():
        if not original:
            return msg("its factors of rotary positions come without the length that they begin at")
        factors = {
            f"{name}_factor": [float(each) for each in tables[f"rope_factors_{name}"]] for name in ("long", "short")
        }
        attention = {"attention_factor": float(said["attn_factor"])} if said.get("attn_factor") else {}
        return {"rope_type": "longrope", **factors, **original, **attention}
    if kind == "linear" and said.get("factor"):
        return {"rope_type": "linear", "factor": float(said["factor"])}
    if kind == "yarn" and said.get("factor"):
        return {"rope_type": "yarn", "factor": float(said["factor"]), **original}
    divisors = tables.get("rope_freqs")
    if divisors is not None and not np.allclose(divisors, 1.0):
        factor = float(divisors.max())
        if np.allclose(_llama3(factor, float(present["rope_theta"]), len(divisors)), divisors, rtol=1e-3):
            return {"rope_type": "llama3", "factor": factor, **_LLAMA3}
        return msg("its factors of rotary positions (rope_freqs.weight) follow no rule that transformers knows")
    if kind in ("none", "linear", "yarn"):
        return {}
    return msg("its rotary positions are stretched by the method {method}", method=repr(kind))


def _original(said: Mapping[str, Any]) -> bool:
    return isinstance(said.get("original_context_length"), int) and said["original_context_length"] > 0


def _llama3(factor: float, theta: float, count: int) -> np.ndarray[Any, Any]:
    """By what Llama 3 divides each frequency, as llama.cpp's converter computes it."""
    low, high, original = (
        _LLAMA3["low_freq_factor"],
        _LLAMA3["high_freq_factor"],
        _LLAMA3["original_max_position_embeddings"],
    )
    frequencies = 1.0 / theta ** (np.arange(count) / count)
    waves = 2 * np.pi / frequencies
    smooth = (original / waves - low) / (high - low)
    between = 1.0 / ((1 - smooth) / factor + smooth)
    return np.where(waves < original / high, 1.0, np.where(waves > original / low, factor, between))


def _field(reader: Any, name: str) -> Any:
    field = reader.get_field(name)
    return None if field is None else field.contents()
