"""The prebuilt way: ONNX files that the model's own repository brings, taken as they are.

Which files those are is ``prebuilt``'s business; like every other graph they are compared with torch afterwards, where
the source has the weights to compare with.
"""

from __future__ import annotations

from playground.errors import ExportError
from playground.export.recipes.base import Work

PREBUILT_PRECISIONS: dict[str, dict[str, str]] = {"int8": {}, "int4": {}, "fp32": {}, "fp16": {}}


def take_prebuilt(work: Work) -> str:
    """Put the source's best ONNX files into the target. See ``recipe.Build``."""
    from playground.export.recipes.prebuilt import find_prebuilt, place_prebuilt

    work.progress("looking for ONNX files", None)
    refused: list[str] = []
    found = find_prebuilt(work.source, work.precision, refused)
    if found is None:
        raise ExportError("; ".join(refused[:3]) or f"none of the ONNX files is {work.precision}")
    place_prebuilt(found, work.source, work.target)
    return found.precision
