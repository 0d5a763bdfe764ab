"""``hub:`` sources: ``hub:OWNER/NAME[:QUANTISATION][#REVISION]``, fetched by a process and remembered by commit.

The files lie in the Hub's own cache (HF_HOME), where other programs' downloads are found too and a Space's
``preload_from_hub`` puts them; PLAYGROUND_HOME only holds a record of what was checked there. A revision is resolved to
a commit when it is fetched; from then on the record answers, so a model changes when somebody asks for another revision
and not by itself. It knows the record and the child process, not HTTP (``download.py``).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from playground.catalog.hub_names import HUB_REVISION, HubName, hub_name
from playground.errors import PlaygroundError, SourceError, Stopped, UsageError
from playground.messages import Translatable, msg
from playground.records import ModelSpec
from playground.sources.files import Cancelled, FileRecord, Progress, storage_errors, write_text
from playground.system import memory
from playground.system.child import Ending, JsonChild
from playground.system.child_environment import CACHES, HUB_TOKEN, NETWORK, passed

log = logging.getLogger(__name__)

MODULE = "playground.sources.hub.worker"
OFFLINE_ASKED = "PLAYGROUND_HUB_OFFLINE"
"""What HF_HUB_OFFLINE was before a preparation set it for transformers (export/worker.py)."""

Found = tuple[tuple[Path, ...], str, tuple[Translatable, ...]]
"""Files with weights first, commit with the quantisation if one was named, and notes for the reader."""


def parse(spec: ModelSpec) -> HubName:
    """What is to be fetched; the revision of the source counts before the spec's.

    Raises:
        UsageError: It is not written as ``hub:OWNER/NAME[:QUANTISATION][#REVISION]``.
    """
    name = hub_name(spec.source.removeprefix("hub:"))
    if name is None or (spec.revision and not name.revision and not HUB_REVISION.fullmatch(spec.revision)):
        raise UsageError(
            msg(
                "'{source}' with the revision '{revision}' is not hub:OWNER/NAME#REVISION",
                source=spec.source,
                revision=spec.revision,
            ),
            msg("Copy the name from the model's page."),
        )
    return replace(name, revision=name.revision or spec.revision)


def present(spec: ModelSpec, home: Path, extra: tuple[str, ...] = (), onnx: str = "") -> Found | None:
    """What was fetched before, if every file is untouched since. Asks neither network nor cache index."""
    return _kept(spec, home, extra, "") or (_kept(spec, home, extra, onnx) if onnx else None)


def _kept(spec: ModelSpec, home: Path, extra: tuple[str, ...], onnx: str) -> Found | None:
    try:
        document = json.loads(_record(spec, home, extra, onnx).read_text(encoding="utf-8"))
        records = {Path(path): FileRecord.from_json(record) for path, record in document["files"].items()}
        commit, notes = str(document["commit"]), tuple(map(Translatable.from_json, document.get("notes", ())))
    except (UsageError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    if records and all(record.untouched(path) for path, record in records.items()):
        return tuple(records), _revision(commit, parse(spec)), notes
    return None


def _revision(commit: str, name: HubName) -> str:
    """What tells the weights from all others: a commit has files of several quantisations."""
    return f"{commit}:{name.tag}" if name.tag else commit


def fetch(
    spec: ModelSpec,
    home: Path,
    progress: Progress,
    cancelled: Cancelled,
    extra: tuple[str, ...] = (),
    *,
    onnx: str = "",
) -> Found:
    """Bring the model's files into the Hub's cache, or find them there. See ``sources.fetch``.

    Args:
        extra: Patterns of further files in the repository, such as ``onnx/model_int8.onnx*``.
        onnx: The precision whose graphs are taken where there are no weights.

    Raises:
        UsageError: The source is not written as it should be.
        SourceError: The repository is not there or not to be had, or holds nothing that is served.
        StorageError: The disk.
        Stopped: ``cancelled`` said so.
    """
    if found := present(spec, home, extra, onnx):
        return found
    name = parse(spec)
    onnx = "" if name.tag else onnx  # whoever names a GGUF file wants nothing else
    job: dict[str, Any] = {"repo": name.repo, "tag": name.tag, "revision": name.revision, "name": spec.name}
    job |= {"extra": extra, "onnx": onnx, "limit_mb": memory.limit_mb()}
    notes: list[Translatable] = []
    answer = _work(job, spec.name, progress, cancelled, notes)
    files = {Path(path): digest for path, digest in answer["files"].values()}
    with storage_errors(home):
        stats = {path: path.stat() for path in files}
        records = {
            str(path): FileRecord(stat.st_size, stat.st_mtime_ns, files[path]).to_json() for path, stat in stats.items()
        }
        weights = any(path.suffix in (".safetensors", ".gguf") for path in files)
        place = _record(spec, home, extra, "" if weights else onnx)
        place.parent.mkdir(parents=True, exist_ok=True)
        document = {
            "repo": name.repo,
            "commit": answer["commit"],
            "notes": [note.to_json() for note in notes],
            "files": records,
        }
        write_text(place, json.dumps(document, indent=1))
    return tuple(files), _revision(answer["commit"], name), tuple(notes)


def _record(spec: ModelSpec, home: Path, extra: tuple[str, ...], onnx: str) -> Path:
    """Graphs without weights have a record for each precision: another one needs other files."""
    name, graphs = parse(spec), [f"onnx-{onnx}"] if onnx else []
    tagged = [f"gguf:{name.tag}"] if name.tag else []
    key = hashlib.sha256(json.dumps([name.repo, name.revision, *extra, *graphs, *tagged]).encode()).hexdigest()[:16]
    return home / "sources" / f"hub-{key}.json"


def fetch_files(
    name: HubName, files: tuple[str, ...], most_bytes: int, progress: Progress, cancelled: Cancelled
) -> tuple[dict[str, tuple[Path, str]], str]:
    """Exactly these files of a repository, in the Hub's cache, each with its SHA-256; and the commit they are of.

    Args:
        most_bytes: Of all of them together; more is refused before anything is fetched.

    Raises:
        SourceError: The repository or a file is not there or not to be had, or they are too large.
        ChecksumError: What arrived is not what the Hub promised.
        StorageError: The disk.
        Stopped: ``cancelled`` said so.
    """
    job = {"repo": name.repo, "revision": name.revision, "files": files, "most_bytes": most_bytes}
    answer = _work(job, name.repo, progress, cancelled, [])
    return {file: (Path(path), digest) for file, (path, digest) in answer["files"].items()}, answer["commit"]


class _Download(JsonChild):
    """A running ``playground.sources.hub.worker``."""

    def __init__(self, name: str) -> None:
        self._name = name
        environment = passed(NETWORK, CACHES, HUB_TOKEN)
        environment["HF_HUB_OFFLINE"] = os.getenv(OFFLINE_ASKED, os.getenv("HF_HUB_OFFLINE", ""))
        # It stays in our process group, so whoever kills or suspends the group has it too.
        super().__init__(MODULE, environment, stderr=None, own_group=False)

    def died(self, ending: Ending) -> SourceError:
        return SourceError(
            msg("The process that downloaded {model} ended early", model=self._name),
            msg("Try again; what arrived is kept."),
        )


def _work(
    job: dict[str, Any], name: str, progress: Progress, cancelled: Cancelled, notes: list[Translatable]
) -> dict[str, Any]:
    """Run the child to its end, or kill it when called off; partial files stay and are carried on next time."""
    process = _Download(name)
    try:
        process.send(job)
        for message in process.messages(cancelled):
            if "error" in message:
                raise PlaygroundError.from_json(message["error"], SourceError)
            if "note" in message:
                note = Translatable.from_json(message["note"])
                log.warning("%s", note)
                notes.append(note)
                progress(note, None)
            elif "step" in message:
                progress(Translatable.from_json(message["step"]), message["progress"])
            else:
                return message
        raise Stopped(msg("The download of {model} was called off", model=name))
    finally:
        process.kill()
