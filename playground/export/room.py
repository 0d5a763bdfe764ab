"""Whether a way to prepare a model fits into this machine's memory, asked before it is gone.

What a preparation needs is ``catalog.footprint``'s estimate; the number of parameters is the import's own. A process
that takes more than there is, is ended by the system without a word: a refusal names the figures and lets the next way
try.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from playground.catalog.footprint import estimate, unpacked_mb, whole_mb
from playground.catalog.weight_files import packed_in
from playground.errors import ExportError
from playground.messages import msg
from playground.sources.headers import read_gguf, read_safetensors
from playground.sources.limits import unpacked_whole
from playground.system import memory


def parameters_in(folder: Path) -> int:
    """Elements of all tensors in an imported folder; no weight is read."""
    if packed := packed_in(folder):
        return read_gguf(packed).parameters
    return sum(read_safetensors(path).parameters for path in folder.glob("*.safetensors"))


def _unpacked(folder: Path, parameters: int) -> float:
    """Megabytes of a GGUF file's weights in floats that are in memory at once."""
    packed = packed_in(folder)
    if packed is None:
        return 0.0
    whole = unpacked_whole(read_gguf(packed).metadata)
    return unpacked_mb(parameters, math.inf if whole else memory.limit_mb())


def check_whole(folder: Path, way: str) -> None:
    """Refuse ``way``, which holds the imported model as a whole, where that does not fit.

    Args:
        way: ``torch`` or ``optimum``.

    Raises:
        ExportError: With both figures.
    """
    _check(folder, lambda parameters: whole_mb(parameters, way))


def check_by_pieces(folder: Path, precision: str) -> None:
    """The same for a graph in ``precision`` that is made one matrix at a time.

    Raises:
        ExportError: With both figures.
    """

    def need(parameters: int) -> float:
        found = estimate(parameters, "onnx", precision)
        # What is unpacked is there while transformers answers, before there is an engine with weights of its own.
        return max(found.prepare_mb, found.prepare_mb - found.weights_mb + _unpacked(folder, parameters))

    _check(folder, need)


def _check(folder: Path, need_of: Callable[[int], float]) -> None:
    need, limit = need_of(parameters_in(folder)), memory.limit_mb()
    if need > limit:
        raise ExportError(
            msg(
                "it takes {need_gb:.1f} GB of memory, this machine has {limit_gb:.1f} GB",
                need_gb=need / 1000,
                limit_gb=limit / 1000,
            ),
            msg("Choose int4, a smaller model of the family, or serve it elsewhere and name it as remote:NAME."),
        )
