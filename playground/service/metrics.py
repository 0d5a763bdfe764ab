"""Figures of a running server in the format that Prometheus reads (docs/operations.md lists each).

What happens once is counted when it happens; what is so at the moment is read when somebody asks. No label has a value
that a visitor can choose: a model is named where the app was told to serve it or the catalogue has it, else it is
``other``. Imported by servers alone: the client library takes a tenth of a second.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import psutil
from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from playground import __version__
from playground.records import LoadSpec, ModelRun
from playground.service.disk import GB
from playground.system.memory import MB, limit_mb
from playground.workers.pool import LOST

if TYPE_CHECKING:
    from playground.service import Playground

# When each series was begun is of no use here, and doubles what is sent.
disable_created_metrics()  # type: ignore[no-untyped-call]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OTHER = "other"
FIRST_TOKEN_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
DECODE_TOK_S = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
LOAD_S = (0.5, 1, 2, 5, 10, 30, 60, 120)


class Metrics:
    """What one server counts.

    Args:
        playground: Whose moment is read when somebody asks.
    """

    def __init__(self, playground: Playground) -> None:
        self._registry = registry = CollectorRegistry(auto_describe=False)
        self._models = frozenset((*playground.ids(), *(v.model for v in playground.default_variants())))

        def counter(name: str, says: str, *labels: str) -> Counter:
            return Counter(f"playground_{name}", says, labels, registry=registry)

        def histogram(name: str, says: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"playground_{name}", says, ("model",), buckets=buckets, registry=registry)

        self._requests = counter("http_requests", "Requests over HTTP, by what was asked for and the status.", *HTTP)
        self._refusals = counter("refusals", "What was refused because a limit was reached.", "limit")
        self._runs = counter("runs", "Answers that ended, by how.", "model", "end")
        self._tokens = counter("tokens", "Tokens read (prompt) and written (answer).", "model", "kind")
        self._first = histogram("first_token_seconds", "From the begin of an answer to its first token.", FIRST_TOKEN_S)
        self._decode = histogram("decode_tokens_per_second", "Tokens a second behind the first.", DECODE_TOK_S)
        self._load = histogram("load_seconds", "Starting a worker and loading its model.", LOAD_S)
        registry.register(_Moment(playground, self))

    def model(self, name: str) -> str:
        """The label of a model."""
        return name if name in self._models else OTHER

    def requested(self, route: str, status: int) -> None:
        """A request was answered.

        Args:
            route: One of the names of routes there are, never a path as it was sent.
        """
        self._requests.labels(route, str(status)).inc()

    def refused(self, limit: str) -> None:
        """A limit was reached.

        Args:
            limit: Its name, which the code says.
        """
        self._refusals.labels(limit).inc()

    def ran(self, load: LoadSpec, run: ModelRun) -> None:
        """An answer ended."""
        model, timings = self.model(load.artifact.variant.model), run.timings
        self._runs.labels(model, run.finish_reason).inc()
        self._tokens.labels(model, "prompt").inc(max(0, (timings.prompt_tokens or 0) - (timings.reused_tokens or 0)))
        self._tokens.labels(model, "answer").inc(timings.output_tokens or 0)
        for figure, histogram in (
            (timings.ttft_s, self._first),
            (timings.decode_tok_s, self._decode),
            (timings.load_s or None, self._load),  # 0 where it was warm
        ):
            if figure is not None:
                histogram.labels(model).observe(figure)

    def text(self) -> bytes:
        """All of them, as ``CONTENT_TYPE``; reads files and other processes' memory."""
        return generate_latest(self._registry)


HTTP = ("route", "status")


class _Moment(Collector):
    """What is so now, read when it is asked for."""

    def __init__(self, playground: Playground, metrics: Metrics) -> None:
        self._playground, self._metrics = playground, metrics

    def collect(self) -> Iterator[Metric]:
        playground = self._playground
        yield _gauge("info", "The version.", 1, version=__version__)
        yield from self._queues()
        yield from self._workers()
        yield from self._preparations()
        yield from self._storage()
        app = psutil.Process()
        yield _gauge("app_memory_bytes", "Resident memory of the app itself.", app.memory_info().rss)
        yield _gauge("app_open_files", "Files and sockets that the app has open.", app.num_fds())
        yield _gauge("app_threads", "Threads of the app.", app.num_threads())
        yield _gauge("memory_limit_bytes", "What app, models and preparations may take together.", limit_mb() * MB)
        yield _gauge("memory_budget_bytes", "What all models together may take.", playground.pool.budget_mb * MB)

    def _queues(self) -> Iterator[Metric]:
        playground, turns = self._playground, self._playground.pool.turns
        with playground.going_on.lock:
            comparisons = len(playground.going_on.jobs)
        yield _gauge("comparisons_going_on", "Comparisons that have not ended.", comparisons)
        yield _gauge("queue_waiting", "Experiments and answers that wait for the machine.", turns.waiting)
        waiting = playground.callers.waiting
        yield _gauge("api_requests_waiting", "Requests of programs that wait or are answered.", waiting)
        yield SummaryMetricFamily(
            "playground_queue_wait_seconds",
            "Waiting for the machine.",
            count_value=turns.turns,
            sum_value=turns.waited_s,
        )

    def _workers(self) -> Iterator[Metric]:
        pool = self._playground.pool
        memory = GaugeMetricFamily("playground_worker_memory_bytes", "Resident memory of workers.", labels=["model"])
        held: dict[str, float] = {}
        loaded = pool.loaded()
        for each in loaded:
            model = self._metrics.model(each.variant.partition("@")[0])
            held[model] = held.get(model, 0.0) + (each.rss_mb or 0.0) * MB
        for model, value in held.items():
            memory.add_metric([model], value)
        yield memory
        yield _gauge("workers", "Models that are loaded.", len(loaded))
        yield CounterMetricFamily("playground_worker_starts", "Workers that were started.", value=pool.started)
        lost = CounterMetricFamily(
            "playground_workers_lost", "Workers that died, stalled or took too much memory.", labels=["how"]
        )
        for how in LOST.values():
            lost.add_metric([how], pool.lost[how])
        yield lost

    def _preparations(self) -> Iterator[Metric]:
        preparer = self._playground.preparer
        yield _gauge("preparations_waiting", "Preparations under way, or waiting for their turn.", preparer.waiting)
        ended = CounterMetricFamily("playground_preparations", "Preparations that ended, by how.", labels=["end"])
        for how in ("ready", "failed", "stopped"):
            ended.add_metric([how], preparer.ended[how])
        yield ended
        ready = GaugeMetricFamily("playground_model_ready", "Whether a served model can answer.", labels=["model"])
        for each in self._playground.readiness().models:
            ready.add_metric([each.variant], float(each.status == "ready"))
        yield ready

    def _storage(self) -> Iterator[Metric]:
        settings = self._playground.settings
        kept = self._playground.disk
        yield _gauge("prepared_bytes", "What models that visitors added take of the disk.", kept.bytes)
        if settings.strangers and settings.limits.prepared_gb is not None:
            yield _gauge("prepared_limit_bytes", "What they may take.", settings.limits.prepared_gb * GB)
        yield CounterMetricFamily("playground_evictions", "Models that were removed for others.", value=kept.evicted)
        freed = kept.evicted_bytes
        yield CounterMetricFamily("playground_evicted_bytes", "What they had of the disk.", value=freed)
        try:
            disk = shutil.disk_usage(settings.home)
        except OSError:  # not made yet, or gone
            return
        yield _gauge("disk_free_bytes", "Free on the disk of PLAYGROUND_HOME.", disk.free)
        yield _gauge("disk_total_bytes", "The size of that disk.", disk.total)
        try:
            yield _gauge("database_bytes", "The database of comparisons.", settings.database.stat().st_size)
        except OSError:
            return


def _gauge(name: str, says: str, value: float, **labels: str) -> Metric:
    family = GaugeMetricFamily(f"playground_{name}", says, labels=list(labels))
    family.add_metric(list(labels.values()), value)
    return family
