"""transformers' newer reader of GGUF files (LFM2, Qwen 3.5), made to leave large tensors packed in their file.

It unpacks all of them as it fills the network. Here each waits until it is computed with (``deferred.py``), as with the
older reader; what is done to it on the way is transformers' own code, done then. The module knows that reader; what
unpacks is given to it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from playground.runtimes.torch.deferred import Deferred, Make, real, waiting
from playground.runtimes.torch.several import Rows

Array = npt.NDArray[Any]
Pack = Callable[[Array, Any, tuple[int, ...]], Rows]
"""The rows of a tensor: its blocks or numbers, the package gguf's name of its type, and its shape."""


@contextlib.contextmanager
def left_packed(pack: Pack, keep: Callable[[Callable[[], Array]], Make], small: int) -> Iterator[None]:
    """In this block the newer reader leaves tensors in their file.

    Args:
        pack: Gives what stands for one.
        keep: Makes of what gives numbers what may keep them.
        small: Numbers up to which a tensor is unpacked at once.
    """
    import gguf
    from transformers.integrations.gguf import gguf_conversion_mapping as operations
    from transformers.integrations.gguf import reader
    from transformers.integrations.gguf.dequant import GGML_BLOCK

    def item(self: Any, index: Any) -> torch.Tensor:
        kind, shape = gguf.GGMLQuantizationType(self.ggml_type), tuple(self.shape)
        if self.ggml_type in GGML_BLOCK:  # its last axis is counted in bytes
            numbers, size = GGML_BLOCK[self.ggml_type]
            shape = (*shape[:-1], shape[-1] // size * numbers)
        if math.prod(shape) <= small:
            found: torch.Tensor = usual[reader.LazyGgufTensor](self, index)
            return found
        data = np.frombuffer(self.data, np.uint8)
        if kind == gguf.GGMLQuantizationType.F32:
            data = data.view(np.float32)
        elif kind == gguf.GGMLQuantizationType.F16:
            data = data.view(np.float16)
        return waiting(pack(data.reshape(*shape[:-1], -1), kind, shape))

    def dequantize(self: Any, input_dict: dict[str, Any], *given: Any, **named: Any) -> dict[str, Any]:
        found = {name: _alone(tensors) for name, tensors in input_dict.items()}
        whole = str(named.get("full_layer_name"))
        if not all(isinstance(each, Deferred) for each in found.values()) or whole not in self.ggml_types:
            made: dict[str, Any] = usual[operations.Dequantize](self, input_dict, *given, **named)
            return made
        return {whole: next(iter(found.values()))} if len(found) == 1 else found

    def later(kind: Any) -> Callable[..., dict[str, Any]]:
        def convert(self: Any, input_dict: dict[str, Any], *given: Any, **named: Any) -> dict[str, Any]:
            ((name, tensors),) = input_dict.items()
            tensor = _alone(tensors)

            def of(numbers: torch.Tensor) -> dict[str, Any]:
                found: dict[str, Any] = usual[kind](self, {name: numbers}, *given, **named)
                return found

            if not isinstance(tensor, Deferred):
                return of(tensor)
            ((target, like),) = of(torch.empty(tensor.shape, device="meta")).items()

            def make() -> Array:
                numbers: Array = of(real(tensor))[target].numpy()
                return numbers

            return {target: Deferred(keep(make), like)}

        return convert

    instead: dict[Any, tuple[str, Any]] = {
        reader.LazyGgufTensor: ("__getitem__", item),
        operations.Dequantize: ("convert", dequantize),
        operations.PermuteRows: ("convert", later(operations.PermuteRows)),
        operations.PermuteInputFeatures: ("convert", later(operations.PermuteInputFeatures)),
    }
    usual = {kind: getattr(kind, name) for kind, (name, _) in instead.items()}
    for kind, (name, ours) in instead.items():
        setattr(kind, name, ours)
    try:
        yield
    finally:
        for kind, (name, _) in instead.items():
            setattr(kind, name, usual[kind])


def _alone(tensors: Any) -> Any:
    """transformers hands some tensors over in a list of one."""
    return tensors[0] if isinstance(tensors, list) else tensors
