"""The prebuilt way: ONNX files that the model's own repository brings, taken as they are.

Here is found out which there are, what they truly are, and which of them runs here. Like every other graph they are
compared with torch afterwards, where the source has the weights to compare with.

Repositories name their files by precision (``onnx/model_int8.onnx``, ``model_q4f16.onnx``, ``model_quantized.onnx``
…). A name is a hint for the order of trying only: what a file is, its operators and weight types say, and whether
onnxruntime takes it and a loop of ours can drive it is tried out. Files may be a stranger's: what they are called in an
artifact is decided here, and no name they choose is one that means something there. The module makes no graph and no
verdict on fidelity.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from playground.errors import ExportError, first_line, reason_of
from playground.export.recipes.base import Work
from playground.export.weights import SIDE_FILES
from playground.messages import NOTHING, Translatable, clauses, msg
from playground.runtimes.onnx.file import BadOnnxFile, GraphError, OnnxFile, is_data_file, read_onnx_file
from playground.sources.hub.onnx_names import ENDINGS, INSTEAD, PLACES, base, ending, graph_sets

PREBUILT_PRECISIONS: dict[str, dict[str, str]] = {"int8": {}, "int4": {}, "fp32": {}, "fp16": {}}


@dataclass(frozen=True)
class Prebuilt:
    """One usable set of files.

    Attributes:
        name: The main file as the repository names it, for a reader.
        precision: What it is (int8, int4, fp32, fp16), which may not be what was asked for.
        files: Each file and its name in an artifact's folder.
        size_bytes: Of all files.
    """

    name: str
    precision: str
    files: tuple[tuple[Path, str], ...]
    size_bytes: int


def take_prebuilt(work: Work) -> str:
    """Put the source's best ONNX files into the target. See ``base.Build``."""
    work.progress(msg("looking for ONNX files"), None)
    refused: list[Translatable] = []
    found = find_prebuilt(work.source, work.precision, refused)
    if found is None:
        if refused:
            raise ExportError(clauses(*refused[:3]))
        raise ExportError(msg("none of the ONNX files is {precision}", precision=work.precision))
    place_prebuilt(found, work.source, work.target)
    return found.precision


def find_prebuilt(folder: Path, precision: str, refused: list[Translatable] | None = None) -> Prebuilt | None:
    """The best files in ``folder`` for onnx-``precision`` that onnxruntime loads and the runtime can drive.

    Args:
        folder: A repository's files: config.json, and ONNX files beside it or in ``onnx/``.
        precision: int8, int4, fp32 or fp16. For fp32, a half-precision file is taken if there is no other.
        refused: Gets a line for each file of this precision that can't be used, and why.
    """
    reasons: list[Translatable] = [] if refused is None else refused
    config = _config(folder)
    if config is None:
        if next(_sets(folder), None):
            reasons.append(msg("there are ONNX files, but no config.json that could be read"))
        return None
    found = [candidate for files in _sets(folder) if (candidate := _candidate(folder, files, reasons))]
    for wanted in (precision, INSTEAD.get(precision)):
        for candidate in sorted((each for each in found if each.precision == wanted), key=_order):
            if reason := _why_not(candidate, config):
                reasons.append(msg("{file}: {reason}", file=candidate.name, reason=reason))
            else:
                return candidate
    return None


def place_prebuilt(prebuilt: Prebuilt, folder: Path, target: Path) -> None:
    """Put the files into ``target`` under the names the runtime looks for, tokenizer and config beside them.

    Weights are linked where the file system can, copied where it can't.

    Raises:
        ExportError: The folder has no tokenizer.json, or two files would have one name.
    """
    if not (folder / "tokenizer.json").is_file():
        raise ExportError(
            msg("{folder} holds {file}, but no tokenizer.json", folder=folder.name, file=prebuilt.name),
            msg("Copy it from the model's repository."),
        )
    beside = [(folder / name, name) for name in SIDE_FILES if (folder / name).is_file()]
    for source, name in (*prebuilt.files, *beside):
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        # Also where a disk takes upper and lower case for one. A copy would go through the link that is there.
        if os.path.lexists(place):
            raise ExportError(
                msg("{file} has two files that would be called {name}", file=prebuilt.name, name=name),
                msg("Rename one of them."),
            )
        try:
            os.link(source.resolve(), place)
        except OSError:
            shutil.copyfile(source, place)


def _sets(folder: Path) -> Iterator[tuple[Path, ...]]:
    """Every set of files that by their names make a model."""
    names = [path.relative_to(folder).as_posix() for place in PLACES for path in (folder / place).glob("*.onnx")]
    for files in graph_sets(names):
        yield tuple(folder / name for name in files)


def _candidate(folder: Path, files: tuple[Path, ...], reasons: list[Translatable]) -> Prebuilt | None:
    """What a set of files is, read from them; None, with a reason, where that can't be said or a file is missing."""
    name = files[-1].relative_to(folder).as_posix()
    wanted: list[tuple[Path, str]] = []
    kinds: list[str] = []
    for path in files:
        try:
            file = read_onnx_file(path)
            wanted += [(path, _canonical(path)), *external_files(path, file)]
            kinds.append(_precision(file))
        except (BadOnnxFile, OSError, ExportError) as error:
            reason = error.what if isinstance(error, ExportError) else reason_of(error)
            reasons.append(msg("{file}: {reason}", file=name, reason=reason))
            return None
    precision = min(kinds, key=["int4", "int8", "fp16", "fp32"].index)  # a set is what its coarsest part is
    size = sum(path.stat().st_size for path, _ in wanted)
    return Prebuilt(name, precision, tuple(dict.fromkeys(wanted)), size)


def _precision(file: OnnxFile) -> str:
    bits = file.quantised_bits
    if bits is not None:
        if bits not in (4, 8):
            raise ExportError(msg("its weights have {bits} bits, which no precision here stands for", bits=bits))
        return f"int{bits}"
    if file.float_type == "bfloat16":
        raise ExportError(msg("its weights are bfloat16, for which onnxruntime has hardly a kernel on CPUs"))
    return "fp16" if file.float_type == "float16" else "fp32"


def external_files(path: Path, file: OnnxFile) -> Iterator[tuple[Path, str]]:
    """The files with weights beside ``path``.

    Raises:
        ExportError: One is missing, is said to lie outside the folder, or has a name that is no data file's.
    """
    for location in sorted(file.external):
        place = PurePosixPath(location)
        if place.is_absolute() or ".." in place.parts or "\\" in location or not place.parts:
            raise ExportError(msg("it wants weights from outside its folder ('{location}')", location=location))
        if not is_data_file(location):
            raise ExportError(
                msg("it keeps weights in '{location}', which is not a data file's name", location=location[:80])
            )
        if not (path.parent / place).is_file():
            raise ExportError(msg("its weights ({location}) are missing", location=location))
        yield path.parent / place, place.as_posix()


def _canonical(path: Path) -> str:
    """The name the runtime looks for: without the precision; a merged decoder that stands alone is simply the model."""
    encoder = any(path.parent.glob("encoder_model*.onnx"))
    return f"{base(path.stem)}.onnx" if encoder else "model.onnx"


def _order(candidate: Prebuilt) -> tuple[int, int]:
    endings, its = ENDINGS[candidate.precision], ending(candidate.name)
    return (endings.index(its) if its in endings else len(endings), candidate.size_bytes)


def _why_not(candidate: Prebuilt, config: Mapping[str, Any]) -> Translatable:
    """Why these files can't be run, in one line; empty if they can."""
    # Here, and not above: the app process reads this module for the recipe's name, and needs no onnxruntime.
    import onnxruntime as ort

    from playground.runtimes.onnx.graph import read_graph

    options = ort.SessionOptions()
    options.log_severity_level = 4
    # Only whether there is a kernel for each operator is asked here.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    for path, name in candidate.files:
        if not name.endswith(".onnx"):
            continue
        try:
            session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            if not name.startswith("encoder"):
                read_graph(session, read_onnx_file(path), config)
        except GraphError as error:
            return reason_of(error)
        except MemoryError:
            raise
        except Exception as error:  # onnxruntime's own exceptions have no common ancestor below this one
            return msg("onnxruntime can't load it ({reason})", reason=_said(error, path))
    return NOTHING


def _said(error: Exception, path: Path) -> Translatable:
    """What onnxruntime says, without codes and places on this machine."""
    said = re.sub(r"^\s*\[ONNXRuntimeError\] : \d+ : \w+ : ", "", str(error))
    return first_line(said.replace(str(path), path.name).replace(str(path.parent), "…"))


def _config(folder: Path) -> dict[str, Any] | None:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(config, dict):
        return None
    text = config.get("text_config")
    return text if isinstance(text, dict) else config
