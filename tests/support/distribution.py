"""Which tests a worker of pytest-xdist gets together."""

from __future__ import annotations

import functools
import re
from pathlib import Path

from xdist.scheduler import LoadGroupScheduling

MARKS = ("alone", "integration", "parallel", "ui", "waits")
_MARK = re.compile(rf"\bmark\.({'|'.join(MARKS)})\b")


@functools.cache
def marks_in(module: Path) -> frozenset[str]:
    """Those of ``MARKS`` that stand in its text."""
    return frozenset(_MARK.findall(module.read_text("utf-8")))


class ByModule(LoadGroupScheduling):
    """A module goes to one worker, for its tests share what was started; tests of one in whose text ``parallel`` stands
    go to whoever is free, but for those of one ``xdist_group``.
    """

    def _split_scope(self, nodeid: str) -> str:
        scope: str = super()._split_scope(nodeid)
        module = nodeid.partition("::")[0]
        is_free = "parallel" in marks_in(self.config.rootpath / module)
        return module if scope == nodeid and not is_free else scope
