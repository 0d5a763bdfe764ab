"""A mixture of experts as a graph has it: which experts each token goes to, and ``QMoE``, made into steps.

Part of ``lowering``. What chooses experts differs from family to family, so each of its operators is a step of its own,
over rows of a few numbers; places of experts are numbers like others. The operator's attributes are those of
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from playground.kernels.library import BLOCK, PANEL, Kind, Weights
from playground.messages import msg
from playground.runtimes.native.constants import Constants
from playground.runtimes.native.program import Step, Value, known_only, refuse, whole

OPERATOR = "QMoE"
NEVER = -1e29
"""What an expert that is not chosen has at most, where weights are given as logarithms."""
SMALL = 1e-9
"""What weights of experts are bounded by before a quotient or a logarithm."""
MOST_EXPERTS = 1024
"""Outputs of a product that is not rounded."""

_UNGATED = {"relu": Kind.RELU, "gelu": Kind.GELU_ERF, "silu": Kind.SILU}
_KNOWN = {
    "activation_type": None,
    "activation_alpha": None,
    "activation_beta": None,
    "swiglu_limit": None,
    "swiglu_fusion": None,
    "expert_weight_bits": None,
    "k": None,
    "normalize_routing_weights": None,
    "block_size": BLOCK,
    "weights_prepacked": 0,
    "accuracy_level": None,
    "use_sparse_mixer": 0,
}

Settings = dict[str, Any]


class Append(Protocol):
    """Adds a step; its results have the widths given."""

    def __call__(
        self, kind: Kind, inputs: tuple[Value, ...], widths: tuple[int, ...], *, width: int, **more: Any
    ) -> tuple[Value, ...]: ...


class Mixtures:
    """What a graph says of its mixtures, node by node.

    Args:
        constants: The graph's.
        value: Gives what a name stands for.
        name: Takes what a name stands for from now on.
        append: Adds a step.
        quantise: Rounds each row by itself, for the products behind it.
    """

    def __init__(
        self,
        constants: Constants,
        *,
        value: Callable[[str], Value],
        name: Callable[[str, Value], None],
        append: Append,
        quantise: Callable[[Value], None],
    ) -> None:
        self._constants, self._value, self._name = constants, value, name
        self._append, self._quantise = append, quantise
        self._filled: dict[str, float] = {}  # as many of one number as are wanted
        self._floored: dict[str, Value] = {}  # nothing below a small number, for the logarithm
        self._logarithms: dict[str, Value] = {}
        self._routed: dict[str, tuple[Value, Value]] = {}  # places of experts, and their weights
        self.handlers: dict[str, Callable[[Any, Settings], None]] = {
            "MatMul": self._product,
            "Softmax": self._softmax,
            "TopK": self._largest,
            "GatherElements": self._columns,
            "ReduceSum": self._sum,
            "Expand": self._fill,
            "Log": self._logarithm,
            "ScatterElements": self._route,
            OPERATOR: self._mix,
        }

    # -- which experts -------------------------------------------------------------------------------------------------

    def _product(self, node: Any, settings: Settings) -> None:
        source, weights = self._value(node.input[0]), self._constants.array(node.input[1], np.float32)
        if weights.ndim != 2 or len(weights) != source.width or weights.shape[1] > MOST_EXPERTS or source.means:
            refuse(msg("the graph has products whose weights are not rounded"))
        outputs = int(weights.shape[1])
        self._row(Kind.MUL_MAT_F32, (source,), node, outputs, extra=source.width, tensors=(weights,))

    def _softmax(self, node: Any, settings: Settings) -> None:
        source = self._value(node.input[0])
        known_only(node, settings, {"axis": None})
        if settings.get("axis", -1) not in (-1, 1):  # rows of tokens have two axes where experts are chosen
            refuse(msg("the graph has a Softmax of something other than rows"))
        self._row(Kind.SOFT_MAX, (source,), node, source.width)

    def _largest(self, node: Any, settings: Settings) -> None:
        known_only(node, settings, {"axis": -1, "largest": 1, "sorted": None})
        source, counted = self._value(node.input[0]), self._constants.array(node.input[1], np.int64)
        count = whole(
            lambda found: msg("the graph has a TopK of {value}", value=found),
            counted.reshape(-1).tolist()[0] if counted.size == 1 else 0,
        )
        found = self._append(Kind.TOP_K, (source,), (count, count), width=source.width, extra=count)
        for name, value in zip(node.output, found, strict=False):
            if name:
                self._name(name, value)

    def _columns(self, node: Any, settings: Settings) -> None:
        known_only(node, settings, {"axis": None})
        source, places = self._value(node.input[0]), self._value(node.input[1])
        if settings.get("axis", 0) not in (-1, 1):
            refuse(msg("the graph has a GatherElements of something other than columns"))
        self._row(Kind.GET_COLS, (source, places), node, places.width, extra=source.width)

    def _sum(self, node: Any, settings: Settings) -> None:
        known_only(node, settings, {"keepdims": 1, "noop_with_empty_axes": 0})
        axes = self._constants.array(node.input[1], np.int64).tolist() if len(node.input) > 1 else []
        if axes != [-1]:
            refuse(msg("the graph has a ReduceSum of something other than rows"))
        source = self._value(node.input[0])
        (found,) = self._append(Kind.SUM_ROWS, (source,), (1,), width=source.width, extra=1)
        self._name(node.output[0], found)

    def by_column(self, kind: Kind, node: Any, source: Value, column: Value) -> None:
        """Each row of ``source`` times, or divided by, the one number that ``column`` has for it."""
        if column.width != 1:
            refuse(msg("the graph has operands of different widths in {kind}", kind=kind.name))
        self._row(kind, (source, column), node, source.width, extra=1)

    def _fill(self, node: Any, settings: Settings) -> None:
        number = self._constants.array(node.input[0], np.float32)
        if number.size != 1:
            refuse(msg("the graph has an Expand of something other than a number"))
        self._filled[node.output[0]] = float(number.reshape(-1)[0])

    def floor(self, node: Any, least: float) -> None:
        """What is below ``least`` is ``least``: so small that it keeps weights of experts from nothing but zero.

        It is left out. Where zero comes after all, a quotient is no number, which ends the run with an error.
        """
        if not 0 < least < SMALL:
            refuse(msg("the graph has a Clip of something other than a number and its negative"))
        self._floored[node.output[0]] = self._value(node.input[0])
        self._name(node.output[0], self._value(node.input[0]))

    def _logarithm(self, node: Any, settings: Settings) -> None:
        if node.input[0] not in self._floored:
            refuse(msg("the graph has the operator {operator}", operator=node.op_type))
        self._logarithms[node.output[0]] = self._floored[node.input[0]]

    def _route(self, node: Any, settings: Settings) -> None:
        known_only(node, settings, {"axis": None, "reduction": b"none"})
        weights = self._logarithms.get(node.input[2])
        if self._filled.get(node.input[0], 0.0) > NEVER or weights is None or settings.get("axis", 0) not in (-1, 1):
            refuse(msg("the graph has a ScatterElements of something other than weights of experts"))
        self._routed[node.output[0]] = self._value(node.input[1]), weights

    # -- what they compute ---------------------------------------------------------------------------------------------

    def _mix(self, node: Any, settings: Settings) -> None:
        known_only(node, settings, _KNOWN)
        names = [*node.input, *[""] * (13 - len(node.input))]
        if any(names[8:11]) or any(names[13:]):
            refuse(msg("the graph has experts with a third product"))
        source = self._value(names[0])
        count = whole(lambda found: msg("the graph has {value} experts for each token", value=found), settings["k"])
        bits = settings["expert_weight_bits"]
        first = self._matrices((names[2], names[3], names[11]), bits, source.width)
        kind = settings.get("activation_type", b"relu")
        gated = kind == b"swiglu"
        inner, odd = divmod(first[1], 2 if gated else 1)
        second = self._matrices((names[5], names[6], names[12]), bits, inner)
        experts = first[0].outputs // first[1]
        if odd or inner % BLOCK or second[1] != source.width or second[0].outputs // second[1] != experts:
            refuse(msg("the graph has experts whose products don't fit together"))
        places, weights = self._chosen(names[1], settings, count, experts)

        self._quantise(source)
        hidden = self._products(first, places, count, 1, names[4])
        wide = inner * count
        if gated:
            if settings.get("swiglu_fusion", 0) != 1:
                refuse(msg("the graph has experts whose gates do not stand by turns"))
            told = [float(settings.get(f"activation_{each}", usual)) for each, usual in (("alpha", 1.0), ("beta", 0.0))]
            told.append(float(settings.get("swiglu_limit", math.inf)))
            table = np.array(told, np.float32)
            (hidden,) = self._append(Kind.SWIGLU, (hidden,), (wide,), width=wide, extra=1, tensors=(table,))
        elif kind != b"identity":
            act = _UNGATED.get(kind.decode(errors="replace"))
            if act is None:
                refuse(msg("the graph has experts with the activation {name}", name=kind.decode(errors="replace")))
            (hidden,) = self._append(act, (hidden,), (wide,), width=wide)
        self._quantise(hidden)
        made = self._products(second, places, count, count, names[7])
        self._row(Kind.SUM_ID, (made, weights), node, source.width, extra=count)

    def _chosen(self, name: str, settings: Settings, count: int, experts: int) -> tuple[Value, Value]:
        """Places of the experts and their weights, which add up to one."""
        if name in self._routed:
            places, weights = self._routed[name]
            (total,) = self._append(Kind.SUM_ROWS, (weights,), (1,), width=weights.width, extra=1)
            (weights,) = self._append(Kind.DIV_COL, (weights, total), (weights.width,), width=weights.width, extra=1)
        else:
            scores = self._value(name)
            if scores.width != experts or not settings.get("normalize_routing_weights", 0):
                refuse(msg("the graph has experts whose weights are not those of the chosen ones alone"))
            largest = self._append(Kind.TOP_K, (scores,), (count, count), width=experts, extra=count)
            places = largest[1]
            (weights,) = self._append(Kind.SOFT_MAX, (largest[0],), (count,), width=count, extra=1)
        if places.width != count or weights.width != count:
            refuse(msg("the graph has {value} experts for each token", value=str(places.width)))
        return places, weights

    def _matrices(self, names: tuple[str, str, str], bits: Any, width: int) -> tuple[Weights, int]:
        """All experts' matrices as one, and the rows of each."""
        values, scales = self._constants.array(names[0], np.uint8), self._constants.array(names[1], np.float32)
        zeros = self._constants.array(names[2], np.uint8) if names[2] else None
        if bits not in (4, 8) or width % BLOCK or scales.ndim != 3 or values.ndim != 3:
            refuse(msg("the graph has experts of another shape than the product's"))
        experts, rows, blocks = scales.shape
        packed = BLOCK * bits // 8
        fits = blocks == width // BLOCK and values.shape == (experts, rows, blocks * packed) and not rows % PANEL
        if zeros is not None:
            fits &= zeros.size == experts * rows * (blocks if bits == 8 else -(-blocks // 2))
        if not fits or not experts:
            refuse(msg("the graph has experts of another shape than the product's"))
        shaped = values.reshape(experts * rows, blocks, packed), scales.reshape(experts * rows, blocks)
        return Weights(bits, *shaped, zeros), rows

    def _products(self, of: tuple[Weights, int], places: Value, count: int, own: int, bias: str) -> Value:
        """What each token's experts give, side by side.

        Args:
            own: How many rounded rows each token has: one, or one for each expert.
        """
        weights, rows = of
        wide = rows * count
        (made,) = self._append(Kind.MUL_MAT_ID, (places,), (wide,), width=rows, extra=count, layer=own, weights=weights)
        if not bias:
            return made
        table = self._constants.array(bias, np.float32)
        if table.shape != (weights.outputs // rows, rows):
            refuse(msg("the graph has experts of another shape than the product's"))
        sources = (made, places)
        (made,) = self._append(
            Kind.ADD_ID, sources, (wide,), width=rows, extra=count, layer=len(table), tensors=(table,)
        )
        return made

    def _row(self, kind: Kind, sources: tuple[Value, ...], node: Any, width: int, **more: Any) -> None:
        (made,) = self._append(kind, sources, (width,), width=width, **({"extra": 1} | more))
        self._name(node.output[0], made)


def step_of(kind: Kind, inputs: tuple[Value, ...], outputs: tuple[Value, ...], width: int, **more: Any) -> Step:
    """A step whose results are as many rows as its sources.

    Raises:
        NotForKernels: Some sources are of the last token alone, or have means beside them.
    """
    one = inputs[0].one
    if any(each.one != one for each in inputs):
        refuse(msg("the graph has the last position together with all"))
    if any(each.means for each in inputs):
        refuse(msg("the graph has operands of different widths in {kind}", kind=kind.name))
    return Step(kind, inputs, tuple(replace(each, one=one) for each in outputs), width, one=one, **more)
