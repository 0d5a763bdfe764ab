"""Rounds weights in blocks of 32 to 8 or 4 bits, in plain numpy: ``weight ≈ scale · (value − zero)``.

Weights that were rounded before are found out: a file of GGUF's Q4_0, Q4_1 or Q4_K holds 16 evenly spaced levels in
each block, and taking those very levels loses nothing, where rounding anew costs as much again as the first time did
(on SmolLM2-135M 0.32 nats). But such levels start at any fraction of a step, and ONNX Runtime's quick kernels know
whole zero points only. What is missing is the same for all 32 weights of a block, so it is a small matrix, ``rest``,
to be multiplied with the sums of the activations by block. This module does not know how that is put into a graph.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from playground.kernels.library import mean_copies
from playground.system.cpu import usable_cores

QUANT_BLOCK = 32
SLICE = 4096
"""Blocks rounded at once: their temporary arrays fit a core's cache."""

SAME = 1e-3
"""How far, in steps, a weight may be off a level and still count as on it; files hold scales in half precision, which
are exact in fp32, so that what was rounded before is off by less than 1e-5."""

MIN_LEVELS = 8
"""Blocks that use fewer than so many of 16 levels are not recognised: with few levels anything looks evenly spaced."""

SHRINKS = (1.0, 0.95, 0.9, 0.85)
"""Ranges tried for a block, as shares of its own: what leaves out the outermost weights may fit the others better."""

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Rounded:
    """One matrix ``[K, N]`` rounded; blocks run along K.

    Attributes:
        bits: 8 or 4.
        values: ``[N, blocks, 32]`` of uint8, unpacked.
        scales: ``[N, blocks]``, fp32.
        zeros: ``[N, blocks]`` of uint8, or None where all are the middle of the range.
        rest: ``[N, blocks]``: what each weight of the block is off by on average; None where that is nothing.
    """

    bits: int
    values: Array
    scales: Array
    zeros: Array | None = None
    rest: Array | None = None

    def weights(self) -> Array:
        """What it stands for, ``[K, N]``, padded to whole blocks."""
        zeros = np.float32(2 ** (self.bits - 1)) if self.zeros is None else self.zeros[..., None].astype(np.float32)
        weights = (self.values - zeros) * self.scales[..., None]
        if self.rest is not None:
            weights = weights + self.rest[..., None]
        return np.ascontiguousarray(weights.reshape(len(self.values), -1).T)


def blocks_of(weight: Array) -> Array:
    """``[K, N]`` as ``[N, blocks, 32]``, the last block filled up with zeros."""
    rows = np.ascontiguousarray(weight.T, dtype=np.float32)
    missing = -rows.shape[1] % QUANT_BLOCK
    if missing:
        rows = np.pad(rows, ((0, 0), (0, missing)))
    return rows.reshape(len(rows), -1, QUANT_BLOCK)


def round8(blocks: Array) -> Rounded:
    """Eight bits around the middle; a file of Q8_0 comes back as it was."""

    def rounded(part: Array) -> tuple[Array, ...]:
        scale = _above_zero(np.abs(part).max(1) / 127)
        return np.rint(part / scale[:, None] + 128).astype(np.uint8), scale

    values, scales = _sliced(rounded, blocks)
    return Rounded(8, values, scales)


def round4(blocks: Array, with_rest: bool) -> tuple[Rounded, bool]:
    """Four bits, and whether nothing was lost.

    Args:
        blocks: ``[N, blocks, 32]``.
        with_rest: Levels may start anywhere, with a ``rest`` for what whole zero points leave over. Without it each
            block's scale and whole zero point are chosen for the smallest squared error.
    """

    def rounded(part: Array) -> tuple[Array, ...]:
        scale, low, found = _levels(part)
        other = ~found
        if other.any():
            scale[other], low[other] = _fitted(part[other])
        if not with_rest:
            scale, zero = _whole(part, scale, low)
            values = np.clip(np.rint(part / scale[:, None]) + zero[:, None], 0, 15)
            rest = np.zeros_like(scale)
            found = found & (np.abs((values - zero[:, None]) * scale[:, None] - part).max(1) < SAME * scale)
        else:
            values = np.clip(np.rint((part - low[:, None]) / scale[:, None]), 0, 15)
            zero = np.clip(np.rint(-low / scale), 0, 15)
            rest = low + zero * scale
            rest[np.abs(rest) < SAME * scale] = 0
        return values.astype(np.uint8), scale, zero.astype(np.uint8), rest, found

    values, scales, zeros, rest, found = _sliced(rounded, blocks)
    return Rounded(4, values, scales, zeros, rest if rest.any() else None), bool(found.all())


def rest_as_columns(rounded: Rounded) -> Rounded:
    """``rest`` as further columns of the same matrix, for the means of the activations by block.

    It is two digits of four bits, so that a block's lowest level is as exact as the half float GGUF's Q4_1 has for it.

    A step of digits serves 32 blocks of a row, so the second ones begin with columns of their own. What lies between is
    zero: the graph repeats all means behind each other (``mean_copies``), which takes no operator more.
    """
    assert rounded.rest is not None
    assert rounded.zeros is not None
    blocks = rounded.scales.shape[1]
    first, first_scales, left = _digits(np.pad(rounded.rest, ((0, 0), (0, -blocks % QUANT_BLOCK))))
    # The mean of block b stands in columns b, b + blocks, and so on.
    columns, begin = mean_copies(blocks) * blocks, left.shape[1]
    places = np.arange(begin, columns + -columns % QUANT_BLOCK)
    second, second_scales, _ = _digits(np.where(places < begin + blocks, left[:, places % blocks], np.float32(0)))
    digits, scales = (np.concatenate(each, axis=1) for each in ((first, second), (first_scales, second_scales)))
    return Rounded(
        4,
        np.concatenate([rounded.values, (digits + 8).astype(np.uint8)], axis=1),
        # Of a sum there is 32 times as much as of a mean.
        np.concatenate([rounded.scales, scales * np.float32(QUANT_BLOCK)], axis=1),
        np.concatenate([rounded.zeros, np.full(scales.shape, 8, np.uint8)], axis=1),
    )


def _digits(numbers: Array) -> tuple[Array, Array, Array]:
    """Whole numbers from -8 to 7 that stand for ``numbers`` [rows, columns], in blocks [rows, columns / 32, 32]; the
    steps they count, by block; and what is left, [rows, columns].
    """
    blocks = numbers.reshape(len(numbers), -1, QUANT_BLOCK)
    steps = _above_zero(np.abs(blocks).max(2) / np.float32(7.5))
    digits = np.clip(np.rint(blocks / steps[..., None]), -8, 7)
    return digits, steps, (blocks - digits * steps[..., None]).reshape(numbers.shape)


def _levels(part: Array) -> tuple[Array, Array, Array]:
    """Step and lowest level of blocks that lie on at most 16 evenly spaced levels, and which ones do."""
    low, reach = part.min(1), np.ptp(part, axis=1)
    scale, found = np.ones_like(low), reach == 0
    scale[found] = _above_zero(np.abs(low[found]))
    for steps in range(15, MIN_LEVELS - 2, -1):
        left = np.flatnonzero(~found)
        if not len(left):
            break
        step = reach[left] / steps
        places = (part[left] - low[left, None]) / step[:, None]
        fits = np.abs(places - np.rint(places)).max(1) < SAME
        scale[left[fits]], found[left[fits]] = step[fits], True
    return scale, low, found


def _fitted(part: Array) -> tuple[Array, Array]:
    """Step and lowest level with the smallest squared error among a few ranges, each mended by least squares."""
    mean, low, reach = part.mean(1), part.min(1), np.ptp(part, axis=1)
    best_error = np.full(len(part), np.inf, np.float32)
    best_scale, best_low = _above_zero(reach / 15), low.copy()
    for shrink in SHRINKS:
        scale, start = _above_zero(reach * np.float32(shrink / 15)), low + reach * np.float32((1 - shrink) / 2)
        for _ in range(2):
            values = np.clip(np.rint((part - start[:, None]) / scale[:, None]), 0, 15)
            middle = values.mean(1)
            spread = values - middle[:, None]
            slope = (spread * part).sum(1) / np.maximum((spread * spread).sum(1), 1e-12)
            scale = np.where(slope > 0, slope, scale)
            start = mean - scale * middle
            error = np.square(values * scale[:, None] + start[:, None] - part).sum(1)
            better = error < best_error
            for best, new in ((best_error, error), (best_scale, scale), (best_low, start)):
                best[better] = new[better]
    return best_scale, best_low


def _whole(part: Array, scale: Array, low: Array) -> tuple[Array, Array]:
    """The whole zero point and the step with the smallest squared error, near levels that start anywhere."""
    best_error = np.full(len(part), np.inf, np.float32)
    best_scale, best_zero = scale.copy(), np.zeros_like(scale)
    for stretch in (0.94, 0.97, 1.0, 1.03, 1.06):
        tried = scale * np.float32(stretch)
        for side in (np.floor, np.ceil):
            zero = np.clip(side(-low / tried), 0, 15)
            values = np.clip(np.rint(part / tried[:, None]) + zero[:, None], 0, 15) - zero[:, None]
            slope = (values * part).sum(1) / np.maximum((values * values).sum(1), 1e-12)
            step = np.where(slope > 0, slope, tried)
            error = np.square(values * step[:, None] - part).sum(1)
            better = error < best_error
            for best, new in ((best_error, error), (best_scale, step), (best_zero, zero)):
                best[better] = new[better]
    return best_scale, best_zero


def _sliced(rounded: Callable[[Array], tuple[Array, ...]], blocks: Array) -> tuple[Array, ...]:
    """``rounded`` over all blocks, slice by slice, on all cores; each result shaped like the matrix again."""
    rows = blocks.reshape(-1, QUANT_BLOCK)
    with ThreadPoolExecutor(usable_cores()) as pool:
        parts = list(pool.map(lambda start: rounded(rows[start : start + SLICE]), range(0, len(rows), SLICE)))
    columns = (np.concatenate(column) for column in zip(*parts, strict=True))
    return tuple(column.reshape(*blocks.shape[:2], *column.shape[1:]) for column in columns)


def _above_zero(scale: Array) -> Array:
    """A block of zeros still needs a scale to divide by."""
    return np.where(scale > 0, scale, np.float32(1e-9)).astype(np.float32)
