"""Rotary positions whose frequencies depend on how long the text is, read from a model's configuration.

``longrope`` has one set of factors up to the length the model was first trained for and another beyond; ``dynamic``
stretches with each token beyond it. What was read with one set can't be gone on from with another, so whoever reads a
prompt in parts, or computes with a graph that was traced once, has to know how far the first set reaches. All other
kinds (linear, yarn, llama3, proportional) have one set for every length. The module knows configurations, no engines.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_BY_LENGTH = ("longrope", "su", "dynamic")
"""As they are called today, and ``su``, which longrope was called in Phi-3's first files."""


def steady_length(config: Mapping[str, Any]) -> int | None:
    """Most tokens that are read with one set of frequencies; None where there is one for every length.

    Args:
        config: config.json's content, or that of its text part. Since transformers 5 ``rope_parameters`` may hold one
            entry for each type of layer; older files say ``rope_scaling``.
    """
    lengths = [
        _first_length(config, rope) for rope in _ropes(config) if any(kind in _kind(rope) for kind in _BY_LENGTH)
    ]
    return min((length for length in lengths if length), default=None)


def _ropes(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for name in ("rope_parameters", "rope_scaling"):
        found = config.get(name)
        if isinstance(found, Mapping):
            yield found
            yield from (inner for inner in found.values() if isinstance(inner, Mapping))


def _kind(rope: Mapping[str, Any]) -> str:
    return str(rope.get("rope_type") or rope.get("type") or "")


def _first_length(config: Mapping[str, Any], rope: Mapping[str, Any]) -> int:
    """What the model was first trained for. ``dynamic`` counts from max_position_embeddings, whatever else is said."""
    own, first = config.get("max_position_embeddings"), None
    if "dynamic" not in _kind(rope):
        first = rope.get("original_max_position_embeddings") or config.get("original_max_position_embeddings")
    length = first or own
    return length if isinstance(length, int) else 0
