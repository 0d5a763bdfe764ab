"""A Ray cluster: joined or started, a model's replicas on it, and what runs in one of them.

The only module that asks for Ray, and only when it is called; in a replica it is loaded by Ray. It knows artifacts and
runtimes; it does not know suites, or who asks.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from playground.errors import PlaygroundError, Reason, RunError
from playground.messages import msg
from playground.records import LoadSpec, Request
from playground.runtimes import create_runtime
from playground.system.child import ChildDied, JsonChild
from playground.system.child_environment import LIBRARIES, passed
from playground.workers import protocol

LOCAL = "local"
"""The address that means: start a cluster on this machine, and end it with the app."""
HEAD = "playground.workers.ray_head"
SETTINGS = r"RAY_.*"
"""Ray's own, the token by which processes of a cluster know each other among them."""
START_S, END_S = 120.0, 5.0
"""For a head to start its cluster, and to end it."""
LOOK_S = 0.1


WITH_NEXT = 2
"""Requests a replica may hold: the one it answers, and the next. Ray looks for a free replica in growing intervals, and
each would stand idle for as long."""


class Replica:
    """What runs on the cluster: a model, loaded once, that answers one request at a time."""

    def __init__(self, load: dict[str, Any]) -> None:
        self._wrong: PlaygroundError | None = None
        self._free = threading.Lock()
        spec = LoadSpec.from_json(load)
        self._runtime = create_runtime(spec.artifact.variant.runtime)
        try:
            self._runtime.load(spec)
        except PlaygroundError as error:  # raised here it would be Ray's, in Ray's words, and tried for ever
            self._wrong = error

    async def generate(self, request: dict[str, Any]) -> AsyncIterator[str]:
        """The events of an answer, or one error, each as a line of JSON."""
        if self._wrong:
            yield json.dumps(protocol.error(None, self._wrong))
            return
        lines: asyncio.Queue[str | None] = asyncio.Queue()
        loop, left = asyncio.get_running_loop(), threading.Event()

        def say(line: str | None) -> None:
            loop.call_soon_threadsafe(lines.put_nowait, line)

        def answer() -> None:
            with self._free:
                try:
                    for event in self._runtime.generate(Request.from_json(request), left.is_set):
                        say(json.dumps(protocol.event(0, event)))
                except PlaygroundError as error:
                    say(json.dumps(protocol.error(0, error)))
                except Exception as error:
                    said = msg("{kind}: {error}", kind=type(error).__name__, error=str(error))
                    say(json.dumps(protocol.error(0, RunError(said, msg("The replica's log has the details.")))))
                finally:
                    say(None)

        threading.Thread(target=answer, name="answer", daemon=True).start()
        try:
            while (line := await lines.get()) is not None:
                yield line
        finally:
            left.set()


def head_environment(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a cluster that is started here, its replicas included: as a worker's, and Ray's settings."""
    return passed(LIBRARIES, SETTINGS, env=env) | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


class Head(JsonChild):
    """A cluster on this machine, in a process that starts and ends it.

    Args:
        cores: That it says it has.

    Attributes:
        address: Where others join it.

    Raises:
        OSError, RuntimeError, Reason: It can't be started.
    """

    def __init__(self, cores: int) -> None:
        super().__init__(HEAD, head_environment())
        try:
            self.send({"cores": cores})
            self.address = self._started()
        except BaseException:
            self.kill()
            raise

    def _started(self) -> str:
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            try:
                said = self.receive(LOOK_S)
            except ChildDied as error:
                raise (RuntimeError(self.tail[-1]) if self.tail else Reason(msg("its head process ended"))) from error
            if said is not None:
                if "error" in said:
                    raise RuntimeError(said["error"])
                return str(said["address"])
        raise Reason(msg("it did not start within {n} s", n=f"{START_S:.0f}"))

    def close(self) -> None:
        """End the cluster and all of its processes."""
        self.finish()
        until = time.monotonic() + END_S
        while self.alive and time.monotonic() < until:
            time.sleep(LOOK_S)
        self.kill()


class Cluster:
    """A cluster that this process is connected to.

    Args:
        address: ``auto``, ``HOST:PORT``, or ``local``.
        cores: That a local one says it has.
    """

    def __init__(self, address: str, cores: int) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody asked the reader
        # What is left of a handle would start a cluster of its own when this one is gone.
        os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"
        if address == LOCAL:  # as Ray does for a cluster that it starts; its head and this process have to agree
            os.environ.setdefault("RAY_AUTH_MODE", "token")
        import ray
        from ray import serve

        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        self._is_ours = not ray.is_initialized()
        self._head = Head(cores) if self._is_ours and address == LOCAL else None
        try:
            if self._is_ours:
                ray.init(address=self._head.address if self._head else address, **quiet)
            logging.getLogger("ray.serve").setLevel(logging.ERROR)
            serve.start(proxy_location="Disabled")  # asked by handles: no door of Ray's is opened
        except BaseException:
            self._disconnect()
            raise

    def leave(self, names: Sequence[str], handles: Sequence[Any]) -> None:
        """Take models off the cluster and leave it; one that was started here ends with all of them."""
        for handle in handles:
            handle.shutdown()
        if not self._head:
            delete(names)
        self._disconnect()

    def _disconnect(self) -> None:
        import ray

        if self._is_ours:
            ray.shutdown()
        if self._head:
            self._head.close()


@dataclass(frozen=True)
class State:
    """How far the cluster is with a model."""

    ready: bool
    failed: bool
    said: str
    running: int


def deploy(name: str, load: LoadSpec, replicas: int) -> None:
    from ray import serve

    deployment = serve.deployment(
        Replica,
        name="model",
        num_replicas=replicas,
        max_ongoing_requests=WITH_NEXT,
        ray_actor_options={"num_cpus": load.threads},
        health_check_period_s=2,
        graceful_shutdown_timeout_s=1,
    )
    target = serve.RunTarget(deployment.bind(load.to_json()), name=name, route_prefix=None)
    serve.run_many([target], wait_for_applications_running=False)


def look(name: str) -> State:
    from ray import serve

    app = serve.status().applications.get(name)
    if app is None:
        return State(False, False, "", 0)
    states = [deployment.replica_states.get("RUNNING", 0) for deployment in app.deployments.values()]
    said = [app.message, *(deployment.message for deployment in app.deployments.values())]
    return State(
        app.status.value == "RUNNING",
        app.status.value in ("DEPLOY_FAILED", "UNHEALTHY"),
        next(filter(None, said), ""),
        sum(states),
    )


def handle_of(name: str) -> Any:
    from ray import serve

    return serve.get_app_handle(name)


def delete(names: Sequence[str]) -> None:
    from ray import serve

    for name in names:
        with contextlib.suppress(Exception):
            serve.delete(name)
