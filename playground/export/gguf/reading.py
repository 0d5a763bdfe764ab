"""Makes transformers' GGUF loading quick, without changing what it reads, and keeps account of what it leaves unread.

Two things take most of its time. ``gguf.GGUFReader`` makes several numpy arrays for each string of the vocabulary,
although the weights' loader only asks how many there are; and the table of tensor names is built anew for each module
of the network. Inside ``quick_gguf()`` the arrays are skipped (the tokenizer reads the vocabulary with a reader of
its own) and the table is built once. Tensors that are in no table are dropped by transformers without a word; here they
are counted. It knows nothing of models.
"""

from __future__ import annotations

import contextlib
import functools
import re
import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from playground.errors import some
from playground.messages import msg
from playground.runtimes.torch.networks import NAMED_TENSORS, IncompleteWeights

_KNOWN = re.compile(
    r"^rope_(freqs|factors_long|factors_short)\.weight$|(^|\.)nextn\.|^mtp\.|\.rope\.freqs$|attn_rot_embd"
)
"""Read elsewhere (``runtimes/torch/gguf_rope.py``), constants, or heads that guess ahead."""

LONG_ARRAY = 1024
"""Arrays this long are vocabularies and merges; shorter ones (rope sections, head counts) are read as ever."""


class Reading:
    """What was read of a GGUF file."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._read: set[str] = set()
        self._at = -1

    def begin(self, names: list[str]) -> None:
        """A file with these tensors is opened."""
        self._names, self._read, self._at = names, set(), -1

    def next(self) -> None:
        """The next tensor, in the file's order, is taken up."""
        self._at += 1

    def used(self) -> None:
        """The tensor that was taken up has a place in the network."""
        if 0 <= self._at < len(self._names):
            self._read.add(self._names[self._at])

    def unread(self) -> tuple[str, ...]:
        """Tensors that were taken up and have no place in the network; () where transformers accounts for them."""
        taken = self._names[: self._at + 1]
        return tuple(name for name in taken if name not in self._read and not _KNOWN.search(name))


def check_read(reading: Reading) -> None:
    """Refuse a file that holds more than was read of it.

    Raises:
        IncompleteWeights: With the names of the tensors.
    """
    if unread := reading.unread():
        names = some(unread, NAMED_TENSORS)
        raise IncompleteWeights(msg("tensors of the GGUF that nobody reads: {names}", names=names))


class _Places(dict[str, str]):
    """Names in the network by the names in the file; looking one up is what transformers does with a tensor it uses."""

    def __init__(self, places: dict[str, str], reading: Reading) -> None:
        super().__init__(places)
        self._reading = reading

    def __getitem__(self, name: str) -> str:
        place = super().__getitem__(name)
        self._reading.used()
        return place


@contextlib.contextmanager
def quick_gguf(done: Callable[[float], None]) -> Iterator[Reading]:
    """Loading of GGUF weights by transformers in this block is quick.

    Args:
        done: Told the share of the weights that were dequantised, 0 to 1.
    """
    import gguf
    from transformers import modeling_gguf_pytorch_utils as loader

    reading = Reading()
    total = 0

    class Reader(gguf.GGUFReader):  # type: ignore[misc]
        """Walks over long arrays instead of parsing them; what stands for one has its length."""

        def __init__(self, *args: Any, **named: Any) -> None:
            nonlocal total
            super().__init__(*args, **named)
            total = sum(int(tensor.n_bytes) for tensor in self.tensors)
            reading.begin([str(tensor.name) for tensor in self.tensors])

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
        reading.next()
        weights = original(data, kind)
        read += int(data.nbytes)
        done(min(1.0, read / total) if total else 1.0)
        return weights

    original = gguf.dequantize
    names = functools.cache(gguf.get_tensor_name_map)
    quick = {"GGUFReader": Reader, "dequantize": dequantize, "get_tensor_name_map": names}
    usual = {name: getattr(gguf, name) for name in quick}
    find_places = loader.get_gguf_hf_weights_map

    def places(*args: Any, **named: Any) -> dict[str, str]:
        return _Places(find_places(*args, **named), reading)

    # transformers imports these names from the package each time it loads a file, so replacing them here is enough.
    vars(gguf).update(quick)
    vars(loader).update(get_gguf_hf_weights_map=places)
    try:
        yield reading
    finally:
        vars(gguf).update(usual)
        vars(loader).update(get_gguf_hf_weights_map=find_places)
