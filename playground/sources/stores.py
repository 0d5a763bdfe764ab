"""``ollama:`` and ``lmstudio:`` sources: a GGUF file that another program keeps, used where it lies and never changed.

Ollama's files have no name but their checksum. What reads a GGUF goes by the file's ending, so a link with one is put
into PLAYGROUND_HOME. Where a model lies, ``catalog.stores`` has found out: ``ModelSpec.file``.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from playground.errors import SourceError
from playground.messages import msg
from playground.records import ModelSpec
from playground.sources import local
from playground.sources.files import Progress, storage_errors


def present(spec: ModelSpec, home: Path) -> tuple[tuple[Path, ...], str] | None:
    """The files, if they were hashed before and are untouched since."""
    if not spec.file or not Path(spec.file).is_file():
        return None
    place = _place(spec, home)
    return local.present(str(place), home) if place.is_file() else None


def fetch(spec: ModelSpec, home: Path, progress: Progress) -> tuple[tuple[Path, ...], str]:
    """Check what the store has, and take its checksum. See ``sources.fetch``.

    Raises:
        SourceError: The store has it no more.
        ChecksumError: It is not what the store says it is.
        StorageError: The link can't be made.
    """
    if not spec.file or not Path(spec.file).is_file():
        raise SourceError(
            msg("{source} is not on this machine any more", source=spec.source),
            msg("Fetch it again with the program that kept it; `playground models` lists what is there."),
        )
    place = _place(spec, home)
    if place != Path(spec.file) and not place.is_file():
        with storage_errors(home):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.unlink(missing_ok=True)
            place.symlink_to(Path(spec.file).absolute())
    return local.fetch(spec, str(place), home, progress)


def _place(spec: ModelSpec, home: Path) -> Path:
    """Where it is read: the file itself, or a link to it that has a GGUF's name."""
    file = Path(spec.file)
    if file.suffix.lower() == ".gguf":
        return file
    key = hashlib.sha256(str(file.absolute()).encode()).hexdigest()[:16]
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", spec.source.partition(":")[2])[-80:]
    return home / "sources" / f"store-{key}" / f"{name}.gguf"
