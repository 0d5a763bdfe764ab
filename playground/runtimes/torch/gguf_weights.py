"""The weights of a GGUF file under transformers' names, each unpacked when it is asked for.

Which tensor of the file becomes which weight, and what is done to its numbers on the way, is transformers' own table
and its own code for each family; unpacking is its own too, or the package gguf's. But transformers unpacks all tensors
before it fills the network, and drops those that are in no table without a word. Inside ``quick_gguf()`` a tensor stays
in the file, packed, until it is computed with (``deferred.py``), and what nobody reads is counted. What takes most of
the time of the rest is done once: the header of a file is read once a process, arrays of the vocabulary are skipped
there (the tokenizer has a reader of its own, ``gguf_vocabulary.py``), and the table of names is built once and not for
each module. A few families (LFM2, Qwen 3.5) are read by a newer reader of transformers, which accounts for all tensors
and unpacks them all at once. It knows nothing of models.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import re
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from playground.errors import some
from playground.messages import msg
from playground.runtimes.torch.deferred import Deferred, exchanged, real, waiting
from playground.runtimes.torch.gguf_experts import place_of, together
from playground.runtimes.torch.gguf_newer import left_packed
from playground.runtimes.torch.gguf_vocabulary import quick_merges
from playground.runtimes.torch.incomplete import NAMED_TENSORS, IncompleteWeights
from playground.runtimes.torch.unpacked import Once, Room, room_here
from playground.system.cpu import usable_cores

Array = npt.NDArray[Any]

_KNOWN = re.compile(
    r"^rope_(freqs|factors_long|factors_short)\.weight$|(^|\.)nextn\.|^mtp\.|\.rope\.freqs$|attn_rot_embd"
)
"""Read elsewhere (``gguf_rope.py``), constants, or heads that guess ahead."""

LONG_ARRAY = 1024
"""Arrays this long are vocabularies and merges; shorter ones (rope sections, head counts) are read as ever."""

SMALL = 1 << 16
"""Numbers up to which a tensor is unpacked at once: norms and biases."""

SLICE = 1 << 20
"""Numbers that one thread unpacks at a time: the library's temporary arrays are several times as large."""


def unpacked_ahead(model: torch.nn.Module) -> contextlib.AbstractContextManager[None]:
    """In this block weights that there is room for are plain numbers, unpacked once: for who computes many times."""

    def plain(weight: torch.nn.Parameter) -> torch.Tensor:
        make = weight.make if isinstance(weight, Deferred) else None
        if isinstance(make, Once) and make.fits(weight.nbytes):
            make.again()
            return make()
        return real(weight) if weight.numel() <= SMALL else weight

    return exchanged(model, plain)


class Packed:
    """A tensor of the file, unpacked in fp32 on demand.

    Args:
        data: Its blocks, ``[*shape but the last, bytes]``, or its numbers.
        kind: The package gguf's name of its type.
        shape: In torch's order.
        room: Asked whether the numbers may stay, once they were made.

    Attributes:
        shape: In torch's order.
        whole: Gives all numbers. Not to be written into.
    """

    def __init__(self, data: Array, kind: Any, shape: Iterable[Any], room: Room) -> None:
        self.shape = torch.Size(int(each) for each in shape)
        self.whole = Once(self.unpacked, room)
        self._data, self._kind, self._room = data, kind, room
        self._ones: dict[int, Packed] = {}

    @classmethod
    def of(cls, tensor: Any, room: Room) -> Packed:
        """The package gguf's tensor."""
        return cls(tensor.data, tensor.tensor_type, reversed(tensor.shape), room)

    def one(self, place: int) -> Packed:
        """The matrix at this place of the first of three axes."""
        if place not in self._ones:  # what was unpacked of it may be kept there
            self._ones[place] = Packed(self._data[place], self._kind, self.shape[1:], self._room)
        return self._ones[place]

    def part(self, start: int, stop: int) -> torch.Tensor:
        """Rows from ``start`` to before ``stop``."""
        if start == 0 and self.whole.kept is None and self.whole.again() and self._room.fits(4 * self.shape.numel()):
            self.whole()
        if self.whole.kept is not None:
            return self.whole.kept[start:stop]
        return torch.from_numpy(self._rows(start, min(stop, self.shape[0])))

    def at(self, ids: torch.Tensor) -> torch.Tensor:
        """The rows of these numbers, ``[*ids, columns]``.

        Raises:
            IndexError: There is no such row.
        """
        if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < self.shape[0]:
            raise IndexError("index out of range in self")
        if self.whole.kept is not None:
            return self.whole.kept[ids]
        rows = np.array(_unpacked(self._data[ids.reshape(-1).numpy()], self._kind), np.float32)
        return torch.from_numpy(rows).reshape(*ids.shape, *self.shape[1:])

    def unpacked(self) -> Array:
        """All numbers, made anew."""
        if len(self.shape) < 2:  # the one axis is the packed one
            return np.array(_unpacked(self._data.reshape(1, -1), self._kind), np.float32).reshape(self.shape)
        return self._rows(0, self.shape[0])

    def _rows(self, start: int, stop: int) -> Array:
        shape = (stop - start, *self.shape[1:])
        step = max(1, SLICE // max(1, self.shape[1:].numel()))
        if stop - start <= step:
            return np.array(_unpacked(self._data[start:stop], self._kind), np.float32).reshape(shape)
        rows = np.empty(shape, np.float32)

        def unpack(place: int) -> None:
            part = self._data[start + place : min(start + place + step, stop)]
            rows[place : place + len(part)] = _unpacked(part, self._kind).reshape(-1, *shape[1:])

        # numpy unpacks on the thread that asks, torch on as many as it has been given.
        with ThreadPoolExecutor(1 if _by_torch(self._kind) else usable_cores()) as pool:
            list(pool.map(unpack, range(0, stop - start, step)))
        return rows


def _by_torch(kind: Any) -> bool:
    """Whether transformers unpacks such blocks by torch: the same bits in half of the time, but not all kinds."""
    from transformers.integrations.gguf.dequant import GGML_BLOCK

    return int(kind) in GGML_BLOCK


def _unpacked(data: Any, kind: Any) -> Array:
    import gguf
    from transformers.integrations.gguf.dequant import dequantize

    if not _by_torch(kind):
        numbers: Array = gguf.dequantize(data, kind)
        return numbers
    block, size = gguf.GGML_QUANT_SIZES[kind]
    columns = data.shape[-1] // size * block
    # A copy, as torch has no tensors that must not be written into.
    unpacked: Array = dequantize(torch.from_numpy(np.array(data)), int(kind)).numpy()
    return unpacked.reshape(*data.shape[:-1], columns)


@contextlib.contextmanager
def quick_gguf(deferred: bool = False) -> Iterator[None]:
    """Loading of GGUF files by transformers in this block is quick, and complete or refused.

    Args:
        deferred: Whether weights stay in the file; else they are unpacked one after the other.

    Raises:
        IncompleteWeights: Where weights are loaded: the file holds more than is read of it.
    """
    with _ONE_AT_A_TIME:
        yield from _quick_gguf(deferred)


_ONE_AT_A_TIME = threading.RLock()
"""Who has the packages changed: they are as they were when the last block is left."""


def _quick_gguf(deferred: bool) -> Iterator[None]:
    import gguf
    from transformers import modeling_gguf_pytorch_utils as loader
    from transformers.integrations.gguf import gguf_tokenizer_mapping as tokenizers
    from transformers.integrations.gguf import reader as newer

    usual, parse, mapped = loader.load_gguf_checkpoint, loader._gguf_parse_value, newer._mapped
    described, merges, kind = newer._read_metadata, tokenizers.generate_merges, _reader()

    def load(path: Any, return_tensors: bool = False, model_to_load: Any = None, **named: Any) -> Any:
        # Whoever is given it may change it; of the vocabulary nobody looks at more than its length.
        parsed = {key: copy.copy(part) for key, part in _once("parsed", path, lambda: usual(path, **named)).items()}
        parsed["config"] = copy.deepcopy(parsed["config"])
        if return_tensors:
            parsed["tensors"] = _tensors(read(path), parsed, model_to_load, deferred)
        return parsed

    def read(path: Any, mode: str = "r") -> Any:
        return _once("reader", path, lambda: kind(path)) if mode == "r" else kind(path, mode)

    def describe(blob: Any, path: str, string_arrays: Any = ()) -> Any:
        if string_arrays:  # the vocabulary itself, which a tokenizer is made of once
            return described(blob, path, string_arrays)
        metadata, tensors, place = _once("metadata", path, lambda: described(blob, path))
        return dict(metadata), tensors, place

    def value_of(part: Any, kinds: Any) -> Any:
        return 0 if part is STAND_IN else parse(part, kinds)  # asked for each token of a vocabulary

    quick = {"GGUFReader": read, "get_tensor_name_map": functools.cache(gguf.get_tensor_name_map)}
    before = {name: getattr(gguf, name) for name in quick}
    # transformers imports these names from their modules each time it loads a file: replacing them there is enough.
    vars(gguf).update(quick)
    vars(loader).update(load_gguf_checkpoint=load, _gguf_parse_value=value_of)
    # Of a memmap each slice takes twenty times as long as of a view into its memory.
    vars(newer).update(_mapped=lambda path: memoryview(mapped(path).view(np.ndarray)), _read_metadata=describe)
    vars(tokenizers).update(generate_merges=quick_merges(merges))
    room = room_here()
    left = left_packed(partial(Packed, room=room), partial(Once, room=room), SMALL)
    try:
        with left if deferred else contextlib.nullcontext():
            yield
    finally:
        vars(gguf).update(before)
        vars(loader).update(load_gguf_checkpoint=usual, _gguf_parse_value=parse)
        vars(newer).update(_mapped=mapped, _read_metadata=described)
        vars(tokenizers).update(generate_merges=merges)


_LAST: dict[str, tuple[tuple[int, ...], Any]] = {}
"""What was read of the last file: it is asked for some seven times while a model is prepared, under several names."""


def _once(kind: str, path: Any, make: Callable[[], Any]) -> Any:
    """What ``make`` reads of the file at ``path``, made anew only where it is another file or was written to."""
    about = Path(path).stat()
    key = about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns
    found = _LAST.get(kind)
    if found is None or found[0] != key:
        _LAST.pop(kind, None)
        found = _LAST[kind] = key, make()
    return found[1]


STAND_IN = np.zeros(1, np.int32)
"""What an array of the vocabulary has at each place, where nobody looks at it."""


def _tensors(reader: Any, parsed: dict[str, Any], model: Any, deferred: bool) -> dict[str, torch.Tensor]:
    """The weights by transformers' names, by its own processors.

    Raises:
        IncompleteWeights: Tensors are in no table.
    """
    from transformers import modeling_gguf_pytorch_utils as loader

    config = parsed["config"]
    family = loader.read_field(reader, "general.architecture")[0]
    processor = loader.TENSOR_PROCESSORS.get(family, loader.TensorProcessor)(config=config)
    places = loader.get_gguf_hf_weights_map(model, processor)
    found: dict[str, torch.Tensor] = {}
    unread: list[str] = []
    room = room_here()
    apart: dict[str, dict[int, Packed]] = {}

    for tensor in reader.tensors:
        packed = Packed.of(tensor, room)

        def process(numbers: Array, into: dict[str, torch.Tensor], name: str = str(tensor.name)) -> Any:
            parameters = {**parsed, "tensors": into}
            with np.errstate(all="ignore"):  # zeros have no logarithm
                return processor.process(
                    weights=numbers, name=name, tensor_key_mapping=places, parsed_parameters=parameters
                )

        if deferred and len(packed.shape) == 3 and (place := place_of(process)):
            name, number = place
            apart.setdefault(name, {})[number] = packed
            continue
        # Tried on zeros, which take no memory until they are looked at: what becomes of the name, and of the shape.
        zeros = np.zeros(packed.shape, np.float32)
        tried = process(zeros, {})
        if tried.name is None:  # it is put together with others, in memory
            process(packed.unpacked(), found)
        elif tried.name not in places:
            unread.append(str(tensor.name))
        elif tried.weights is zeros:
            found[places[tried.name]] = _weight(packed.whole, packed.shape, packed, deferred)
        else:

            def make(process: Any = process, packed: Packed = packed) -> Array:
                numbers: Array = process(packed.unpacked(), {}).weights
                return np.ascontiguousarray(numbers)

            found[places[tried.name]] = _weight(Once(make, room), tried.weights.shape, None, deferred)
    found |= {name: waiting(together([parts[number] for number in sorted(parts)])) for name, parts in apart.items()}
    if unread := [name for name in unread if not _KNOWN.search(name)]:
        names = some(unread, NAMED_TENSORS)
        raise IncompleteWeights(msg("tensors of the GGUF that nobody reads: {names}", names=names))
    return found


def _weight(make: Callable[[], torch.Tensor], shape: Any, rows: Packed | None, deferred: bool) -> torch.Tensor:
    like = torch.empty(tuple(shape), dtype=torch.float32, device="meta")
    return Deferred(make, like, rows=rows) if deferred and like.numel() > SMALL else make()


@functools.cache
def _reader() -> type[Any]:
    """The package's reader, which walks over long arrays and parses none; what stands for one has its length."""
    import gguf

    class Reader(gguf.GGUFReader):  # type: ignore[misc]
        @property
        def data(self) -> Any:
            return self._plain

        @data.setter
        def data(self, mapped: Array) -> None:
            self._plain = mapped.view(np.ndarray)  # of a memmap each slice takes twenty times as long

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
            return end - start, [STAND_IN], [0] * count, stand_in

    return Reader
