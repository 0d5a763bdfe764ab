"""What the playground's kernels are to do for one model: steps over buffers, as values.

``lowering`` makes a program of a graph, ``engine`` runs it. The module knows neither ONNX nor the library.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from numpy.typing import NDArray

from playground.errors import Reason
from playground.kernels.library import Kind, Weights
from playground.messages import Translatable, foreign, msg

Array = NDArray[Any]

INT_MAX = 2**31 - 1
"""The largest size: C takes them as ``int``, and ctypes cuts off what is too long without a word."""


class NotForKernels(Reason):
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

    def columns(self, start: int, end: int) -> Value:
        """A part of the columns."""
        return Value(self.buffer, self.offset + start, end - start, self.one)


@dataclass(frozen=True)
class Pending:
    """An activation that waits for the product it may be one step with."""

    kind: Kind
    source: Value


@dataclass(frozen=True)
class Capping:
    """A part of ``limit · tanh(source / limit)``, which is one step: what was divided, or, ``bent``, the tanh of it."""

    source: Value
    limit: float
    bent: bool = False


@dataclass(frozen=True)
class Heads:
    """One layer's attention: query heads, heads of keys and values, numbers in a head.

    Attributes:
        softcap: What a score is at most: ``softcap · tanh(score / softcap)``; 0 where scores stay as they are.
    """

    heads: int
    kv_heads: int
    size: int
    window: int
    scale: float
    softcap: float = 0.0


@dataclass(frozen=True)
class Convolution:
    """One short convolution: over how many columns, and how many of the last tokens, the token itself included."""

    width: int
    taps: int


@dataclass(frozen=True)
class Recurrence:
    """One layer with a state for each head, ``[size, width]``: linear attention with a decay.

    Attributes:
        heads: How many, and how many of them share a query and a key: ``heads / groups``.
        size: Numbers of a key.
        width: Numbers of a value.
        decays: Of each head: one, or one for each number of its key.
        corrects: Whether a value is corrected by what its key already finds (delta rule), and how much.
        scale: Of what comes out.
    """

    heads: int
    groups: int
    size: int
    width: int
    decays: int
    corrects: bool
    scale: float

    @property
    def beside(self) -> int:
        """Numbers that stand beside a token's values: decays, and how much is corrected."""
        return self.heads * (self.decays + self.corrects)


@dataclass
class Step:
    """One step. ``tensors`` are constants it reads: arrays mapped from the file, or ``Weights``; ``node`` is what the
    graph calls the node it was made of.
    """

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
    node: str = ""


@dataclass
class Program:
    """Steps, and what has to be there for them.

    Attributes:
        widths: Of each buffer, in columns.
        singles: Buffers of one row.
        layers: The attention of each layer.
        logits: Where the result lies.
        vocab: Its width.
        tokens: How many there are to be read: rows of the embedding.
        longest: Tokens that positions are known for; None where any number goes.
        convolutions: In the order of their steps.
        recurrences: The same.
    """

    steps: list[Step] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)
    singles: set[int] = field(default_factory=set)
    layers: list[Heads] = field(default_factory=list)
    logits: Value | None = None
    vocab: int = 0
    tokens: int = 0
    longest: int | None = None
    convolutions: list[Convolution] = field(default_factory=list)
    recurrences: list[Recurrence] = field(default_factory=list)


def broken(step: Step) -> Translatable:
    """What is said of a run in which ``step`` was the first to meet numbers that are infinite or none."""
    node = foreign(step.node[:80]) if step.node else msg("a node without a name")
    return msg(
        "activations became infinite or no numbers (NaN), first met at {node} ({kind})", node=node, kind=step.kind.name
    )


def refuse(what: Translatable) -> NoReturn:
    """
    Raises:
        NotForKernels: Always.
    """
    raise NotForKernels(what)


def whole(refusal: Callable[[str], Translatable], value: Any, least: int = 1) -> int:
    """``value`` as a size that C can take.

    Args:
        refusal: What is said of a value that is none.

    Raises:
        NotForKernels: It is no whole number, below ``least`` or beyond ``INT_MAX``.
    """
    if type(value) is not int or not least <= value <= INT_MAX:
        refuse(refusal(str(value)[:40]))
    return value


_IGNORED = frozenset(("stash_type", "name"))


def known_only(node: Any, settings: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Each attribute of ``node`` must be known, and have the value known; None: any.

    Raises:
        NotForKernels: One is not, or has not.
    """
    for name, value in settings.items():
        if name in _IGNORED:
            continue
        if name not in known or (known[name] is not None and value != known[name]):
            refuse(
                msg("the graph has {operator} with {name} {value}", operator=node.op_type, name=name, value=str(value))
            )
