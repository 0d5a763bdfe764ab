"""ZeroGPU: Spaces that are lent a GPU for as long as one function runs, through the Hub's package ``spaces``.

That package puts a stand-in for CUDA into torch and, when the decorated function is called, forks the process that
imported it; in the fork CUDA is real. So the function has to be called in the app's own process, where every other
model has a process of its own: ``GpuWorker`` looks to the pool like such a process and calls it. The fork loads the
weights from the disk and keeps them for as long as it is kept itself. What is answered there is ``torch-bf16``,
labelled with the GPU's name and in no order with figures of processors. It was not run on a GPU yet: tests run it
where the decorator does nothing and the processor stands in for the GPU.
"""

from __future__ import annotations

import contextlib
import json
import queue
import threading
import time
from collections.abc import Callable, Iterator
from io import BytesIO

from playground.errors import RunError, WorkerDied, reason_of
from playground.messages import msg
from playground.records import Cancelled, LoadSpec, Variant
from playground.workers import protocol
from playground.workers.main import Server

DURATION_S = 60
"""What is asked of the visitor's quota for one answer, loading included: a few hundred tokens of a small model."""
ACCELERATED = ("torch", "bf16")
END = b""

Compute = Callable[[str, str], Iterator[bytes]]

_compute: Compute | None = None
_servers: dict[str, Server] = {}
"""In the fork: the model it has loaded."""


def enable() -> None:
    """Decorate the function; in the app's process, after gradio and before its launch, which reports it to the Hub.

    Raises:
        RunError: The package is not installed.
    """
    global _compute  # noqa: PLW0603  the package wants one function of one process
    try:
        import spaces
    except ImportError as error:
        raise RunError(
            msg("This is a ZeroGPU Space, and the package spaces is not installed"),
            msg("Deploy it with the profile: `playground deploy space OWNER/NAME --profile zerogpu`."),
        ) from error
    _compute = spaces.GPU(duration=DURATION_S)(compute)


def runs_there(variant: Variant) -> bool:
    """Whether this variant is answered by the decorated function."""
    return _compute is not None and (variant.runtime, variant.precision) == ACCELERATED


def compute(load: str, command: str) -> Iterator[bytes]:
    """One command of ``protocol`` to the model of ``load``; the lines that a worker would say.

    Args:
        load: A ``LoadSpec`` as JSON.
        command: A message as JSON.
    """
    said: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    server = _servers.get(load)
    if server is None:
        _servers.clear()  # one model at a time: what it holds goes with it
        server = Server(BytesIO(), said.put)
        _servers[load] = server
    message = json.loads(command)

    def work() -> None:
        try:
            server.answer_to(protocol.load(LoadSpec.from_json(json.loads(load))), said.put)
            server.answer_to(message, said.put)
        finally:
            said.put(END)

    thread = threading.Thread(target=work, name="gpu", daemon=True)
    thread.start()
    try:
        while line := said.get():
            yield line
    finally:
        server.stop(message["id"])
        thread.join()


class GpuWorker:
    """What the pool knows as a worker; each command is a call of the decorated function.

    Args:
        load: What is answered with. It is loaded where the first command is computed.
    """

    def __init__(self, load: LoadSpec) -> None:
        self.model = str(load.artifact.variant)
        self.started_at = time.monotonic()
        self.pid = 0
        self.alive = True
        self._load = json.dumps(load.to_json(), sort_keys=True)
        self._said: queue.SimpleQueue[protocol.Message | Exception] = queue.SimpleQueue()
        self._stopped = 0

    def tell(self, message: protocol.Message, cancelled: Cancelled) -> None:
        """See ``WorkerProcess.tell``."""
        if message["do"] == "load":
            self._said.put(protocol.ready(time.monotonic()))
        elif message["do"] == "stop":
            self._stopped = max(self._stopped, message["id"])
        elif message["do"] != "exit":
            threading.Thread(target=self._call, args=(message,), name="zerogpu", daemon=True).start()

    def receive(self, timeout: float) -> protocol.Message | None:
        """See ``JsonChild.receive``.

        Raises:
            WorkerDied: The Hub lent no GPU, or took it away.
        """
        try:
            found = self._said.get(timeout=timeout)
        except queue.Empty:
            return None
        if isinstance(found, Exception):
            self.alive = False
            raise WorkerDied(
                msg("{model}: ZeroGPU gave no answer ({reason})", model=self.model, reason=reason_of(found)),
                msg("The GPU's time may be used up: try again later, or take a variant that runs on the processor."),
            ) from found
        return found

    def check_stall(self) -> None:
        """Waiting for a GPU is no stall; the package itself gives up in the end."""

    def kill(self) -> None:
        self._stopped = 1 << 62
        self.alive = False

    def close(self) -> None:
        self.kill()

    def _call(self, message: protocol.Message) -> None:
        assert _compute is not None
        try:
            with contextlib.closing(_compute(self._load, json.dumps(message))) as lines:  # type: ignore[type-var]
                for line in lines:
                    answer = protocol.decode(line)
                    if answer["say"] != "ready":
                        self._said.put(answer)
                    if self._stopped >= message["id"]:
                        break
        except Exception as error:  # gradio's errors, whatever the Hub's package raises
            self._said.put(error)
