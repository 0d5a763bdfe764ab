"""The rooms put together: what the web app and the commands work with.

Opening it starts nothing and needs no network; closing it ends every worker and preparation.
"""

from __future__ import annotations

from collections.abc import Sequence

from playground.catalog.entries import load_catalog
from playground.config.settings import Settings
from playground.experiments.benchmark import Measurer
from playground.experiments.compare import Comparer
from playground.experiments.diff import VariantDiffer
from playground.experiments.memory_plan import MemoryPlan, plan_of
from playground.experiments.replay import Replayer
from playground.export import Preparer
from playground.records import Request, Variant
from playground.results.costs import load_tiers
from playground.results.store import Store
from playground.workers.pool import Pool


class Playground:
    """Everything a front end needs; a context manager.

    Raises:
        ConfigError: The catalogue or the table of hardware is wrong.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.catalog = load_catalog(settings.catalog_file, settings.remotes)
        self.tiers = load_tiers(settings.hardware_file)
        self.preparer = Preparer(settings, self.catalog)
        self.pool = Pool(settings)
        self.comparer = Comparer(settings, self.catalog, self.preparer, self.pool)
        self.twins = VariantDiffer(settings, self.catalog, self.preparer, self.pool, self.comparer)
        self.repeater = Replayer(self.catalog, self.preparer, self.pool, self.comparer)
        self.measurer = Measurer(settings, self.catalog, self.preparer, self.pool)
        self.store = Store(settings.database, settings.limits.max_stored if settings.on_space else None)

    def __enter__(self) -> Playground:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def memory_plan(self, variants: Sequence[Variant], request: Request | None = None) -> MemoryPlan:
        """What these variants are expected to take together: of prepared ones from their files, of others from the
        catalogue, None where neither says.
        """
        return plan_of(self.catalog, self.preparer, variants, request, self.pool.budget_mb)

    def close(self) -> None:
        """Stop what runs and end every child process, even if one of them resists."""
        try:
            self.twins.close()
            self.comparer.close()
            self.pool.close()
        finally:
            try:
                self.preparer.close()
            finally:
                self.store.close()
