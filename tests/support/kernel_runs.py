"""How a graph of ``kernel_graphs`` is run, compared and changed, and the kernels with threads that don't keep pace."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from playground.kernels import building
from playground.runtimes.generation.divergence import kl_divergence
from tests.support import kernel_graphs, kernel_sets

Array = NDArray[Any]

IDS = [(7919 * place + 13) % kernel_graphs.VOCAB for place in range(160)]


def read(engine: Any, parts: list[int], ids: list[int] = IDS) -> Array:
    """Logits behind a prompt that is read in parts, and behind each token after it."""
    engine.reset(len(ids))
    start = 0
    for part in parts:
        row = engine.prefill(ids[start : start + part])
        start += part
    return np.stack([row.copy(), *(engine.step(token).copy() for token in ids[start:])])


def logits(engine: Any, parts: list[int]) -> Array:
    """The same of an engine that is closed then."""
    found = read(engine, parts)
    engine.close()
    return found


def divergence(expected: Array, found: Array) -> float:
    """The mean over rows."""
    pairs = zip(expected.astype(np.float64), found.astype(np.float64), strict=True)
    return float(np.mean([kl_divergence(*pair) for pair in pairs]))


def out_of_step(folder: Path, changes: Mapping[str, str], more: str = "") -> building.Built:
    """The kernels with ``pg_late`` and ``pg_apart``, two numbers that a test sets.

    Args:
        folder: Where they are compiled.
        changes: What stands in their unit, once, and what is to stand there, in which those numbers may be asked.
        more: Further lines before all others.
    """
    source = folder / "source"
    shutil.copytree(building.SOURCE, source)
    unit = source / building.UNIT
    text = unit.read_text(encoding="utf-8")
    first = "#include <assert.h>"
    for old, new in {**changes, first: f"{first}\n#include <unistd.h>\nint pg_late, pg_apart;\n{more}"}.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    unit.write_text(text)
    options = [each for each in building.OPTIONS if not each.startswith("-O")]
    isa = kernel_sets.sets()[0]
    return building.Built.of(kernel_sets.compile_c(isa, [*options, "-O1"], unit, folder / building.LIBRARY))


def nodes_of(graph: Any, kind: str) -> list[Any]:
    return [node for node in graph.node if node.op_type == kind]


def set_attribute(node: Any, name: str, value: Any) -> None:
    for each in [each for each in node.attribute if each.name == name]:
        node.attribute.remove(each)
    node.attribute.append(helper.make_attribute(name, value))


def set_constant(graph: Any, name: str, array: Array) -> None:
    tensor = next(each for each in graph.initializer if each.name == name)
    tensor.CopyFrom(numpy_helper.from_array(array, name))
