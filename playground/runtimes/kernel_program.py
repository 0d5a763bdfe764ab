"""Makes a fused decoder graph into a program for the playground's own kernels.

Each node becomes a step over buffers, or a part of one: an activation and the product behind it are one step, views cost
nothing, the mask's arithmetic is dropped because the kernels count positions themselves. A graph with anything the kernels
don't know, an attribute included, is refused with its name, and ONNX Runtime runs it. The module reads graphs and says
what is to be done; it runs nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from playground.kernels.library import BLOCK, PANEL, Kind, Weights

MASK, POSITIONS, TOKENS = "attention_mask", "position_ids", "input_ids"
LONGEST_HEAD = 1024
"""Numbers in one head that the kernels have room for."""
MOST_GROUPS = 48
"""Query heads of one key-value head."""

Array = NDArray[Any]


class NotForKernels(ValueError):
    """The kernels can't run this graph; the message says what is in it that they don't know."""


@dataclass(frozen=True)
class Value:
    """A graph's value: columns of a buffer's rows.

    Attributes:
        buffer: Number of a buffer, before buffers share memory.
        offset: First column.
        width: Columns.
        one: Only the last token's row is left.
        means: Means by block stand behind the columns, in the graph; the kernels take sums for them.
    """

    buffer: int
    offset: int
    width: int
    one: bool = False
    means: bool = False


@dataclass(frozen=True)
class Pending:
    """An activation that waits for the product it may be one step with."""

    kind: Kind
    source: Value


@dataclass(frozen=True)
class Heads:
    """One layer's attention: query heads, heads of keys and values, numbers in a head."""

    heads: int
    kv_heads: int
    size: int
    window: int
    scale: float


@dataclass
class Step:
    """One step. ``tensors`` are constants it reads: arrays mapped from the file, or ``Weights``."""

    kind: Kind
    inputs: tuple[Value | None, ...]
    outputs: tuple[Value | None, ...]
    width: int
    extra: int = 0
    number: float = 0.0
    tensors: tuple[Array | None, ...] = ()
    weights: Weights | None = None
    heads: Heads | None = None
    layer: int = 0
    one: bool = False


@dataclass
class Program:
    """Steps, and what has to be there for them.

    Attributes:
        widths: Of each buffer, in columns.
        singles: Buffers of one row.
        layers: The attention of each layer.
        logits: Where the result lies.
        vocab: Its width.
        longest: Tokens that positions are known for; None where any number goes.
    """

    steps: list[Step] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)
    singles: set[int] = field(default_factory=set)
    layers: list[Heads] = field(default_factory=list)
    logits: Value | None = None
    vocab: int = 0
    longest: int | None = None


def read_program(path: Path) -> Program:
    """The program of the graph at ``path``, with its weights mapped.

    Raises:
        NotForKernels: It has something the kernels don't know.
        OSError: A file can't be read.
    """
    return _Reader(path).read()


_ACTIVATIONS = {"Sigmoid": Kind.SIGMOID, "Gelu": Kind.GELU_ERF, "FastGelu": Kind.GELU, "Relu": Kind.RELU}
_MASK_OPERATORS = frozenset(("ReduceSum", "Sub", "Cast", "Shape", "Gather", "Squeeze", "Unsqueeze", "Reshape"))
_IGNORED = frozenset(("accuracy_level", "axis", "stash_type", "name"))
_EXTERNAL = {"location", "offset", "length", "checksum"}


class _Reader:
    """One walk over a graph."""

    def __init__(self, path: Path) -> None:
        self._folder = path.parent
        self._graph = onnx.load(str(path), load_external_data=False).graph
        self._tensors = {each.name: each for each in self._graph.initializer}
        self._maps: dict[str, Array] = {}
        self._values: dict[str, Value | Pending] = {}
        self._positional = {MASK, POSITIONS}  # values made of the mask and of positions alone
        self._program = Program()
        self._rounded: str | None = None
        self._uses = Counter(name for node in self._graph.node for name in node.input)

    def read(self) -> Program:
        self._check_inputs()
        for node in self._graph.node:
            self._node(node)
        logits = self._values.get("logits")
        if not isinstance(logits, Value) or not logits.one:
            _refuse("logits of more than the last position")
        assert isinstance(logits, Value)
        self._program.logits, self._program.vocab = logits, logits.width
        return self._program

    def _check_inputs(self) -> None:
        names = [each.name for each in self._graph.input if each.name not in self._tensors]
        unknown = [name for name in names if name not in (TOKENS, MASK, POSITIONS) and not name.startswith("past")]
        if TOKENS not in names or unknown:
            _refuse(f"the inputs {', '.join(unknown) or 'without ' + TOKENS}")

    # -- nodes ------------------------------------------------------------------------------------------------------

    def _node(self, node: Any) -> None:
        if node.op_type == "Constant":
            self._constant(node)
            return
        given = [name for name in node.input if name and name not in self._tensors]
        if node.op_type in _MASK_OPERATORS and given and all(name in self._positional for name in given):
            self._positional.update(node.output)
            return
        handlers: Mapping[str, Callable[[Any, dict[str, Any]], None]] = {
            "GatherBlockQuantized": self._embed_rounded,
            "Gather": self._gather,
            "Unsqueeze": self._alias,
            "Squeeze": self._alias,
            "Reshape": self._reshape,
            "Cast": self._cast,
            "SimplifiedLayerNormalization": self._norm,
            "SkipSimplifiedLayerNormalization": self._norm,
            "MatMulNBits": self._product,
            "GroupQueryAttention": self._attention,
            "Split": self._split,
            "AveragePool": self._means,
            "Concat": self._with_means,
            "Add": self._add,
            "Mul": self._multiply,
            "Sigmoid": self._activation,
            "Gelu": self._activation,
            "FastGelu": self._activation,
            "Relu": self._activation,
        }
        if node.op_type not in handlers:
            _refuse(f"the operator {node.op_type}")
        handlers[node.op_type](node, {each.name: helper.get_attribute_value(each) for each in node.attribute})

    def _constant(self, node: Any) -> None:
        value = next((each.t for each in node.attribute if each.name == "value"), None)
        if value is None:
            _refuse("a constant that is no tensor")
        named = TensorProto()
        named.CopyFrom(value)
        named.name = node.output[0]
        self._tensors[named.name] = named

    def _embed_rounded(self, node: Any, settings: dict[str, Any]) -> None:
        _check(node, settings, {"bits": 8, "block_size": BLOCK, "gather_axis": 0, "quantize_axis": 1})
        if node.input[1] != TOKENS:
            _refuse("a lookup of something other than tokens")
        table, scales = self._array(node.input[0], np.uint8), self._array(node.input[2], np.float32)
        zeros = self._array(node.input[3], np.uint8) if len(node.input) > 3 and node.input[3] else None
        rows, width = table.shape
        if width % BLOCK or scales.shape != (rows, width // BLOCK):
            _refuse("an embedding whose blocks are not of 32")
        self._step(Kind.EMBED8, (), node.output[0], width, tensors=(table, scales, zeros))

    def _gather(self, node: Any, settings: dict[str, Any]) -> None:
        if node.input[1] == TOKENS and settings.get("axis", 0) == 0:
            table = self._array(node.input[0], np.float32)
            self._step(Kind.EMBED32, (), node.output[0], table.shape[1], tensors=(table,))
            return
        source = self._value(node.input[0])
        if settings.get("axis", 0) != 1 or self._small(node.input[1]).tolist() not in (-1, [-1]) or source.one:
            _refuse("a Gather other than of tokens and of the last position")
        self._step(Kind.LAST, (source,), node.output[0], source.width, one=True)

    def _alias(self, node: Any, settings: dict[str, Any]) -> None:
        """Axes of size one come and go; rows are rows."""
        self._values[node.output[0]] = self._value(node.input[0])

    def _reshape(self, node: Any, settings: dict[str, Any]) -> None:
        """Heads side by side in a row, or one behind the other: the same numbers in the same order. Only norms, which
        look at as many numbers as they have weights, and attention see them.
        """
        self._values[node.output[0]] = self._value(node.input[0])

    def _cast(self, node: Any, settings: dict[str, Any]) -> None:
        if settings["to"] != TensorProto.FLOAT:
            _refuse("a Cast to something other than fp32")
        self._values[node.output[0]] = self._value(node.input[0])

    def _norm(self, node: Any, settings: dict[str, Any]) -> None:
        _check(node, settings, {"epsilon": None, "axis": -1, "stash_type": 1})
        skips = node.op_type.startswith("Skip")
        source = self._value(node.input[0])
        skip = self._value(node.input[1]) if skips else None
        if len(node.input) > 2 + skips and any(node.input[2 + skips :]):
            _refuse("a norm with a bias")
        weight = self._array(node.input[1 + skips], np.float32)
        if source.width % weight.size or (skip and skip.width != source.width):
            _refuse("a norm over something other than heads or rows")
        outputs = list(node.output)
        if any(outputs[1:3]):
            _refuse("a norm that gives mean or deviation")
        total = outputs[3] if len(outputs) > 3 else ""
        self._step(
            Kind.NORM,
            (source, skip),
            outputs[0],
            source.width,
            also=total,
            extra=weight.size,
            number=float(settings.get("epsilon", 1e-5)),
            tensors=(weight,),
        )

    def _product(self, node: Any, settings: dict[str, Any]) -> None:
        bits, width, outputs = int(settings.get("bits", 4)), int(settings["K"]), int(settings["N"])
        _check(node, settings, {"bits": None, "K": None, "N": None, "block_size": BLOCK, "accuracy_level": None})
        source = self._value(node.input[0])
        if bits not in (4, 8):
            _refuse(f"weights of {bits} bits")
        if len(node.input) > 4 and any(node.input[4:]):
            _refuse("a product with a group index or a bias")
        zeros = node.input[3] if len(node.input) > 3 else ""
        blocks = -(-width // BLOCK)
        values = self._array(node.input[1], np.uint8).reshape(outputs, blocks, BLOCK * bits // 8)
        scales = self._array(node.input[2], np.float32).reshape(outputs, blocks)
        rest = blocks - source.width // BLOCK if source.means else 0
        if source.means and (bits != 4 or source.width + source.width // BLOCK != width):
            _refuse("means beside activations in a product of another kind")
        if not source.means and source.width != width:
            _refuse("a product of other columns than there are")
        weights = Weights(bits, values, scales, self._array(zeros, np.uint8) if zeros else None, rest)
        key = f"{node.input[0].removesuffix('.with_means')}"
        if self._rounded != key:
            self._append(Step(Kind.QUANTISE, (source,), (), source.width, extra=weights.blocks, one=source.one))
            self._rounded = key
        self._step(Kind.PRODUCT, (), node.output[0], outputs, one=source.one, weights=weights)

    def _attention(self, node: Any, settings: dict[str, Any]) -> None:
        known = {
            "num_heads": None,
            "kv_num_heads": None,
            "scale": None,
            "local_window_size": None,
            "softcap": 0.0,
            "do_rotary": None,
            "rotary_interleaved": None,
            "smooth_softmax": 0,
        }
        _check(node, settings, known)
        names = [*node.input, *[""] * (12 - len(node.input))]
        if any(name and name not in self._positional for name in (*names[5:7], *names[9:])):
            _refuse("attention with a mask, a bias or sinks of its own")
        heads, kv_heads = int(settings["num_heads"]), int(settings["kv_num_heads"])
        first = self._value(names[0])
        size = first.width // heads if names[1] else first.width // (heads + 2 * kv_heads)
        if names[1]:
            parts = (first, self._value(names[1]), self._value(names[2]))
        else:
            edges = (0, heads * size, (heads + kv_heads) * size, (heads + 2 * kv_heads) * size)
            parts = tuple(_columns(first, edges[i], edges[i + 1]) for i in range(3))  # type: ignore[assignment]
        if size % 16 or size > LONGEST_HEAD or heads % kv_heads or heads // kv_heads > MOST_GROUPS:
            _refuse(f"heads of {size} numbers, {heads} over {kv_heads}")
        window = int(settings.get("local_window_size", -1))
        # The attribute leaves the query's own position out.
        shape = Heads(heads, kv_heads, size, window + 1 if window >= 0 else 0, self._scale(settings, size))
        tables: tuple[Array | None, ...] = ()
        turned = 0
        if settings.get("do_rotary", 0):
            cosines, sines = (self._array(name, np.float32) for name in names[7:9])
            tables, turned = (cosines, sines), 2 * cosines.shape[1]
            known_to = self._program.longest
            self._program.longest = min(len(cosines), known_to or len(cosines))
            if turned > size:
                _refuse("rotary tables wider than a head")
        layer = len(self._program.layers)
        self._program.layers.append(shape)
        queries = self._new(heads * size)
        interleaved = int(settings.get("rotary_interleaved", 0))
        self._append(
            Step(Kind.ROTATE, parts, (queries,), turned, extra=interleaved, tensors=tables, heads=shape, layer=layer)
        )
        out = self._new(heads * size)
        self._append(Step(Kind.ATTEND, (queries,), (out,), heads * size, heads=shape, layer=layer))
        self._append(Step(Kind.MERGE, (queries,), (out,), heads * size, heads=shape, layer=layer))
        self._values[node.output[0]] = out

    @staticmethod
    def _scale(settings: dict[str, Any], size: int) -> float:
        return float(settings.get("scale", 0.0)) or 1.0 / math.sqrt(size)

    def _split(self, node: Any, settings: dict[str, Any]) -> None:
        source = self._value(node.input[0])
        if settings.get("axis", 0) not in (-1, 2) or source.means:
            _refuse("a Split of something other than columns")
        if len(node.input) > 1 and node.input[1]:
            sizes = [int(size) for size in self._small(node.input[1])]
        else:
            sizes = [source.width // len(node.output)] * len(node.output)
        start = 0
        for name, size in zip(node.output, sizes, strict=True):
            self._values[name] = _columns(source, start, start + size)
            start += size

    def _means(self, node: Any, settings: dict[str, Any]) -> None:
        """What quantise.py writes for sums of blocks: ``AveragePool`` over 32, then ``Concat`` behind the activations."""
        _check(node, settings, {"kernel_shape": [BLOCK], "strides": [BLOCK]})
        self._values[node.output[0]] = Value(-1, 0, 0, means=True)

    def _with_means(self, node: Any, settings: dict[str, Any]) -> None:
        source = self._value(node.input[0])
        if settings.get("axis") != -1 or len(node.input) != 2 or not self._value(node.input[1]).means:
            _refuse("a Concat of something other than means")
        self._values[node.output[0]] = Value(source.buffer, source.offset, source.width, source.one, means=True)

    def _activation(self, node: Any, settings: dict[str, Any]) -> None:
        kind = _ACTIVATIONS[node.op_type]
        if settings.get("approximate") == b"tanh":
            kind = Kind.GELU
        if len(node.input) > 1 and any(node.input[1:]):
            _refuse(f"{node.op_type} with a bias")
        self._values[node.output[0]] = Pending(kind, self._value(node.input[0]))
        self._settle_if_shared(node)

    def _multiply(self, node: Any, settings: dict[str, Any]) -> None:
        for this, other in (node.input, reversed(node.input)):
            if this in self._tensors:
                factor = self._small(this)
                if factor.size != 1:
                    _refuse("a product with a constant row")
                value = self._value(other)
                self._step(Kind.SCALE, (value,), node.output[0], value.width, number=float(factor.reshape(-1)[0]))
                return
        for this, other in (node.input, reversed(node.input)):
            waiting = self._values.get(this)
            if not isinstance(waiting, Pending):
                continue
            if waiting.kind == Kind.SIGMOID and self._values.get(other) == waiting.source:
                self._values[node.output[0]] = Pending(Kind.SILU, waiting.source)
                self._settle_if_shared(node)
            else:
                second = self._value(other)
                self._step(waiting.kind, (waiting.source, second), node.output[0], second.width)
            return
        first, second = self._value(node.input[0]), self._value(node.input[1])
        self._step(Kind.TIMES, (first, second), node.output[0], first.width)

    def _settle_if_shared(self, node: Any) -> None:
        if self._uses[node.output[0]] > 1:
            self._value(node.output[0])

    def _add(self, node: Any, settings: dict[str, Any]) -> None:
        for this, other in (node.input, reversed(node.input)):
            if this in self._tensors:
                row, value = self._array(this, np.float32).reshape(-1), self._value(other)
                if row.size != value.width:
                    _refuse("a sum with a constant that is no row")
                self._step(Kind.ADD_ROW, (value,), node.output[0], value.width, tensors=(row,))
                return
        first, second = self._value(node.input[0]), self._value(node.input[1])
        self._step(Kind.ADD, (first, second), node.output[0], first.width)

    # -- values and constants -----------------------------------------------------------------------------------------

    def _value(self, name: str) -> Value:
        found = self._values.get(name)
        if isinstance(found, Pending):
            self._step(found.kind, (found.source,), name, found.source.width)
            found = self._values[name]
        if found is None:
            _refuse(f"{name}, which is made in no way known here")
        assert isinstance(found, Value)
        return found

    def _new(self, width: int, one: bool = False) -> Value:
        self._program.widths.append(width)
        buffer = len(self._program.widths) - 1
        if one:
            self._program.singles.add(buffer)
        return Value(buffer, 0, width, one)

    def _step(
        self, kind: Kind, inputs: tuple[Value | None, ...], name: str, width: int, *, also: str = "", **more: Any
    ) -> None:
        values = [value for value in inputs if value]
        if any(value.width != width or value.means for value in values) and kind != Kind.LAST:
            _refuse(f"operands of different widths in {kind.name}")
        one = more.pop("one", False) or any(value.one for value in values)
        if kind != Kind.LAST and any(value.one != one for value in values):
            _refuse("the last position together with all")
        room = -(-width // PANEL) * PANEL if kind == Kind.PRODUCT else width
        made = self._new(room, one)
        out = Value(made.buffer, 0, width, one)
        total = self._new(width, one) if also else None
        self._append(Step(kind, inputs, (out, total), width, one=one, **more))
        self._values[name] = out
        if total:
            self._values[also] = total

    def _append(self, step: Step) -> None:
        self._program.steps.append(step)

    def _small(self, name: str) -> Array:
        tensor = self._tensors.get(name)
        if tensor is None:
            _refuse(f"{name}, which is no constant")
        if tensor.data_location == TensorProto.EXTERNAL:
            return self._array(name, None)
        array: Array = numpy_helper.to_array(tensor)
        return array

    def _array(self, name: str, wanted: type | None) -> Array:
        """A constant: inside the graph, or mapped from the file beside it."""
        tensor = self._tensors.get(name)
        if tensor is None:
            _refuse(f"{name}, which is no constant")
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        if wanted is not None and dtype != wanted:
            _refuse(f"{name} in {dtype}")
        if tensor.data_location != TensorProto.EXTERNAL:
            return np.ascontiguousarray(numpy_helper.to_array(tensor))
        place = {entry.key: entry.value for entry in tensor.external_data}
        if place.keys() - _EXTERNAL or Path(place["location"]).name != place["location"]:
            _refuse(f"{name} in a file that is not beside the graph")
        if place["location"] not in self._maps:
            self._maps[place["location"]] = np.memmap(self._folder / place["location"], np.uint8, "r")
        start = int(place.get("offset", 0))
        size = math.prod(tensor.dims) * dtype.itemsize
        data = self._maps[place["location"]][start : start + size]
        if len(data) != size:
            _refuse(f"{name}, which lies outside its file")
        return data.view(dtype).reshape(tuple(tensor.dims))


def _columns(value: Value, start: int, end: int) -> Value:
    return Value(value.buffer, value.offset + start, end - start, value.one)


def _check(node: Any, settings: dict[str, Any], known: dict[str, Any]) -> None:
    """Each attribute must be known, and have the value known; None: any."""
    for name, value in settings.items():
        if name in _IGNORED:
            continue
        if name not in known or (known[name] is not None and value != known[name]):
            _refuse(f"{node.op_type} with {name} {value}")


def _refuse(what: str) -> NoReturn:
    raise NotForKernels(f"the graph has {what}")
