"""What one ``GroupQueryAttention`` of a graph asks for: heads, window, scale and the angles of positions.

Part of ``lowering``. It knows the operator's attributes
(https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md), not where its values lie.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from playground.messages import msg
from playground.runtimes.native.checks import check_heads
from playground.runtimes.native.program import Array, Heads, known_only, refuse, whole

_KNOWN: dict[str, Any] = {
    "num_heads": None,
    "kv_num_heads": None,
    "scale": None,
    "local_window_size": None,
    "softcap": None,
    "do_rotary": None,
    "rotary_interleaved": None,
    "smooth_softmax": 0,
}


def heads_of(node: Any, settings: Mapping[str, Any], width: int, packed: bool) -> Heads:
    """The layer's heads.

    Args:
        node: Named in refusals.
        settings: Its attributes.
        width: Columns of its first input: queries, or with ``packed`` queries, keys and values side by side.
        packed: Whether it is all of them.

    Raises:
        NotForKernels: The kernels have no such heads, or an attribute says what can't be.
    """
    known_only(node, settings, _KNOWN)
    heads = whole(
        lambda found: msg("the graph has attention whose num_heads is {value}", value=found), settings["num_heads"]
    )
    kv_heads = whole(
        lambda found: msg("the graph has attention whose kv_num_heads is {value}", value=found),
        settings["kv_num_heads"],
    )
    size = width // (heads + 2 * kv_heads if packed else heads)
    window = settings.get("local_window_size", -1)
    window = (
        0
        if window == -1
        else whole(lambda found: msg("the graph has a local_window_size of {value}", value=found), window)
    )
    scale = float(settings.get("scale", 0.0)) or (1.0 / math.sqrt(size) if size > 0 else 1.0)
    found = Heads(heads, kv_heads, size, window, scale, float(settings.get("softcap", 0.0)))
    check_heads(found)
    return found


def angles(settings: Mapping[str, Any], size: int, table: Callable[[int], Array]) -> tuple[tuple[Array, ...], int]:
    """Cosines and sines ``[positions, turned / 2]``, and how many numbers of a head they turn; nothing and 0 where the
    operator turns none.

    Args:
        settings: The operator's attributes.
        size: Numbers in a head.
        table: Gives the constant at a place among the operator's inputs.

    Raises:
        NotForKernels: They don't fit a head.
    """
    if not settings.get("do_rotary", 0):
        return (), 0
    cosines, sines = table(7), table(8)
    if cosines.ndim != 2 or cosines.shape != sines.shape or not 0 < 2 * cosines.shape[1] <= size or not len(cosines):
        refuse(msg("the graph has rotary tables of another width than a head"))
    return (cosines, sines), 2 * int(cosines.shape[1])
