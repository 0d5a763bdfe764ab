"""A process that gets no more memory can still end what it does: with what it kept back, and without waiting for
threads that never began."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import psutil
import pytest

from playground.errors import OutOfMemory
from playground.paths import ROOT
from playground.system import reserve
from playground.system.child import JsonChild
from playground.system.reserve import Reserve, insist, is_shortage, kept, out_of_memory, run_all, short

pytestmark = pytest.mark.waits

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="other systems limit otherwise")


class System:
    """How much memory there is to be had, as ``could_have`` and ``mapped`` are told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, left: int) -> None:
        self.left = left
        monkeypatch.setattr(reserve, "could_have", lambda size: size <= self.left)

        def mapped(size: int) -> System:
            if size > self.left:
                raise OSError(errno.ENOMEM, "no")
            self.left -= size
            self.size = size
            return self

        monkeypatch.setattr(reserve, "mapped", mapped)

    def close(self) -> None:
        self.left += self.size


def test_the_reserve_goes_when_little_is_left_and_comes_back_when_there_is_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    system = System(monkeypatch, 200)
    held = Reserve(100, 20)
    held.look()
    assert not held.short and system.left == 200, "nothing is kept before that is asked for"
    held.keep()
    held.look()
    assert not held.short and system.left == 100
    system.left = 15
    held.look()
    assert held.short and system.left == 115
    held.look()
    assert held.short, "what it would leave is too little"
    system.left = 150
    held.look()
    assert not held.short and system.left == 50
    held.end()
    assert not held.short and system.left == 150
    held.look()
    assert system.left == 150


def test_one_that_can_not_be_had_is_short_from_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    System(monkeypatch, 50)
    held = Reserve(100, 20)
    held.keep()
    assert held.short


@pytest.mark.fault
def test_a_thread_that_there_is_no_room_for_is_an_error_and_the_reserve_is_given_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = threading.Thread.start
    system = System(monkeypatch, reserve.RESERVE_BYTES + reserve.LOW_BYTES)
    ran: list[int] = []
    first, second = (threading.Thread(target=ran.append, args=(number,)) for number in (1, 2))
    with kept():
        assert not short()
        first.start()
        first.join()
        system.left = 5
        second.start()
        second.join()
        assert short() and system.left > reserve.RESERVE_BYTES
        system.left = 5
        with pytest.raises(RuntimeError) as refused:
            threading.Thread(target=ran.append, args=(3,)).start()
        assert is_shortage(refused.value)
        run_all([threading.Thread(target=ran.append, args=(4,)), threading.Thread(target=ran.append, args=(5,))])
    assert ran == [1, 2, 4, 5]
    assert threading.Thread.start is start and not short()


def test_what_others_wait_for_is_done_again_until_memory_does_not_fail_it() -> None:
    tried: list[int] = []

    def work(number: int) -> None:
        tried.append(number)
        if len(tried) < 3:
            raise MemoryError

    insist(work, 7)
    assert tried == [7, 7, 7]
    with pytest.raises(ZeroDivisionError):
        insist(lambda: 1 / 0)


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (MemoryError(), True),
        (RuntimeError("can't start new thread"), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (OSError(errno.ENOENT, "no such file"), False),
        (RuntimeError("cannot schedule new futures after shutdown"), False),
        (ValueError(), False),
        (None, False),
    ],
)
def test_which_errors_say_that_there_is_no_memory(error: BaseException | None, is_one: bool) -> None:
    assert is_shortage(error) == is_one


def test_python_says_of_a_thread_that_gets_no_stack_what_is_looked_for() -> None:
    """Where a new version says it otherwise, runs would end with words about a bug."""
    script = (
        "import resource, threading\n"
        "threading.stack_size(1 << 30)\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29))\n"
        "try: threading.Thread(target=print).start()\n"
        "except RuntimeError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env={})
    assert is_shortage(RuntimeError(done.stdout.strip()))


@pytest.fixture
def deaf(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """There is memory for a child, and none for the threads that would hear it."""
    start = threading.Thread.start

    def refused(thread: threading.Thread) -> None:
        if thread.name.startswith(("hear ", "log ")):
            raise RuntimeError(reserve.NO_THREAD)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refused)
    yield


@pytest.mark.fault
@pytest.mark.usefixtures("deaf")
def test_a_child_that_nobody_could_hear_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    kill, ended = JsonChild.kill, []

    def noted(child: JsonChild) -> None:
        kill(child)
        ended.append((child.alive, psutil.pid_exists(child.pid)))

    monkeypatch.setattr(JsonChild, "kill", noted)
    with pytest.raises(OSError, match="memory") as refused:
        JsonChild("playground.workers.main", {})
    assert is_shortage(refused.value)
    assert ended == [(False, False)]


FULL = """
import os, resource, signal, sys, threading, time
from playground.system import ending, reserve

with ending.heard(4.0, signal.SIGTERM) as end:
    size = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize"))
    resource.setrlimit(resource.RLIMIT_AS, (size * 1024, resource.RLIM_INFINITY))
    hoard, until = [], time.monotonic() + 2.0
    while time.monotonic() < until:  # the reserve too, which comes meanwhile
        try:
            for size in (10, 100, 300, 1000):
                hoard.append(bytes(size))
        except MemoryError:
            pass
    os.write(1, b"full\\n")
    if sys.argv[1] == "ends":
        end.wait()
        threads = [threading.Thread(target=bytes, args=(1000,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        os.write(1, b"ended\\n")
        os._exit(0)
    while True:
        try:
            hoard.append(bytes(10))
        except MemoryError:
            pass
"""


@LINUX
@pytest.mark.fault
@pytest.mark.alone
@pytest.mark.parametrize(("what", "code"), [("ends", 0), ("resists", 1)])
def test_a_process_without_any_memory_hears_its_signal_and_ends_in_its_time(what: str, code: int) -> None:
    child = subprocess.Popen([sys.executable, "-c", FULL, what], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout and child.stdout.readline() == "full\n"
    child.send_signal(signal.SIGTERM)
    try:
        assert child.wait(15) == code
        assert (child.stdout.read() == "ended\n") == (what == "ends")
    finally:
        child.kill()
        child.stdout.close()


def test_the_error_has_a_next_step_and_every_one_is_its_own() -> None:
    made: Callable[[], OutOfMemory] = out_of_memory
    assert made() is not made()
    assert made().next_step
