"""Children that speak JSON: heard, suspended, ended, and survived when they go wrong."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from playground.system import child
from playground.system.child import ChildDied, Ending, JsonChild, decode, encode

CHILD = """
import json, os, signal, subprocess, sys, time
def say(**message): print(json.dumps(message), flush=True)
what = json.loads(sys.stdin.readline())["do"]
if what == "echo":
    for line in sys.stdin:
        print(line, end="", flush=True)
if what == "exit":
    say(last=True)
    print("its last words", file=sys.stderr)
    sys.exit(3)
if what == "die":
    os.kill(os.getpid(), signal.SIGTERM)
if what == "garbage":
    print("hello\\n[1, 2]\\n\\n{broken", flush=True)
    say(ok=True)
if what == "flood":
    while True:
        sys.stdout.write("x" * 65536)
if what == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    say(ok=True)
if what == "mute":
    os.close(1)
if what == "family":
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], stdin=subprocess.DEVNULL)
    say(pid=sleeper.pid)
    if json.loads(sys.stdin.readline())["do"] == "leave":
        sys.exit(0)
if what == "orphan":
    orphan = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(30)"], stdin=0, stdout=1, stderr=2, start_new_session=True
    )
    say(pid=orphan.pid)
if what == "deep":
    print("[" * 200_000, flush=True)
    say(ok=True)
if what == "streams":
    from playground.system.child import encode, end_with_stdin, take_streams
    commands, send, hear_now = take_streams()
    os.write(1, b"printed by a library\\n")
    send(encode({"read": sys.stdin.read()}))
    end_with_stdin(commands)
if what == "tokens":
    from playground.system.child import encode, take_streams
    commands, send, hear_now = take_streams()
    for asks in (False, True):
        time.sleep(0.5)
        send(encode({"first": time.monotonic()}))
        time.sleep(0.01)
        send(encode({"last": time.monotonic()}))
        if asks:
            hear_now()
if what == "asks":
    from playground.system.child import encode, end_with_stdin, take_streams
    commands, send, hear_now = take_streams()
    hear_now()
    end_with_stdin(commands)
    send(encode({"ok": True}))
time.sleep(60)
"""

Start = Callable[..., JsonChild]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts children that run ``CHILD``; ends them all."""
    (tmp_path / "scripted_child.py").write_text(CHILD)
    started: list[JsonChild] = []

    def begin(what: str, **options: Any) -> JsonChild:
        one = JsonChild("scripted_child", {**os.environ, "PYTHONPATH": str(tmp_path)}, **options)
        started.append(one)
        one.send({"do": what})
        return one

    yield begin
    for one in started:
        one.kill()


def hear(one: JsonChild) -> dict[str, Any]:
    message = one.receive(20)
    assert message is not None
    return message


def ending(one: JsonChild) -> Ending:
    deadline = time.monotonic() + 20
    with pytest.raises(ChildDied) as caught:
        while time.monotonic() < deadline:
            one.receive(0.5)
    return caught.value.ending


def gone(pid: int) -> bool:
    """Ended, if perhaps not yet collected by whoever inherits orphans here."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z"


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 5
    while not gone(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_messages_come_in_order_whatever_is_in_them(start: Start) -> None:
    one = start("echo")
    said = [{"n": n, "text": "line\nbreak\u2028 \ud800 \x00 🦙", "long": "x" * n * 10_000} for n in range(20)]
    # A pipe holds little, and so does what comes back: whoever writes much has to listen meanwhile.
    threading.Thread(target=lambda: [one.send(message) for message in said]).start()
    assert [hear(one) for _ in said] == said


@pytest.mark.alone
def test_silence_is_no_message_and_is_measured(start: Start) -> None:
    one = start("echo")
    began = time.monotonic()
    assert one.receive(0.3) is None
    assert 0.3 <= time.monotonic() - began < 2
    assert one.silent_s >= 0.3
    one.send({"a": 1})
    assert one.silent_s < 0.3
    assert hear(one) == {"a": 1}


def test_whoever_is_not_waited_for_any_more_is_not_heard(start: Start) -> None:
    began = time.monotonic()
    assert list(start("stall").messages(lambda: time.monotonic() - began > 0.3)) == []
    assert time.monotonic() - began < 5


def test_an_exit_code_is_named_after_the_last_message(start: Start) -> None:
    one = start("exit")
    assert hear(one) == {"last": True}
    found = ending(one)
    assert (found.code, found.signal, found.killed) == (3, "", False)
    assert list(one.tail) == ["its last words"]
    assert not one.alive
    assert ending(one) == found  # again and again


@pytest.mark.parametrize(("code", "name"), [(-15, "SIGTERM"), (-9, "SIGKILL"), (0, ""), (-99, "signal 99")])
def test_signals_are_named(code: int, name: str) -> None:
    assert Ending(code).signal == name


def test_a_signal_that_ends_it_is_named(start: Start) -> None:
    assert ending(start("die")) == Ending(-signal.SIGTERM)


def test_only_a_sigkill_of_somebody_else_hints_at_memory() -> None:
    assert Ending(-signal.SIGKILL).killed
    assert not Ending(-signal.SIGKILL, flooded=True).killed


@pytest.mark.fault
def test_writing_to_a_dead_child_says_that_it_is_dead(start: Start) -> None:
    one = start("exit")
    wait_until_gone(one.pid)
    with pytest.raises(ChildDied) as caught:
        one.send({"x": "y" * 1_000_000})
    assert caught.value.ending.code == 3


def test_what_is_no_message_is_kept_for_the_log_and_passed_over(start: Start) -> None:
    one = start("garbage")
    assert hear(one) == {"ok": True}
    kept = "\n".join(one.tail)
    assert all(line in kept for line in ("hello", "[1, 2]", "{broken"))


def test_a_line_that_never_ends_ends_the_child(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "MAX_LINE_BYTES", 1_000_000)
    one = start("flood")
    found = ending(one)
    assert found.flooded
    assert gone(one.pid)


def test_a_child_that_only_closed_its_pipe_is_ended(start: Start) -> None:
    one = start("mute")
    assert ending(one).code == -signal.SIGKILL
    assert gone(one.pid)


def test_a_child_that_ignores_sigterm_is_ended_all_the_same(start: Start) -> None:
    one = start("deaf")
    assert hear(one) == {"ok": True}
    one.signal(signal.SIGTERM)
    assert one.receive(0.3) is None
    assert one.alive
    one.kill()
    assert not one.alive
    one.kill()  # and again, for whoever does not know


def test_what_it_started_is_ended_with_it(start: Start) -> None:
    one = start("family")
    pid = hear(one)["pid"]
    one.kill()
    wait_until_gone(pid)


def test_what_it_left_behind_is_ended_too(start: Start) -> None:
    one = start("family")
    pid = hear(one)["pid"]
    one.send({"do": "leave"})
    assert ending(one).code == 0
    wait_until_gone(pid)


class CalledOff(Exception):
    """Nobody wants it any more."""


def sending(one: JsonChild, waiting: Callable[[], object] | None) -> tuple[threading.Thread, list[Exception]]:
    """Somebody sends more than a pipe holds, in a thread."""
    raised: list[Exception] = []

    def send() -> None:
        try:
            one.send({"x": "y" * 1_000_000}, waiting)
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    time.sleep(0.3)
    assert thread.is_alive()
    return thread, raised


def test_a_child_that_reads_nothing_is_waited_for_until_the_sender_is_called_off(start: Start) -> None:
    one = start("deaf")
    hear(one)
    off = threading.Event()

    def waiting() -> None:
        if off.is_set():
            raise CalledOff

    thread, raised = sending(one, waiting)
    off.set()
    thread.join(2)
    assert [type(error) for error in raised] == [CalledOff]


@pytest.mark.fault
def test_a_child_that_reads_nothing_for_long_counts_as_dead(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "FULL_PIPE_S", 0.5)
    one = start("deaf")
    hear(one)
    thread, raised = sending(one, None)
    thread.join(5)
    assert [type(error) for error in raised] == [ChildDied]
    assert gone(one.pid)


@pytest.mark.parametrize("suspended", [False, True])
@pytest.mark.parametrize("what", ["deaf", "orphan"])
@pytest.mark.alone
def test_who_ends_a_child_does_not_wait_for_who_sends_to_it(start: Start, what: str, suspended: bool) -> None:
    one = start(what)
    orphan = hear(one).get("pid")
    try:
        if suspended:
            one.signal(signal.SIGSTOP)
        thread, raised = sending(one, None)
        began = time.monotonic()
        one.finish()
        assert time.monotonic() - began < 2
        one.kill()
        assert time.monotonic() - began < 5
        thread.join(5)
        assert [type(error) for error in raised] == [ChildDied]
        assert gone(one.pid)
    finally:
        if orphan:
            os.kill(orphan, signal.SIGKILL)


def test_a_line_nested_deeper_than_python_can_read_is_no_message(start: Start) -> None:
    one = start("deep")
    assert hear(one) == {"ok": True}
    assert any("not a message" in line for line in one.tail)


def test_a_child_in_our_own_group_is_ended_alone(start: Start) -> None:
    one = start("echo", own_group=False)
    assert os.getpgid(one.pid) == os.getpgrp()
    one.kill()
    assert gone(one.pid)


def test_its_stderr_goes_to_an_open_file(start: Start, tmp_path: Path) -> None:
    with (tmp_path / "log").open("ab") as log:
        one = start("exit", stderr=log)
    assert hear(one) == {"last": True}
    ending(one)
    assert (tmp_path / "log").read_text() == "its last words\n"
    assert not one.tail


def test_the_childs_end_keeps_the_pipes_to_itself_and_ends_with_its_parent(start: Start) -> None:
    one = start("streams")
    assert hear(one) == {"read": ""}
    one._stdin.close()
    assert ending(one).code == -signal.SIGKILL
    assert list(one.tail) == ["printed by a library"]


@pytest.mark.fault
def test_a_child_is_found_from_a_folder_that_is_gone(start: Start, tmp_path: Path) -> None:
    here = Path.cwd()
    (tmp_path / "gone").mkdir()
    os.chdir(tmp_path / "gone")
    try:
        (tmp_path / "gone").rmdir()
        one = start("streams")
        assert hear(one) == {"read": ""}
    finally:
        os.chdir(here)


@pytest.mark.parametrize("line", [b"", b"hello", b"[1]", b"1", b"\xff{}", b'{"a": 1', b"[" * 200_000])
def test_only_objects_are_messages(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(line)


def test_a_message_is_one_line_of_ascii() -> None:
    line = encode({"text": "ä\n\u2028🦙"})
    assert line.isascii()
    assert line.count(b"\n") == 1
    assert decode(line) == {"text": "ä\n\u2028🦙"}


@pytest.mark.alone
def test_a_child_that_has_said_all_is_heard_at_once(start: Start) -> None:
    one = start("tokens")
    late = []
    for name in ("first", "last") * 2:
        sent = hear(one)[name]
        late.append(time.monotonic() - sent)
    waited, _, asked = late[1:]
    assert waited > 0.02, "what follows is heard by the handful"
    assert asked < waited / 2


@pytest.mark.fault
def test_a_child_that_asked_a_parent_that_is_gone_ends_quietly(start: Start) -> None:
    one = start("asks")
    hear(one)
    one.finish()  # what it asked was never read, and its end of the line says so instead of ending
    assert not one.alive
