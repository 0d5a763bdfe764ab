"""The executor of an app: its own worker processes, and the servers that share the work where there are several.

It knows who answers for a model, and nothing of how.
"""

from __future__ import annotations

from collections.abc import Iterator

from playground.config.settings import Settings
from playground.records import Cancelled, Event, LoadSpec, ModelSpec, Request
from playground.workers.pool import Pool
from playground.workers.replicas import Replicas


class Fleet(Pool):
    """A pool that leaves answers of replicated models to their servers; see ``Executor``."""

    def __init__(self, settings: Settings, budget_mb: float | None = None) -> None:
        super().__init__(settings, budget_mb)
        self._replicas = Replicas()

    def lanes(self, spec: ModelSpec) -> int:
        """See ``Executor.lanes``."""
        return self._replicas.lanes(spec) if self._replicas.takes(spec) else super().lanes(spec)

    def generate(self, load: LoadSpec, request: Request, cancelled: Cancelled) -> Iterator[Event]:
        """See ``Executor.generate``."""
        if self._replicas.takes(load.spec):
            return self._replicas.generate(load, request, cancelled)
        return super().generate(load, request, cancelled)

    def close(self) -> None:
        """End every worker and every answer."""
        self._replicas.close()
        super().close()
