"""What a preparation is expected to take of the disk, and which models have to stay on it at the moment.

It knows the catalogue's figures and who uses which model; what lies on the disk and what goes is
``export.allowance``'s.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from playground.catalog.entries import Catalog
from playground.catalog.hub_names import tag_in
from playground.catalog.search import footprint, listed
from playground.catalog.sets import download_bytes
from playground.config.settings import Settings
from playground.export.allowance import Allowance
from playground.records import ModelSpec, Variant
from playground.system.memory import MB

GB = 1e9


class Disk(Allowance):
    """The disk of one app. Safe to use from several threads.

    Args:
        served: Variants that the app was told to serve.
        in_use: Names of models that are loaded, or that experiments wait for.
    """

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        served: Callable[[], Collection[Variant]],
        in_use: Callable[[], Collection[str]],
    ) -> None:
        most = settings.limits.prepared_gb
        self._catalog, self._waited_for = catalog, Counter[str]()
        self._lock = threading.Lock()

        def all_in_use() -> set[str]:
            with self._lock:
                return {*in_use(), *self._waited_for}

        super().__init__(
            settings.home,
            None if most is None else most * GB,
            public=settings.strangers,
            expected=self._expected,
            served=served,
            in_use=all_in_use,
        )

    @contextmanager
    def wanted(self, model: str) -> Iterator[None]:
        """A model stays on the disk inside the block, whatever of it is asked: ``MODEL`` or ``MODEL@…``."""
        name = model.partition("@")[0]
        with self._lock:
            self._waited_for[name] += 1
        try:
            yield
        finally:
            with self._lock:
                self._waited_for[name] -= 1
                if not self._waited_for[name]:
                    del self._waited_for[name]

    def _expected(self, spec: ModelSpec, variant: Variant, *, weights: bool, imported: bool) -> int:
        """Bytes: weights as they come, the import where that is not another name of theirs, and the artifact."""
        if variant.model not in self._catalog.ids():
            return spec.download_bytes
        entry = self._catalog.entry(variant.model)
        fetched = download_bytes(listed(entry, 0.0)) or 0
        about = footprint(entry, variant=variant) if variant.runtime == "onnx" else None
        one_file = tag_in(spec.source) or spec.source.lower().endswith(".gguf") or variant.runtime == "fake"
        made = int(about.weights_mb * MB) if about else 0
        return (0 if weights else fetched) + (0 if imported or one_file else fetched) + made
