"""Preparation of ``fake:`` models: no process, only the delays, the failures and the bytes that their source asks for.

The fields it reads are ``prepare_s``, ``prepare_error`` and ``disk_mb`` (docs/design.md, "The fake runtime"); the rest
is the fake runtime's business.
"""

from __future__ import annotations

import time
from pathlib import Path
from urllib.parse import parse_qs

from playground.errors import ExportError, Stopped
from playground.export.cache import slug
from playground.messages import foreign, msg
from playground.records import Artifact, ModelSpec, Variant
from playground.sources.files import Cancelled, Progress


def prepare(spec: ModelSpec, variant: Variant, home: Path, progress: Progress, cancelled: Cancelled) -> Artifact:
    """Wait as long as the source says, then fail as it says or give an artifact without files.

    Raises:
        ExportError: The source has a ``prepare_error``; that is its text.
        Stopped: Called off while waiting.
    """
    seconds, error = script(spec)
    start = time.monotonic()
    while (passed := time.monotonic() - start) < seconds:
        progress(msg("preparing"), passed / seconds)
        if cancelled():
            raise Stopped(msg("Preparing {model} was called off", model=spec.name))
        time.sleep(min(0.05, seconds - passed))
    if disk_mb := _disk_mb(spec):
        folder = _folder(spec, variant, home)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "weights").write_bytes(bytes(int(disk_mb * 1e6)))
    if error:
        raise ExportError(
            msg("{model}: {reason}", model=spec.name, reason=foreign(error)), msg("This model is scripted to fail.")
        )
    return artifact(spec, variant, home)


def script(spec: ModelSpec) -> tuple[float, str]:
    """The scripted delay in seconds, and the error text or nothing."""
    fields = parse_qs(spec.source.removeprefix("fake:"), keep_blank_values=True)
    return float(fields.get("prepare_s", ["0"])[-1] or 0), fields.get("prepare_error", [""])[-1]


def is_there(spec: ModelSpec, variant: Variant, home: Path) -> bool:
    """Whether what a preparation left is still there."""
    return not _disk_mb(spec) or _folder(spec, variant, home).is_dir()


def _disk_mb(spec: ModelSpec) -> float:
    fields = parse_qs(spec.source.removeprefix("fake:"), keep_blank_values=True)
    return float(fields.get("disk_mb", ["0"])[-1] or 0)


def _folder(spec: ModelSpec, variant: Variant, home: Path) -> Path:
    return home / "artifacts" / f"{slug(spec.id)}-{variant.runtime}-{variant.precision}-{0:016x}"


def artifact(spec: ModelSpec, variant: Variant, home: Path) -> Artifact:
    """What a prepared fake model is: a name."""
    path = str(home / "fake" / spec.id)
    return Artifact(variant=variant, path=path, recipe="none", revision=spec.revision, sha256="", size_bytes=0)
