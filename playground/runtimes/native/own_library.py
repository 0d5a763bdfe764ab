"""Which compiled library an artifact was checked with: the only one that may run in a worker.

artifact.json says so, which is written here and last, when everything else stands; a file that merely has the library's
name proves nothing, whoever brought it. The module reads that document and loads nothing.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from playground.kernels.building import LIBRARY, Built
from playground.messages import msg
from playground.runtimes.onnx.file import GraphError

DOCUMENT = "artifact.json"
"""What ``export.cache`` writes; that room stands below this one."""


def recorded(folder: Path) -> Built | None:
    """The library that ``folder``'s artifact was compared with the original by; None where ONNX Runtime computes.

    Raises:
        GraphError: There is no readable artifact.json, or it says kernels and does not say which.
    """
    try:
        document = json.loads((folder / DOCUMENT).read_text(encoding="utf-8"))
        if not str(document.get("engine", "")).startswith("kernels "):
            return None
        sha256 = document["files"][LIBRARY]["sha256"]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise GraphError(
            msg("{file} does not say what computes it ({error})", file=DOCUMENT, error=type(error).__name__)
        ) from error
    if not re.fullmatch("[0-9a-f]{64}", str(sha256)):
        raise GraphError(msg("{file} has no checksum of {library}", file=DOCUMENT, library=LIBRARY))
    return Built(folder / LIBRARY, sha256)
