"""Which tests a worker of pytest-xdist gets together."""

from __future__ import annotations

import functools
import re
from pathlib import Path

from xdist.scheduler import LoadGroupScheduling

_PARALLEL = re.compile(r"\bmark\.parallel\b")


class ByModule(LoadGroupScheduling):
    """A module goes to one worker, for its tests share what was started; tests of one in whose text ``parallel`` stands
    go to whoever is free, but for those of one ``xdist_group``.
    """

    def _split_scope(self, nodeid: str) -> str:
        scope: str = super()._split_scope(nodeid)
        module = nodeid.partition("::")[0]
        return module if scope == nodeid and not _is_parallel(self.config.rootpath / module) else scope


@functools.cache
def _is_parallel(module: Path) -> bool:
    return bool(_PARALLEL.search(module.read_text("utf-8")))
