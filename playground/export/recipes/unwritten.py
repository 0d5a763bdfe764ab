"""The graph of onnxruntime-genai's model builder before it is written: nodes at once, weights when they are asked for.

The builder gathers the nodes of a whole model and casts weights as it writes them. Given a network whose weights stay
in their files (``runtimes/torch/deferred.py``), and taken over before it writes, it never has more than one of them in
memory. This module knows the builder's classes; what is done with the graph is not its business.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from playground.catalog.template_files import read_json
from playground.export import vocabulary
from playground.export.quantization.weights import INLINE, Array, Graph, Make, Part
from playground.export.vocabulary import CONFIG, FILE
from playground.runtimes.torch.networks import load_network

if TYPE_CHECKING:
    from playground.runtimes.torch.several import Rows


@contextlib.contextmanager
def unwritten(folder: Path) -> Iterator[list[Graph]]:
    """In this block the builder reads the network in ``folder`` one weight at a time and of its tokenizer no more than
    it asks for, and writes no graph and no tokenizer.

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
    front.AutoTokenizer = base.AutoTokenizer = _Tokenizers(tokenizers, folder)
    try:
        yield built
    finally:
        Model.load_weights, Model.save_model = usual
        front.AutoTokenizer = base.AutoTokenizer = tokenizers


class _Tokenizers:
    """transformers' ``AutoTokenizer`` for the builder.

    A vocabulary of 262 thousand takes transformers five seconds to read, and the builder asks three times: for ids of a
    few names, for the end of a turn, and to write what it read, which nobody keeps.
    """

    def __init__(self, usual: Any, folder: Path) -> None:
        self._usual, self._folder = usual, folder
        self._read: dict[str, Any] = {}

    def from_pretrained(self, *places: Any, **options: Any) -> Any:
        key = repr((places, sorted(options.items())))
        if key not in self._read:
            read = partial(self._usual.from_pretrained, *places, **options)
            ours = [str(place) for place in places] == [str(self._folder)] and _is_described(self._folder)
            self._read[key] = _Asked(self._folder, read) if ours else read()
        return self._read[key]


def _is_described(folder: Path) -> bool:
    """Whether the files are those that transformers writes of a tokenizer that is all in tokenizer.json."""
    return (folder / FILE).is_file() and read_json(folder / CONFIG).get("backend") == "tokenizers"


class _Asked:
    """As much of a tokenizer as the builder asks for; for anything else it is read.

    Args:
        folder: Holds tokenizer.json and tokenizer_config.json.
        read: Gives transformers' object.
    """

    def __init__(self, folder: Path, read: Callable[[], Any]) -> None:
        self._read = read
        self._whole: Any = None
        known, played = vocabulary.of(folder).names, vocabulary.roles(folder)
        self._names = known
        for role, token in played.items():
            if token in known:
                setattr(self, role, token)
                setattr(self, f"{role}_id", known[token])

    def get_vocab(self) -> Mapping[str, int]:
        """The names that the builder looks for, as far as they are in it."""
        return self._names

    def convert_tokens_to_ids(self, token: str) -> int:
        return self._names[token] if token in self._names else self._object().convert_tokens_to_ids(token)

    def save_pretrained(self, _folder: str) -> None:
        """Nothing: the original's files take its place."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._object(), name)

    def _object(self) -> Any:
        if self._whole is None:
            self._whole = self._read()
        return self._whole


def graph_of(model: Any, weights: Mapping[str, Any]) -> Graph:
    """A graph whose large tensors are read when their turn comes.

    Args:
        model: Of onnx_ir.
        weights: What is read in place of initializers of these names, as tensors of torch.
    """
    import onnx_ir as ir

    made: dict[str, Make] = {}
    parts: dict[str, Part] = {}
    for name, value in model.graph.initializers.items():
        content = value.const_value
        if content.nbytes < INLINE:
            value.const_value = ir.tensor(_numbers(content), name=name)
            continue
        source = weights.get(name, content)
        made[name] = partial(_numbers, source)
        is_several = len(content.shape) == 3 and content.nbytes >= INLINE * content.shape[0]
        if is_several and (rows := _rows(source)) is not None:
            parts[name] = partial(_part, rows)
        # A place in a file that is never looked into: what has no content can't be written otherwise.
        value.const_value = ir.ExternalTensor("", 0, content.nbytes, content.dtype, shape=content.shape, name=name)
    return Graph(ir.serde.serialize_model(model), Path(), made, parts)


def _numbers(content: Any) -> Array:
    """The numbers of a tensor, torch's or onnx_ir's around one. Of a matrix that is turned around they lie as they did
    before, which is how they are rounded.
    """
    import torch

    from playground.runtimes.torch.deferred import real

    content = _unwrapped(content)
    found: Array = real(content.detach()).numpy() if isinstance(content, torch.Tensor) else np.asarray(content)
    return found


def _rows(content: Any) -> Rows | None:
    """The rows of a layer's experts that wait in their file; None of anything else."""
    from playground.runtimes.torch.deferred import Deferred

    content = _unwrapped(content)
    return content.rows if isinstance(content, Deferred) else None


def _part(rows: Rows, start: int, stop: int) -> Array:
    found: Array = rows.part(start, stop).contiguous().numpy()
    return found


def _unwrapped(content: Any) -> Any:
    """torch's tensor in one of onnx_ir, or that one."""
    import onnx_ir as ir
    import torch

    while isinstance(content, ir.LazyTensor):
        content = content.raw()
    raw = getattr(content, "raw", None)
    return raw if isinstance(raw, torch.Tensor) else content
