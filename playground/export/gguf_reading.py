"""Makes transformers' GGUF loading quick, without changing what it reads.

Two things take most of its time. ``gguf.GGUFReader`` makes several numpy arrays for each string of the vocabulary,
although the weights' loader only asks how many there are; and the table of tensor names is built anew for each module
of the network. Inside ``quick_gguf()`` the arrays are skipped (the tokenizer reads the vocabulary with a reader of
its own) and the table is built once. It knows nothing of models.
"""

from __future__ import annotations

import contextlib
import functools
import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

LONG_ARRAY = 1024
"""Arrays this long are vocabularies and merges; shorter ones (rope sections, head counts) are read as ever."""


@contextlib.contextmanager
def quick_gguf(done: Callable[[float], None]) -> Iterator[None]:
    """Loading of GGUF weights by transformers in this block is quick.

    Args:
        done: Told the share of the weights that were dequantised, 0 to 1.
    """
    import gguf

    total = 0

    class Reader(gguf.GGUFReader):  # type: ignore[misc]
        """Walks over long arrays instead of parsing them; what stands for one has its length."""

        def __init__(self, *args: Any, **named: Any) -> None:
            nonlocal total
            super().__init__(*args, **named)
            total = sum(int(tensor.n_bytes) for tensor in self.tensors)

        def _get_field_parts(self, orig_offs: int, raw_type: int) -> Any:
            if raw_type == gguf.GGUFValueType.ARRAY:
                kind = int(self._get(orig_offs, np.uint32)[0])
                count = int(self._get(orig_offs + 4, np.uint64)[0])
                if count >= LONG_ARRAY:
                    return self._walk(orig_offs, kind, count)
            return super()._get_field_parts(orig_offs, raw_type)

        def _walk(self, start: int, kind: int, count: int) -> Any:
            end = start + 12  # the element type and the count
            if kind == gguf.GGUFValueType.STRING:
                data, length = memoryview(self.data), struct.Struct("<Q").unpack_from
                for _ in range(count):
                    end += 8 + length(data, end)[0]
            else:
                end += count * np.dtype(self.gguf_scalar_to_np[gguf.GGUFValueType(kind)]).itemsize
            stand_in = [gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.INT32]
            return end - start, [np.zeros(1, np.int32)], [0] * count, stand_in

    read = 0

    def dequantize(data: Any, kind: Any) -> Any:
        nonlocal read
        weights = original(data, kind)
        read += int(data.nbytes)
        done(min(1.0, read / total) if total else 1.0)
        return weights

    original = gguf.dequantize
    names = functools.cache(gguf.get_tensor_name_map)
    quick = {"GGUFReader": Reader, "dequantize": dequantize, "get_tensor_name_map": names}
    usual = {name: getattr(gguf, name) for name in quick}
    # transformers imports these names from the package each time it loads a file, so replacing them here is enough.
    vars(gguf).update(quick)
    try:
        yield
    finally:
        vars(gguf).update(usual)
