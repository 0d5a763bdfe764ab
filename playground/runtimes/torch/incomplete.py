"""The refusal of files that hold less, or more, than the network they describe."""

from __future__ import annotations

from playground.errors import Reason

NAMED_TENSORS = 4
"""Names of tensors that an error lists: they are long."""


class IncompleteWeights(Reason):
    """The files and the network that config.json describes do not fit together."""
