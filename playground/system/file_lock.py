"""One process at a time: a file that is locked as long as its holder lives, however it ends.

The kernel gives the lock back with the process, after ``kill -9`` too, so nothing has to be cleaned up or guessed from
a process number. It knows files; not what is done while one is held.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

from playground.errors import StorageError
from playground.messages import foreign, msg

TRIES, NAP_S = 5, 0.02
"""Whoever looks whether it is held (``held``) holds it for an instant: that is no reason to be refused."""


class FileLock:
    """A lock that is taken once and given back once.

    Args:
        path: Its file; the folder is made with it. The file is taken away when the lock is given back.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None

    def take(self) -> bool:
        """Take it without waiting for its holder; returns whether it is this object's now.

        Raises:
            StorageError: The file can't be made.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            for _ in range(TRIES):
                if self._try():
                    return True
                time.sleep(NAP_S)
            return False
        except OSError as error:
            raise StorageError(
                msg("{file} can't be locked ({reason})", file=str(self.path), reason=foreign(str(error))),
                msg("Check that the folder can be written, or set PLAYGROUND_HOME to another one."),
            ) from error

    def _try(self) -> bool:
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(handle, self.path):  # its last holder may have taken the file away meanwhile
                self._handle = handle
                return True
        except BlockingIOError:
            pass
        finally:
            if self._handle != handle:
                os.close(handle)
        return False

    def release(self) -> None:
        """Give it back; nothing where it is not held."""
        handle, self._handle = self._handle, None
        if handle is not None:
            with suppress(OSError):
                self.path.unlink()
            os.close(handle)

    @property
    def held(self) -> bool:
        """Whether anybody holds it, in this process or another."""
        try:
            handle = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
        return False


def _is_at(handle: int, path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    mine = os.fstat(handle)
    return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)
