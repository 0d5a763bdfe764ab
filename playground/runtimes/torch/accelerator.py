"""The accelerator that torch finds on this machine: CUDA's first device, or Apple's graphics (MPS).

``torch-bf16`` computes there and nowhere else. It was run on no accelerator yet: tests put the CPU in its place. The
module does not know what is computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from playground.records import ON_ACCELERATOR

BF16 = "bf16"
"""The precision of the variant that runs there."""


@dataclass(frozen=True)
class Accelerator:
    """Where a network computes.

    Attributes:
        device: torch's name for it: ``cuda``, ``mps``.
        name: What its maker calls it.
    """

    device: str
    name: str

    @property
    def engine(self) -> str:
        """What receipts say computed: ``torch bf16 on NVIDIA L4 (cuda)``."""
        return f"{ON_ACCELERATOR}{self.name} ({self.device})"


def find_accelerator() -> Accelerator | None:
    """The one there is; None on a machine without."""
    if torch.cuda.is_available():
        return Accelerator("cuda", str(torch.cuda.get_device_name(0)))
    if torch.backends.mps.is_available():
        return Accelerator("mps", "Apple GPU")
    return None


def as_row(tensor: Any) -> Any:
    """Logits as numpy has them: fp32, in the machine's memory."""
    return tensor.float().cpu().numpy()
