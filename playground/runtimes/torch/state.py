"""What a network has written into its own modules while computing, taken back before the next text.

A few classes keep what belongs to one text in the module itself and not in a cache: the states of Griffin, frequencies
that grew with the text, offsets of positions. What a network that was just loaded would answer is right for every
request, not for the first alone. The module knows torch's modules; it does not know what they compute.
"""

from __future__ import annotations

from typing import Any

_KINDS = ("_buffers", "_modules")
"""Tables of a module that are written to by assigning an attribute."""


class Unchanged:
    """The attributes, buffers and parts of every module now, by identity: what is written in place stays."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._seen = [
            (module, dict(vars(module)), {kind: dict(vars(module)[kind]) for kind in _KINDS})
            for module in model.modules()
        ]

    def restore(self) -> None:
        """Make it as it was."""
        for module, own, tables in self._seen:
            _restore(vars(module), own)
            for kind in _KINDS:
                _restore(vars(module)[kind], tables[kind])


def _same(now: dict[str, Any], then: dict[str, Any]) -> bool:
    return len(now) == len(then) and all(name in now and now[name] is value for name, value in then.items())


def _restore(now: dict[str, Any], then: dict[str, Any]) -> None:
    if not _same(now, then):
        now.clear()
        now.update(then)
