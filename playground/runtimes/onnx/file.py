"""What an ONNX file is made of, without its weights: operators, quantisation, weight types, external files.

The file is mapped and walked as protobuf wire format, weights skipped by their length: 0.1 s for 7,400 nodes and half
a gigabyte of weights, where ``onnx.load`` reads all of it and takes ten times as long. No size the file states is
believed beyond what lies in it. The module does not know what a graph is for.

Field numbers are those of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
"""

from __future__ import annotations

import mmap
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from playground.errors import Reason
from playground.messages import msg

# onnx.TensorProto.DataType: bits for each element of the types weights come in.
ELEMENT_BITS = {
    "float32": 32,
    "float16": 16,
    "bfloat16": 16,
    "float64": 64,
    "int8": 8,
    "uint8": 8,
    "int4": 4,
    "uint4": 4,
}
_TYPES = {1: "float32", 10: "float16", 16: "bfloat16", 11: "float64", 3: "int8", 2: "uint8", 22: "int4", 21: "uint4"}

_MODEL_GRAPH, _MODEL_OPSET, _MODEL_FUNCTION = 7, 8, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_FUNCTION_NODE, _FUNCTION_ATTRIBUTE = 7, 11
_NODE_OUTPUT, _NODE_TYPE, _NODE_ATTRIBUTE = 2, 4, 5
_ATTRIBUTE_NAME, _ATTRIBUTE_INT, _ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS = 1, 3, 6, 11
_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS, _ATTRIBUTE_SPARSE, _ATTRIBUTE_SPARSES = 5, 10, 22, 23
_SPARSE_PARTS = (1, 2)  # values and indices
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_EXTERNAL = 1, 2, 13
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
MOST_DIMENSIONS, MOST_ELEMENTS = 64, 1 << 60
"""Of one tensor. NumPy takes as many dimensions; without a bound their product is a number of megabytes. What claims
more elements counts as so many.
"""
DEEPEST = 8
"""Subgraphs within subgraphs; exporters make one level."""


DECODER, ENCODER = "model.onnx", "encoder_model.onnx"
"""What an artifact's graphs are called."""


_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_+-]*")
_DATA = re.compile(
    r"[A-Za-z0-9_][A-Za-z0-9_+-]*(\.[A-Za-z0-9_+-]+)*\.(onnx[_-]data|data|bin|dat|raw|weights?|bias)([._-]?\d+)?",
    re.IGNORECASE | re.ASCII,
)


def is_data_file(location: str) -> bool:
    """Whether a graph may keep weights in the file it calls so: ``model.onnx_data``, ``layers/h.3.weight``.

    What a graph names is put beside it under that very name, where other names mean something: kernels, graphs,
    artifact.json, configurations. So this says what is allowed and not what isn't: plain characters, and endings that
    nothing here executes or believes, or none, as torch names a file for each tensor (``onnx__MatMul_12``).
    """
    *folders, name = location.split("/")
    is_data = _DATA.fullmatch(name) or _PLAIN.fullmatch(name)
    return is_data is not None and all(_PLAIN.fullmatch(folder) for folder in folders)


class BadOnnxFile(Reason):
    """The bytes are not an ONNX model."""


class GraphError(Reason):
    """No loop here can drive this graph; the message says what it has and what is missing."""


@dataclass
class OnnxFile:
    """The contents.

    Attributes:
        operators: How often each operator occurs, subgraphs included.
        makers: Which operator makes a value, by the value's name, in the main graph.
        weight_bits: How many bits of weights there are of each element type.
        matmul_bits: The ``bits`` of MatMulNBits nodes.
        external: Files beside this one that hold weights, as the graph names them, wherever in it that stands.
        domains: Operator sets the graph asks for; the empty name is ONNX's own.
    """

    operators: Counter[str] = field(default_factory=Counter)
    makers: dict[str, str] = field(default_factory=dict)
    weight_bits: Counter[str] = field(default_factory=Counter)
    matmul_bits: Counter[int] = field(default_factory=Counter)
    external: set[str] = field(default_factory=set)
    domains: set[str] = field(default_factory=set)

    @property
    def quantised_bits(self) -> int | None:
        """8 or 4 where products are computed from quantised weights, None in a plain floating-point graph."""
        if self.matmul_bits:
            return min(self.matmul_bits) if min(self.matmul_bits) <= 4 else 8
        if self.operators.keys() & {"MatMulBnb4"}:
            return 4
        integer = {"MatMulInteger", "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "QLinearMatMul", "QAttention"}
        if self.operators.keys() & integer or ("DequantizeLinear" in self.operators and self._mostly_integer):
            four = self.weight_bits["int4"] + self.weight_bits["uint4"]
            return 4 if four > self.weight_bits["int8"] + self.weight_bits["uint8"] else 8
        return None

    @property
    def float_type(self) -> str:
        """The floating-point type most of the weights have: float32, float16 or bfloat16."""
        floats = {name: self.weight_bits[name] for name in ("float32", "float16", "bfloat16")}
        return max(floats, key=lambda name: floats[name])

    @property
    def _mostly_integer(self) -> bool:
        integers = sum(self.weight_bits[name] for name in ("int8", "uint8", "int4", "uint4"))
        return 2 * integers > self.weight_bits.total()


def read_onnx_file(path: Path) -> OnnxFile:
    """Walk the file at ``path``.

    Raises:
        BadOnnxFile: It is empty, cut off, or something else.
        OSError: It can't be read.
    """
    found = OnnxFile()
    with path.open("rb") as file:
        try:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as error:  # an empty file can't be mapped
            raise BadOnnxFile(msg("{file} is empty", file=path.name)) from error
        with data:
            _model(data, found)
    if not found.operators:
        raise BadOnnxFile(msg("{file} holds no graph", file=path.name))
    return found


Span = tuple[int, int]


def _model(data: mmap.mmap, found: OnnxFile) -> None:
    for number, value in _fields(data, (0, len(data))):
        if number == _MODEL_GRAPH:
            _graph(data, _span(value), found, depth=0)
        elif number == _MODEL_FUNCTION:
            _function(data, _span(value), found)
        elif number == _MODEL_OPSET:
            names = [_text(data, _span(part)) for key, part in _fields(data, _span(value)) if key == 1]
            found.domains.add(names[0] if names else "")


def _graph(data: mmap.mmap, span: Span, found: OnnxFile, depth: int) -> None:
    if depth > DEEPEST:
        raise BadOnnxFile(msg("its subgraphs are nested too deep"))
    for number, value in _fields(data, span):
        if number == _GRAPH_NODE:
            _node(data, _span(value), found, depth)
        elif number == _GRAPH_INITIALIZER:
            _tensor(data, _span(value), found)
        elif number == _GRAPH_SPARSE:
            _sparse(data, _span(value), found)


def _function(data: mmap.mmap, span: Span, found: OnnxFile) -> None:
    """An operator that the file defines itself, of nodes like a subgraph's."""
    for number, value in _fields(data, span):
        if number == _FUNCTION_NODE:
            _node(data, _span(value), found, depth=1)
        elif number == _FUNCTION_ATTRIBUTE:
            _attribute(data, _span(value), "", found, depth=1)


def _node(data: mmap.mmap, span: Span, found: OnnxFile, depth: int) -> None:
    operator, outputs, attributes = "", [], []
    for number, value in _fields(data, span):
        if number == _NODE_TYPE:
            operator = _text(data, _span(value))
        elif number == _NODE_OUTPUT:
            outputs.append(_text(data, _span(value)))
        elif number == _NODE_ATTRIBUTE:
            attributes.append(_span(value))
    found.operators[operator] += 1
    if depth == 0:
        found.makers.update(dict.fromkeys(outputs, operator))
    for attribute in attributes:
        _attribute(data, attribute, operator, found, depth)


def _attribute(data: mmap.mmap, span: Span, operator: str, found: OnnxFile, depth: int) -> None:
    name = ""
    for number, value in _fields(data, span):
        if number == _ATTRIBUTE_NAME:
            name = _text(data, _span(value))
        elif number == _ATTRIBUTE_INT and operator == "MatMulNBits" and name == "bits":
            found.matmul_bits[_whole(value)] += 1
        elif number in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
            _graph(data, _span(value), found, depth + 1)
        elif number in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
            _tensor(data, _span(value), found)
        elif number in (_ATTRIBUTE_SPARSE, _ATTRIBUTE_SPARSES):
            _sparse(data, _span(value), found)


def _sparse(data: mmap.mmap, span: Span, found: OnnxFile) -> None:
    for number, value in _fields(data, span):
        if number in _SPARSE_PARTS:
            _tensor(data, _span(value), found)


def _tensor(data: mmap.mmap, span: Span, found: OnnxFile) -> None:
    size, rank, kind = 1, 0, 0
    for number, value in _fields(data, span):
        if number == _TENSOR_DIMS:
            for length in _packed(data, value):
                size, rank = min(size * length, MOST_ELEMENTS), rank + 1
                if rank > MOST_DIMENSIONS:
                    raise BadOnnxFile(msg("a tensor has more than {count} dimensions", count=MOST_DIMENSIONS))
        elif number == _TENSOR_TYPE:
            kind = _whole(value)
        elif number == _TENSOR_EXTERNAL:
            entry = {key: _text(data, _span(part)) for key, part in _fields(data, _span(value))}
            if entry.get(1) == "location":
                found.external.add(entry.get(2, ""))
    if kind in _TYPES:
        found.weight_bits[_TYPES[kind]] += size * ELEMENT_BITS[_TYPES[kind]]


# -- wire format ----------------------------------------------------------------------------------------------------


def _fields(data: mmap.mmap, span: Span) -> Iterator[tuple[int, int | Span]]:
    """The fields of one message: number, and a varint's value or the place of what is longer."""
    at, end = span
    while at < end:
        tag, at = _varint(data, at, end)
        kind = tag & 7
        if kind == _VARINT:
            value, at = _varint(data, at, end)
            yield tag >> 3, value
            continue
        if kind == _BYTES:
            size, at = _varint(data, at, end)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise BadOnnxFile(msg("it is not in ONNX's format"))
        if at + size > end:
            raise BadOnnxFile(msg("it is cut off, or not in ONNX's format"))
        yield tag >> 3, (at, at + size)
        at += size


def _varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 64:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise BadOnnxFile(msg("it is cut off, or not in ONNX's format"))


def _packed(data: mmap.mmap, value: int | Span) -> Iterator[int]:
    """A repeated integer, written one by one or packed."""
    if isinstance(value, int):
        yield value
        return
    at, end = value
    while at < end:
        number, at = _varint(data, at, end)
        yield number


def _whole(value: int | Span) -> int:
    if not isinstance(value, int):
        raise BadOnnxFile(msg("it is not in ONNX's format"))
    return value


def _span(value: int | Span) -> Span:
    if isinstance(value, int):
        raise BadOnnxFile(msg("it is not in ONNX's format"))
    return value


def _text(data: mmap.mmap, span: Span) -> str:
    return data[span[0] : span[1]].decode("utf-8", errors="replace")
