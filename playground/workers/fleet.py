"""The executor of an app: its own worker processes, and whoever else shares the work.

It knows who answers for a model, and nothing of how.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing

from playground.config.settings import Settings
from playground.records import Cancelled, Event, LoadSpec, ModelRun, ModelSpec, PromptView, Request
from playground.workers.pool import Pool
from playground.workers.ray_serve import RayReplicas, ray_replicas
from playground.workers.replicas import Replicas


class Fleet(Pool):
    """A pool that leaves answers of replicated models to their servers, and what can be shared to a Ray cluster where
    the settings name one; see ``Executor``.

    Attributes:
        on_run: Told each answer that has ended, whoever gave it; from the thread that reads it.

    Raises:
        ConfigError: They do, and Ray is not installed.
    """

    def __init__(self, settings: Settings, budget_mb: float | None = None) -> None:
        self._replicas = Replicas()
        self.on_run: Callable[[LoadSpec, ModelRun], object] = lambda load, run: None
        super().__init__(settings, budget_mb)
        self._ray: RayReplicas | None = ray_replicas(settings, self.budget_mb)

    def lanes(self, spec: ModelSpec) -> int:
        """See ``Executor.lanes``."""
        if self._replicas.takes(spec):
            return self._replicas.lanes(spec)
        return self._ray.lanes if self._ray and spec.remote is None else super().lanes(spec)

    def generate(self, load: LoadSpec, request: Request, cancelled: Cancelled) -> Iterator[Event]:
        """See ``Executor.generate``. Never by the cluster: figures that are taken one at a time are this machine's."""
        if self._replicas.takes(load.spec):
            return self._told(load, self._replicas.generate(load, request, cancelled))
        return self._told(load, super().generate(load, request, cancelled))

    def share(self, load: LoadSpec, request: Request, cancelled: Cancelled) -> Iterator[Event]:
        """See ``Executor.share``."""
        if self._ray and load.spec.remote is None:
            return self._told(load, self._ray.generate(load, request, cancelled))
        return self.generate(load, request, cancelled)

    def _told(self, load: LoadSpec, events: Iterator[Event]) -> Iterator[Event]:
        with ExitStack() as ends:
            if isinstance(events, Generator):  # closing this one is to close that one, which ends its worker
                ends.enter_context(closing(events))
            for event in events:
                if event.run:
                    self.on_run(load, event.run)
                yield event

    def inspect(self, load: LoadSpec, request: Request) -> PromptView:
        """See ``Pool.inspect``."""
        if self._replicas.takes(load.spec):
            return self._replicas.inspect(load, request)
        return super().inspect(load, request)

    def close(self) -> None:
        """End every worker and every answer."""
        with ExitStack() as ends:
            ends.callback(super().close)
            if self._ray:
                ends.callback(self._ray.close)
            ends.callback(self._replicas.close)
