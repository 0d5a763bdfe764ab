"""The graph of onnxruntime-genai's model builder before it is written: nodes at once, weights when they are asked for.

The builder gathers the nodes of a whole model and casts weights as it writes them. Given a network whose weights stay
in their files (``runtimes/torch/deferred.py``), and taken over before it writes, it never has more than one of them in
memory. This module knows the builder's classes; what is done with the graph is not its business.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from playground.export.quantization.weights import INLINE, Array, Graph, Make
from playground.runtimes.torch.networks import load_network


@contextlib.contextmanager
def unwritten(folder: Path) -> Iterator[list[Graph]]:
    """In this block the builder reads the network in ``folder`` one weight at a time and its tokenizer once, and writes
    no graph.

    Yields:
        What it would have written, once it has come to that.
    """
    from onnxruntime_genai.models import builder as front
    from onnxruntime_genai.models.builder import Model
    from onnxruntime_genai.models.builders import base

    built: list[Graph] = []
    usual, tokenizers = (Model.load_weights, Model.save_model), front.AutoTokenizer

    def load(_builder: Any, _path: str) -> Any:
        return load_network(folder, deferred=True).model

    def take(builder: Any, _path: str) -> None:
        builder.model.graph.sort()
        Model.stamp_build_metadata(builder.model)
        built.append(graph_of(builder.model, {}))

    Model.load_weights, Model.save_model = load, take
    front.AutoTokenizer = base.AutoTokenizer = _ReadOnce(tokenizers)
    try:
        yield built
    finally:
        Model.load_weights, Model.save_model = usual
        front.AutoTokenizer = base.AutoTokenizer = tokenizers


class _ReadOnce:
    """transformers' ``AutoTokenizer`` for who asks for the same one several times: a vocabulary of 262 thousand takes
    seconds to read. The builder asks three times, and changes nothing but a length in the one it writes.
    """

    def __init__(self, usual: Any) -> None:
        self._usual = usual
        self._read: dict[str, Any] = {}

    def from_pretrained(self, *places: Any, **options: Any) -> Any:
        key = repr((places, sorted(options.items())))
        if key not in self._read:
            self._read[key] = self._usual.from_pretrained(*places, **options)
        return self._read[key]


def graph_of(model: Any, weights: Mapping[str, Any]) -> Graph:
    """A graph whose large tensors are read when their turn comes.

    Args:
        model: Of onnx_ir.
        weights: What is read in place of initializers of these names, as tensors of torch.
    """
    import onnx_ir as ir

    made: dict[str, Make] = {}
    for name, value in model.graph.initializers.items():
        content = value.const_value
        if content.nbytes < INLINE:
            value.const_value = ir.tensor(_numbers(content), name=name)
            continue
        made[name] = partial(_numbers, weights.get(name, content))
        # A place in a file that is never looked into: what has no content can't be written otherwise.
        value.const_value = ir.ExternalTensor("", 0, content.nbytes, content.dtype, shape=content.shape, name=name)
    return Graph(ir.serde.serialize_model(model), Path(), made)


def _numbers(content: Any) -> Array:
    """The numbers of a tensor, torch's or onnx_ir's around one."""
    import onnx_ir as ir
    import torch

    from playground.runtimes.torch.deferred import real

    while isinstance(content, ir.LazyTensor):
        content = content.raw()
    raw = content if isinstance(content, torch.Tensor) else getattr(content, "raw", None)
    found: Array = real(raw.detach()).contiguous().numpy() if isinstance(raw, torch.Tensor) else np.asarray(content)
    return found
