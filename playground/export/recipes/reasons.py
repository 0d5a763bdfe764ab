"""Why a network can't be written with ONNX Runtime's operators."""

from __future__ import annotations

from playground.errors import Reason


class NoOperator(Reason):
    """Something in the network can't be said by these operators."""


class TurnLost(NoOperator):
    """What is turned goes another way than to attention: the operator can't turn it."""


class MaskCut(NoOperator):
    """The network leaves tokens out between two layers, because only the last one's logits are wanted."""
