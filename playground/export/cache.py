"""Where artifacts lie, by which key they are found, and when one is to be trusted.

An artifact is a folder whose ``artifact.json`` was written last and records every file. The key is a hash of all that
decides what is in it: a changed option or another version of a tool is another folder. Which kernels compute a graph is
in no key: where they are others now, the folder is out of date, and gets a library and a verdict of today's. Imports
neither torch nor transformers: the app process asks it for the state of every model.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import logging
import math
import os
import re
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
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

ROUNDED = ("int8", "int4")
"""Precisions of graphs that the kernels may run."""

KEYED = tuple(f"{isa}-69d2dd893ea0" for isa in building.LEVELS)
"""What keys said of kernels while they did. Such folders are found, and are as good as any."""

DOCUMENT = "artifact.json"
MOST_HOPS = 4
DAMAGED = (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""What reading it raises where somebody else wrote it, or only a part is there."""
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
    return home / "imports" / f"{slug(spec.id)}-{key}"


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

    def keyed(kernels: str) -> Path:
        key = _hash(decides | {"kernels": kernels})
        return home / "artifacts" / f"{slug(spec.id)}-{variant.runtime}-{variant.precision}-{key}"

    # Where there are kernels, rounded weights are laid out for them (``quantization.graph.worth_sums``).
    for_kernels = _for_kernels(variant) and building.identity() != "none"
    folder = keyed("any" if for_kernels else "none")
    if folder.exists() or (_for_kernels(variant) and not for_kernels):
        return folder
    return next((before for before in map(keyed, KEYED) if before.exists()), folder)


def taken_folder(home: Path, spec: ModelSpec, variant: Variant, origin: str) -> Path:
    """Where an artifact lies that was prepared elsewhere; see ``prepared``.

    Args:
        origin: The repository and revision that it is taken from.
    """
    tools = tool_versions((*IMPORT_PACKAGES, *(name for recipe in recipes_for(variant) for name in recipe.packages)))
    decides = {"schema": SCHEMA, "origin": origin, "source": spec.source, "revision": spec.revision, "tools": tools}
    key = _hash(decides | {"precision": variant.precision, "judge": _judge()})
    return home / "artifacts" / f"{slug(spec.id)}-{variant.runtime}-{variant.precision}-taken-{key}"


def folders_of(home: Path, id: str) -> list[Path]:
    """Artifacts and imports of a model, of whatever variant, revision and tools."""
    artifact = re.compile(rf"{re.escape(slug(id))}-[a-z]+-[a-z0-9]+-(?:taken-)?[0-9a-f]{{16}}")
    imported = re.compile(rf"{re.escape(slug(id))}-[0-9a-f]{{16}}")
    found = [path for path in home.glob("artifacts/*") if artifact.fullmatch(path.name)]
    return sorted(found) + sorted(path for path in home.glob("imports/*") if imported.fullmatch(path.name))


def expected_tools(variant: Variant, recipe: str) -> dict[str, str] | None:
    """The versions that would make ``variant`` by ``recipe`` here; None where nothing does it that way."""
    for each in recipes_for(variant):
        if each.name == recipe:
            pinned = {f"{package} (export)": version for package, version in each.pinned.items()}
            return tool_versions((*IMPORT_PACKAGES, *each.packages)) | pinned
    return None


def judge_digest() -> str:
    """What tells verdicts of these texts and limits from others."""
    return _hash(_judge())


def _for_kernels(variant: Variant) -> bool:
    return variant.runtime == "onnx" and variant.precision in ROUNDED


def record_files(folder: Path) -> dict[str, FileRecord]:
    """Every file of the folder but ``artifact.json``; reads them all once."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != DOCUMENT)
    return {str(path.relative_to(folder)): FileRecord.of(path) for path in paths}


def link_files(folder: Path, target: Path, but: Iterable[str]) -> None:
    """Give ``target`` the files of the artifact in ``folder`` without copying them, where the disk can do that.

    Args:
        but: Names of files that are left out.

    Raises:
        OSError: The disk.
    """
    for name in recorded(folder):
        if name not in but:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(folder / name, target / name)
            except OSError:  # a file system without links
                shutil.copy2(folder / name, target / name)


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
    if place == folder and _for_kernels(artifact.variant):
        document["kernels"] = building.identity()
    # Relative, and empty for the folder itself: a home that was moved or copied keeps its artifacts.
    document["path"] = "" if place == folder else str(place.relative_to(home))
    write_text(folder / DOCUMENT, json.dumps(document, indent=1, ensure_ascii=False))


def read(folder: Path, home: Path, hops: int = MOST_HOPS) -> Artifact | None:
    """The artifact, if every file has the recorded size and time, and its kernels are today's; a few ``stat`` calls.

    Args:
        hops: So many folders may lie behind each other; a ring of them is none.
    """
    found = _document(folder, home)
    if found is None or found.outdated:
        return None
    artifact = found.artifact
    if not all(record.untouched(folder / name) for name, record in found.files.items()):
        return None
    place = Path(artifact.path)
    return artifact if place == folder or (hops and read(place, home, hops - 1)) else None


def recorded(folder: Path) -> dict[str, FileRecord]:
    """The files of the artifact in ``folder`` as they were when it was judged; none where there is no such record."""
    try:
        files = json.loads((folder / DOCUMENT).read_text(encoding="utf-8"))["files"]
        return {name: FileRecord.from_json(record) for name, record in files.items()}
    except DAMAGED:
        return {}


def outdated(folder: Path, home: Path) -> Artifact | None:
    """The artifact whose files are as recorded and which was judged by other kernels than there are here now."""
    found = _document(folder, home)
    return found.artifact if found and found.outdated and found.unchanged(folder) else None


def verify(folder: Path, home: Path) -> Artifact | None:
    """Like ``read``, but looks into files whose time changed; an artifact that is not as recorded is thrown away.

    Only for a process that holds the artifact's lock.
    """
    if artifact := read(folder, home):
        return artifact
    found = _document(folder, home)
    if found and not found.outdated and found.unchanged(folder):
        artifact = found.artifact
        if Path(artifact.path) == folder:
            write(folder, home, artifact, record_files(folder))
            return artifact
    elif folder.exists():
        log.warning("%s is not as it was recorded, or out of date; it is thrown away and made again.", folder.name)
    if folder.exists():
        discard(folder)
    return None


@dataclass(frozen=True)
class _Document:
    """What ``artifact.json`` says.

    Attributes:
        kernels: By which it was judged (``building.identity``); None where that does not matter or is unknown.
    """

    artifact: Artifact
    files: dict[str, FileRecord]
    kernels: str | None

    @property
    def outdated(self) -> bool:
        return self.kernels is not None and self.kernels != building.identity()

    def unchanged(self, folder: Path) -> bool:
        return all(record.matches(folder / name) for name, record in self.files.items())


def _document(folder: Path, home: Path) -> _Document | None:
    try:
        document = json.loads((folder / DOCUMENT).read_text(encoding="utf-8"))
        files = {name: FileRecord.from_json(record) for name, record in document["files"].items()}
        artifact = Artifact.from_json(document)
        if not artifact.well_formed() or document.get("until", math.inf) < time.time():
            return None
        place = home / artifact.path if artifact.path else folder
        kernels = _judged_by(document, artifact) if place == folder else None
    except DAMAGED:
        return None
    # A folder that was moved with its home carries the new home's path.
    return _Document(dataclasses.replace(artifact, path=str(place)), files, kernels)


def _judged_by(document: Mapping[str, Any], artifact: Artifact) -> str | None:
    if not _for_kernels(artifact.variant):
        return None
    if "kernels" in document:
        return str(document["kernels"])
    return next((known for known in KEYED if artifact.engine == f"kernels {known.rpartition('-')[0]}"), None)


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


def slug(text: str) -> str:
    """A model's id as folders and files are named after it."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[:60] or "model"
