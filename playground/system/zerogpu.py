"""Whether this is a Space that is lent a GPU for as long as one function runs (the Hub's ZeroGPU)."""

from __future__ import annotations

import os
from collections.abc import Mapping

SETTING = "SPACES_ZERO_GPU"
"""The Hub sets it on such Spaces."""


def on_zero_gpu(env: Mapping[str, str] = os.environ) -> bool:
    """As the Hub's package ``spaces`` finds it out."""
    return env.get(SETTING, "").lower() in ("1", "t", "true")
