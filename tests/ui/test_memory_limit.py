"""An app that gets no more memory from the system ends its runs, keeps them, and still goes when it is told to."""

from __future__ import annotations

import json
import re
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from playground.errors import OutOfMemory
from playground.records import ModelRun
from playground.results.store import Store
from playground.system.reserve import out_of_memory
from tests.support.app import App, serving
from tests.support.web import call, names, number_of

pytestmark = pytest.mark.waits

ASKED: list[Any] = ["fair", "Hi", "", 8, 0, 0, 1, 0, 1, 0, "", False]
END_S = 17.0
"""An app has 15 s to end; the rest is for whoever else computes here."""
ID = re.compile(r"\b\d{8}-\d{6}-[0-9a-f]{32}\b")


def leave_room(app: App, megabytes: int) -> None:
    """From now on the app gets so much address space more than it has, and no further byte."""
    status = Path(f"/proc/{app.process.pid}/status").read_text()
    found = re.search(r"VmSize:\s+(\d+) kB", status)
    assert found
    _, hard = resource.prlimit(app.process.pid, resource.RLIMIT_AS)
    size = int(found[1]) * 1024 + megabytes * 1_000_000
    resource.prlimit(app.process.pid, resource.RLIMIT_AS, (size, hard))


def begun(app: App, model: str, session: str) -> str:
    """Press Run: what the page is told until a comparison is on its way, or that there is none."""
    called = call(app, number_of(app, "run"), [[model], "", False, *ASKED], session)
    if called.status_code != 200:
        return called.text
    said = []
    with httpx2.stream(
        "GET", f"{app.url}gradio_api/queue/data?session_hash={session}", headers=names(app), timeout=30
    ) as stream:
        for line in stream.iter_lines():
            message = json.loads(line[6:]) if line.startswith("data: ") else {}
            said.append(json.dumps(message))
            if message.get("msg") in {"process_completed", "close_stream"}:
                break
    return " ".join(said)


def told(error: str | None) -> bool:
    """Whether an error names what happened and the next step."""
    return bool(error) and "no memory left" in str(error) and "start it again with more" in str(error)


@pytest.mark.fault
@pytest.mark.skipif(sys.platform != "linux", reason="other systems limit otherwise")
@pytest.mark.parametrize("room_mb", [0, 16, 64, 256])
def test_at_its_limit_an_app_ends_its_runs_keeps_them_and_goes_when_told(room_mb: int, tmp_path: Path) -> None:
    with serving(tmp_path, "fast, slow, endless", stall_s=20) as app:
        number_of(app, "run")  # what the page is made of is asked for once, and kept
        [before] = ID.findall(begun(app, "slow", "before"))[:1]
        leave_room(app, room_mb)
        ids, refused = [before], 0
        for number in range(3):
            said = begun(app, "fast", f"after{number}")
            found = ID.findall(said)[:1]
            ids += found
            refused += not found
            assert found or told(said), said
        for _ in range(2):
            asked = {"model": "fast", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8, "store": True}
            answered = httpx2.post(f"{app.url}v1/chat/completions", json=asked, headers=names(app), timeout=60)
            assert answered.status_code in (200, 503), answered.text
            assert answered.status_code == 200 or told(answered.json()["error"]["message"])
        store = Store(tmp_path / "home" / "playground.sqlite3")
        until = time.monotonic() + 40
        while not all(ended(store, id) for id in ids):
            assert time.monotonic() < until, "a run does not end"
            time.sleep(0.2)
        runs = [run for id in ids for run in kept(store, id)]
        assert all(run.text or told(run.error) for run in runs), runs
        if room_mb >= 256:  # with less, threads of gradio may have taken what a new worker needs
            assert not refused and all(run.text and not run.error for run in runs), runs
        endless = ID.findall(begun(app, "endless", "last"))
        children = psutil.Process(app.process.pid).children(recursive=True)
        began = time.monotonic()
        app.process.send_signal(signal.SIGINT)
        code = app.process.wait(60)
        assert time.monotonic() - began < END_S
        assert psutil.wait_procs(children, timeout=5)[1] == [], "somebody is left"
        assert code == 0
        assert all(kept(store, id) for id in endless[:1])
        store.close()


def kept(store: Store, id: str) -> tuple[ModelRun, ...]:
    found = store.get(id)
    return found.runs if found else ()


def ended(store: Store, id: str) -> bool:
    """Whether it is stored as a whole: while it goes on, its runs are stopped ones with a warning."""
    runs = kept(store, id)
    return bool(runs) and all(run.finish_reason != "stopped" for run in runs)


def test_the_words_that_are_looked_for_are_those_that_are_told() -> None:
    error = out_of_memory()
    assert isinstance(error, OutOfMemory) and told(error.message)
