"""A model that several servers serve, or one that answers several requests at once: any of them may give an answer.

Each answer is asked for in the caller's own thread: it waits on sockets and computes nothing, so a process for each
would only cost memory. A server that fails rests and is tried again; what it was asked for goes to another one, and
counts once. Nobody's figures are made here: what shared its machines is labelled.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace

from playground.config.endpoints import host
from playground.errors import PlaygroundError, RunError, Stopped, Unavailable, all_of
from playground.messages import Translatable, msg, plural
from playground.records import Cancelled, Event, LoadSpec, ModelSpec, PromptView, Remote, Request
from playground.runtimes import create_runtime
from playground.runtimes.base import Runtime
from playground.workers.answer import Answer
from playground.workers.balancing import LOOK_S, Balancer, Place
from playground.workers.expected_memory import expected
from playground.workers.process import STOPPED
from playground.workers.sharing import TRIES, Together, UnderWay, labelled


@dataclass(eq=False)
class _Server(Place):
    """A place with the runtime that speaks to it; None before it was reached, and again after it failed."""

    load: LoadSpec | None = None
    runtime: Runtime | None = None
    asking: threading.Lock = field(default_factory=threading.Lock)


class Replicas:
    """Answers by servers that share the work."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._balancers: dict[Remote, Balancer] = {}
        self._together = Together()
        self._closed = False

    def takes(self, spec: ModelSpec) -> bool:
        """Whether several answers of this model may be under way at once."""
        return spec.remote is not None and (bool(spec.remote.replicas) or spec.remote.at_once > 1)

    def lanes(self, spec: ModelSpec) -> int:
        """How many."""
        return len(spec.remote.addresses) * spec.remote.at_once if spec.remote else 1

    def generate(self, load: LoadSpec, request: Request, cancelled: Cancelled) -> Iterator[Event]:
        """One answer, ending in exactly one ``done``, ``stopped`` or ``failed``, as ``Pool.generate``.

        Where a server fails, another one is asked from the beginning: a ``loading`` event behind pieces of text says
        that those no longer count. ``queue_s`` is all that passed before the request that was answered.
        """

        def over() -> bool:
            return self._closed or cancelled()

        answer = Answer(load, expected(load, request))
        with self._together.one_more() as turn:
            try:
                yield from self._tries(load, request, over, answer, turn)
            except Stopped:
                yield answer.end("stopped")
            except PlaygroundError as error:
                yield answer.end("stopped") if over() else answer.end("failed", error)

    def inspect(self, load: LoadSpec, request: Request) -> PromptView:
        """What is sent; by the first server that is there.

        Raises:
            RunError: None is, or the model refuses the messages.
        """
        assert load.spec.remote is not None
        balancer, failed = self._balancer(load), list[Place]()
        until = time.monotonic() + load.spec.remote.timeout_s
        while server := balancer.take(failed, lambda: self._closed, until):
            assert isinstance(server, _Server)
            well: bool | None = None
            try:
                return _reached(server, lambda: self._closed)[0].inspect(request)
            except Unavailable:
                server.runtime, well = None, False
                failed.append(server)
                if len(failed) == len(balancer.places):
                    raise
            finally:
                balancer.give_back(server, well)
        raise _nobody(load.spec, [], 0)

    def close(self) -> None:
        """Stop every answer within a moment."""
        self._closed = True

    def _tries(
        self, load: LoadSpec, request: Request, cancelled: Cancelled, answer: Answer, turn: UnderWay
    ) -> Iterator[Event]:
        assert load.spec.remote is not None
        balancer = self._balancer(load)
        asked = time.monotonic()
        failed: list[Place] = []
        refusing: set[Place] = set()
        reasons: dict[Translatable, None] = {}
        tries = 0
        while True:
            server = balancer.take(failed, cancelled, until=asked + load.spec.remote.timeout_s)
            if server is None or tries == TRIES:
                if server:
                    balancer.give_back(server, None)
                raise _nobody(load.spec, list(reasons), tries)
            assert isinstance(server, _Server)
            given_back = False

            def give_back(well: bool | None, place: Place = server) -> None:
                nonlocal given_back
                if not given_back:
                    given_back = True
                    balancer.give_back(place, well)

            try:
                runtime, answer.load_s = _reached(server, cancelled)
                tries += 1
                answer.cold, answer.queue_s = False, time.monotonic() - asked
                for event in _answered(runtime, request, cancelled, answer):
                    if event.run:  # free before it is told: whoever hears of the end may ask for the next answer
                        give_back(event.kind == "done" or None)
                        yield replace(event, run=labelled(event.run, _by(server), list(reasons), shared=turn.shared))
                        return
                    yield event
            except Unavailable as error:
                server.runtime = None
                give_back(False)
                failed.append(server)
                reasons[error.what] = None
                refusing |= {server} if error.lasting else set()
                if len(refusing) == len(balancer.places):
                    raise
                yield answer.begin_again(msg("{reason}; another server is asked", reason=error.what))
            except RunError:  # the request's own fault: the server is none the worse
                give_back(True)
                raise
            finally:
                give_back(None)

    def _balancer(self, load: LoadSpec) -> Balancer:
        remote = load.spec.remote
        assert remote is not None
        with self._lock:
            if remote not in self._balancers:
                servers = []
                for address in remote.addresses:
                    alone = replace(remote, url=address, replicas=(), at_once=1)
                    own = replace(load, spec=replace(load.spec, remote=alone))
                    servers.append(_Server(address, load=own))
                self._balancers[remote] = Balancer(servers, remote.at_once)
            return self._balancers[remote]


def _reached(server: _Server, cancelled: Cancelled) -> tuple[Runtime, float]:
    """The runtime that speaks to a server, and the seconds it took to find out whether it is there.

    Raises:
        Stopped: ``cancelled`` said so.
        RunError: It is not there, or the key is wrong.
    """
    while not server.asking.acquire(timeout=LOOK_S):
        if cancelled():
            raise Stopped(STOPPED)
    try:
        if server.runtime:
            return server.runtime, 0.0
        assert server.load is not None
        began = time.monotonic()
        runtime = create_runtime(server.load.artifact.variant.runtime)
        _within(runtime, server.load, cancelled)
        server.runtime = runtime
        return runtime, time.monotonic() - began
    finally:
        server.asking.release()


def _within(runtime: Runtime, load: LoadSpec, cancelled: Cancelled) -> None:
    """Load in a thread of its own: asking for the list of models may take 10 s, and Stop must not wait for it."""
    raised: list[BaseException] = []

    def ask() -> None:
        try:
            runtime.load(load)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=ask, name=f"reach {load.spec.id}", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(LOOK_S)
        if cancelled():
            raise Stopped(STOPPED)
    if raised:
        raise raised[0]


def _answered(runtime: Runtime, request: Request, cancelled: Cancelled, answer: Answer) -> Iterator[Event]:
    """The events of one attempt; closing it closes the connection."""
    events = runtime.generate(request, cancelled)
    with closing(events):  # type: ignore[type-var]  # a generator, as every runtime's
        for event in events:
            yield answer.take(event)


def _by(server: _Server) -> Translatable:
    assert server.load is not None and server.load.spec.remote is not None
    return msg("Answered by {host}, one of several servers.", host=host(server.load.spec.remote))


def _nobody(spec: ModelSpec, reasons: list[Translatable], tries: int) -> RunError:
    assert spec.remote is not None
    said = all_of(reasons) if reasons else msg("no answer")
    if tries == TRIES:
        return RunError(
            msg("{model}: {n} servers failed at this request ({reasons})", model=spec.id, n=tries, reasons=said),
            msg("Look at their logs: the request itself may be what they fail at."),
        )
    what = plural(
        "{model}: its server was not there for {seconds:g} s ({reasons})",
        "{model}: none of its {n} servers was there for {seconds:g} s ({reasons})",
        len(spec.remote.addresses),
        model=spec.id,
        seconds=spec.remote.timeout_s,
        reasons=said,
    )
    return RunError(what, msg("Start them again, or take those that are gone out of replicas."))
