"""Headers of weight files, read by hand and within bounds before any library trusts them.

A header says how large the tensors are and where they lie; a lying one makes a careless reader allocate what it
claims. Here every number is compared with the size of the file first, so the work and the memory are bounded by the
file itself. Sizes come from https://github.com/huggingface/safetensors#format and
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. It decides nothing about models.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import struct
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playground.errors import Reason
from playground.messages import Translatable, msg

MAX_HEADER = 16 << 20
"""Bytes of a safetensors header; the largest real ones have one or two million."""
MAX_NODES = 2_000_000
"""Brackets and braces in it: each becomes an object in memory. A tensor has three."""
MAX_TENSORS = 200_000
MAX_DIMENSION = 1 << 40
MAX_ARRAY = 4_000_000
"""Entries of one array in a GGUF header; vocabularies have 300 thousand, merges as many."""

_BITS = {"BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6} | {
    name: bits
    for bits, names in {
        8: ("U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"),
        16: ("U16", "I16", "F16", "BF16"),
        32: ("U32", "I32", "F32"),
        64: ("U64", "I64", "F64", "C64"),
    }.items()
    for name in names
}

_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}


BEYOND = msg("its header reaches beyond the end of the file")


class LyingHeader(Reason):
    """The file is not what its header says."""


@dataclass(frozen=True)
class Layout:
    """Where the parts of a GGUF file lie, in bytes from its beginning.

    Attributes:
        fields: How many fields of metadata there are; they begin at ``FIELDS``.
        infos: Where the descriptions of tensors begin, at the end of the fields.
        offsets: Where each description says, in 8 bytes, how far behind ``data`` its tensor lies.
        end: Behind the last description.
        data: Where the tensors begin.
    """

    fields: int
    infos: int
    offsets: tuple[int, ...]
    end: int
    data: int


FIELDS = 24
"""Where the fields of a GGUF file begin."""


@dataclass(frozen=True)
class Header:
    """What a weight file holds.

    Attributes:
        elements: Of all tensors together, by the type they are kept in.
        tensors: Their names.
        metadata: Of GGUF, its single numbers and short texts, and for an array how many entries it has.
        layout: Of GGUF, where its parts lie.
        shapes: Of safetensors, by tensor.
    """

    elements: dict[str, int]
    tensors: tuple[str, ...]
    metadata: dict[str, Any]
    layout: Layout | None = None
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def parameters(self) -> int:
        return sum(self.elements.values())


def read_safetensors(path: Path) -> Header:
    """Check every tensor's place against the file.

    Raises:
        LyingHeader: Tensors overlap, leave gaps, reach beyond the file, or the header is no header.
        OSError: The file can't be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(size - 8, MAX_HEADER):
            raise LyingHeader(
                msg("its header claims {claimed:,} bytes, the file has {size:,}", claimed=length, size=size)
            )
        entries = _json_object(file.read(length))
    entries.pop("__metadata__", None)
    if len(entries) > MAX_TENSORS:
        raise LyingHeader(msg("it lists {count:,} tensors", count=len(entries)))
    spans, total = [], dict[str, int]()
    for name, entry in entries.items():
        begin, end, elements = _span(name, entry)
        spans.append((begin, end))
        total[entry["dtype"]] = total.get(entry["dtype"], 0) + elements
    place = 0
    for begin, end in sorted(spans):
        if begin != place:
            raise LyingHeader(msg("its tensors overlap or leave gaps"))
        place = end
    if place != size - 8 - length:
        raise LyingHeader(_too_short(place, size - 8 - length))
    return Header(total, tuple(entries), {}, shapes={name: tuple(entry["shape"]) for name, entry in entries.items()})


def _quoted(name: str) -> str:
    return repr(name[:80])


def _too_short(need: int, size: int) -> Translatable:
    return msg("its tensors need {need:,} bytes, the file holds {size:,}", need=need, size=size)


def _json_object(text: bytes) -> dict[str, Any]:
    if (nodes := text.count(b"[") + text.count(b"{")) > MAX_NODES:
        raise LyingHeader(msg("its header has {count:,} lists and objects", count=nodes))
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise LyingHeader(msg("its header is not JSON")) from error
    if not isinstance(entries, dict):
        raise LyingHeader(msg("its header is not a JSON object"))
    return entries


def _span(name: str, entry: Any) -> tuple[int, int, int]:
    """Begin, end and number of elements of one tensor."""
    try:
        bits, shape, (begin, end) = _BITS[entry["dtype"]], entry["shape"], entry["data_offsets"]
        numbers = (*shape, begin, end)
    except (KeyError, TypeError, ValueError) as error:
        raise LyingHeader(
            msg("the tensor {tensor} is not described as safetensors does", tensor=_quoted(name))
        ) from error
    if len(shape) > 16 or not all(type(number) is int and 0 <= number <= MAX_DIMENSION for number in numbers):
        raise LyingHeader(msg("the tensor {tensor} has impossible sizes", tensor=_quoted(name)))
    elements = math.prod(shape)
    if end - begin != -(-elements * bits // 8):
        raise LyingHeader(msg("the tensor {tensor} does not have the bytes its shape needs", tensor=_quoted(name)))
    return begin, end, elements


def read_gguf(path: Path) -> Header:
    """Walk over the metadata and check every tensor's place against the file.

    Raises:
        LyingHeader: A count, a length or an offset does not fit the file.
        OSError: The file can't be read.
    """
    with path.open("rb") as file:
        about = os.fstat(file.fileno())
        key = about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns
        with _LOCK:
            if found := _READ.get(key):
                return found
        if file.read(4) != b"GGUF":
            raise LyingHeader(msg("it does not begin as a GGUF file does"))
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            found = _Gguf(data).header()
    with _LOCK:
        while len(_READ) >= KEPT:
            _READ.pop(next(iter(_READ)))
        _READ[key] = found
    return found


def read_gguf_beginning(data: bytes, size: int) -> Header | None:
    """The header of a GGUF file of ``size`` bytes of which the beginning is here; None where it is longer than that.

    Raises:
        LyingHeader: As ``read_gguf``.
    """
    if len(data) >= 4 and data[:4] != b"GGUF":
        raise LyingHeader(msg("it does not begin as a GGUF file does"))
    try:
        header = _Gguf(data, size).header()
    except struct.error:
        return None
    return header if header.layout and header.layout.end <= len(data) else None


KEPT = 8
_READ: dict[tuple[int, ...], Header] = {}
"""Headers of GGUF files that were read last, by which file it is and when it was written: a preparation asks often."""
_LOCK = threading.Lock()


class _Gguf:
    """A cursor over a GGUF file that never passes its end."""

    def __init__(self, data: mmap.mmap | bytes, size: int | None = None) -> None:
        self._data, self._at, self._size = data, 4, len(data) if size is None else size

    def header(self) -> Header:
        version = self._number("I")
        if version not in (2, 3):
            raise LyingHeader(msg("its GGUF version is {version}; 2 and 3 are known", version=version))
        tensors, fields = self._number("Q"), self._number("Q")
        # The shortest tensor entry has 24 bytes, the shortest field 13: more of them can't be in the file.
        if tensors > min(MAX_TENSORS, self._size // 24) or fields > min(MAX_TENSORS, self._size // 13):
            raise LyingHeader(
                msg(
                    "it claims {tensors:,} tensors and {fields:,} fields in {size:,} bytes",
                    tensors=tensors,
                    fields=fields,
                    size=self._size,
                )
            )
        metadata = {}
        for _ in range(fields):
            key = self._text(1 << 16)
            metadata[key] = self._value(self._number("I"))
        return self._tensors(tensors, fields, metadata)

    def _tensors(self, count: int, fields: int, metadata: dict[str, Any]) -> Header:
        from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

        names, total, ends, offsets, infos = [], dict[str, int](), [], [], self._at
        for _ in range(count):
            name = self._text(1 << 10)
            dimensions = self._number("I")
            if not 1 <= dimensions <= 8:
                raise LyingHeader(
                    msg("the tensor {tensor} has {count} dimensions", tensor=_quoted(name), count=dimensions)
                )
            shape = [self._number("Q") for _ in range(dimensions)]
            kind, offset = self._number("I"), self._number("Q")
            if any(size > MAX_DIMENSION for size in shape) or kind not in set(GGMLQuantizationType):
                raise LyingHeader(
                    msg("the tensor {tensor} has impossible sizes or an unknown type", tensor=_quoted(name))
                )
            block, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
            elements = math.prod(shape)
            names.append(name)
            offsets.append(self._at - 8)
            ends.append((offset, offset + -(-elements // block) * size))
            total[GGMLQuantizationType(kind).name] = total.get(GGMLQuantizationType(kind).name, 0) + elements
        data = self._check_places(ends, metadata.get("general.alignment", 32))
        return Header(total, tuple(names), metadata, Layout(fields, infos, tuple(offsets), self._at, data))

    def _check_places(self, places: list[tuple[int, int]], alignment: Any) -> int:
        """Where the tensors begin, if they are all in the file."""
        if type(alignment) is not int or not 1 <= alignment <= 1 << 20 or alignment & (alignment - 1):
            raise LyingHeader(msg("its alignment is {alignment}", alignment=repr(alignment)))
        start = -(-self._at // alignment) * alignment
        room = self._size - start
        last = 0
        for begin, end in sorted(places):
            if begin < last:
                raise LyingHeader(msg("its tensors overlap"))
            last = end
        if last > max(room, 0):
            raise LyingHeader(_too_short(last, max(room, 0)))
        return int(start)

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            text = self._text(self._size)
            return text if len(text) <= 256 else len(text)
        if kind == _ARRAY:
            return self._array(self._number("I"), self._number("Q"))
        if kind not in _SCALARS:
            raise LyingHeader(msg("it has a field of the unknown type {type}", type=kind))
        return self._number(_SCALARS[kind])

    def _array(self, kind: int, count: int) -> int:
        """Walk over an array; how many entries it has. Arrays of arrays are in the format, but in no model."""
        least = 8 if kind == _STRING else struct.calcsize("<" + _SCALARS.get(kind, "Q"))
        if (kind != _STRING and kind not in _SCALARS) or count > min(MAX_ARRAY, (self._size - self._at) // least):
            raise LyingHeader(msg("it has an array of {count:,} entries of type {type}", count=count, type=kind))
        if kind == _STRING:
            # Some vocabularies have half a million: without a call for each.
            length, data, at, last = struct.Struct("<Q").unpack_from, self._data, self._at, self._size - 8
            for _ in range(count):
                if at > last:
                    raise LyingHeader(BEYOND)
                at += 8 + length(data, at)[0]
            self._skip(at - self._at)
        else:
            self._skip(count * least)
        return count

    def _text(self, most: int) -> str:
        length = self._number("Q")
        if length > most:
            raise LyingHeader(msg("it has a text of {length:,} bytes", length=length))
        start = self._at
        self._skip(length)
        return self._data[start : start + min(length, 1 << 16)].decode("utf-8", errors="replace")

    def _number(self, form: str) -> Any:
        start = self._at
        self._skip(struct.calcsize("<" + form))
        return struct.unpack_from("<" + form, self._data, start)[0]

    def _skip(self, length: int) -> None:
        if length > self._size - self._at:
            raise LyingHeader(BEYOND)
        self._at += length
