"""The worker's side: one process, one model, one request at a time (``python -m playground.workers.main``).

Commands are read by a thread of its own, so that Stop arrives while the model answers. When stdin closes, the app is
gone and the process ends at once. It knows the runtime seam; it does not know who asks or what becomes of the answer.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import queue
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import BinaryIO

from playground.errors import PlaygroundError, RunError
from playground.messages import msg
from playground.records import Event, LoadSpec, Request
from playground.runtimes import create_runtime
from playground.runtimes.base import Runtime
from playground.runtimes.generation.scoring import Task, score
from playground.runtimes.generation.token_scores import ScoreIds
from playground.system.child import end_with_parent, take_streams
from playground.system.memory import PeakMeter, give_back
from playground.workers import protocol

TELL_EVERY_S = 0.2


class Server:
    """Answers commands until told to leave.

    Args:
        commands: Lines from the app.
        send: Takes one encoded line to the app.
        hear_now: Asks the app to hear what was sent, although it waits for more tokens.
    """

    def __init__(
        self, commands: BinaryIO, send: Callable[[bytes], None], hear_now: Callable[[], None] = lambda: None
    ) -> None:
        self._commands = commands
        self._send = send
        self._hear_now = hear_now
        self._todo: queue.Queue[protocol.Message] = queue.Queue()
        self._stopped = 0  # the newest request told to stop; request numbers only grow
        self._runtime: Runtime | None = None
        self._model = ""
        self._peak = PeakMeter()
        self._is_remote = False

    def run(self) -> None:
        threading.Thread(target=self._read, name="commands", daemon=True).start()
        while True:
            self._answer_or_tell(self._todo.get())
            self._hear_now()

    def answer_to(self, message: protocol.Message, send: Callable[[bytes], None]) -> None:
        """One command, where there is no stream of them; what is loaded already is not loaded again."""
        self._send = send
        if message["do"] != "load" or self._runtime is None:
            self._answer_or_tell(message)

    def stop(self, number: int) -> None:
        """Let the request of this number, and those before it, end."""
        self._stopped = max(self._stopped, number)

    def _answer_or_tell(self, message: protocol.Message) -> None:
        number = message.get("id")
        try:
            self._answer(message)
        except PlaygroundError as error:
            self._say(protocol.error(number, error))
        except Exception as error:
            traceback.print_exc()
            said = str(error).strip() or msg("no message")
            what = msg("{model}: {kind}: {error}", model=self._model, kind=type(error).__name__, error=said)
            self._say(protocol.error(number, RunError(what, msg("The worker's log has the details."))))

    def _read(self) -> None:
        with suppress(OSError):  # the app ended without hearing that it was asked to
            for line in self._commands:
                message = protocol.decode(line)
                if message["do"] == "exit":
                    break
                if message["do"] == "stop":
                    self.stop(message["id"])
                else:
                    self._todo.put(message)
        # Not sys.exit: the main thread may be inside native code, and nothing here needs an orderly end.
        os._exit(0)

    def _answer(self, message: protocol.Message) -> None:
        if message["do"] == "load":
            self._load(LoadSpec.from_json(message["load"]))
            return
        if self._runtime is None:
            raise RunError(msg("The worker holds no model"), msg("This is a bug of the playground; please report it."))
        number = message["id"]
        if message["do"] == "score":
            self._score(self._runtime, number, Task.from_json(message["task"]))
            return
        if message["do"] == "score_ids":
            self._score_ids(self._runtime, number, ScoreIds.from_json(message["task"]))
            return
        if message["do"] == "encode":
            self._say(protocol.encoded(number, self._runtime.encode(message["text"], message["special"])))
            return
        if message["do"] == "decode":
            self._say(protocol.decoded(number, self._runtime.decode(message["ids"])))
            return
        request = Request.from_json(message["request"])
        if message["do"] == "inspect":
            self._say(protocol.view(number, self._runtime.inspect(request)))
        else:
            self._generate(self._runtime, number, request)

    def _load(self, load: LoadSpec) -> None:
        self._model = str(load.artifact.variant)
        self._is_remote = load.spec.remote is not None
        self._runtime = create_runtime(load.artifact.variant.runtime)
        self._runtime.load(load)
        # What is loaded stays for the life of the process; left alone by the collector, it pauses no answer.
        gc.collect()
        give_back()
        gc.freeze()
        self._say(protocol.ready(time.monotonic()))

    def _generate(self, runtime: Runtime, number: int, request: Request) -> None:
        self._peak.reset()
        began = time.process_time()
        for event in runtime.generate(request, lambda: self._stopped >= number):
            self._say(protocol.event(number, self._with_costs(event, began)))

    def _score(self, runtime: Runtime, number: int, task: Task) -> None:
        tell = self._teller(number)
        self._say(protocol.scored(number, score(runtime, self._model, task, lambda: self._stopped >= number, tell)))

    def _score_ids(self, runtime: Runtime, number: int, task: ScoreIds) -> None:
        scored = runtime.score_ids(task, lambda: self._stopped >= number, self._teller(number))
        self._say(protocol.scored_ids(number, scored))

    def _teller(self, number: int) -> Callable[[float], None]:
        """Says how far it has come, some times a second."""
        said = 0.0

        def tell(share: float) -> None:
            nonlocal said
            if time.monotonic() - said > TELL_EVERY_S:
                said = time.monotonic()
                self._say(protocol.progress(number, share))

        return tell

    def _with_costs(self, event: Event, began: float) -> Event:
        """The last event's run with the CPU time of all threads since ``began``, and the peak of memory."""
        if event.run is None or self._is_remote:  # a remote model works in another machine's process
            return event
        cpu_s = time.process_time() - began
        peak, method = self._peak.read()
        timings = replace(event.run.timings, cpu_s=cpu_s, peak_memory_mb=peak, memory_method=method)
        return replace(event, run=replace(event.run, timings=timings))

    def _say(self, message: protocol.Message) -> None:
        self._send(protocol.encode(message))


def main() -> None:
    faulthandler.enable()
    end_with_parent()
    Server(*take_streams()).run()


if __name__ == "__main__":
    main()
