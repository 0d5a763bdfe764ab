"""Suites on the replicas of a Ray cluster: Ray Serve starts them, places them, balances answers among them and starts
lost ones again (https://docs.ray.io/en/latest/serve). An extra; without it, and without ``PLAYGROUND_RAY``, nothing of
Ray is loaded.

Each replica is a worker of ours on some machine of the cluster: the same artifact, the same runtime, one answer at a
time, with as many cores reserved as it has threads. It needs the package and the artifact's folder (PLAYGROUND_HOME on
a disk that all machines share) where it runs.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import Any, TypeVar

from playground.config.settings import Settings
from playground.errors import ConfigError, DoesNotFit, PlaygroundError, RunError, Stopped, all_of, first_line
from playground.messages import Translatable, msg
from playground.records import Cancelled, Event, LoadSpec, Request
from playground.workers import protocol
from playground.workers.answer import Answer
from playground.workers.expected_memory import expected
from playground.workers.process import STOPPED
from playground.workers.ray_cluster import LOCAL, WITH_NEXT, Cluster, State, delete, deploy, handle_of, look
from playground.workers.sharing import TRIES, Together, labelled

LOOK_S = 0.05
"""Between two looks at Stop while a replica is silent."""
READY_S = 600.0
"""For the cluster to start a model's replicas."""
BY_CLUSTER = msg(
    "Answered by a replica of a Ray cluster: its figures are of the machine it ran on, which is not noted down."
)

Result = TypeVar("Result")


@dataclass(eq=False)
class _Model:
    """A model on the cluster. ``users`` are answers under way; ``ready`` is set when it has a handle or an error."""

    name: str
    users: int = 0
    handle: Any = None
    error: PlaygroundError | None = None
    ready: threading.Event = field(default_factory=threading.Event)


def ray_replicas(settings: Settings, budget_mb: float) -> RayReplicas | None:
    """The cluster that the settings name; None where they name none.

    Args:
        budget_mb: Memory that models may take on this machine, in MB of 10^6 bytes.

    Raises:
        ConfigError: They do, and Ray is not installed.
    """
    if not settings.ray:
        return None
    if find_spec("ray") is None:
        raise ConfigError(
            msg("PLAYGROUND_RAY is set, and Ray is no part of the default install"),
            msg("Run: pip install 'open-model-playground[ray]', or unset PLAYGROUND_RAY."),
        )
    return RayReplicas(settings.ray, settings.ray_replicas, settings.threads, budget_mb, settings.kv_bits)


class RayReplicas:
    """Answers by replicas of a Ray cluster.

    Args:
        address: Of the cluster: ``auto``, ``HOST:PORT``, or ``local`` to start one on this machine.
        replicas: Of each model.
        threads: Of each replica, and cores that it reserves.
        budget_mb: Memory of this machine that a cluster started here may take.
        kv_bits: See ``LoadSpec``.
    """

    def __init__(
        self, address: str, replicas: int, threads: int, budget_mb: float = math.inf, kv_bits: int = 16
    ) -> None:
        self._kv_bits = kv_bits
        self._budget_mb = budget_mb if address == LOCAL else math.inf
        self._address, self._replicas, self._threads = address, replicas, threads
        self._together = Together()
        self._lock = threading.Lock()
        self._models: dict[str, _Model] = {}
        self._closed = False
        self._cluster: Cluster | None = None
        # Ray ends its processes with the thread that started them, hence one lasting thread for all.
        self._caller = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ray")

    @property
    def lanes(self) -> int:
        """Answers that may be asked for at the same time: each replica has the next one there when it is free."""
        return self._replicas * WITH_NEXT

    def generate(self, load: LoadSpec, request: Request, cancelled: Cancelled) -> Iterator[Event]:
        """One answer, as ``Executor.share``. What a replica began and did not end, because it died, is asked again."""

        def over() -> bool:
            return self._closed or cancelled()

        load = replace(load, threads=self._threads, kv_bits=self._kv_bits)
        answer = Answer(load, expected(load, request))
        asked = time.monotonic()
        with self._together.one_more() as turn:
            try:
                yield answer.event("loading")
                with self._deployed(load, over) as model:
                    answer.cold, answer.load_s = False, 0.0
                    answer.queue_s = time.monotonic() - asked
                    for event in self._tries(model, load, request, over, answer):
                        if event.run:
                            yield replace(event, run=labelled(event.run, BY_CLUSTER, (), shared=turn.shared))
                            return
                        yield event
            except Stopped:
                yield answer.end("stopped")
            except PlaygroundError as error:
                yield answer.end("stopped") if over() else answer.end("failed", error)

    def _tries(
        self, model: _Model, load: LoadSpec, request: Request, cancelled: Cancelled, answer: Answer
    ) -> Iterator[Event]:
        lost: list[Translatable] = []
        while True:
            try:
                for event in self._answered(model, request, cancelled, answer):
                    if event.run:
                        notes = tuple(msg("Asked again: {reason}.", reason=reason) for reason in lost)
                        yield replace(event, run=replace(event.run, warnings=(*event.run.warnings, *notes)))
                        return
                    yield event
            except _Lost as error:
                lost.append(error.reason)
                if len(lost) == TRIES:
                    raise _nobody(load, lost) from None
                yield answer.begin_again(msg("{reason}; it is asked again", reason=error.reason))

    def close(self) -> None:
        """Stop every answer and take our models off the cluster; one that was started here ends."""
        self._closed = True
        with self._lock:
            models = list(self._models.values())
            self._models.clear()
        if cluster := self._cluster:
            with contextlib.suppress(Exception):
                handles = [model.handle for model in models if model.handle]
                self._call(lambda: cluster.leave([model.name for model in models], handles))
        self._caller.shutdown()

    # -- models -------------------------------------------------------------------------------------------------

    @contextmanager
    def _deployed(self, load: LoadSpec, cancelled: Cancelled) -> Iterator[_Model]:
        """The model with its replicas ready; the first who asks has them started. Models that nobody asks any more go
        when another one comes.

        Raises:
            Stopped: ``cancelled`` said so.
            RunError: The cluster can't be reached, or starts no replica.
        """
        key = hashlib.sha256(json.dumps(load.to_json(), sort_keys=True).encode()).hexdigest()
        idle: list[_Model] = []
        with self._lock:
            is_first = key not in self._models
            if is_first:
                idle = [self._models.pop(name) for name, model in list(self._models.items()) if not model.users]
                self._models[key] = _Model(f"playground-{key[:12]}-{secrets.token_hex(4)}")
            model = self._models[key]
            model.users += 1
        try:
            if is_first:
                start = threading.Thread(target=self._start, args=(model, load, idle), name="deploy", daemon=True)
                start.start()
            while not model.ready.wait(LOOK_S):
                if cancelled():
                    raise Stopped(STOPPED)
            if model.error:
                raise model.error
            yield model
        finally:
            with self._lock:
                model.users -= 1
                if model.error and self._models.get(key) is model:  # whoever asks next tries anew
                    del self._models[key]

    def _start(self, model: _Model, load: LoadSpec, idle: list[_Model]) -> None:
        try:
            self._check_room(load)
            self._call(self._connect)
            self._call(lambda: delete([other.name for other in idle]))
            self._call(lambda: deploy(model.name, load, self._replicas))
            began = time.monotonic()
            while not self._closed and not (found := self._call(lambda: look(model.name))).ready:
                if found.failed or time.monotonic() - began > READY_S:
                    raise _not_started(load, found, self._replicas)
                time.sleep(LOOK_S * 4)
            model.handle = self._call(lambda: handle_of(model.name))
        except PlaygroundError as error:
            model.error = error
        except Exception as error:
            what = msg("The Ray cluster {address} does not do its work ({said})",
                       address=self._address, said=first_line(error))  # fmt: skip
            model.error = RunError(what, msg("Check PLAYGROUND_RAY, and the cluster with `ray status`."))
        finally:
            model.ready.set()

    def _check_room(self, load: LoadSpec) -> None:
        """
        Raises:
            DoesNotFit: The replicas of a cluster that is started here would take more than this machine has for models.
        """
        found = expected(load, None)
        need_mb = found.total_mb * self._replicas + found.loading_mb
        if need_mb > self._budget_mb:
            raise DoesNotFit(
                msg(
                    "{model}: {n} replicas need {need_mb:,.0f} MB here, and {most_mb:,.0f} MB are for models",
                    model=str(load.artifact.variant),
                    n=self._replicas,
                    need_mb=need_mb,
                    most_mb=self._budget_mb,
                ),
                msg("Set PLAYGROUND_RAY_REPLICAS lower, or PLAYGROUND_RAY to a cluster of several machines."),
            )

    def _call(self, work: Callable[[], Result]) -> Result:
        return self._caller.submit(work).result()

    def _connect(self) -> None:
        if not self._cluster:
            # As many cores as the replicas reserve, whether or not there are: they share the machine, and say so.
            self._cluster = Cluster(self._address, cores=self._replicas * self._threads)

    # -- answers ------------------------------------------------------------------------------------------------

    def _answered(self, model: _Model, request: Request, cancelled: Cancelled, answer: Answer) -> Iterator[Event]:
        """The events of one attempt.

        Raises:
            Stopped: ``cancelled`` said so.
            _Lost: The replica did not end it.
            PlaygroundError: The model can't answer it.
        """
        response = model.handle.options(stream=True).generate.remote(request.to_json())
        lines: queue.SimpleQueue[str | BaseException] = queue.SimpleQueue()

        def pull() -> None:
            try:
                for line in response:
                    lines.put(line)
                lines.put(EOFError("it ended early"))
            except BaseException as error:
                lines.put(error)

        threading.Thread(target=pull, name="pull", daemon=True).start()
        try:
            while True:
                if cancelled():
                    raise Stopped(STOPPED)
                try:
                    got = lines.get(timeout=LOOK_S)
                except queue.Empty:
                    continue
                if isinstance(got, BaseException):
                    raise _Lost(msg("a replica was lost ({said})", said=first_line(got)))
                message = json.loads(got)
                if message["say"] == "error":
                    raise protocol.error_of(message)
                # Stamps are of another machine's clock; what was measured between them stands.
                event = answer.take(replace(Event.from_json(message["event"]), at=time.monotonic()))
                yield event
                if event.run:
                    return
        finally:
            with contextlib.suppress(Exception):
                response.cancel()


class _Lost(Exception):
    """A replica began an answer and did not end it."""

    def __init__(self, reason: Translatable) -> None:
        super().__init__(reason)
        self.reason = reason


def _not_started(load: LoadSpec, found: State, wanted: int) -> RunError:
    what = msg(
        "{model}: the Ray cluster has {n} of {wanted} replicas running ({said})",
        model=str(load.artifact.variant),
        n=found.running,
        wanted=wanted,
        said=first_line(found.said),
    )
    return RunError(
        what,
        msg(
            "Each needs {threads} free cores, this package, and PLAYGROUND_HOME on a disk that all machines share; see "
            "docs/scale.md.",
            threads=load.threads,
        ),
    )


def _nobody(load: LoadSpec, lost: list[Translatable]) -> RunError:
    return RunError(
        msg("{model}: {n} replicas were lost at this request ({reasons})",
            model=str(load.artifact.variant), n=len(lost), reasons=all_of(list(dict.fromkeys(lost)))),
        msg("Look at their logs: the request itself may be what they fail at."),
    )  # fmt: skip
