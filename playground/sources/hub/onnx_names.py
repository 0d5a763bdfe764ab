"""How repositories name ready-made ONNX files: which files make a model together, and what their names promise.

A name is a hint: what to fetch where there is nothing else, what to look into first where there is much. What a file
is, only its content says (``export/recipes/prebuilt.py``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

PLACES = (".", "onnx")
"""Where repositories keep their ONNX files, in the order of looking."""

LAYOUTS = (
    ("encoder_model", "decoder_model_merged"),
    ("encoder_model", "decoder_model", "decoder_with_past_model"),
    ("model",),
    ("decoder_model_merged",),
)
"""The files that make a model, without what a precision adds to their names. Where there is an encoder, a decoder alone
is no model."""

ENDINGS = {
    "int8": ("_int8", "_quantized", "", "_uint8"),
    "int4": ("_q4", "_int4", "", "_q4f16", "_bnb4"),
    "fp32": ("", "_fp32"),
    "fp16": ("_fp16", ""),
}
"""Endings of file names by precision, the best first: on a CPU, half-precision arithmetic around int4 weights is slower
than fp32. Other endings are looked at after these."""

INSTEAD = {"fp32": "fp16"}
"""What may serve where there is nothing else; the artifact must then be called what it is."""

_BASES = sorted({part for layout in LAYOUTS for part in layout}, key=len, reverse=True)


def graph_sets(names: Iterable[str]) -> Iterator[tuple[str, ...]]:
    """Every set of files that by their names make a model.

    Args:
        names: Paths in the repository or folder, with ``/``.
    """
    paths = [PurePosixPath(name) for name in names if name.endswith(".onnx")]
    for place in PLACES:
        stems = {path.stem for path in paths if path.parent == PurePosixPath(place)}
        has_encoder = any(stem.startswith("encoder_model") for stem in stems)
        for layout in LAYOUTS:
            if has_encoder != (layout[0] == "encoder_model"):
                continue
            endings = {stem.removeprefix(layout[0]) for stem in stems if stem.startswith(layout[0])}
            for ending in sorted(ending for ending in endings if re.fullmatch(r"(_[A-Za-z0-9]+)?", ending)):
                if all(f"{part}{ending}" in stems for part in layout):
                    yield tuple(str(PurePosixPath(place) / f"{part}{ending}.onnx") for part in layout)


def base(stem: str) -> str:
    """A file's name without what a precision added: ``decoder_model_merged_int8`` → ``decoder_model_merged``."""
    return next(part for part in _BASES if stem.startswith(part))


def ending(name: str) -> str:
    """What a precision added: ``onnx/model_q4.onnx`` → ``_q4``."""
    stem = PurePosixPath(name).stem
    return stem.removeprefix(base(stem))


def precision_files(names: Iterable[str], precision: str) -> tuple[str, ...]:
    """The files to fetch for a precision where only names are known: one set of graphs, and the weights beside them.

    A plain name (``model.onnx``) promises fp32 and may be anything: it comes last for the other precisions.
    """
    every = sorted(set(names))
    sets = list(graph_sets(every))
    for wanted in filter(None, (precision, INSTEAD.get(precision))):
        known = sorted(ENDINGS.get(wanted, ()), key=lambda each: each == "" and wanted != "fp32")
        for each in known:
            for files in sets:
                if ending(files[-1]) == each:
                    return tuple(name for name in every if name.startswith(files))
    return ()
