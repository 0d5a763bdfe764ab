"""When a worker is heard: at once, but for what follows a token."""

from __future__ import annotations

import pytest

from playground.records import Event, EventKind, ModelRun, Variant
from playground.system.child import encode
from playground.workers import protocol
from playground.workers.process import WorkerProcess

RUN = ModelRun(Variant("a", "fake", "none"), "fake", "none", '"kind":"token"', "stop")


@pytest.mark.parametrize(("kind", "waits"), [("token", True), ("prefill", False), ("done", False), ("stopped", False)])
def test_only_behind_a_token_more_is_waited_for(kind: EventKind, *, waits: bool) -> None:
    event = Event("a", kind, text='"kind":"token"', run=None if kind in ("token", "prefill") else RUN)
    line = encode(protocol.event(1, event))
    assert WorkerProcess.more_follows(object.__new__(WorkerProcess), line) is waits


def test_answers_to_questions_are_heard_at_once() -> None:
    line = encode(protocol.progress(1, 0.5))
    assert not WorkerProcess.more_follows(object.__new__(WorkerProcess), line)


def test_what_was_said_last_decides() -> None:
    token = encode(protocol.event(1, Event("a", "token", text="word")))
    done = encode(protocol.event(1, Event("a", "done", run=RUN)))
    hears = WorkerProcess.more_follows
    assert not hears(object.__new__(WorkerProcess), token + token + done)
    assert hears(object.__new__(WorkerProcess), done + token)
