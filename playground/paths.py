"""Where the package and its data files lie. Everything that is written lies elsewhere: ``Settings.home``."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Mapping
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
"""The installed package: code and data files."""
ROOT = PACKAGE.parent
"""The checkout, or the site-packages that the package is installed in."""
CHECKOUT: Path | None = ROOT if (ROOT / "spaces.yaml").is_file() else None
"""Where README.md, requirements.txt, docs and benchmarks lie beside the package; None where it is installed."""
SPACE = (CHECKOUT or PACKAGE / "config") / "spaces.yaml"
"""The checkout's, or the copy that the wheel carries. Never one of the working directory: it names whom to send prompts
and which variables hold keys."""
CATALOG = PACKAGE / "catalog" / "catalog.yaml"
HARDWARE = PACKAGE / "results" / "hardware.yaml"


def python_path(env: Mapping[str, str]) -> str:
    """PYTHONPATH for a process of ours: it finds this package, wherever the app was started and from what folder.

    Where the package is installed it is found anyway, and site-packages must not come before the standard library.
    """
    installed = str(ROOT) in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))
    return os.pathsep.join(filter(None, ("" if installed else str(ROOT), env.get("PYTHONPATH", ""))))
