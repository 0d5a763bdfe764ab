"""Constants of an ONNX graph: small ones from the graph, weights mapped from the file beside it.

It believes nothing about places and sizes that the file does not bear out.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from playground.runtimes.kernel_program import refuse

Array = NDArray[Any]

_EXTERNAL = {"location", "offset", "length", "checksum"}


class Constants:
    """All constants of one graph, by name.

    Args:
        folder: Where the graph lies.
        graph: The protobuf, without external data.
    """

    def __init__(self, folder: Path, graph: Any) -> None:
        self._folder = folder
        self._tensors = {each.name: each for each in graph.initializer}
        self._made: dict[str, Array] = {}
        self._maps: dict[str, Array] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._tensors or name in self._made

    def keep(self, name: str, array: Array) -> None:
        """What was made of a constant, under a name of its own."""
        self._made[name] = array

    def add(self, node: Any) -> None:
        """Take the value of a ``Constant`` node.

        Raises:
            NotForKernels: It holds no tensor.
        """
        value = next((each.t for each in node.attribute if each.name == "value"), None)
        if value is None:
            refuse("a constant that is no tensor")
        named = TensorProto()
        named.CopyFrom(value)
        named.name = node.output[0]
        self._tensors[named.name] = named

    def array(self, name: str, wanted: type | None = None) -> Array:
        """The constant, in the type it must have.

        Raises:
            NotForKernels: It is no constant, of another type, or not where the graph says.
        """
        if name in self._made:
            return self._made[name]
        tensor = self._tensors.get(name)
        if tensor is None:
            refuse(f"{name}, which is no constant")
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        if wanted is not None and dtype != wanted:
            refuse(f"{name} in {dtype}")
        if tensor.data_location != TensorProto.EXTERNAL:
            return np.ascontiguousarray(numpy_helper.to_array(tensor))
        place = {entry.key: entry.value for entry in tensor.external_data}
        location = place.get("location", "")
        if place.keys() - _EXTERNAL or not location or Path(location).name != location:
            refuse(f"{name} in a file that is not beside the graph")
        if location not in self._maps:
            self._maps[location] = np.memmap(self._folder / location, np.uint8, "r")
        data, start = self._maps[location], int(place.get("offset", 0))
        size = math.prod(tensor.dims) * dtype.itemsize
        if min(start, *tensor.dims) < 0 or start + size > len(data) or start % dtype.itemsize:
            refuse(f"{name}, which lies outside its file")
        found: Array = data[start : start + size].view(dtype).reshape(tuple(tensor.dims))
        return found
