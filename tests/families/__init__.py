"""The families of open models, each as a tiny network with random weights: real classes, real exports, in seconds.

What is proven on them is the way through source, export, check and generation, which depends on an architecture's
structure and not on its weights. ``FAMILIES`` names them; ``write`` puts one on disk as a publisher would.
"""

from __future__ import annotations

from tests.families.builders import write
from tests.families.table import FAMILIES, Family

__all__ = ["FAMILIES", "Family", "write"]
