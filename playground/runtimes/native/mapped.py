"""Arrays in files beside a graph, mapped and not read. No size is believed beyond what lies in them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from playground.runtimes.onnx.file import is_data_file

Array = NDArray[Any]


class Place(NamedTuple):
    """Where an array lies: a file's name and the first byte in it."""

    location: str
    offset: int


class MappedFiles:
    """The data files of one folder, each mapped once.

    Args:
        folder: Where the graph lies.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._maps: dict[str, Array] = {}

    @staticmethod
    def may_hold_weights(location: str) -> bool:
        """Whether it is the name of a data file beside the graph."""
        return is_data_file(location) and "/" not in location

    def array(self, location: str, offset: int, dims: tuple[int, ...], dtype: np.dtype[Any]) -> Array | None:
        """The array of ``dims`` at byte ``offset``, read-only; None where the file has no room for it there.

        Raises:
            OSError: There is no such file.
        """
        if location not in self._maps:
            self._maps[location] = np.memmap(self._folder / location, np.uint8, "r")
        data = self._maps[location]
        size = math.prod(dims) * dtype.itemsize
        if min(offset, *dims) < 0 or offset + size > len(data) or offset % dtype.itemsize:
            return None
        mapped: Array = data[offset : offset + size].view(dtype).reshape(dims)
        return mapped


def place_of(array: Array) -> Place | None:
    """Where ``array`` lies as it stands, one row behind the other; None if that is not in a mapped file."""
    base: Any = array
    while base is not None and not (isinstance(base, np.memmap) and not isinstance(base.base, np.ndarray)):
        base = getattr(base, "base", None)
    if base is None or not base.filename or not array.flags.c_contiguous:
        return None
    return Place(Path(base.filename).name, base.offset + array.ctypes.data - base.ctypes.data)
