"""One GGUF file made of the parts of a split one, for a reader that knows single files only.

The first part holds the metadata of all; each part holds its own tensors
(https://github.com/ggml-org/llama.cpp/tree/master/tools/gguf-split). The headers were checked when the parts were
fetched. It copies bytes and knows no models.
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Sequence
from pathlib import Path

from playground.messages import msg
from playground.runtimes.torch.incomplete import IncompleteWeights
from playground.sources.headers import FIELDS, Header, Layout, read_gguf

_VERSION = 3


def merge(parts: Sequence[Path], target: Path) -> Path:
    """Write all parts as one file.

    Args:
        parts: In order, the one with the metadata first.
        target: The new file; it takes as much room as the parts.

    Raises:
        IncompleteWeights: They are not the parts of one model.
    """
    headers = [read_gguf(part) for part in parts]
    _check(parts, headers)
    layouts = [_layout(header) for header in headers]
    alignment = int(headers[0].metadata.get("general.alignment", 32))
    lengths = [part.stat().st_size - layout.data for part, layout in zip(parts, layouts, strict=True)]
    begins = [0]
    for length in lengths[:-1]:
        begins.append(_aligned(begins[-1] + max(length, 0), alignment))
    with target.open("wb") as output:
        tensors = sum(len(header.tensors) for header in headers)
        output.write(b"GGUF" + struct.pack("<IQQ", _VERSION, tensors, layouts[0].fields))
        with parts[0].open("rb") as first:
            first.seek(FIELDS)
            output.write(first.read(layouts[0].infos - FIELDS))
        for part, layout, begin in zip(parts, layouts, begins, strict=True):
            output.write(_moved(part, layout, begin))
        start = _aligned(output.tell(), alignment)
        for part, layout, begin in zip(parts, layouts, begins, strict=True):
            output.write(b"\0" * (start + begin - output.tell()))
            with part.open("rb") as source:
                source.seek(layout.data)
                shutil.copyfileobj(source, output, 1 << 20)
    return target


def _check(parts: Sequence[Path], headers: Sequence[Header]) -> None:
    names = [name for header in headers for name in header.tensors]
    said = headers[0].metadata
    if said.get("split.count", len(parts)) != len(parts):
        raise IncompleteWeights(
            msg(
                "{file} is one of {parts} parts, {found} are there",
                file=parts[0].name,
                parts=said["split.count"],
                found=len(parts),
            )
        )
    for number, (part, header) in enumerate(zip(parts, headers, strict=True)):
        if header.metadata.get("split.no", number) != number:
            raise IncompleteWeights(
                msg("{file} calls itself part {number}", file=part.name, number=header.metadata["split.no"] + 1)
            )
    if len(set(names)) != len(names) or said.get("split.tensors.count", len(names)) != len(names):
        raise IncompleteWeights(
            msg(
                "{file} counts {counted} tensors, its parts hold {found}",
                file=parts[0].name,
                counted=said.get("split.tensors.count"),
                found=len(set(names)),
            )
        )


def _layout(header: Header) -> Layout:
    assert header.layout is not None
    return header.layout


def _moved(part: Path, layout: Layout, begin: int) -> bytes:
    """The descriptions of a part's tensors, which lie ``begin`` bytes further back now."""
    with part.open("rb") as source:
        source.seek(layout.infos)
        text = bytearray(source.read(layout.end - layout.infos))
    for place in layout.offsets:
        (offset,) = struct.unpack_from("<Q", text, place - layout.infos)
        struct.pack_into("<Q", text, place - layout.infos, offset + begin)
    return bytes(text)


def _aligned(place: int, alignment: int) -> int:
    return -(-place // alignment) * alignment
