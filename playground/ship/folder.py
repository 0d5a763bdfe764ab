"""Ships an artifact: checked copies of its files, the trial, the papers; staged beside the target, renamed at the end.

A target that exists is never touched unless it is empty or an earlier shipment, which ``force`` replaces. Whatever goes
wrong before the rename leaves the target as it was and nothing beside it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from playground.errors import (
    ChecksumError,
    ExportError,
    PlaygroundError,
    Stopped,
    StorageError,
    UsageError,
    either,
    some,
)
from playground.export.cache import recorded
from playground.messages import NOTHING, Translatable, clauses, msg, sentences
from playground.records import Cancelled, ModelRun, ModelSpec, Record, Variant
from playground.ship import papers
from playground.ship.shipment import Shipment
from playground.ship.trying import Trial, tried
from playground.sources.files import FileRecord, Progress

GENAI_CONFIG = "genai_config.json"
RECEIPTS = "receipts.json"
SUMS = "SHA256SUMS"
KIND = "open-model-playground shipment"
"""Marks the receipts of a shipment: only a folder that has them is ever replaced."""
OWN = ("kernels.so", "kernels.program", "artifact.json")
"""Of an artifact, what only the playground can use."""
READ_BYTES = 1 << 20
SPARE_BYTES = 64_000_000
"""For papers, and so that a disk is not filled to its last byte."""


@dataclass(frozen=True)
class Shipped(Record):
    """What was written.

    Attributes:
        files: SHA-256 by name.
        cautions: What to know before relying on it.
        left_to_do: What the licence asks of whoever passes the folder on and no program can do.
    """

    folder: str
    variant: Variant
    artifact_sha256: str
    size_bytes: int
    files: dict[str, str]
    trial: Trial
    cautions: tuple[Translatable, ...] = ()
    left_to_do: tuple[Translatable, ...] = ()
    documents: tuple[str, ...] = field(default=())


def cannot_ship(spec: ModelSpec, variant: Variant, others: tuple[str, ...]) -> PlaygroundError | None:
    """Why a variant can't be shipped, whatever its artifact; None where that is to be seen."""
    instead = msg("Choose {variants}.", variants=either(list(others))) if others else NOTHING
    name = str(variant)
    if variant.runtime == "remote":
        return UsageError(
            msg("{model} is served elsewhere: its weights are not here to be shipped", model=name),
            msg("Choose a model that runs on this machine: `playground models` lists them."),
        )
    if variant.runtime == "fake":
        return UsageError(
            msg("{model} is a scripted model without weights", model=name),
            msg("Choose a model of the catalogue: `playground models` lists them."),
        )
    if variant.runtime == "torch":
        what = msg("{model} is run by torch from the original weights, which onnxruntime-genai can't read", model=name)
        return UsageError(what, instead or msg("Take the original from {source}.", source=spec.source))
    return None


def _unfit(shipment: Shipment) -> PlaygroundError | None:
    """Why this very artifact can't be shipped."""
    artifact, spec = shipment.artifact, shipment.spec
    why = clauses(*artifact.fallbacks) if artifact.fallbacks else NOTHING
    another = msg("Choose a model that the model builder knows: `playground card MODEL` names each one's architecture.")
    if artifact.variant.runtime != "onnx":
        what = msg("{model} is run by torch here, because no graph could be made of it", model=str(shipment.asked))
        return ExportError(msg("{what} ({why})", what=what, why=why) if why else what, another)
    alone = msg("ONNX Runtime alone runs it: the graph is in {folder}.", folder=artifact.path)
    if artifact.recipe == "optimum":
        what = msg(
            "{model} was exported by optimum, and its graph has other inputs than onnxruntime-genai drives",
            model=str(shipment.asked),
        )
        return ExportError(msg("{what} ({why})", what=what, why=why) if why else what, sentences(another, alone))
    if artifact.recipe == "dynamo":
        what = msg(
            "{model} was exported by torch, without the {file} that onnxruntime-genai needs",
            model=str(shipment.asked),
            file=GENAI_CONFIG,
        )
        return ExportError(what, sentences(another, alone))
    if not (Path(artifact.path) / GENAI_CONFIG).is_file():
        what = msg(
            "{model} runs from ONNX files that its repository brings, without a {file} that onnxruntime-genai needs",
            model=str(shipment.asked),
            file=GENAI_CONFIG,
        )
        others = msg("Or choose {variants}.", variants=either(list(shipment.others))) if shipment.others else NOTHING
        return ExportError(what, sentences(msg("Take them from {source} as they are.", source=spec.source), others))
    return None


def check_target(target: Path, *, force: bool) -> None:
    """Refuse a target that holds anything but nothing or an earlier shipment.

    Raises:
        UsageError: Says what is there and what to do.
    """
    target = _resolved(target)
    if not os.path.lexists(target):
        return
    if not target.is_dir():
        raise UsageError(msg("{path} is a file", path=target), msg("Name a folder that does not exist yet."))
    if target == Path.home() or target.parent == target:
        raise UsageError(msg("{path} is no place for a model", path=target), msg("Name a folder of its own."))
    if not any(target.iterdir()):
        return
    shipped = _shipped_files(target)
    if shipped is None:
        raise UsageError(
            msg("{path} exists and holds something else than a shipped model", path=target),
            msg("Nothing there was touched. Name a folder that does not exist yet."),
        )
    added = sorted(name for path in target.rglob("*") if (name := path.relative_to(target).as_posix()) not in shipped)
    if added:
        raise UsageError(
            msg("{path} holds a shipped model and files beside it: {names}", path=target, names=some(added)),
            msg("Nothing there was touched. Move them away, or name another folder."),
        )
    if not force:
        raise UsageError(msg("{path} holds a model that was shipped before", path=target), msg("--force replaces it."))


def ship(
    shipment: Shipment, target: Path, *, force: bool, progress: Progress, cancelled: Cancelled = lambda: False
) -> Shipped:
    """Write ``target`` whole, or not at all.

    Raises:
        UsageError: The target holds something else, or the variant can't be shipped at all.
        ExportError: This artifact can't be shipped, or onnxruntime-genai can't run it.
        ChecksumError: A file of the artifact is not the one that was measured.
        StorageError: The disk is full, or the target can't be written.
        Stopped: ``cancelled`` said so.
    """
    if reason := cannot_ship(shipment.spec, shipment.asked, shipment.others) or _unfit(shipment):
        raise reason
    check_target(target, force=force)
    target = _resolved(target)
    source = Path(shipment.artifact.path)
    wanted = {name: record for name, record in recorded(source).items() if name not in OWN}
    with _disk_errors(target), _staged(target) as stage:
        _check_room(target, sum(record.size for record in wanted.values()))
        _copy(shipment, stage, wanted, progress, cancelled)
        progress(msg("trying it with onnxruntime-genai"), None)
        trial = _beside(tried(stage, shipment.spec, shipment.prompt, cancelled), shipment.ours)
        progress(msg("writing its papers"), None)
        shipped = _described(shipment, stage, target, trial)
        if cancelled():
            raise Stopped(msg("Shipping {model} was called off", model=shipment.spec.name))
        check_target(target, force=force)  # somebody may have put something there meanwhile
        _replace(stage, target)
    return shipped


def _described(shipment: Shipment, stage: Path, target: Path, trial: Trial) -> Shipped:
    """Write the papers and the receipts; the receipts and the sums come last."""
    written = papers.write(stage, shipment, trial)
    files = [path for path in sorted(stage.rglob("*")) if path.is_file()]
    sums = {path.relative_to(stage).as_posix(): _sha256(path) for path in files}
    shipped = Shipped(
        folder=str(target),
        variant=shipment.artifact.variant,
        artifact_sha256=shipment.artifact.sha256,
        size_bytes=sum(path.stat().st_size for path in files),
        files=sums,
        trial=trial,
        cautions=papers.cautions(shipment.artifact, trial),
        left_to_do=written.left_to_do,
        documents=written.names,
    )
    own_path = shipment.spec.source.startswith("path:")  # a place on this machine is nobody's business elsewhere
    model = shipment.spec.name if own_path else shipment.spec.id
    variant = replace(shipment.artifact.variant, model=model)
    receipts = {
        "kind": KIND,
        "model": model,
        "asked": str(replace(shipment.asked, model=model)),
        "variant": str(variant),
        "upstream": shipment.spec.upstream,
        "source": "path:" if own_path else shipment.spec.source,
        "artifact": replace(shipment.artifact, path="", variant=variant),
        "measured": shipment.known.measured,
        "notes": shipment.known.notes,
        "trial": trial,
        "environment": shipment.environment,
        "files": sums,
        "cautions": shipped.cautions,
        "left_to_do": shipped.left_to_do,
    }
    text = json.dumps(papers.plain(receipts), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    (stage / RECEIPTS).write_text(text, encoding="utf-8")
    sums[RECEIPTS] = _sha256(stage / RECEIPTS)
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))
    (stage / SUMS).write_text(lines, encoding="utf-8")
    return replace(shipped, files=sums, documents=(*written.names, RECEIPTS, SUMS))


def _copy(
    shipment: Shipment, stage: Path, wanted: Mapping[str, FileRecord], progress: Progress, cancelled: Cancelled
) -> None:
    """Copy, and see on the way that each file is the recorded one."""
    source, spec = Path(shipment.artifact.path), shipment.spec
    total, done = sum(record.size for record in wanted.values()) or 1, 0
    for name, record in wanted.items():
        digest = hashlib.sha256()
        place = stage / name
        place.parent.mkdir(parents=True, exist_ok=True)
        with (source / name).open("rb") as here, place.open("wb") as there:
            while block := here.read(READ_BYTES):
                if cancelled():
                    raise Stopped(msg("Shipping {model} was called off", model=spec.name))
                digest.update(block)
                there.write(block)
                done += len(block)
                progress(msg("copying"), done / total)
            there.flush()
            os.fsync(there.fileno())
        if digest.hexdigest() != record.sha256:
            raise ChecksumError(
                msg("{model}: {file} is not the file that was measured", model=spec.name, file=name),
                msg("Prepare it again: `playground prepare {model}`.", model=spec.id),
            )


def _beside(trial: Trial, ours: ModelRun) -> Trial:
    own = ours.token_ids or ()
    same = 0
    for one, other in zip(trial.tokens, own, strict=False):
        if one != other:
            break
        same += 1
    return replace(trial, same_tokens=same, our_tokens=len(own))


def _check_room(target: Path, needed: int) -> None:
    free = shutil.disk_usage(target.parent).free
    if free < needed + SPARE_BYTES:
        raise StorageError(
            msg(
                "{folder} has {free_mb:,.0f} MB left; the model takes {need_mb:,.0f} MB",
                folder=target.parent,
                free_mb=free / 1e6,
                need_mb=(needed + SPARE_BYTES) / 1e6,
            ),
            msg("Free some space or name a folder on another disk. Nothing was written."),
        )


@contextmanager
def _staged(target: Path) -> Iterator[Path]:
    """A folder beside the target, on the same disk, that goes away unless it becomes the target."""
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.name}.shipping-"
    for left in target.parent.glob(f"{prefix}*"):  # of a process that was killed
        owner = left.name.removeprefix(prefix)
        if owner.isdecimal() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(left, ignore_errors=True)
    stage = target.with_name(f"{prefix}{os.getpid()}")
    stage.mkdir()
    try:
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _replace(stage: Path, target: Path) -> None:
    """The stage becomes the target; what stood there is away only when the new one is in place."""
    old = None
    if target.is_dir():
        old = stage.with_name(f"{stage.name}.old")
        target.rename(old)
    try:
        stage.rename(target)
    except OSError:
        if old:
            old.rename(target)
        raise
    if old:
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _disk_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(
                msg("The disk that holds {folder} is full", folder=target.parent),
                msg("Free some space or name a folder on another disk. Nothing was written."),
            ) from error
        raise StorageError(
            msg("{folder} can't be written ({reason})", folder=target, reason=error.strerror or str(error)),
            msg("Name a folder that this user may write to. Nothing was written."),
        ) from error


def _shipped_files(folder: Path) -> set[str] | None:
    """Files and folders of a shipment in ``folder``; None where there is none."""
    with suppress(OSError, ValueError, AttributeError, TypeError):
        document: Any = json.loads((folder / RECEIPTS).read_text(encoding="utf-8"))
        if document.get("kind") == KIND:
            files = [Path(name) for name in (*document["files"], RECEIPTS, SUMS)]
            return {path.as_posix() for file in files for path in (file, *file.parents)}
    return None


def _resolved(target: Path) -> Path:
    """Where the folder is or will be; a link is followed, so that what it leads to is what is judged."""
    return target.expanduser().resolve()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
