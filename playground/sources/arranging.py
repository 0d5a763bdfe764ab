"""Weights by other names, put where transformers looks for them: a folder of links, made once.

transformers reads ``model.safetensors``, or the shards that ``model.safetensors.index.json`` names, beside config.json,
and nothing else. Files that are called otherwise are linked under those names into a folder of their own in
PLAYGROUND_HOME; nothing is copied or renamed where it lies. Split GGUF files are the import's business.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from playground.catalog.weight_files import INDEX, INDEX_END, WHOLE
from playground.sources.files import put_in_place, staging, storage_errors, write_text
from playground.sources.headers import read_safetensors


def arranged(files: tuple[Path, ...], home: Path) -> tuple[Path, ...]:
    """The same files at places where transformers finds them; ``files`` themselves where it does already.

    Args:
        files: Weights first, as a source brought them, their headers checked.
        home: PLAYGROUND_HOME.

    Raises:
        StorageError: The links can't be made.
    """
    places = _places(files)
    if places is None:
        return files
    folder = _folder(files, home)
    if found := _present(folder, places):
        return found
    with storage_errors(home), staging(home, "arranged") as stage:
        ready = stage / "ready"
        for name, path in places.items():
            link = ready / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.absolute())
        if INDEX not in places and WHOLE not in places:
            write_text(ready / INDEX, json.dumps(_index_of({n: p for n, p in places.items() if _is_shard(n)})))
        put_in_place(ready, folder)
    return tuple(folder / name for name in places)


def already_arranged(files: tuple[Path, ...], home: Path) -> tuple[Path, ...] | None:
    """What ``arranged`` would return without work, None if it would have something to do."""
    places = _places(files)
    return files if places is None else _present(_folder(files, home), places)


def _places(files: tuple[Path, ...]) -> dict[str, Path] | None:
    """Name in the arranged folder → file, weights first; None where nothing has to be arranged."""
    weights = [path for path in files if path.suffix == ".safetensors"]
    config = next((path for path in files if path.name == "config.json"), None)
    if not weights or config is None:
        return None
    index = next((path for path in files if path.name.endswith(INDEX_END)), None)
    top = index.parent if index else weights[0].parent
    usual = index.name == INDEX if index else [path.name for path in weights] == [WHOLE]
    if usual and top == config.parent:
        return None
    if index is None and len(weights) == 1:
        places = {WHOLE: weights[0]}
    else:
        places = {path.relative_to(top).as_posix(): path for path in weights}
    if index:
        places[INDEX] = index
    for path in files:
        if path not in weights and path != index and path.is_relative_to(config.parent):
            places.setdefault(path.relative_to(config.parent).as_posix(), path)
    return places


def _present(folder: Path, places: Mapping[str, Path]) -> tuple[Path, ...] | None:
    links = {folder / name: path.absolute() for name, path in places.items()}
    return tuple(links) if all(link.is_symlink() and link.readlink() == path for link, path in links.items()) else None


def _folder(files: tuple[Path, ...], home: Path) -> Path:
    key = hashlib.sha256("\n".join(str(path.absolute()) for path in files).encode()).hexdigest()[:16]
    return home / "sources" / f"arranged-{key}"


def _is_shard(name: str) -> bool:
    return name.endswith(".safetensors")


def _index_of(shards: Mapping[str, Path]) -> dict[str, object]:
    """The list of tensors that transformers wants beside several files, made from their headers."""
    where = {tensor: name for name, path in shards.items() for tensor in read_safetensors(path).tensors}
    return {"metadata": {}, "weight_map": where}
