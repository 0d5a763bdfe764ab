"""Files of a Hub repository, fetched into the Hub's own cache, resumed where an earlier try broke off, and checked.

huggingface_hub 2.4 starts a file anew in each process and compares its size only. Large files are therefore streamed
here, with the library's session and headers, into a partial file beside the cache's blobs that outlives us; when its
SHA-256 is the promised one it becomes the blob, and ``hf_hub_download`` links it. Every file is compared with its etag
(SHA-256 of LFS files, git's SHA-1 of small ones), also those that other programs put into the cache.
It knows HTTP and the cache's layout, not models.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx2
from filelock import FileLock
from huggingface_hub import constants, get_session, hf_hub_download, hf_hub_url, hf_raise_for_status
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

from playground.errors import ChecksumError, StorageError
from playground.messages import msg
from playground.sources.files import READ_BYTES, sha256_of

T = TypeVar("T")

log = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 18
FIRST_LOOK_BYTES, LOOK_BYTES = 1 << 20, 1 << 26
"""How much of a file is looked at first, and at most: half a million tokens take some ten megabytes."""
MAX_TRIES = 5
"""Tries in a row that bring nothing new; a connection that brings something may break as often as it likes."""
RETRIED_STATUS = (408, 429, 500, 502, 503, 504)
MAX_WAIT_S = 30.0


@dataclass(frozen=True)
class RemoteFile:
    """One file as the Hub's listing describes it. ``sha256`` is empty for small files, which git keeps itself."""

    name: str
    size: int
    git_sha1: str
    sha256: str = ""

    @property
    def etag(self) -> str:
        return self.sha256 or self.git_sha1


class CachedRepository:
    """One repository at one commit, in the local cache.

    Args:
        repo: ``OWNER/NAME``.
        commit: 40 hexadecimal digits.
        done: Told how many more bytes are here (fewer, if some were thrown away).
    """

    def __init__(self, repo: str, commit: str, done: Callable[[int], None]) -> None:
        self._repo, self._commit, self._done = repo, commit, done
        self.cache = Path(constants.HF_HUB_CACHE).expanduser()
        self._folder = repo_folder_name(repo_id=repo, repo_type="model")
        self._blobs = self.cache / self._folder / "blobs"

    def path(self, name: str) -> Path:
        return self.cache / self._folder / "snapshots" / self._commit / name

    def missing_bytes(self, files: list[RemoteFile]) -> int:
        """Bytes that are still to come."""
        return sum(file.size - self._here(file) for file in files)

    def check_space(self, files: list[RemoteFile]) -> None:
        """Refuse to begin what can't be finished.

        Raises:
            StorageError: The disk has less room than is missing.
        """
        place = next(each for each in (self.cache, *self.cache.parents) if each.exists())
        missing, free = self.missing_bytes(files), shutil.disk_usage(place).free
        if missing > free:
            raise StorageError(
                msg(
                    "hub:{repo} needs {need_gb:.2f} GB more, the disk that holds {folder} has {free_gb:.2f} GB left",
                    repo=self._repo,
                    need_gb=missing / 1e9,
                    folder=str(self.cache),
                    free_gb=free / 1e9,
                ),
                msg("Free some space or set HF_HOME to a folder on another disk."),
            )

    def fetch(self, file: RemoteFile) -> str:
        """Bring one file to its place in the cache and check it; a broken one is fetched once more.

        Returns:
            Its SHA-256.

        Raises:
            ChecksumError: It came wrong twice.
            httpx2.TransportError, HfHubHTTPError: The network or the Hub failed again and again.
        """
        for _ in range(2):
            here = self._here(file)
            self._done(here)
            if file.sha256 and not self.path(file.name).exists():
                self._stream(file)
            # For a large file only a link is made now; for a small one the library has its own patience.
            path = Path(hf_hub_download(self._repo, file.name, revision=self._commit))
            if not file.sha256:
                self._done(file.size - here)
            if sha256 := verified_sha256(path, file):
                return sha256
            log.warning("%s of hub:%s is broken; it is thrown away.", file.name, self._repo)
            self._discard(path)
            self._done(-file.size)
        raise self._wrong(file)

    def look(self, file: RemoteFile, see: Callable[[bytes], T | None]) -> T | None:
        """What ``see`` finds in the beginning of a file, of which it is shown more and more, and nothing is kept; None
        where it finds nothing in the first ``LOOK_BYTES``.

        Raises:
            httpx2.TransportError, HfHubHTTPError: The network or the Hub failed again and again.
        """

        def once() -> T | None:
            beginning, next_look = bytearray(), FIRST_LOOK_BYTES
            headers = {**build_hf_headers(), "Accept-Encoding": "identity", "Range": f"bytes=0-{LOOK_BYTES - 1}"}
            url = hf_hub_url(self._repo, file.name, revision=self._commit)
            timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
            with get_session().stream("GET", url, headers=headers, timeout=timeout) as response:
                hf_raise_for_status(response)
                for piece in response.iter_bytes(chunk_size=CHUNK_BYTES):
                    beginning += piece
                    if len(beginning) >= next_look:
                        if (found := see(bytes(beginning))) is not None or len(beginning) >= LOOK_BYTES:
                            return found
                        next_look *= 2
            return see(bytes(beginning))

        return retry(once)

    def _here(self, file: RemoteFile) -> int:
        if self.path(file.name).exists():
            return file.size
        if not file.sha256:
            return 0
        if (self._blobs / file.etag).exists():
            return file.size
        part = self._part(file)
        return min(part.stat().st_size, file.size) if part.exists() else 0

    def _part(self, file: RemoteFile) -> Path:
        return self._blobs / f"{file.sha256}.resumable.incomplete"

    def _stream(self, file: RemoteFile) -> None:
        """The blob of a large file, unless it is there. Holds the lock that huggingface_hub takes for it as well."""
        locks = self.cache / ".locks" / self._folder
        for folder in (locks, self._blobs):
            folder.mkdir(parents=True, exist_ok=True)
        with FileLock(locks / f"{file.etag}.lock"):
            blob, part = self._blobs / file.etag, self._part(file)
            if blob.exists():
                return
            for _ in range(2):
                retry(lambda: self._continue(file, part), lambda: part.stat().st_size if part.exists() else 0)
                if sha256_of(part) == file.sha256:
                    part.replace(blob)
                    return
                part.unlink()
                self._done(-file.size)
                log.warning("%s of hub:%s arrived with wrong bytes; nothing of it is kept.", file.name, self._repo)
            raise self._wrong(file)

    def _wrong(self, file: RemoteFile) -> ChecksumError:
        return ChecksumError(
            msg(
                "{file} of hub:{repo} arrived twice with other bytes than the Hub promises",
                file=file.name,
                repo=self._repo,
            ),
            msg("Nothing of it was kept. Try again later; a proxy between here and the Hub may be changing it."),
        )

    def _continue(self, file: RemoteFile, part: Path) -> None:
        """Bring the rest of the partial file in one request."""
        start = part.stat().st_size if part.exists() else 0
        if start >= file.size:
            return
        # Compressed bytes could not be carried on from the middle.
        headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        url = hf_hub_url(self._repo, file.name, revision=self._commit)
        with get_session().stream("GET", url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT) as response:
            hf_raise_for_status(response)
            carried_on = response.status_code == 206
            if start and not carried_on:
                self._done(-start)
            with part.open("ab" if carried_on else "wb") as output:
                for piece in response.iter_bytes(chunk_size=CHUNK_BYTES):
                    output.write(piece)
                    self._done(len(piece))
                    if output.tell() > file.size:
                        break  # more than was promised: the checksum will say so
        if part.stat().st_size < file.size:
            raise httpx2.RemoteProtocolError("the answer was shorter than the file")

    def _discard(self, path: Path) -> None:
        """Remove the link and the blob it leads to."""
        path.resolve().unlink(missing_ok=True)
        path.unlink(missing_ok=True)


def verified_sha256(path: Path, file: RemoteFile) -> str:
    """The SHA-256 of the file if it is the promised one, else an empty text."""
    try:
        if path.stat().st_size != file.size:
            return ""
        if file.sha256:
            return file.sha256 if sha256_of(path) == file.sha256 else ""
        digest, git = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % file.size)
        with path.open("rb") as content:
            while block := content.read(READ_BYTES):
                digest.update(block)
                git.update(block)
    except OSError:
        return ""
    return digest.hexdigest() if git.hexdigest() == file.git_sha1 else ""


def retry(do: Callable[[], T], grown: Callable[[], int] = lambda: 0, tries: int = MAX_TRIES) -> T:
    """Do it again after a broken connection, a time-out or a busy server.

    Args:
        do: Asks the Hub.
        grown: A number that grows while tries bring something.
        tries: How many in a row may bring nothing.

    Raises:
        Exception: What the last try raised; at once where trying again can't help.
    """
    failures, last = 0, grown()
    while True:
        try:
            return do()
        except (httpx2.TransportError, HfHubHTTPError, OSError) as error:
            wait = _wait(error, failures)
            now = grown()
            failures, last = (1, now) if now > last else (failures + 1, last)
            if wait is None or failures >= tries:
                raise
            log.warning("The Hub: %s; trying again in %.1f s.", type(error).__name__, wait)
            time.sleep(wait)


def _wait(error: Exception, failures: int) -> float | None:
    """Seconds before the next try, None where there is none."""
    backoff = min(8.0, 0.25 * float(2**failures))
    if isinstance(error, httpx2.ProxyError | OfflineModeIsEnabled):
        return None
    if isinstance(error, httpx2.TransportError):
        return backoff
    if not isinstance(error, HfHubHTTPError):
        cause = error.__cause__  # hf_hub_download tells of a failed look-up in an error about missing files
        return _wait(cause, failures) if isinstance(cause, httpx2.TransportError | HfHubHTTPError) else None
    if int(error.response.status_code) not in RETRIED_STATUS:
        return None
    with contextlib.suppress(ValueError):
        asked = float(str(error.response.headers.get("Retry-After", backoff)))
        return asked if asked <= MAX_WAIT_S else None
    return backoff
