"""The weights of an ONNX graph that stay where they are until they are asked for, and the file that new ones go to.

A graph of seven thousand million parameters takes 28 GB in fp32. So what goes through here is one matrix at a time:
read, or made of others, when its turn comes, written down, forgotten. It knows tensors of ONNX; it does not round.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Make = Callable[[], Array]
Part = Callable[[int, int], Array]
"""Of a tensor some places of its first axis, from one to before another."""

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
        parts: What gives a part of such a one, where that takes less memory than the whole.
    """

    def __init__(
        self,
        model: Any,
        folder: Path,
        made: Mapping[str, Make] | None = None,
        parts: Mapping[str, Part] | None = None,
    ) -> None:
        self.model = model
        self._folder = folder
        self._made, self._parts = dict(made or {}), dict(parts or {})

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

    def comes_in_parts(self, tensor: Any) -> bool:
        """Whether ``pieces`` makes no more than one of them at a time."""
        return tensor.name in self._parts

    def pieces(self, tensor: Any) -> Iterator[Array]:
        """What stands at each place of an initializer's first axis, in turn: each of a layer's experts."""
        if part := self._parts.get(tensor.name):
            return (part(place, place + 1)[0] for place in range(tensor.dims[0]))
        return iter(self.array(tensor))

    def derive(
        self, name: str, of: Any, shape: tuple[int, ...], make: Callable[[Array], Array], *, by_piece: bool = False
    ) -> Any:
        """An initializer that is made of another one when its turn comes.

        Args:
            of: The initializer.
            shape: Of what ``make`` gives; the type stays.
            by_piece: Whether ``make`` gives of a part of the first axis the same part.
        """
        import onnx

        source = onnx.TensorProto()
        source.CopyFrom(of)  # the graph may forget it meanwhile
        self._made[name] = lambda: make(self.array(source))
        if by_piece and (part := self._parts.get(of.name)):
            self._parts[name] = lambda start, stop: make(part(start, stop))
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
            self._places[digest] = self._begin()
            self._file.write(content)
        return self._stored(name, array.shape, array.dtype, digest)

    def put_pieces(self, name: str, pieces: Iterable[Array]) -> Any:
        """The same of a tensor that comes piece by piece along its first axis; one of them is in memory at a time."""
        start, digest, count = self._begin(), hashlib.sha256(), 0
        for piece in pieces:
            array = np.ascontiguousarray(piece)
            content = array.view(np.uint8).reshape(-1).data
            digest.update(content)
            self._file.write(content)
            count += 1
        if digest.digest() in self._places:
            self._file.seek(start)
            self._file.truncate()
        else:
            self._places[digest.digest()] = start
        return self._stored(name, (count, *array.shape), array.dtype, digest.digest())

    def _begin(self) -> int:
        """Where the next tensor stands."""
        self._file.write(bytes(-self._file.tell() % ALIGNED))
        return self._file.tell()

    def _stored(self, name: str, shape: tuple[int, ...], kind: Any, digest: bytes) -> Any:
        import onnx

        tensor = onnx.TensorProto(name=name, dims=shape, data_location=onnx.TensorProto.EXTERNAL)
        tensor.data_type = onnx.helper.np_dtype_to_tensor_dtype(kind)
        length = int(np.prod(shape)) * kind.itemsize
        place = {"location": self._path.name, "offset": self._places[digest], "length": length}
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
