"""Artifacts that somebody prepared elsewhere: what is told of them in their repository, and how they are taken.

A repository's ``prepared.json`` lists each artifact with the SHA-256 of its files, the versions of the tools that made
it, and the verdict of its check. Weights, graph and tokenizer are taken as data, after the same looks that a stranger's
ONNX files get; a library never is: kernels are compiled or taken from the package here, and tried here. The verdict is
taken as it was recorded, and the artifact says where. Whatever does not fit is a reason to prepare it here instead.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playground.catalog.hub_names import HubName, hub_name
from playground.errors import ConfigError, FidelityError, PlaygroundError, Stopped, StorageError, reason_of
from playground.export import cache
from playground.messages import NOTHING, Translatable, msg
from playground.records import Artifact, ModelSpec, Record, Variant
from playground.sources.files import Cancelled, Progress, locked, of_the_disk, put_in_place, staging, storage_errors
from playground.sources.hub.fetch import fetch_files

KIND = "open-model-playground prepared artifacts"
FORMAT = 1
MANIFEST = "prepared.json"
MAX_MANIFEST = 4_000_000
GRAPH = "model.onnx"
OWN = ("kernels.so", "kernels.program", cache.DOCUMENT)
"""Of an artifact, what is made anew wherever it runs."""
UNREADABLE = msg("its {file} can't be read", file=MANIFEST)
_SHA256 = re.compile(r"[0-9a-f]{64}")
BESIDE = ("genai_config.json",)
"""What an artifact has beside graphs, weights and ``SIDE_FILES``."""


@dataclass(frozen=True)
class Offered(Record):
    """One artifact as its repository tells of it.

    Attributes:
        folder: Where it lies in the repository.
        artifact: As it was made, without a path.
        source, upstream: Of the model.
        schema, judge: What ``artifact_folder`` hashes of the code that made and judged it.
        files: Size and SHA-256 of each.
        paper: Its part of the repository's README.
        licence: The licence's id, for the README's front matter.
    """

    folder: str
    artifact: Artifact
    source: str
    upstream: str
    schema: int
    judge: str
    files: dict[str, tuple[int, str]]
    paper: str = ""
    licence: str = ""


@dataclass(frozen=True)
class Manifest(Record):
    """``prepared.json``: artifacts by variant."""

    artifacts: dict[str, Offered] = field(default_factory=dict)
    kind: str = KIND
    format: int = FORMAT


class NotTaken(Exception):
    """Why an artifact is prepared here after all."""

    def __init__(self, reason: Translatable) -> None:
        super().__init__(reason)
        self.reason = reason


def origin_of(text: str, where: str) -> HubName:
    """``OWNER/NAME[#REVISION]``.

    Raises:
        ConfigError: It is none.
    """
    name = hub_name(text.removeprefix("hub:"))
    if name is None or name.tag:
        raise ConfigError(
            msg("{place} is '{value}', which is not OWNER/NAME[#REVISION]", place=where, value=text),
            msg("Copy the name from the repository's page."),
        )
    return name


def can_be_taken(spec: ModelSpec, variant: Variant) -> bool:
    """Whether such a variant is prepared at all, and can be looked at without running it."""
    return variant.runtime == "onnx" and not spec.remote


def folder_of(home: Path, spec: ModelSpec, variant: Variant, origin: str) -> Path:
    """Where an artifact of ``origin`` lies here; other versions of what it is held against are another folder."""
    return cache.taken_folder(home, spec, variant, origin)


def offer(spec: ModelSpec, artifact: Artifact, folder: str, paper: str, licence: str) -> Offered:
    """What is told of ``artifact``."""
    files = {
        name: (record.size, record.sha256)
        for name, record in cache.recorded(Path(artifact.path)).items()
        if name not in OWN
    }
    return Offered(
        folder=folder,
        artifact=dataclasses.replace(artifact, path=""),
        source=spec.source,
        upstream=spec.upstream,
        schema=cache.SCHEMA,
        judge=cache.judge_digest(),
        files=files,
        paper=paper,
        licence=licence,
    )


def read_manifest(content: bytes) -> Manifest:
    """``prepared.json``, as it was written by whomever.

    Raises:
        NotTaken: It is none, or of another format.
    """
    try:
        document = json.loads(content)
        if document["kind"] != KIND or document["format"] != FORMAT:
            raise NotTaken(msg("its {file} is of another format", file=MANIFEST))
        return Manifest({str(name): _offered(each) for name, each in document["artifacts"].items()})
    except cache.DAMAGED as error:
        raise NotTaken(UNREADABLE) from error


def _offered(value: Mapping[str, Any]) -> Offered:
    files = {str(name): (int(size), str(digest)) for name, (size, digest) in value["files"].items()}
    if not all(size >= 0 and _SHA256.fullmatch(digest) for size, digest in files.values()):
        raise ValueError("no size or no digest of a file")
    texts = {key: str(value.get(key, "")) for key in ("source", "upstream", "judge", "paper", "licence")}
    return Offered(
        folder=str(value["folder"]),
        artifact=Artifact.from_json(value["artifact"]),
        schema=int(value["schema"]),
        files=files,
        **texts,
    )


@dataclass(frozen=True)
class _Taking:
    """What every step needs."""

    spec: ModelSpec
    variant: Variant
    home: Path
    name: HubName
    progress: Progress
    cancelled: Cancelled

    def fetch(self, commit: str, files: tuple[str, ...], most: int) -> tuple[dict[str, tuple[Path, str]], str]:
        return fetch_files(
            dataclasses.replace(self.name, revision=commit or self.name.revision),
            files,
            most,
            self.progress,
            self.cancelled,
        )


def take(
    spec: ModelSpec, variant: Variant, home: Path, origin: str, *, progress: Progress, cancelled: Cancelled
) -> Artifact:
    """Fetch the artifact of ``variant`` from ``origin``, prove it, and put it in its place.

    Raises:
        NotTaken: It is not there, damaged, made by other versions or of another model, or does not run here.
        StorageError: The disk.
        Stopped: ``cancelled`` said so.
    """
    taking = _Taking(spec, variant, home, origin_of(origin, "prepared_from"), progress, cancelled)
    folder = folder_of(home, spec, variant, origin)

    def waiting() -> None:
        progress(msg("waiting for another process"), None)

    with locked(home, folder.name, cancelled, waiting), storage_errors(home):
        if artifact := cache.verify(folder, home):
            return artifact
        try:
            return _taken(taking, folder)
        except (StorageError, Stopped):
            raise
        except PlaygroundError as error:
            raise NotTaken(error.what) from error


def _taken(taking: _Taking, folder: Path) -> Artifact:
    spec, variant, home = taking.spec, taking.variant, taking.home
    taking.progress(msg("looking for a prepared artifact"), None)
    found, commit = taking.fetch("", (MANIFEST,), MAX_MANIFEST)
    offered = offered_for(spec, variant, found[MANIFEST][0].read_bytes())
    # The files are of the very commit whose list was read, even if somebody writes there meanwhile.
    paths = {f"{offered.folder}/{file}": file for file in offered.files}
    fetched, _ = taking.fetch(commit, tuple(paths), sum(size for size, _ in offered.files.values()))
    for path, (_, digest) in fetched.items():
        if digest != offered.files[paths[path]][1]:
            raise NotTaken(msg("{file} is not what its list promises", file=paths[path]))
    with staging(home, "taken") as stage:
        for path, (source, _) in fetched.items():
            _link(source.resolve(), stage / paths[path])
        known = _proven(taking, offered, stage, commit)
        records = cache.record_files(stage)
        cache.write(stage, home, cache.describe(stage, records, **known), records)
        put_in_place(stage, folder)
    artifact = cache.read(folder, home)
    if artifact is None:
        raise NotTaken(msg("it changed while it was put in place"))
    return artifact


def offered_for(spec: ModelSpec, variant: Variant, manifest: bytes) -> Offered:
    """What a repository with this ``prepared.json`` has for ``variant``, as far as that can be told from it.

    Raises:
        NotTaken: Nothing, or nothing that would be made here.
    """
    offered = read_manifest(manifest).artifacts.get(str(variant))
    if offered is None:
        raise NotTaken(msg("it has none of {variant}", variant=variant))
    # A recipe of another version is no mistake of the list: it is told by its name.
    known = dataclasses.replace(offered.artifact, recipe="none")
    if not dataclasses.replace(offered, artifact=known).well_formed() or not isinstance(offered.artifact.recipe, str):
        raise NotTaken(UNREADABLE)
    if reason := _unfit(spec, variant, offered):
        raise NotTaken(reason)
    return offered


def _unfit(spec: ModelSpec, variant: Variant, offered: Offered) -> Translatable:
    """Why what is offered is not what would be made here; empty where it is."""
    artifact = offered.artifact
    if artifact.variant != variant or offered.source != spec.source:
        return msg("what it calls {variant} is made of another model", variant=variant)
    pinned = spec.revision if spec.revision.startswith("sha256:") or len(spec.revision) == 40 else ""
    if pinned and not artifact.revision.startswith(pinned):
        return msg("it was made of another revision of the weights")
    if offered.schema != cache.SCHEMA or offered.judge != cache.judge_digest():
        return msg("it was made or judged by another version of the playground")
    wanted = cache.expected_tools(variant, artifact.recipe)
    if wanted is None:
        return msg("nothing here makes {variant} by the recipe {recipe}", variant=variant, recipe=artifact.recipe)
    for package, version in wanted.items():
        if _public(artifact.tool_versions.get(package, "none")) != _public(version):
            return msg(
                "it was made with {package} {theirs}, here is {ours}",
                package=package,
                theirs=artifact.tool_versions.get(package, "none"),
                ours=version,
            )
    if artifact.fidelity is None or artifact.fidelity.verdict == "rejected":
        return msg("no comparison with the original is recorded for it")
    return _misnamed(offered)


def _misnamed(offered: Offered) -> Translatable:
    """Which of its files has a name that no artifact's data has: a library, a pickle, a path."""
    from playground.export.weights import SIDE_FILES
    from playground.runtimes.onnx.file import is_data_file

    if GRAPH not in offered.files:
        return msg("it has no {file}", file=GRAPH)
    folder = offered.folder
    if any(part in ("", ".", "..") for part in folder.split("/")):
        return msg("its folder is called '{folder}'", folder=folder)
    for name in offered.files:
        if not (name == GRAPH or name in (*SIDE_FILES, *BESIDE) or ("/" not in name and is_data_file(name))):
            return msg("it brings {file}, which no artifact needs", file=name)
    return NOTHING


def _proven(taking: _Taking, offered: Offered, stage: Path, commit: str) -> dict[str, Any]:
    """Look into the files, put kernels beside them, run it once; the fields of the artifact that it is here.

    Raises:
        NotTaken: It does not run.
        PlaygroundError: A file can't be what it says.
    """
    from playground.export import kernels
    from playground.export.recipes.prebuilt import external_files
    from playground.runtimes.onnx.file import read_onnx_file
    from playground.sources import limits

    limits.check(taking.spec.name, sorted(stage.iterdir()))
    made = offered.artifact
    try:
        list(external_files(stage / GRAPH, read_onnx_file(stage / GRAPH)))
        by_kernels = made.engine.startswith("kernels")
        with kernels.ahead(taking.home, by_kernels) as ready:
            note = kernels.attach(stage, taking.progress, ready) if by_kernels else made.engine_note
        taking.progress(msg("trying it"), None)
        _run_once(stage)
    except PlaygroundError:
        raise
    except Exception as error:  # onnxruntime's own exceptions have no common ancestor below this one
        if disk := of_the_disk(error):
            raise disk from error
        raise NotTaken(msg("it does not run here ({reason})", reason=reason_of(error))) from error
    told = msg(
        "Prepared elsewhere and taken from {repo} (commit {commit}). Its fidelity is what was measured there, computed "
        "by {engine}; here it was not compared with the original again.",
        repo=taking.name.repo,
        commit=commit[:12],
        engine=made.engine or "onnxruntime",
    )
    return {
        "variant": made.variant,
        "recipe": made.recipe,
        "revision": made.revision,
        "tool_versions": {key: value for key, value in made.tool_versions.items() if key != "kernels"}
        | kernels.tool_versions(stage),
        "fidelity": made.fidelity,
        "created_at": made.created_at,
        "fallbacks": made.fallbacks,
        "notes": (*made.notes, told),
        "engine": kernels.engine(stage),
        "engine_note": note or NOTHING,
    }


def _run_once(folder: Path) -> None:
    """A few tokens through whatever will compute it.

    Raises:
        FidelityError: What comes out are no numbers.
        Exception: Whatever the runtime raises.
    """
    import numpy as np

    from playground.export import kernels
    from playground.runtimes.onnx.runtime import open_engine
    from playground.system.cpu import usable_cores

    ids = [1, 2, 3, 4]
    engine = open_engine(folder, usable_cores(), spinning=False, library=kernels.built(folder))
    try:
        engine.reset(len(ids) + 1)
        rows = [engine.prefill(ids), engine.step(1)]
    finally:
        engine.close()
    if not all(np.isfinite(row).all() and np.ptp(row) > 0 for row in rows):
        raise FidelityError(msg("its logits are no numbers"))


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another disk
        shutil.copyfile(source, target)


def _public(version: str) -> str:
    """Without what tells builds of one release apart: ``2.13.0+cpu`` is ``2.13.0``."""
    return version.partition("+")[0]


def sums_of(manifest: Manifest) -> str:
    """SHA256SUMS of all artifacts."""
    lines = [
        f"{digest}  {offered.folder}/{name}\n"
        for offered in manifest.artifacts.values()
        for name, (_, digest) in offered.files.items()
    ]
    return "".join(sorted(lines, key=lambda line: line[66:]))
