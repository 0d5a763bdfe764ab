"""torch and transformers, imported once and without a look for garbage among what they define.

Both make a million objects that stay for good, and Python's collector walks over them again and again: while they are
imported, and whenever the memory of a network is to come back. Importing with two such collections behind it took 9.4
to 11.2 s of processor time on a busy EPYC, without 7.3 to 8.6, by turns. The module knows nothing of models.
"""

from __future__ import annotations

import functools
import gc
from importlib import import_module

_USED = ("AutoModelForCausalLM", "AutoTokenizer", "GenerationMixin", "PreTrainedModel")
"""What transformers imports nearly all else for; it imports each name when it is asked for."""


@functools.cache
def load_libraries() -> None:
    """Import what every network needs; what is there then is never looked at by the collector.

    Whoever is to load torch anyway calls this first. Later calls do nothing.

    Raises:
        ImportError: A package is missing.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        import_module("torch")
        transformers = import_module("transformers")
        for name in _USED:
            getattr(transformers, name)
    finally:
        if collects:
            gc.enable()
    gc.freeze()
