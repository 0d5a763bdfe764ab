"""The ways to make an ONNX graph, in order of preference.

To add one, write a function like ``fused.build_fused`` and put a ``Recipe`` into ``RECIPES``. What a recipe can't do
it says by an ``ExportError``, what it does wrong the fidelity check finds: no architecture is named here.
"""

from __future__ import annotations

from playground.export.quantization.graph import ROUNDED
from playground.export.recipes.base import Build, Recipe, Work
from playground.export.recipes.dynamo import build_dynamo
from playground.export.recipes.fused import FUSED_PRECISIONS, build_fused
from playground.export.recipes.optimum import OPTIMUM_PRECISIONS, build_optimum
from playground.export.recipes.overlay import pins
from playground.export.recipes.prebuilt import PREBUILT_PRECISIONS, take_prebuilt

__all__ = ["RECIPES", "Build", "Recipe", "Work"]

RECIPES: tuple[Recipe, ...] = (
    Recipe("prebuilt", PREBUILT_PRECISIONS, take_prebuilt, ("onnxruntime",)),
    Recipe("fused", FUSED_PRECISIONS, build_fused, ("onnxruntime-genai", "onnxruntime", "onnx", "onnx-ir")),
    Recipe("dynamo", ROUNDED, build_dynamo, ("torch", "onnxscript", "onnxruntime", "onnx", "onnx-ir")),
    Recipe("optimum", OPTIMUM_PRECISIONS, build_optimum, ("onnxruntime", "onnx", "torch"), pins(), whole=True),
)
"""Tried in this order; what none of them can do, torch does."""
