"""Makes a fused decoder graph into a program for the playground's own kernels.

Each node becomes a step over buffers, or a part of one: an activation and the product behind it are one step, views
cost nothing, the mask's arithmetic is dropped because the kernels count positions themselves. A graph with anything
the kernels don't know, an attribute included, is refused with its name, and ONNX Runtime runs it. A graph may be
anybody's: what was made of it, ``checks`` looks at once more. The module reads graphs and says what is to be
done; it runs nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import TensorProto, helper

from playground.errors import reason_of
from playground.kernels.library import BLOCK, PANEL, Kind, mean_copies
from playground.messages import msg
from playground.runtimes.native.attention import angles, heads_of
from playground.runtimes.native.checks import check, recurrence_whose
from playground.runtimes.native.constants import Constants
from playground.runtimes.native.mixtures import OPERATOR, Mixtures, step_of
from playground.runtimes.native.program import (
    Capping,
    Convolution,
    NotForKernels,
    Pending,
    Program,
    Recurrence,
    Step,
    Value,
    known_only,
    refuse,
    whole,
)

MASK, POSITIONS, TOKENS = "attention_mask", "position_ids", "input_ids"

Array = NDArray[Any]


def read_program(path: Path) -> Program:
    """The program of the graph at ``path``, with its weights mapped.

    Raises:
        NotForKernels: It has something the kernels don't know, or that can't be true.
        OSError: A file can't be read.
    """
    try:
        program = _Reader(path).read()
    except NotForKernels:
        raise
    except (ValueError, ArithmeticError, LookupError, AttributeError, TypeError) as error:
        said = {"kind": type(error).__name__, "reason": reason_of(error)}
        raise NotForKernels(msg("the graph can't be read ({kind}: {reason})", **said)) from error
    check(program)
    return program


_ACTIVATIONS = {
    "Sigmoid": Kind.SIGMOID,
    "Gelu": Kind.GELU_ERF,
    "FastGelu": Kind.GELU,
    "Relu": Kind.RELU,
    "Softplus": Kind.SOFTPLUS,
}
MOST_COLUMNS = 1 << 20
"""Of rows that are put side by side: a graph may double them as often as it likes."""
_WHOLE_ROWS = frozenset(
    (
        *("MatMulNBits", "MatMul", "GroupQueryAttention", "LinearAttention", "CausalConvWithState", "QMoE"),
        *("GatherBlockQuantized", "Gather", "Constant"),
    )
)
"""Operators whose results are rows, whatever shape they are given."""
_SAME_IDS = frozenset(("Cast", "Squeeze", "Unsqueeze", "Reshape"))
_MASK_OPERATORS = frozenset(
    ("ReduceSum", "Sub", "Cast", "Shape", "Gather", "Squeeze", "Unsqueeze", "Reshape", "Concat")
)


def _width_of(value: Value | Pending | Capping) -> int:
    return value.width if isinstance(value, Value) else value.source.width


class _Reader:
    """One walk over a graph."""

    def __init__(self, path: Path) -> None:
        try:
            self._graph = onnx.load(str(path), load_external_data=False).graph
        except DecodeError as error:
            raise NotForKernels(msg("the file is no ONNX model")) from error
        self._constants = Constants(path.parent, self._graph)
        self._values: dict[str, Value | Pending | Capping] = {}
        self._positional = {MASK, POSITIONS}  # values made of the mask and of positions alone
        self._tokens = {TOKENS}  # the tokens, and the same with other axes
        self._counted = {POSITIONS: 0}  # the same of positions, with what was added to them
        self._program = Program()
        self._node_name = ""
        self._rounded: Value | None = None  # what the last QUANTISE left for products
        self._given = {each.name for each in self._graph.input}
        self._names = self._given | {each.name for each in self._graph.initializer}
        self._mixtures = Mixtures(
            self._constants,
            value=self._value,
            name=self._values.__setitem__,
            append=self._of_parts,
            quantise=self._by_rows,
        )
        self._has_experts = any(node.op_type == OPERATOR for node in self._graph.node)
        self._columns_first: set[str] = set()  # values whose tokens stand behind their columns, as convolutions have it
        self._pieces: dict[str, int] = {}  # numbers in a row of what was cut into shorter rows
        self._shorter: set[str] = set()  # values whose last axis is a part of a token's row, however they came to it
        self._uses = Counter(name for node in self._graph.node for name in node.input)

    def read(self) -> Program:
        self._check_inputs()
        for node in self._graph.node:
            self._node(node)
        if not (self._program.layers and self._program.tokens):
            refuse(msg("the graph has no attention, or no embedding"))
        logits = self._value("logits")
        if not logits.one:
            logits = self._only_last(logits)
        self._program.logits, self._program.vocab = logits, logits.width
        return self._program

    def _only_last(self, logits: Value) -> Value:
        """A graph that gives all positions' logits is asked for the last one's."""
        *_, rounding, product = [None, None, *self._program.steps]
        source = rounding.inputs[0] if rounding and rounding.kind == Kind.QUANTISE else None
        if not (rounding and product and source and product.kind == Kind.MUL_MAT and product.outputs[0] == logits):
            refuse(msg("the graph has logits that are not the last product's"))
        row, room = self._new(source.width, one=True), self._new(self._program.widths[logits.buffer], one=True)
        out = replace(room, width=logits.width)
        self._program.steps[-2:] = [
            Step(Kind.GET_ROWS_LAST, (source,), (row,), source.width, one=True),
            replace(rounding, inputs=(row,), one=True),
            replace(product, outputs=(out,), one=True),
        ]
        return out

    def _check_inputs(self) -> None:
        names = [each.name for each in self._graph.input if each.name not in self._constants]
        unknown = [name for name in names if name not in (TOKENS, MASK, POSITIONS) and not name.startswith("past")]
        if TOKENS not in names or unknown:
            if not unknown:
                refuse(msg("the graph has the inputs without {name}", name=TOKENS))
            refuse(msg("the graph has the inputs {names}", names=unknown))

    # -- nodes ------------------------------------------------------------------------------------------------------

    def _node(self, node: Any) -> None:
        if not (node.output and node.output[0]):
            refuse(msg("the graph has a {operator} whose result has no name", operator=node.op_type))
        for name in filter(None, node.output):
            if name in self._names:
                refuse(msg("the graph has two values that are called {name}", name=name))
            self._names.add(name)
        self._node_name = node.name
        if node.op_type == "Constant":
            self._constants.add(node)
            return
        given = [name for name in node.input if name and name not in self._constants]
        if given and self._is_of_ids(node, given):
            return
        self._follow_axes(node, given)
        self._follow_rows(node, given)
        handlers: Mapping[str, Callable[[Any, dict[str, Any]], None]] = {
            "GatherBlockQuantized": self._embed_rounded,
            "Gather": self._gather,
            **dict.fromkeys(("Unsqueeze", "Squeeze", "Reshape"), self._alias),
            "LinearAttention": self._recurrence,
            "Transpose": self._transpose,
            "Cast": self._cast,
            "SimplifiedLayerNormalization": self._norm,
            "SkipSimplifiedLayerNormalization": self._norm,
            "LayerNormalization": self._layer_norm,
            "SkipLayerNormalization": self._layer_norm,
            "RotaryEmbedding": self._rotate,
            "MatMulNBits": self._product,
            "GroupQueryAttention": self._attention,
            "Split": self._split,
            "CausalConvWithState": self._convolution,
            "AveragePool": self._means,
            "Concat": self._concat,
            "Add": self._add,
            "Mul": self._multiply,
            "Div": self._divide,
            "Tanh": self._tanh,
            "Pow": self._square,
            "Clip": self._clip,
            **dict.fromkeys(_ACTIVATIONS, self._activation),
        }
        if self._has_experts:
            handlers = {**handlers, **self._mixtures.handlers}
        elif node.op_type == "MatMul":
            refuse(msg("the graph has products whose weights are not rounded"))
        if node.op_type not in handlers:
            refuse(msg("the graph has the operator {operator}", operator=node.op_type))
        handlers[node.op_type](node, {each.name: helper.get_attribute_value(each) for each in node.attribute})

    def _is_of_ids(self, node: Any, given: list[str]) -> bool:
        """Whether it is a part of what is made of the mask, positions or tokens alone; then it is done with.

        Args:
            given: Names that it reads and that are no constants.
        """
        kind, made = node.op_type, node.output[0]
        if kind == "Gather" and node.input[1] in self._counted:
            return False  # a table's rows
        if kind == "Add" and given[0] in self._counted:
            self._shift(node, given[0])
        elif kind in _MASK_OPERATORS and all(name in self._positional for name in given):
            self._positional.update(node.output)
            if kind in _SAME_IDS and given[0] in self._counted:
                self._counted[made] = self._counted[given[0]]
        elif kind in _SAME_IDS and given[0] in self._tokens:
            self._tokens.add(made)
        elif kind == "Shape" and given[0] in self._tokens:
            self._positional.update(node.output)
        else:
            return False
        return True

    def _embed_rounded(self, node: Any, settings: dict[str, Any]) -> None:
        known_only(node, settings, {"bits": 8, "block_size": BLOCK, "gather_axis": 0, "quantize_axis": 1})
        if node.input[1] not in self._tokens:
            refuse(msg("the graph has a lookup of something other than tokens"))
        tensors = self._constants.table(node.input[0], *node.input[2:4])
        rows, width = tensors[0].shape
        self._program.tokens = min(rows, self._program.tokens or rows)
        self._step(Kind.GET_ROWS_Q8, (), node.output[0], width, tensors=tensors)

    def _gather(self, node: Any, settings: dict[str, Any]) -> None:
        if node.input[1] in self._counted and settings.get("axis", 0) == 0:
            self._embed_positions(node)
            return
        if node.input[1] in self._tokens and settings.get("axis", 0) == 0:
            table = self._constants.array(node.input[0], np.float32)
            if table.ndim != 2:
                refuse(msg("the graph has an embedding that is no table"))
            self._program.tokens = min(len(table), self._program.tokens or len(table))
            self._step(Kind.GET_ROWS_F32, (), node.output[0], table.shape[1], tensors=(table,))
            return
        source = self._value(node.input[0])
        if (
            settings.get("axis", 0) != 1
            or self._constants.array(node.input[1]).tolist() not in (-1, [-1])
            or source.one
        ):
            refuse(msg("the graph has a Gather other than of tokens and of the last position"))
        self._step(Kind.GET_ROWS_LAST, (source,), node.output[0], source.width, one=True)

    def _shift(self, node: Any, positions: str) -> None:
        """Some families leave the first rows of their table of positions to padding."""
        amount = next((self._constants.array(name) for name in node.input if name in self._constants), np.empty(0))
        if amount.size != 1 or amount.dtype.kind != "i":
            refuse(msg("the graph has positions to which something other than a whole number is added"))
        self._counted[node.output[0]] = self._counted[positions] + int(amount.reshape(-1)[0])
        self._positional.add(node.output[0])

    def _embed_positions(self, node: Any) -> None:
        table, first = self._constants.array(node.input[0], np.float32), self._counted[node.input[1]]
        if table.ndim != 2 or not 0 <= first < len(table):
            refuse(msg("the graph has an embedding that is no table"))
        table = table[first:]
        self._program.longest = min(len(table), self._program.longest or len(table))
        self._step(Kind.GET_ROWS_POS, (), node.output[0], table.shape[1], tensors=(table,))

    def _alias(self, node: Any, settings: dict[str, Any]) -> None:
        """Axes of size one come and go; rows are rows. Heads side by side in a row, or one behind the other, are the
        same numbers in the same order: only norms, which look at as many numbers as they have weights, and attention
        see them.
        """
        value = self._values[node.output[0]] = self._value(node.input[0])
        if node.op_type == "Reshape" and len(node.input) > 1 and node.input[1] in self._constants:
            shape = self._constants.array(node.input[1]).reshape(-1).tolist()
            if len(shape) == 2 and shape[0] == -1 and 0 < shape[1] < value.width and value.width % shape[1] == 0:
                self._pieces[node.output[0]] = shape[1]

    def _follow_axes(self, node: Any, given: list[str]) -> None:
        """Around convolutions tokens stand behind columns. Here rows are tokens all the while, so that whatever looks
        at axes has to know.

        Args:
            given: Names that it reads and that are no constants.
        """
        turned = [name in self._columns_first for name in given]
        if node.op_type == "Transpose" or not (any(turned) or node.op_type == "CausalConvWithState"):
            return
        alone = node.op_type == "CausalConvWithState" and turned[:1] == [True]
        if not (alone or (all(turned) and node.op_type in ("Mul", "Split"))):
            refuse(msg("the graph has {operator} of tokens and columns that changed places", operator=node.op_type))
        self._columns_first.update(node.output)

    def _follow_rows(self, node: Any, given: list[str]) -> None:
        """Heads lie side by side in a row here, whatever axes the graph gives them, and so do not those operators see
        them that go along the last axis: what splits or joins it has to know.

        Args:
            given: Names that it reads and that are no constants.
        """
        kind, is_shorter = node.op_type, any(name in self._shorter for name in given)
        if kind in _WHOLE_ROWS:
            return
        value = self._values.get(given[0]) if given else None
        if kind == "Reshape" and len(node.input) > 1 and node.input[1] in self._constants:
            shape = self._constants.array(node.input[1]).reshape(-1).tolist()
            is_row = isinstance(value, Value | Pending | Capping) and shape[-1:] == [_width_of(value)]
            is_shorter = not is_row and shape != [0, 0, -1]
        elif kind == "Unsqueeze" and len(node.input) > 1 and node.input[1] in self._constants:
            is_shorter |= any(axis not in (0, 1) for axis in self._constants.array(node.input[1]).reshape(-1).tolist())
        if is_shorter:
            self._shorter.update(node.output)

    def _transpose(self, node: Any, settings: dict[str, Any]) -> None:
        """Of a constant: a small embedding that is stored as the head has it. Else of tokens and columns alone."""
        if node.input[0] not in self._constants:
            if list(settings.get("perm", ())) != [0, 2, 1]:
                refuse(msg("the graph has a Transpose of what was computed"))
            if node.input[0] not in self._columns_first:
                self._columns_first.add(node.output[0])
            self._alias(node, settings)
            return
        table = self._constants.array(node.input[0])
        if table.ndim != 2 or list(settings.get("perm", (1, 0))) != [1, 0]:
            refuse(msg("the graph has a Transpose of something other than a table"))
        self._constants.keep(node.output[0], np.ascontiguousarray(table.T))

    def _cast(self, node: Any, settings: dict[str, Any]) -> None:
        if settings["to"] != TensorProto.FLOAT:
            refuse(msg("the graph has a Cast to something other than fp32"))
        self._values[node.output[0]] = self._value(node.input[0])

    def _norm(self, node: Any, settings: dict[str, Any]) -> None:
        known_only(node, settings, {"epsilon": None, "axis": -1, "stash_type": 1})
        skips = node.op_type.startswith("Skip")
        source = self._value(node.input[0])
        skip = self._value(node.input[1]) if skips else None
        if len(node.input) > 2 + skips and any(node.input[2 + skips :]):
            refuse(msg("the graph has a norm with a bias"))
        weight = self._constants.array(node.input[1 + skips], np.float32).reshape(-1)
        if source.width % whole(
            lambda found: msg("the graph has a norm of {value}", value=found), int(weight.size)
        ) or (skip and skip.width != source.width):
            refuse(msg("the graph has a norm over something other than heads or rows"))
        normed, *unknown, total = [*node.output, "", "", ""][:4]
        if any(unknown):
            refuse(msg("the graph has a norm that gives mean or deviation"))
        self._step(
            Kind.RMS_NORM,
            (source, skip),
            normed,
            source.width,
            also=total,
            extra=weight.size,
            number=float(settings.get("epsilon", 1e-5)),
            tensors=(weight,),
        )

    def _layer_norm(self, node: Any, settings: dict[str, Any]) -> None:
        known_only(node, settings, {"epsilon": None, "axis": -1, "stash_type": 1})
        skips = node.op_type.startswith("Skip")
        source = self._value(node.input[0])
        skip = self._value(node.input[1]) if skips else None
        names = [*node.input[1 + skips :], ""]
        if any(names[2:]):
            refuse(msg("the graph has a norm with a bias"))  # of what is normalised, beside that of the result
        weight, bias = (self._constants.array(each, np.float32).reshape(-1) if each else None for each in names[:2])
        if any(each is not None and each.size != source.width for each in (weight, bias)) or weight is None:
            refuse(msg("the graph has a norm over something other than heads or rows"))
        normed, *unknown, total = [*node.output, "", "", ""][:4]
        if any(unknown):
            refuse(msg("the graph has a norm that gives mean or deviation"))
        epsilon = float(settings.get("epsilon", 1e-12 if skips else 1e-5))
        more: dict[str, Any] = {"also": total, "number": epsilon, "tensors": (weight, bias)}
        self._step(Kind.LAYER_NORM, (source, skip), normed, source.width, **more)

    def _rotate(self, node: Any, settings: dict[str, Any]) -> None:
        """Heads turned outside of attention; a head is as wide as its angles."""
        known = {"interleaved": 0, "is_packed_batching": 0, "num_heads": 0, "rotary_embedding_dim": 0, "scale": 1.0}
        known_only(node, settings, known)
        source = self._value(node.input[0])
        tables = tuple(self._constants.array(name, np.float32) for name in node.input[2:4])
        if node.input[1] != POSITIONS or len(tables) != 2 or any(each.ndim != 2 for each in tables):
            refuse(msg("the graph has a RotaryEmbedding of something other than positions"))
        size = 2 * tables[0].shape[1]
        self._program.longest = min(len(tables[0]), self._program.longest or len(tables[0]))
        self._step(Kind.ROTATE, (source,), node.output[0], source.width, extra=size, tensors=tables)

    def _product(self, node: Any, settings: dict[str, Any]) -> None:
        width, outputs = (
            whole(lambda found: msg("the graph has a product of columns, {value}", value=found), settings["K"]),
            whole(lambda found: msg("the graph has a product of rows, {value}", value=found), settings["N"]),
        )
        bits = settings.get("bits", 4)
        known_only(node, settings, {"bits": None, "K": None, "N": None, "block_size": BLOCK, "accuracy_level": None})
        source = self._value(node.input[0])
        if bits not in (4, 8):
            refuse(msg("the graph has weights of {bits} bits", bits=bits))
        if len(node.input) > 4 and any(node.input[4:]):
            refuse(msg("the graph has a product with a group index or a bias"))
        blocks = source.width // BLOCK
        means = width - source.width if source.means else 0
        if source.means and (bits != 4 or source.width % BLOCK):
            refuse(msg("the graph has means beside activations in a product of another kind"))
        if source.width + means != width or (source.means and means not in (blocks, blocks * mean_copies(blocks))):
            refuse(msg("the graph has a product of other columns than there are"))
        weights = self._constants.matrix(list(node.input[1:4]), bits, outputs, width, means)
        source = replace(source, means=False)  # beside it or not, they are rounded alike
        if self._rounded != source:
            self._append(Step(Kind.QUANTISE, (source,), (), source.width, extra=weights.blocks, one=source.one))
            self._rounded = source
        self._step(Kind.MUL_MAT, (), node.output[0], outputs, one=source.one, weights=weights)

    def _attention(self, node: Any, settings: dict[str, Any]) -> None:
        names = [*node.input, *[""] * (12 - len(node.input))]
        sinks = (self._constants.array(names[11], np.float32).reshape(-1),) if names[11] in self._constants else ()
        beside = (*names[5:7], *names[9 : 12 - len(sinks)], *names[12:])
        if any(name and name not in self._positional for name in beside):
            refuse(msg("the graph has attention with a mask, a bias or sinks of its own"))
        first = self._value(names[0])
        shape = heads_of(node, settings, first.width, packed=not names[1])
        wide, narrow = shape.heads * shape.size, shape.kv_heads * shape.size
        if names[1]:
            parts = (first, self._value(names[1]), self._value(names[2]))
        else:
            spans = ((0, wide), (wide, wide + narrow), (wide + narrow, first.width))
            parts = tuple(first.columns(start, end) for start, end in spans)  # type: ignore[assignment]
        if any(each.size != shape.heads for each in sinks):
            refuse(msg("the graph has attention with a mask, a bias or sinks of its own"))
        widths = [part.width for part in parts]
        if widths != [wide, narrow, narrow] or any(part.one or part.means for part in (first, *parts)):
            refuse(msg("the graph has queries, keys and values of other widths than its heads"))
        tables, turned = angles(settings, shape.size, lambda place: self._constants.array(names[place], np.float32))
        if turned:
            self._program.longest = min(len(tables[0]), self._program.longest or len(tables[0]))
        which: dict[str, Any] = {"heads": shape, "layer": len(self._program.layers)}
        self._program.layers.append(shape)
        queries, out = self._new(wide), self._new(wide)
        interleaved = int(bool(settings.get("rotary_interleaved", 0)))
        self._append(Step(Kind.ROPE, parts, (queries,), turned, extra=interleaved, tensors=tables, **which))
        self._append(Step(Kind.FLASH_ATTN, (queries,), (out,), wide, number=shape.softcap, tensors=sinks, **which))
        self._append(Step(Kind.ATTN_REDUCE, (queries,), (out,), wide, tensors=sinks, **which))
        self._values[node.output[0]] = out

    def _split(self, node: Any, settings: dict[str, Any]) -> None:
        source = self._value(node.input[0])
        axes = (1, -2) if node.input[0] in self._columns_first else (-1, 2)
        if settings.get("axis", 0) not in axes or source.means or node.input[0] in self._shorter:
            refuse(msg("the graph has a Split of something other than columns"))
        if len(node.input) > 1 and node.input[1]:
            sizes = [int(size) for size in self._constants.array(node.input[1])]
        else:
            sizes = [source.width // len(node.output)] * len(node.output)
        if (
            len(sizes) != len(node.output)
            or sum(whole(lambda found: msg("the graph has a Split of {value}", value=found), size) for size in sizes)
            != source.width
        ):
            refuse(msg("the graph has a Split of {columns} columns that gives others", columns=source.width))
        start = 0
        for name, size in zip(node.output, sizes, strict=True):
            self._values[name] = source.columns(start, start + size)
            start += size

    def _convolution(self, node: Any, settings: dict[str, Any]) -> None:
        """Of each column over its last tokens. What the operator keeps of earlier ones is here the cache's."""
        known_only(node, settings, {"ndim": 1, "activation": None, "state_window": 0})
        names: list[str] = [*node.input, "", "", ""]
        source, weights = self._value(names[0]), self._constants.array(names[1], np.float32)
        biases = self._constants.array(names[2], np.float32) if names[2] else None
        activation = settings.get("activation", b"none")
        good = weights.ndim == 3 and weights.shape[:2] == (source.width, 1) and weights.shape[2] > 0
        good &= biases is None or biases.shape == (source.width,)
        good &= names[3] in self._given and names[3].startswith("past") and not any(names[4:]) and not source.one
        if not good or activation not in (b"none", b"silu", b"swish"):
            refuse(msg("the graph has a convolution of something other than each column's last tokens"))
        table = np.ascontiguousarray(weights[:, 0].T)
        which: dict[str, Any] = {"extra": len(table), "layer": len(self._program.convolutions)}
        self._program.convolutions.append(Convolution(source.width, len(table)))
        made = node.output[0]
        self._step(Kind.CAUSAL_CONV, (source,), made, source.width, tensors=(table, biases), **which)
        if activation != b"none":
            self._values[made] = Pending(Kind.SILU, self._value(made))
            self._settle_if_shared(node)

    def _recurrence(self, node: Any, settings: dict[str, Any]) -> None:
        """Linear attention with a decay. The state that the operator is handed and hands on is here the cache's."""
        known_only(node, settings, dict.fromkeys(("q_num_heads", "kv_num_heads", "update_rule", "scale")))
        names: list[str] = [*node.input, "", "", ""]
        query, key, value = (self._value(name) for name in names[:3])
        decay, beta = self._value(names[4]), self._value(names[5]) if names[5] else None

        said = partial(recurrence_whose, "heads")
        groups, heads = (whole(said, settings.get(name)) for name in ("q_num_heads", "kv_num_heads"))
        rule, scale = settings.get("update_rule"), settings.get("scale")
        scale = scale if isinstance(scale, float) else 0.0
        size, width, decays = query.width // groups, value.width // heads, decay.width // heads
        good = rule in (b"gated", b"gated_delta") and (rule == b"gated_delta") == (beta is not None)
        good &= scale > 0 and heads % groups == 0
        good &= query.width == key.width == groups * size and value.width == heads * width
        good &= decay.width == heads * decays and decays in (1, size) and (beta is None or beta.width == heads)
        good &= names[3] in self._given and names[3].startswith("past") and not any(names[6:])
        beside = (value, decay, beta) if beta else (value, decay)
        if not good or any(each.one for each in (query, key, *beside)):
            refuse(msg("the graph has a recurrence of something other than heads of queries, keys and values"))
        state = Recurrence(heads, groups, size, width, decays, beta is not None, scale)
        which: dict[str, Any] = {"extra": size, "number": float(state.corrects)}
        which["layer"] = len(self._program.recurrences)
        self._program.recurrences.append(state)
        whole_row = value.width + state.beside
        parts: dict[str, Any] = {"extra": value.width, "layer": decay.width, "width": whole_row}
        (joined,) = self._of_parts(Kind.CONCAT, beside, (whole_row,), **parts)
        inputs = (query, key, joined)
        (made,) = self._of_parts(Kind.LINEAR_ATTN, inputs, (value.width,), width=value.width, **which)
        self._values[node.output[0]] = made

    def _means(self, node: Any, settings: dict[str, Any]) -> None:
        """What ``export/quantization`` writes for block sums: ``AveragePool`` over 32, ``Concat`` behind its source."""
        blocks = {"kernel_shape": [BLOCK], "strides": [BLOCK]}
        known_only(node, settings, blocks)
        source = self._value(node.input[0])
        if settings != blocks or source.means or source.width % BLOCK:
            refuse(msg("the graph has means of something other than blocks of activations"))
        self._values[node.output[0]] = Value(source.buffer, source.offset, 0, source.one, means=True)

    def _concat(self, node: Any, settings: dict[str, Any]) -> None:
        """Means behind their activations, or rows side by side."""
        parts = [self._value(name) for name in node.input]
        if any(part.means for part in parts[1:]):
            self._with_means(node, settings)
            return
        width = sum(part.width for part in parts)
        good = settings.get("axis") in (-1, 2) and len(parts) in (2, 3) and width <= MOST_COLUMNS
        good &= not any(part.one or part.means for part in parts)
        if not good or not self._shorter.isdisjoint(node.input):
            refuse(msg("the graph has a Concat of something other than two or three rows"))
        which: dict[str, Any] = {"width": width, "extra": parts[0].width, "layer": parts[1].width}
        (made,) = self._of_parts(Kind.CONCAT, tuple(parts), (width,), **which)
        self._values[node.output[0]] = made

    def _with_means(self, node: Any, settings: dict[str, Any]) -> None:
        source = self._value(node.input[0])
        means = self._value(node.input[1])
        if (
            settings.get("axis") != -1
            or set(node.input[1:]) != {node.input[1]}
            or source.means
            or means != replace(source, width=0, means=True)
            or len(node.input) - 1 not in (1, mean_copies(source.width // BLOCK))
        ):
            refuse(msg("the graph has a Concat of something other than activations and their means"))
        self._values[node.output[0]] = replace(source, means=True)

    def _activation(self, node: Any, settings: dict[str, Any]) -> None:
        kind = _ACTIVATIONS[node.op_type]
        if settings.get("approximate") == b"tanh":
            kind = Kind.GELU
        if len(node.input) > 1 and any(node.input[1:]):
            refuse(msg("the graph has {operator} with a bias", operator=node.op_type))
        self._values[node.output[0]] = Pending(kind, self._value(node.input[0]))
        self._settle_if_shared(node)

    def _multiply(self, node: Any, settings: dict[str, Any]) -> None:
        for this, other in (node.input, reversed(node.input)):
            if this in self._constants:
                factor = self._constants.array(this)
                if factor.size != 1:
                    self._multiply_row(node, other, factor)
                    return
                number, capping = float(factor.reshape(-1)[0]), self._values.get(other)
                if isinstance(capping, Capping) and capping.bent and capping.limit == number:
                    source = capping.source
                    self._step(Kind.SOFTCAP, (source,), node.output[0], source.width, number=number)
                    return
                value = self._value(other)
                self._step(Kind.SCALE, (value,), node.output[0], value.width, number=number)
                return
        for this, other in (node.input, reversed(node.input)):
            waiting = self._values.get(this)
            if not isinstance(waiting, Pending) or waiting.source.width == 1:
                continue
            if waiting.kind == Kind.SIGMOID and self._values.get(other) == waiting.source:
                self._values[node.output[0]] = Pending(Kind.SILU, waiting.source)
                self._settle_if_shared(node)
            else:
                second = self._value(other)
                self._step(waiting.kind, (waiting.source, second), node.output[0], second.width)
            return
        first, second = self._value(node.input[0]), self._value(node.input[1])
        if (first.width == 1) != (second.width == 1):
            row, column = (second, first) if first.width == 1 else (first, second)
            self._mixtures.by_column(Kind.MUL_COL, node, row, column)
            return
        if first.width != second.width:
            names = node.input if first.width > second.width else list(reversed(node.input))
            self._multiply_heads(node, *names)
            return
        self._step(Kind.MUL, (first, second), node.output[0], first.width)

    def _multiply_row(self, node: Any, name: str, row: Array) -> None:
        """By a constant for each column."""
        value = self._value(name)
        if row.shape[-1:] != (value.width,) or row.size != value.width or self._is_cut(name):
            refuse(msg("the graph has a product with a constant row"))
        table = np.ascontiguousarray(row.reshape(-1))
        if table.dtype != np.float32:
            refuse(msg("the graph has a product with a constant row"))
        self._step(Kind.MUL_ROW, (value,), node.output[0], value.width, tensors=(table,))

    def _multiply_heads(self, node: Any, name: str, by: str) -> None:
        """Heads, each cut from its row, by one number for each."""
        value, numbers = self._value(name), self._value(by)
        size = self._pieces.get(name, 0)
        if not size or self._pieces.get(by) != 1 or numbers.width * size != value.width:
            refuse(msg("the graph has operands of different widths in {kind}", kind=Kind.MUL.name))
        (made,) = self._of_parts(Kind.MUL_HEADS, (value, numbers), (value.width,), width=value.width, extra=size)
        self._values[node.output[0]] = made
        self._pieces[node.output[0]] = size

    def _is_cut(self, name: str) -> bool:
        """Whether columns are not the last axis there."""
        return name in self._columns_first or name in self._pieces

    def _divide(self, node: Any, settings: dict[str, Any]) -> None:
        """By a limit, of what is capped at it; or by a number of each row's own."""
        if node.input[1] not in self._constants:
            self._mixtures.by_column(Kind.DIV_COL, node, self._value(node.input[0]), self._value(node.input[1]))
            return
        limit = self._constants.array(node.input[1], np.float32)
        if limit.size != 1:
            refuse(msg("the graph has a Div by a constant row"))
        self._values[node.output[0]] = Capping(self._value(node.input[0]), float(limit.reshape(-1)[0]))

    def _tanh(self, node: Any, settings: dict[str, Any]) -> None:
        capping = self._values.get(node.input[0])
        if not isinstance(capping, Capping) or capping.bent:
            refuse(msg("the graph has a Tanh of something other than what is capped"))
        self._values[node.output[0]] = replace(capping, bent=True)

    def _square(self, node: Any, settings: dict[str, Any]) -> None:
        """What a rectifier left, times itself (Arcee): the only Pow there is."""
        if self._constants.array(node.input[1]).reshape(-1).tolist() != [2]:
            refuse(msg("the graph has a Pow other than a square"))
        value = self._value(node.input[0])
        self._step(Kind.MUL, (value, value), node.output[0], value.width)

    def _clip(self, node: Any, settings: dict[str, Any]) -> None:
        ends = [
            self._constants.array(name, np.float32).reshape(-1) if name in self._constants else np.empty(0, np.float32)
            for name in (*node.input[1:3], "", "")[:2]
        ]
        if [end.size for end in ends] == [1, 0]:
            self._mixtures.floor(node, float(ends[0][0]))
            return
        if [end.size for end in ends] == [1, 1] and ends[1][0] == np.inf and abs(ends[0][0]) <= 1:
            self._at_least(node, ends[0])
            return
        if [end.size for end in ends] != [1, 1] or not 0 < (limit := float(ends[1][0])) == -float(ends[0][0]):
            refuse(msg("the graph has a Clip of something other than a number and its negative"))
        value = self._value(node.input[0])
        self._step(Kind.CLAMP, (value,), node.output[0], value.width, number=limit)

    def _at_least(self, node: Any, least: Array) -> None:
        """What is below a number of at most one becomes it (Nemotron H's steps of time): a rectifier between two sums,
        which is right to a unit in the last place of the larger of both.
        """
        value, made = self._value(node.input[0]), node.output[0]
        row = np.full(value.width, least[0], np.float32)
        self._step(Kind.ADD_ROW, (value,), made, value.width, tensors=(-row,))
        self._step(Kind.RELU, (self._value(made),), made, value.width)
        self._step(Kind.ADD_ROW, (self._value(made),), made, value.width, tensors=(row,))

    def _settle_if_shared(self, node: Any) -> None:
        if self._uses[node.output[0]] > 1:
            self._value(node.output[0])

    def _add(self, node: Any, settings: dict[str, Any]) -> None:
        for this, other in (node.input, reversed(node.input)):
            if this in self._constants:
                row, value = self._constants.array(this, np.float32).reshape(-1), self._value(other)
                if row.size != value.width:
                    refuse(msg("the graph has a sum with a constant that is no row"))
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
        elif isinstance(found, Capping) and not found.bent and found.limit:  # no tanh is taken of it
            self._step(Kind.SCALE, (found.source,), name, found.source.width, number=1.0 / found.limit)
            found = self._values[name]
        if found is None or isinstance(found, Capping):
            refuse(msg("the graph has {name}, which is made in no way known here", name=name))
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
        if any(value.width != width or value.means for value in values) and kind != Kind.GET_ROWS_LAST:
            refuse(msg("the graph has operands of different widths in {kind}", kind=kind.name))
        one = more.pop("one", False) or any(value.one for value in values)
        if kind != Kind.GET_ROWS_LAST and any(value.one != one for value in values):
            refuse(msg("the graph has the last position together with all"))
        room = -(-width // PANEL) * PANEL if kind == Kind.MUL_MAT else width
        made = self._new(room, one)
        out = Value(made.buffer, 0, width, one)
        total = self._new(width, one) if also else None
        self._append(Step(kind, inputs, (out, total), width, one=one, **more))
        self._values[name] = out
        if total:
            self._values[also] = total

    def _of_parts(
        self, kind: Kind, inputs: tuple[Value, ...], widths: tuple[int, ...], *, width: int, **more: Any
    ) -> tuple[Value, ...]:
        """A step of a mixture of experts; its results."""
        outputs = tuple(self._new(each, inputs[0].one) for each in widths)
        self._append(step_of(kind, inputs, outputs, width, **more))
        return outputs

    def _by_rows(self, source: Value) -> None:
        """Rounds each row by itself, for products with experts."""
        blocks = -(-source.width // BLOCK)
        self._append(Step(Kind.QUANTISE_ROWS, (source,), (), source.width, extra=blocks, one=source.one))
        self._rounded = None

    def _append(self, step: Step) -> None:
        step.node = self._node_name
        self._program.steps.append(step)
