"""A layer's experts in a GGUF file: where transformers puts them, and how they are put together one at a time.

llama.cpp keeps a gate's rows apart from the other half's, networks have both in one weight. Which goes where is
transformers' own code, which puts whole layers together; it is tried on a few numbers. The module reads no file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from playground.runtimes.torch.several import Applied, Rows

Array = npt.NDArray[Any]

PROBE = (2, 3, 4)
"""Axes of the experts that it is tried on."""


def place_of(process: Callable[[Array, dict[str, torch.Tensor]], Any]) -> tuple[str, int] | None:
    """Where experts go: as they are into the weight of that name, or above or below others in each expert of it.

    Args:
        process: transformers' processor of one tensor, and where it puts what it puts together itself.

    Returns:
        The name, and their place among those that are put together; None where it does something else.
    """
    numbers = np.arange(1, 1 + np.prod(PROBE), dtype=np.float32).reshape(PROBE)
    into: dict[str, torch.Tensor] = {}
    try:
        if process(numbers, into).name is not None or len(into) != 1:
            return None
    except Exception:  # a family's own code, which may look at sizes
        return None
    ((name, made),) = into.items()
    nothing = np.zeros_like(numbers)
    for number, parts in enumerate(([numbers], [numbers, nothing], [nothing, numbers])):
        if np.array_equal(made.numpy(), np.concatenate(parts, 1)):
            return name, max(0, number - 1)
    return None


def together(parts: Sequence[Rows]) -> Rows:
    """Experts of which each one's matrices stand below each other.

    Args:
        parts: Each ``[experts, rows, columns]``.
    """
    if len(parts) == 1:
        return parts[0]
    experts, _, columns = parts[0].shape
    shape = torch.Size((experts, sum(each.shape[1] for each in parts), columns))
    return Applied(lambda *some: torch.cat(some, 1), tuple(parts), shape, below=True)
