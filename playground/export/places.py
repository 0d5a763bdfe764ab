"""Where what is prepared lies: artifacts, imports and records under PLAYGROUND_HOME, downloads in the Hub's cache.

A place is a name such as ``artifacts/FOLDER`` or ``hub/models--OWNER--NAME/blobs/…``; nothing that leads elsewhere is
one. The module knows folders and files, and whose they are by model; it does not know why anybody asks.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from playground.catalog.hub_names import hub_name
from playground.export import cache

_HOME_PLACE = re.compile(r"(?:artifacts|imports|sources)/[A-Za-z0-9_][A-Za-z0-9._-]*")
_HUB_PLACE = re.compile(r"hub/models--[\w.-]+(?:/[\w+.-]+)+")


def is_place(name: str) -> bool:
    """Whether a name is a place."""
    written = _HOME_PLACE.fullmatch(name) or _HUB_PLACE.fullmatch(name)
    return bool(written) and not {".", ".."} & set(name.split("/"))


def path_of(home: Path, place: str) -> Path:
    """Where it is."""
    return hub_cache() / place.removeprefix("hub/") if place.startswith("hub/") else home / place


def hub_cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser()


def sizes(home: Path, model: str, source: str, revision: str) -> dict[str, int]:
    """What lies there of a model: places, and their bytes; what has two names counts once.

    Args:
        model: Its id.
        source, revision: Its spec's.
    """
    found = [f"{path.parent.name}/{path.name}" for path in cache.folders_of(home, model)]
    scheme, _, location = source.partition(":")
    if scheme == "pypi":
        found.append(f"sources/{revision.removeprefix('sha256:')[:16]}")
    name = hub_name(location) if scheme == "hub" else None
    root = hub_cache()
    if name:
        records = sorted(home.glob("sources/hub-*.json"))
        found += [f"sources/{path.name}" for path in records if _repo(path) == name.repo]
        folder = root / f"models--{name.repo.replace('/', '--')}"
        found += sorted(
            f"hub/{path.relative_to(root).as_posix()}"
            for path in folder.rglob("*")
            if path.is_file() and not path.is_symlink()
        )
    seen: set[tuple[int, int]] = set()
    paths = {place: path_of(home, place) for place in found if is_place(place)}
    return {place: _bytes(path, seen) for place, path in paths.items() if path.exists()}


def _bytes(path: Path, seen: set[tuple[int, int]]) -> int:
    total = 0
    files = [path] if path.is_file() else [Path(at, name) for at, _, names in os.walk(path) for name in names]
    for file in files:
        with contextlib.suppress(OSError):
            stat = file.lstat()
            if (stat.st_dev, stat.st_ino) not in seen:
                seen.add((stat.st_dev, stat.st_ino))
                total += stat.st_size
    return total


def _documents(home: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    for path in home.glob(f"artifacts/*/{cache.DOCUMENT}"):
        with contextlib.suppress(OSError, ValueError, RecursionError):
            document = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(document, dict):
                yield path.parent, document


def leaned_on(home: Path, but: Collection[str]) -> set[str]:
    """Places on which artifacts stand that stay."""
    return {str(told.get("path")) for folder, told in _documents(home) if f"artifacts/{folder.name}" not in but}


def models_of(home: Path) -> set[str]:
    """Models of which there is an artifact."""
    variants = (told.get("variant") for _, told in _documents(home))
    return {str(variant.get("model")) for variant in variants if isinstance(variant, dict)}


def needed_by_others(home: Path, shared: Collection[str]) -> set[str]:
    """Files of the Hub's cache that records of other models name as well."""
    root, needed = hub_cache(), set()
    for path in home.glob("sources/hub-*.json"):
        if f"sources/{path.name}" in shared:
            continue
        with contextlib.suppress(OSError, *cache.DAMAGED):
            for file in json.loads(path.read_text(encoding="utf-8"))["files"]:
                real = Path(file).resolve()
                if real.is_relative_to(root.resolve()):
                    needed.add(f"hub/{real.relative_to(root.resolve()).as_posix()}")
    return needed


def _repo(record: Path) -> str:
    try:
        return str(json.loads(record.read_text(encoding="utf-8"))["repo"])
    except cache.DAMAGED:
        return ""


def unlink_cached(path: Path) -> None:
    """Remove a file of the Hub's cache, its names in snapshots, and folders that are empty then."""
    folder = next(each for each in path.parents if each.name.startswith("models--"))
    for link in folder.glob("snapshots/**/*"):
        if link.is_symlink() and link.resolve() == path.resolve():
            link.unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    for at, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):  # most are not empty
            Path(at).rmdir()
