"""A lock is one process's at a time, and nobody's once its holder is gone, however it went."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from playground.errors import StorageError
from playground.paths import ROOT
from playground.system.file_lock import FileLock
from tests.support.watching import until

HOLD = """
import sys, time
from pathlib import Path
from playground.system.file_lock import FileLock
assert FileLock(Path(sys.argv[1])).take()
print("held", flush=True)
time.sleep(60)
"""


def test_one_takes_it_the_others_are_refused_until_it_is_given_back(tmp_path: Path) -> None:
    one, other = FileLock(tmp_path / "a" / "b.lock"), FileLock(tmp_path / "a" / "b.lock")
    assert not one.held
    assert one.take()
    assert other.held
    assert not other.take()
    one.release()
    assert not other.held
    assert list((tmp_path / "a").iterdir()) == []
    assert other.take()
    one.release()  # it has none to give back
    assert other.held
    other.release()


@pytest.mark.fault
def test_a_holder_that_is_killed_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True) as held:
        assert held.stdout
        assert held.stdout.readline() == "held\n"
        assert not FileLock(path).take()
        held.send_signal(signal.SIGKILL)
        held.wait(10)
    lock = FileLock(path)
    until(lock.take)
    lock.release()


def test_of_many_who_take_and_give_back_there_is_never_more_than_one(tmp_path: Path) -> None:
    inside, most, taken = 0, 0, 0
    guard = threading.Lock()

    def work() -> None:
        nonlocal inside, most, taken
        for _ in range(50):
            lock = FileLock(tmp_path / "a.lock")
            if lock.take():
                with guard:
                    inside, taken = inside + 1, taken + 1
                    most = max(most, inside)
                with guard:
                    inside -= 1
                lock.release()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert taken > 10


def test_looking_does_not_refuse_who_takes(tmp_path: Path) -> None:
    over = threading.Event()
    path = tmp_path / "a.lock"

    def look() -> None:
        while not over.is_set():
            FileLock(path).held  # noqa: B018

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for _ in range(100):
            lock = FileLock(path)
            assert lock.take()
            lock.release()
    finally:
        over.set()
        thread.join()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="can't be locked"):
        FileLock(tmp_path / "file" / "a.lock").take()
