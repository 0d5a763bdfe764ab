"""What the layers of a traced network keep between two runs: keys and values that grow, and states of a fixed size.

transformers' own cache object holds these layers; what a layer is given now comes out of the graph as what it keeps.
The module knows transformers' cache; which operator continues a layer is not its business.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from transformers.cache_utils import (
    DummyLayer,
    DynamicCache,
    DynamicLayer,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionLayer,
)

State = tuple[str, int]
"""``conv`` or ``recurrent``, and a number among those of a layer."""

CONV, RECURRENT = "conv", "recurrent"


@dataclass(frozen=True)
class Held:
    """What one layer keeps.

    Attributes:
        keys: How many heads, and how many numbers of each; None for a layer without attention.
        states: Shape and type of each state, the batch of one included.
    """

    keys: tuple[int, int] | None
    states: Mapping[State, tuple[tuple[int, ...], torch.dtype]]

    def names(self) -> Iterator[str]:
        """Of the tensors, in the order of ``empty``."""
        if self.keys:
            yield from ("key", "value")
        for kind, number in self.states:
            yield f"{kind}.{number}" if number else kind

    def empty(self, tokens: int) -> Iterator[torch.Tensor]:
        """Tensors of zeros behind so many ``tokens``: keys and values ``[1, heads, tokens, size]``, then states."""
        if self.keys:
            yield from (torch.zeros(1, self.keys[0], tokens, self.keys[1]) for _ in range(2))
        for shape, dtype in self.states.values():
            yield torch.zeros(shape, dtype=dtype)

    def layer(self, past: Sequence[torch.Tensor], order: list[PastLayer]) -> Any:
        """A layer for transformers' cache that keeps ``past``, tensors as in ``empty``."""
        states = dict(zip(self.states, past[2:] if self.keys else past, strict=True))
        if self.keys and states:
            return BothLayer(past[0], past[1], order, states)
        if self.keys:
            return PastLayer(past[0], past[1], order)
        return StateLayer(states) if states else DummyLayer()


class PastLayer(DynamicLayer):  # type: ignore[misc]
    """A layer's keys and values, which the operator continues by itself.

    Args:
        keys, values: fp32 ``[batch, heads, tokens, size]``.
        order: Layers that were given new keys and values; this one is put behind them when it is.

    Attributes:
        present: Both with what was computed now, once the layer has been run.
    """

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, order: list[PastLayer]) -> None:
        DynamicLayer.__init__(self)
        self.past = keys, values
        self.present: tuple[torch.Tensor, ...] = ()
        self._order = order

    def update(self, keys: torch.Tensor, values: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor, torch.Tensor]:
        self._order.append(self)
        return keys, values

    def get_seq_length(self) -> int:
        return cast(int, self.past[0].shape[2])

    def get_mask_sizes(self, new: Any) -> tuple[int, int]:
        return (new.shape[0] if isinstance(new, torch.Tensor) else new) + self.get_seq_length(), 0


class StateLayer(LinearAttentionLayer):  # type: ignore[misc]
    """A layer's states of a fixed size.

    Attributes:
        states: What it kept.
        next: What it keeps now, once the layer has been run.
    """

    def __init__(self, states: Mapping[State, torch.Tensor]) -> None:
        LinearAttentionLayer.__init__(self, number_of_states=1 + max(number for _, number in states))
        self.states, self.next = states, cast("dict[State, torch.Tensor]", {})
        for (kind, number), state in states.items():
            (self.conv_states if kind == CONV else self.recurrent_states)[number] = state
            self.has_previous_state[number] = True

    def update_conv_state(self, conv_states: torch.Tensor, state_idx: int = 0, **_: Any) -> torch.Tensor:
        """As transformers has it: the last inputs with the new ones behind them, ``[batch, channels, tokens]``.

        ``conv`` of what is returned says which state it belongs to, and what is new.
        """
        kept = self.states[CONV, state_idx]
        whole = torch.cat([kept, conv_states], -1)
        self.next[CONV, state_idx] = whole[..., -kept.shape[-1] :]
        whole.conv = self, state_idx, conv_states
        return whole

    def update_recurrent_state(self, recurrent_states: torch.Tensor, state_idx: int = 0, **_: Any) -> torch.Tensor:
        self.next[RECURRENT, state_idx] = recurrent_states
        return recurrent_states


class BothLayer(StateLayer, PastLayer, LinearAttentionAndFullAttentionLayer):  # type: ignore[misc]
    """Keys and values, and states."""

    def __init__(
        self, keys: torch.Tensor, values: torch.Tensor, order: list[PastLayer], states: Mapping[State, torch.Tensor]
    ) -> None:
        PastLayer.__init__(self, keys, values, order)
        StateLayer.__init__(self, states)


class Past(DynamicCache):  # type: ignore[misc]
    """transformers' cache of such layers.

    Attributes:
        asked: The recurrent state that was asked for last.
    """

    def __init__(self, layers: list[Any]) -> None:
        super().__init__()
        self.layers, self.layer_class_to_replicate = layers, None
        self.asked: torch.Tensor | None = None

    def get_recurrent_state(self, *args: Any, **named: Any) -> torch.Tensor | None:
        self.asked = super().get_recurrent_state(*args, **named)
        return self.asked


def presents(layer: Any, held: Held) -> list[torch.Tensor] | None:
    """What ``layer`` keeps now, as in ``Held.empty``; None where something of it was not computed."""
    found = list(layer.present) if held.keys else []
    if held.keys and not found:
        return None
    states = [layer.next.get(state) for state in held.states]
    return None if any(each is None for each in states) else [*found, *states]
