"""Files that can be trusted: checksums, records, staging folders, locks, and disk errors in words.

Everything that is written for later goes into a staging folder first and is renamed into place when all of it
is there. A staging folder belongs to whoever holds its lock; when that process is dead the next one throws the
folder away. This module knows nothing of models, wheels or exports.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from playground.errors import Stopped, StorageError
from playground.messages import Translatable, msg
from playground.records import Record

Progress = Callable[[Translatable, float | None], None]
"""Called with the step in words and how much of it is done, 0 to 1, or None where that is unknown."""

Cancelled = Callable[[], bool]
"""Asked often; True calls the work off."""

READ_BYTES = 1 << 20


@dataclass(frozen=True)
class FileRecord(Record):
    """What a file was when it was checked. ``mtime_ns`` makes most later checks a single ``stat``."""

    size: int
    mtime_ns: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> FileRecord:
        """Read the whole file.

        Raises:
            OSError: It can't be read.
        """
        digest = sha256_of(path)
        stat = path.stat()
        return cls(stat.st_size, stat.st_mtime_ns, digest)

    def untouched(self, path: Path) -> bool:
        """Whether size and time are as recorded; reads no content."""
        try:
            stat = path.stat()
        except (OSError, ValueError):  # the latter of a name that no file can have
            return False
        return (stat.st_size, stat.st_mtime_ns) == (self.size, self.mtime_ns)

    def matches(self, path: Path) -> bool:
        """Whether the content is as recorded; reads it only if size and time leave a doubt."""
        if self.untouched(path):
            return True
        try:
            return path.stat().st_size == self.size and sha256_of(path) == self.sha256
        except (OSError, ValueError):
            return False


def sha256_of(path: Path) -> str:
    """The file's SHA-256 in hexadecimal.

    Raises:
        OSError: It can't be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def storage_errors(home: Path) -> Iterator[None]:
    """Turn what the operating system says of the disk into a ``StorageError`` with a next step.

    Raises:
        StorageError: In place of an ``OSError``.
    """
    try:
        yield
    except Timeout:  # an OSError by descent, but it speaks of a lock that another process holds
        raise
    except OSError as error:
        raise storage_error(home, error) from error


def of_the_disk(error: BaseException) -> OSError | None:
    """The disk's complaint in what a library raised, if that is what it is about.

    transformers also raises ``OSError`` for a model it can't read, and safetensors has an error of its own that only
    quotes the operating system.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error
    if any(words in str(error) for words in ("No space left on device", "os error 28", "Disk quota exceeded")):
        return OSError(errno.ENOSPC, "No space left on device")
    return None


def storage_error(home: Path, error: OSError) -> StorageError:
    """The ``StorageError`` that tells a reader what ``error`` means."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(
            msg("The disk that holds {folder} is full", folder=home),
            msg("Free some space or set PLAYGROUND_HOME to another disk."),
        )
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return StorageError(
            msg("{folder} can't be written ({error})", folder=home, error=error.strerror),
            msg("Set PLAYGROUND_HOME to a folder that this user may write to."),
        )
    return StorageError(
        msg(
            "{file} can't be read or written ({error})",
            file=error.filename or home,
            error=error.strerror or str(error),
        ),
        msg("Check the folder that PLAYGROUND_HOME names."),
    )


def ensure_home(home: Path) -> None:
    """Make ``home`` and prove that it can be written, before any work depends on it.

    Raises:
        StorageError: It can't.
    """
    with storage_errors(home):
        home.mkdir(parents=True, exist_ok=True)
        probe = home / f".write-test-{uuid.uuid4().hex}"
        probe.write_bytes(b"x")
        probe.unlink()


@contextlib.contextmanager
def locked(home: Path, name: str, cancelled: Cancelled, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the lock ``name`` of this home; one process at a time does the work it stands for.

    Args:
        home: PLAYGROUND_HOME.
        name: A file name without suffix.
        cancelled: Asked while another process holds the lock.
        waiting: Called once if another process holds it.

    Raises:
        Stopped: Called off while waiting.
        StorageError: The lock file can't be written.
    """
    with storage_errors(home):
        (home / "locks").mkdir(parents=True, exist_ok=True)
    lock = FileLock(home / "locks" / f"{name}.lock")
    told = False
    while True:
        try:
            with storage_errors(home):
                lock.acquire(timeout=0.2)
            break
        except Timeout:
            if cancelled():
                raise Stopped(msg("Called off while another process was at the same work")) from None
            if not told:
                waiting()
                told = True
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def staging(home: Path, label: str) -> Iterator[Path]:
    """A new empty folder under ``home/staging`` that goes away at the end, whatever happens.

    Folders left there by processes that are dead are removed first.

    Raises:
        StorageError: It can't be made.
    """
    root = home / "staging"
    with storage_errors(home):
        root.mkdir(parents=True, exist_ok=True)
    clean_staging(home)
    folder = root / f"{label}-{uuid.uuid4().hex[:12]}"
    # The lock comes before the folder: a folder that exists while nobody holds its lock has no living owner.
    lock = FileLock(_lock_of(folder))
    with storage_errors(home):
        lock.acquire()
        folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()
        _lock_of(folder).unlink(missing_ok=True)


def clean_staging(home: Path) -> list[str]:
    """Remove staging folders whose owner is dead; returns their names."""
    removed = []
    root = home / "staging"
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        if not folder.is_dir():
            continue
        lock = FileLock(_lock_of(folder))
        try:
            lock.acquire(timeout=0)
        except (Timeout, OSError):
            continue
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()
        _lock_of(folder).unlink(missing_ok=True)
        removed.append(folder.name)
    return removed


LOG_DAYS = 30
LOGS_EACH = 20
"""Of one model's preparations, the newest."""


def clean(home: Path) -> None:
    """Remove what processes that are dead left behind in ``home``: staging folders, folders that were discarded,
    logs of ``LOG_DAYS`` ago, and of a model's preparations all logs but the newest ``LOGS_EACH``.
    """
    since = time.time() - LOG_DAYS * 86_400
    with contextlib.suppress(OSError):
        clean_staging(home)
        for doomed in home.glob("*/.discarded-*"):
            if doomed.is_dir():
                shutil.rmtree(doomed, ignore_errors=True)
            else:
                doomed.unlink(missing_ok=True)
        seen: Counter[str] = Counter()
        for log in sorted(home.glob("logs/*.log"), reverse=True):  # names end with the time
            of = log.stem.rsplit("-", 2)[0] if log.name.startswith("prepare-") else log.stem
            seen[of] += 1
            if log.stat().st_mtime < since or seen[of] > LOGS_EACH:
                log.unlink(missing_ok=True)


def put_in_place(staged: Path, final: Path) -> None:
    """Rename a finished folder to where it is looked for; whatever stood there is thrown away.

    Raises:
        OSError: It can't be renamed.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    if final.exists():
        discard(final)
    staged.rename(final)


def bytes_in(folder: Path) -> int:
    """Bytes that lie in ``folder`` now, while somebody else writes there."""
    total = 0
    # others rename and remove while we look: os.walk passes over what is gone, Path.rglob raises.
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += Path(place, name).lstat().st_size
    return total


def discard(folder: Path) -> None:
    """Make ``folder`` disappear at once by a rename, then delete it: half a folder is never seen at its place.

    Raises:
        OSError: It can't be renamed.
    """
    doomed = folder.with_name(f".discarded-{folder.name}-{uuid.uuid4().hex[:8]}")
    with contextlib.suppress(FileNotFoundError):
        folder.rename(doomed)
        if doomed.is_dir():
            shutil.rmtree(doomed, ignore_errors=True)
        else:
            doomed.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a small file so that a reader sees the old text or the new one, never a part.

    Raises:
        OSError: It can't be written.
    """
    temporary = path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _lock_of(folder: Path) -> Path:
    return folder.with_name(folder.name + ".lock")
