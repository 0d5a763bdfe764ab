"""The weights of an ONNX graph that stay where they are until they are asked for, and the file that new ones go to.

A graph of seven thousand million parameters takes 28 GB in fp32. So what goes through here is one matrix at a time:
read, or made of others, when its turn comes, written down, forgotten. It knows tensors of ONNX; it does not round.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Make = Callable[[], Array]

ALIGNED = 4096
"""Where weights start in their file, so that they can be mapped into memory."""

INLINE = 1024
"""Bytes of a tensor that stays inside the graph."""


class Graph:
    """A graph and its weights.

    Args:
        model: ONNX's ``ModelProto``.
        folder: Where the files are that hold its large tensors.
        made: What gives the content of tensors that have a shape and a type here and nothing more, by name.
    """

    def __init__(self, model: Any, folder: Path, made: Mapping[str, Make] | None = None) -> None:
        self.model = model
        self._folder = folder
        self._made = dict(made or {})

    @classmethod
    def read(cls, path: Path) -> Graph:
        """A graph whose weights are inside or beside it. They stay there."""
        import onnx

        return cls(onnx.load(path, load_external_data=False), path.parent)

    def array(self, tensor: Any) -> Array:
        """The content of one of its initializers."""
        import onnx

        if make := self._made.get(tensor.name):
            return make()
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            return _external(tensor, self._folder)
        found: Array = onnx.numpy_helper.to_array(tensor)
        return found

    def derive(self, name: str, of: Any, shape: tuple[int, ...], make: Callable[[Array], Array]) -> Any:
        """An initializer that is made of another one when its turn comes.

        Args:
            of: The initializer.
            shape: Of what ``make`` gives; the type stays.
        """
        import onnx

        source = onnx.TensorProto()
        source.CopyFrom(of)  # the graph may forget it meanwhile
        self._made[name] = lambda: make(self.array(source))
        return onnx.TensorProto(name=name, dims=shape, data_type=of.data_type)


class Store:
    """The file of weights beside a graph. Equal content is stored once: an embedding and its head, rounded alike."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._places: dict[bytes, int] = {}
        self._file = path.open("wb")

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def put(self, name: str, array: Array) -> Any:
        """Write a tensor down; returns what stands for it in the graph."""
        import onnx

        if array.nbytes < INLINE:
            return onnx.numpy_helper.from_array(array, name)
        array = np.ascontiguousarray(array)  # which has an axis at least
        content = array.view(np.uint8).reshape(-1).data
        digest = hashlib.sha256(content).digest()
        if digest not in self._places:
            self._file.write(bytes(-self._file.tell() % ALIGNED))
            self._places[digest] = self._file.tell()
            self._file.write(content)
        tensor = onnx.TensorProto(name=name, dims=array.shape, data_location=onnx.TensorProto.EXTERNAL)
        tensor.data_type = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        place = {"location": self._path.name, "offset": self._places[digest], "length": array.nbytes}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        return tensor


def graphs(graph: Any) -> Iterator[Any]:
    """The graph and all that stand inside its nodes (the branches of a merged decoder)."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from graphs(attribute.g)


def _external(tensor: Any, folder: Path) -> Array:
    import onnx

    about = onnx.external_data_helper.ExternalDataInfo(tensor)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    shape = tuple(tensor.dims)
    found: Array = np.memmap(folder / about.location, dtype, "r", about.offset or 0, shape)
    return found
