"""The queue of preparations and the processes behind it, with scripted models and a scripted worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from playground.errors import ChecksumError, ExportError, PlaygroundError, Stopped
from playground.export import Preparer, process
from playground.export.process import ExportProcess
from playground.paths import ROOT
from playground.records import Artifact, ModelSpec, Variant


@dataclass
class Settings:
    home: Path
    prepared_from: str = ""
    strangers: bool = False


class Models:
    """A catalogue of whatever the tests name."""

    def __init__(self, **sources: str) -> None:
        self.sources = sources

    def resolve(self, text: str) -> tuple[ModelSpec, Variant]:
        wanted = Variant.parse(text)
        source = self.sources[wanted.model]
        runtime, precision = ("fake", "fp32") if source.startswith("fake:") else ("onnx", "int8")
        spec = ModelSpec(wanted.model, wanted.model.title(), source, "r1", runtime, precision, 128, "base")
        return spec, Variant(wanted.model, wanted.runtime or runtime, wanted.precision or precision)


@pytest.fixture
def preparer(tmp_path: Path):  # type: ignore[no-untyped-def]
    made = Preparer(
        Settings(tmp_path),
        Models(
            quick="fake:",
            slow="fake:prepare_s=0.6",
            endless="fake:prepare_s=600",
            bad="fake:prepare_s=0.1&prepare_error=no%20weights%20today",
            real="path:/nowhere/model.gguf",
        ),
    )
    yield made
    made.close()


def model(name: str) -> Variant:
    return Variant(name)


def nothing(step: str, share: float | None) -> None:
    pass


def wait_for(preparer: Preparer, name: str, status: str, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while preparer.state(model(name)).status != status:
        assert time.monotonic() < end, f"{name} is {preparer.state(model(name))}, not {status}"
        time.sleep(0.02)


def test_a_model_that_needs_no_time_is_ready_without_being_asked_for(preparer: Preparer) -> None:
    assert preparer.state(model("quick")).status == "ready"
    artifact = preparer.prepare(model("quick"), nothing, lambda: False)
    assert (artifact.variant, artifact.recipe) == (Variant("quick", "fake", "fp32"), "none")


def test_waiting_reports_progress_and_ends_with_the_artifact(preparer: Preparer) -> None:
    assert preparer.state(model("slow")).status == "missing"
    shares: list[float] = []
    artifact = preparer.prepare(model("slow"), lambda step, share: shares.append(share or 0.0), lambda: False)
    assert artifact == preparer.state(model("slow")).artifact
    assert shares == sorted(shares)
    assert 0 < shares[-1] <= 1


def test_background_work_shows_its_state_and_is_done_once(preparer: Preparer) -> None:
    for _ in range(3):
        preparer.start(model("slow"))
    assert preparer.state(model("slow")).status == "preparing"
    wait_for(preparer, "slow", "ready")
    assert len(preparer._queue) == 0


def test_a_failure_is_kept_as_state_and_raised_to_who_waits_and_can_be_tried_again(preparer: Preparer) -> None:
    preparer.start(model("bad"))
    with pytest.raises(ExportError, match="no weights today"):
        preparer.prepare(model("bad"), nothing, lambda: False)
    state = preparer.state(model("bad"))
    assert state.status == "failed"
    assert "no weights today" in (state.error or "")
    preparer.start(model("bad"))
    assert preparer.state(model("bad")).status == "preparing"


@pytest.mark.parametrize("strangers", [True, False])
def test_where_strangers_ask_a_failure_is_told_again_and_not_tried_again_for_a_while(
    strangers: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = Models(bad="fake:prepare_s=0.05&prepare_error=no%20weights%20today", slow="fake:prepare_s=0.2")
    preparer = Preparer(Settings(tmp_path, strangers=strangers), models)

    def ask() -> None:
        with pytest.raises(ExportError, match="no weights today"):
            preparer.prepare(model("bad"), nothing, lambda: False)

    try:
        for _ in range(3):
            ask()
        preparer.start(model("bad"))
        assert preparer.state(model("bad")).status == ("failed" if strangers else "preparing")
        if strangers:
            assert preparer.ended == {"failed": 1}
            preparer.prepare(model("slow"), nothing, lambda: False)  # others go on
            monkeypatch.setattr(preparer, "_remembered_s", 0.0)  # a minute later
            ask()
            assert preparer.ended == {"failed": 2, "ready": 1}
    finally:
        preparer.close()


def test_who_called_off_may_ask_again_at_once_among_strangers_too(tmp_path: Path) -> None:
    preparer = Preparer(Settings(tmp_path, strangers=True), Models(slow="fake:prepare_s=0.3"))
    try:
        with pytest.raises(Stopped):
            preparer.prepare(model("slow"), nothing, lambda: True)
        assert preparer.prepare(model("slow"), nothing, lambda: False).variant.model == "slow"
    finally:
        preparer.close()


def test_one_failure_does_not_stop_the_queue(preparer: Preparer) -> None:
    preparer.start(model("bad"))
    preparer.start(model("slow"))
    wait_for(preparer, "slow", "ready")


def test_calling_off_ends_the_work_unless_somebody_else_wants_it(preparer: Preparer) -> None:
    with pytest.raises(Stopped):
        preparer.prepare(model("endless"), nothing, lambda: True)
    wait_for(preparer, "endless", "missing")
    preparer.start(model("slow"))
    with pytest.raises(Stopped):
        preparer.prepare(model("slow"), nothing, lambda: True)
    wait_for(preparer, "slow", "ready")


def test_a_model_somebody_waits_for_goes_before_background_work(preparer: Preparer) -> None:
    preparer.start(model("slow"))
    preparer.start(model("endless"))
    with pytest.raises(ExportError):
        preparer.prepare(model("bad"), nothing, lambda: False)
    assert preparer.state(model("endless")).status == "preparing"


def test_nothing_new_starts_while_paused_even_when_nested(preparer: Preparer) -> None:
    with preparer.paused():
        with preparer.paused():
            preparer.start(model("slow"))
        time.sleep(0.9)
        assert preparer.state(model("slow")).step == "waiting for its turn"
    wait_for(preparer, "slow", "ready")


def test_closing_ends_the_work_and_whoever_waits(preparer: Preparer) -> None:
    raised: list[PlaygroundError] = []

    def wait() -> None:
        try:
            preparer.prepare(model("endless"), nothing, lambda: False)
        except PlaygroundError as error:
            raised.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    wait_for(preparer, "endless", "preparing")
    preparer.close()
    thread.join(5)
    assert [type(error) for error in raised] == [Stopped]
    with pytest.raises(Stopped):
        preparer.start(model("slow"))


def test_a_path_to_nothing_fails_in_the_worker_and_names_the_model(preparer: Preparer) -> None:
    with pytest.raises(PlaygroundError, match=r"Real.*nothing at /nowhere"):
        preparer.prepare(model("real"), nothing, lambda: False)
    assert preparer.state(model("real")).status == "failed"


WORKER = """
import json, os, signal, sys, time
job = json.loads(sys.stdin.readline())
def say(**message): print(json.dumps(message), flush=True)
say(step="building", progress=0.5)
what = job["spec"]["source"]
if what == "die":
    os.kill(os.getpid(), signal.SIGKILL)
if what == "grow":
    import subprocess
    held = subprocess.Popen([sys.executable, "-c", "held = b'x' * 300_000_000; import time; time.sleep(60)"])
if what == "error":
    say(error={"kind": "ChecksumError", "what": "Tiny is damaged", "next_step": "Try again."})
if what == "work":
    made = {"path": "", "recipe": "fused", "revision": "", "sha256": "", "size_bytes": 1}
    say(artifact={"variant": job["variant"], **made})
time.sleep(60)
"""


@pytest.fixture
def scripted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Starts export processes that run ``WORKER``; ends them all."""
    (tmp_path / "scripted_worker.py").write_text(WORKER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(process, "MODULE", "scripted_worker")
    started: list[ExportProcess] = []

    def start(source: str) -> ExportProcess:
        spec = ModelSpec("tiny", "Tiny", source, "", "onnx", "int8", 128, "base")
        started.append(ExportProcess(spec, Variant("tiny", "onnx", "int8"), tmp_path / "home"))
        return started[-1]

    yield start
    for one in started:
        one.kill()


def pid(one: ExportProcess) -> int:
    return one.pid


def test_a_worker_gives_progress_and_an_artifact(scripted) -> None:  # type: ignore[no-untyped-def]
    steps: list[tuple[str, float | None]] = []
    artifact = scripted("work").follow(lambda *step: steps.append(step), lambda: False)
    assert isinstance(artifact, Artifact)
    assert steps == [("building", 0.5)]


def test_a_workers_error_arrives_as_it_was_raised(scripted) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ChecksumError) as caught:
        scripted("error").follow(nothing, lambda: False)
    assert (caught.value.what, caught.value.next_step) == ("Tiny is damaged", "Try again.")


@pytest.mark.fault
def test_a_worker_that_is_killed_is_an_error_that_names_the_signal_and_the_log(scripted) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ExportError, match=r"Tiny.*SIGKILL.*prepare-tiny-.*\.log.*memory"):
        scripted("die").follow(nothing, lambda: False)


def test_a_worker_that_takes_too_much_memory_is_ended_with_what_it_started(
    scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process.memory, "limit_mb", lambda: 200.0)
    one = scripted("grow")
    with pytest.raises(ExportError, match=r"Tiny took [23]\d\d MB of memory, more than 190 MB"):
        one.follow(nothing, lambda: False)
    below = process.memory.children(one.pid)
    one.kill()
    assert len(below) == 1
    until = time.monotonic() + 10  # whoever adopts orphans buries them
    while psutil.pid_exists(below[0]) and psutil.Process(below[0]).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until
        time.sleep(0.05)


def test_calling_off_kills_the_worker_within_a_second(scripted) -> None:  # type: ignore[no-untyped-def]
    one = scripted("sleep")
    begin = time.monotonic()
    with pytest.raises(Stopped):
        one.follow(nothing, lambda: time.monotonic() - begin > 0.5)
    one.kill()
    assert time.monotonic() - begin < 2
    with pytest.raises(ProcessLookupError):
        os.kill(pid(one), 0)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="process states are read from /proc")
def test_a_suspended_worker_stands_still_until_it_is_resumed(scripted) -> None:  # type: ignore[no-untyped-def]
    one = scripted("sleep")
    one.suspend()
    time.sleep(0.1)
    assert Path(f"/proc/{pid(one)}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    one.resume()
    time.sleep(0.1)
    assert Path(f"/proc/{pid(one)}/stat").read_text().rpartition(")")[2].split()[0] != "T"


def test_a_suspended_worker_can_still_be_ended(scripted) -> None:  # type: ignore[no-untyped-def]
    one = scripted("sleep")
    one.suspend()
    begin = time.monotonic()
    one.kill()
    assert time.monotonic() - begin < 2


APP = """
import os, signal, sys, time
from playground.system.child import JsonChild
one = JsonChild(sys.argv[1], dict(os.environ))
print(one.pid, flush=True)
sys.stdin.readline()
one.signal(signal.SIGSTOP)
print("suspended", flush=True)
time.sleep(60)
"""


@pytest.mark.fault
@pytest.mark.skipif(sys.platform != "linux", reason="the second rope is Linux's")
@pytest.mark.parametrize("module", ["playground.export.worker", "playground.sources.hub.worker"])
def test_a_suspended_worker_does_not_outlive_an_app_that_is_killed(module: str) -> None:
    """It can't see its stdin close, and the lock it may hold would be held for ever."""
    app = subprocess.Popen(
        [sys.executable, "-c", APP, module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        text=True,
    )
    try:
        assert app.stdout
        assert app.stdin
        worker = int(app.stdout.readline())
        time.sleep(3)  # until it waits for its job; before, it holds nothing
        app.stdin.write("\n")
        app.stdin.flush()
        assert app.stdout.readline() == "suspended\n"
    finally:
        app.kill()
        app.communicate()
    deadline = time.monotonic() + 20
    while not ended(worker):
        assert time.monotonic() < deadline, "it outlived the app"
        time.sleep(0.05)


def ended(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.fault
def test_the_real_worker_ends_when_whoever_started_it_is_gone(tmp_path: Path) -> None:
    """Its stdin closes, as after ``kill -9`` of the app, while it waits for a lock that somebody holds."""
    from filelock import FileLock

    home = tmp_path / "home"
    spec = ModelSpec("tiny", "Tiny", "pypi:a==1/a.gguf", "sha256:" + "0" * 64, "onnx", "int8", 128, "base")
    (home / "locks").mkdir(parents=True)
    with FileLock(home / "locks" / ("source-" + "0" * 16 + ".lock")):
        one = ExportProcess(spec, Variant("tiny", "onnx", "int8"), home)
        message = one.receive(10)
        assert message is not None
        assert message["step"]["text"] == "waiting for another download"
        one._stdin.close()
        assert one._process.wait(timeout=5) == -signal.SIGKILL
    one.kill()
