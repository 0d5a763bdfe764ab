"""The app's record of an answer while it arrives, from which a run is made if its worker can't make one.

It knows events and runs; it does not know processes.
"""

from __future__ import annotations

import time
from dataclasses import replace

from playground.errors import PlaygroundError
from playground.messages import NOTHING, Translatable
from playground.records import Event, EventKind, LoadSpec, ModelRun, Timings
from playground.workers.expected_memory import Expected


class Answer:
    """What the pool knows of an answer while it arrives; enough for a run if the worker can't give one."""

    def __init__(self, load: LoadSpec, expected: Expected) -> None:
        self._load, self._expected = load, expected
        self.model = str(load.artifact.variant)
        self._text = ""
        self._tokens = 0
        self._prompt_tokens: int | None = None
        self.queue_s = 0.0
        self.load_s: float | None = None
        self.cold: bool | None = None

    def event(self, kind: EventKind, text: str = "", run: ModelRun | None = None) -> Event:
        return Event(self.model, kind, text=text, n_tokens=self._tokens, at=time.monotonic(), run=run)

    def begin_again(self, why: Translatable) -> Event:
        """Forget what has come: the answer is asked for anew, elsewhere."""
        self._text, self._tokens, self._prompt_tokens = "", 0, None
        return self.event("loading", why)

    def take(self, event: Event) -> Event:
        """Note what arrived; the last event's run gets the figures that only the pool knows."""
        if event.kind == "token":
            self._text += event.text
            self._tokens = event.n_tokens
        elif event.kind == "prefill" and event.progress == 1:
            self._prompt_tokens = event.n_tokens
        if event.run is None:
            return event
        timings = replace(event.run.timings, queue_s=self.queue_s, load_s=self.load_s, cold=self.cold)
        timings = self._with_memory(timings)
        return replace(event, run=replace(event.run, timings=timings))

    def _with_memory(self, timings: Timings) -> Timings:
        """What the plan expected, beside what the worker measured."""
        if self._load.spec.remote:
            return timings
        return replace(
            timings,
            expected_memory_mb=self._expected.total_mb,
            disk_mb=self._expected.disk_mb,
            cache_mb_per_1000=self._expected.cache_mb_per_1000,
        )

    def end(self, kind: EventKind, error: PlaygroundError | None = None) -> Event:
        """The last event of an answer that the worker did not finish itself."""
        variant = self._load.artifact.variant
        timings = Timings(
            queue_s=self.queue_s,
            load_s=self.load_s,
            cold=self.cold,
            prompt_tokens=self._prompt_tokens,
            output_tokens=self._tokens,
            threads=None if self._load.spec.remote else self._load.threads,
            unit="chunk" if self._load.spec.remote else "token",
        )
        run = ModelRun(
            variant=variant,
            runtime=variant.runtime,
            precision=variant.precision,
            text=self._text,
            finish_reason="error" if error else "stopped",
            timings=self._with_memory(timings),
            error=error.message if error else None,
            error_kind=error.to_json()["kind"] if error else None,
        )
        return self.event(kind, error.message if error else NOTHING, run)
