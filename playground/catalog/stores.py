"""GGUF files that Ollama and LM Studio have on this machine, by the names they have there: found, read, never written.

Ollama keeps a manifest a tag (``manifests/HOST/NAMESPACE/NAME/TAG``, JSON with ``layers``), and each layer as
``blobs/sha256-…``; since its second layout the manifests lie in ``manifests-v2`` and the host is called ollama.com. LM
Studio keeps files as ``PUBLISHER/REPO/FILE.gguf``. Where both lie, ``config.stores`` says. It knows names and where
bytes are; whether they can be used, ``sources`` finds out.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playground.catalog.gguf_names import SPLIT, quantisation_in
from playground.catalog.weight_files import is_other_gguf
from playground.errors import SourceError, UnknownModel, UsageError
from playground.messages import msg

SCHEMES = ("ollama", "lmstudio")
MODEL, LICENSE, ADAPTER = (f"application/vnd.ollama.image.{kind}" for kind in ("model", "license", "adapter"))
TENSOR = "application/vnd.ollama.image.tensor"
MANIFESTS = ("manifests-v2", "manifest-v2", "manifests")
HOSTS = ("registry.ollama.ai", "ollama.com")
"""Which host a name without one is of, in either layout."""
MAX_MANIFEST = 1_000_000
MAX_NAMES = 2_000
_PART = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_OLLAMA = re.compile(
    rf"(?:(?:(?P<host>{_PART}(?::\d+)?)/)?(?P<space>{_PART})/)?(?P<name>{_PART})(?::(?P<tag>{_PART}))?"
)
_DIGEST = re.compile(r"sha256[:-](?P<hex>[0-9a-f]{64})")


@dataclass(frozen=True)
class Stored:
    """A model in a store.

    Attributes:
        source: As it can be named: ``ollama:llama3.2:1b``, ``lmstudio:PUBLISHER/REPO/FILE.gguf``.
        path: The GGUF file; of a split one the first part.
        size_bytes: Of all its parts.
        rounding: As names tell it, ``Q4_K_M``; empty where they don't.
        sha256: What the store says the file is; empty where it says nothing.
        legal: Texts of its licence.
    """

    source: str
    path: Path
    size_bytes: int
    rounding: str = ""
    sha256: str = ""
    legal: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Stores:
    """Where both keep their models; empty where they have none, or are not to be looked into."""

    ollama: tuple[Path, ...] = ()
    lmstudio: tuple[Path, ...] = ()

    def found(self) -> list[Stored]:
        """Every language model in them, by name; what can't be read is left out."""
        by_name: dict[str, Stored] = {}
        for each in (*self._all_of_ollama(), *self._all_of_lmstudio()):
            by_name.setdefault(each.source, each)
        return [by_name[name] for name in sorted(by_name)]

    def find(self, source: str) -> Stored:
        """The model of that name.

        Raises:
            UnknownModel: There is none; with the closest names.
            UsageError: It is no name of a store.
            SourceError: It is there, but not as one GGUF file.
        """
        scheme, _, name = source.partition(":")
        found = self._in_ollama(name) if scheme == "ollama" else self._in_lmstudio(name)
        if found is None:
            raise self._unknown(source)
        return found

    def _unknown(self, source: str) -> UnknownModel:
        scheme = source.partition(":")[0]
        known = [each.source for each in self.found() if each.source.startswith(f"{scheme}:")]
        error = UnknownModel(source, known)
        if not known:
            title = "Ollama" if scheme == "ollama" else "LM Studio"
            variable = "OLLAMA_MODELS" if scheme == "ollama" else "PLAYGROUND_LMSTUDIO"
            error.next_step = msg(
                "No model of {program} was found on this machine. Set {variable} to the folder that has them.",
                program=title,
                variable=variable,
            )
        return error

    # -- Ollama ---------------------------------------------------------------------------------------------------

    def _in_ollama(self, name: str) -> Stored | None:
        match = _OLLAMA.fullmatch(name)
        if match is None:
            raise UsageError(
                msg("'{name}' is no name of Ollama's", name=name[:100]),
                msg("Write it as `ollama list` does: ollama:NAME or ollama:NAME:TAG."),
            )
        host, space, tag = match["host"], match["space"] or "library", match["tag"] or "latest"
        for root in self.ollama:
            for place in MANIFESTS:
                for at in (host,) if host else HOSTS:
                    path = root / place / at / space / match["name"] / tag
                    if path.is_file():
                        return _read_manifest(root, path, _ollama_name(at, space, match["name"], tag))
        return None

    def _all_of_ollama(self) -> Iterator[Stored]:
        for root in self.ollama:
            for place in MANIFESTS:
                for path in _files(root / place, depth=4):
                    host, space, name, tag = path.relative_to(root / place).parts
                    source = _ollama_name(host, space, name, tag)
                    if _OLLAMA.fullmatch(source.removeprefix("ollama:")):
                        try:
                            yield _read_manifest(root, path, source)
                        except SourceError:
                            continue

    # -- LM Studio ------------------------------------------------------------------------------------------------

    def _in_lmstudio(self, name: str) -> Stored | None:
        parts = name.split("/")
        if not 2 <= len(parts) <= 3 or not all(re.fullmatch(r"[^\s/\\.][^/\\]{0,200}", part) for part in parts):
            raise UsageError(
                msg("'{name}' is no name of LM Studio's", name=name[:100]),
                msg("Write lmstudio:PUBLISHER/REPO/FILE.gguf; `playground models` lists what is there."),
            )
        wanted = name if name.lower().endswith(".gguf") else f"{name}.gguf"
        folder_too = [each for each in self._all_of_lmstudio() if each.source.rpartition("/")[0] == f"lmstudio:{name}"]
        for each in self._all_of_lmstudio():
            if each.source == f"lmstudio:{wanted}":
                return each
        if len(folder_too) > 1:
            raise UsageError(
                msg("lmstudio:{name} has {n} files", name=name, n=len(folder_too)),
                msg("Name one of them: {names}.", names=[each.source for each in folder_too]),
            )
        return folder_too[0] if folder_too else None

    def _all_of_lmstudio(self) -> Iterator[Stored]:
        for root in self.lmstudio:
            for path in _files(root, depth=3):
                if path.suffix.lower() != ".gguf" or is_other_gguf(path.name):
                    continue
                split = SPLIT.search(path.stem)
                if split and not split[0].startswith("-00001-"):
                    continue
                beside = list(path.parent.iterdir()) if split else [path]
                parts = [each for each in beside if SPLIT.sub("", each.stem) == SPLIT.sub("", path.stem)]
                legal = tuple(
                    sorted(p for p in path.parent.iterdir() if p.name.upper().startswith(("LICENSE", "NOTICE")))
                )
                yield Stored(
                    f"lmstudio:{path.relative_to(root).as_posix()}",
                    path,
                    sum(each.stat().st_size for each in parts),
                    quantisation_in(path.name),
                    legal=legal,
                )


def _ollama_name(host: str, space: str, name: str, tag: str) -> str:
    """As ``ollama list`` writes it: without what is usual."""
    if host not in HOSTS:
        return f"ollama:{host}/{space}/{name}:{tag}"
    return f"ollama:{name}:{tag}" if space == "library" else f"ollama:{space}/{name}:{tag}"


def _read_manifest(root: Path, path: Path, source: str) -> Stored:
    """
    Raises:
        SourceError: It is no manifest of one GGUF file that is there.
    """
    document = _json(path)
    layers = [layer for layer in _list(document.get("layers")) if isinstance(layer, dict)]
    kinds = [str(layer.get("mediaType", "")).partition(";")[0].strip() for layer in layers]
    models = [layer for layer, kind in zip(layers, kinds, strict=True) if kind == MODEL]
    if len(models) != 1:
        what = msg("{source} is kept as single tensors, not as a GGUF file", source=source)
        other = msg("{source} has no model in its manifest", source=source)
        raise SourceError(
            what if TENSOR in kinds else other, msg("`ollama pull` it again, or name its repository as hub:OWNER/NAME.")
        )
    if ADAPTER in kinds:
        raise SourceError(
            msg("{source} is an adapter on another model, which is not applied here", source=source),
            msg("Name the model that it adapts."),
        )
    blob = _blob(root, models[0])
    if blob is None:
        raise SourceError(
            msg("{source}: the file that its manifest names is not there", source=source),
            msg("`ollama pull {name}` fetches it.", name=source.removeprefix("ollama:")),
        )
    legal = [_blob(root, layer) for layer, kind in zip(layers, kinds, strict=True) if kind == LICENSE]
    digest = _DIGEST.fullmatch(str(models[0].get("digest")))
    config = document.get("config")
    told = _json(_blob(root, config)) if isinstance(config, dict) else {}
    rounding = told.get("file_type")
    return Stored(
        source,
        blob,
        blob.stat().st_size,
        rounding if isinstance(rounding, str) else quantisation_in(path.name),
        digest["hex"] if digest else "",
        tuple(each for each in legal if each),
    )


def _blob(root: Path, layer: Mapping[str, Any]) -> Path | None:
    """The file of a layer, if it is there: a digest is a name of 64 digits, never a way out of the folder."""
    digest = _DIGEST.fullmatch(str(layer.get("digest")))
    path = root / "blobs" / f"sha256-{digest['hex']}" if digest else None
    return path if path and path.is_file() else None


def _json(path: Path | None) -> dict[str, Any]:
    """A small JSON object; empty where there is none."""
    try:
        if path is None or path.stat().st_size > MAX_MANIFEST:
            return {}
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _files(root: Path, depth: int) -> list[Path]:
    """Files exactly so many levels below ``root``, the first of many."""
    found: list[Path] = []
    for place, folders, files in os.walk(root):
        level = len(Path(place).relative_to(root).parts)
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if level < depth - 1 else []
        if level == depth - 1:
            found += [Path(place, name) for name in sorted(files) if not name.startswith(".")]
        if len(found) >= MAX_NAMES:
            break
    return found[:MAX_NAMES]
