"""What goes wrong while comparisons run costs what was going on, and nothing after it."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from playground.experiments.compare import BROKEN_OFF
from playground.paths import ROOT
from playground.records import Request
from playground.service import Playground
from playground.ui.watching import _Watching

pytestmark = pytest.mark.waits

HELLO = Request("Hello")
RUNS = """
import sys, time
from playground.config.settings import load_settings
from playground.records import Request
from playground.service import Playground
playground = Playground(load_settings())
job = playground.compare(Request("Hello"), playground.variants(["fake:text=" + "+".join(["la"] * 300) + "&step_s=0.1"]))
print(job.id, flush=True)
job.wait()
"""


def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@pytest.mark.fault
def test_what_was_said_before_the_app_was_killed_is_in_the_history(make_settings: Any, tmp_path: Path) -> None:
    settings = make_settings()
    env = {
        **os.environ,
        "PLAYGROUND_HOME": str(settings.home),
        "PLAYGROUND_SPACE": str(settings.space_file),
        "PLAYGROUND_CATALOG": str(settings.catalog_file),
    }
    app = subprocess.Popen([sys.executable, "-c", RUNS], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
    assert app.stdout
    id = app.stdout.readline().strip()
    with Playground(settings) as playground:

        def said() -> str:
            stored = playground.comparison(id)
            return stored.runs[0].text if stored else ""

        until(lambda: said().count("la") >= 3)
        workers = psutil.Process(app.pid).children()
        app.kill()
        app.wait()
        app.stdout.close()
        assert len(workers) == 1
        until(lambda: not workers[0].is_running() or workers[0].status() == psutil.STATUS_ZOMBIE)
        kept = playground.comparison(id)
        assert kept and kept.runs[0].text.count("la") >= 3
        assert kept.runs[0].finish_reason == "stopped" and BROKEN_OFF in kept.runs[0].warnings
        assert [entry.id for entry in playground.history("")] == [id]


@pytest.mark.fault
def test_running_and_stopping_again_and_again_leaves_nothing(make_settings: Any) -> None:
    me = psutil.Process()
    with Playground(make_settings()) as playground:
        variants = playground.variants(["endless"])

        def run(times: int) -> tuple[int, int, int]:
            for _ in range(times):
                job = playground.compare(HELLO, variants, keep=False)
                until(lambda job=job: job.snapshot().lives[0].kind in ("prefill", "token"))  # type: ignore[misc]
                job.stop()
                assert job.result().runs[0].finish_reason == "stopped"
            gc.collect()
            return me.num_fds(), me.num_threads(), len(me.children(recursive=True))

        first = run(2)
        last = run(30)
        assert all(after <= before + 1 for before, after in zip(first, last, strict=True))
        assert playground.compare(HELLO, playground.variants(["fast"])).result().runs[0].text.startswith("Paris")


@pytest.mark.fault
def test_a_page_that_watches_is_told_that_the_app_ends(make_settings: Any) -> None:
    with Playground(make_settings()) as playground:
        job = playground.compare(HELLO, playground.variants(["endless"]))

        async def watched() -> str:
            heard = []
            async for event in _Watching(playground).events(job.id):
                heard.append(event)
                if len(heard) == 3:
                    asyncio.get_running_loop().run_in_executor(None, playground.close)
            return "".join(heard)

        told = asyncio.run(asyncio.wait_for(watched(), 20))
    assert "The app is being stopped" in told
    assert told.rstrip().endswith("event: ending\ndata:")
    assert "event: end\n" not in told
    assert job.result().runs[0].finish_reason == "stopped"


@pytest.mark.fault
def test_a_database_that_is_damaged_or_moved_away_costs_no_answer(make_settings: Any) -> None:
    settings = make_settings()
    with Playground(settings) as playground:
        variants = playground.variants(["fast"])
        first = playground.compare(HELLO, variants)
        first.result()
        settings.database.rename(settings.database.with_name("moved"))
        second = playground.compare(HELLO, variants)
        assert second.result().runs[0].text and not second.snapshot().problem
        assert [entry.id for entry in playground.history("")] == [second.id]
    for name in ("playground.sqlite3-wal", "playground.sqlite3-shm"):
        (settings.home / name).unlink(missing_ok=True)
    settings.database.write_bytes(b"nonsense" * 1000)
    with Playground(settings) as playground:
        third = playground.compare(HELLO, playground.variants(["fast"]))
        assert third.result().runs[0].text
        assert "damaged" in third.snapshot().problem
        settings.database.unlink()
        fourth = playground.compare(HELLO, playground.variants(["fast"]))
        fourth.result()
        assert [entry.id for entry in playground.history("")] == [fourth.id]


ENDS = """
import signal, sys, time
from playground.system import ending
with ending.heard(1.0, signal.SIGTERM, signal.SIGINT) as end:
    print("up", flush=True)
    end.wait()
    time.sleep(float(sys.argv[1]))
"""


@pytest.mark.fault
@pytest.mark.parametrize(("takes_s", "code"), [("0.1", 0), ("60", 1)])
def test_the_end_comes_within_its_time_whatever_resists(takes_s: str, code: int) -> None:
    child = subprocess.Popen([sys.executable, "-c", ENDS, takes_s], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout and child.stdout.readline() == "up\n"
    child.send_signal(signal.SIGTERM)
    child.send_signal(signal.SIGINT)  # once more is no reason to end otherwise
    assert child.wait(20) == code
    child.stdout.close()
