"""Where artifacts lie, by which key they are found, and when one is to be trusted.

An artifact is a folder whose ``artifact.json`` was written last and records every file. The key is a hash of all that
decides what is in it: a changed option or another version of a tool is another folder. Imports neither torch nor
transformers: the app process asks it for the state of every model.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import logging
import math
import re
import time
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from playground.export import fidelity, passages
from playground.export.recipes.base import Recipe
from playground.export.recipes.registry import RECIPES
from playground.kernels import building
from playground.records import Artifact, ModelSpec, Variant
from playground.sources.files import FileRecord, discard, write_text

log = logging.getLogger(__name__)

SCHEMA = 2
"""Raise it when the code here makes something else of the same inputs."""

DOCUMENT = "artifact.json"
IMPORT_PACKAGES = ("transformers", "tokenizers", "torch", "gguf", "safetensors")


@functools.cache
def tool_version(package: str) -> str:
    """The installed version, or ``none``."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def tool_versions(packages: Iterable[str]) -> dict[str, str]:
    return {package: tool_version(package) for package in packages}


def recipes_for(variant: Variant) -> tuple[Recipe, ...]:
    """What will be tried for this variant, in order; nothing for torch, which runs the import itself."""
    if variant.runtime != "onnx":
        return ()
    return tuple(recipe for recipe in RECIPES if variant.precision in recipe.options)


def import_folder(home: Path, spec: ModelSpec, revision: str) -> Path:
    """Where the import of these weights lies; all variants of a model share it."""
    key = _hash({"schema": SCHEMA, "revision": revision, "tools": tool_versions(IMPORT_PACKAGES)})
    return home / "imports" / f"{_slug(spec.id)}-{key}"


def artifact_folder(home: Path, spec: ModelSpec, variant: Variant, revision: str) -> Path:
    """Where the artifact of this variant lies; torch's is a verdict on the import, which it runs as it is."""
    imported = import_folder(home, spec, revision)
    recipes = [
        {
            "name": recipe.name,
            "options": dict(recipe.options[variant.precision]),
            "tools": tool_versions(recipe.packages) | dict(recipe.pinned),
        }
        for recipe in recipes_for(variant)
    ]
    decides = {"import": imported.name, "precision": variant.precision, "recipes": recipes, "judge": _judge()}
    key = _hash(decides | {"kernels": building.identity()})
    return home / "artifacts" / f"{_slug(spec.id)}-{variant.runtime}-{variant.precision}-{key}"


def record_files(folder: Path) -> dict[str, FileRecord]:
    """Every file of the folder but ``artifact.json``; reads them all once."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != DOCUMENT)
    return {str(path.relative_to(folder)): FileRecord.of(path) for path in paths}


def describe(folder: Path, records: Mapping[str, FileRecord], **known: Any) -> Artifact:
    """An artifact made of these files; ``known`` are the fields that files don't tell."""
    lines = "".join(f"{record.sha256}  {name}\n" for name, record in records.items())
    return Artifact(
        path=str(folder),
        sha256=hashlib.sha256(lines.encode()).hexdigest(),
        size_bytes=sum(record.size for record in records.values()),
        **known,
    )


def write(
    folder: Path, home: Path, artifact: Artifact, records: Mapping[str, FileRecord], lasts_s: float | None = None
) -> None:
    """Write ``artifact.json``, the last file of an artifact; after ``lasts_s`` seconds it counts as missing."""
    place = Path(artifact.path)
    document = {**artifact.to_json(), "files": {name: record.to_json() for name, record in records.items()}}
    if lasts_s is not None:
        document["until"] = time.time() + lasts_s
    # Relative, and empty for the folder itself: a home that was moved or copied keeps its artifacts.
    document["path"] = "" if place == folder else str(place.relative_to(home))
    write_text(folder / DOCUMENT, json.dumps(document, indent=1, ensure_ascii=False))


def read(folder: Path, home: Path) -> Artifact | None:
    """The artifact, if every file has the recorded size and time; a few ``stat`` calls."""
    found = _document(folder, home)
    if found is None:
        return None
    artifact, files = found
    if not all(record.untouched(folder / name) for name, record in files.items()):
        return None
    place = Path(artifact.path)
    return artifact if place == folder or read(place, home) else None


def recorded(folder: Path) -> dict[str, FileRecord]:
    """The files of the artifact in ``folder`` as they were when it was judged; none where there is no such record."""
    try:
        files = json.loads((folder / DOCUMENT).read_text(encoding="utf-8"))["files"]
        return {name: FileRecord.from_json(record) for name, record in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def verify(folder: Path, home: Path) -> Artifact | None:
    """Like ``read``, but looks into files whose time changed; an artifact that is not as recorded is thrown away.

    Only for a process that holds the artifact's lock.
    """
    if artifact := read(folder, home):
        return artifact
    found = _document(folder, home)
    if found and all(record.matches(folder / name) for name, record in found[1].items()):
        artifact = found[0]
        if Path(artifact.path) == folder:
            write(folder, home, artifact, record_files(folder))
            return artifact
    elif folder.exists():
        log.warning("%s is not as it was recorded, or out of date; it is thrown away and made again.", folder.name)
    if folder.exists():
        discard(folder)
    return None


def _document(folder: Path, home: Path) -> tuple[Artifact, dict[str, FileRecord]] | None:
    try:
        document = json.loads((folder / DOCUMENT).read_text(encoding="utf-8"))
        files = {name: FileRecord.from_json(record) for name, record in document["files"].items()}
        artifact = Artifact.from_json(document)
        if document.get("until", math.inf) < time.time():
            return None
        place = home / artifact.path if artifact.path else folder
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    # A folder that was moved with its home carries the new home's path.
    return dataclasses.replace(artifact, path=str(place)), files


def _judge() -> dict[str, Any]:
    """What the verdict depends on: other thresholds or other texts judge anew."""
    quick = [passages.QUICK_PROMPT, passages.QUICK_STEPS]
    read = [(text.kind, text.digest, text.prompt, text.greedy) for text in passages.TEXTS]
    exact = [fidelity.EXACT_MEAN_KL, fidelity.FAITHFUL_MEAN_KL, fidelity.FAITHFUL_TOP1, fidelity.LEAST_POSITIONS]
    return {
        "texts": [*read, passages.STEPS, *quick],
        "limits": [*exact, fidelity.SIGMAS, fidelity.OVERTURNED, fidelity.UNEVEN, fidelity.KIND],
        "worst": {precision: [limit.mean_kl, limit.error] for precision, limit in fidelity.WORST.items()},
    }


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[:60] or "model"
