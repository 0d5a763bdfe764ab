"""From fetched weights to something a runtime can load, checked before it is used, made once and kept.

The work itself happens in processes of its own (``worker.py``), because torch and the exporter take gigabytes that must
go back. This package knows nothing of the screen, of prompts that people ask, or of experiments.

Door:
    __init__: Preparation, Preparer
    allowance: Allowance
    cache: recorded
    prepared: FORMAT, GRAPH, KIND, MANIFEST, OWN, Manifest, NotTaken, Offered, can_be_taken, offer, read_manifest,
        sums_of
"""

from playground.export.preparer import Preparation, Preparer

__all__ = ["Preparation", "Preparer"]
