"""``python -m playground.kernels.trial LIBRARY SHA256``: runs a fresh library on numbers whose results are known.

Exits with 0 if all are right. A process of its own, for what a compiler made wrongly may crash.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from playground.kernels.building import Built
from playground.kernels.library import BLOCK, Library, Weights, large_pages, packed
from playground.messages import msg

Array = NDArray[Any]

ALLOWED = 2e-3
"""Relative error: scales are kept in half floats, activations are rounded as the expectation rounds them."""


def main(arguments: list[str]) -> int:
    library = Library(Built(Path(arguments[0]), arguments[1]))
    for bits in (8, 4):
        for rows in (1, 2, 7, 13):
            _check(library, bits, rows)
    return 0


def _check(library: Library, bits: int, rows: int) -> None:
    random = np.random.default_rng(bits * rows)
    outputs, width = 70, 3 * BLOCK
    blocks = width // BLOCK
    levels = random.integers(0, 2**bits, (outputs, blocks, BLOCK)).astype(np.uint8)
    scales = random.uniform(1e-3, 1e-2, (outputs, blocks)).astype(np.float32)
    zeros = random.integers(0, 16, (outputs, blocks)).astype(np.uint8) if bits == 4 else None
    middle: Any = 128.0 if zeros is None else zeros[..., None].astype(np.float32)
    weights = ((levels - middle) * scales[..., None]).reshape(outputs, width)
    if zeros is None:
        stored = Weights(bits, levels, scales, None)
    else:
        stored = Weights(bits, packed(levels), scales, packed(zeros))
    panels = large_pages(stored.packed_bytes)
    matrix = library.pack(stored, panels)
    x = random.normal(size=(rows, width)).astype(np.float32)
    found = library.product(matrix, x)[:, :outputs]
    expected = rounded(x) @ weights.T
    error = np.abs(found - expected).max() / np.abs(expected).max()
    if not error < ALLOWED:
        raise SystemExit(
            msg(
                "error: a product of {rows} rows in {bits} bits is off by {off:.2g}",
                rows=rows,
                bits=bits,
                off=float(error),
            )
        )


def rounded(x: Array) -> Array:
    """Activations as the kernels see them: eight bits, a scale for each block."""
    blocks = x.reshape(len(x), -1, BLOCK)
    scale = np.abs(blocks).max(-1, keepdims=True) / np.float32(127)
    result: Array = (np.rint(blocks / np.where(scale > 0, scale, 1)) * scale).reshape(x.shape)
    return result


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
