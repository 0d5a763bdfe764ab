"""Constants of an ONNX graph: small ones from the graph, weights mapped from the file beside it.

It believes nothing about places and sizes that the file does not bear out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from playground.kernels.library import BLOCK, Weights
from playground.messages import msg
from playground.runtimes.native.mapped import MappedFiles
from playground.runtimes.native.program import refuse

Array = NDArray[Any]

_EXTERNAL = {"location", "offset", "length", "checksum"}


class Constants:
    """All constants of one graph, by name.

    Args:
        folder: Where the graph lies.
        graph: The protobuf, without external data.
    """

    def __init__(self, folder: Path, graph: Any) -> None:
        self._tensors = {each.name: each for each in graph.initializer}
        self._made: dict[str, Array] = {}
        self._files = MappedFiles(folder)

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
            refuse(msg("the graph has a constant that is no tensor"))
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
            found = self._made[name]
            _must_be(name, found.dtype, wanted)
            return found
        tensor = self._tensors.get(name)
        if tensor is None:
            refuse(msg("the graph has {name}, which is no constant", name=name))
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        _must_be(name, dtype, wanted)
        if tensor.data_location != TensorProto.EXTERNAL:
            return np.ascontiguousarray(numpy_helper.to_array(tensor))
        place = {entry.key: entry.value for entry in tensor.external_data}
        location = place.get("location", "")
        if place.keys() - _EXTERNAL or not self._files.may_hold_weights(location):
            refuse(msg("the graph has {name} in a file that is no data file beside the graph", name=name))
        mapped = self._files.array(location, int(place.get("offset", 0)), tuple(tensor.dims), dtype)
        if mapped is None:
            refuse(msg("the graph has {name}, which lies outside its file", name=name))
        return mapped

    def table(self, values: str, scales: str, zeros: str = "") -> tuple[Array, Array, Array | None]:
        """An embedding in eight bits: values [rows, width], scales and zero points [rows, blocks].

        Raises:
            NotForKernels: It is none.
        """
        table, by = self.array(values, np.uint8), self.array(scales, np.float32)
        middles = self.array(zeros, np.uint8) if zeros else None
        shape = (len(table), table.shape[-1] // BLOCK) if table.ndim == 2 else ()
        if not shape or table.shape[1] % BLOCK or by.shape != shape or (middles is not None and middles.shape != shape):
            refuse(msg("the graph has an embedding whose blocks are not of 32"))
        return table, by, middles

    def matrix(self, names: list[str], bits: int, outputs: int, width: int, means: int) -> Weights:
        """The weights of a ``MatMulNBits``.

        Args:
            names: Of values, scales and, if there are, zero points.
            bits: Of a value.
            outputs: Rows.
            width: Columns, the last ``means`` of which belong to the means of the others' activations.
            means: How many.

        Raises:
            NotForKernels: They have another shape than that.
        """
        blocks = -(-width // BLOCK)
        values, scales = self.array(names[0], np.uint8), self.array(names[1], np.float32)
        zeros = self.array(names[2], np.uint8) if len(names) > 2 and names[2] else None
        packed = BLOCK * bits // 8
        if values.size != outputs * blocks * packed or scales.size != outputs * blocks:
            refuse(msg("the graph has weights of another shape than the product's"))
        if zeros is not None and zeros.size != outputs * (blocks if bits == 8 else -(-blocks // 2)):
            refuse(msg("the graph has zero points of another shape than the weights'"))
        shaped = values.reshape(outputs, blocks, packed), scales.reshape(outputs, blocks)
        return Weights(bits, *shaped, zeros, mean_blocks=-(-means // BLOCK))


def _must_be(name: str, dtype: Any, wanted: type | None) -> None:
    if wanted is not None and dtype != wanted:
        refuse(msg("the graph has {name} in {dtype}", name=name, dtype=dtype))
