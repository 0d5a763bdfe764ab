"""Says what kind of decoder a graph is, from its names, shapes and types; what it leaves open, config.json fills in.

Three kinds are known. ``shared``: GroupQueryAttention writes new keys and values into the buffer it reads the old ones
from. ``growing``: each run gets the past and returns past and new together (optimum's exports). ``whole``: no cache.
The module reads descriptions only: it runs nothing, and does not know how a kind is driven.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnxruntime as ort

from playground.catalog import config_names
from playground.catalog.config_names import ATTENTION_HEADS, HEAD_DIM, HIDDEN_SIZE, VOCAB_SIZE, Names
from playground.messages import Translatable, msg
from playground.runtimes.onnx.file import GraphError, OnnxFile

Kind = Literal["shared", "growing", "whole"]

TYPES: dict[str, type] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
}

TOKENS, MASK, POSITIONS, CACHE_POSITION = "input_ids", "attention_mask", "position_ids", "cache_position"
USE_CACHE, KEEP_LOGITS = "use_cache_branch", "num_logits_to_keep"
ENCODER_STATES, ENCODER_MASK = "encoder_hidden_states", "encoder_attention_mask"
ROWS = "logit_rows"
"""The input that ``any_rows`` gives a graph: places in the run's own tokens, int64 ``[wanted]``; -1 is the last one."""
KNOWN = frozenset((TOKENS, MASK, POSITIONS, CACHE_POSITION, USE_CACHE, KEEP_LOGITS, ENCODER_STATES, ENCODER_MASK))
SHARING = frozenset(("GroupQueryAttention", "CausalConvWithState", "LinearAttention"))
"""Operators that count a part of a text as the same tokens one by one. The first may be given one buffer as past and
present; states of the others have a fixed size."""

_GROWS = re.compile(r"past|seq|len|total", re.IGNORECASE)
_FOLDED = re.compile(r"head|[*x×]", re.IGNORECASE)


@dataclass(frozen=True)
class Slot:
    """One cache tensor.

    Attributes:
        past, present: Names of the input and of the output that continues it.
        shape: With 0 where it grows by the number of tokens; batch is 1.
        axis: Which axis grows; None for a state of fixed size (a convolution's, a recurrent layer's).
    """

    past: str
    present: str
    dtype: type
    shape: tuple[int, ...]
    axis: int | None

    def sized(self, tokens: int) -> tuple[int, ...]:
        """The shape with room for ``tokens``."""
        return tuple(tokens if place == self.axis else size for place, size in enumerate(self.shape))


@dataclass(frozen=True)
class DecoderGraph:
    """What a loop must know to drive one decoder.

    Attributes:
        inputs: numpy type by name, cache tensors left out.
        slots: The cache, in the order of the graph's inputs.
        one_token: Each run takes a single token.
        last_only: Each run returns the last position's logits only.
        vocab: Width of the logits.
        quantised: Products are computed with rounded activations, so that results depend a little on what is
            computed together.
    """

    kind: Kind
    inputs: Mapping[str, type]
    slots: tuple[Slot, ...]
    one_token: bool
    last_only: bool
    vocab: int
    logits_type: type
    quantised: bool

    @property
    def merged(self) -> bool:
        """Whether one file holds a branch without and one with a past, chosen by an input."""
        return USE_CACHE in self.inputs


def read_graph(session: ort.InferenceSession, file: OnnxFile, config: Mapping[str, Any]) -> DecoderGraph:
    """Describe the decoder in ``session``.

    Args:
        session: Asked for inputs and outputs.
        file: The same graph's operators.
        config: The text model's config.json.

    Raises:
        GraphError: It is no decoder, or has inputs nobody here knows.
    """
    inputs = {node.name: node for node in session.get_inputs()}
    outputs = {node.name: node for node in session.get_outputs()}
    pasts = [name for name in inputs if name.startswith("past")]
    unknown = sorted(set(inputs) - set(pasts) - KNOWN)
    if unknown or TOKENS not in inputs:
        names = _shortened(inputs)
        if unknown:
            raise GraphError(
                msg("the graph has unknown inputs {unknown} (all inputs: {names})", unknown=unknown, names=names)
            )
        raise GraphError(msg("the graph has no input {missing} (all inputs: {names})", missing=TOKENS, names=names))
    if "logits" not in outputs:
        raise GraphError(msg("the graph gives no logits (its outputs: {names})", names=_shortened(outputs)))
    slots = tuple(_slot(inputs[name], outputs, config) for name in pasts)
    rows, vocab = outputs["logits"].shape[-2:]
    return DecoderGraph(
        kind=_kind(slots, file),
        inputs={name: _type(node) for name, node in inputs.items() if name not in pasts},
        slots=slots,
        one_token=inputs[TOKENS].shape[-1] == 1,
        last_only=rows == 1 or KEEP_LOGITS in inputs,
        vocab=vocab if isinstance(vocab, int) else _size(config, VOCAB_SIZE, msg("the width of the logits")),
        logits_type=_type(outputs["logits"]),
        quantised=file.quantised_bits is not None,
    )


def _kind(slots: Sequence[Slot], file: OnnxFile) -> Kind:
    if not slots:
        return "whole"
    grown = [file.makers.get(slot.present) for slot in slots if slot.axis is not None]
    kept = [file.makers.get(slot.present) for slot in slots if slot.axis is None]
    return "shared" if all(maker in SHARING for maker in grown or kept) else "growing"


def _slot(node: Any, outputs: Mapping[str, Any], config: Mapping[str, Any]) -> Slot:
    tail = re.sub(r"^past(_key_values)?", "", node.name)
    present = next((name for name in (f"present{tail}", f"present_key_values{tail}") if name in outputs), "")
    # A decoder behind an encoder takes the encoder's keys and values in each step and may return them no more.
    if not present and ".encoder." not in node.name:
        raise GraphError(msg("the graph takes {name} and gives nothing to continue it with", name=node.name))
    shape, axis = _shape(node, config)
    return Slot(node.name, present, _type(node), shape, axis)


def _shape(node: Any, config: Mapping[str, Any]) -> tuple[tuple[int, ...], int | None]:
    """Sizes by the names the exporter gave the open ones; the batch comes first, the head size last."""
    sizes: list[int] = []
    axis = None
    for place, size in enumerate(node.shape):
        if isinstance(size, int):
            sizes.append(size)
        elif place == 0:
            # BLOOM before transformers 4.44 folded the heads into the batch.
            sizes.append(_size(config, ATTENTION_HEADS, node.name) if _FOLDED.search(str(size)[5:]) else 1)
        elif axis is None and _GROWS.search(str(size)):
            axis = place
            sizes.append(0)
        elif place == len(node.shape) - 1:
            sizes.append(head_size(config))
        elif "head" in str(size):
            sizes.append(int(config.get("num_key_value_heads") or _size(config, ATTENTION_HEADS, node.name)))
        else:
            raise GraphError(
                msg(
                    "the graph leaves axis {axis} of {name} open ('{size}', of {shape})",
                    axis=place,
                    name=node.name,
                    size=str(size),
                    shape=str(node.shape),
                )
            )
    return tuple(sizes), axis


def head_size(config: Mapping[str, Any]) -> int:
    """Width of one attention head."""
    if given := config_names.whole(config, *HEAD_DIM):
        return given
    return _size(config, HIDDEN_SIZE, msg("head size")) // _size(config, ATTENTION_HEADS, msg("head size"))


def _size(config: Mapping[str, Any], names: Names, what: str | Translatable) -> int:
    """A size that config.json states under one of its names, or under the family's own."""
    if (stated := config.get(names[0])) is not None and not config_names.is_whole(stated):
        raise GraphError(msg("config.json says {name} is {value}", name=names[0], value=repr(stated)))
    if found := config_names.size(config, names):
        return found
    raise GraphError(msg("neither the graph nor config.json says {name} ({what})", name=names[0], what=what))


def _type(node: Any) -> type:
    if node.type not in TYPES:
        raise GraphError(
            msg("{name} is of type {type}, which this runtime does not feed", name=node.name, type=node.type)
        )
    return TYPES[node.type]


def _shortened(names: Mapping[str, Any]) -> list[str | Translatable]:
    """Names for a message: of a long row of cache tensors only the first."""
    caches = [name for name in names if name.startswith(("past", "present"))]
    rest = [name for name in names if name not in caches]
    return [*rest, *caches[:1], *([msg("and {more} more like it", more=len(caches) - 1)] if len(caches) > 1 else [])]
