"""However the app ends, no worker outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from playground.paths import ROOT
from playground.records import Request
from playground.workers.pool import Pool
from tests.support.scripted_models import scripted

pytestmark = pytest.mark.waits

APP = """
import sys
from pathlib import Path
from tests.support.scripted_models import scripted
from playground.records import Request
from playground.config.settings import load_settings
from playground.workers.pool import Pool

with Pool(load_settings({"PLAYGROUND_HOME": sys.argv[1]})) as pool:
    for event in pool.generate(scripted("fake:text=a"), Request("x"), lambda: False):
        pass
    for event in pool.generate(scripted("fake:text=a+b&stall_at=2", "busy"), Request("x"), lambda: False):
        if event.kind == "token":
            print(*[loaded.pid for loaded in pool.loaded()], flush=True)
"""
"""An app with an idle worker and one that answers (and would for ever)."""


@pytest.fixture
def app(tmp_path: Path):
    process = subprocess.Popen(
        [sys.executable, "-c", APP, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


def workers_of(app: subprocess.Popen[str]) -> list[int]:
    assert app.stdout
    pids = [int(pid) for pid in app.stdout.readline().split()]
    assert len(pids) == 2
    assert not any(map(gone, pids))
    return pids


def gone(pid: int) -> bool:
    """Ended, if perhaps not yet collected by whoever inherits orphans here."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def wait_until_gone(pids: list[int], seconds: float = 2.0) -> None:
    deadline = time.monotonic() + seconds
    while not all(map(gone, pids)):
        assert time.monotonic() < deadline, f"workers {pids} outlived the app"
        time.sleep(0.02)


@pytest.mark.fault
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_no_worker_outlives_the_app(app: subprocess.Popen[str], how: signal.Signals) -> None:
    pids = workers_of(app)
    app.send_signal(how)
    wait_until_gone(pids)
    app.wait(30)


@pytest.mark.fault
@pytest.mark.skipif(sys.platform != "linux", reason="the second rope is Linux's")
def test_a_worker_that_cannot_see_its_stdin_close_ends_too(app: subprocess.Popen[str]) -> None:
    pids = workers_of(app)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    app.kill()
    wait_until_gone(pids)


def test_ctrl_c_in_the_terminal_reaches_the_app_alone(pool: Pool) -> None:
    list(pool.generate(scripted("fake:text=a"), Request("x"), lambda: False))
    pid = pool.loaded()[0].pid
    assert os.getpgid(pid) == os.getsid(pid) == pid


def test_a_worker_outlives_the_thread_that_asked_for_it(pool: Pool) -> None:
    load = scripted("fake:text=a")
    thread = threading.Thread(target=lambda: list(pool.generate(load, Request("x"), lambda: False)))
    thread.start()
    thread.join()
    pid = pool.loaded()[0].pid
    time.sleep(0.2)
    assert [loaded.pid for loaded in pool.loaded()] == [pid]
